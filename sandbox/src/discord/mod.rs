//! Discord's HTTP API, as far as a bot's voice messages need it:
//! <https://docs.discord.com/developers/resources/message#voice-messages>.
//!
//! Strict where Discord is: the user agent, flags, duration and waveform, types of parts, buckets. What it accepts and
//! people do not like stands in the ledger under `problems`.

mod errors;
mod messages;
mod places;

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use self::errors::DiscordError;
use crate::Sandbox;
use crate::emulator::{Emulator, Look};
use crate::faults::Operation;

/// Public on purpose: nothing real answers to it.
const TOKEN: &str = "sandbox-discord-token";

/// The emulator itself; what it remembers is a [`places::Memory`].
pub(crate) struct Discord;

impl Emulator for Discord {
    fn name(&self) -> &'static str {
        "discord"
    }

    fn look(&self) -> Look {
        Look {
            app: "Discord",
            through: "through a bot",
            to: "discord:2000000000000000001",
            bubble: "#e0e3ff",
            ink: "#3c45a5",
        }
    }

    fn router(&self, sandbox: &Sandbox) -> Router {
        Router::new()
            .route("/users/@me", get(me))
            .route("/users/@me/channels", post(places::open))
            .route("/channels/{channel}/messages", post(messages::create))
            .fallback(unknown)
            .with_state(sandbox.clone())
    }

    fn classify(&self, method: &Method, path: &str) -> Operation {
        match path {
            "users/@me" => Operation::Session,
            "users/@me/channels" => Operation::Chats,
            _ if *method == Method::POST && path.ends_with("/messages") => Operation::Voice,
            _ => Operation::Other,
        }
    }

    fn scripted(&self, status: u16, retry_after: Option<u64>) -> Response {
        DiscordError::usual(status, retry_after).into_response()
    }

    fn secrets<'a>(&self, _: &'a Sandbox) -> Vec<&'a str> {
        vec![TOKEN]
    }

    fn settings(&self, _: &Sandbox, base_url: &str) -> Value {
        json!({"base_url": base_url, "token": TOKEN})
    }
}

async fn unknown() -> DiscordError {
    DiscordError::new(404, 0, "404: Not Found")
}

/// Requests without the right user agent do not get as far as Discord:
/// <https://docs.discord.com/developers/reference#user-agent>
fn authenticate(headers: &HeaderMap) -> Result<(), DiscordError> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let agent = header("user-agent").strip_prefix("DiscordBot (").and_then(|rest| rest.split_once(')'));
    let named = agent.and_then(|(inside, _)| inside.split_once(", "));
    if !named.is_some_and(|(url, version)| url.starts_with("http") && !version.is_empty()) {
        return Err(DiscordError::new(403, 40_333, "internal network error"));
    }
    if header("authorization") == format!("Bot {TOKEN}") {
        return Ok(());
    }
    Err(DiscordError::usual(401, None))
}

async fn me(State(_): State<Sandbox>, headers: HeaderMap) -> Result<Json<Value>, DiscordError> {
    authenticate(&headers)?;
    Ok(Json(json!({
        "id": places::BOT,
        "username": "voicegate-sandbox",
        "avatar": null,
        "discriminator": "0001",
        "public_flags": 0,
        "flags": 0,
        "bot": true,
        "global_name": null,
        "mfa_enabled": true,
        "locale": "en-US",
        "verified": true,
    })))
}
