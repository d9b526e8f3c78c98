//! The addresses that Wawp tells of events, <https://api.wawp.net/en/docs/v2/session/webhook> and
//! <https://api.wawp.net/en/docs/v2/webhook/set>, and what it tells them. The payload is that of WAHA, on which Wawp is
//! built: <https://waha.devlike.pro/docs/how-to/events/>. Nothing is signed; the vendor advises a secret in the URL.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use super::{WawpError, authenticate, report_leak};
use crate::Sandbox;
use crate::faults::Provider;
use crate::hooks::{self, Outgoing};
use crate::inbound::{MediaFault, Note};
use crate::ledger::LedgerEntry;
use crate::receipts::{ReceiptStatus, ReceiptStep};
use crate::state::clock;
use crate::whatsapp::{ME, raw_part};

/// The address of the dashboard, according to the vendor's pages.
const EVENTS: &[&str] = &[
    "session.status",
    "message",
    "message.any",
    "message.ack",
    "message.ack.group",
    "message.waiting",
    "message.revoked",
    "message.edited",
    "message.reaction",
    "poll.vote",
    "poll.vote.failed",
    "group.v2.join",
    "group.v2.leave",
    "group.v2.update",
    "group.v2.participants",
    "presence.update",
    "call.received",
    "call.accepted",
    "call.rejected",
    "label.upsert",
    "label.deleted",
    "label.chat.added",
    "label.chat.deleted",
    "chat.archive",
    "event.response",
    "event.response.failed",
    "engine.event",
];

#[derive(Clone, Serialize)]
pub(crate) struct Hook {
    url: Url,
    events: Vec<String>,
    is_active: u8,
}

/// `GET` lists, `POST` replaces the whole list.
pub(super) async fn session_webhook(
    State(sandbox): State<Sandbox>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, WawpError> {
    let query = uri.query().unwrap_or_default();
    if query.contains("access_token") {
        report_leak(&sandbox, &method, uri.path(), query);
        return Err(WawpError::bad("voicegate sandbox: send the token in the access-token header"));
    }
    match method {
        Method::GET => {
            let header = headers.get("access-token").and_then(|value| value.to_str().ok());
            let instance =
                url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "instance_id");
            let credentials = json!({ "access_token": header, "instance_id": instance.map(|(_, id)| id) });
            authenticate(&sandbox, &json_headers(), credentials.to_string().as_bytes())?;
        }
        Method::POST => {
            let request = authenticate(&sandbox, &headers, &body)?;
            only(&request, &["webhooks"])?;
            let list = request.get("webhooks").and_then(Value::as_array);
            let list = list.ok_or_else(|| WawpError::bad("Missing parameter(s): webhooks"))?;
            let hooks: Result<Vec<Hook>, WawpError> = list.iter().map(read).collect();
            sandbox.inner.lock().hooks = hooks?;
        }
        _ => return Err(WawpError::new(405, "method_not_allowed", "Use GET or POST")),
    }
    Ok(Json(listed(&sandbox)))
}

/// Adds one address, or changes it.
pub(super) async fn set(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, WawpError> {
    let request = authenticate(&sandbox, &headers, &body)?;
    only(&request, &["url", "events", "is_active", "retries", "hmac", "name"])?;
    let hook = read(&Value::Object(request))?;
    let mut state = sandbox.inner.lock();
    match state.hooks.iter_mut().find(|known| known.url == hook.url) {
        Some(known) => *known = hook,
        None => state.hooks.push(hook),
    }
    drop(state);
    Ok(Json(listed(&sandbox)))
}

pub(super) async fn delete(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, WawpError> {
    let request = authenticate(&sandbox, &headers, &body)?;
    only(&request, &["url"])?;
    let url = request.get("url").and_then(Value::as_str).unwrap_or_default();
    let mut state = sandbox.inner.lock();
    let before = state.hooks.len();
    state.hooks.retain(|known| known.url.as_str() != url);
    if state.hooks.len() == before {
        return Err(WawpError::new(404, "webhook_not_found", "There is no such webhook"));
    }
    drop(state);
    Ok(Json(listed(&sandbox)))
}

fn listed(sandbox: &Sandbox) -> Value {
    let system =
        json!({ "url": "https://app.wawp.net/api/webhook/sandbox", "events": ["message"], "is_active": 1 });
    json!({ "success": true, "webhooks": sandbox.inner.lock().hooks, "systemConfig": system })
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(
        axum::http::header::CONTENT_TYPE,
        axum::http::HeaderValue::from_static("application/json"),
    )])
}

fn only(request: &Map<String, Value>, allowed: &[&str]) -> Result<(), WawpError> {
    let known = |name: &&String| {
        matches!(name.as_str(), "instance_id" | "access_token") || allowed.contains(&name.as_str())
    };
    match request.keys().find(|name| !known(name)) {
        Some(name) => Err(WawpError::bad(format!("Unknown parameter: {name}"))),
        None => Ok(()),
    }
}

fn read(hook: &Value) -> Result<Hook, WawpError> {
    let url = hook["url"].as_str().and_then(hooks::target).ok_or_else(|| {
        WawpError::bad(
            "url must be a publicly accessible HTTPS URL (voicegate sandbox: or plain http to this machine)",
        )
    })?;
    let known = |value: &Value| value.as_str().filter(|name| EVENTS.contains(name)).map(str::to_owned);
    let events: Option<Vec<String>> =
        hook["events"].as_array().and_then(|all| all.iter().map(known).collect());
    let events = events.filter(|events| !events.is_empty());
    let is_active = match &hook["is_active"] {
        Value::Null => 1,
        Value::Bool(active) => u8::from(*active),
        Value::Number(number) if number.as_u64() == Some(0) => 0,
        Value::Number(number) if number.as_u64() == Some(1) => 1,
        _ => return Err(WawpError::bad("is_active must be 0 or 1")),
    };
    Ok(Hook {
        url,
        events: events.ok_or_else(|| WawpError::bad("events must be a list of known events"))?,
        is_active,
    })
}

