//! Linq Partner API v3, as far as voice notes need it.
//!
//! Shapes: <https://docs.linqapp.com> and the OpenAPI document behind it. Strict on purpose: a field that the
//! schema does not know is refused, although the real service may overlook it.

mod attachments;
mod chats;
mod messages;
mod received;
mod subscriptions;
mod voicememo;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub(crate) use attachments::Attachment;
pub(crate) use chats::{Chat, add_chat, default_chats};
pub use chats::{NewChat, Service};
pub(crate) use subscriptions::Subscription;

use self::subscriptions::events;
use crate::Sandbox;
use crate::emulator::{Emulator, Look};
use crate::faults::Operation;
use crate::hooks::Outgoing;
use crate::inbound::Note;
use crate::ledger::LedgerEntry;
use crate::receipts::{ReceiptStatus, ReceiptStep};

/// The emulator itself; what it remembers is in the sandbox's state.
pub(crate) struct Linq;

impl Emulator for Linq {
    fn name(&self) -> &'static str {
        "linq"
    }

    fn look(&self) -> Look {
        Look { app: "Messages", through: "through Linq", to: "+15551234567", bubble: "#0a7cff", ink: "#fff" }
    }

    fn router(&self, sandbox: &Sandbox) -> Router {
        router(sandbox)
    }

    fn classify(&self, method: &Method, path: &str) -> Operation {
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["uploads", ..] => Operation::Upload,
            ["received", ..] => Operation::Media,
            ["v3", "chats", _, "voicememo"] if method == Method::POST => Operation::Voicememo,
            ["v3", "chats", _, "typing"] => Operation::Presence,
            ["v3", "chats", _, "messages"] | ["v3", "messages", ..] => Operation::Messages,
            ["v3", "chats"] | ["v3", "chats", _] => Operation::Chats,
            ["v3", "attachments", ..] => Operation::Attachments,
            ["v3", "phone_numbers"] => Operation::Lines,
            ["v3", "webhook-subscriptions", ..] => Operation::Webhooks,
            _ => Operation::Other,
        }
    }

    fn scripted(&self, status: u16, retry_after: Option<u64>) -> Response {
        scripted(status, retry_after)
    }

    fn not_ready(&self) -> Response {
        not_ready()
    }

    fn finish(&self, response: Response, path: &str) -> Response {
        finish(response, path)
    }

    fn secrets<'a>(&self, sandbox: &'a Sandbox) -> Vec<&'a str> {
        vec![&sandbox.inner.options.linq_token]
    }

    fn settings(&self, sandbox: &Sandbox, base_url: &str) -> Value {
        json!({"base_url": base_url, "token": sandbox.inner.options.linq_token})
    }

    /// On its way at once, on the device a moment later; of groups and SMS no more than `sent`:
    /// <https://docs.linqapp.com/guides/webhooks/events/>.
    fn usual_receipts(&self, entry: &LedgerEntry, is_group: bool) -> Vec<ReceiptStep> {
        let mut steps = vec![ReceiptStep::new(ReceiptStatus::Sent, 0)];
        if !is_group && entry.service != Some("SMS") {
            steps.push(ReceiptStep::new(ReceiptStatus::Delivered, 300));
        }
        steps
    }

    fn says(&self, status: ReceiptStatus) -> bool {
        !matches!(status, ReceiptStatus::Accepted | ReceiptStatus::Played)
    }

    fn receipts(
        &self,
        sandbox: &Sandbox,
        entry: &LedgerEntry,
        step: &ReceiptStep,
        at: &str,
    ) -> Vec<Outgoing> {
        events(sandbox, entry, step, at)
    }

    fn takes_inbound(&self) -> bool {
        true
    }

    fn receive(&self, sandbox: &Sandbox, note: &mut Note) -> Result<(), String> {
        received::receive(sandbox, note)
    }

    fn inbound(&self, sandbox: &Sandbox, notes: &[Note]) -> Vec<Outgoing> {
        notes.iter().flat_map(|note| received::outgoing(sandbox, note)).collect()
    }
}

fn router(sandbox: &Sandbox) -> Router {
    let v3 = Router::new()
        .route("/chats", get(chats::list).post(messages::create_chat))
        .route("/chats/{id}", get(chats::get_one))
        .route("/chats/{id}/voicememo", post(voicememo::send))
        .route("/chats/{id}/typing", post(chats::typing).delete(chats::typing))
        .route("/chats/{id}/messages", get(messages::list).post(messages::send_to_chat))
        .route("/messages", post(messages::send))
        .route("/attachments", post(attachments::request_upload))
        .route("/attachments/{id}", get(attachments::get_one))
        .route("/phone_numbers", get(chats::lines))
        .route("/webhook-events", get(subscriptions::events_list))
        .route("/webhook-subscriptions", get(subscriptions::list).post(subscriptions::create))
        .route(
            "/webhook-subscriptions/{id}",
            get(subscriptions::get_one).put(subscriptions::update).delete(subscriptions::delete),
        )
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(from_fn_with_state(sandbox.clone(), authenticate));
    Router::new()
        .nest("/v3", v3)
        .route("/uploads/{id}", any(attachments::upload))
        .route("/files/{id}/{filename}", get(attachments::download))
        .route("/received/{id}/{filename}", get(received::file))
        .fallback(unknown)
        .with_state(sandbox.clone())
}

