//! WAHA's events about messages, and their signature: <https://waha.devlike.pro/docs/how-to/events/>.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha512;
use url::Url;
use uuid::Uuid;

use super::{NAME, Registered, VERSION, session};
use crate::Sandbox;
use crate::faults::Provider;
use crate::hooks::{Outgoing, Signer};
use crate::ledger::LedgerEntry;
use crate::receipts::{ReceiptStatus, ReceiptStep};
use crate::state::clock;
use crate::whatsapp::{ME, VOICE_MIME};

/// The events that an address may ask for.
pub(super) const EVENTS: &[&str] = &[
    "session.status",
    "message",
    "message.any",
    "message.ack",
    "message.ack.group",
    "message.waiting",
    "message.revoked",
    "message.edited",
    "message.reaction",
    "group.v2.join",
    "group.v2.leave",
    "group.v2.update",
    "group.v2.participants",
    "presence.update",
    "poll.vote",
    "chat.archive",
    "call.received",
    "label.upsert",
    "engine.event",
];

/// Requests to the addresses of the message's session. A send over the API is an event of its own.
pub(super) fn events(sandbox: &Sandbox, entry: &LedgerEntry, step: &ReceiptStep) -> Vec<Outgoing> {
    let name = entry.request["session"].as_str().unwrap_or("default");
    let Some((engine, _)) = session(name) else { return Vec::new() };
    let member = entry.conversation.ends_with("@g.us")
        && matches!(step.status, ReceiptStatus::Read | ReceiptStatus::Played);
    let (event, payload) = match step.status {
        ReceiptStatus::Accepted => ("message.any", created(entry, engine)),
        _ if member => ("message.ack.group", ack(entry, engine, step.status, Some("15550009999@c.us"))),
        _ => ("message.ack", ack(entry, engine, step.status, None)),
    };
    outgoing(sandbox, name, event, &payload, &entry.message_id)
}

/// Requests about one event to the addresses of a session that want it.
pub(super) fn outgoing(
    sandbox: &Sandbox,
    name: &str,
    event: &'static str,
    payload: &Value,
    message_id: &str,
) -> Vec<Outgoing> {
    let (Some(provider), Some((engine, _))) = (Provider::named(NAME), session(name)) else {
        return Vec::new();
    };
    let event_id = format!("evt_{}", &Uuid::new_v4().simple().to_string()[..26]);
    let body = json!({
        "id": event_id,
        "timestamp": clock().as_millisecond(),
        "event": event,
        "session": name,
        "metadata": {},
        "me": { "id": ME, "pushName": "Sandbox" },
        "payload": payload,
        "engine": engine,
        "environment": { "version": VERSION, "engine": engine, "tier": "CORE", "browser": "/usr/bin/chromium",
                         "platform": "linux/x64", "worker": { "id": null } },
    })
    .to_string();
    let mut state = sandbox.inner.lock();
    let config = state.kept::<Registered>().configs.get(name).cloned().unwrap_or_default();
    let wanting = config["webhooks"].as_array().into_iter().flatten().filter(|hook| {
        hook["events"].as_array().is_some_and(|events| events.iter().any(|one| one == event || one == "*"))
    });
    let outgoing = |hook: &Value| {
        let secret = hook["hmac"]["key"].as_str().map(str::to_owned);
        Some(Outgoing {
            provider,
            event,
            event_id: event_id.clone(),
            message_id: message_id.to_owned(),
            url: Url::parse(hook["url"].as_str()?).ok()?,
            body: body.clone(),
            signer: secret.map(|secret| Signer { secret, sign, subscription: String::new() }),
        })
    };
    wanting.filter_map(outgoing).collect()
}

fn sign(outgoing: &Outgoing, secret: &str) -> Vec<(&'static str, String)> {
    let mac = Hmac::<Sha512>::new_from_slice(secret.as_bytes())
        .map(|mac| hex::encode(mac.chain_update(outgoing.body.as_bytes()).finalize().into_bytes()));
    vec![
        ("x-webhook-request-id", Uuid::new_v4().to_string()),
        ("x-webhook-timestamp", clock().as_millisecond().to_string()),
        ("x-webhook-hmac", mac.unwrap_or_default()),
        ("x-webhook-hmac-algorithm", "sha512".to_owned()),
    ]
}

/// The message's id as an engine spells it in events: GOWS calls people by their hidden number there.
fn id_in_events(entry: &LedgerEntry, engine: &str) -> String {
    match entry.conversation.strip_suffix("@c.us") {
        Some(digits) if engine == "GOWS" => {
            entry.message_id.replace(&entry.conversation, &format!("9{digits}@lid"))
        }
        _ => entry.message_id.clone(),
    }
}

fn ack(entry: &LedgerEntry, engine: &str, status: ReceiptStatus, member: Option<&str>) -> Value {
    let (ack, name) = match status {
        ReceiptStatus::Failed => (-1, "ERROR"),
        ReceiptStatus::Accepted => (0, "PENDING"),
        ReceiptStatus::Sent => (1, "SERVER"),
        ReceiptStatus::Delivered => (2, "DEVICE"),
        ReceiptStatus::Read => (3, "READ"),
        ReceiptStatus::Played => (4, "PLAYED"),
    };
    let id = id_in_events(entry, engine);
    json!({
        "id": member.map_or_else(|| id.clone(), |member| format!("{id}_{member}")),
        "from": ME,
        "to": entry.conversation,
        "participant": member,
        "fromMe": true,
        "ack": ack,
        "ackName": name,
        "_data": {},
    })
}

/// `message.any`. The hash of the file is in another place with each engine.
fn created(entry: &LedgerEntry, engine: &str) -> Value {
    let hash = entry
        .sha256
        .as_ref()
        .and_then(|hash| hex::decode(hash).ok())
        .map(|hash| BASE64_STANDARD.encode(hash));
    let kind = if entry.form == "file" { "documentMessage" } else { "audioMessage" };
    let data = match (engine, &hash) {
        (_, None) => json!({}),
        ("NOWEB", Some(hash)) => json!({ "message": { kind: { "fileSha256": hash } } }),
        ("GOWS", Some(hash)) => json!({ "Message": { kind: { "fileSHA256": hash } },
                                        "Info": { "RecipientAlt": entry.conversation.replace("@c.us", "@s.whatsapp.net") } }),
        (_, Some(hash)) => json!({ "type": "ptt", "filehash": hash, "mimetype": VOICE_MIME }),
    };
    json!({
        "id": id_in_events(entry, engine),
        "timestamp": clock().as_second(),
        "from": ME,
        "fromMe": true,
        "source": "api",
        "to": entry.conversation,
        "participant": null,
        "body": entry.text.clone().unwrap_or_default(),
        "hasMedia": hash.is_some(),
        "media": null,
        "ack": 0,
        "ackName": "PENDING",
        "_data": data,
    })
}
