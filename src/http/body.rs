//! Request bodies: read within bounds of size and time, and understood or refused by field.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use axum::body::{Body, BodyDataStream};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use crate::{
    audio::{Hints, PcmFormat},
    config::Span24,
    delivery::{AudioInput, VoiceRequest},
    media::MediaStore,
    note::ConvertChoice,
    problem::Problem,
};

/// A whole body takes at most this many times `server.body_timeout`.
const TOTAL: u32 = 10;

/// The JSON body of `POST /voice`.
pub struct VoiceBody {
    pub to: String,
    pub audio: AudioBody,
    pub fields: Fields,
}

impl VoiceBody {
    pub fn read(json: &[u8]) -> Result<Self, Problem> {
        let mut fields: Fields = parse(json)?;
        let missing = |field: &str| Problem::invalid(field, format!("missing field `{field}`"));
        let to = fields.to.take().ok_or_else(|| missing("to"))?;
        let audio = fields.audio.take().ok_or_else(|| missing("audio"))?;
        Ok(Self { to, audio, fields })
    }
}

/// Every field there is. `to` and `audio` are required of a JSON body only: a raw one has them elsewhere.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    to: Option<String>,
    audio: Option<AudioBody>,
    pub via: Option<String>,
    #[serde(deserialize_with = "convert")]
    pub convert: Option<ConvertChoice>,
    pub reply_to: Option<String>,
    pub text: Option<String>,
    pub strict: bool,
    #[serde(deserialize_with = "span")]
    pub expires_in: Option<Duration>,
    pub metadata: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioBody {
    url: Option<String>,
    data: Option<String>,
    filename: Option<String>,
    mime_type: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    format: Option<PcmFormat>,
}

impl Fields {
    pub fn into_request(
        self,
        to: String,
        audio: AudioInput,
        hints: Hints,
        key: Option<String>,
    ) -> VoiceRequest {
        VoiceRequest {
            to,
            audio,
            hints,
            via: self.via,
            convert: self.convert,
            reply_to: self.reply_to,
            text: self.text,
            strict: self.strict,
            expires_in: self.expires_in,
            metadata: self.metadata,
            idempotency_key: key,
        }
    }
}

fn convert<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ConvertChoice>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Bool(true) => Ok(Some(ConvertChoice::Auto)),
        Value::Bool(false) => Ok(Some(ConvertChoice::Never)),
        other => ConvertChoice::deserialize(other).map(Some).map_err(|_| {
            de::Error::custom("expected \"auto\", \"always\", \"never\", \"provider\", true or false")
        }),
    }
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let span = Option::<Span24>::deserialize(deserializer)?.map(|span| span.0);
    if span.is_some_and(|span| span.is_zero()) {
        return Err(de::Error::custom("expected a duration above zero"));
    }
    Ok(span)
}

/// Bodies as they arrive: in pieces, none of which may be long in coming.
pub struct Incoming {
    stream: BodyDataStream,
    pause: Duration,
    deadline: tokio::time::Instant,
    limit: u64,
    seen: u64,
}

impl Incoming {
    pub fn new(body: Body, limit: u64, pause: Duration) -> Self {
        let deadline = tokio::time::Instant::now() + pause * TOTAL;
        Self { stream: body.into_data_stream(), pause, deadline, limit, seen: 0 }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let patience = self.deadline.min(tokio::time::Instant::now() + self.pause);
        let piece = tokio::time::timeout_at(patience, self.stream.next())
            .await
            .map_err(|_| Problem::invalid("body", "the body was too long in coming; send it again"))?;
        let Some(piece) = piece else { return Ok(None) };
        let piece = piece.map_err(|_| Problem::invalid("body", "the body broke off; send it again"))?;
        self.seen += piece.len() as u64;
        if self.seen > self.limit {
            return Err(too_large(self.limit));
        }
        Ok(Some(piece))
    }

    /// Reads everything into memory.
    pub async fn all(mut self) -> Result<Vec<u8>, Problem> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// Reads everything into a private file, and hashes it on the way.
    pub async fn file(mut self, media: &MediaStore) -> Result<AudioInput, Problem> {
        let file = media.incoming_file()?;
        let mut out = tokio::fs::File::from_std(file.reopen()?);
        let mut hash = Sha256::new();
        while let Some(piece) = self.next().await? {
            hash.update(&piece);
            out.write_all(&piece).await?;
        }
        out.flush().await?;
        Ok(AudioInput::File { file, sha256: hex::encode(hash.finalize()) })
    }
}

pub fn too_large(limit: u64) -> Problem {
    Problem::new("audio_too_large", format!("the request body may have at most {limit} bytes"))
        .stage("request")
}

/// Understands JSON, or says which field is wrong.
pub fn parse<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, Problem> {
    // serde would take a list for an object's fields in order.
    if json.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::invalid("body", "expected a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let field = if matches!(path.as_str(), "." | "?") { "body".to_owned() } else { path };
        in_field(field, error.into_inner().to_string())
    })?;
    reader.end().map_err(|_| Problem::invalid("body", "there is something behind the JSON object"))?;
    Ok(value)
}

