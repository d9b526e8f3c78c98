//! The requests of a note: the values of its placeholders, and the drafts that they make.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;

use super::{
    Http,
    draft::{Body, Draft, Header},
    recipe::{AudioAs, Sending, Upload},
    template::{Name, Values},
};
use crate::{Content, OutboundAudio, OutboundNote, Recipient, SendError, SendErrorKind};

impl Http {
    /// The values of one note, without the audio itself.
    pub(super) fn values(&self, note: &OutboundNote) -> Values {
        let mut values = self.values_for(&note.to, &note.id);
        values.insert_some(Name::ReplyTo, note.reply_to.as_deref());
        match &note.content {
            Content::Text(text) => values.insert(Name::Text, text.as_str()),
            Content::Audio { audio, caption, .. } => {
                values.insert(Name::Filename, audio.filename.as_str());
                values.insert(Name::Mime, audio.facts.mime_type.as_str());
                values.insert_some(Name::Caption, caption.as_deref());
                self.insert_sound(&mut values, audio.facts.duration_ms, &audio.waveform);
            }
        }
        values
    }

    /// The values of the connection, of a recipient and of a note's id (`vn_...`).
    pub(super) fn values_for(&self, to: &Recipient, note_id: &str) -> Values {
        let mut values = self.fixed.clone();
        values.insert(Name::To, self.recipe.recipient.on_the_wire(to));
        values.insert(Name::NoteId, note_id);
        values.insert(Name::NoteUuid, note_id.trim_start_matches("vn_"));
        values
    }

    /// Adds length and waveform, in the units of the recipe.
    pub(super) fn insert_sound(&self, values: &mut Values, duration_ms: u64, bars: &[u8]) {
        values.insert_some(Name::Duration, self.recipe.duration.map(|unit| unit.of(duration_ms)));
        values.insert_some(Name::Waveform, self.recipe.waveform.of(bars));
    }

    /// Adds the audio, in the way that the recipe says.
    pub(super) fn insert_audio(
        &self,
        values: &mut Values,
        audio: &OutboundAudio,
        way: AudioAs,
        bytes: Option<&Bytes>,
    ) -> Result<(), SendError> {
        let encoded = || bytes.map(|bytes| BASE64_STANDARD.encode(bytes)).unwrap_or_default();
        let value = match way {
            AudioAs::Link => self.link(audio)?.to_owned(),
            AudioAs::Base64 => encoded(),
            AudioAs::DataUri => format!("data:{};base64,{}", audio.bare_mime_type(), encoded()),
            AudioAs::Part => audio.filename.clone(),
        };
        values.insert(Name::Audio, value);
        Ok(())
    }

    /// Returns the link to the audio.
    ///
    /// # Errors
    /// [`SendErrorKind::Misconfigured`] where it is longer than the provider takes.
    fn link<'a>(&self, audio: &'a OutboundAudio) -> Result<&'a str, SendError> {
        let link = audio.link.as_str();
        match self.recipe.link_max.filter(|most| link.len() > *most) {
            None => Ok(link),
            Some(most) => {
                let detail = format!(
                    "the link to the audio has {} characters and the provider takes {most}; shorten server.public_url",
                    link.len()
                );
                Err(SendError::new(SendErrorKind::Misconfigured, detail))
            }
        }
    }

    /// Headers with the values of a note.
    fn all_headers(&self, values: &Values) -> Vec<Header> {
        let mut headers = self.headers.clone();
        for (name, template) in &self.recipe.headers {
            if let Some(value) = template.text(values) {
                headers.push(Header { name: name.clone(), value, is_secret: true });
            }
        }
        // A map has no order, and a request is the same each time.
        headers[self.headers.len()..].sort_by(|a, b| a.name.cmp(&b.name));
        headers
    }

    /// The visible request. `None` where its URL needs a value that is not there.
    pub(super) fn draft(&self, sending: &Sending<'_>, values: &Values) -> Option<Draft> {
        let body = Body::of(sending.body, sending.audio, sending.fields, values);
        let draft = Draft::new(self.recipe.method, sending.url, values, self.all_headers(values), body)?;
        Some(self.with_query(draft))
    }

    /// The request of the first step. `None` where its URL needs a value that is not there.
    pub(super) fn draft_upload(&self, upload: &Upload, values: &Values) -> Option<Draft> {
        let body = Body::of(upload.body, Some(upload.audio), &upload.fields, values);
        Some(self.with_query(Draft::new(upload.method, &upload.url, values, self.headers.clone(), body)?))
    }

    pub(super) fn with_query(&self, draft: Draft) -> Draft {
        match &self.query {
            Some((name, value)) => draft.with_query(name, value),
            None => draft,
        }
    }
}
