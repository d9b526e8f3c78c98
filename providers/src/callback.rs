//! Callbacks: parsed requests of a provider to the gateway.

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Accepted, Form, Recipient, SendErrorKind, Upstream};

/// An unverified request that claims to come from the provider.
#[derive(Clone)]
pub struct CallbackRequest {
    pub method: Method,
    pub headers: HeaderMap,
    /// Decoded parameters of the query, in their order.
    pub query: Vec<(String, String)>,
    /// Raw bytes of the body, over which signatures are computed.
    pub body: Bytes,
    /// Time of arrival.
    pub now: Timestamp,
}

impl CallbackRequest {
    /// Returns the value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the first query parameter with this name.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl std::fmt::Debug for CallbackRequest {
    /// `Debug` shows neither content nor credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallbackRequest")
            .field("method", &self.method)
            .field("size", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A verified callback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callback {
    /// Events in the order of the callback. Empty for events that are irrelevant here, which are acknowledged all the
    /// same.
    pub events: Vec<ProviderEvent>,
    /// Body of the answer that the provider expects (the challenge of a handshake).
    pub answer: Option<String>,
}

impl Callback {
    /// Creates a callback without relevant events.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Creates a callback with one receipt, or with none.
    pub fn of_receipt(id: Option<String>, receipt: Option<Receipt>) -> Self {
        let event = |receipt| ProviderEvent { id, account: None, what: What::Receipt(receipt) };
        Self { events: receipt.map(event).into_iter().collect(), answer: None }
    }

    /// Creates a callback with one received voice note, or with none. Its event is named after the message, because a
    /// message comes again in other events and in other batches.
    pub fn of_voice(voice: Option<InboundVoice>) -> Self {
        Self { events: voice.map(ProviderEvent::of_voice).into_iter().collect(), answer: None }
    }

    /// Returns the received voice notes among its events.
    pub fn voices(&self) -> impl Iterator<Item = &InboundVoice> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Voice(voice) => Some(voice),
            What::Receipt(_) => None,
        })
    }

    /// Returns the receipts among its events.
    pub fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Receipt(receipt) => Some(receipt),
            What::Voice(_) => None,
        })
    }
}

/// One event of a callback. Each is processed once, by its own id, because providers regroup events when they send them
/// again.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderEvent {
    /// The provider's id of this event, equal when it is delivered again. If there is none, the gateway derives one
    /// from the event's content.
    pub id: Option<String>,
    /// The provider account of the event, if one callback address serves several: the value of
    /// [`crate::Provider::account`] of its connection.
    pub account: Option<String>,
    pub what: What,
}

impl std::fmt::Debug for ProviderEvent {
    /// `Debug` omits the id, because some providers have phone numbers in the ids of messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderEvent")
            .field("account", &self.account)
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

impl ProviderEvent {
    /// The event of a received voice note, named after its message.
    pub fn of_voice(voice: InboundVoice) -> Self {
        Self { id: Some(format!("voice:{}", voice.message_id)), account: None, what: What::Voice(voice) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A receipt for a message that was sent.
    Receipt(Receipt),
    /// A voice note that a person sent.
    Voice(InboundVoice),
}

/// A voice note that a person sent, before its audio was fetched.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundVoice {
    /// The provider's id of the message, unique on its connection.
    pub message_id: String,
    /// The sender, as a `to` that this connection takes.
    pub from: String,
    /// The chat, as a `to` that this connection takes: the group, or the person again.
    pub conversation: String,
    pub group: bool,
    pub sender_name: Option<String>,
    /// The provider's id of the message that is being replied to.
    pub reply_to: Option<String>,
    /// Time of sending, by the provider's clock.
    pub sent_at: Timestamp,
    /// [`Form::Voice`] for a voice bubble, [`Form::Audio`] for an audio file.
    pub form: Form,
    pub media: MediaRef,
}

impl std::fmt::Debug for InboundVoice {
    /// `Debug` shows neither people nor content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboundVoice")
            .field("group", &self.group)
            .field("form", &self.form)
            .field("sent_at", &self.sent_at)
            .field("media", &self.media)
            .finish_non_exhaustive()
    }
}

/// A reference to the audio of a received note, which only its adapter understands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaRef {
    /// Value that is opaque to the gateway, which stores it and passes it to [`crate::Provider::fetch`].
    pub value: Value,
    /// Time until which the provider keeps the audio. Such a job does not wait behind a paused connection.
    pub fetch_before: Option<Timestamp>,
}