/// serde names an unknown or missing field only in its text; a caller wants it as `field`.
fn in_field(path: String, message: String) -> Problem {
    let named = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|lead| message.strip_prefix(lead)?.split_once('`').map(|(name, _)| name.to_owned()));
    let field = match named {
        Some(name) if path == "body" => name,
        Some(name) if path.rsplit('.').next() != Some(&name) => format!("{path}.{name}"),
        _ => path,
    };
    // " at line 1 column 17" helps nobody whose JSON was made by a library.
    let detail = message.split(" at line ").next().unwrap_or(&message);
    // The names of our types say nothing to a caller.
    let detail = detail
        .split_once("expected struct ")
        .map_or(detail.to_owned(), |(before, _)| format!("{before}expected an object"));
    Problem::invalid(field, detail)
}

impl AudioBody {
    /// Exactly one source, and the hints that came with it.
    pub async fn into_input(
        self,
        media: &MediaStore,
        max_bytes: u64,
    ) -> Result<(AudioInput, Hints), Problem> {
        let mut hints = Hints { filename: self.filename, mime_type: self.mime_type, format: self.format };
        let input = match (self.url, self.data) {
            (Some(url), None) => {
                check_headers(&self.headers)?;
                AudioInput::Url { url, headers: self.headers }
            }
            (None, Some(data)) => {
                let (mime_type, base64) = split_data_uri(&data);
                hints.mime_type = hints.mime_type.or(mime_type);
                write(decode(base64)?, media, max_bytes).await?
            }
            _ => return Err(Problem::invalid("audio", "give exactly one of `url` and `data`")),
        };
        Ok((input, hints))
    }
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), Problem> {
    for (name, value) in headers {
        let sound = http::HeaderName::from_bytes(name.as_bytes()).is_ok()
            && http::HeaderValue::from_str(value).is_ok();
        // These belong to the transfer itself.
        let ours = ["host", "content-length", "transfer-encoding", "connection"];
        if !sound || ours.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(Problem::invalid(
                "audio.headers",
                "one of the headers cannot be sent; check names and values",
            ));
        }
    }
    Ok(())
}

/// `data:audio/mpeg;base64,AAAA` or plain base64.
fn split_data_uri(data: &str) -> (Option<String>, &str) {
    let uri = data.trim().strip_prefix("data:").and_then(|rest| rest.split_once(','));
    match uri {
        Some((head, base64)) => {
            let mime_type = head.strip_suffix(";base64").unwrap_or(head);
            ((!mime_type.is_empty()).then(|| mime_type.to_owned()), base64)
        }
        None => (None, data.trim()),
    }
}

fn decode(base64: &str) -> Result<Vec<u8>, Problem> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if base64.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    // Some encoders wrap their lines.
    let mut base64 = Cow::Borrowed(base64);
    if base64.contains(['\r', '\n']) {
        base64 = base64.replace(['\r', '\n'], "").into();
    }
    GeneralPurpose::new(alphabet, LENIENT).decode(base64.as_bytes()).map_err(|_| {
        Problem::invalid("audio.data", "this is neither base64 nor a data URI with base64 in it")
    })
}

async fn write(bytes: Vec<u8>, media: &MediaStore, max_bytes: u64) -> Result<AudioInput, Problem> {
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(max_bytes));
    }
    let file: NamedTempFile = media.incoming_file()?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    tokio::fs::write(file.path(), bytes).await?;
    Ok(AudioInput::File { file, sha256 })
}

/// The fields of a raw body, from the query: every value is text, objects are JSON.
#[derive(Default)]
pub struct QueryFields {
    pub to: String,
    pub filename: Option<String>,
    pub format: Option<PcmFormat>,
    pub fields: Fields,
}

impl QueryFields {
    pub fn parse(query: &str) -> Result<Self, Problem> {
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if fields.insert(name.to_string(), value.to_string()).is_some() {
                return Err(Problem::invalid(name, "the field is given twice"));
            }
        }
        let mut take = |name: &str| fields.remove(name);
        let to = take("to")
            .ok_or_else(|| Problem::invalid("to", "missing; give it in the query: ?to=%2B15551234567"))?;
        if to.starts_with(' ') {
            let detail = "a + in a query means a space; write %2B, as in ?to=%2B15551234567";
            return Err(Problem::new("recipient_invalid", detail).stage("request").field("to"));
        }
        let filename = take("filename");
        let format = take("format").map(|text| in_query("format", &text)).transpose()?;
        let mut options = Map::new();
        for name in ["via", "reply_to", "text", "expires_in"] {
            if let Some(text) = take(name) {
                options.insert(name.to_owned(), Value::String(text));
            }
        }
        for name in ["convert", "strict"] {
            if let Some(text) = take(name) {
                let value = text.parse::<bool>().map_or(Value::String(text), Value::Bool);
                options.insert(name.to_owned(), value);
            }
        }
        if let Some(text) = take("metadata") {
            options.insert("metadata".to_owned(), in_query("metadata", &text)?);
        }
        if let Some(name) = fields.into_keys().next() {
            return Err(Problem::invalid(name, "there is no such field"));
        }
        let fields = parse(Value::Object(options).to_string().as_bytes())?;
        Ok(Self { to, filename, format, fields })
    }
}

fn in_query<T: for<'de> Deserialize<'de>>(name: &str, text: &str) -> Result<T, Problem> {
    parse(text.as_bytes()).map_err(|problem| {
        let field = match problem.field.as_deref() {
            None | Some("body") => name.to_owned(),
            Some(inner) => format!("{name}.{inner}"),
        };
        problem.field(field)
    })
}
