//! Linq's events, in the version of 2026-02-03: <https://docs.linqapp.com/guides/webhooks/events/>.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{LinkedAudio, Surroundings};
use crate::{
    model::{
        clock::rfc3339_millis,
        event::{Event, EventKind, Subject},
        note::Note,
        received::Received,
    },
    view::dialects::{linq_id, named_id},
};

const VERSION: &str = "2026-02-03";
const SERVICE: &str = "iMessage";

/// The code for a note that could not be delivered, and the one for a note that was tried for too long.
const NOT_DELIVERED: u16 = 4001;
const TRIED_FOR_TOO_LONG: u16 = 3007;

pub fn body(event: &Event, around: &Surroundings<'_>) -> Option<Value> {
    let (name, data) = match &event.subject {
        Subject::Note(note) => of_note(event, note, around)?,
        Subject::Received(received) if event.kind == EventKind::Received => {
            ("message.received", received_message(received, around))
        }
        Subject::Received(_) => return None,
    };
    Some(json!({
        "api_version": "v3",
        "webhook_version": VERSION,
        "event_type": name,
        "event_id": event.id.0,
        "created_at": rfc3339_millis::text(event.at),
        "trace_id": trace_id(event),
        "partner_id": event.subject.tenant(),
        "data": data,
    }))
}

fn of_note(event: &Event, note: &Note, around: &Surroundings<'_>) -> Option<(&'static str, Value)> {
    Some(match event.kind {
        // A provider without receipts says no more than this.
        EventKind::Accepted if !around.has_receipts => ("message.sent", message(note, around, None)),
        EventKind::Sent => ("message.sent", message(note, around, None)),
        EventKind::Delivered => ("message.delivered", message(note, around, None)),
        EventKind::Read => ("message.read", message(note, around, None)),
        // Linq does not tell reading from playing, and receipts may be skipped.
        EventKind::Played if note.read_at.is_none() => {
            ("message.read", message(note, around, Some(event.at)))
        }
        EventKind::Failed | EventKind::Expired | EventKind::Canceled => {
            ("message.failed", failed(event, note, around))
        }
        EventKind::Accepted
        | EventKind::Played
        | EventKind::Unknown
        | EventKind::Stalled
        | EventKind::Received
        | EventKind::Transcribed
        | EventKind::WebhookPaused => return None,
    })
}

/// The trace of the request, or 32 digits of its own.
fn trace_id(event: &Event) -> String {
    let traceparent = event.subject.note().and_then(|note| note.traceparent.as_deref());
    let traced = traceparent.and_then(|parent| parent.split('-').nth(1));
    traced.map_or_else(|| event.id.0.simple().to_string(), str::to_owned)
}

fn message(note: &Note, around: &Surroundings<'_>, read_at: Option<Timestamp>) -> Value {
    let time = |at: Option<Timestamp>| at.map(rfc3339_millis::text);
    let sent_at = note.sent_at.or(note.accepted_at);
    json!({
        "chat": chat(around, note.to.ends_with("@g.us"), note.created_at),
        "id": linq_id(note.id),
        "idempotency_key": null,
        "direction": "outbound",
        "sender_handle": handle(&note.tenant, &note.current().connection, note.created_at, true),
        "parts": around.audio.iter().map(|audio| part(note.id.0, audio)).collect::<Vec<_>>(),
        "service": SERVICE,
        "sent_at": time(sent_at),
        "delivered_at": time(note.delivered_at),
        "read_at": time(note.read_at.or(read_at)),
    })
}

/// A message that a person sent.
fn received_message(received: &Received, around: &Surroundings<'_>) -> Value {
    let id = received.id.0;
    let parts: Vec<Value> = around.audio.iter().map(|audio| part(id, audio)).collect();
    let mut data = json!({
        "chat": chat(around, received.group, received.received_at),
        "id": id,
        "idempotency_key": null,
        "direction": "inbound",
        "sender_handle": handle(&received.tenant, &received.from, received.received_at, false),
        "parts": parts,
        "service": SERVICE,
        "sent_at": rfc3339_millis::text(received.sent_at),
        "delivered_at": null,
        "read_at": null,
    });
    if let Some(answered) = &received.reply_to {
        data["reply_to"] = json!({ "message_id": answered.strip_prefix("vn_").unwrap_or(answered) });
    }
    if let Some(problem) = &received.error {
        // Linq has no place for this, and a bot must not take it for an empty message.
        data["error"] = json!({ "code": problem.code, "detail": problem.detail });
    }
    data
}

/// Somebody in a chat. The tenant's own number is not known here, so the connection's name stands for it.
fn handle(tenant: &str, name: &str, joined_at: Timestamp, is_me: bool) -> Value {
    json!({
        "id": named_id(tenant, "handle", name),
        "handle": name,
        "service": SERVICE,
        "status": "active",
        "joined_at": rfc3339_millis::text(joined_at),
        "left_at": null,
        "is_me": is_me,
    })
}

fn chat(around: &Surroundings<'_>, is_group: bool, at: Timestamp) -> Value {
    json!({
        "id": around.linq_chat,
        "is_group": is_group,
        "owner_handle": null,
        "health_status": {
            "status": "HEALTHY",
            "doc_url": "https://docs.linqapp.com/guides/chats/chat-health#healthy",
            "updated_at": rfc3339_millis::text(at),
        },
    })
}

fn part(message: Uuid, audio: &LinkedAudio) -> Value {
    json!({
        "type": "media",
        "id": message,
        "url": audio.url,
        "filename": audio.filename,
        "mime_type": audio.mime_type,
        "size_bytes": audio.size_bytes,
    })
}

fn failed(event: &Event, note: &Note, around: &Surroundings<'_>) -> Value {
    let code = if event.kind == EventKind::Expired { TRIED_FOR_TOO_LONG } else { NOT_DELIVERED };
    let reason = match (&note.error, event.kind) {
        (Some(problem), _) => problem.detail.clone(),
        (None, EventKind::Canceled) => "the note was canceled".to_owned(),
        (None, _) => "no reason is known".to_owned(),
    };
    json!({
        "chat_id": around.linq_chat,
        "message_id": linq_id(note.id),
        "code": code,
        "reason": reason,
        "failed_at": rfc3339_millis::text(event.at),
    })
}
