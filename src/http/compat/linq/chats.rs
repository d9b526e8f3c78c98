//! Chats, which stand for recipients. Nothing is stored: the id of a chat is made of its recipient.

use axum::{
    Json,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use voicegate_providers::parse_recipient;

use super::{Caller, FIELDS, LinqAudio, audio};
use crate::{
    config::Tenant,
    delivery::route,
    gateway::Gateway,
    http::{
        App,
        compat::{Fields, Wishes, parameter, take},
    },
    model::{
        clock::rfc3339_millis,
        code::{Code, Stage},
        id::NoteId,
        note::Note,
        problem::Problem,
    },
    store::NoteQuery,
    view::{
        dialects::{linq_status, named_id},
        linq_chats,
    },
};

/// The service that every chat is shown with.
pub const SERVICE: &str = "iMessage";

/// The version of the UUIDs of [`named_id`].
const NAMED: usize = 5;

const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;

/// The chat with this id, and its recipient.
///
/// # Errors
/// `not_found` if the tenant's route does not reach it.
pub fn find(gateway: &Gateway, tenant: &Tenant, id: &str) -> Result<(Uuid, String), Problem> {
    let absent = || Problem::new(Code::NotFound, "Chat not found").stage(Stage::Request);
    let id = Uuid::try_parse(id).map_err(|_| absent())?;
    if id.get_version_num() == NAMED {
        // Webhooks give such an id to the chat with a recipient whose chat cannot be opened.
        return Err(absent());
    }
    let to = linq_chats::recipient(&gateway.links, &tenant.name, id);
    let recipient = parse_recipient(&to).map_err(|_| absent())?;
    let reached = route::named(tenant, None)?
        .iter()
        .any(|connection| connection.provider.recipient_key(&recipient).is_ok());
    if reached { Ok((id, to)) } else { Err(absent()) }
}

/// The chat with a recipient.
///
/// # Errors
/// `recipient_invalid`, or `recipient_unsupported` for a recipient whose chat has no id.
fn chat_with(gateway: &Gateway, tenant: &Tenant, to: &str) -> Result<(Uuid, String), Problem> {
    let to = route::canonical(to)?;
    let unsupported = || {
        let detail = "a chat of this dialect is with a recipient that has a number (a phone, a WhatsApp id, telegram:ID, \
                      discord:ID, meta:ID), or is a chat at Linq itself (linq:UUID); send to any other recipient with \
                      POST /voice";
        Problem::new(Code::RecipientUnsupported, detail).stage(Stage::Request).field("to")
    };
    let id = linq_chats::chat_id(&gateway.links, &tenant.name, &to).ok_or_else(unsupported)?;
    Ok((id, to))
}

#[derive(Serialize, ToSchema)]
pub struct LinqHandle {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    #[schema(examples("+15551234567"))]
    handle: String,
    service: &'static str,
    status: &'static str,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    joined_at: Timestamp,
    is_me: bool,
}

/// The tenant, whose own numbers are not known here, and the recipient.
fn handles(tenant: &Tenant, to: &str, at: Timestamp) -> Vec<LinqHandle> {
    let own = tenant.route.first().cloned().unwrap_or_default();
    let handle = |handle: String, is_me: bool| LinqHandle {
        id: named_id(&tenant.name, "handle", &handle),
        handle,
        service: SERVICE,
        status: "active",
        joined_at: at,
        is_me,
    };
    vec![handle(own, true), handle(to.to_owned(), false)]
}

/// A chat, as the answer to a voice memo shows it.
#[derive(Serialize, ToSchema)]
pub struct LinqChatInfo {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    handles: Vec<LinqHandle>,
    is_group: bool,
    service: &'static str,
    is_active: bool,
}

impl LinqChatInfo {
    pub fn of(tenant: &Tenant, id: Uuid, note: &Note) -> Self {
        let handles = handles(tenant, &note.to, note.created_at);
        Self { id, handles, is_group: note.to.ends_with("@g.us"), service: SERVICE, is_active: true }
    }
}

/// A chat: a recipient, and the times of the last note to it.
#[derive(Serialize, ToSchema)]
pub struct LinqChat {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    #[schema(required)]
    display_name: Option<String>,
    service: &'static str,
    handles: Vec<LinqHandle>,
    is_archived: bool,
    is_group: bool,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    health_status: LinqHealth,
}

#[derive(Serialize, ToSchema)]
struct LinqHealth {
    status: &'static str,
    #[schema(format = "uri")]
    doc_url: &'static str,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

fn health(at: Timestamp) -> LinqHealth {
    let doc_url = "https://docs.linqapp.com/guides/chats/chat-health#healthy";
    LinqHealth { status: "HEALTHY", doc_url, updated_at: at }
}

impl LinqChat {
    fn of(tenant: &Tenant, id: Uuid, to: &str, created_at: Timestamp, updated_at: Timestamp) -> Self {
        Self {
            id,
            display_name: Some(to.to_owned()),
            service: SERVICE,
            handles: handles(tenant, to, created_at),
            is_archived: false,
            is_group: to.ends_with("@g.us"),
            created_at,
            updated_at,
            health_status: health(updated_at),
        }
    }
}

/// A chat whose last note is looked up. A chat without notes begins now.
async fn read(gateway: &Gateway, tenant: &Tenant, id: Uuid, to: &str) -> Result<LinqChat, Problem> {
    let wanted =
        NoteQuery { tenant: &tenant.name, status: None, to: Some(to), via: None, before: None, limit: 1 };
    let last = gateway.store.notes(&wanted).await?.notes.pop();
    let now = gateway.clock.now();
    let (created_at, updated_at) = last.map_or((now, now), |note| (note.created_at, note.updated_at));
    Ok(LinqChat::of(tenant, id, to, created_at, updated_at))
}

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LinqChatFilter {
    /// Ignored: notes go over the tenant's route.
    from: Option<String>,
    /// Only the chat with this recipient, whether or not a note was sent to it.
    #[param(example = "+15551234567")]
    to: Option<String>,
    /// The most chats on a page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct LinqChats {
    chats: Vec<LinqChat>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List chats
///
/// With `to` the chat with that recipient. Otherwise the recipients of the tenant's notes, those of the newest notes first;
/// one that is on several pages had notes at several times.
#[utoipa::path(
    get, path = "/compat/linq/v3/chats", tag = "Linq", operation_id = "linqListChats",
    params(LinqChatFilter),
    responses((status = 200, description = "One page of chats.", body = LinqChats)),
)]
pub async fn list(
    State(app): State<App>,
    Caller(tenant): Caller,
    filter: Result<Query<LinqChatFilter>, QueryRejection>,
) -> Result<Json<LinqChats>, Problem> {
    let gateway = &*app.gateway;
    let Query(filter) = filter.map_err(|error| Problem::invalid("limit", error.body_text()))?;
    let _ = filter.from;
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid("limit", format!("expected a number from 1 to {MAX_LIMIT}")));
    }
    if let Some(to) = filter.to {
        // A + in a query means a space.
        let to = if to.starts_with(' ') { to.replacen(' ', "+", 1) } else { to };
        let (id, to) = chat_with(gateway, &tenant, &to)?;
        return Ok(Json(LinqChats {
            chats: vec![read(gateway, &tenant, id, &to).await?],
            next_cursor: None,
        }));
    }
    let no_cursor = |()| Problem::invalid("cursor", "expected the next_cursor of an earlier answer");
    let before: Option<NoteId> = filter.cursor.map(|cursor| cursor.parse()).transpose().map_err(no_cursor)?;
    let wanted = NoteQuery { tenant: &tenant.name, status: None, to: None, via: None, before, limit };
    let page = gateway.store.notes(&wanted).await?;
    let mut chats: Vec<LinqChat> = Vec::new();
    for note in &page.notes {
        let Some(id) = linq_chats::chat_id(&gateway.links, &tenant.name, &note.to) else { continue };
        if chats.iter().all(|chat| chat.id != id) {
            chats.push(LinqChat::of(&tenant, id, &note.to, note.created_at, note.updated_at));
        }
    }
    Ok(Json(LinqChats { chats, next_cursor: page.next.map(|next| next.to_string()) }))
}

