//! Chats: a voice memo needs one that exists already.

use axum::Json;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::{Uuid, uuid};

use super::{LinqError, is_e164};
use crate::Sandbox;
use crate::receipts::ReceiptStatus;
use crate::state::{self, Inner};

/// The chat that the vendor's own examples use.
const EXAMPLE_CHAT: Uuid = uuid!("f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    #[serde(rename = "iMessage")]
    IMessage,
    #[serde(rename = "RCS")]
    Rcs,
    #[serde(rename = "SMS")]
    Sms,
}

impl Service {
    pub fn name(self) -> &'static str {
        match self {
            Self::IMessage => "iMessage",
            Self::Rcs => "RCS",
            Self::Sms => "SMS",
        }
    }
}

/// A chat to add, see [`Sandbox::add_chat`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewChat {
    /// Everybody but us.
    pub handles: Vec<String>,
    /// `None`: Linq does not know yet, and says `null`.
    #[serde(default)]
    pub service: Option<Service>,
    #[serde(default)]
    pub is_group: bool,
    /// A fixed id; a new one without.
    #[serde(default)]
    pub id: Option<Uuid>,
}

#[derive(Clone)]
pub(crate) struct Chat {
    pub id: Uuid,
    pub from: String,
    pub handles: Vec<String>,
    pub service: Option<Service>,
    pub is_group: bool,
    pub created_at: String,
    pub updated_at: String,
    /// The messages of `GET /v3/chats/{id}/messages`, oldest first.
    pub messages: Vec<Value>,
}

impl Chat {
    pub fn new(from: &str, chat: NewChat) -> Self {
        let now = state::now();
        Self {
            id: chat.id.unwrap_or_else(Uuid::new_v4),
            from: from.to_owned(),
            handles: chat.handles,
            service: chat.service,
            is_group: chat.is_group,
            created_at: now.clone(),
            updated_at: now,
            messages: Vec::new(),
        }
    }

    pub fn service_json(&self) -> Value {
        json!(self.service)
    }

    /// `ChatHandle` objects, our own line first. Ids are derived, so that they stay the same.
    pub fn handles_json(&self) -> Value {
        let one = |handle: &str, is_me: bool| {
            json!({
                "id": Uuid::new_v5(&self.id, handle.as_bytes()),
                "handle": handle,
                "service": self.service.unwrap_or(Service::IMessage),
                "status": "active",
                "joined_at": self.created_at,
                "is_me": is_me,
            })
        };
        let others = self.handles.iter().map(|handle| one(handle, false));
        std::iter::once(one(&self.from, true)).chain(others).collect()
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "display_name": self.handles.join(", "),
            "group_chat_icon": null,
            "service": self.service,
            "handles": self.handles_json(),
            "is_archived": false,
            "is_group": self.is_group,
            "health_status": self.health_json(),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        })
    }

    pub fn health_json(&self) -> Value {
        json!({
            "status": "HEALTHY",
            "doc_url": "https://docs.linqapp.com/guides/chats/chat-health#healthy",
            "updated_at": self.created_at,
        })
    }

    /// Only iMessage has the bubble; RCS and SMS get an ordinary audio attachment.
    /// <https://docs.linqapp.com/guides/messaging/voice-memos/>
    pub fn voice_form(&self) -> &'static str {
        match self.service {
            None | Some(Service::IMessage) => "voice",
            Some(Service::Rcs | Service::Sms) => "audio",
        }
    }

    /// Notes down what became of a message.
    pub fn book(&mut self, message_id: &str, status: ReceiptStatus, at: &str) {
        let Some(message) = self.messages.iter_mut().find(|message| message["id"] == message_id) else {
            return;
        };
        let (name, time) = match status {
            ReceiptStatus::Sent => ("sent", "sent_at"),
            ReceiptStatus::Delivered => ("delivered", "delivered_at"),
            ReceiptStatus::Read => ("read", "read_at"),
            ReceiptStatus::Failed => ("failed", "updated_at"),
            ReceiptStatus::Accepted | ReceiptStatus::Played => return,
        };
        message["updated_at"] = json!(at);
        message[time] = json!(at);
        message["is_delivered"] = json!(!message["delivered_at"].is_null());
        message["is_read"] = json!(!message["read_at"].is_null());
        // A late receipt is reported all the same, and changes nothing.
        let rank = |name: &str| {
            ["queued", "sent", "failed", "delivered", "read"].iter().position(|known| *known == name)
        };
        if rank(name) > message["delivery_status"].as_str().and_then(rank) {
            message["delivery_status"] = json!(name);
        }
    }

    /// Description for the control API and the page.
    pub fn summary(&self) -> Value {
        json!({
            "id": self.id,
            "from": self.from,
            "handles": self.handles,
            "service": self.service,
            "is_group": self.is_group,
            "messages": self.messages.len(),
        })
    }
}

