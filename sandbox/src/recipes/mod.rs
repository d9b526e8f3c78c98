//! Nine APIs that take a voice note in one request, each as its own pages describe it: what a gateway reaches by recipes.
//! Each is a table of what it wants; whatever is not in the table is refused.

mod fields;
mod vendors;

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use self::fields::{Fields, Got};
use self::vendors::{Rule, VENDORS, Vendor};
use crate::emulator::{Emulator, Look};
use crate::faults::Operation;
use crate::fetch::FetchError;
use crate::ledger::{LedgerEntry, redact};
use crate::{Sandbox, audio, state};

const MAX_AUDIO: usize = 16_000_000;
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// The emulator itself; what it remembers is a [`Memory`].
pub(crate) struct Recipes;

/// Answers to requests with a key, which are given again.
#[derive(Default)]
struct Memory {
    answers: HashMap<String, Value>,
}

impl Emulator for Recipes {
    fn name(&self) -> &'static str {
        "http"
    }

    fn look(&self) -> Look {
        Look {
            app: "WhatsApp",
            through: "through a recipe",
            to: "+15551234567",
            bubble: "#dcf8c6",
            ink: "#1f5c3a",
        }
    }

    fn router(&self, sandbox: &Sandbox) -> Router {
        Router::new().route("/{vendor}/{*path}", any(call)).with_state(sandbox.clone())
    }

    fn classify(&self, _: &Method, path: &str) -> Operation {
        let (name, below) = path.split_once('/').unwrap_or((path, ""));
        match Vendor::named(name) {
            Some(vendor) if vendor.path.trim_start_matches('/') == below => Operation::Voice,
            Some(vendor) if vendor.check.is_some_and(|(path, _)| path.trim_start_matches('/') == below) => {
                Operation::Session
            }
            _ => Operation::Other,
        }
    }

    /// An error in the format of Whapi, whose recipe [`Self::settings`] names.
    fn scripted(&self, status: u16, _: Option<u64>) -> Response {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = status.canonical_reason().unwrap_or("error");
        (status, Json(json!({"error": {"code": status.as_u16(), "message": message}}))).into_response()
    }

    fn secrets<'a>(&self, _: &'a Sandbox) -> Vec<&'a str> {
        let headers = VENDORS.iter().flat_map(|vendor| vendor.headers).map(|(_, value)| *value);
        headers.chain([vendors::TOKEN]).collect()
    }

    fn settings(&self, _: &Sandbox, base_url: &str) -> Value {
        json!({"base_url": format!("{base_url}/whapi"), "recipe": "whapi", "token": vendors::TOKEN})
    }
}

/// The reason of a refusal.
struct Refused(u16, String);

impl Refused {
    fn bad(why: impl Into<String>) -> Self {
        Self(400, why.into())
    }
}

async fn call(
    State(sandbox): State<Sandbox>,
    Path((name, path)): Path<(String, String)>,
    method: Method,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(vendor) = Vendor::named(&name) else {
        return (StatusCode::NOT_FOUND, Json(json!({"error": "there is no such API here"}))).into_response();
    };
    let answered = match judged(vendor, &path, &method, &uri, &headers) {
        Ok(Asked::Check(answer)) => Ok((200, answer())),
        Ok(Asked::Send) => send(&sandbox, vendor, &headers, body).await,
        Err(refused) => Err(refused),
    };
    let (status, body) = answered.unwrap_or_else(|Refused(status, why)| (vendor.refuse)(status, &why));
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response()
}

enum Asked {
    Check(fn() -> Value),
    Send,
}

fn judged(
    vendor: &Vendor,
    path: &str,
    method: &Method,
    uri: &axum::http::Uri,
    headers: &HeaderMap,
) -> Result<Asked, Refused> {
    let path = format!("/{path}");
    let asked = match vendor.check {
        Some((check, answer)) if check == path => Asked::Check(answer),
        _ if vendor.path == path => Asked::Send,
        _ => return Err(Refused(404, format!("there is nothing at {path}"))),
    };
    let expected = if matches!(asked, Asked::Send) { Method::POST } else { Method::GET };
    if *method != expected {
        return Err(Refused(405, format!("use {expected}")));
    }
    if uri.query().is_some() {
        return Err(Refused(
            400,
            "this address takes no query; a token there would be in every log".to_owned(),
        ));
    }
    for (name, value) in vendor.headers {
        if headers.get(*name).and_then(|given| given.to_str().ok()) != Some(value) {
            return Err(Refused(401, format!("the header {name} is missing or wrong")));
        }
    }
    Ok(asked)
}

/// The parts of a request that are about the note.
#[derive(Default)]
struct Note {
    to: String,
    bytes: Option<Bytes>,
    mime_type: Option<String>,
    filename: Option<String>,
    /// The length in milliseconds.
    said_duration: Option<u64>,
    text: Option<String>,
    reply_to: Option<String>,
}

