//! Ordinary messages: what opens a chat, and how audio travels where no bubble is possible.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::voicememo::{self, Memo};
use super::{Chat, LinqError, NewChat, Service, chats, is_e164, is_handle, object, only};
use crate::{Sandbox, state};

type Answer = Result<(StatusCode, Json<Value>), LinqError>;

/// Media parts by URL are for the general 100 MB limit; the memo's 10 MB does not apply.
const MAX_MEDIA: usize = 104_857_600;

/// A validated `MessageContent`.
struct Content {
    text: Option<String>,
    memo: Option<Memo>,
    parts: Vec<Value>,
    idempotency_key: Option<String>,
}

/// `POST /v3/messages`: Linq picks the line and the chat.
pub(super) async fn send(State(sandbox): State<Sandbox>, headers: HeaderMap, body: Bytes) -> Answer {
    let allowed = ["to", "message", "exclude_from", "continuation_message", "override_optout"];
    let request = object(&headers, &body, &allowed)?;
    let to = recipients(&request)?;
    let content = content(&sandbox, &request).await?;
    // https://docs.linqapp.com: the header, or `message.idempotency_key`.
    let key = match headers.get("idempotency-key") {
        Some(value) => Some(value.to_str().unwrap_or_default().to_owned()),
        None => content.idempotency_key.clone(),
    };
    if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > 255) {
        return Err(LinqError::malformed("Idempotency-Key must have 1 to 255 characters"));
    }
    once(&sandbox, key.as_deref(), StatusCode::ACCEPTED, || {
        let from = sandbox.inner.options.linq_from.clone();
        let (chat, created) = open(&sandbox, &from, &to);
        let message = deliver(&sandbox, &chat, content, "POST /v3/messages", request.clone());
        json!({
            "chat_id": chat.id,
            "created_new_chat": created,
            "from": chat.from,
            "from_selection": {
                "reason": if created { "new_best_number" } else { "reused_active_chat" },
                "reused_existing_chat": !created,
            },
            "is_group": chat.is_group,
            "service": chat.service_json(),
            "handles": chat.handles_json(),
            "message": message,
            "previous_chat_id": null,
        })
    })
}

/// `POST /v3/chats`: the same with a line of the caller's choice.
pub(super) async fn create_chat(State(sandbox): State<Sandbox>, headers: HeaderMap, body: Bytes) -> Answer {
    let request = object(&headers, &body, &["from", "to", "message", "override_optout"])?;
    let from = match request.get("from") {
        None => return Err(LinqError::missing("from")),
        Some(Value::String(from)) if is_e164(from) => from.clone(),
        Some(_) => return Err(LinqError::new(400, 1002, "Phone number must be in E.164 format")),
    };
    if from != sandbox.inner.options.linq_from {
        return Err(LinqError::new(403, 2006, "The from number does not belong to your account"));
    }
    let to = recipients(&request)?;
    let content = content(&sandbox, &request).await?;
    let has_link =
        content.text.as_ref().is_some_and(|text| text.contains("http://") || text.contains("https://"));
    let is_new = existing(&sandbox, &from, &to).is_none();
    if is_new && (has_link || content.parts.iter().any(|part| part["type"] == "link")) {
        return Err(LinqError::new(400, 1005, "The first message of a chat cannot contain a link"));
    }
    let key = content.idempotency_key.clone();
    once(&sandbox, key.as_deref(), StatusCode::CREATED, || {
        let (chat, _) = open(&sandbox, &from, &to);
        let message = deliver(&sandbox, &chat, content, "POST /v3/chats", request.clone());
        json!({ "chat": {
            "id": chat.id,
            "display_name": chat.handles.join(", "),
            "service": chat.service_json(),
            "is_group": chat.is_group,
            "handles": chat.handles_json(),
            "health_status": chat.health_json(),
            "message": message,
        } })
    })
}

