//! WAHA: <https://waha.devlike.pro/swagger/openapi.json>. Each engine answers in its own shape, so there is a session of each:
//! `default` runs WEBJS, `wpp`, `noweb` and `gows` the others. `scanning` and `starting` cannot send.

mod hooks;
mod received;
mod send;
mod sessions;

use std::collections::HashMap;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::Sandbox;
use crate::emulator::{Emulator, Look};
use crate::faults::Operation;
use crate::hooks::Outgoing;
use crate::inbound::Note;
use crate::ledger::LedgerEntry;
use crate::receipts::{ReceiptStatus, ReceiptStep};

pub(crate) const NAME: &str = "waha";
/// Public on purpose: nothing real answers to it.
const KEY: &str = "sandbox-waha-key";
const VERSION: &str = "2026.8.1";
const REFUSALS: [&str; 5] = ["time_lock", "not_working", "plus_only", "not_implemented", "engine_error"];

/// The emulator itself; what it remembers is [`Registered`].
pub(crate) struct Waha;

/// The configuration of each session, where the addresses for events are. It outlives clearing.
#[derive(Default)]
struct Registered {
    configs: HashMap<String, Value>,
}

/// A session: its engine and its state.
fn session(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        "default" => Some(("WEBJS", "WORKING")),
        "wpp" => Some(("WPP", "WORKING")),
        "noweb" => Some(("NOWEB", "WORKING")),
        "gows" => Some(("GOWS", "WORKING")),
        "scanning" => Some(("WEBJS", "SCAN_QR_CODE")),
        "starting" => Some(("WEBJS", "STARTING")),
        _ => None,
    }
}

impl Emulator for Waha {
    fn name(&self) -> &'static str {
        NAME
    }

    fn look(&self) -> Look {
        Look {
            app: "WhatsApp",
            through: "through WAHA",
            to: "+15551234567",
            bubble: "#d9fdd3",
            ink: "#111b21",
        }
    }

    fn router(&self, sandbox: &Sandbox) -> Router {
        Router::new()
            .route("/api/sendVoice", post(send::voice))
            .route("/api/sendFile", post(send::file))
            .route("/api/sendText", post(send::text))
            .route("/api/{session}/presence", post(presence))
            .route("/api/sessions/{session}", get(sessions::show).put(sessions::update))
            .route("/api/sessions/{session}/timelock", get(sessions::time_lock))
            .route("/api/server/version", get(version))
            .route("/api/contacts/check-exists", get(sessions::number))
            .route("/api/files/{session}/{name}", get(received::file))
            .route("/api/{session}/chats/{chat}/messages/{id}", get(received::message))
            .route("/ping", get(async || Json(json!({ "message": "pong" }))))
            .fallback(unknown)
            .with_state(sandbox.clone())
    }

    fn classify(&self, method: &Method, path: &str) -> Operation {
        match path {
            "api/sendVoice" | "api/sendFile" | "api/sendText" => Operation::Voice,
            "api/server/version" => Operation::Session,
            path if path.starts_with("api/files/") => Operation::Media,
            path if path.ends_with("/presence") => Operation::Presence,
            "api/contacts/check-exists" => Operation::Chats,
            path if path.ends_with("/timelock") => Operation::Other,
            path if path.starts_with("api/sessions/") && method == Method::PUT => Operation::Webhooks,
            path if path.starts_with("api/sessions/") => Operation::Session,
            _ => Operation::Other,
        }
    }

    fn scripted(&self, status: u16, _: Option<u64>) -> Response {
        match status {
            401 => Refusal::nest(401, "Unauthorized"),
            404 => not_started("default"),
            422 => Refusal::not_working("default", "FAILED"),
            500 => Refusal::exception("Protocol error (Runtime.callFunctionOn): Target closed."),
            _ => Refusal::nest(status, "voicegate sandbox: scripted"),
        }
        .into_response()
    }

    fn not_ready(&self) -> Response {
        Refusal::not_working("default", "STARTING").into_response()
    }

    fn refusals(&self) -> &'static [&'static str] {
        &REFUSALS
    }

    fn refusal(&self, name: &str) -> Response {
        match name {
            "time_lock" => Refusal::exception("2 UNKNOWN: server returned error 463"),
            "not_working" => Refusal::not_working("default", "FAILED"),
            "plus_only" => {
                Refusal::nest(422, "The feature is available only in Plus version for 'WEBJS' engine.")
            }
            "not_implemented" => Refusal::nest(422, "The method is not implemented by the engine."),
            _ => Refusal::exception("Evaluation failed: TypeError: t is not a function"),
        }
        .into_response()
    }

    fn secrets<'a>(&self, _: &'a Sandbox) -> Vec<&'a str> {
        vec![KEY]
    }

    fn settings(&self, _: &Sandbox, base_url: &str) -> Value {
        json!({ "base_url": base_url, "api_key": KEY })
    }

    fn usual_receipts(&self, _: &LedgerEntry, _: bool) -> Vec<ReceiptStep> {
        vec![
            ReceiptStep::new(ReceiptStatus::Accepted, 0),
            ReceiptStep::new(ReceiptStatus::Sent, 20),
            ReceiptStep::new(ReceiptStatus::Delivered, 300),
        ]
    }

    fn says(&self, _: ReceiptStatus) -> bool {
        true
    }

    fn receipts(&self, sandbox: &Sandbox, entry: &LedgerEntry, step: &ReceiptStep, _: &str) -> Vec<Outgoing> {
        hooks::events(sandbox, entry, step)
    }

    fn takes_inbound(&self) -> bool {
        true
    }

    fn receive(&self, _: &Sandbox, note: &mut Note) -> Result<(), String> {
        received::receive(note)
    }

    fn inbound(&self, sandbox: &Sandbox, notes: &[Note]) -> Vec<Outgoing> {
        notes.iter().flat_map(|note| received::events(sandbox, note)).collect()
    }
}

