//! Evolution API, version 2: <https://github.com/EvolutionAPI/evolution-api/tree/3454bec/src>. Two instances exist: `sandbox` is
//! connected to WhatsApp, `closed` is not.

mod hooks;
mod send;

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
use crate::whatsapp::STRANGER;

pub(crate) const NAME: &str = "evolution";
/// Public on purpose: nothing real answers to it.
const KEY: &str = "sandbox-evolution-key";
const INSTANCE: &str = "sandbox";
const CLOSED: &str = "closed";
const REFUSALS: [&str; 5] = ["connection_closed", "timed_out", "not_on_whatsapp", "overlimit", "not_running"];

/// The emulator itself; what it remembers is [`Registered`].
pub(crate) struct Evolution;

/// The one webhook of each instance. It outlives clearing.
#[derive(Default)]
struct Registered {
    webhooks: HashMap<String, Value>,
}

type App = State<Sandbox>;

impl Emulator for Evolution {
    fn name(&self) -> &'static str {
        NAME
    }

    fn look(&self) -> Look {
        Look {
            app: "WhatsApp",
            through: "through Evolution",
            to: "+15551234567",
            bubble: "#d9fdd3",
            ink: "#111b21",
        }
    }

    fn router(&self, sandbox: &Sandbox) -> Router {
        Router::new()
            .route("/message/sendWhatsAppAudio/{instance}", post(send::voice))
            .route("/message/sendMedia/{instance}", post(send::media))
            .route("/message/sendText/{instance}", post(send::text))
            .route("/instance/connectionState/{instance}", get(connection_state))
            .route("/chat/getBase64FromMediaMessage/{instance}", post(hooks::base64))
            .route("/chat/sendPresence/{instance}", post(presence))
            .route("/webhook/set/{instance}", post(hooks::set))
            .route("/webhook/find/{instance}", get(hooks::find))
            .route("/", get(async || Json(json!({ "status": 200, "message": "Welcome to the Evolution API", "version": "2.3.6" }))))
            .fallback(unknown)
            .with_state(sandbox.clone())
    }

    fn classify(&self, _: &Method, path: &str) -> Operation {
        match path.split('/').next().unwrap_or_default() {
            "message" => Operation::Voice,
            "instance" => Operation::Session,
            "webhook" => Operation::Webhooks,
            "chat" if path.starts_with("chat/sendPresence/") => Operation::Presence,
            "chat" => Operation::Media,
            _ => Operation::Other,
        }
    }

    fn scripted(&self, status: u16, _: Option<u64>) -> Response {
        match status {
            400 => Refusal::new(400, json!([["voicegate sandbox: scripted"]])),
            401 => Refusal::new(401, "Unauthorized"),
            404 => Refusal::new(404, json!(["The \"sandbox\" instance does not exist"])),
            _ => Refusal::new(status, "Internal Server Error"),
        }
        .into_response()
    }

    fn not_ready(&self) -> Response {
        self.refusal("connection_closed")
    }

    fn refusals(&self) -> &'static [&'static str] {
        &REFUSALS
    }

    fn refusal(&self, name: &str) -> Response {
        match name {
            "timed_out" => Refusal::new(400, json!(["Error: Timed Out"])),
            "not_on_whatsapp" => Refusal::nobody("15551234567"),
            "overlimit" => Refusal::new(400, json!(["Error: rate-overlimit"])),
            "not_running" => Refusal::new(500, "Cannot read properties of undefined (reading 'onWhatsApp')"),
            _ => Refusal::new(400, json!(["Error: Connection Closed"])),
        }
        .into_response()
    }

    fn secrets<'a>(&self, _: &'a Sandbox) -> Vec<&'a str> {
        vec![KEY]
    }

    fn settings(&self, _: &Sandbox, base_url: &str) -> Value {
        json!({ "base_url": base_url, "api_key": KEY, "instance": INSTANCE })
    }

    fn usual_receipts(&self, entry: &LedgerEntry, _: bool) -> Vec<ReceiptStep> {
        // The refusal of a new conversation comes after the answer:
        // https://github.com/evolution-foundation/evolution-api/issues/2642
        if entry.conversation == STRANGER.replace("@c.us", "@s.whatsapp.net") {
            return vec![
                ReceiptStep::new(ReceiptStatus::Accepted, 0),
                ReceiptStep::new(ReceiptStatus::Failed, 20),
            ];
        }
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
        hooks::receive(note)
    }

    fn inbound(&self, sandbox: &Sandbox, notes: &[Note]) -> Vec<Outgoing> {
        notes.iter().flat_map(|note| hooks::received(sandbox, note)).collect()
    }
}

