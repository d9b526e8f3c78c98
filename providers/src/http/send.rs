//! One send: the upload where there is one, the visible request, and the meaning of the answers.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::{
    Http,
    answers::{Verdict, error},
    draft::{Body, Draft, File},
    recipe::{AudioAs, Outcome, Sending, Upload},
    template::{Name, Values, plain},
};
use crate::{
    Accepted, Context, MediaHandle, Memory, OutboundAudio, OutboundNote, Prepared, SendError, SendErrorKind,
    Stage,
    wire::{self, Answer, NoAnswer, Step},
};

impl Http {
    /// Uploads the audio where the recipe does, and makes the visible request.
    pub(super) async fn request(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError> {
        self.capabilities.check(note)?;
        self.accepts(&note.to)?;
        let sending = self.recipe.sending(note.form()).ok_or_else(|| {
            let detail = "this connection does not show notes in this form";
            SendError::new(SendErrorKind::FormUnavailable, detail)
        })?;
        let mut values = self.values(note);
        let mut bytes = None;
        if let Some(audio) = note.audio() {
            bytes = self.insert_media(cx, note, audio, &sending, memory, &mut values).await?;
        }
        let draft = self.draft(&sending, &values).ok_or_else(incomplete)?;
        let file = note.audio().zip(bytes.as_ref()).map(|(audio, bytes)| file(audio, bytes));
        let request = draft.into_request(&note.id, file.as_ref())?;
        let is_named = self.recipe.callback.as_ref().is_some_and(|callback| callback.note_id.is_some());
        let correlation_ids = if is_named { vec![note.id.clone()] } else { Vec::new() };
        Ok(Prepared { request, correlation_ids })
    }

    /// Adds the audio, or the provider's id for it, as the request has it. Returns the bytes where they were read.
    async fn insert_media(
        &self,
        cx: &Context,
        note: &OutboundNote,
        audio: &OutboundAudio,
        sending: &Sending<'_>,
        memory: &mut Memory,
        values: &mut Values,
    ) -> Result<Option<Bytes>, SendError> {
        let direct = sending.audio.filter(|_| sending.uses(&Name::Audio));
        let upload = self.recipe.upload.as_ref().filter(|_| sending.uses(&Name::Media));
        let known = memory.media.as_ref().filter(|_| upload.is_some()).map(|media| media.value.clone());
        let upload = upload.filter(|_| known.is_none());
        let mut ways = direct.into_iter().chain(upload.map(|upload| upload.audio));
        let bytes = if ways.any(|way| way != AudioAs::Link) { Some(audio.read().await?) } else { None };
        values.insert_some(Name::Media, known);
        if let Some(upload) = upload {
            let mut uploaded = values.clone();
            self.insert_audio(&mut uploaded, audio, upload.audio, bytes.as_ref())?;
            let file = bytes.as_ref().map(|bytes| file(audio, bytes));
            let id = self.upload(cx, note, upload, &uploaded, file.as_ref()).await;
            let id = id.map_err(|error| error.at(Stage::Upload))?;
            let until = |span| cx.now.checked_add(SignedDuration::try_from(span).ok()?).ok();
            memory.media =
                upload.valid_for.map(|span| MediaHandle { value: id.clone(), valid_until: until(span.0) });
            values.insert(Name::Media, id);
        }
        if let Some(way) = direct {
            self.insert_audio(values, audio, way, bytes.as_ref())?;
        }
        Ok(bytes)
    }

    /// Makes the first request, and returns the provider's id for the bytes.
    async fn upload(
        &self,
        cx: &Context,
        note: &OutboundNote,
        upload: &Upload,
        values: &Values,
        file: Option<&File<'_>>,
    ) -> Result<String, SendError> {
        let draft = self.draft_upload(upload, values).ok_or_else(incomplete)?;
        let request = draft.into_request(&note.id, file)?;
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_prepare)?;
        let body = answer.json();
        let verdict = self.recipe.verdict(&answer, &body);
        match upload.id.id(&body).filter(|_| is_success(&answer, verdict.as_ref())) {
            Some(id) => Ok(id),
            None => {
                let link = note.link_secrets();
                Err(error(Step::Prepare, verdict, &answer, &body, cx.now, &self.secrets(&link)))
            }
        }
    }

    /// Reads the answer to the visible request.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        memory: &mut Memory,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        let body = answer.json();
        let verdict = self.recipe.verdict(answer, &body);
        let good = is_success(answer, verdict.as_ref());
        let ids = self.recipe.sending(note.form()).map_or(&self.recipe.id, |sending| sending.id);
        if let Some(message_id) = ids.id(&body).filter(|_| good) {
            return Ok(Accepted { message_id, ..Accepted::default() });
        }
        let link = note.link_secrets();
        let mut error = error(Step::Dispatch, verdict, answer, &body, now, &self.secrets(&link));
        if good {
            error.kind = SendErrorKind::Unexpected;
            error.detail = wire::NO_MESSAGE_ID.to_owned();
        }
        if error.kind == SendErrorKind::Outdated && memory.media.take().is_none() {
            // There is nothing to do better.
            error.kind = SendErrorKind::Rejected;
            error.detail = "the provider refused the note".to_owned();
        }
        Err(error)
    }

    /// Asks the question of the recipe's `check`.
    pub(super) async fn ask(&self, cx: &Context) -> Result<String, SendError> {
        let Some(check) = &self.recipe.check else {
            return Ok("nothing was asked: the recipe has no `check`".to_owned());
        };
        let draft = Draft::new(check.method, &check.url, &self.fixed, self.headers.clone(), Body::None);
        let request = self.with_query(draft.ok_or_else(incomplete)?).into_request("check", None)?;
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        self.checked(cx.now, &answer)
    }

    /// Reads the answer to the question of the recipe's `check`.
    pub(crate) fn checked(&self, now: Timestamp, answer: &Answer) -> Result<String, SendError> {
        let body = answer.json();
        let verdict = self.recipe.verdict(answer, &body);
        let check = self.recipe.check.as_ref();
        let found = match check.and_then(|check| check.pointer.as_ref()) {
            None => Some(String::from_utf8_lossy(&answer.body).into_owned()),
            Some(pointer) => body.pointer(&pointer.0).map(plain),
        };
        let pattern = check.and_then(|check| check.pattern.as_ref());
        let fits = found.is_some_and(|text| pattern.is_none_or(|pattern| pattern.0.is_match(&text)));
        if answer.status.is_success() && fits && verdict.is_none() {
            return Ok("the provider answers as the recipe expects".to_owned());
        }
        Err(error(Step::Check, verdict, answer, &body, now, &self.secrets(&[])))
    }
}

/// Whether an answer says that the request was carried out: a row of the recipe decides, else the status.
fn is_success(answer: &Answer, verdict: Option<&Verdict>) -> bool {
    verdict.map_or(answer.status.is_success(), |verdict| matches!(verdict.outcome, Outcome::Accepted))
}

fn file<'a>(audio: &'a OutboundAudio, bytes: &'a Bytes) -> File<'a> {
    File { filename: &audio.filename, mime_type: audio.bare_mime_type(), bytes }
}

fn incomplete() -> SendError {
    let detail = "the recipe's URL needs a value that this note does not have";
    SendError::new(SendErrorKind::Misconfigured, detail)
}
