//! `POST /channels/{channel}/messages`: <https://docs.discord.com/developers/resources/message#create-message>.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::places::{BOT, BUCKET, Memory, NO_VOICE};
use super::{DiscordError, authenticate};
use crate::audio::{self, AudioInfo, Kind};
use crate::form::{self, Part};
use crate::ledger::{LedgerEntry, redact};
use crate::{Sandbox, state};

const IS_VOICE_MESSAGE: u64 = 1 << 13;
const MAX_BYTES: usize = 10 * 1024 * 1024;
const MAX_TEXT: usize = 2000;
const MAX_WAVEFORM: usize = 400;
const MOST_POINTS: usize = 256;
const MAX_NONCE: usize = 25;

/// "The past few minutes".
const NONCE_KEPT: SignedDuration = SignedDuration::from_mins(3);

/// An incoming message.
struct Request {
    message: Value,
    file: Option<Part>,
}

pub async fn create(
    State(sandbox): State<Sandbox>,
    Path(channel): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, DiscordError> {
    authenticate(&headers)?;
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let request = read(&kind, body).await?;
    let now = state::clock();
    let (entry, bytes, message, bucket) = {
        let mut state = sandbox.inner.lock();
        let memory = state.own::<Memory>();
        let name = memory.find(&channel)?;
        let bucket = memory.take(&channel, now)?;
        let is_voice = judge(&request, &channel)?;
        let nonce = nonce(&request.message)?;
        if let Some((since, message)) = nonce.as_ref().and_then(|nonce| memory.nonces.get(nonce))
            && now.duration_since(*since) < NONCE_KEPT
        {
            // It is shown already.
            return Ok(with_bucket(message.clone(), bucket, now));
        }
        let id = memory.next_id();
        let info = request.file.as_ref().map(|file| audio::describe(&file.bytes));
        let message = message(&request, &channel, &id, is_voice);
        if let Some(nonce) = nonce {
            memory.nonces.insert(nonce, (now, message.clone()));
        }
        let bytes = request.file.as_ref().map(|file| file.bytes.clone());
        (entry(request, (&channel, name), id, info, is_voice), bytes, message, bucket)
    };
    let entry = LedgerEntry { request: redact(&entry.request, &sandbox.secrets()), ..entry };
    sandbox.inner.deliver(entry, bytes);
    Ok(with_bucket(message, bucket, now))
}

/// A form with `payload_json` and files, or JSON alone.
async fn read(kind: &str, body: Bytes) -> Result<Request, DiscordError> {
    let json = |text: &[u8]| {
        serde_json::from_slice::<Value>(text)
            .map_err(|_| DiscordError::new(400, 50_109, "The request body contains invalid JSON."))
    };
    if !kind.starts_with("multipart/form-data") {
        return Ok(Request { message: json(&body)?, file: None });
    }
    let parts = form::parts(kind, body).await;
    let parts = parts.ok_or_else(|| DiscordError::new(400, 50_035, "Invalid Form Body"))?;
    let message = parts.iter().find(|part| part.name == "payload_json").map(|part| json(&part.bytes));
    let file = parts.into_iter().find(|part| part.name == "files[0]");
    Ok(Request { message: message.transpose()?.unwrap_or_else(|| json!({})), file })
}

/// Whether it is a voice message, and as it has to be.
fn judge(request: &Request, channel: &str) -> Result<bool, DiscordError> {
    let Request { message, file } = request;
    let attachments = message["attachments"].as_array().map(Vec::as_slice).unwrap_or_default();
    let content = message["content"].as_str().unwrap_or_default();
    if content.chars().count() > MAX_TEXT {
        return Err(DiscordError::field(
            "content",
            "BASE_TYPE_MAX_LENGTH",
            "Must be 2000 or fewer in length.",
        ));
    }
    if let Some(id) = message["message_reference"].get("message_id")
        && !id.as_str().is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(DiscordError::field(
            "message_reference",
            "NUMBER_TYPE_COERCE",
            "Value is not snowflake.",
        ));
    }
    if file.as_ref().is_some_and(|file| file.bytes.len() > MAX_BYTES) {
        return Err(DiscordError::usual(413, None));
    }
    let is_voice = message["flags"].as_u64().is_some_and(|flags| flags & IS_VOICE_MESSAGE != 0);
    if !is_voice {
        if content.is_empty() && file.is_none() {
            return Err(DiscordError::new(400, 50_006, "Cannot send an empty message"));
        }
        return Ok(false);
    }
    if channel == NO_VOICE {
        return Err(DiscordError::new(403, 50_173, "Cannot send voice messages in this channel."));
    }
    if !content.is_empty() || !message["embeds"].is_null() || !message["components"].is_null() {
        return Err(DiscordError::new(400, 50_159, "Voice messages do not support additional content."));
    }
    let audio = |file: &Part| file.mime_type.as_deref().is_some_and(|kind| kind.starts_with("audio/"));
    let ([attachment], Some(file)) = (attachments, file.as_ref()) else {
        return Err(DiscordError::new(400, 50_160, "Voice messages must have a single audio attachment."));
    };
    // The metadata of a part that is no audio by its type is ignored.
    let duration = attachment["duration_secs"].as_f64().filter(|_| audio(file));
    let waveform = attachment["waveform"].as_str().filter(|_| audio(file));
    if waveform.is_some_and(|text| text.len() > MAX_WAVEFORM || BASE64_STANDARD.decode(text).is_err()) {
        return Err(DiscordError::field(
            "attachments",
            "BASE_TYPE_MAX_LENGTH",
            "Must be 400 or fewer in length.",
        ));
    }
    if duration.is_none() || waveform.is_none_or(str::is_empty) {
        return Err(DiscordError::new(400, 50_161, "Voice messages must have supporting metadata."));
    }
    Ok(true)
}

