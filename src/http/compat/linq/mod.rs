//! Linq's Partner API, version 3. <https://docs.linqapp.com>
//!
//! A chat stands for a recipient. Notes go over the tenant's route, whichever providers it has.

pub mod attachments;
pub mod chats;

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, Path, Request, State, rejection::PathRejection},
    http::{HeaderValue, StatusCode, request::Parts},
    response::Response,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Order, Shape, Wishes, parameter, shown, take};
use crate::{
    config::Tenant,
    gateway::Gateway,
    http::{App, auth},
    media::AudioInput,
    model::{clock::rfc3339_millis, code::Code, id::UploadId, note::Note, problem::Problem},
    telemetry::request_id,
    view::dialects::{linq_id, linq_status},
};
use chats::LinqChatInfo;

/// The address of the memo is kept with the other fields, since it is no audio itself.
const FIELDS: Shape = Shape { members: &[], texts: &[], files: &[] };

/// The tenant of the bearer token.
pub struct Caller(Arc<Tenant>);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let how = "send the header `Authorization: Bearer KEY` with the key of the tenant";
        auth::tenant(app, &parts.extensions, auth::bearer(&parts.headers), how).await.map(Self)
    }
}

/// A voice memo: exactly one of `voice_memo_url` and `attachment_id`. Other fields are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct LinqVoiceMemoRequest {
    /// An http or https address.
    #[schema(nullable = false, format = "uri", examples("https://bot.example/greeting.m4a"))]
    voice_memo_url: Option<String>,
    /// An attachment of `POST /v3/attachments`, or an upload of `POST /media` without its prefix.
    #[schema(value_type = Option<String>, format = "uuid", nullable = false)]
    attachment_id: Option<Uuid>,
    /// A text that is unique to this note, unless it is in the header `Idempotency-Key`.
    #[schema(nullable = false, max_length = 255)]
    idempotency_key: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct LinqVoiceMemoResult {
    voice_memo: LinqVoiceMemo,
}

/// A note as Linq shows a voice memo.
#[derive(Serialize, ToSchema)]
struct LinqVoiceMemo {
    /// The note without its prefix.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// The connection in use.
    #[schema(examples("imessage"))]
    from: String,
    to: Vec<String>,
    /// `pending` as long as the provider has not accepted the note, or its fate is not known.
    #[schema(examples("queued"))]
    status: &'static str,
    service: &'static str,
    voice_memo: LinqAudio,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    chat: LinqChatInfo,
}

/// The audio. What is not known yet is `0` or `application/octet-stream`.
#[derive(Serialize, ToSchema)]
struct LinqAudio {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    url: String,
    filename: String,
    mime_type: String,
    size_bytes: u64,
    #[schema(required)]
    duration_ms: Option<u64>,
}

impl LinqAudio {
    /// `attachment` is the upload that the audio was taken from.
    fn of(gateway: &Gateway, note: &Note, attachment: Option<Uuid>) -> Self {
        let id = attachment.unwrap_or(note.id.0);
        match shown(gateway, note) {
            Some(shown) => Self {
                id,
                url: shown.url.into(),
                filename: shown.filename,
                mime_type: shown.facts.mime_type.clone(),
                size_bytes: shown.facts.size_bytes,
                duration_ms: Some(shown.facts.duration_ms),
            },
            None => Self {
                id,
                url: gateway.live().config.server.public_url.to_string(),
                filename: "voice".to_owned(),
                mime_type: "application/octet-stream".to_owned(),
                size_bytes: 0,
                duration_ms: None,
            },
        }
    }
}

