//! `sendVoice`, `sendFile`, `sendText`: <https://waha.devlike.pro/docs/how-to/send-messages/>.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::{App, NAME, Refusal, only, read, working};
use crate::audio::{self, Kind};
use crate::fetch::FetchError;
use crate::ledger::{LedgerEntry, redact};
use crate::whatsapp::{ME, NOBODY, STRANGER, decode, is_jid, is_message_id, raw_id, voice_problems};
use crate::{Sandbox, state};

/// A JSON body has 50 MB at most, of which base64 leaves three quarters.
const MAX_BYTES: usize = 37_000_000;
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

type Sent = Result<(StatusCode, Json<Value>), Refusal>;

pub(super) async fn voice(State(sandbox): App, headers: HeaderMap, body: Bytes) -> Sent {
    let request = read(&headers, &body, &["session", "chatId", "file", "convert", "reply_to"])?;
    send(&sandbox, "voice", request).await
}

pub(super) async fn file(State(sandbox): App, headers: HeaderMap, body: Bytes) -> Sent {
    let request = read(&headers, &body, &["session", "chatId", "file", "caption", "reply_to"])?;
    send(&sandbox, "file", request).await
}

pub(super) async fn text(State(sandbox): App, headers: HeaderMap, body: Bytes) -> Sent {
    let known = ["session", "chatId", "text", "id", "reply_to", "linkPreview", "linkPreviewHighQuality"];
    let request = read(&headers, &body, &known)?;
    send(&sandbox, "text", request).await
}

/// A file that came along or was fetched.
struct File {
    mime_type: String,
    filename: Option<String>,
    bytes: Bytes,
    by: &'static str,
}

async fn send(sandbox: &Sandbox, form: &'static str, request: Map<String, Value>) -> Sent {
    let session = needed(&request, "session")?;
    let chat = needed(&request, "chatId")?;
    if !is_jid(&chat) {
        return Err(Refusal::rule(
            "voicegate sandbox: chatId must be a WhatsApp id: DIGITS@c.us, @g.us, @newsletter or @lid",
        ));
    }
    let convert = match (form, request.get("convert")) {
        ("voice", Some(Value::Bool(convert))) => Some(*convert),
        ("voice", _) => return Err(Refusal::rule("convert must be a boolean value")),
        _ => None,
    };
    let reply_to = optional(&request, "reply_to")?;
    let text = if form == "text" { Some(needed(&request, "text")?) } else { optional(&request, "caption")? };
    let engine = working(&session)?;
    let file = match request.get("file") {
        _ if form == "text" => None,
        Some(Value::Object(file)) => Some(read_file(sandbox, form, file).await?),
        _ => return Err(Refusal::rule("file must be an object")),
    };
    match chat.as_str() {
        STRANGER => return Err(Refusal::exception("2 UNKNOWN: server returned error 463")),
        NOBODY => return Err(Refusal::exception("No LID for user")),
        _ => {}
    }
    let info = file.as_ref().map(|file| audio::describe(&file.bytes));
    if convert == Some(true) && info.as_ref().is_some_and(|info| info.kind == Kind::Unknown) {
        return Err(Refusal::exception(
            "ffmpeg exited with code 1: Invalid data found when processing input",
        ));
    }
    let mut problems = match (&info, &file, convert) {
        (Some(info), Some(file), Some(false)) => voice_problems(info, &file.mime_type),
        (Some(info), ..) => info.faults.clone(),
        _ => Vec::new(),
    };
    if reply_to.as_deref().is_some_and(|id| !is_message_id(id)) {
        problems.push("reply_to is no WhatsApp message id (false_CHAT_ID): the quote would be lost.".into());
    }
    let raw = raw_id();
    let hash = file.as_ref().map(|file| hex::encode(Sha256::digest(&file.bytes)));
    let how = file.as_ref().map_or("", |file| file.by);
    let entry = LedgerEntry {
        id: Uuid::new_v4(),
        provider: NAME,
        at: state::now(),
        conversation: chat.clone(),
        to: vec![chat.clone()],
        message_id: format!("true_{chat}_{raw}"),
        form,
        service: None,
        via: format!("{how} through {engine}").trim_start().to_owned(),
        filename: file.as_ref().and_then(|file| file.filename.clone()),
        mime_type: file.as_ref().map(|file| file.mime_type.clone()),
        size_bytes: file.as_ref().map_or(0, |file| file.bytes.len()),
        sha256: hash,
        audio: info,
        text,
        problems,
        reply_to,
        convert,
        request: redact(&shown(&request), &sandbox.secrets()),
        receipts: Vec::new(),
    };
    sandbox.inner.deliver(entry.clone(), file.map(|file| file.bytes));
    sandbox.follow(&entry, chat.ends_with("@g.us"));
    Ok((StatusCode::CREATED, Json(answer(engine, form, &chat, &raw))))
}