/// The nonce, where it is to be enforced.
fn nonce(message: &Value) -> Result<Option<String>, DiscordError> {
    let text = match &message["nonce"] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Ok(None),
    };
    if text.len() > MAX_NONCE {
        return Err(DiscordError::field(
            "nonce",
            "NONCE_TYPE_TOO_LONG",
            "Nonce must be 25 or fewer in length.",
        ));
    }
    Ok((message["enforce_nonce"] == true).then_some(text))
}

/// Discord's answer.
fn message(request: &Request, channel: &str, id: &str, is_voice: bool) -> Value {
    let mut message = json!({
        "type": 0,
        "content": request.message["content"].as_str().unwrap_or_default(),
        "mentions": [],
        "mention_roles": [],
        "attachments": [],
        "embeds": [],
        "timestamp": state::now(),
        "edited_timestamp": null,
        "flags": if is_voice { IS_VOICE_MESSAGE } else { 0 },
        "components": [],
        "id": id,
        "channel_id": channel,
        "author": {
            "id": BOT, "username": "voicegate-sandbox", "avatar": null, "discriminator": "0001", "public_flags": 0,
            "flags": 0, "bot": true, "global_name": null, "primary_guild": null,
        },
        "pinned": false,
        "mention_everyone": false,
        "tts": false,
    });
    if !request.message["nonce"].is_null() {
        message["nonce"] = request.message["nonce"].clone();
    }
    if let Some(answered) = request.message["message_reference"]["message_id"].as_str() {
        message["message_reference"] = json!({"type": 0, "channel_id": channel, "message_id": answered});
    }
    if let Some(file) = &request.file {
        let name = file.filename.as_deref().unwrap_or("unknown");
        let given = &request.message["attachments"][0];
        let mut attachment = json!({
            "id": (id.parse::<u64>().unwrap_or_default() + 1_000_000).to_string(),
            "filename": name,
            "size": file.bytes.len(),
            "url": format!("https://cdn.discordapp.com/attachments/{channel}/{id}/{name}"),
            "proxy_url": format!("https://media.discordapp.net/attachments/{channel}/{id}/{name}"),
            "content_type": file.mime_type,
        });
        if is_voice {
            attachment["duration_secs"] = given["duration_secs"].clone();
            attachment["waveform"] = given["waveform"].clone();
        }
        message["attachments"] = json!([attachment]);
    }
    message
}