/// An answer in one of the shapes of a NestJS application.
#[derive(Debug)]
struct Refusal {
    status: u16,
    body: Value,
}

impl Refusal {
    fn nest(status: u16, message: impl Into<Value>) -> Self {
        let error = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        Self { status, body: json!({ "statusCode": status, "message": message.into(), "error": error }) }
    }

    /// A request that breaks a rule of its schema.
    fn rule(rule: impl Into<String>) -> Self {
        Self::nest(400, json!([rule.into()]))
    }

    fn not_working(session: &str, status: &str) -> Self {
        let error = "Session status is not as expected. Try again later or restart the session";
        let body = json!({ "error": error, "session": session, "status": status, "expected": ["WORKING"] });
        Self { status: 422, body }
    }

    /// An exception of an engine; the real one repeats the request behind it.
    fn exception(message: &str) -> Self {
        let body = json!({
            "statusCode": 500,
            "timestamp": crate::state::now(),
            "exception": { "name": "Error", "message": message },
            "request": { "path": "/api/sendVoice", "method": "POST", "body": { "session": "default" }, "query": {} },
            "version": { "version": VERSION, "engine": "WEBJS", "tier": "CORE" },
        });
        Self { status: 500, body }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.body)).into_response()
    }
}

async fn unknown(method: Method, uri: Uri) -> Refusal {
    Refusal::nest(404, format!("Cannot {method} {}", uri.path()))
}

async fn version(headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    authenticate(&headers)?;
    Ok(Json(json!({
        "version": VERSION,
        "engine": "WEBJS",
        "tier": "CORE",
        "browser": "/usr/bin/chromium",
        "platform": "linux/x64",
        "worker": { "id": null },
    })))
}

/// Sets the presence of the session in a chat.
async fn presence(Path(name): Path<String>, headers: HeaderMap, body: Bytes) -> Result<StatusCode, Refusal> {
    let map = read(&headers, &body, &["chatId", "presence"])?;
    working(&name)?;
    let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
    if !["typing", "recording", "paused"].contains(&text("presence")) || !text("chatId").contains('@') {
        return Err(Refusal::rule("presence must be one of the following values: typing, recording, paused"));
    }
    Ok(StatusCode::CREATED)
}

/// The key in its header. The real one takes it in the query as well, where every log on the way would keep it.
fn authenticate(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    if given == Some(KEY) { Ok(()) } else { Err(Refusal::nest(401, "Unauthorized")) }
}

/// The JSON object of an authentic request, with known fields only: `WAHA_HTTP_STRICT_MODE`.
fn read(headers: &HeaderMap, body: &Bytes, known: &[&str]) -> Result<Map<String, Value>, Refusal> {
    authenticate(headers)?;
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(Refusal::rule("the body must be JSON"));
    }
    let Ok(Value::Object(map)) = serde_json::from_slice(body) else {
        return Err(Refusal::rule("the body must be a JSON object"));
    };
    only(&map, known, "")?;
    Ok(map)
}

fn only(map: &Map<String, Value>, known: &[&str], place: &str) -> Result<(), Refusal> {
    match map.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Refusal::rule(format!("property {place}{name} should not exist"))),
        None => Ok(()),
    }
}

/// A session that does not exist, and one that is stopped, have the same answer.
fn not_started(name: &str) -> Refusal {
    let text = format!(
        "We didn't find a session with name '{name}'.\nPlease start it first by using POST /api/sessions/{name}/start request"
    );
    Refusal::nest(404, text)
}

/// A session that can send, and its engine.
fn working(name: &str) -> Result<&'static str, Refusal> {
    match session(name) {
        None => Err(not_started(name)),
        Some((engine, "WORKING")) => Ok(engine),
        Some((_, state)) => Err(Refusal::not_working(name, state)),
    }
}

/// Access to the sandbox for handlers that need it beside the body.
type App = State<Sandbox>;
