//! Evolution's events: <https://doc.evolution-api.com/v2/en/configuration/webhooks>, and the code of version 2.3.6.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderName, header::AUTHORIZATION};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;
use voicegate_providers::{AudioFacts, Form};

use super::{Surroundings, signing::evolution_token};
use crate::{
    model::{
        clock::rfc3339_millis,
        event::{Event, EventKind, Subject},
        note::Note,
        received::Received,
    },
    view::dialects::{evolution_chat, evolution_id, evolution_status},
};

pub fn body(event: &Event, around: &Surroundings<'_>) -> Option<Value> {
    let (name, instance, data) = match &event.subject {
        Subject::Note(note) => {
            let (name, data) = of_note(event.kind, note)?;
            (name, &note.current().connection, data)
        }
        Subject::Received(received) if event.kind == EventKind::Received => {
            ("messages.upsert", &received.connection, received_message(received, around))
        }
        Subject::Received(_) => return None,
    };
    let mut destination = around.webhook.url.clone();
    destination.set_query(None);
    let server_url = format!("{}/compat/evolution", around.public_url.as_str().trim_end_matches('/'));
    Some(json!({
        "event": name,
        "instance": instance,
        "data": data,
        "destination": destination,
        "date_time": rfc3339_millis::text(event.at),
        "sender": "",
        "server_url": server_url,
        "apikey": null,
    }))
}

fn of_note(kind: EventKind, note: &Note) -> Option<(&'static str, Value)> {
    match kind {
        EventKind::Accepted => Some(("send.message", sent_message(note))),
        EventKind::Sent
        | EventKind::Delivered
        | EventKind::Read
        | EventKind::Played
        | EventKind::Failed
        | EventKind::Expired
        | EventKind::Canceled
        | EventKind::Unknown => Some(("messages.update", update(note))),
        EventKind::Stalled | EventKind::Received | EventKind::Transcribed | EventKind::WebhookPaused => None,
    }
}

/// Evolution has no signature. It sends a token that is not bound to the body, unless the headers have credentials.
pub fn headers(around: &Surroundings<'_>) -> Vec<(HeaderName, String)> {
    let webhook = around.webhook;
    if webhook.headers.iter().any(|(name, _)| *name == AUTHORIZATION) {
        return Vec::new();
    }
    let token = evolution_token(webhook.secret.expose_secret().as_bytes(), around.now);
    vec![(AUTHORIZATION, format!("Bearer {token}"))]
}

/// The id of an instance, which has only a name here: the same that the answers of the dialect have.
fn instance_id(tenant: &str, connection: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("voicegate:{tenant}:instance:{connection}").as_bytes())
}

fn key(note: &Note) -> Value {
    json!({ "remoteJid": evolution_chat(&note.to), "fromMe": true, "id": evolution_id(note.id) })
}

/// The object that a request to send is answered with.
fn sent_message(note: &Note) -> Value {
    let connection = &note.current().connection;
    let facts = note.sent.as_ref().map(|sent| &sent.facts);
    let facts = facts.or_else(|| note.probed.as_ref().map(|probed| &probed.facts));
    let mut audio = json!({ "ptt": note.form.is_none_or(|form| form == Form::Voice) });
    if let Some(facts) = facts {
        add_facts(&mut audio, facts);
    }
    if let Some(probed) = note.probed.as_ref().filter(|probed| !probed.waveform.is_empty()) {
        audio["waveform"] = BASE64_STANDARD.encode(&probed.waveform).into();
    }
    json!({
        "key": key(note),
        "pushName": "",
        "status": "PENDING",
        "message": { "audioMessage": audio },
        "contextInfo": null,
        "messageType": "audioMessage",
        "messageTimestamp": note.created_at.as_second(),
        "instanceId": instance_id(&note.tenant, connection),
        "source": "unknown",
    })
}

/// A message that a person sent. Its audio is a link, and in the event itself where it is small.
fn received_message(received: &Received, around: &Surroundings<'_>) -> Value {
    let mut key = json!({
        "remoteJid": evolution_chat(&received.conversation),
        "fromMe": false,
        "id": received.id,
    });
    if received.group {
        key["participant"] = evolution_chat(&received.from).into();
    }
    let mut audio = json!({ "ptt": received.form == Form::Voice });
    if let Some(facts) = &received.native {
        add_facts(&mut audio, facts);
    }
    if !received.waveform.is_empty() {
        audio["waveform"] = BASE64_STANDARD.encode(&received.waveform).into();
    }
    let mut message = json!({ "audioMessage": audio });
    if let Some(audio) = &around.audio {
        message["mediaUrl"] = audio.url.as_str().into();
    }
    if let Some(bytes) = &around.inline {
        message["base64"] = BASE64_STANDARD.encode(bytes).into();
    }
    let mut data = json!({
        "key": key,
        "pushName": received.sender_name.clone().unwrap_or_default(),
        "status": "DELIVERY_ACK",
        "message": message,
        "contextInfo": received.reply_to.as_ref().map(|id| json!({ "stanzaId": id })),
        "messageType": "audioMessage",
        "messageTimestamp": received.sent_at.as_second(),
        "instanceId": instance_id(&received.tenant, &received.connection),
        "source": "unknown",
    });
    if let Some(problem) = &received.error {
        // Evolution has no place for this, and a bot must not take it for an empty message.
        data["error"] = json!({ "code": problem.code, "detail": problem.detail });
    }
    data
}

fn add_facts(audio: &mut Value, facts: &AudioFacts) {
    audio["mimetype"] = facts.mime_type.as_str().into();
    audio["seconds"] = ((facts.duration_ms + 500) / 1000).max(1).into();
    audio["fileLength"] = facts.size_bytes.to_string().into();
    if let Ok(hash) = hex::decode(&facts.sha256) {
        audio["fileSha256"] = BASE64_STANDARD.encode(hash).into();
    }
}

fn update(note: &Note) -> Value {
    json!({
        "messageId": evolution_id(note.id),
        "keyId": evolution_id(note.id),
        "remoteJid": evolution_chat(&note.to),
        "fromMe": true,
        "participant": null,
        "status": evolution_status(note.status),
        "pollUpdates": null,
        "instanceId": instance_id(&note.tenant, &note.current().connection),
    })
}