async fn send(
    sandbox: &Sandbox,
    vendor: &Vendor,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<(u16, Value), Refused> {
    let key = match vendor.key_header {
        None => None,
        Some(name) => {
            let key = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            Uuid::parse_str(key).map_err(|_| Refused::bad(format!("{name} is no UUID")))?;
            Some(key.to_owned())
        }
    };
    let fields = Fields::read(vendor.body, headers, body).await?;
    let shape = fields.shape(vendor.shapes);
    fields.none_beside(shape)?;
    let mut note = Note::default();
    for field in shape {
        match fields.get(field.at) {
            None if field.is_required => return Err(Refused::bad(format!("{} is missing", field.at))),
            None => {}
            Some(got) => take(sandbox, &mut note, field.at, &field.rule, got).await?,
        }
    }
    if let Some(key) = &key
        && let Some(first) = sandbox.inner.lock().own::<Memory>().answers.get(key)
    {
        let mut again = first.clone();
        again["message"] = json!("The retry key is already accepted");
        return Ok((409, again));
    }
    let info = note.bytes.as_ref().map(|bytes| audio::describe(bytes));
    let mut problems = info.as_ref().map(|info| info.faults.clone()).unwrap_or_default();
    if let Some(info) = &info {
        if !vendor.containers.contains(&info.container) {
            return Err(Refused(415, format!("audio of the kind {} is not taken", info.short())));
        }
        if let (Some(said), Some(real)) = (note.said_duration, info.duration_ms)
            && said.abs_diff(real) > 1000
        {
            problems.push(format!("The request says {said} ms; the sound has {real} ms."));
        }
    }
    let id = (vendor.new_id)();
    let (status, answer) = (vendor.answer)(&id, &note.to);
    if let Some(key) = key {
        sandbox.inner.lock().own::<Memory>().answers.insert(key, answer.clone());
    }
    let entry = LedgerEntry {
        id: Uuid::new_v4(),
        provider: "http",
        at: state::now(),
        conversation: note.to.clone(),
        to: vec![note.to.clone()],
        message_id: id,
        form: if info.is_some() { vendor.form } else { "text" },
        service: None,
        via: format!("POST {} at {}", vendor.path, vendor.name),
        filename: note.filename,
        mime_type: note.mime_type,
        size_bytes: note.bytes.as_ref().map_or(0, Bytes::len),
        sha256: note.bytes.as_ref().map(|bytes| hex::encode(Sha256::digest(bytes))),
        audio: info,
        text: note.text,
        problems,
        reply_to: note.reply_to,
        convert: None,
        request: redact(&fields.shown(), &sandbox.secrets()),
        receipts: Vec::new(),
    };
    sandbox.inner.deliver(entry, note.bytes);
    Ok((status, answer))
}

/// Holds one field against its rule, and keeps what is about the note.
async fn take(sandbox: &Sandbox, note: &mut Note, at: &str, rule: &Rule, got: &Got) -> Result<(), Refused> {
    let wrong = |what: &str| Refused::bad(format!("{at}: {what}"));
    match (rule, got) {
        (Rule::Exactly(expected), got) => {
            if got.text().as_deref() != Some(expected) {
                return Err(wrong("is not what it has to be"));
            }
        }
        (Rule::True, Got::Json(Value::Bool(true))) => {}
        // Everything in a form is text.
        (Rule::True, Got::Text(text)) if text == "true" => {}
        (Rule::To(fits), got) => {
            let to =
                got.text().filter(|text| fits(text)).ok_or_else(|| wrong("phone: this is no recipient"))?;
            note.to = to;
        }
        (Rule::Text, got) => note.text = Some(got.text().ok_or_else(|| wrong("is no text"))?),
        (Rule::Tag, got) => drop(got.text().ok_or_else(|| wrong("is no text"))?),
        (Rule::ReplyTo, got) => note.reply_to = Some(got.text().ok_or_else(|| wrong("is no id"))?),
        (Rule::Milliseconds, Got::Json(value)) if value.is_u64() => note.said_duration = value.as_u64(),
        (Rule::Seconds, Got::Json(value)) if value.is_u64() => {
            note.said_duration = value.as_u64().map(|seconds| seconds * 1000);
        }
        (Rule::Waveform(most), Got::Json(Value::String(text))) => {
            let bars = fields::base64(text).filter(|bars| bars.len() == 64);
            let bars = bars.ok_or_else(|| wrong("is not 64 bytes as base64"))?;
            if bars.iter().any(|bar| bar > most) {
                return Err(wrong(&format!("has bars above {most}")));
            }
        }
        (Rule::DataUri(types), Got::Json(Value::String(text))) => {
            let (kind, data) = text
                .strip_prefix("data:")
                .and_then(|rest| rest.split_once(";base64,"))
                .ok_or_else(|| wrong("is no data URI with base64"))?;
            if !types.contains(&kind) {
                return Err(wrong(&format!("the media type has to be one of {}", types.join(", "))));
            }
            let bytes = fields::base64(data).ok_or_else(|| wrong("is no base64"))?;
            (note.bytes, note.mime_type) = (Some(bytes.into()), Some(kind.to_owned()));
        }
        (Rule::File, Got::File { filename, mime_type, bytes }) => {
            note.bytes = Some(bytes.clone());
            (note.filename, note.mime_type) = (Some(filename.clone()), mime_type.clone());
        }
        (Rule::Link { longest, endings }, got) => {
            let text = got.text().ok_or_else(|| wrong("is no link"))?;
            if text.len() > *longest {
                return Err(wrong(&format!("a link has at most {longest} characters")));
            }
            if !endings.is_empty() && !endings.iter().any(|ending| text.ends_with(ending)) {
                return Err(wrong(&format!("the link has to end in {}", endings.join(", "))));
            }
            let url = Url::parse(&text).map_err(|_| wrong("is no link"))?;
            if url.query().is_some() {
                return Err(wrong("signed links with a query are not supported"));
            }
            let fetched = sandbox.inner.fetcher.get(&url, MAX_AUDIO, FETCH_TIMEOUT).await;
            let fetched = fetched.map_err(|error| match error {
                FetchError::TooLarge => Refused(413, format!("{at}: the file is too large")),
                FetchError::Failed(why) => wrong(&format!("the audio cannot be downloaded: {why}")),
            })?;
            (note.bytes, note.mime_type) = (Some(fetched.bytes), fetched.content_type);
            note.filename = url.path_segments().and_then(|mut parts| parts.next_back()).map(str::to_owned);
        }
        _ => return Err(wrong("is of the wrong type")),
    }
    Ok(())
}
