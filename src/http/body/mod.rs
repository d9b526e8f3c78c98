//! Request bodies. JSON, multipart and raw audio are equivalent and become a [`Submission`]: the fields are understood
//! or refused by name, and the audio is kept separately, never whole in memory if it is large.

mod fields;
pub(super) mod foreign;
#[cfg(debug_assertions)]
pub(crate) mod fuzzing;
mod incoming;
mod json;
mod multipart;
mod order;
mod pieces;
mod speech;
mod tokens;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, header},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use self::{
    fields::{TextFields, understand},
    incoming::Incoming,
};
use super::App;
use crate::{
    gateway::Live,
    http::memory::Holding,
    media::{AudioInput, SpooledAudio, TRANSFER_HEADERS},
    model::{
        code::{Code, Stage},
        id::UploadId,
        note::Metadata,
        problem::Problem,
    },
    view::{
        grammar::FetchHeaders,
        schema::{AudioData, DeclaredFormat},
    },
};
use voicegate_audio::{Hints, PcmFormat};

pub use fields::{choice, degrade, or_default, span, time, unknown_name, whole_number};
pub use order::order;
pub use speech::Speech;

/// The most bytes of a body that are read into memory: all fields together, without the audio.
const MAX_FIELDS: usize = 64 * 1024;

/// Arrays and objects take up to this many times their text in memory.
const TREE: usize = 16;

/// The memory of a field in addition to its name and value.
const ENTRY: usize = 64;

/// A request body after its fields were understood.
#[derive(Debug)]
pub struct Submission<T> {
    pub fields: T,
    pub audio: AudioInput,
    pub hints: Hints,
    /// The metadata, with its numbers as they were written. A field of `T` only says whether metadata is allowed.
    pub metadata: Metadata,
    /// The memory reserved for the fields, to be kept for as long as they exist.
    pub held: Holding,
}

/// A body that was split into fields and audio, before the fields are understood.
#[derive(Default)]
struct Parts {
    fields: Map<String, Value>,
    /// The fields about the audio; `None` if the body has no `audio`.
    audio: Option<Map<String, Value>>,
    /// The audio itself, if it was in the body.
    file: Option<SpooledAudio>,
    /// The text of the field `metadata`.
    metadata: Option<String>,
    /// The memory reserved for all of these, except the file.
    held: Holding,
}

/// `audio` in a JSON body. In other bodies its fields are beside the other fields, and the audio is a file.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Audio {
    /// The https address to download the audio from. Only public addresses, unless the operator allows others.
    #[schema(format = "uri", examples("https://bot.example/greeting.mp3"))]
    url: Option<String>,
    // The data was decoded into a file already; this only says that it was present.
    #[schema(value_type = Option<AudioData>)]
    data: Option<String>,
    /// An upload of `POST /media`.
    #[schema(value_type = Option<UploadId>)]
    media_id: Option<String>,
    /// A hint for audio whose bytes alone do not say what it is.
    #[schema(examples("greeting.mp3"))]
    filename: Option<String>,
    /// Also a hint.
    #[schema(examples("audio/mpeg"))]
    mime_type: Option<String>,
    /// Headers for the download of the URL, sent to its first host only. Kept secret, and deleted after the download.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<FetchHeaders>)]
    headers: BTreeMap<String, String>,
    /// The format of headerless samples; not needed for anything else.
    #[schema(value_type = Option<DeclaredFormat>)]
    format: Option<PcmFormat>,
    speech: Option<Speech>,
}

/// The sources of audio, each with the fields about the audio that may be given beside it.
pub(super) const SOURCES: [(&str, &[&str]); 4] = [
    ("url", &["filename", "mime_type", "headers", "format"]),
    ("data", &["filename", "mime_type", "format"]),
    ("media_id", &["filename", "mime_type"]),
    ("speech", &[]),
];

/// The fields of a request besides its audio.
pub trait Fields: DeserializeOwned {
    /// Finds what is missing without a look at the audio, so that a request with nothing in it is told of its first field.
    ///
    /// # Errors
    /// The field that is missing.
    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }
}