fn needed(request: &Map<String, Value>, name: &str) -> Result<String, Refusal> {
    optional(request, name)?.ok_or_else(|| Refusal::rule(format!("{name} should not be empty")))
}

fn optional(request: &Map<String, Value>, name: &str) -> Result<Option<String>, Refusal> {
    match request.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(_) => Err(Refusal::rule(format!("{name} must be a string"))),
    }
}

async fn read_file(sandbox: &Sandbox, form: &str, file: &Map<String, Value>) -> Result<File, Refusal> {
    only(file, &["mimetype", "filename", "url", "data"], "file.")?;
    let mime_type = needed(file, "mimetype")?;
    let filename = optional(file, "filename")?;
    match (optional(file, "url")?, optional(file, "data")?) {
        (Some(url), None) => {
            if form == "voice" && filename.is_some() {
                return Err(Refusal::rule("property file.filename should not exist"));
            }
            let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let url = url.ok_or_else(|| Refusal::rule("file.url must be a URL address"))?;
            let fetched = sandbox.inner.fetcher.get(&url, MAX_BYTES, FETCH_TIMEOUT).await.map_err(
                |error| match error {
                    FetchError::TooLarge => Refusal::exception("maxContentLength size exceeded"),
                    FetchError::Failed(_) => Refusal::exception("Request failed with status code 404"),
                },
            )?;
            Ok(File { mime_type, filename, bytes: fetched.bytes, by: "with a link that WAHA fetched," })
        }
        (None, Some(data)) => {
            let bytes = decode(&data).ok_or_else(|| Refusal::rule("file.data must be base64 encoded"))?;
            Ok(File { mime_type, filename, bytes: bytes.into(), by: "with the file as base64," })
        }
        _ => Err(Refusal::rule("file must have either url or data")),
    }
}

/// The request without the file, which is in the ledger as audio.
fn shown(request: &Map<String, Value>) -> Value {
    let mut shown = Value::Object(request.clone());
    if let Some(data) = shown["file"]["data"].as_str() {
        shown["file"]["data"] = json!(format!("({} characters)", data.len()));
    }
    shown
}

/// The answer of each engine: <https://github.com/devlikeapro/waha/tree/core/src/core/engines>.
fn answer(engine: &str, form: &str, chat: &str, raw: &str) -> Value {
    let serialized = format!("true_{chat}_{raw}");
    let seconds = state::clock().as_second();
    let kind = match form {
        "voice" => "ptt",
        "file" => "document",
        _ => "chat",
    };
    match engine {
        "NOWEB" => json!({
            "key": { "remoteJid": chat.replace("@c.us", "@s.whatsapp.net"), "fromMe": true, "id": raw },
            "messageTimestamp": seconds.to_string(),
            "status": "PENDING",
        }),
        "GOWS" => json!({ "id": serialized, "_data": { "id": raw, "timestamp": seconds } }),
        "WPP" => json!({ "id": serialized, "ack": 0, "from": ME, "to": chat, "fromMe": true, "type": kind }),
        _ => {
            let id = json!({ "fromMe": true, "remote": chat, "id": raw, "_serialized": serialized });
            json!({
                "_data": { "id": id, "type": kind, "ack": 0 },
                "id": id,
                "ack": 0,
                "hasMedia": form != "text",
                "type": kind,
                "timestamp": seconds,
                "from": ME,
                "to": chat,
                "fromMe": true,
            })
        }
    }
}