pub(crate) fn default_chats(from: &str) -> Vec<Chat> {
    let chat = |id, handle: &str, service| {
        let handles = vec![handle.to_owned()];
        Chat::new(from, NewChat { handles, service: Some(service), is_group: false, id: Some(id) })
    };
    vec![
        chat(EXAMPLE_CHAT, "+15551234567", Service::IMessage),
        chat(Uuid::new_v5(&EXAMPLE_CHAT, b"+15550001111"), "+15550001111", Service::Rcs),
    ]
}

pub(crate) fn add_chat(inner: &Inner, chat: NewChat) -> Uuid {
    let chat = Chat::new(&inner.options.linq_from, chat);
    let id = chat.id;
    let mut state = inner.lock();
    state.chats.retain(|known| known.id != id);
    state.chats.push(chat);
    id
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    from: Option<String>,
    to: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(sandbox): State<Sandbox>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, LinqError> {
    let limit = page_size(query.limit.as_deref(), 20)?;
    let start = page_start(query.cursor.as_deref())?;
    // A `+` that was not sent as `%2B` arrives as a space.
    let spaced =
        |text: &Option<String>| text.as_deref().is_some_and(|text| text.contains(char::is_whitespace));
    if spaced(&query.from) || spaced(&query.to) {
        return Err(LinqError::new(400, 1002, "Phone number must be in E.164 format (send + as %2B)"));
    }
    // The pattern of `from` allows the plus to be left out.
    let from = query.from.map(|from| format!("+{}", from.trim_start_matches('+')));
    if from.as_deref().is_some_and(|from| !is_e164(from)) {
        return Err(LinqError::new(400, 1002, "Phone number must be in E.164 format"));
    }

    let state = sandbox.inner.lock();
    let matching: Vec<_> = state
        .chats
        .iter()
        .filter(|chat| from.as_ref().is_none_or(|from| chat.from == *from))
        .filter(|chat| query.to.as_ref().is_none_or(|to| chat.handles.contains(to)))
        .collect();
    let end = start.saturating_add(limit);
    let next_cursor = (end < matching.len()).then(|| end.to_string());
    let chats: Vec<_> = matching.iter().skip(start).take(limit).map(|chat| chat.json()).collect();
    Ok(Json(json!({ "chats": chats, "next_cursor": next_cursor })))
}

/// The place to which a listing's `cursor` points.
pub(super) fn page_start(cursor: Option<&str>) -> Result<usize, LinqError> {
    let Some(text) = cursor else { return Ok(0) };
    text.parse().map_err(|_| LinqError::new(400, 1005, "cursor is not one of ours"))
}

/// The `limit` of a listing. Taken as text, so that a bad one gets the vendor's envelope too.
pub(super) fn page_size(limit: Option<&str>, default: usize) -> Result<usize, LinqError> {
    let Some(text) = limit else { return Ok(default) };
    let size = text.parse().ok().filter(|size| (1..=100).contains(size));
    size.ok_or_else(|| LinqError::new(400, 1005, "limit must be between 1 and 100"))
}

/// Begins or ends the typing indicator. Groups have none.
pub(super) async fn typing(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<StatusCode, LinqError> {
    if find(&sandbox, &id)?.is_group {
        return Err(LinqError::new(403, 2005, "Typing indicators are not supported in group chats"));
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn get_one(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<Json<Value>, LinqError> {
    Ok(Json(find(&sandbox, &id)?.json()))
}

pub(super) fn find(sandbox: &Sandbox, id: &str) -> Result<Chat, LinqError> {
    let id = super::uuid(id)?;
    let state = sandbox.inner.lock();
    let chat = state.chats.iter().find(|chat| chat.id == id);
    chat.cloned().ok_or_else(|| LinqError::new(404, 2001, "Chat not found"))
}

/// The usual read-only probe of a token.
pub(super) async fn lines(
    State(sandbox): State<Sandbox>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, LinqError> {
    if query.is_some_and(|query| !query.is_empty()) {
        return Err(LinqError::new(400, 1005, "This endpoint takes no parameters"));
    }
    let line = &sandbox.inner.options.linq_from;
    Ok(Json(json!({ "phone_numbers": [{
        "id": Uuid::new_v5(&EXAMPLE_CHAT, line.as_bytes()),
        "phone_number": line,
        "forwarding_number": null,
        "reputation": { "status": "HEALTHY",
            "doc_url": "https://docs.linqapp.com/guides/phone-numbers/phone-reputation/" },
    }] })))
}
