//! The sign that a message is being written: `/v3/chats/{chatId}/typing`. Linq knows no recording.

use reqwest::Method;
use serde_json::Value;

use super::{
    Linq,
    chats::no_chat,
    errors::{Refusal, Step},
};
use crate::{
    Content, Context, Memory, OutboundNote, Presence, Provider as _, Recipient, SendError, Stage,
    wire::{self, NoAnswer},
};

impl Linq {
    /// `known` is what sending a note has remembered about the recipient.
    pub(super) async fn show(
        &self,
        cx: &Context,
        to: &Recipient,
        known: Option<&Value>,
        sign: Presence,
    ) -> Result<(), SendError> {
        let chat = match to {
            Recipient::Native { .. } => self.recipient_key(to)?,
            _ => self.chat_of(cx, to, known).await.map_err(|error| error.at(Stage::Check))?,
        };
        let method = if sign == Presence::Recording { Method::POST } else { Method::DELETE };
        let request = self.request(method, self.api.join(&["v3", "chats", &chat, "typing"]), None);
        let answer =
            wire::call(cx, request).await.map_err(|none| NoAnswer::in_check(none).at(Stage::Check))?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(Refusal::read(&answer, cx.now, &self.secrets(&[])).into_error(Step::Check).at(Stage::Check))
    }

    /// The id of the recipient's chat: remembered, or looked up.
    async fn chat_of(
        &self,
        cx: &Context,
        to: &Recipient,
        known: Option<&Value>,
    ) -> Result<String, SendError> {
        let about = OutboundNote {
            id: String::new(),
            to: to.clone(),
            content: Content::Text(String::new()),
            reply_to: None,
        };
        let mut memory = Memory { recipient: known.cloned(), ..Memory::default() };
        let chat = self.known_chat(cx, &about, &mut memory).await?;
        chat.map(|chat| chat.chat_id).ok_or_else(no_chat)
    }
}
