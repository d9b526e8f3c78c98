//! `/v3/webhook-subscriptions`, and the events that go there: <https://docs.linqapp.com/guides/webhooks/>.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use url::Url;
use uuid::Uuid;

use super::{Chat, LinqError, is_e164, object};
use crate::Sandbox;
use crate::faults::Provider;
use crate::hooks::{self, Outgoing, Signer};
use crate::ledger::LedgerEntry;
use crate::receipts::{ReceiptStatus, ReceiptStep};
use crate::state;

/// The schema's `WebhookEventType`.
const EVENTS: &[&str] = &[
    "message.sent",
    "message.received",
    "message.read",
    "message.delivered",
    "message.failed",
    "message.edited",
    "reaction.added",
    "reaction.removed",
    "participant.added",
    "participant.removed",
    "chat.created",
    "chat.group_name_updated",
    "chat.group_icon_updated",
    "chat.group_name_update_failed",
    "chat.group_icon_update_failed",
    "chat.background_updated",
    "chat.typing_indicator.started",
    "chat.typing_indicator.stopped",
    "phone_number.status_updated",
    "call.initiated",
    "call.ringing",
    "call.answered",
    "call.ended",
    "call.failed",
    "call.declined",
    "call.no_answer",
    "location.sharing.started",
    "location.sharing.stopped",
    "payment.succeeded",
    "payment.canceled",
    "payment.expired",
    "payment.declined",
    "payment.authorized",
    "connection.created",
    "connection.revoked",
];

/// The newest first: what a subscription of today has without `?version=`.
pub(super) const VERSIONS: [&str; 2] = ["2026-02-03", "2025-01-01"];

#[derive(Clone)]
pub(crate) struct Subscription {
    id: String,
    target_url: Url,
    secret: String,
    events: Vec<String>,
    phone_numbers: Option<Vec<String>>,
    is_active: bool,
    created_at: String,
    updated_at: String,
}

impl Subscription {
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "target_url": self.target_url.as_str(),
            "subscribed_events": self.events,
            "phone_numbers": self.phone_numbers,
            "is_active": self.is_active,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        })
    }

    fn wants(&self, event: &str, line: &str) -> bool {
        let lines = self.phone_numbers.as_deref().unwrap_or_default();
        self.is_active
            && self.events.iter().any(|wanted| wanted == event)
            && (lines.is_empty() || lines.iter().any(|wanted| wanted == line))
    }

    fn version(&self) -> &'static str {
        version(&self.target_url).unwrap_or(VERSIONS[0])
    }
}

fn version(url: &Url) -> Option<&'static str> {
    let (_, wanted) = url.query_pairs().find(|(name, _)| name == "version")?;
    VERSIONS.into_iter().find(|known| *known == wanted)
}

pub(super) async fn events_list() -> Json<Value> {
    Json(json!({ "events": EVENTS, "doc_url": "https://docs.linqapp.com/guides/webhooks/events" }))
}

pub(super) async fn list(State(sandbox): State<Sandbox>) -> Json<Value> {
    let state = sandbox.inner.lock();
    Json(json!({ "subscriptions": state.subscriptions.iter().map(Subscription::json).collect::<Vec<_>>() }))
}

