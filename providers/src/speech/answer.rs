//! The meaning of an answer: what went wrong, in words without secrets, and whether asking again may help.

use std::{fmt, io, time::Duration};

use http::{StatusCode, header::CONTENT_TYPE};
use reqwest::{Response, header::HeaderMap};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{Raw, Server, transcription::LONGEST_TEXT};
use crate::{
    Unanswered, Upstream,
    wire::{identifier, quote},
};

/// The longest answer that is read for the words in it, in bytes.
const MAX_WORDS: usize = 64 * 1024;

/// The name of the server in texts.
pub(super) const SERVER: &str = "the speech server";

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpeechErrorKind {
    /// The server refused the request. Asking again would be refused as well.
    Rejected,
    /// The server gave no usable answer. Asking again may help.
    Unavailable,
    /// The answer is larger than it may be.
    TooLarge,
    /// The answer could not be written to our own disk.
    Disk(io::ErrorKind),
}

/// A server did not do what it was asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct SpeechError {
    pub kind: SpeechErrorKind,
    /// Advice in our own words, without anything secret.
    pub detail: String,
    pub retry_after: Option<Duration>,
    /// The server's own words, without its key.
    pub upstream: Option<Upstream>,
}

impl SpeechError {
    pub(super) fn new(kind: SpeechErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None, upstream: None }
    }

    /// The server gave no usable answer.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(SpeechErrorKind::Unavailable, detail)
    }

    /// The text of reqwest would name the URL.
    pub(super) fn no_answer(error: &reqwest::Error) -> Self {
        Self::unavailable(Unanswered::of(error).about(SERVER))
    }

    pub(super) fn too_large(max_bytes: u64) -> Self {
        let detail =
            format!("the speech is larger than the limit of {max_bytes} bytes; let it speak a shorter text");
        Self::new(SpeechErrorKind::TooLarge, detail)
    }

    /// The server would write the same text again.
    pub(super) fn too_long() -> Self {
        let detail = format!(
            "the text that the speech server wrote down has more than {} KiB; check the model",
            LONGEST_TEXT / 1024
        );
        Self::new(SpeechErrorKind::TooLarge, detail)
    }

    fn told(self, upstream: Upstream) -> Self {
        Self { upstream: Some(upstream), ..self }
    }
}

impl From<io::Error> for SpeechError {
    fn from(error: io::Error) -> Self {
        Self::new(SpeechErrorKind::Disk(error.kind()), "the speech could not be stored")
    }
}

impl fmt::Display for SpeechError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// `Debug` leaves the server's words out, because they may repeat the text.
impl fmt::Debug for SpeechError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpeechError")
            .field("kind", &self.kind)
            .field("detail", &self.detail)
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for SpeechError {}

/// The error that a status means. `None` for a success.
fn of_status(status: StatusCode) -> Option<SpeechError> {
    use SpeechErrorKind::{Rejected, Unavailable};

    let (kind, detail) = match status.as_u16() {
        200 | 201 | 203 => return None,
        206 => (Unavailable, "the speech server answered with a part of the audio only"),
        100..=299 => (Unavailable, "the speech server answered without audio"),
        300..=399 => (Unavailable, "the speech server answered with a redirect; check base_url"),
        401 | 403 => (Rejected, "the speech server refused the key, or what the key may do; check api_key"),
        402 => (Rejected, "the speech server wants to be paid first"),
        404 | 405 => {
            (Rejected, "the speech server has nothing there; check base_url, the model and the voice")
        }
        407 => (Unavailable, "the proxy on the way refused user and password; check server.proxy"),
        413 => (Rejected, "the speech server says that this is too long; send a shorter text"),
        408 | 409 | 425 => (Unavailable, "the speech server cannot answer at the moment"),
        429 => (Unavailable, "the speech server limits the rate of this account"),
        400..=499 => (Rejected, "the speech server refused the request; its words say why"),
        _ => (Unavailable, "the speech server has a fault"),
    };
    Some(SpeechError::new(kind, detail))
}

/// Judges status and type of an answer before its body is read. Returns the answer if audio (or `expected`) follows.
pub(super) async fn judged(
    server: &Server,
    response: Response,
    retry_after: Option<Duration>,
    is_expected: fn(&str) -> bool,
) -> Result<Response, SpeechError> {
    let status = response.status();
    if let Some(error) = of_status(status) {
        let upstream = read_words(server, response).await;
        return Err(SpeechError { retry_after, ..error.told(upstream) });
    }
    let kind = essence(response.headers());
    if is_expected(&kind) {
        return Ok(response);
    }
    let is_plain =
        kind.len() <= 64 && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/+-.".contains(&byte));
    let detail = match kind.as_str() {
        "text/html" | "application/xhtml+xml" => {
            "the speech server answered with a web page; check base_url, and what stands before the server"
                .to_owned()
        }
        kind if is_plain => {
            format!("the speech server answered with {kind} in place of what it was asked for")
        }
        _ => "the speech server answered with something else than it was asked for".to_owned(),
    };
    let upstream = read_words(server, response).await;
    Err(SpeechError::unavailable(detail).told(upstream))
}

