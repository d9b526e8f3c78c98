//! What a provider tells afterwards: its requests to us, understood.

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Accepted, Form, Recipient, SendErrorKind, Upstream};

/// A request that says it comes from the provider, as it came: nothing in it is trusted yet.
#[derive(Clone)]
pub struct CallbackRequest {
    pub method: Method,
    pub headers: HeaderMap,
    /// The query, decoded, in its order.
    pub query: Vec<(String, String)>,
    /// The raw bytes: signatures are over these and no other.
    pub body: Bytes,
    /// When it arrived.
    pub now: Timestamp,
}

impl CallbackRequest {
    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first parameter of this name.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl std::fmt::Debug for CallbackRequest {
    /// Without anything that a person wrote or that proves who sent it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallbackRequest")
            .field("method", &self.method)
            .field("size", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A genuine callback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callback {
    /// What it says, in its order. Empty for events that mean nothing here: they are acknowledged all the same.
    pub events: Vec<ProviderEvent>,
    /// What the provider wants as the body of the answer (a handshake's challenge).
    pub answer: Option<String>,
}

impl Callback {
    /// A callback that says nothing that the gateway needs.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// A callback with one receipt, or with none.
    pub fn of_receipt(id: Option<String>, receipt: Option<Receipt>) -> Self {
        let event = |receipt| ProviderEvent { id, account: None, what: What::Receipt(receipt) };
        Self { events: receipt.map(event).into_iter().collect(), answer: None }
    }

    /// The receipts among its events.
    pub fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Receipt(receipt) => Some(receipt),
            What::Voice(_) => None,
        })
    }
}

/// One thing that a callback says. Each is taken in once, by its own id: providers group events anew when they send
/// them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderEvent {
    /// The provider's own id of this event: the same when it is delivered again. Where there is none, the gateway
    /// makes one from the event's content.
    pub id: Option<String>,
    /// The account at the provider that it belongs to, where one callback address serves several: the value of
    /// [`crate::Provider::account`] of the connection that it is for.
    pub account: Option<String>,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// News of a message that was sent.
    Receipt(Receipt),
    /// A voice note that a person sent.
    Voice(InboundVoice),
}

/// A voice note that a person sent, before its audio was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundVoice {
    /// The provider's id of the message, unique on its connection.
    pub message_id: String,
    /// The person, as a `to` that this connection takes.
    pub from: String,
    /// The chat, as a `to` that this connection takes: the group, or the person again.
    pub conversation: String,
    pub group: bool,
    pub sender_name: Option<String>,
    /// The provider's id of the message that this one answers.
    pub reply_to: Option<String>,
    /// When it was sent, by the provider's clock.
    pub sent_at: Timestamp,
    /// [`Form::Voice`] for a voice bubble, [`Form::Audio`] for an audio file.
    pub form: Form,
    pub media: MediaRef,
}

/// Names the audio of a received note; only its adapter understands it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaRef {
    /// Opaque to the gateway, which stores it and hands it to [`crate::Provider::fetch`].
    pub value: Value,
    /// The provider keeps the audio until then. Such a job does not wait behind a paused connection.
    pub fetch_before: Option<Timestamp>,
}

/// A received note's audio was written out whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// What the provider says about the bytes. The bytes decide.
    pub mime_type: Option<String>,
}

/// A provider's later word on one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The provider's id of the message.
    pub message_id: String,
    /// Another name of the message, one of [`crate::Prepared::correlation_ids`] or
    /// [`crate::Accepted::correlation_ids`]: by it the message is known also where the answer with its id was lost, or
    /// where the id is spelt in another way.
    #[serde(alias = "mark")]
    pub correlation_id: Option<String>,
    pub status: ReceiptStatus,
    /// When it happened, by the provider's clock.
    pub at: Timestamp,
    /// Why it failed.
    pub failure: Option<ReceiptFailure>,
    /// The provider's trace id, for its support.
    pub trace: Option<String>,
}

/// Where the message is, by the provider's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptStatus {
    /// The provider has it and is at it.
    Accepted,
    /// It left the provider.
    Sent,
    /// It reached a device of the recipient.
    Delivered,
    Read,
    Played,
    /// It will not arrive; some providers correct that later.
    Failed,
}

/// Why a message failed after it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptFailure {
    /// What happened. It means the same as in an attempt, and never makes the note take another way by itself.
    #[serde(default = "rejected")]
    pub kind: SendErrorKind,
    /// The gateway's words, neutral: what to do about it.
    pub detail: String,
    /// The provider's own.
    pub upstream: Upstream,
}

/// Receipts that were stored before failures had kinds.
fn rejected() -> SendErrorKind {
    SendErrorKind::Rejected
}

/// Why a callback is not believed. Nothing of it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// The connection has no secret to judge callbacks by.
    #[error("this connection takes no callbacks: its secret is not configured")]
    NotConfigured,
    /// Signature or token are missing or wrong.
    #[error("signature or token are missing or wrong")]
    Forged,
    /// Signed, but too long ago or too far ahead.
    #[error("the signature's time is more than five minutes away from ours")]
    Stale,
    /// Genuine, but not what this provider sends.
    #[error("the body is not a callback of this provider")]
    Malformed,
}

/// Callbacks were set up at the provider.
#[derive(Debug)]
pub struct Registration {
    /// For people: what was set up.
    pub summary: String,
    /// The line that belongs into the connection's configuration, where the provider chose a secret. It is shown
    /// once: `(key, value)`.
    pub secret: Option<(&'static str, SecretString)>,
}

/// A note of which nobody knows whether the provider took it.
#[derive(Clone, Debug)]
pub struct UnknownSend {
    pub to: Recipient,
    /// What [`crate::Prepared::correlation_ids`] had.
    pub correlation_ids: Vec<String>,
    /// When the visible request was about to be made.
    pub dispatched_at: Timestamp,
}

/// What the provider's own records say about a note whose outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// It is there.
    Found(Accepted),
    /// It is not there, as far as can be seen. That proves nothing: it may come yet.
    NotSeen,
}