pub(super) async fn create(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), LinqError> {
    let request = object(&headers, &body, &["target_url", "subscribed_events", "phone_numbers"])?;
    let target_url = target_url(&request)?.ok_or_else(|| LinqError::missing("target_url"))?;
    let events = events_of(&request)?.ok_or_else(|| LinqError::missing("subscribed_events"))?;
    let phone_numbers = phone_numbers(&request)?.flatten();
    let mut state = sandbox.inner.lock();
    if state.subscriptions.iter().any(|known| known.target_url == target_url) {
        return Err(LinqError::new(409, 2015, "A subscription with this target_url exists already"));
    }
    let (now, key) = (state::now(), [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat());
    let made = Subscription {
        id: Uuid::new_v4().to_string(),
        target_url,
        secret: format!("whsec_{}", BASE64_STANDARD.encode(key)),
        events,
        phone_numbers,
        is_active: true,
        created_at: now.clone(),
        updated_at: now,
    };
    let mut answer = made.json();
    // Here and never again.
    answer["signing_secret"] = json!(made.secret);
    state.subscriptions.push(made);
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(super) async fn get_one(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<Json<Value>, LinqError> {
    let state = sandbox.inner.lock();
    let found = state.subscriptions.iter().find(|known| known.id == id);
    Ok(Json(found.ok_or_else(not_found)?.json()))
}

pub(super) async fn update(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, LinqError> {
    let allowed = ["target_url", "subscribed_events", "is_active", "phone_numbers"];
    let request = object(&headers, &body, &allowed)?;
    let (target_url, events) = (target_url(&request)?, events_of(&request)?);
    let phone_numbers = phone_numbers(&request)?;
    let is_active = match request.get("is_active") {
        None => None,
        Some(Value::Bool(active)) => Some(*active),
        Some(_) => return Err(LinqError::malformed("is_active must be a boolean")),
    };
    let mut state = sandbox.inner.lock();
    let taken = |known: &Subscription| known.id != id && Some(&known.target_url) == target_url.as_ref();
    if state.subscriptions.iter().any(taken) {
        return Err(LinqError::new(409, 2015, "A subscription with this target_url exists already"));
    }
    let found = state.subscriptions.iter_mut().find(|known| known.id == id).ok_or_else(not_found)?;
    found.target_url = target_url.unwrap_or_else(|| found.target_url.clone());
    found.events = events.unwrap_or_else(|| found.events.clone());
    found.phone_numbers = phone_numbers.unwrap_or_else(|| found.phone_numbers.clone());
    found.is_active = is_active.unwrap_or(found.is_active);
    found.updated_at = state::now();
    Ok(Json(found.json()))
}

pub(super) async fn delete(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<StatusCode, LinqError> {
    let mut state = sandbox.inner.lock();
    let before = state.subscriptions.len();
    state.subscriptions.retain(|known| known.id != id);
    if state.subscriptions.len() < before { Ok(StatusCode::NO_CONTENT) } else { Err(not_found()) }
}

fn not_found() -> LinqError {
    LinqError::new(404, 2010, "Webhook subscription not found")
}

fn bad(why: &str) -> LinqError {
    LinqError::new(400, 1005, why)
}

fn target_url(request: &Map<String, Value>) -> Result<Option<Url>, LinqError> {
    let Some(value) = request.get("target_url") else { return Ok(None) };
    let url = value.as_str().and_then(hooks::target).ok_or_else(|| {
        bad("target_url must be an absolute HTTPS URL (voicegate sandbox: or plain http to this machine)")
    })?;
    if url.query_pairs().any(|(name, _)| name == "version") && version(&url).is_none() {
        return Err(bad("version must be 2026-02-03 or 2025-01-01"));
    }
    Ok(Some(url))
}

fn events_of(request: &Map<String, Value>) -> Result<Option<Vec<String>>, LinqError> {
    let Some(value) = request.get("subscribed_events") else { return Ok(None) };
    let known = |value: &Value| value.as_str().filter(|name| EVENTS.contains(name)).map(str::to_owned);
    let events: Option<Vec<String>> = value.as_array().and_then(|all| all.iter().map(known).collect());
    let events = events.filter(|events| !events.is_empty());
    events.map(Some).ok_or_else(|| bad("subscribed_events must be a list of known events, at least one"))
}

/// `Some(None)`: no filter from now on.
fn phone_numbers(request: &Map<String, Value>) -> Result<Option<Option<Vec<String>>>, LinqError> {
    let known = |value: &Value| value.as_str().filter(|number| is_e164(number)).map(str::to_owned);
    match request.get("phone_numbers") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::Array(all)) => {
            let numbers: Option<Vec<String>> = all.iter().map(known).collect();
            let numbers =
                numbers.ok_or_else(|| LinqError::new(400, 1002, "Phone number must be in E.164 format"))?;
            Ok(Some(Some(numbers).filter(|numbers| !numbers.is_empty())))
        }
        Some(_) => Err(LinqError::malformed("phone_numbers must be an array")),
    }
}

/// Requests to the subscriptions about a message.
pub(crate) fn events(sandbox: &Sandbox, entry: &LedgerEntry, step: &ReceiptStep, at: &str) -> Vec<Outgoing> {
    let event = match step.status {
        ReceiptStatus::Sent => "message.sent",
        ReceiptStatus::Delivered => "message.delivered",
        ReceiptStatus::Read => "message.read",
        ReceiptStatus::Failed => "message.failed",
        ReceiptStatus::Accepted | ReceiptStatus::Played => return Vec::new(),
    };
    let state = sandbox.inner.lock();
    let Some(chat) = state.chats.iter().find(|chat| chat.id.to_string() == entry.conversation) else {
        return Vec::new();
    };
    let message = chat.messages.iter().find(|message| message["id"] == entry.message_id.as_str());
    let message = message.cloned().unwrap_or_default();
    let chat = chat.clone();
    drop(state);
    let event_id = Uuid::new_v4().to_string();
    self::event(sandbox, &chat, event, &event_id, &entry.message_id, at, |version| {
        if step.status == ReceiptStatus::Failed {
            failed(&chat, entry, step.code.unwrap_or(4001), at)
        } else if version == VERSIONS[0] {
            data_2026(&chat, &message)
        } else {
            data_2025(&chat, &message, step.status, at)
        }
    })
}

/// Requests about one event to the subscriptions that want it: one event, however many hear of it. `data` is made for
/// each version.
pub(super) fn event(
    sandbox: &Sandbox,
    chat: &Chat,
    event: &'static str,
    event_id: &str,
    message_id: &str,
    at: &str,
    data: impl Fn(&str) -> Value,
) -> Vec<Outgoing> {
    let trace = Uuid::new_v4().simple().to_string();
    let state = sandbox.inner.lock();
    let wanting = state.subscriptions.iter().filter(|known| known.wants(event, &chat.from));
    let outgoing = wanting.map(|known| {
        let body = json!({
            "api_version": "v3",
            "webhook_version": known.version(),
            "event_type": event,
            "event_id": event_id,
            "created_at": at,
            "trace_id": trace,
            "partner_id": "sandbox",
            "data": data(known.version()),
        });
        Outgoing {
            provider: Provider::LINQ,
            event,
            event_id: event_id.to_owned(),
            message_id: message_id.to_owned(),
            url: known.target_url.clone(),
            body: body.to_string(),
            signer: Some(Signer {
                secret: known.secret.clone(),
                sign: headers,
                subscription: known.id.clone(),
            }),
        }
    });
    outgoing.collect()
}

fn failed(chat: &Chat, entry: &LedgerEntry, code: u32, at: &str) -> Value {
    let reason = match code {
        3007 => "Request expired before being processed",
        4002 => "Sender line is offline",
        4005 => "Recipient cannot receive this message type",
        _ => "Delivery failed",
    };
    let id = &entry.message_id;
    json!({ "chat_id": chat.id, "message_id": id, "code": code, "reason": reason, "failed_at": at })
}

/// Parts as webhooks have them: without the reactions.
fn parts(message: &Value) -> Value {
    let mut parts = message["parts"].clone();
    for part in parts.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        part.remove("reactions");
    }
    parts
}

fn data_2026(chat: &Chat, message: &Value) -> Value {
    let me = &chat.handles_json()[0];
    json!({
        "chat": { "id": chat.id, "is_group": chat.is_group, "owner_handle": me, "health_status": chat.health_json() },
        "id": message["id"],
        "idempotency_key": null,
        "direction": "outbound",
        "sender_handle": me,
        "parts": parts(message),
        "effect": null,
        "sent_at": message["sent_at"],
        "delivered_at": message["delivered_at"],
        "read_at": message["read_at"],
        "service": message["service"],
        "preferred_service": null,
    })
}

fn data_2025(chat: &Chat, message: &Value, status: ReceiptStatus, at: &str) -> Value {
    let mut data = json!({
        "chat_id": chat.id,
        "from": chat.from,
        "from_handle": chat.handles_json()[0],
        "idempotency_key": null,
        "is_from_me": true,
        "is_group": chat.is_group,
        "message": {
            "id": message["id"],
            "parts": parts(message),
            "is_delivered": message["is_delivered"],
            "is_read": message["is_read"],
            "sent_at": message["sent_at"],
            "delivered_at": message["delivered_at"],
            "read_at": message["read_at"],
            "created_at": message["created_at"],
            "updated_at": message["updated_at"],
        },
        "preferred_service": null,
        "received_at": null,
        "recipient_handle": null,
        "recipient_phone": null,
        "service": message["service"],
    });
    if let Some(name) = match status {
        ReceiptStatus::Delivered => Some("delivered_at"),
        ReceiptStatus::Read => Some("read_at"),
        _ => None,
    } {
        data[name] = json!(at);
        data["message_id"] = message["id"].clone();
    }
    data
}

/// Standard Webhooks, and beside it the older headers, which are still sent.
fn headers(outgoing: &Outgoing, secret: &str) -> Vec<(&'static str, String)> {
    let time = state::clock().as_second().to_string();
    let key = BASE64_STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap_or_default();
    let signed = format!("{}.{time}.{}", outgoing.event_id, outgoing.body);
    let subscription = outgoing.signer.as_ref().map(|signer| signer.subscription.clone());
    vec![
        ("webhook-id", outgoing.event_id.clone()),
        ("webhook-timestamp", time.clone()),
        ("webhook-signature", format!("v1,{}", BASE64_STANDARD.encode(mac(&key, &signed)))),
        ("x-webhook-event", outgoing.event.to_owned()),
        ("x-webhook-subscription-id", subscription.unwrap_or_default()),
        ("x-webhook-signature", hex::encode(mac(secret.as_bytes(), &format!("{time}.{}", outgoing.body)))),
        ("x-webhook-timestamp", time),
    ]
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
