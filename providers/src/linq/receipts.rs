//! Linq's reports about messages that it took, and messages that people write: <https://docs.linqapp.com/guides/webhooks/>.
//!
//! Two forms of the same events are in use, told apart by nothing that has to be looked at: 2026-02-03 has the message
//! at the top of `data`, 2025-01-01 has most of it in `data.message`.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{Linq, received};
use crate::{
    Callback, CallbackError, CallbackRequest, ProviderEvent, Receipt, ReceiptFailure, ReceiptStatus,
    SendErrorKind, Upstream, wire,
};

/// The events about a message's delivery, and what people write. <https://docs.linqapp.com/guides/webhooks/events/>
pub(super) const EVENTS: [&str; 5] =
    ["message.sent", "message.delivered", "message.read", "message.failed", "message.received"];

/// Longest id that is taken for one. They are UUIDs.
const LONGEST_ID: usize = 255;

/// The part of every event that is around it.
#[derive(Deserialize)]
struct Envelope {
    event_type: String,
    event_id: Option<String>,
    created_at: Option<String>,
    trace_id: Option<String>,
    #[serde(default)]
    data: Value,
}

impl Linq {
    /// Judges and reads a webhook.
    pub(super) fn read_callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        let signed_id = self.signing_keys.verify(request)?;
        let event: Envelope = serde_json::from_slice(&request.body).map_err(|_| CallbackError::Malformed)?;
        if event.event_type == "message.received" {
            let voices = received::voices(&event.data, event.created_at.as_deref(), request.now)?;
            return Ok(Callback {
                events: voices.into_iter().map(ProviderEvent::of_voice).collect(),
                answer: None,
            });
        }
        // Linq's own advice is to tell repetitions by `event_id`.
        let id = event.event_id.as_deref().and_then(id).or_else(|| id(signed_id));
        Ok(Callback::of_receipt(id, self.receipt(&event, request.now)?))
    }

    fn receipt(&self, event: &Envelope, now: Timestamp) -> Result<Option<Receipt>, CallbackError> {
        let (status, time) = match event.event_type.as_str() {
            "message.sent" => (ReceiptStatus::Sent, "sent_at"),
            "message.delivered" => (ReceiptStatus::Delivered, "delivered_at"),
            "message.read" => (ReceiptStatus::Read, "read_at"),
            "message.failed" => (ReceiptStatus::Failed, "failed_at"),
            _ => return Ok(None),
        };
        let (data, message) = (&event.data, &event.data["message"]);
        if !data.is_object() {
            return Err(CallbackError::Malformed);
        }
        if data["direction"] == "inbound" || data["is_from_me"] == false {
            return Ok(None);
        }
        let message_id = [&data["id"], &message["id"], &data["message_id"]];
        let Some(message_id) = message_id.into_iter().find_map(|value| id(value.as_str()?)) else {
            // "The original message content may not be available": such a failure is nobody's.
            return if status == ReceiptStatus::Failed { Ok(None) } else { Err(CallbackError::Malformed) };
        };
        let trace = event.trace_id.as_deref().and_then(|text| self.identifier(text));
        let times = [&data[time], &message[time]].into_iter().filter_map(Value::as_str);
        let at = times.chain(event.created_at.as_deref()).find_map(|text| text.parse().ok());
        Ok(Some(Receipt {
            message_id,
            correlation_id: attachment(data).or_else(|| attachment(message)),
            guess: None,
            status,
            at: at.unwrap_or(now),
            failure: (status == ReceiptStatus::Failed).then(|| self.failure(data, trace.clone())),
            trace,
        }))
    }

    fn failure(&self, data: &Value, trace: Option<String>) -> ReceiptFailure {
        let code = data["code"].as_u64().or_else(|| data["code"].as_str()?.parse().ok());
        let secrets = self.secrets(&[]);
        ReceiptFailure {
            kind: what(code),
            detail: why(code).to_owned(),
            upstream: Upstream {
                status: None,
                code: code.map(|code| code.to_string()),
                message: data["reason"].as_str().map(|text| wire::quote(text, &secrets)),
                trace,
            },
        }
    }

    fn identifier(&self, text: &str) -> Option<String> {
        wire::identifier(text, &self.secrets(&[]))
    }
}

fn id(text: &str) -> Option<String> {
    let fits = (1..=LONGEST_ID).contains(&text.len()) && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
}

/// The uploaded file of a message. A memo has one part.
pub(super) fn attachment(message: &Value) -> Option<String> {
    let parts = message["parts"].as_array()?;
    parts.iter().filter(|part| part["type"] == "media").find_map(|part| id(part["id"].as_str()?))
}

/// The reason why a message failed that Linq had taken. A delivery may follow all the same
/// (<https://docs.linqapp.com/error/codes/4xxx/4001/>). 4006 to 4008 are in linq-python alone, without a word on what
/// they mean.
fn why(code: Option<u64>) -> &'static str {
    match code {
        // https://docs.linqapp.com/error/codes/3xxx/3007/
        Some(3007) => "the provider tried to deliver the note for a while and gave up; it can be sent again",
        Some(4001) => {
            "the provider could not deliver the note; check that the recipient can be reached at this address"
        }
        // https://docs.linqapp.com/error/codes/4xxx/4002/
        Some(4002) => {
            "the line went offline before the note was delivered; send it again when the line is back"
        }
        // https://docs.linqapp.com/error/codes/4xxx/4005/
        Some(4005) => "the recipient cannot receive this kind of message; use another connection",
        _ => "the provider took the note and could not deliver it",
    }
}

/// [`why`] as a kind.
fn what(code: Option<u64>) -> SendErrorKind {
    match code {
        Some(4002) => SendErrorKind::Unavailable,
        Some(4001 | 4005) => SendErrorKind::NotReachable,
        _ => SendErrorKind::Rejected,
    }
}
