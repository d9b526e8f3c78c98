//! Telegram's Bot API, as far as voice notes need it: <https://core.telegram.org/bots/api>. The words of refusals are those of
//! the server, <https://github.com/tdlib/telegram-bot-api/blob/master/telegram-bot-api/Client.cpp>: clients have nothing
//! else to go by.

mod chats;
mod form;
mod received;
mod send;
mod webhook;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};

use self::chats::Memory;
use self::form::Fields;
use crate::Sandbox;
use crate::emulator::{Emulator, Look};
use crate::faults::Operation;
use crate::hooks::Outgoing;
use crate::inbound::Note;

/// Public on purpose: nothing real answers to it.
const TOKEN: &str = "123456789:sandbox-telegram-token";

/// The emulator itself; what it remembers is a [`Memory`].
pub(crate) struct Telegram;

impl Emulator for Telegram {
    fn name(&self) -> &'static str {
        "telegram"
    }

    fn look(&self) -> Look {
        Look {
            app: "Telegram",
            through: "through a bot",
            to: "telegram:123456789",
            bubble: "#e3f2fd",
            ink: "#0b4a7d",
        }
    }

    fn router(&self, sandbox: &Sandbox) -> Router {
        Router::new()
            .route("/{bot}/{method}", any(call))
            .route("/file/{bot}/voice/{name}", get(received::file))
            .fallback(unknown)
            .with_state(sandbox.clone())
    }

    fn classify(&self, _: &Method, path: &str) -> Operation {
        match path.rsplit('/').next().unwrap_or_default() {
            method if send::METHODS.iter().any(|(name, ..)| name.eq_ignore_ascii_case(method)) => {
                Operation::Voice
            }
            "getMe" => Operation::Session,
            "getWebhookInfo" | "setWebhook" | "deleteWebhook" => Operation::Webhooks,
            "getChat" => Operation::Chats,
            "getFile" => Operation::Media,
            _ if path.starts_with("file/") => Operation::Media,
            "sendChatAction" => Operation::Presence,
            _ => Operation::Other,
        }
    }

    fn scripted(&self, status: u16, retry_after: Option<u64>) -> Response {
        let description = match status {
            400 => "Bad Request: chat not found",
            401 => "Unauthorized",
            403 => "Forbidden: bot was blocked by the user",
            404 => "Not Found",
            413 => "Request Entity Too Large",
            429 => "Too Many Requests: retry later",
            502 => "Bad Gateway",
            _ => "Internal Server Error",
        };
        let mut refusal = Refusal::new(status, description);
        refusal.parameters = retry_after.map(|seconds| json!({"retry_after": seconds}));
        refusal.into_response()
    }

    fn secrets<'a>(&self, _: &'a Sandbox) -> Vec<&'a str> {
        vec![TOKEN]
    }

    fn settings(&self, _: &Sandbox, base_url: &str) -> Value {
        json!({"base_url": base_url, "token": TOKEN})
    }

    fn takes_inbound(&self) -> bool {
        true
    }

    fn receive(&self, sandbox: &Sandbox, note: &mut Note) -> Result<(), String> {
        received::receive(sandbox, note)
    }

    fn inbound(&self, sandbox: &Sandbox, notes: &[Note]) -> Vec<Outgoing> {
        notes.iter().filter_map(|note| received::outgoing(sandbox, note)).collect()
    }

    fn keep(&self, before: &mut crate::state::State, after: &mut crate::state::State) {
        let (before, after) = (before.own::<Memory>(), after.own::<Memory>());
        after.webhook = std::mem::take(&mut before.webhook);
        after.webhook_secret = before.webhook_secret.take();
    }
}

/// `{"ok": false, "error_code", "description", "parameters"}`
#[derive(Debug)]
struct Refusal {
    status: u16,
    description: String,
    parameters: Option<Value>,
}

impl Refusal {
    fn new(status: u16, description: impl Into<String>) -> Self {
        Self { status, description: description.into(), parameters: None }
    }

    fn bad(why: &str) -> Self {
        Self::new(400, format!("Bad Request: {why}"))
    }

    fn forbidden(why: &str) -> Self {
        Self::new(403, format!("Forbidden: {why}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({"ok": false, "error_code": self.status, "description": self.description});
        if let Some(parameters) = self.parameters {
            body["parameters"] = parameters;
        }
        (status, Json(body)).into_response()
    }
}

async fn unknown() -> Refusal {
    Refusal::new(404, "Not Found")
}

/// Every method has the same address, and takes GET and POST alike.
async fn call(
    State(sandbox): State<Sandbox>,
    Path((bot, method)): Path<(String, String)>,
    request_method: Method,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let Some(token) = bot.strip_prefix("bot") else { return Err(Refusal::new(404, "Not Found")) };
    if !token.contains(':') {
        return Err(Refusal::new(404, "Not Found"));
    }
    if token != TOKEN {
        return Err(Refusal::new(401, "Unauthorized"));
    }
    if !matches!(request_method, Method::GET | Method::POST) {
        return Err(Refusal::new(405, "Method Not Allowed"));
    }
    let fields = Fields::read(uri.query(), &headers, body).await?;
    let result = match method.to_ascii_lowercase().as_str() {
        "getme" => json!({
            "id": 123_456_789,
            "is_bot": true,
            "first_name": "Sandbox",
            "username": "voicegate_sandbox_bot",
            "can_join_groups": true,
            "can_read_all_group_messages": false,
        }),
        "getfile" => received::get_file(&sandbox, &fields)?,
        "getchat" => sandbox.inner.lock().own::<Memory>().find(&fields)?.json(),
        "sendchataction" => {
            let chat = sandbox.inner.lock().own::<Memory>().find(&fields)?;
            if chat.kind == "channel" {
                return Err(Refusal::bad("chat actions are not supported in channels"));
            }
            match fields.text("action").as_deref() {
                Some("typing" | "record_voice" | "upload_voice" | "upload_document") => json!(true),
                _ => return Err(Refusal::bad("wrong parameter action in request")),
            }
        }
        "getwebhookinfo" => webhook::info(&sandbox),
        "setwebhook" => webhook::set(&sandbox, &fields)?,
        "deletewebhook" => webhook::delete(&sandbox),
        _ => send::message(&sandbox, &method, &fields)?,
    };
    Ok(Json(json!({"ok": true, "result": result})))
}