/// Send a voice memo to a chat
///
/// Answers when the provider has accepted the note, or with the status `pending` after `dialects.wait`. Linq's own API has
/// no idempotency key here; this one takes `Idempotency-Key` and `idempotency_key`.
#[utoipa::path(
    post, path = "/compat/linq/v3/chats/{chatId}/voicememo", tag = "Linq", operation_id = "linqSendVoiceMemo",
    params(("chatId" = String, Path, description = "A chat of this dialect, or a chat at Linq itself.")),
    request_body(content((LinqVoiceMemoRequest = "application/json"))),
    responses((status = 202, description = "The note was accepted, and certainly has not failed.", body = LinqVoiceMemoResult)),
)]
pub async fn send(
    State(app): State<App>,
    Caller(tenant): Caller,
    chat: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(StatusCode, Json<LinqVoiceMemoResult>), Problem> {
    let gateway = &*app.gateway;
    let (chat, to) = chats::find(gateway, &tenant, &parameter(chat))?;
    let mut order = take(&app, &tenant, request, FIELDS).await?;
    let attachment = audio(&mut order, &["voice_memo_url"], &["attachment_id"])?;
    let key = order.fields.text(&["idempotency_key"]);
    let note = order.send(&app, &tenant, Wishes { to, key, ..Wishes::default() }).await?;
    let voice_memo = LinqVoiceMemo {
        id: note.id.0,
        from: note.current().connection.clone(),
        to: vec![note.to.clone()],
        status: linq_status(note.status),
        service: chats::SERVICE,
        voice_memo: LinqAudio::of(gateway, &note, attachment),
        created_at: note.created_at,
        chat: LinqChatInfo::of(&tenant, chat, &note),
    };
    debug_assert_eq!(linq_id(note.id), voice_memo.id.to_string());
    Ok((StatusCode::ACCEPTED, Json(LinqVoiceMemoResult { voice_memo })))
}

/// Takes the audio from the fields: an address or an attachment, and not both. Returns the attachment.
fn audio(order: &mut Order, url: &[&str], attachment: &[&str]) -> Result<Option<Uuid>, Problem> {
    let (url, id) = (order.fields.text(url), order.fields.text(attachment));
    let (audio, id) = match (url, id) {
        (Some(url), None) => (AudioInput::Url { url, headers: std::collections::BTreeMap::new() }, None),
        (None, Some(id)) => {
            let id = Uuid::try_parse(&id)
                .map_err(|_| Problem::invalid("attachment_id", "attachment_id must be a UUID"))?;
            (AudioInput::Upload(UploadId(id)), Some(id))
        }
        _ => {
            let detail = "give exactly one of an address and an attachment_id";
            return Err(Problem::invalid("voice_memo_url", detail));
        }
    };
    order.audio = Some(audio);
    Ok(id)
}

/// A problem as Linq shows it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `problem` makes in the document")]
pub struct LinqProblem {
    /// Always false.
    success: bool,
    error: LinqProblemDetail,
    /// The request, as in the header `X-Trace-ID`.
    #[schema(nullable = false)]
    trace_id: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `problem` makes in the document")]
struct LinqProblemDetail {
    #[schema(examples(404))]
    status: u16,
    /// Linq's own code.
    #[schema(examples(2001))]
    code: u16,
    message: String,
    #[schema(format = "uri", examples("https://docs.linqapp.com/error/codes/2xxx/2001/"))]
    doc_url: String,
    /// Seconds to wait before trying again.
    #[schema(nullable = false)]
    retry_after: Option<u64>,
}

pub fn problem(problem: &Problem) -> (StatusCode, Value) {
    let status = match problem.code {
        Code::UnknownConnection => StatusCode::NOT_FOUND,
        Code::ConversationClosed | Code::ProviderUnauthorized => StatusCode::FORBIDDEN,
        Code::AudioTooLarge if states_size(problem) => StatusCode::BAD_REQUEST,
        // Linq's clients repeat a request after 409.
        Code::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        _ => super::status(problem, StatusCode::UNPROCESSABLE_ENTITY),
    };
    let code = code(problem);
    let mut error = json!({
        "status": status.as_u16(),
        "code": code,
        "message": problem.to_string(),
        "doc_url": format!("https://docs.linqapp.com/error/codes/{}xxx/{code}/", code / 1000),
    });
    if let Some(seconds) = problem.retry_after {
        error["retry_after"] = json!(seconds);
    }
    let mut body = json!({ "success": false, "error": error });
    if let Some(id) = request_id::current() {
        body["trace_id"] = json!(id);
    }
    (status, body)
}

/// Whether the problem is with a stated size. Linq takes that for a field that is wrong, before there is any audio.
fn states_size(problem: &Problem) -> bool {
    problem.field.as_deref() == Some("size_bytes")
}

/// The code that Linq has for a problem of this kind. <https://docs.linqapp.com/error/>
fn code(problem: &Problem) -> u16 {
    match &problem.code {
        Code::RecipientInvalid => 1002,
        Code::InvalidRequest if problem.field.as_deref() == Some("body") => 1003,
        Code::InvalidRequest | Code::MethodNotAllowed | Code::SourceForbidden | Code::ReplyUnsupported => {
            1005
        }
        Code::TextUnsupported => 1004,
        Code::RateLimited => 1007,
        Code::Unauthorized => 2004,
        Code::MediaExpired => 2003,
        Code::NotFound if problem.field.is_some() => 2003,
        Code::NotFound | Code::UnknownConnection => 2001,
        Code::ConversationClosed => 2008,
        Code::ProviderUnauthorized => 2027,
        Code::Internal => 3006,
        Code::ProviderUnavailable => 3007,
        Code::ProviderRejected => 4001,
        Code::Overloaded | Code::StorageFull | Code::QuotaExceeded => 4004,
        Code::RecipientUnsupported | Code::FormUnavailable => 4005,
        Code::AudioTooLarge if states_size(problem) => 5005,
        Code::AudioTooLarge => 5001,
        Code::SourceUnreachable => 5002,
        Code::AudioUnsupported | Code::AudioFormatRequired | Code::ConvertRefused => 5004,
        _ => 1003,
    }
}

/// Adds the header that Linq's support asks for. A problem that repeating does not change is not to be repeated, whatever
/// its status.
pub fn trace(response: &mut Response) {
    if let Some(id) = request_id::current().and_then(|id| HeaderValue::from_str(&id).ok()) {
        response.headers_mut().insert("x-trace-id", id);
    }
    if response.status().is_client_error() && response.status() != StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
    }
}
