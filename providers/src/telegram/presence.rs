//! The sign that a note is being recorded: <https://core.telegram.org/bots/api#sendchataction>

use serde_json::{Map, Value, json};

use super::{Telegram, chat::Chat};
use crate::{Context, Presence, Provider as _, Recipient, RecipientError, SendError};

impl Telegram {
    /// The sign ends by itself after five seconds, and nothing ends it sooner but a message.
    pub(super) async fn show(&self, cx: &Context, to: &Recipient, sign: Presence) -> Result<(), SendError> {
        let id = self.recipient_key(to)?;
        let chat = Chat::parse(&id)
            .ok_or_else(|| RecipientError::Unsupported("there is no such chat".to_owned()))?;
        if sign == Presence::Paused {
            return Ok(());
        }
        let mut fields = Map::from_iter([
            ("chat_id".to_owned(), chat.json()),
            ("action".to_owned(), json!("record_voice")),
        ]);
        if let Some(thread) = chat.thread {
            fields.insert("message_thread_id".to_owned(), json!(thread));
        }
        self.ask::<Value>(cx, "sendChatAction", fields).await.map(drop)
    }
}