async fn unknown() -> LinqError {
    LinqError::new(404, 2001, "Resource not found")
}

async fn authenticate(State(sandbox): State<Sandbox>, request: Request, next: Next) -> Response {
    let expected = format!("Bearer {}", sandbox.inner.options.linq_token);
    if request.headers().get(AUTHORIZATION).is_some_and(|value| value.as_bytes() == expected.as_bytes()) {
        return next.run(request).await;
    }
    LinqError::new(401, 2004, "Unauthorized - missing or invalid authentication token").into_response()
}

/// An error of the vendor's list, <https://docs.linqapp.com/error/>.
#[derive(Clone, Debug)]
pub(crate) struct LinqError {
    status: u16,
    code: u16,
    message: String,
    retry_after: Option<u64>,
}

impl LinqError {
    fn new(status: u16, code: u16, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// 400/1003.
    fn malformed(message: impl Into<String>) -> Self {
        Self::new(400, 1003, message)
    }

    /// 400/1001.
    fn missing(field: &str) -> Self {
        Self::new(400, 1001, format!("Required field is missing: {field}"))
    }

    fn envelope(&self, trace: &str) -> Value {
        let mut error = json!({
            "status": self.status,
            "code": self.code,
            "message": self.message,
            "doc_url": format!("https://docs.linqapp.com/error/codes/{}xxx/{}/", self.code / 1000, self.code),
        });
        if let Some(seconds) = self.retry_after {
            error["retry_after"] = seconds.into();
        }
        json!({ "success": false, "error": error, "trace_id": trace })
    }
}

/// The body waits for [`finish`], which knows the trace id.
impl IntoResponse for LinqError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives the answer its `X-Trace-ID`, which also stands in an error's body.
/// The upload and download hosts are S3 and a CDN and know nothing of traces.
fn finish(response: Response, path: &str) -> Response {
    if ["uploads/", "files/", "received/"].iter().any(|host| path.starts_with(host)) {
        return response;
    }
    let trace = Uuid::new_v4().simple().to_string();
    let (mut parts, body) = response.into_parts();
    if let Ok(value) = HeaderValue::from_str(&trace) {
        parts.headers.insert("x-trace-id", value);
    }
    let Some(error) = parts.extensions.get::<LinqError>() else {
        return Response::from_parts(parts, body);
    };
    (parts.status, parts.headers.clone(), Json(error.envelope(&trace))).into_response()
}

/// The vendor's envelope for a scripted status, with the code that goes with it most often.
fn scripted(status: u16, retry_after: Option<u64>) -> Response {
    let (code, message) = match status {
        400 | 422 => (1003, "Request is valid but cannot be processed"),
        401 => (2004, "Unauthorized - missing or invalid authentication token"),
        403 => (2005, "Access denied - insufficient permissions for this resource"),
        404 => (2001, "Resource not found"),
        409 => (2015, "Resource state conflict"),
        413 => (5001, "Voice memo file too large - maximum size is 10MB"),
        429 => (1007, "Rate limited. Try again later."),
        503 => (4004, "External service unavailable"),
        504 => (3005, "Upstream timeout"),
        _ => (3006, "Internal server error"),
    };
    let mut error = LinqError::new(status, code, message);
    error.retry_after = retry_after;
    error.into_response()
}

/// <https://docs.linqapp.com/error/codes/2xxx/2007/>
fn not_ready() -> Response {
    LinqError::new(404, 2007, "Attachment not ready - it is still being processed").into_response()
}

/// The request's JSON object, which may have only these fields.
fn object(headers: &HeaderMap, body: &[u8], allowed: &[&str]) -> Result<Map<String, Value>, LinqError> {
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(LinqError::malformed("Content-Type must be application/json"));
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| LinqError::malformed(format!("Request body is not valid JSON: {error}")))?;
    let Value::Object(map) = value else {
        return Err(LinqError::malformed("Request body must be a JSON object"));
    };
    only(&map, allowed)?;
    Ok(map)
}

fn only(map: &Map<String, Value>, allowed: &[&str]) -> Result<(), LinqError> {
    match map.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => Err(LinqError::malformed(format!("Unknown field: {key}"))),
        None => Ok(()),
    }
}

fn uuid(text: &str) -> Result<Uuid, LinqError> {
    Uuid::parse_str(text).map_err(|_| LinqError::malformed("Identifier must be a UUID"))
}

/// `^\+[1-9][0-9]{1,14}$`
fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (2..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_handle(text: &str) -> bool {
    let is_email = || {
        text.split_once('@').is_some_and(|(name, domain)| {
            !name.is_empty() && domain.contains('.') && !text.contains(char::is_whitespace)
        })
    };
    is_e164(text) || is_email()
}
