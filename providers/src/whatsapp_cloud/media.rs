//! Handing the audio to Meta: `POST /{number}/media`, whose id then goes into any number of messages.

use jiff::SignedDuration;
use reqwest::Method;
use serde_json::Value;

use super::{WhatsAppCloud, errors::Refusal, sound_id};
use crate::{
    Container, Context, MediaHandle, Memory, OutboundAudio, OutboundNote, SendError, SendErrorKind,
    wire::{self, Multipart, NoAnswer, Step},
};

/// Meta keeps what was uploaded for 30 days. One day is left for notes that wait:
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media/>
const KEPT: SignedDuration = SignedDuration::from_hours(29 * 24);

/// Meta's name for the type of a file. Ogg without its codec is refused, and so is `audio/opus`:
/// <https://github.com/EvolutionAPI/evolution-api/issues/2030>
fn content_type(container: Container) -> Result<&'static str, SendError> {
    Ok(match container {
        Container::Ogg => "audio/ogg; codecs=opus",
        Container::Mp3 => "audio/mpeg",
        Container::Mp4 => "audio/mp4",
        Container::Adts => "audio/aac",
        Container::Amr => "audio/amr",
        _ => {
            let detail = "this connection does not take this audio format; use an audio profile made for it";
            return Err(SendError::new(SendErrorKind::MediaRejected, detail));
        }
    })
}

impl WhatsAppCloud {
    /// The id of the audio at Meta: the one that is known, or that of an upload.
    pub(super) async fn media_id(
        &self,
        cx: &Context,
        note: &OutboundNote,
        audio: &OutboundAudio,
        memory: &mut Memory,
    ) -> Result<String, SendError> {
        let content_type = content_type(audio.facts.container)?;
        let known = memory.media.as_ref().filter(|known| known.valid_until.is_none_or(|end| end > cx.now));
        if let Some(known) = known {
            return Ok(known.value.clone());
        }
        let bytes = audio.read().await?;
        let form = Multipart::new(&note.id)
            .text("messaging_product", "whatsapp")
            .text("type", content_type)
            .file("file", &audio.filename, content_type, &bytes);
        let request = self.with_token(form.request(Method::POST, self.url(&["media"])));
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_prepare)?;
        let body = answer.json();
        if !answer.status.is_success() || !body["error"].is_null() {
            let link = note.link_secrets();
            return Err(Refusal::read(&answer, cx.now, &self.secrets(&link)).into_error(Step::Prepare));
        }
        let id = match &body["id"] {
            Value::String(id) => sound_id(id),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        };
        let id = id.ok_or_else(|| {
            let detail = "the provider's answer names no uploaded audio";
            SendError::new(SendErrorKind::Unavailable, detail)
        })?;
        memory.media = Some(MediaHandle { value: id.clone(), valid_until: Some(cx.now + KEPT) });
        Ok(id)
    }
}