/// The media type without its parameters, in lower case. Empty if there is none.
pub(super) fn essence(headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether audio may have this type. Many servers have none, or one for any bytes; the bytes decide.
pub(super) fn may_be_audio(essence: &str) -> bool {
    const OTHERS: [&str; 6] = [
        "",
        "application/octet-stream",
        "binary/octet-stream",
        "application/ogg",
        "application/x-ogg",
        "application/mp4",
    ];
    essence.starts_with("audio/") || essence.starts_with("video/") || OTHERS.contains(&essence)
}

/// Whether JSON may have this type.
pub(super) fn may_be_json(essence: &str) -> bool {
    essence.is_empty() || essence == "application/json" || essence.ends_with("+json")
}

/// Headerless samples of another rate or number of channels than the documented one say so in their type:
/// `audio/pcm;rate=16000`, `audio/L16;rate=24000;channels=1`.
pub(super) fn stated_format(raw: Raw, headers: &HeaderMap) -> Raw {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    if !matches!(essence.as_str(), "audio/pcm" | "audio/x-pcm" | "audio/l16") {
        return raw;
    }
    parts.filter_map(|part| part.split_once('=')).fold(raw, |raw, (name, value)| {
        let value: Option<u32> = value.trim_matches('"').parse().ok();
        match (name.trim().to_ascii_lowercase().as_str(), value) {
            ("rate", Some(sample_rate)) if (4_000..=192_000).contains(&sample_rate) => {
                Raw { sample_rate, ..raw }
            }
            ("channels", Some(channels @ 1..=8)) => Raw { channels: channels as u16, ..raw },
            _ => raw,
        }
    })
}

/// Reads what the server says about a failure. Nothing is said by a body that cannot be read.
async fn read_words(server: &Server, mut response: Response) -> Upstream {
    let status = Some(response.status().as_u16());
    let secrets: Vec<&SecretString> = server.secret().into_iter().collect();
    let trace = ["x-request-id", "request-id"]
        .iter()
        .find_map(|name| identifier(response.headers().get(*name)?.to_str().ok()?, &secrets));
    let is_text = essence(response.headers()) == "text/plain";
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_WORDS - body.len())]);
        if body.len() == MAX_WORDS {
            break;
        }
    }
    let (code, message) = match serde_json::from_slice::<Value>(&body) {
        Ok(body) => words(&body),
        Err(_) if is_text => (None, Some(String::from_utf8_lossy(&body).into_owned())),
        Err(_) => (None, None),
    };
    Upstream {
        status,
        code: code.and_then(|code| identifier(&code, &secrets)),
        message: message.map(|message| masked(&message, server.secret())).filter(|text| !text.is_empty()),
        trace,
    }
}

/// The code and the message of an error, in the shapes that are in use: `{"error": {"code", "type", "message"}}` (OpenAI),
/// `{"detail": {"status", "message"}}` (ElevenLabs), `{"detail": "..."}` and `{"detail": [{"msg"}]}` (FastAPI),
/// `{"error": "..."}`, `{"message": "..."}`.
fn words(body: &Value) -> (Option<String>, Option<String>) {
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let inner = body.get("error").or_else(|| body.get("detail")).unwrap_or(body);
    let inner = inner.get(0).unwrap_or(inner);
    let code = ["code", "status", "type"].iter().find_map(|name| text(inner.get(*name)));
    let message = ["message", "msg", "detail"].iter().find_map(|name| text(inner.get(*name)));
    (code, message.or_else(|| inner.as_str().map(str::to_owned)))
}

/// The server's words, shortened and without its key. Servers also repeat a part of the key, such as `sk-ab****yz`.
fn masked(text: &str, secret: Option<&SecretString>) -> String {
    const KNOWN: usize = 6;
    let secrets: Vec<&SecretString> = secret.into_iter().collect();
    let text = quote(text, &secrets);
    let Some(secret) = secret.map(|secret| secret.expose_secret()) else { return text };
    let lead: String = secret.chars().take(KNOWN).collect();
    let is_part =
        |word: &str| word.contains("***") || (lead.chars().count() == KNOWN && word.contains(&lead));
    let words = text.split(' ').map(|word| if is_part(word) { "[removed]" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_found_in_every_shape_in_use() {
        let some = |text: &str| Some(text.to_owned());
        for (body, code, message) in [
            (
                json!({"error": {"message": "no such voice", "type": "invalid_request_error", "code": null}}),
                some("invalid_request_error"),
                some("no such voice"),
            ),
            (
                json!({"detail": {"status": "quota_exceeded", "message": "no credits"}}),
                some("quota_exceeded"),
                some("no credits"),
            ),
            (json!({"detail": "Not Found"}), None, some("Not Found")),
            (
                json!({"detail": [{"loc": ["body"], "msg": "too long", "type": "value"}]}),
                some("value"),
                some("too long"),
            ),
            (json!({"error": "busy"}), None, some("busy")),
            (json!({"message": "no"}), None, some("no")),
            (json!([]), None, None),
            (json!(null), None, None),
        ] {
            assert_eq!(words(&body), (code, message), "{body}");
        }
    }

    #[test]
    fn a_part_of_the_key_is_removed_from_the_words() {
        let key = SecretString::from("sk-proj-0123456789");
        for said in [
            "Incorrect API key provided: sk-proj-0123456789.",
            "Incorrect API key provided: sk-pr******6789.",
            "Incorrect API key provided: sk-proj-0...",
        ] {
            let shown = masked(said, Some(&key));
            assert!(!shown.contains("sk-p") && shown.starts_with("Incorrect API key"), "{shown}");
        }
    }

    #[test]
    fn rate_and_channels_in_the_type_override_the_documented_ones() {
        let stated = |kind: &str| {
            let headers = [(CONTENT_TYPE, kind.parse().expect("a value"))].into_iter().collect();
            let raw = stated_format(Raw::s16le(24_000), &headers);
            (raw.sample_rate, raw.channels)
        };
        assert_eq!(stated("audio/pcm"), (24_000, 1));
        assert_eq!(stated("audio/pcm;rate=16000"), (16_000, 1));
        assert_eq!(stated("audio/L16; rate=\"8000\"; channels=2"), (8_000, 2));
        assert_eq!(stated("audio/pcm;rate=1"), (24_000, 1));
        assert_eq!(stated("audio/mpeg;rate=16000"), (24_000, 1));
    }
}