/// Read a chat
#[utoipa::path(
    get, path = "/compat/linq/v3/chats/{chatId}", tag = "Linq", operation_id = "linqGetChat",
    params(("chatId" = String, Path, description = "A chat of this dialect, or a chat at Linq itself.")),
    responses((status = 200, description = "The chat.", body = LinqChat)),
)]
pub async fn show(
    State(app): State<App>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<LinqChat>, Problem> {
    let (id, to) = find(&app.gateway, &tenant, &parameter(id))?;
    Ok(Json(read(&app.gateway, &tenant, id, &to).await?))
}

/// A chat to open. Other fields are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `create` reads in the document")]
struct LinqChatRequest {
    /// Ignored: notes go over the tenant's route.
    #[schema(nullable = false)]
    from: Option<String>,
    /// One recipient.
    #[schema(min_items = 1, max_items = 1, examples("+15551234567"))]
    to: Vec<String>,
    #[schema(nullable = false)]
    message: Option<LinqMessageRequest>,
}

/// The first message: nothing, audio that is sent as a voice note, or the text that the connection opens conversations
/// with anyway.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `create` reads in the document")]
struct LinqMessageRequest {
    #[schema(nullable = false)]
    parts: Option<Vec<LinqPartRequest>>,
    #[schema(nullable = false, max_length = 255)]
    idempotency_key: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `create` reads in the document")]
struct LinqPartRequest {
    /// `media`, or `text`.
    #[schema(rename = "type", examples("media"))]
    kind: String,
    #[schema(value_type = Option<String>, format = "uuid", nullable = false)]
    attachment_id: Option<Uuid>,
    #[schema(nullable = false, format = "uri")]
    url: Option<String>,
    #[schema(nullable = false)]
    value: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct LinqChatCreated {
    chat: LinqNewChat,
}

#[derive(Serialize, ToSchema)]
struct LinqNewChat {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    #[schema(required)]
    display_name: Option<String>,
    service: &'static str,
    is_group: bool,
    handles: Vec<LinqHandle>,
    message: LinqMessage,
    health_status: LinqHealth,
}

/// The first message of a chat, without parts if nothing was sent.
#[derive(Serialize, ToSchema)]
struct LinqMessage {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    service: &'static str,
    parts: Vec<LinqPart>,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    sent_at: Option<Timestamp>,
    #[schema(examples("queued"))]
    delivery_status: &'static str,
    is_read: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum LinqPart {
    Media(LinqMediaPart),
    Text(LinqTextPart),
}

#[derive(Serialize, ToSchema)]
struct LinqMediaPart {
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    kind: &'static str,
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    #[schema(format = "uri")]
    url: String,
    filename: String,
    mime_type: String,
    size_bytes: u64,
    #[schema(required, value_type = Option<Vec<Value>>)]
    reactions: Option<Vec<Value>>,
}

#[derive(Serialize, ToSchema)]
struct LinqTextPart {
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    kind: &'static str,
    value: String,
    #[schema(required, value_type = Option<Vec<Value>>)]
    reactions: Option<Vec<Value>>,
}

/// Open a chat
///
/// Answers with the chat that stands for the recipient. An audio attachment is sent as a voice note. A text is refused,
/// since voicegate sends voice notes, unless a connection of the route opens conversations with this text (`open_chat`).
#[utoipa::path(
    post, path = "/compat/linq/v3/chats", tag = "Linq", operation_id = "linqCreateChat",
    request_body(content((LinqChatRequest = "application/json"))),
    responses((status = 201, description = "The chat.", body = LinqChatCreated)),
)]
pub async fn create(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<(StatusCode, Json<LinqChatCreated>), Problem> {
    let gateway = &*app.gateway;
    let mut order = take(&app, &tenant, request, FIELDS).await?;
    let (chat, to) = chat_with(gateway, &tenant, &only_recipient(&order.fields)?)?;
    let (texts, media) = parts(&order.fields)?;
    if let Some(text) = texts.iter().find(|text| !opens_chats(&tenant, text)) {
        let detail = format!(
            "voicegate sends voice notes, and no text of {} characters; send audio as a media part, or leave the parts out",
            text.chars().count()
        );
        return Err(Problem::new(Code::TextUnsupported, detail).stage(Stage::Request).field("message.parts"));
    }
    let (message, at) = match media {
        Some(media) => {
            let key = order.fields.text(&["message", "idempotency_key"]);
            order.fields.0.extend(media);
            let attachment = audio(&mut order, &["url"], &["attachment_id"])?;
            let note = order.send(&app, &tenant, Wishes { to: to.clone(), key, ..Wishes::default() }).await?;
            (message_of(gateway, &note, attachment), note.created_at)
        }
        None => {
            let now = gateway.clock.now();
            let part = |value| LinqPart::Text(LinqTextPart { kind: "text", value, reactions: None });
            let message = LinqMessage {
                id: named_id(&tenant.name, "message", &chat.to_string()),
                service: SERVICE,
                parts: texts.into_iter().map(part).collect(),
                created_at: now,
                sent_at: None,
                delivery_status: "pending",
                is_read: false,
            };
            (message, now)
        }
    };
    let chat = LinqNewChat {
        id: chat,
        display_name: Some(to.clone()),
        service: SERVICE,
        is_group: to.ends_with("@g.us"),
        handles: handles(&tenant, &to, at),
        message,
        health_status: health(at),
    };
    Ok((StatusCode::CREATED, Json(LinqChatCreated { chat })))
}

fn message_of(gateway: &Gateway, note: &Note, attachment: Option<Uuid>) -> LinqMessage {
    let LinqAudio { id, url, filename, mime_type, size_bytes, .. } = LinqAudio::of(gateway, note, attachment);
    let part = LinqMediaPart { kind: "media", id, url, filename, mime_type, size_bytes, reactions: None };
    let status = linq_status(note.status);
    LinqMessage {
        id: note.id.0,
        service: SERVICE,
        parts: vec![LinqPart::Media(part)],
        created_at: note.created_at,
        sent_at: note.sent_at,
        delivery_status: status,
        is_read: status == "read",
    }
}

/// Whether a connection of the route sends this text before the first note of a conversation.
fn opens_chats(tenant: &Tenant, text: &str) -> bool {
    let route = route::named(tenant, None).unwrap_or_default();
    route.iter().any(|connection| connection.provider.opening_text() == Some(text))
}

fn only_recipient(fields: &Fields) -> Result<String, Problem> {
    let to = fields.at(&["to"]).map(std::borrow::Cow::into_owned);
    match to {
        Some(Value::String(to)) => Ok(to),
        Some(Value::Array(all)) => match all.as_slice() {
            [Value::String(to)] => Ok(to.clone()),
            [_, _, ..] => {
                Err(Problem::invalid("to", "a voice note has one recipient; groups cannot be opened here"))
            }
            _ => Err(Problem::new(Code::RecipientInvalid, "expected a list with one recipient").field("to")),
        },
        _ => Err(Problem::new(Code::RecipientInvalid, "to is required").stage(Stage::Request).field("to")),
    }
}

/// The members of a part with audio.
type MediaPart = serde_json::Map<String, Value>;

/// The texts and the media part of the message.
fn parts(fields: &Fields) -> Result<(Vec<String>, Option<MediaPart>), Problem> {
    let wrong = |detail: &str| Problem::invalid("message.parts", detail);
    let parts = match fields.at(&["message", "parts"]).map(std::borrow::Cow::into_owned) {
        None => Vec::new(),
        Some(Value::Array(parts)) => parts,
        Some(_) => return Err(wrong("expected a list of parts")),
    };
    let (mut texts, mut media) = (Vec::new(), None);
    for part in parts {
        let Value::Object(part) = part else { return Err(wrong("expected objects with a type")) };
        match part.get("type").and_then(Value::as_str) {
            Some("media") if media.is_none() => media = Some(part),
            Some("media") => return Err(wrong("a voice note has one audio; send one media part")),
            Some("text" | "link") => {
                texts.push(part.get("value").and_then(Value::as_str).unwrap_or_default().to_owned());
            }
            _ => return Err(wrong("expected parts of the type media")),
        }
    }
    Ok((texts, media))
}
