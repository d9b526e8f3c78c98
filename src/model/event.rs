//! Events: one for each change of a note that a bot may care about, one for each received note, and one where its webhook
//! is paused.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{
    id::{EventId, SubjectId},
    note::{Note, Status},
    received::Received,
};

/// Webhook deliveries of an event are retried for this long.
pub const WEBHOOK_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum EventKind {
    #[serde(rename = "voice.accepted")]
    Accepted,
    #[serde(rename = "voice.sent")]
    Sent,
    #[serde(rename = "voice.delivered")]
    Delivered,
    #[serde(rename = "voice.read")]
    Read,
    #[serde(rename = "voice.played")]
    Played,
    #[serde(rename = "voice.failed")]
    Failed,
    #[serde(rename = "voice.expired")]
    Expired,
    #[serde(rename = "voice.canceled")]
    Canceled,
    #[serde(rename = "voice.unknown")]
    Unknown,
    /// Accepted long ago, and no receipt came.
    #[serde(rename = "voice.stalled")]
    Stalled,
    /// A person sent a voice note. It was read, or it failed.
    #[serde(rename = "voice.received")]
    Received,
    /// The words of a received note are there, or could not be had.
    #[serde(rename = "voice.transcribed")]
    Transcribed,
    /// The webhook failed for days, and nothing is posted to it any more. Only streams show it.
    #[serde(rename = "webhook.paused")]
    WebhookPaused,
}

impl EventKind {
    const ALL: [(Self, &'static str); 13] = [
        (Self::Accepted, "voice.accepted"),
        (Self::Sent, "voice.sent"),
        (Self::Delivered, "voice.delivered"),
        (Self::Read, "voice.read"),
        (Self::Played, "voice.played"),
        (Self::Failed, "voice.failed"),
        (Self::Expired, "voice.expired"),
        (Self::Canceled, "voice.canceled"),
        (Self::Unknown, "voice.unknown"),
        (Self::Stalled, "voice.stalled"),
        (Self::Received, "voice.received"),
        (Self::Transcribed, "voice.transcribed"),
        (Self::WebhookPaused, "webhook.paused"),
    ];

    /// The event for a note that reaches `status`. Intermediate statuses cause no event.
    pub fn of(status: Status) -> Option<Self> {
        match status {
            Status::Queued | Status::Processing | Status::Sending => None,
            Status::Accepted => Some(Self::Accepted),
            Status::Sent => Some(Self::Sent),
            Status::Delivered => Some(Self::Delivered),
            Status::Read => Some(Self::Read),
            Status::Played => Some(Self::Played),
            Status::Failed => Some(Self::Failed),
            Status::Expired => Some(Self::Expired),
            Status::Canceled => Some(Self::Canceled),
            Status::Unknown => Some(Self::Unknown),
        }
    }

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The subject of an event, as it was at that time.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    Note(Box<Note>),
    Received(Box<Received>),
}

impl Subject {
    pub fn id(&self) -> SubjectId {
        match self {
            Self::Note(note) => SubjectId::Note(note.id),
            Self::Received(received) => SubjectId::Received(received.id),
        }
    }

    pub fn tenant(&self) -> &str {
        match self {
            Self::Note(note) => &note.tenant,
            Self::Received(received) => &received.tenant,
        }
    }

    pub fn note(&self) -> Option<&Note> {
        match self {
            Self::Note(note) => Some(note),
            Self::Received(_) => None,
        }
    }

    pub fn received(&self) -> Option<&Received> {
        match self {
            Self::Note(_) => None,
            Self::Received(received) => Some(received),
        }
    }
}

impl From<Note> for Subject {
    fn from(note: Note) -> Self {
        Self::Note(Box::new(note))
    }
}

impl From<Received> for Subject {
    fn from(received: Received) -> Self {
        Self::Received(Box::new(received))
    }
}

/// An event as stored, with the note or received note as it was at that time. Where a webhook was paused, the subject is
/// the one that it was to be told of last.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: EventId,
    /// The position among all events of the tenant, in the store's own spelling. It is the `Last-Event-ID` of a stream.
    pub position: String,
    pub kind: EventKind,
    pub at: Timestamp,
    pub subject: Subject,
}