/// Requests to the addresses about a message.
pub(crate) fn acks(sandbox: &Sandbox, entry: &LedgerEntry, step: &ReceiptStep) -> Vec<Outgoing> {
    let (ack, name) = match step.status {
        ReceiptStatus::Failed => (-1, "ERROR"),
        ReceiptStatus::Accepted => (0, "PENDING"),
        ReceiptStatus::Sent => (1, "SERVER"),
        ReceiptStatus::Delivered => (2, "DEVICE"),
        ReceiptStatus::Read => (3, "READ"),
        ReceiptStatus::Played => (4, "PLAYED"),
    };
    // In groups, each member's receipt is reported, with the member behind the message's id.
    let member = (entry.conversation.ends_with("@g.us") && ack > 2).then_some("15550009999@c.us");
    let event = if member.is_some() { "message.ack.group" } else { "message.ack" };
    let id =
        member.map_or_else(|| entry.message_id.clone(), |member| format!("{}_{member}", entry.message_id));
    let event_id = format!("evt_{}", &Uuid::new_v4().simple().to_string()[..26]);
    let body = json!({
        "id": event_id,
        "timestamp": clock().as_millisecond(),
        "event": event,
        "session": sandbox.inner.options.wawp_instance_id,
        "me": { "id": ME, "pushName": "Sandbox" },
        "payload": {
            "id": id,
            "from": ME,
            "to": entry.conversation,
            "participant": member,
            "fromMe": true,
            "ack": ack,
            "ackName": name,
            "_data": {},
        },
        "engine": "WEBJS",
        "environment": { "version": "2026.7.1", "engine": "WEBJS", "tier": "PLUS", "browser": "/usr/bin/chromium" },
    });
    outgoing(sandbox, event, &event_id, &entry.message_id, &body.to_string())
}

/// Requests to the addresses that want an event.
fn outgoing(
    sandbox: &Sandbox,
    event: &'static str,
    event_id: &str,
    message_id: &str,
    body: &str,
) -> Vec<Outgoing> {
    let state = sandbox.inner.lock();
    let wanting = state
        .hooks
        .iter()
        .filter(|hook| hook.is_active == 1 && hook.events.iter().any(|wanted| wanted == event));
    let outgoing = wanting.map(|hook| Outgoing {
        provider: Provider::WAWP,
        event,
        event_id: event_id.to_owned(),
        message_id: message_id.to_owned(),
        url: hook.url.clone(),
        body: body.to_owned(),
        signer: None,
    });
    outgoing.collect()
}

/// Requests about a message that a person wrote. Our own messages are in the event for all messages alone.
pub(super) fn messages(sandbox: &Sandbox, note: &Note) -> Vec<Outgoing> {
    let sender = format!("{}@c.us", note.digits());
    let chat = &note.conversation;
    let (from, to) = if note.own { (ME, chat.as_str()) } else { (chat.as_str(), ME) };
    let url = note.link(format!("https://files.wawp.example/api/files/{}", note.filename()));
    let quoted = note.reply_to.as_deref().map(raw_part);
    let bucket = matches!(note.media, MediaFault::Elsewhere { .. })
        .then(|| json!({ "Bucket": "wawp", "Key": note.filename() }));
    let events = if note.own { &["message.any"][..] } else { &["message", "message.any"] };
    let told = |event: &&'static str| {
        let event_id = format!("evt_{}", &Uuid::new_v4().simple().to_string()[..26]);
        let body = json!({
            "id": event_id,
            "timestamp": clock().as_millisecond(),
            "event": event,
            "session": sandbox.inner.options.wawp_instance_id,
            "me": { "id": ME, "pushName": "Sandbox" },
            "payload": {
                "id": note.message_id,
                "timestamp": note.at.as_second(),
                "from": from,
                "fromMe": note.own,
                "source": "app",
                "to": to,
                "participant": note.group.as_ref().map(|_| &sender),
                "body": "",
                "hasMedia": true,
                "media": { "url": url, "mimetype": note.mime_type, "filename": null, "s3": bucket },
                "replyTo": quoted.map(|raw| json!({ "id": raw, "participant": ME, "hasMedia": true })),
                "_data": { "type": if note.is_voice { "ptt" } else { "audio" }, "notifyName": note.sender_name },
            },
            "engine": "WEBJS",
            "environment": { "version": "2026.7.1", "engine": "WEBJS", "tier": "PLUS", "browser": "/usr/bin/chromium" },
        });
        outgoing(sandbox, event, &event_id, &note.message_id, &body.to_string())
    };
    events.iter().flat_map(told).collect()
}

/// A file, for whoever has the token.
pub(super) async fn file(
    State(sandbox): State<Sandbox>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let token = headers.get("access-token").and_then(|value| value.to_str().ok());
    if token != Some(&sandbox.inner.options.wawp_access_token) {
        return WawpError::new(401, "invalid_token", "Invalid access_token").into_response();
    }
    match sandbox.inbound_note("wawp", |note| note.filename() == name).filter(|note| !note.is_expired()) {
        Some(note) => note.file().await,
        None => WawpError::new(404, "file_not_found", "There is no such file").into_response(),
    }
}
