//! Events in the words of the product that a webhook's `dialect` names: its body, and the headers that prove where it
//! comes from. When and how often an event is posted is the same for all of them.

mod evolution;
mod linq;
mod signing;
mod standard;
mod waha;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::{
    config::{Webhook, WebhookDialect},
    model::event::Event,
};

pub use signing::sign;

/// A request to a webhook.
pub struct Message {
    pub body: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Facts that a body needs besides the event.
pub struct Surroundings<'a> {
    pub webhook: &'a Webhook,
    /// The time of the wall clock, since bots compare it with their own.
    pub now: Timestamp,
    pub public_url: &'a Url,
    /// Whether the provider of the note reports what becomes of it.
    pub has_receipts: bool,
    /// The id of the recipient's chat in Linq's dialect.
    pub linq_chat: Uuid,
    /// The audio of the note, as far as it is known.
    pub audio: Option<LinkedAudio>,
    /// The audio itself, if it is small and belongs into the event.
    pub inline: Option<Bytes>,
}

/// Audio that can be downloaded.
pub struct LinkedAudio {
    /// A signed link.
    pub url: Url,
    pub filename: String,
    pub mime_type: String,
    pub size_bytes: u64,
}

/// The request that tells a webhook of an event. `None` if the product of its dialect has no such event.
///
/// # Errors
/// The event cannot be written as JSON.
pub fn message(event: &Event, around: &Surroundings<'_>) -> serde_json::Result<Option<Message>> {
    let webhook = around.webhook;
    let body = match webhook.dialect {
        WebhookDialect::Voicegate => Some(standard::body(event)?),
        WebhookDialect::Evolution => evolution::body(event, around).as_ref().map(Value::to_string),
        WebhookDialect::Waha => waha::body(event, around).as_ref().map(Value::to_string),
        WebhookDialect::Linq => linq::body(event, around).as_ref().map(Value::to_string),
    };
    let Some(body) = body else { return Ok(None) };
    let proof = match webhook.dialect {
        WebhookDialect::Voicegate | WebhookDialect::Linq => standard::headers(event, around, &body),
        WebhookDialect::Evolution => evolution::headers(around),
        WebhookDialect::Waha => waha::headers(event, around, &body),
    };
    let own = webhook.headers.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned()));
    let headers = proof.into_iter().chain(own).filter_map(|(name, value)| {
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    });
    Ok(Some(Message { body, headers: headers.collect() }))
}
