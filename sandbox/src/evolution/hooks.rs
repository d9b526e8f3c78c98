//! The one webhook of an instance, and what it is told:
//! <https://github.com/EvolutionAPI/evolution-api/blob/3454bec/src/api/integrations/event/webhook/webhook.controller.ts>.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use url::Url;
use uuid::Uuid;

use super::send::message;
use super::{App, INSTANCE, NAME, Refusal, Registered, authenticate, read};
use crate::faults::Provider;
use crate::hooks::{self, Outgoing, Signer};
use crate::inbound::{MediaFault, Note};
use crate::ledger::LedgerEntry;
use crate::receipts::{ReceiptStatus, ReceiptStep};
use crate::{Sandbox, state, whatsapp};

const EVENTS: &[&str] = &[
    "APPLICATION_STARTUP",
    "QRCODE_UPDATED",
    "MESSAGES_SET",
    "MESSAGES_UPSERT",
    "MESSAGES_EDITED",
    "MESSAGES_UPDATE",
    "MESSAGES_DELETE",
    "SEND_MESSAGE",
    "CONTACTS_UPSERT",
    "PRESENCE_UPDATE",
    "CHATS_UPSERT",
    "GROUPS_UPSERT",
    "CONNECTION_UPDATE",
    "CALL",
];

pub(super) async fn set(
    State(sandbox): App,
    Path(instance): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let request = read(&headers, &instance, &body, &["webhook"])?;
    let asked = request.get("webhook").ok_or_else(|| Refusal::rule("requires property \"webhook\""))?;
    let known = ["enabled", "url", "headers", "byEvents", "base64", "events"];
    let object = asked.as_object().ok_or_else(|| Refusal::rule("webhook is not of a type(s) object"))?;
    if let Some(name) = object.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Refusal::rule(format!("voicegate sandbox: there is no webhook.{name}")));
    }
    let enabled = asked["enabled"].as_bool().ok_or_else(|| Refusal::rule("requires property \"enabled\""))?;
    let url = asked["url"].as_str().ok_or_else(|| Refusal::rule("requires property \"url\""))?;
    if enabled && hooks::target(url).is_none() {
        return Err(Refusal::rule("voicegate sandbox: url must be https, or plain http to this machine"));
    }
    let event = |value: &Value| value.as_str().filter(|event| EVENTS.contains(event)).map(str::to_owned);
    let events: Option<Vec<String>> =
        asked["events"].as_array().and_then(|all| all.iter().map(event).collect());
    let mut events = events.ok_or_else(|| Refusal::rule("webhook.events[0] is not one of enum values"))?;
    if !enabled {
        events.clear();
    } else if events.is_empty() {
        events = EVENTS.iter().map(|event| (*event).to_owned()).collect();
    }
    let row = json!({
        "id": Uuid::new_v4(),
        "url": url,
        "headers": asked["headers"],
        "enabled": enabled,
        "events": events,
        "webhookByEvents": asked["byEvents"].as_bool().unwrap_or(false),
        "webhookBase64": asked["base64"].as_bool().unwrap_or(false),
        "createdAt": state::now(),
        "updatedAt": state::now(),
    });
    sandbox.inner.lock().kept::<Registered>().webhooks.insert(instance, row.clone());
    Ok((StatusCode::CREATED, Json(row)))
}

/// `null` where nothing was set.
pub(super) async fn find(
    State(sandbox): App,
    Path(instance): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    authenticate(&headers, &instance)?;
    Ok(Json(sandbox.inner.lock().kept::<Registered>().webhooks.get(&instance).cloned().unwrap_or_default()))
}

/// Requests to the instance's webhook.
pub(super) fn events(sandbox: &Sandbox, entry: &LedgerEntry, step: &ReceiptStep) -> Vec<Outgoing> {
    let instance = entry.request["instance"].as_str().unwrap_or_default();
    let hook = sandbox.inner.lock().kept::<Registered>().webhooks.get(instance).cloned().unwrap_or_default();
    let status = match step.status {
        ReceiptStatus::Accepted => "PENDING",
        ReceiptStatus::Sent => "SERVER_ACK",
        ReceiptStatus::Delivered => "DELIVERY_ACK",
        ReceiptStatus::Read => "READ",
        ReceiptStatus::Played => "PLAYED",
        ReceiptStatus::Failed => "ERROR",
    };
    let (event, wanted, data) = if step.status == ReceiptStatus::Accepted {
        let file = sandbox.audio(&entry.id).filter(|_| hook["webhookBase64"] == true);
        ("send.message", "SEND_MESSAGE", message(entry, file.as_ref()))
    } else {
        let data = json!({
            "messageId": entry.id,
            "keyId": entry.message_id,
            "remoteJid": entry.conversation,
            "fromMe": true,
            "participant": null,
            "status": status,
            "instanceId": "00000000-0000-4000-8000-000000000000",
        });
        ("messages.update", "MESSAGES_UPDATE", data)
    };
    outgoing(&hook, instance, event, wanted, &data, &entry.message_id)
}