/// `POST /v3/chats/{chatId}/messages`.
pub(super) async fn send_to_chat(
    State(sandbox): State<Sandbox>,
    Path(chat_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let request = object(&headers, &body, &["message", "override_optout"])?;
    let chat = chats::find(&sandbox, &chat_id)?;
    let content = content(&sandbox, &request).await?;
    let key = content.idempotency_key.clone();
    once(&sandbox, key.as_deref(), StatusCode::ACCEPTED, || {
        let message = deliver(&sandbox, &chat, content, "POST /v3/chats/{id}/messages", request.clone());
        json!({ "chat_id": chat.id, "message": message })
    })
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

/// `GET /v3/chats/{chatId}/messages`, newest first: how a caller finds out what became of a lost answer.
pub(super) async fn list(
    State(sandbox): State<Sandbox>,
    Path(chat_id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, LinqError> {
    let chat = chats::find(&sandbox, &chat_id)?;
    let limit = chats::page_size(query.limit.as_deref(), 50)?;
    let start = chats::page_start(query.cursor.as_deref())?;
    let end = start.saturating_add(limit);
    let messages: Vec<&Value> = chat.messages.iter().rev().skip(start).take(limit).collect();
    let next_cursor = (end < chat.messages.len()).then(|| end.to_string());
    Ok(Json(json!({ "messages": messages, "next_cursor": next_cursor })))
}

/// The answer first given for this key; else does the work and keeps its answer.
fn once(sandbox: &Sandbox, key: Option<&str>, status: StatusCode, work: impl FnOnce() -> Value) -> Answer {
    let Some(key) = key else { return Ok((status, Json(work()))) };
    // `work` takes the state's lock itself, so the key is claimed before. Whoever comes while the first is at work
    // hears what the vendor says of concurrent creation.
    {
        let mut state = sandbox.inner.lock();
        match state.answers.get(key) {
            Some(Value::Null) => return Err(LinqError::new(409, 2009, "Chat is still being created")),
            Some(answer) => return Ok((status, Json(answer.clone()))),
            None => state.answers.insert(key.to_owned(), Value::Null),
        };
    }
    let answer = work();
    sandbox.inner.lock().answers.insert(key.to_owned(), answer.clone());
    Ok((status, Json(answer)))
}

fn recipients(request: &Map<String, Value>) -> Result<Vec<String>, LinqError> {
    let to = match request.get("to") {
        None => return Err(LinqError::missing("to")),
        Some(Value::Array(to)) if (1..=31).contains(&to.len()) => to,
        Some(_) => return Err(LinqError::malformed("to must be an array of 1 to 31 handles")),
    };
    to.iter()
        .map(|handle| match handle {
            Value::String(handle) if is_handle(handle) => Ok(handle.clone()),
            _ => Err(LinqError::new(400, 1002, "Phone number must be in E.164 format")),
        })
        .collect()
}

async fn content(sandbox: &Sandbox, request: &Map<String, Value>) -> Result<Content, LinqError> {
    let message = match request.get("message") {
        None => return Err(LinqError::missing("message")),
        Some(Value::Object(message)) => message,
        Some(_) => return Err(LinqError::malformed("message must be an object")),
    };
    only(message, &["parts", "effect", "reply_to", "idempotency_key", "preferred_service"])?;
    let idempotency_key = match message.get("idempotency_key") {
        None | Some(Value::Null) => None,
        Some(Value::String(key)) if (1..=255).contains(&key.len()) => Some(key.clone()),
        Some(_) => return Err(LinqError::malformed("idempotency_key must have 1 to 255 characters")),
    };
    if let Some(service) = message.get("preferred_service") {
        serde_json::from_value::<Service>(service.clone())
            .map_err(|_| LinqError::malformed("preferred_service must be iMessage, SMS or RCS"))?;
    }
    let parts = match message.get("parts") {
        None => return Err(LinqError::missing("message.parts")),
        Some(Value::Array(parts)) if (1..=100).contains(&parts.len()) => parts,
        Some(_) => return Err(LinqError::new(400, 1004, "parts must be an array of 1 to 100 parts")),
    };
    let kind = |part: &Value| part.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if parts.windows(2).any(|pair| kind(&pair[0]) == "text" && kind(&pair[1]) == "text") {
        return Err(LinqError::new(400, 1004, "Consecutive text parts are not allowed"));
    }
    if parts.len() > 1 && parts.iter().any(|part| kind(part) == "link") {
        return Err(LinqError::new(400, 1004, "A link part must be the only part"));
    }
    let mut content = Content { text: None, memo: None, parts: Vec::new(), idempotency_key };
    for part in parts {
        let Value::Object(part) = part else {
            return Err(LinqError::new(400, 1004, "A part must be an object"));
        };
        add_part(sandbox, &mut content, part).await?;
    }
    Ok(content)
}

async fn add_part(
    sandbox: &Sandbox,
    content: &mut Content,
    part: &Map<String, Value>,
) -> Result<(), LinqError> {
    let bad = |why: &str| LinqError::new(400, 1004, why);
    let text = |name: &str| part.get(name).and_then(Value::as_str);
    match text("type") {
        Some(kind @ ("text" | "link")) => {
            only(part, &["type", "value", "text_decorations"])?;
            let value = text("value").filter(|value| (1..=10_000).contains(&value.chars().count()));
            let value = value.ok_or_else(|| bad("A text part needs a value of 1 to 10000 characters"))?;
            content.text =
                Some(content.text.take().map_or(value.to_owned(), |text| format!("{text}\n{value}")));
            content.parts.push(json!({ "type": kind, "value": value, "reactions": [] }));
        }
        Some("media") => {
            only(part, &["type", "url", "attachment_id"])?;
            let memo = match (text("url"), text("attachment_id")) {
                (Some(url), None) => voicememo::from_url(sandbox, url, MAX_MEDIA).await?,
                (None, Some(id)) => voicememo::from_attachment(sandbox, id)?,
                _ => return Err(bad("A media part needs either url or attachment_id")),
            };
            content.parts.push(voicememo::media_part(&memo));
            // The ledger shows one attachment a message, which is all that a voice gateway sends.
            content.memo.get_or_insert(memo);
        }
        _ => return Err(bad("Unknown part type")),
    }
    Ok(())
}

/// A chat is known by its line and the exact set of handles.
fn existing(sandbox: &Sandbox, from: &str, to: &[String]) -> Option<Chat> {
    let wanted: BTreeSet<&String> = to.iter().collect();
    let state = sandbox.inner.lock();
    let same = |chat: &&Chat| chat.from == from && chat.handles.iter().collect::<BTreeSet<_>>() == wanted;
    state.chats.iter().find(same).cloned()
}

fn open(sandbox: &Sandbox, from: &str, to: &[String]) -> (Chat, bool) {
    if let Some(chat) = existing(sandbox, from, to) {
        return (chat, false);
    }
    let handles: Vec<String> = to.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let is_group = handles.len() > 1;
    let chat = Chat::new(from, NewChat { handles, service: Some(Service::IMessage), is_group, id: None });
    sandbox.inner.lock().chats.push(chat.clone());
    (chat, true)
}

fn deliver(
    sandbox: &Sandbox,
    chat: &Chat,
    content: Content,
    via: &str,
    request: Map<String, Value>,
) -> Value {
    let now = state::now();
    let message_id = Uuid::new_v4();
    let message = sent_message(message_id, chat, &now, content.parts);
    remember(sandbox, chat.id, &message, &now);
    let memo = content.memo.as_ref();
    let mut entry = voicememo::entry(sandbox, chat, message_id, &now, memo, Value::Object(request));
    entry.form = if memo.is_some() { "audio" } else { "text" };
    entry.via = memo.map_or(via.to_owned(), |memo| format!("{via} with {}", memo.via));
    entry.text = content.text;
    sandbox.inner.deliver(entry.clone(), content.memo.map(|memo| memo.bytes));
    sandbox.follow(&entry, chat.is_group);
    message
}

pub(super) fn remember(sandbox: &Sandbox, chat_id: Uuid, message: &Value, now: &str) {
    let mut state = sandbox.inner.lock();
    if let Some(chat) = state.chats.iter_mut().find(|chat| chat.id == chat_id) {
        now.clone_into(&mut chat.updated_at);
        chat.messages.push(listed(chat, message, now));
    }
}

/// The vendor's `Message`, which the list has: a `SentMessage` and where it is.
fn listed(chat: &Chat, sent: &Value, now: &str) -> Value {
    let mut message = sent.clone();
    message["chat_id"] = json!(chat.id);
    message["from"] = json!(chat.from);
    message["from_handle"] = chat.handles_json()[0].clone();
    message["is_from_me"] = json!(true);
    message["is_delivered"] = json!(false);
    message["updated_at"] = json!(now);
    message["read_at"] = Value::Null;
    message
}

/// The vendor's `SentMessage`.
pub(super) fn sent_message(id: Uuid, chat: &Chat, now: &str, parts: Vec<Value>) -> Value {
    json!({
        "id": id,
        "service": chat.service_json(),
        "preferred_service": null,
        "parts": parts,
        "created_at": now,
        "sent_at": null,
        "delivered_at": null,
        "delivery_status": "queued",
        "is_read": false,
        "effect": null,
        "reply_to": null,
    })
}