/// <https://docs.discord.com/developers/topics/rate-limits#header-format>
fn with_bucket(message: Value, (left, wait_ms): (u32, i64), now: Timestamp) -> Response {
    let mut response = Json(message).into_response();
    let after = format!("{}.{:03}", wait_ms / 1000, wait_ms % 1000);
    let reset = now.as_millisecond() + wait_ms;
    for (name, value) in [
        ("x-ratelimit-bucket", "80c17d2f203122d936070c88c8d10f33".to_owned()),
        ("x-ratelimit-limit", BUCKET.0.to_string()),
        ("x-ratelimit-remaining", left.to_string()),
        ("x-ratelimit-reset-after", after),
        ("x-ratelimit-reset", format!("{}.{:03}", reset / 1000, reset % 1000)),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn entry(
    request: Request,
    (channel, name): (&str, &str),
    message_id: String,
    info: Option<AudioInfo>,
    is_voice: bool,
) -> LedgerEntry {
    let Request { message, file } = request;
    let problems = match (&file, &info) {
        (Some(file), Some(info)) => problems(&message["attachments"][0], file, info, is_voice),
        _ => Vec::new(),
    };
    LedgerEntry {
        id: Uuid::new_v4(),
        provider: "discord",
        at: state::now(),
        conversation: channel.to_owned(),
        to: vec![name.to_owned()],
        message_id,
        form: match (&file, is_voice) {
            (Some(_), true) => "voice",
            (Some(_), false) => "audio",
            (None, _) => "text",
        },
        service: None,
        via: "POST /channels/CHANNEL/messages".to_owned(),
        filename: file.as_ref().and_then(|file| file.filename.clone()),
        mime_type: file.as_ref().and_then(|file| file.mime_type.clone()),
        size_bytes: file.as_ref().map_or(0, |file| file.bytes.len()),
        sha256: file.as_ref().map(|file| hex::encode(Sha256::digest(&file.bytes))),
        audio: info,
        text: message["content"].as_str().filter(|text| !text.is_empty()).map(str::to_owned),
        problems,
        reply_to: message["message_reference"]["message_id"].as_str().map(str::to_owned),
        convert: None,
        request: message,
        receipts: Vec::new(),
    }
}

/// Faults that people would notice. Discord draws whatever the request states.
fn problems(attachment: &Value, file: &Part, info: &AudioInfo, is_voice: bool) -> Vec<String> {
    let mut problems = info.faults.clone();
    if !is_voice {
        return problems;
    }
    if info.kind != Kind::Ogg || info.codec.as_deref() != Some("opus") {
        problems.push(format!("Clients send Ogg with Opus; this is {}.", info.short()));
    }
    // A player goes by the rate in the header: https://github.com/openclaw/openclaw/pull/32298
    if info.channels.is_some_and(|channels| channels != 1) {
        problems.push("Voice messages have one channel.".into());
    }
    if file.mime_type.as_deref() != Some("audio/ogg") {
        problems.push(format!("The part is named {:?}; clients write audio/ogg.", file.mime_type));
    }
    let said_ms = attachment["duration_secs"].as_f64().unwrap_or_default() * 1000.0;
    if let Some(real) = info.duration_ms.and_then(|real| u32::try_from(real).ok())
        && (said_ms - f64::from(real)).abs() > 500.0
    {
        problems.push(format!("The request says {said_ms} ms; the sound has {real} ms."));
    }
    let points =
        BASE64_STANDARD.decode(attachment["waveform"].as_str().unwrap_or_default()).unwrap_or_default();
    let most = (said_ms / 100.0).max(1.0);
    if points.len() > MOST_POINTS || u32::try_from(points.len()).is_ok_and(|count| f64::from(count) > most) {
        problems.push(format!(
            "The waveform has {} points; clients draw one per 100 ms and at most 256.",
            points.len()
        ));
    }
    if points.len() > 2 && points.iter().all(|point| *point == points[0]) {
        problems.push("The waveform is flat, which is what careless bots send.".into());
    }
    problems
}
