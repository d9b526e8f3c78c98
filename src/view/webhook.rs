//! Webhook deliveries, as the API shows them.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{
    clock::rfc3339_millis,
    event::EventKind,
    id::{EventId, NoteId, ReceivedId},
};

/// The tries to tell a bot of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventAttempts {
    /// Oldest first.
    pub items: Vec<EventAttempt>,
}

/// One try.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventAttempt {
    /// When it began.
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The HTTP status of the bot's answer. `null` if there was no answer.
    #[schema(required, examples(503))]
    pub status: Option<u16>,
    #[schema(examples(210))]
    pub took_ms: u64,
    /// The reason why the event was not taken. `null` if it was.
    #[schema(required, examples("the bot answered 503"))]
    pub error: Option<String>,
}

/// An event that is posted to the webhook again.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventSummary {
    pub id: EventId,
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The time of the event.
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// The note that it is about, if that is one that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub note_id: Option<NoteId>,
    /// The received note that it is about, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub received_id: Option<ReceivedId>,
}