/// `{status, error, response: {message}}`
#[derive(Debug)]
struct Refusal {
    status: u16,
    message: Value,
}

impl Refusal {
    fn new(status: u16, message: impl Into<Value>) -> Self {
        Self { status, message: message.into() }
    }

    /// A request that breaks a rule of its schema: a list within the list of the exception's arguments.
    fn rule(rule: impl Into<String>) -> Self {
        Self::new(400, json!([[rule.into()]]))
    }

    fn nobody(number: &str) -> Self {
        let jid = format!("{number}@s.whatsapp.net");
        Self::new(400, json!([{ "jid": jid, "exists": false, "number": number }]))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error = status.canonical_reason().unwrap_or("Error");
        let body = json!({ "status": self.status, "error": error, "response": { "message": self.message } });
        (status, Json(body)).into_response()
    }
}

async fn unknown(method: Method, uri: Uri) -> Refusal {
    Refusal::new(404, json!([format!("Cannot {method} {}", uri.path())]))
}

/// <https://github.com/EvolutionAPI/evolution-api/tree/3454bec/src/api/guards>
fn authenticate(headers: &HeaderMap, instance: &str) -> Result<(), Refusal> {
    let given = headers.get("apikey").and_then(|value| value.to_str().ok());
    if given != Some(KEY) {
        return Err(Refusal::new(401, "Unauthorized"));
    }
    if instance != INSTANCE && instance != CLOSED {
        return Err(Refusal::new(404, json!([format!("The \"{instance}\" instance does not exist")])));
    }
    Ok(())
}

async fn connection_state(Path(instance): Path<String>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    authenticate(&headers, &instance)?;
    let state = if instance == CLOSED { "close" } else { "open" };
    Ok(Json(json!({ "instance": { "instanceName": instance, "state": state } })))
}

/// Shows a sign for as long as `delay` says. The real one holds the request for that time.
async fn presence(
    Path(instance): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let map = read(&headers, &instance, &body, &["number", "delay", "presence", "options"])?;
    let number = map.get("number").and_then(Value::as_str).unwrap_or_default();
    let sign = map.get("presence").and_then(Value::as_str).unwrap_or_default();
    if number.is_empty() || !["composing", "recording", "paused"].contains(&sign) {
        return Err(Refusal::rule("instance requires property \"presence\""));
    }
    if !map.get("delay").is_some_and(Value::is_u64) {
        return Err(Refusal::rule("instance.delay is not of a type(s) integer"));
    }
    if instance == CLOSED {
        return Err(Refusal::new(400, json!(["Error: Connection Closed"])));
    }
    Ok(StatusCode::CREATED)
}

/// The JSON object of an authentic request. Unknown fields are refused, which the real one ignores.
fn read(
    headers: &HeaderMap,
    instance: &str,
    body: &Bytes,
    known: &[&str],
) -> Result<Map<String, Value>, Refusal> {
    authenticate(headers, instance)?;
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let map = match serde_json::from_slice(body) {
        Ok(Value::Object(map)) if kind.starts_with("application/json") => map,
        _ => return Err(Refusal::rule("voicegate sandbox: the body must be a JSON object")),
    };
    match map.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Refusal::rule(format!("voicegate sandbox: there is no {name}"))),
        None => Ok(map),
    }
}
