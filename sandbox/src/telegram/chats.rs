//! The people and groups whom the emulated bot knows.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Refusal;
use super::form::Fields;

/// A person who takes everything.
pub const ANN: i64 = 123_456_789;
/// A person who takes no voice messages.
pub const NO_VOICE: i64 = 222_000_222;
/// A person who has blocked the bot.
pub const BLOCKED: i64 = 333_000_333;
/// A group with topics, and the number that it had before it became a supergroup.
pub const GROUP: i64 = -1_001_234_567_890;
pub const GROUP_BEFORE: i64 = -123_456;
/// A topic of the group.
pub const TOPIC: i64 = 17;
pub const CHANNEL: &str = "@voicegate_sandbox";
const CHANNEL_ID: i64 = -1_009_876_543_210;

#[derive(Clone, Copy, Debug)]
pub struct Chat {
    pub id: i64,
    pub kind: &'static str,
    pub name: &'static str,
}

impl Chat {
    pub fn json(&self) -> Value {
        let mut shown = json!({"id": self.id, "type": self.kind});
        shown[if self.kind == "private" { "first_name" } else { "title" }] = json!(self.name);
        if self.id == NO_VOICE {
            shown["has_restricted_voice_and_video_messages"] = json!(true);
        }
        shown
    }
}

/// A file that was uploaded, which goes by its id from then on.
#[derive(Clone, Debug)]
pub struct Upload {
    pub method: &'static str,
    pub filename: Option<String>,
    pub mime_type: Option<String>,
    pub bytes: Bytes,
}

/// State of the emulator.
#[derive(Default)]
pub struct Memory {
    /// The last message's number in each chat.
    numbers: HashMap<i64, i64>,
    pub uploads: HashMap<String, Upload>,
    /// Address for updates; empty if there is none.
    pub webhook: String,
    /// Comes along with every update.
    pub webhook_secret: Option<String>,
}

impl Memory {
    pub fn find(&self, fields: &Fields) -> Result<Chat, Refusal> {
        let text = fields.text("chat_id").unwrap_or_default();
        if text.is_empty() {
            return Err(Refusal::bad("chat_id is empty"));
        }
        if text.eq_ignore_ascii_case(CHANNEL) {
            return Ok(Chat { id: CHANNEL_ID, kind: "channel", name: "Sandbox news" });
        }
        let person = |id, name| Ok(Chat { id, kind: "private", name });
        match text.parse::<i64>() {
            Ok(ANN) => person(ANN, "Ann"),
            Ok(NO_VOICE) => person(NO_VOICE, "Nora"),
            Ok(BLOCKED) => Err(Refusal::forbidden("bot was blocked by the user")),
            // Anybody from a range that is long enough for floods.
            Ok(id @ 700_000_000..=700_999_999) => person(id, "Guest"),
            Ok(GROUP) => Ok(Chat { id: GROUP, kind: "supergroup", name: "Sandbox group" }),
            Ok(GROUP_BEFORE) => {
                let mut refusal = Refusal::bad("group chat was upgraded to a supergroup chat");
                refusal.parameters = Some(json!({"migrate_to_chat_id": GROUP}));
                Err(refusal)
            }
            _ => Err(Refusal::bad("chat not found")),
        }
    }

    pub fn next_number(&mut self, chat: i64) -> i64 {
        let number = self.numbers.entry(chat).or_insert(0);
        *number += 1;
        *number
    }

    /// Whether there is such a message.
    pub fn has(&self, chat: i64, message: i64) -> bool {
        self.numbers.get(&chat).is_some_and(|last| (1..=*last).contains(&message))
    }
}
