//! The sign that a note is being recorded: `POST /chat/sendPresence/{instance}`.
//! <https://doc.evolution-api.com/v2/api-reference/chat-controller/send-presence>

use reqwest::Method;
use serde_json::json;

use super::{Evolution, number};
use crate::{Context, Presence, Provider as _, Recipient, SendError, Stage};

/// The server holds the request for this long, in milliseconds, and then ends the sign itself.
const SHOWN: u64 = 5_000;

impl Evolution {
    pub(super) async fn show(&self, cx: &Context, to: &Recipient, sign: Presence) -> Result<(), SendError> {
        let number = number(&self.recipient_key(to)?);
        if sign == Presence::Paused {
            return Ok(());
        }
        // Version 2 reads the fields themselves; version 1, and the published API file, have them in `options`.
        let mut body = json!({"number": number, "delay": SHOWN, "presence": sign});
        body["options"] = body.clone();
        let request = self.request(Method::POST, &["chat", "sendPresence", &self.instance], Some(&body));
        self.ask(cx, request).await.map(drop).map_err(|error| error.at(Stage::Check))
    }
}
