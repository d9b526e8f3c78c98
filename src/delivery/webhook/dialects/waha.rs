//! WAHA's events: <https://waha.devlike.pro/docs/how-to/events/>.

use http::HeaderName;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;
use voicegate_providers::Form;

use super::{Surroundings, signing::hmac_sha512};
use crate::{
    model::{
        event::{Event, EventKind, Subject},
        id::EventId,
        note::Note,
        received::Received,
    },
    view::dialects::{waha_ack, waha_chat, waha_id},
};

/// The version of WAHA whose events these are, and the engine that the answers of the dialect name as well.
const VERSION: &str = "2026.7.1";
const ENGINE: &str = "GOWS";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-webhook-request-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-webhook-timestamp");
const HMAC: HeaderName = HeaderName::from_static("x-webhook-hmac");
const ALGORITHM: HeaderName = HeaderName::from_static("x-webhook-hmac-algorithm");

pub fn body(event: &Event, around: &Surroundings<'_>) -> Option<Value> {
    let (name, session, payload) = match &event.subject {
        Subject::Note(note) => {
            let (name, payload) = of_note(event.kind, note)?;
            (name, &note.current().connection, payload)
        }
        Subject::Received(received) if event.kind == EventKind::Received => {
            ("message", &received.connection, received_message(received, around))
        }
        Subject::Received(_) => return None,
    };
    Some(json!({
        "id": event_id(event.id),
        "timestamp": event.at.as_millisecond(),
        "event": name,
        "session": session,
        "metadata": {},
        "payload": payload,
        "engine": ENGINE,
        "environment": {
            "version": VERSION,
            "engine": ENGINE,
            "tier": "CORE",
            "browser": "",
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            "worker": { "id": null },
        },
    }))
}

fn of_note(kind: EventKind, note: &Note) -> Option<(&'static str, Value)> {
    match kind {
        EventKind::Accepted => Some(("message.any", own_message(note))),
        EventKind::Sent
        | EventKind::Delivered
        | EventKind::Read
        | EventKind::Played
        | EventKind::Failed
        | EventKind::Expired
        | EventKind::Canceled
        | EventKind::Unknown => Some(("message.ack", ack(note))),
        EventKind::Stalled | EventKind::Received | EventKind::Transcribed | EventKind::WebhookPaused => None,
    }
}

/// The key is the text of the webhook's first secret, as in WAHA's own settings.
pub fn headers(event: &Event, around: &Surroundings<'_>, body: &str) -> Vec<(HeaderName, String)> {
    let hmac = hmac_sha512(around.webhook.secret.expose_secret().as_bytes(), body);
    vec![
        (REQUEST_ID, event_id(event.id)),
        (TIMESTAMP, around.now.as_millisecond().to_string()),
        (HMAC, hmac),
        (ALGORITHM, "sha512".to_owned()),
    ]
}

/// The id of an event as WAHA writes it: `evt_` and a ULID in lower case. Both kinds of id have 128 bits.
fn event_id(EventId(id): EventId) -> String {
    format!("evt_{}", ulid(id))
}

/// 128 bits as 26 digits of Crockford's base 32, in lower case. <https://github.com/ulid/spec>
fn ulid(id: Uuid) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let bits = id.as_u128();
    let digit = |place: u32| char::from(DIGITS[(bits >> (5 * place)) as usize & 31]);
    (0..26).rev().map(digit).collect()
}

fn ack(note: &Note) -> Value {
    let (ack, name) = waha_ack(note.status);
    let chat = waha_chat(&note.to);
    json!({
        "id": waha_id(&note.to, note.id),
        "from": chat,
        "to": chat,
        "participant": null,
        "fromMe": true,
        "ack": ack,
        "ackName": name,
        "_data": {},
    })
}

/// A message of our own, without its audio.
fn own_message(note: &Note) -> Value {
    let chat = waha_chat(&note.to);
    json!({
        "id": waha_id(&note.to, note.id),
        "timestamp": note.created_at.as_second(),
        "from": note.current().connection,
        "fromMe": true,
        "source": "api",
        "to": chat,
        "participant": null,
        "body": note.text.clone().unwrap_or_default(),
        "hasMedia": true,
        "mediaUrl": null,
        "ack": 0,
        "ackName": "PENDING",
        "_data": {},
    })
}

/// A message that a person sent. The engine's own data say whether it is a voice note, as with WAHA.
fn received_message(received: &Received, around: &Surroundings<'_>) -> Value {
    let (chat, sender) = (waha_chat(&received.conversation), waha_chat(&received.from));
    let is_voice = received.form == Form::Voice;
    let mut id = format!("false_{chat}_{}", received.id);
    if received.group {
        id = format!("{id}_{sender}");
    }
    let mut audio = json!({ "PTT": is_voice });
    if let Some(facts) = &received.native {
        audio["mimetype"] = facts.mime_type.as_str().into();
        audio["seconds"] = ((facts.duration_ms + 500) / 1000).max(1).into();
    }
    let media = match (&around.audio, &received.error) {
        (Some(audio), _) => {
            json!({ "url": audio.url, "mimetype": audio.mime_type, "filename": audio.filename })
        }
        (None, Some(problem)) => json!({ "error": { "code": problem.code, "message": problem.detail } }),
        (None, None) => json!({}),
    };
    let mut payload = json!({
        "id": id,
        "timestamp": received.sent_at.as_second(),
        "from": chat,
        "fromMe": false,
        "source": "app",
        "to": received.connection,
        "participant": received.group.then_some(&sender),
        "body": "",
        "hasMedia": true,
        "media": media,
        "mediaUrl": media["url"],
        "ack": 2,
        "ackName": "DEVICE",
        "_data": {
            "Info": {
                "Chat": chat, "Sender": sender, "IsFromMe": false, "PushName": received.sender_name,
                "Type": "media", "MediaType": if is_voice { "ptt" } else { "audio" },
            },
            "Message": { "audioMessage": audio },
        },
    });
    if let Some(answered) = &received.reply_to {
        payload["replyTo"] = json!({ "id": answered, "hasMedia": false });
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulid_has_all_bits_of_the_id() {
        assert_eq!(ulid(Uuid::nil()), "0".repeat(26));
        assert_eq!(ulid(Uuid::max()), format!("7{}", "z".repeat(25)));
        // The example of the specification, whose time is 1469922850259.
        let id = Uuid::from_u128(0x0156_3E3A_B5D3_D676_4C61_EFB9_9302_BD5B);
        assert_eq!(ulid(id), "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_lowercase());
    }
}
