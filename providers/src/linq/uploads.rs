//! Handing the audio to Linq before the memo: `POST /v3/attachments`, then a PUT to the URL it names.

use std::collections::BTreeMap;

use reqwest::{
    Method, Request,
    header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::{
    Linq,
    errors::{Refusal, Step},
};
use crate::{
    Container, Context, Memory, OutboundAudio, OutboundNote, SendError, SendErrorKind, Stage, Upstream,
    wire::{self, Answer, NoAnswer},
};

/// Linq's name for the type of a file. `POST /v3/attachments` takes this list and nothing else: `audio/x-wav`
/// and not `audio/wav`, no parameters, no Ogg and no FLAC (schema `SupportedContentType` of the OpenAPI
/// file).
pub(super) fn content_type(container: Container) -> Result<&'static str, SendError> {
    Ok(match container {
        Container::Mp3 => "audio/mpeg",
        Container::Mp4 => "audio/x-m4a",
        Container::Adts => "audio/aac",
        Container::Caf => "audio/x-caf",
        Container::Wav => "audio/x-wav",
        Container::Aiff => "audio/x-aiff",
        Container::Amr => "audio/amr",
        Container::Ogg | Container::Webm | Container::Matroska | Container::Flac | Container::Pcm => {
            let detail = "this connection does not take this audio format; use an audio profile made for it";
            return Err(SendError::new(SendErrorKind::MediaRejected, detail).at(Stage::Upload));
        }
    })
}

/// Content of `Memory::note`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Uploaded {
    attachment_id: Option<String>,
    /// SHA-256 of the bytes behind `attachment_id`.
    sha256: String,
    /// Number of times that Linq lost the attachment.
    lost: u32,
}

impl Uploaded {
    fn recall(memory: &Memory) -> Self {
        memory.note.as_ref().and_then(|value| Self::deserialize(value).ok()).unwrap_or_default()
    }

    fn remember(&self, memory: &mut Memory) {
        memory.note = serde_json::to_value(self).ok();
    }
}

/// The answer to `POST /v3/attachments`.
#[derive(Deserialize)]
pub(crate) struct Ticket {
    attachment_id: String,
    upload_url: String,
    #[serde(default)]
    required_headers: BTreeMap<String, String>,
}

impl Linq {
    /// The note's audio as an attachment: uploaded once per note, however many attempts it takes.
    pub(super) async fn attachment_for(
        &self,
        cx: &Context,
        note: &OutboundNote,
        audio: &OutboundAudio,
        content_type: &str,
        memory: &mut Memory,
    ) -> Result<String, SendError> {
        let mut uploaded = Uploaded::recall(memory);
        let sha256 = &audio.facts.sha256;
        if let Some(id) = uploaded.attachment_id.take_if(|_| uploaded.sha256 == *sha256) {
            return Ok(id);
        }
        let id = self.upload(cx, note, audio, content_type).await.map_err(|error| error.at(Stage::Upload))?;
        Uploaded { attachment_id: Some(id.clone()), sha256: sha256.clone(), lost: uploaded.lost }
            .remember(memory);
        Ok(id)
    }

    async fn upload(
        &self,
        cx: &Context,
        note: &OutboundNote,
        audio: &OutboundAudio,
        content_type: &str,
    ) -> Result<String, SendError> {
        let bytes = audio.read().await?;
        let body = json!({
            "filename": audio.filename,
            "content_type": content_type,
            "size_bytes": bytes.len(),
        });
        let request = self.request(Method::POST, self.api.join(&["v3", "attachments"]), Some(&body));
        let ticket: Ticket = self.ask(cx, note, request).await?;
        let headers = signed_headers(&ticket, bytes.len())?;
        let url = Url::parse(&ticket.upload_url).map_err(|_| forbidden_url())?;
        let put = if url.origin() == self.api.origin() {
            let mut request = Request::new(Method::PUT, url);
            *request.headers_mut() = headers;
            *request.body_mut() = Some(bytes.into());
            wire::call(cx, request).await
        } else {
            let request = cx.guarded.request(Method::PUT, url).map_err(|_| forbidden_url())?;
            wire::call_guarded(cx, request.headers(headers).body(bytes)).await
        };
        match put {
            Ok(answer) if answer.status.is_success() => Ok(ticket.attachment_id),
            Ok(answer) => Err(not_stored(&answer)),
            Err(NoAnswer::Forbidden) => Err(forbidden_url()),
            Err(no_answer) => Err(no_answer.in_prepare()),
        }
    }
}

/// The headers that the URL's signature covers, word for word. `Content-Length` is left to the HTTP client,
/// which sets it from the body and would otherwise send it twice.
pub(crate) fn signed_headers(ticket: &Ticket, size: usize) -> Result<HeaderMap, SendError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &ticket.required_headers {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            return Err(unusable_ticket());
        };
        if name != CONTENT_LENGTH {
            headers.insert(name, value);
        } else if value != size.to_string() {
            return Err(unusable_ticket());
        }
    }
    Ok(headers)
}

fn unusable_ticket() -> SendError {
    SendError::new(
        SendErrorKind::Unavailable,
        "the provider asked for an upload with headers that do not fit the audio",
    )
}

fn forbidden_url() -> SendError {
    SendError::new(
        SendErrorKind::Rejected,
        "the provider named an upload address that is neither its own nor on the public internet over https; \
         check base_url, or set intake = \"url\"",
    )
}

/// The storage behind the upload URL refused. Its words are not quoted: they repeat parts of the signature.
fn not_stored(answer: &Answer) -> SendError {
    let (kind, detail) = match answer.status.as_u16() {
        413 => (SendErrorKind::MediaTooLarge, "the provider's storage says that the audio is too large"),
        300..=399 => {
            (SendErrorKind::Misconfigured, "the provider's storage answered with a redirect; check base_url")
        }
        // 403 is what S3 says about a URL that has expired; the next attempt gets a new one.
        403 | 408 | 429 | 500..=599 => {
            (SendErrorKind::Unavailable, "the provider's storage did not take the audio")
        }
        _ => (SendErrorKind::Rejected, "the provider's storage refused the audio"),
    };
    let upstream = Upstream { status: Some(answer.status.as_u16()), ..Upstream::default() };
    SendError::new(kind, detail).from_upstream(upstream)
}

/// Linq does not know the attachment (any more): it is uploaded again, once.
pub(super) fn lost(refusal: Refusal, memory: &mut Memory) -> SendError {
    let lost = Uploaded::recall(memory).lost;
    Uploaded { lost: lost + 1, ..Uploaded::default() }.remember(memory);
    let error = refusal.into_error(Step::Dispatch);
    if lost > 0 {
        return error;
    }
    let detail = "the provider lost the uploaded audio; it is uploaded again".to_owned();
    SendError { kind: SendErrorKind::Outdated, detail, ..error }
}