/// Reads a body of any kind.
///
/// # Errors
/// Fails with the field that is wrong; nothing is left on disk.
pub async fn read<T: Fields>(app: &App, tenant: &str, request: Request) -> Result<Submission<T>, Problem> {
    let (parts, body) = request.into_parts();
    let App { gateway, memory, .. } = app;
    let live = gateway.live();
    let content_type = content_type(&parts.headers)?;
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let query = parts.uri.query().unwrap_or_default();
    match essence.as_str() {
        "application/json" => {
            no_query(query)?;
            let limit = bounded(&parts.headers, live.config.server.max_json_body.0)?;
            let held = memory.for_request(tenant);
            let body = incoming(&live, body, limit, stated_length(&parts.headers));
            let parts = json::read(body, &gateway.media, live.config.audio.max_bytes.0, held).await?;
            assemble(parts, "audio.")
        }
        "multipart/form-data" => {
            no_query(query)?;
            let limit = bounded(&parts.headers, live.config.server.max_body.0)?;
            let held = memory.for_request(tenant);
            let body = incoming(&live, body, limit, stated_length(&parts.headers));
            let max_bytes = live.config.audio.max_bytes.0;
            let parts = multipart::read(body, content_type, &gateway.media, max_bytes, held).await?;
            assemble(parts, "")
        }
        essence if is_recording(essence) => {
            let mut fields = in_query(query)?;
            fields.hint("mime_type", content_type);
            let limit = live.config.server.max_body.0.min(live.config.audio.max_bytes.0);
            let limit = bounded(&parts.headers, limit)?;
            let file =
                incoming(&live, body, limit, stated_length(&parts.headers)).audio(&gateway.media).await?;
            assemble(fields.with(Some(file)), "")
        }
        _ => {
            let came =
                if essence.is_empty() { "the body came without a type" } else { "this is another type" };
            let detail = format!(
                "{came}: send JSON with Content-Type: application/json, a form with multipart/form-data, or the \
                 audio itself as audio/*, video/* or application/octet-stream"
            );
            Err(Problem::new(Code::UnsupportedMediaType, detail).stage(Stage::Request).field("Content-Type"))
        }
    }
}

/// Reads a whole body of at most `limit` bytes into memory, which is reserved for it.
///
/// # Errors
/// Fails if the body is larger, arrives too slowly, or does not fit into `server.memory`.
pub async fn whole(
    app: &App,
    tenant: &str,
    request: Request,
    limit: u64,
) -> Result<(axum::http::request::Parts, bytes::Bytes, Holding), Problem> {
    let (parts, body) = request.into_parts();
    let limit = bounded(&parts.headers, limit)?;
    let mut held = app.memory.for_request(tenant);
    let mut body = incoming(&app.gateway.live(), body, limit, stated_length(&parts.headers));
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        held.grow(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((parts, bytes.into(), held))
}

/// Stores a body that is the audio itself, of at most `limit` bytes.
///
/// # Errors
/// The body is too large or does not arrive, or the disk fails.
pub async fn audio(app: &App, request: Request, limit: u64) -> Result<SpooledAudio, Problem> {
    let (parts, body) = request.into_parts();
    content_type(&parts.headers)?;
    let limit = bounded(&parts.headers, limit)?;
    let stated = stated_length(&parts.headers);
    incoming(&app.gateway.live(), body, limit, stated).audio(&app.gateway.media).await
}

/// Types of a body that is the audio itself. The bytes decide what it is; WebM and MP4 from recorders often have a
/// video type.
fn is_recording(essence: &str) -> bool {
    const OTHERS: [&str; 6] = [
        "application/octet-stream",
        "binary/octet-stream",
        "application/ogg",
        "application/x-ogg",
        "application/mp4",
        "application/webm",
    ];
    essence.starts_with("audio/") || essence.starts_with("video/") || OTHERS.contains(&essence)
}

fn incoming(live: &Arc<Live>, body: Body, limit: u64, stated: Option<u64>) -> Incoming {
    Incoming::new(body, limit, stated, live.config.server.body_timeout.0)
}

fn content_type(headers: &HeaderMap) -> Result<&str, Problem> {
    let packed = headers.get(header::CONTENT_ENCODING);
    if packed.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let detail = "send the body as it is, without Content-Encoding";
        return Err(Problem::new(Code::UnsupportedMediaType, detail)
            .stage(Stage::Request)
            .field("Content-Encoding"));
    }
    Ok(headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default())
}

pub fn stated_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses a body that states that it is too large, before any of it is read.
fn bounded(headers: &HeaderMap, limit: u64) -> Result<u64, Problem> {
    if stated_length(headers).is_some_and(|length| length > limit) {
        return Err(incoming::too_large(limit));
    }
    Ok(limit)
}

