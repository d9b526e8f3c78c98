//! Messages that people write, in both versions of `message.received`, and their files on the download host:
//! <https://docs.linqapp.com/guides/webhooks/events/>.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::chats::{Chat, NewChat, Service};
use super::subscriptions::{VERSIONS, event};
use crate::Sandbox;
use crate::hooks::Outgoing;
use crate::inbound::Note;
use crate::state::stamp;

const NAME: &str = "linq";

/// Lifetime of a link at Linq.
const LINK: &str = "sandbox";

fn handle(note: &Note) -> &str {
    &note.from
}

/// Writes the message into its chat, which is opened where there is none. A group is named by its chat.
pub(super) fn receive(sandbox: &Sandbox, note: &mut Note) -> Result<(), String> {
    if !super::is_handle(handle(note)) {
        return Err("from must be a phone number like +15551234567, or an e-mail address".to_owned());
    }
    note.become_iphones();
    let line = sandbox.inner.options.linq_from.clone();
    let mut state = sandbox.inner.lock();
    let group = note.group.as_deref().map(|id| Uuid::parse_str(id.strip_prefix("linq:").unwrap_or(id)));
    let found = state.chats.iter().find(|chat| match &group {
        Some(id) => chat.is_group && id.as_ref() == Ok(&chat.id),
        None => !chat.is_group && chat.handles == [handle(note).to_owned()],
    });
    let chat = match (found, &group) {
        (Some(chat), _) => chat.clone(),
        (None, Some(_)) => return Err("there is no such group; POST /sandbox/chats adds one".to_owned()),
        (None, None) => {
            let handles = vec![handle(note).to_owned()];
            let chat =
                Chat::new(&line, NewChat { handles, service: Some(Service::IMessage), ..NewChat::default() });
            state.chats.push(chat.clone());
            chat
        }
    };
    note.message_id = note.id.to_string();
    note.conversation = chat.id.to_string();
    Ok(())
}

/// Requests to the subscriptions that want messages.
pub(super) fn outgoing(sandbox: &Sandbox, note: &Note) -> Vec<Outgoing> {
    let chat =
        sandbox.inner.lock().chats.iter().find(|chat| chat.id.to_string() == note.conversation).cloned();
    let Some(chat) = chat else { return Vec::new() };
    // A repetition is the same event.
    let event_id = Uuid::new_v5(&note.id, b"message.received").to_string();
    event(sandbox, &chat, "message.received", &event_id, &note.message_id, &stamp(note.at), |version| {
        if version == VERSIONS[0] { data_2026(&chat, note) } else { data_2025(&chat, note) }
    })
}

fn attachment_id(note: &Note) -> Uuid {
    Uuid::new_v5(&note.id, b"attachment")
}

fn link(note: &Note) -> String {
    let own =
        format!("{}/linq/received/{}/{}?signature={LINK}", note.base, attachment_id(note), note.filename());
    note.link(own)
}

fn parts(note: &Note) -> Value {
    json!([{
        "type": "media",
        "id": attachment_id(note),
        "url": link(note),
        "filename": note.filename(),
        "mime_type": note.mime_type,
        "size_bytes": note.bytes.len(),
    }])
}

fn sender(chat: &Chat, note: &Note) -> Value {
    let handles = chat.handles_json();
    let known = handles.as_array().into_iter().flatten().find(|known| known["handle"] == handle(note));
    let other = known.cloned().unwrap_or_else(|| json!({ "handle": handle(note), "is_me": false }));
    if note.own { handles[0].clone() } else { other }
}

fn reply_to(note: &Note) -> Value {
    note.reply_to.as_ref().map(|id| json!({ "message_id": id, "part_index": 0 })).unwrap_or_default()
}

fn data_2026(chat: &Chat, note: &Note) -> Value {
    let mut data = json!({
        "chat": { "id": chat.id, "is_group": chat.is_group, "owner_handle": chat.handles_json()[0],
                  "health_status": chat.health_json() },
        "id": note.message_id,
        "idempotency_key": null,
        "direction": if note.own { "outbound" } else { "inbound" },
        "sender_handle": sender(chat, note),
        "parts": parts(note),
        "effect": null,
        "sent_at": stamp(note.at),
        "delivered_at": null,
        "read_at": null,
        "service": chat.service_json(),
        "preferred_service": null,
    });
    if note.reply_to.is_some() {
        data["reply_to"] = reply_to(note);
    }
    data
}

fn data_2025(chat: &Chat, note: &Note) -> Value {
    let sent_at = stamp(note.at);
    let mut data = json!({
        "chat_id": chat.id,
        "from": handle(note),
        "from_handle": sender(chat, note),
        "idempotency_key": null,
        "is_from_me": note.own,
        "is_group": chat.is_group,
        "message": {
            "id": note.message_id,
            "parts": parts(note),
            "is_delivered": true,
            "is_read": false,
            "sent_at": sent_at,
            "delivered_at": null,
            "read_at": null,
            "created_at": sent_at,
            "updated_at": sent_at,
        },
        "preferred_service": null,
        "received_at": sent_at,
        "recipient_handle": chat.handles_json()[0],
        "recipient_phone": chat.from,
        "service": chat.service_json(),
    });
    if note.reply_to.is_some() {
        data["message"]["reply_to"] = reply_to(note);
    }
    data
}

/// The answer of `GET /v3/attachments/{id}` about a file that a person sent, with a new link.
pub(super) fn attachment(sandbox: &Sandbox, id: Uuid) -> Option<Value> {
    let note = sandbox.inbound_note(NAME, |note| attachment_id(note) == id && !note.is_expired())?;
    Some(json!({
        "id": id,
        "filename": note.filename(),
        "content_type": note.mime_type,
        "size_bytes": note.bytes.len(),
        "status": "complete",
        "download_url": link(&note),
        "created_at": stamp(note.at),
    }))
}

#[derive(Deserialize)]
pub(super) struct Signed {
    signature: Option<String>,
}

/// The download host knows no token, only its signature.
pub(super) async fn file(
    State(sandbox): State<Sandbox>,
    Path((id, _filename)): Path<(Uuid, String)>,
    Query(signed): Query<Signed>,
) -> Response {
    let note = sandbox.inbound_note(NAME, |note| attachment_id(note) == id);
    let holds = |note: &Note| {
        !note.is_expired()
            && signed.signature.as_deref() == Some(LINK)
            && crate::state::clock() < note.at + SignedDuration::from_hours(1)
    };
    match note {
        Some(note) if holds(&note) => note.file().await,
        Some(_) => StatusCode::FORBIDDEN.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
