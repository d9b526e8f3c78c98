//! Numbers that WhatsApp knows in another spelling than people dial.

use reqwest::Method;
use serde_json::json;

use super::{Refusal, Waha};
use crate::{
    Context, Memory, OutboundNote, Provider as _, Recipient, SendError, SendErrorKind,
    wire::{self, NoAnswer, Step},
};

/// Brazil. Mobile numbers there got a ninth digit, and WhatsApp knows people who joined before that without it
/// (<https://waha.devlike.pro/docs/how-to/contacts/#check-phone-number-exists>).
const RESPELT: &str = "+55";

impl Waha {
    /// The chat to send to. For a number that may be spelt differently the server is asked once.
    pub(super) async fn chat(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<String, SendError> {
        let usual = self.recipient_key(&note.to)?;
        let digits = match &note.to {
            Recipient::Phone(number) if number.starts_with(RESPELT) => number.trim_start_matches('+'),
            _ => return Ok(usual),
        };
        if let Some(chat) = memory.recipient.as_ref().and_then(|known| known["chat"].as_str()) {
            return Ok(chat.to_owned());
        }
        let mut request = self.request(Method::GET, &["api", "contacts", "check-exists"], None);
        request
            .url_mut()
            .query_pairs_mut()
            .append_pair("phone", digits)
            .append_pair("session", &self.session);
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_prepare)?;
        if !answer.status.is_success() {
            let error = Refusal::read(&answer, cx.now, &self.secrets(&[])).into_error(Step::Prepare);
            // An engine that cannot tell leaves the number as it is.
            let cannot_tell = matches!(error.kind, SendErrorKind::Rejected | SendErrorKind::Misconfigured);
            return if cannot_tell { Ok(usual) } else { Err(error) };
        }
        let body = answer.json();
        if body["numberExists"] == false {
            return Err(SendError::new(SendErrorKind::NotReachable, "the recipient is not on WhatsApp"));
        }
        let Some(chat) = body["chatId"].as_str().filter(|chat| chat.contains('@')) else { return Ok(usual) };
        memory.recipient = Some(json!({"chat": chat}));
        Ok(chat.to_owned())
    }
}