impl std::fmt::Debug for MediaRef {
    /// `Debug` omits the value, which may be a signed link or the audio itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaRef").field("fetch_before", &self.fetch_before).finish_non_exhaustive()
    }
}

/// The result of downloading the complete audio of a received note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Media type stated by the provider. The gateway relies on the bytes instead.
    pub mime_type: Option<String>,
}

/// A receipt: a provider's later report about one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The provider's id of the message.
    pub message_id: String,
    /// Another id of the message, one of [`crate::Prepared::correlation_ids`] or [`crate::Accepted::correlation_ids`].
    /// It identifies the message if the answer with its id was lost, or if the id is spelt differently.
    #[serde(alias = "mark")]
    pub correlation_id: Option<String>,
    /// One of [`crate::Prepared::correlation_ids`] that several messages can have, because it says only what was sent and
    /// to whom. It counts for a note whose message is not known, sent at about that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guess: Option<String>,
    pub status: ReceiptStatus,
    /// Time of the event, by the provider's clock.
    pub at: Timestamp,
    /// Reason for a failure.
    pub failure: Option<ReceiptFailure>,
    /// The provider's trace id, for its support.
    pub trace: Option<String>,
}

/// The status of a message, as the provider reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptStatus {
    /// The provider is processing the message.
    Accepted,
    /// The message left the provider.
    Sent,
    /// The message reached a device of the recipient.
    Delivered,
    Read,
    Played,
    /// The message will not arrive; some providers correct that later.
    Failed,
}

/// The reason why a message failed after it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptFailure {
    /// Kind of the failure, as for an attempt. It never makes the note take another connection by itself.
    #[serde(default = "rejected")]
    pub kind: SendErrorKind,
    /// Neutral advice in the gateway's words.
    pub detail: String,
    /// Error details in the provider's words.
    pub upstream: Upstream,
}

/// Default kind for receipts that were stored before failures had kinds.
fn rejected() -> SendErrorKind {
    SendErrorKind::Rejected
}

/// The reason why a callback is rejected. None of its content was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// The connection has no secret for verifying callbacks.
    #[error("this connection takes no callbacks: its secret is not configured")]
    NotConfigured,
    /// Signature or token are missing or wrong.
    #[error("signature or token are missing or wrong")]
    Forged,
    /// The signature is valid, but its time is too far in the past or future.
    #[error("the signature's time is more than five minutes away from ours")]
    Stale,
    /// The callback is verified, but its content is not of this provider's format.
    #[error("the body is not a callback of this provider")]
    Malformed,
}

/// The result of setting up callbacks at the provider.
#[derive(Debug)]
pub struct Registration {
    /// Description of the set-up, for people.
    pub summary: String,
    /// Line for the connection's configuration, as `(key, value)`, if the provider chose a secret. It is shown once.
    pub secret: Option<(&'static str, SecretString)>,
}

/// A note whose outcome is unknown.
#[derive(Clone, Debug)]
pub struct UnknownSend {
    pub to: Recipient,
    /// Correlation ids from [`crate::Prepared::correlation_ids`].
    pub correlation_ids: Vec<String>,
    /// Time just before the visible request.
    pub dispatched_at: Timestamp,
}

/// The result of looking up a note with unknown outcome in the provider's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// The note was found.
    Found(Accepted),
    /// The note was not found. That proves nothing, because it may still appear.
    NotSeen,
}