/// The request about one event to an instance's webhook, if it wants it.
fn outgoing(
    hook: &Value,
    instance: &str,
    event: &'static str,
    wanted: &str,
    data: &Value,
    message_id: &str,
) -> Vec<Outgoing> {
    let wants = hook["enabled"] == true
        && hook["events"].as_array().is_some_and(|events| events.iter().any(|one| one == wanted));
    let (Some(provider), Some(mut url)) =
        (Provider::named(NAME), hook["url"].as_str().and_then(|url| Url::parse(url).ok()))
    else {
        return Vec::new();
    };
    if !wants {
        return Vec::new();
    }
    if hook["webhookByEvents"] == true
        && let Ok(mut path) = url.path_segments_mut()
    {
        path.push(&wanted.replace('_', "-").to_lowercase());
    }
    let body = json!({
        "event": event,
        "instance": instance,
        "data": data,
        "destination": hook["url"],
        "date_time": state::now(),
        "sender": "12025550100@s.whatsapp.net",
        "server_url": "http://sandbox.example",
        "apikey": null,
    });
    let key = hook["headers"]["jwt_key"].as_str().map(str::to_owned);
    vec![Outgoing {
        provider,
        event,
        event_id: Uuid::new_v4().to_string(),
        message_id: message_id.to_owned(),
        url,
        body: body.to_string(),
        signer: key.map(|secret| Signer { secret, sign, subscription: String::new() }),
    }]
}

/// The request about a message that a person wrote. With `base64` in the webhook, the file comes along.
pub(super) fn received(sandbox: &Sandbox, note: &Note) -> Vec<Outgoing> {
    let instance = instance_of(note);
    let hook = sandbox.inner.lock().kept::<Registered>().webhooks.get(instance).cloned().unwrap_or_default();
    let linked = |jid: &str| jid.replace("@c.us", "@s.whatsapp.net");
    let person = format!("{}@s.whatsapp.net", note.digits());
    let audio = whatsapp::audio_message(note);
    let mut message = json!({ "audioMessage": audio });
    if hook["webhookBase64"] == true {
        message["base64"] = json!(BASE64_STANDARD.encode(&note.bytes));
    }
    if let MediaFault::Elsewhere { url } = &note.media {
        message["mediaUrl"] = json!(url);
    }
    let mut key =
        json!({ "remoteJid": linked(&note.conversation), "fromMe": note.own, "id": note.message_id });
    if note.group.is_some() {
        key["participant"] = json!(person);
    }
    let data = json!({
        "key": key,
        "pushName": note.sender_name,
        "status": "DELIVERY_ACK",
        "message": message,
        "contextInfo": audio["contextInfo"],
        "messageType": "audioMessage",
        "messageTimestamp": note.at.as_second(),
        "instanceId": "00000000-0000-4000-8000-000000000000",
        "source": "android",
    });
    outgoing(&hook, instance, "messages.upsert", "MESSAGES_UPSERT", &data, &note.message_id)
}

fn instance_of(note: &Note) -> &str {
    if note.account.is_empty() { INSTANCE } else { &note.account }
}

pub(super) fn receive(note: &mut Note) -> Result<(), String> {
    if instance_of(note) != INSTANCE {
        return Err("there is no such instance, or it is not connected".to_owned());
    }
    note.conversation = whatsapp::chat_of(note)?.replace("@c.us", "@s.whatsapp.net");
    note.message_id = note.raw.clone();
    Ok(())
}

/// The file of a message, by the id of its message alone.
pub(super) async fn base64(
    State(sandbox): App,
    Path(instance): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = match read(&headers, &instance, &body, &["message", "convertToMp4"]) {
        Ok(request) => request,
        Err(refusal) => return refusal.into_response(),
    };
    let id = request.get("message").and_then(|message| message["key"]["id"].as_str()).unwrap_or_default();
    let note = sandbox.inbound_note(NAME, |note| instance_of(note) == instance && note.message_id == id);
    let Some(note) = note.filter(|note| !note.is_expired()) else {
        return Refusal::new(400, json!(["Message not found"])).into_response();
    };
    if let MediaFault::Oversize { bytes } = note.media {
        // A file that is too large comes as base64, too.
        let zeros = vec![0; usize::try_from(bytes).unwrap_or_default().min(64 << 20)];
        let whole = [&note.bytes[..], &zeros].concat();
        return (StatusCode::CREATED, Json(file(&note, &whole))).into_response();
    }
    let json = Bytes::from(file(&note, &note.bytes).to_string());
    let mut answer = note.answer(json, "application/json; charset=utf-8").await;
    if answer.status() == StatusCode::OK {
        *answer.status_mut() = StatusCode::CREATED;
    }
    answer
}

fn file(note: &Note, bytes: &[u8]) -> Value {
    json!({
        "mediaType": "audioMessage",
        "fileName": note.filename(),
        "size": { "fileLength": bytes.len().to_string() },
        "mimetype": note.mime_type,
        "base64": BASE64_STANDARD.encode(bytes),
        "buffer": null,
    })
}

/// A token that is good for ten minutes, where the webhook's headers have `jwt_key`.
fn sign(_: &Outgoing, secret: &str) -> Vec<(&'static str, String)> {
    let now = state::clock().as_second();
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "iat": now, "exp": now + 600, "app": "evolution", "action": "webhook" });
    let signed = format!("{}.{}", part(json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map(|mac| {
        BASE64_URL_SAFE_NO_PAD.encode(mac.chain_update(signed.as_bytes()).finalize().into_bytes())
    });
    vec![("authorization", format!("Bearer {signed}.{}", mac.unwrap_or_default()))]
}
