//! `POST /v3/chats/{chatId}/voicememo`: the one request that makes a voice bubble.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::{Chat, LinqError, attachments, chats, object};
use crate::audio::{self, AudioInfo, Kind};
use crate::fetch::{FetchError, is_loopback};
use crate::ledger::{LedgerEntry, redact};
use crate::{Sandbox, state};

/// The documents say "10MB" and nothing finer; the smaller reading is the one that can be relied upon.
pub(super) const MAX_BYTES: usize = 10_000_000;

/// The audio of a request, wherever it came from.
pub(super) struct Memo {
    pub attachment_id: Uuid,
    pub filename: String,
    pub mime_type: String,
    pub url: String,
    pub bytes: Bytes,
    pub audio: AudioInfo,
    pub via: &'static str,
}

pub(super) async fn send(
    State(sandbox): State<Sandbox>,
    Path(chat_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), LinqError> {
    let request = object(&headers, &body, &["voice_memo_url", "attachment_id", "override_optout"])?;
    let text = |name: &str| match request.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(LinqError::malformed(format!("{name} must be a string"))),
    };
    if request.get("override_optout").is_some_and(|value| !value.is_boolean()) {
        return Err(LinqError::malformed("override_optout must be a boolean"));
    }
    let source = (text("voice_memo_url")?, text("attachment_id")?);
    let chat = chats::find(&sandbox, &chat_id)?;
    let memo = match source {
        (None, None) => return Err(LinqError::missing("voice_memo_url or attachment_id")),
        (Some(_), Some(_)) => {
            return Err(LinqError::malformed("Give either voice_memo_url or attachment_id, not both"));
        }
        (Some(url), None) => from_url(&sandbox, url, MAX_BYTES).await?,
        (None, Some(id)) => from_attachment(&sandbox, id)?,
    };
    check(&memo)?;

    let message_id = Uuid::new_v4();
    let now = state::now();
    record(&sandbox, &chat, message_id, &now, memo, Value::Object(request))
}

pub(super) async fn from_url(sandbox: &Sandbox, text: &str, max: usize) -> Result<Memo, LinqError> {
    let url = Url::parse(text).map_err(|_| LinqError::malformed("The URL must be absolute"))?;
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
        return Err(LinqError::malformed("The URL must be a publicly accessible HTTPS URL"));
    }
    let fetched = sandbox.inner.fetcher.get(&url, max, Duration::from_secs(20)).await;
    let fetched = fetched.map_err(|error| match error {
        FetchError::TooLarge => too_large(),
        FetchError::Failed(why) => LinqError::new(500, 5002, format!("Failed to download the file: {why}")),
    })?;
    let segment = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    let filename = if segment.is_empty() { "voice-memo" } else { segment }.to_owned();
    let info = audio::describe(&fetched.bytes);
    if let Some(expected) = Kind::of_extension(&filename)
        && expected != info.kind
    {
        // https://docs.linqapp.com/error/codes/5xxx/5006/
        let message = format!("File content ({}) does not match the URL extension", info.container);
        return Err(LinqError::new(400, 5006, message));
    }
    Ok(Memo {
        attachment_id: Uuid::new_v4(),
        filename,
        mime_type: info.kind.linq_mime().to_owned(),
        url: url.into(),
        bytes: fetched.bytes,
        audio: info,
        via: "a link that Linq fetched",
    })
}

pub(super) fn from_attachment(sandbox: &Sandbox, id: &str) -> Result<Memo, LinqError> {
    let id = super::uuid(id)?;
    let attachment = sandbox.inner.lock().attachments.get(&id).cloned();
    let attachment = attachment.ok_or_else(attachments::not_found)?;
    let bytes = attachment.bytes.ok_or_else(attachments::not_found)?;
    Ok(Memo {
        attachment_id: id,
        filename: attachment.filename,
        mime_type: attachment.content_type,
        url: attachment.download_url,
        audio: audio::describe(&bytes),
        bytes,
        via: "an uploaded attachment",
    })
}

fn too_large() -> LinqError {
    LinqError::new(413, 5001, "Voice memo file too large - maximum size is 10MB")
}

/// The bytes decide, and must be what was declared.
fn check(memo: &Memo) -> Result<(), LinqError> {
    if memo.bytes.len() > MAX_BYTES {
        return Err(too_large());
    }
    if !memo.audio.kind.is_linq_voice() {
        let message = format!("Voice memo format not supported: {}", memo.audio.container);
        return Err(LinqError::new(400, 5004, message));
    }
    if Kind::of_mime(&memo.mime_type) != Some(memo.audio.kind) {
        let message = format!("File content ({}) does not match {}", memo.audio.container, memo.mime_type);
        return Err(LinqError::new(400, 5006, message));
    }
    Ok(())
}

fn record(
    sandbox: &Sandbox,
    chat: &Chat,
    message_id: Uuid,
    now: &str,
    memo: Memo,
    request: Value,
) -> Result<(StatusCode, Json<Value>), LinqError> {
    let answer = json!({ "voice_memo": {
        "id": message_id,
        "from": chat.from,
        "to": chat.handles,
        "status": "queued",
        "service": chat.service_json(),
        "voice_memo": {
            "id": memo.attachment_id,
            "filename": memo.filename,
            "mime_type": memo.mime_type,
            "size_bytes": memo.bytes.len(),
            "url": memo.url,
            "duration_ms": memo.audio.duration_ms,
        },
        "created_at": now,
        "chat": {
            "id": chat.id,
            "handles": chat.handles_json(),
            "is_group": chat.is_group,
            "service": chat.service_json(),
            "is_active": true,
        },
    } });
    let part = media_part(&memo);
    let mut entry = entry(sandbox, chat, message_id, now, Some(&memo), request);
    entry.form = chat.voice_form();
    entry.via = format!("POST /v3/chats/{{id}}/voicememo with {}", memo.via);
    let message = super::messages::sent_message(message_id, chat, now, vec![part]);
    super::messages::remember(sandbox, chat.id, &message, now);
    sandbox.inner.deliver(entry.clone(), Some(memo.bytes));
    sandbox.follow(&entry, chat.is_group);
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

pub(super) fn media_part(memo: &Memo) -> Value {
    json!({
        "type": "media",
        "id": memo.attachment_id,
        "url": memo.url,
        "filename": memo.filename,
        "mime_type": memo.mime_type,
        "size_bytes": memo.bytes.len(),
        "reactions": [],
    })
}

/// The common part of a ledger entry; `form`, `via` and `text` are the caller's.
pub(super) fn entry(
    sandbox: &Sandbox,
    chat: &Chat,
    message_id: Uuid,
    now: &str,
    memo: Option<&Memo>,
    request: Value,
) -> LedgerEntry {
    let audio = memo.map(|memo| memo.audio.clone());
    LedgerEntry {
        id: Uuid::new_v4(),
        provider: "linq",
        at: now.to_owned(),
        conversation: chat.id.to_string(),
        to: chat.handles.clone(),
        message_id: message_id.to_string(),
        form: "text",
        service: chat.service.map(chats::Service::name),
        via: String::new(),
        filename: memo.map(|memo| memo.filename.clone()),
        mime_type: memo.map(|memo| memo.mime_type.clone()),
        size_bytes: memo.map_or(0, |memo| memo.bytes.len()),
        sha256: memo.map(|memo| hex::encode(Sha256::digest(&memo.bytes))),
        problems: audio.as_ref().map(AudioInfo::linq_problems).unwrap_or_default(),
        audio,
        text: None,
        reply_to: None,
        convert: None,
        request: redact(&request, &sandbox.secrets()),
        receipts: Vec::new(),
    }
}