/// Refuses a recipient whose + was not escaped in a query: the mistake that most people make first.
///
/// # Errors
/// `recipient_invalid`
pub(super) fn plus_is_kept(to: &str) -> Result<(), Problem> {
    if !to.starts_with(' ') {
        return Ok(());
    }
    let detail = "a + in a query means a space; write %2B, as in ?to=%2B15551234567";
    Err(Problem::new(Code::RecipientInvalid, detail).stage(Stage::Request).field("to"))
}

fn in_query(query: &str) -> Result<TextFields, Problem> {
    let mut fields = TextFields::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name == "to" {
            plus_is_kept(&value)?;
        }
        fields.add(&name, &value)?;
    }
    Ok(fields)
}

/// The fields of a raw body are in the query. With other bodies they would be overlooked there, so they are refused.
fn no_query(query: &str) -> Result<(), Problem> {
    match url::form_urlencoded::parse(query.as_bytes()).next() {
        None => Ok(()),
        Some((name, _)) => Err(Problem::invalid(
            name,
            "fields are in the query only if the body is the audio itself, with Content-Type: audio/*",
        )),
    }
}

/// Interprets fields and audio. `prefix` is where the caller has the fields of `audio`.
fn assemble<T: Fields>(parts: Parts, prefix: &str) -> Result<Submission<T>, Problem> {
    let fields: T = understand(Value::Object(parts.fields), "")?;
    fields.check()?;
    let metadata = parts.metadata.filter(|text| text != "null").map(|text| Metadata::parse(&text));
    let metadata = metadata.unwrap_or(Ok(Metadata::default()));
    let metadata = metadata.map_err(|_| Problem::invalid("metadata", "expected an object"))?;
    let audio =
        parts.audio.ok_or_else(|| Problem::invalid("audio", "the field is missing: there is no audio"))?;
    let audio: Audio = understand(Value::Object(audio), prefix)?;
    let hints = Hints { filename: audio.filename, mime_type: audio.mime_type, format: audio.format };
    let sources = [
        audio.url.is_some(),
        audio.data.is_some() || parts.file.is_some(),
        audio.media_id.is_some(),
        audio.speech.is_some(),
    ];
    let mut given = SOURCES.iter().zip(sources).filter(|(_, given)| *given);
    let (Some(((source, facts), _)), None) = (given.next(), given.next()) else {
        let detail = if prefix.is_empty() && !sources.contains(&true) {
            "the form has neither a file part `audio` nor a field `speech`"
        } else {
            "give exactly one of `url`, `data`, `media_id` and `speech`"
        };
        return Err(Problem::invalid("audio", detail));
    };
    let stated = [
        ("filename", hints.filename.is_some()),
        ("mime_type", hints.mime_type.is_some()),
        ("headers", !audio.headers.is_empty()),
        ("format", hints.format.is_some()),
    ];
    if let Some((fact, _)) = stated.into_iter().find(|(fact, stated)| *stated && !facts.contains(fact)) {
        let detail = match (*source, fact) {
            (_, "headers") => "headers are for `url` only".to_owned(),
            ("media_id", _) => format!("the {fact} of an upload is given when it is uploaded"),
            (source, _) => format!("`{fact}` is not for `{source}`; leave it out"),
        };
        return Err(Problem::invalid(format!("{prefix}{fact}"), detail));
    }
    let audio = match (audio.url, audio.media_id, audio.speech, parts.file) {
        (Some(url), ..) => {
            check_headers(&audio.headers)?;
            AudioInput::Url { url, headers: audio.headers }
        }
        (_, Some(id), ..) => AudioInput::Upload(id.parse().map_err(|()| AudioInput::no_such_upload())?),
        (_, _, Some(speech), _) => AudioInput::Speech(speech.into()),
        (.., Some(received)) => AudioInput::Bytes(received),
        (None, None, None, None) => {
            return Err(Problem::invalid("audio.data", "expected base64 or a data URI"));
        }
    };
    Ok(Submission { fields, audio, hints, metadata, held: parts.held })
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), Problem> {
    for (name, value) in headers {
        let sound = http::HeaderName::from_bytes(name.as_bytes()).is_ok()
            && http::HeaderValue::from_str(value).is_ok();
        if !sound || TRANSFER_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(Problem::invalid(
                "audio.headers",
                "one of the headers cannot be sent; check names and values",
            ));
        }
    }
    Ok(())
}
