//! The channels and people that the emulated bot knows, and what it may send there.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{DiscordError, authenticate};
use crate::Sandbox;

/// The bot's own id.
pub const BOT: &str = "1000000000000000001";

/// A channel that takes everything.
pub const GENERAL: &str = "2000000000000000001";
/// A channel that takes no voice messages.
pub const NO_VOICE: &str = "2000000000000000002";
/// A channel that the bot cannot see.
pub const NO_ACCESS: &str = "2000000000000000003";

/// A person who takes everything.
pub const ANN: &str = "3000000000000000001";
/// A person who takes no direct messages.
pub const CLOSED: &str = "3000000000000000002";

/// The channel of direct messages with a person of the number `3...` is `4...`.
const PERSON: char = '3';
const DIRECT: &str = "4";

/// Messages that a channel takes, and within how many milliseconds.
pub const BUCKET: (u32, i64) = (5, 5000);

/// State of the emulator.
#[derive(Default)]
pub struct Memory {
    /// Direct messages that were opened.
    opened: Vec<String>,
    messages: u64,
    /// The begin of each channel's window, and what went into it.
    windows: HashMap<String, (Timestamp, u32)>,
    /// The message that has a nonce, and since when.
    pub nonces: HashMap<String, (Timestamp, Value)>,
}

impl Memory {
    pub fn next_id(&mut self) -> String {
        self.messages += 1;
        (5_000_000_000_000_000_000 + self.messages).to_string()
    }

    /// Whether a channel is there and may be written into: its name.
    pub fn find(&self, channel: &str) -> Result<&'static str, DiscordError> {
        match channel {
            GENERAL => Ok("#general"),
            NO_VOICE => Ok("#no-voice"),
            NO_ACCESS => Err(DiscordError::new(403, 50_001, "Missing Access")),
            _ if channel.strip_prefix(DIRECT) == CLOSED.strip_prefix(PERSON) => {
                Err(DiscordError::new(403, 50_007, "Cannot send messages to this user"))
            }
            _ if self.opened.iter().any(|opened| opened == channel) => Ok("@ann"),
            _ => Err(DiscordError::new(404, 10_003, "Unknown Channel")),
        }
    }

    /// Takes a place in the channel's bucket: what is left, and in how many milliseconds it is full again.
    pub fn take(&mut self, channel: &str, now: Timestamp) -> Result<(u32, i64), DiscordError> {
        let (most, length) = BUCKET;
        let window = self.windows.entry(channel.to_owned()).or_insert((now, 0));
        let mut since = now.as_millisecond() - window.0.as_millisecond();
        if !(0..length).contains(&since) {
            *window = (now, 0);
            since = 0;
        }
        let left = length - since;
        if window.1 == most {
            let seconds = u32::try_from(left).map_or(1.0, |left| f64::from(left) / 1000.0);
            return Err(DiscordError::limit(seconds, false));
        }
        window.1 += 1;
        Ok((most - window.1, left))
    }
}

/// <https://docs.discord.com/developers/resources/user#create-dm>
pub async fn open(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, DiscordError> {
    authenticate(&headers)?;
    let body: Value = serde_json::from_slice(&body)
        .map_err(|_| DiscordError::new(400, 50_109, "The request body contains invalid JSON."))?;
    let person = body["recipient_id"].as_str().unwrap_or_default();
    if person.is_empty() || !person.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DiscordError::field("recipient_id", "NUMBER_TYPE_COERCE", "Value is not snowflake."));
    }
    if person != ANN && person != CLOSED {
        return Err(DiscordError::new(400, 50_033, "Invalid Recipient(s)"));
    }
    let channel = format!("{DIRECT}{}", &person[1..]);
    let mut state = sandbox.inner.lock();
    let memory = state.own::<Memory>();
    if !memory.opened.contains(&channel) {
        memory.opened.push(channel.clone());
    }
    Ok(Json(json!({
        "id": channel,
        "type": 1,
        "flags": 0,
        "last_message_id": null,
        "recipients": [{
            "id": person, "username": "ann", "avatar": null, "discriminator": "0", "public_flags": 0, "flags": 0,
            "global_name": "Ann", "primary_guild": null,
        }],
    })))
}
