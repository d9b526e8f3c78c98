//! Webhooks in the database: every try to tell a bot of an event, and which webhook is paused because it failed for days.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::model::{
    event::EventKind,
    id::{EventId, SubjectId},
};

/// A webhook that failed for this long, without a success, is paused.
pub const WEBHOOK_PATIENCE: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// A failure that comes this long after the last one is the first of a new row: in between, nothing was posted, and it is
/// not known whether the bot was there. An event is tried for a day, so the failures of a busy webhook are closer.
pub const WEBHOOK_QUIET: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// One try to tell a bot of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookAttempt {
    /// When it began.
    pub at: Timestamp,
    /// HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    pub took_ms: u64,
    /// The reason why the event was not taken. It never contains the address, which may hold a token.
    pub error: Option<String>,
}

/// The end of a webhook delivery.
#[derive(Clone, Debug)]
pub struct WebhookEnd {
    pub attempt: WebhookAttempt,
    /// Stands for the settings of the webhook: the time for which it fails is counted anew when they change.
    pub settings: String,
}

/// The state of a tenant's webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookState {
    pub tenant: String,
    /// Time of the first failure after the last success, or after [`WEBHOOK_QUIET`] without a failure.
    pub failing_since: Option<Timestamp>,
    /// Nothing is posted since this time.
    pub paused_at: Option<Timestamp>,
    /// Error of the last failure.
    pub error: Option<String>,
    /// Settings of the webhook at the last failure.
    pub settings: String,
}

/// An event, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHead {
    pub id: EventId,
    pub kind: EventKind,
    pub at: Timestamp,
    pub subject: SubjectId,
}

/// A page of the events that a webhook is told of again.
#[derive(Clone, Debug)]
pub struct Retelling<'a> {
    pub tenant: &'a str,
    pub since: Option<Timestamp>,
    /// Inclusive.
    pub until: Timestamp,
    /// Only events behind this number.
    pub after: i64,
    pub now: Timestamp,
    /// The most events that are looked at.
    pub limit: u32,
    /// The most events that are told of.
    pub most: u64,
}

/// The result of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retold {
    /// Number of events that are due now.
    pub queued: u64,
    /// Number of the last event that was looked at.
    pub last: Option<i64>,
    /// Whether there may be more.
    pub more: bool,
}

/// Storage of webhook deliveries. Every store has it.
#[async_trait]
pub trait Webhooks: Send + Sync {
    /// Reads an event, only if it is that tenant's.
    async fn event(&self, id: EventId, tenant: &str) -> Result<Option<EventHead>, StoreError>;

    /// Lists the tries to tell of an event, oldest first.
    async fn webhook_attempts(&self, id: EventId) -> Result<Vec<WebhookAttempt>, StoreError>;

    /// Queues the delivery of an event again, or makes it due now if it is queued already. Returns `false` if the event
    /// is gone.
    async fn retell(&self, id: EventId, tenant: &str, now: Timestamp) -> Result<bool, StoreError>;

    /// Queues the deliveries of the events of a page that the webhook has not taken, in their order.
    async fn retell_all(&self, wanted: &Retelling<'_>) -> Result<Retold, StoreError>;

    /// Counts the events that `retell_all` would queue, at most `wanted.most`.
    async fn count_untold(&self, wanted: &Retelling<'_>) -> Result<u64, StoreError>;

    /// Reads the state of a tenant's webhook, if it ever failed.
    async fn webhook(&self, tenant: &str) -> Result<Option<WebhookState>, StoreError>;

    /// Lists the webhooks that are paused.
    async fn paused_webhooks(&self) -> Result<Vec<WebhookState>, StoreError>;

    /// Ends the pause of a webhook, and the count of its failures. Returns whether it was paused.
    async fn resume_webhook(&self, tenant: &str, now: Timestamp) -> Result<bool, StoreError>;
}
