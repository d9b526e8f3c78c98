//! Tasks in the database, and the notes that a recovery is about.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::model::{
    id::TaskId,
    note::Status,
    task::{Place, Task},
};

/// The most tasks of one tenant that run at the same time.
pub const MOST_TASKS: i64 = 8;

/// A task to be stored.
#[derive(Clone, Debug)]
pub struct NewTask {
    pub task: Task,
    /// `Idempotency-Key` of the order, and when it is forgotten.
    pub key: Option<(String, Timestamp)>,
}

/// The result of storing a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    Created,
    /// The same order was given before: with this key, or its task still runs. Nothing was stored.
    Replayed(Box<Task>),
    /// The key belongs to another order or to a note; nothing was stored.
    KeyTaken,
    /// The tenant has [`MOST_TASKS`] running already; nothing was stored.
    TooMany,
}

/// A task whose next step is leased to this process.
#[derive(Clone, Debug)]
pub struct LeasedTask {
    pub task: Task,
    /// Grows with every lease; a write with an old one is refused.
    pub fence: i64,
}

/// A query for notes that did not arrive, in the order of their time.
#[derive(Clone, Debug)]
pub struct Unarrived<'a> {
    pub tenant: &'a str,
    pub statuses: &'a [Status],
    pub since: Option<Timestamp>,
    /// Inclusive.
    pub until: Timestamp,
    pub via: Option<&'a str>,
    /// Notes that repeat another one count only if they are older than this, so that a task never finds its own.
    pub resends_before: Timestamp,
    /// Only notes behind this place.
    pub after: Option<Place>,
    pub limit: u32,
}

/// A note that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub place: Place,
    /// Whether it fits `via`. Others are listed, so that the cost of a page is bounded.
    pub fits: bool,
    /// Whether a note repeats it.
    pub resent: bool,
}

/// Storage of tasks. Every store has it; the trait is separate because nothing else depends on it.
#[async_trait]
pub trait Tasks: Send + Sync {
    /// Stores a task, unless the same order was given before.
    async fn begin_task(&self, new: &NewTask) -> Result<Begun, StoreError>;

    /// Reads a task, only if it is that tenant's.
    async fn task(&self, id: TaskId, tenant: &str) -> Result<Option<Task>, StoreError>;

    /// Leases the next step of a task that is due, the task with the fewest steps first.
    async fn claim_task(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<LeasedTask>, StoreError>;

    /// Saves a leased task and ends the lease. While it runs, its next step is due at `due_at`.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if another process has the lease; then nothing was changed.
    async fn save_task(&self, leased: &LeasedTask, due_at: Timestamp) -> Result<(), StoreError>;

    /// Earliest time at which `claim_task` may find a task.
    async fn next_task(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Counts the running tasks of each tenant that has any.
    async fn running_tasks(&self) -> Result<Vec<(String, u64)>, StoreError>;

    /// Lists notes that did not arrive.
    async fn unarrived(&self, wanted: &Unarrived<'_>) -> Result<Vec<Found>, StoreError>;

    /// Counts the notes that did not arrive and were not sent again, at most `most`. The limit of `wanted` is ignored.
    async fn count_unarrived(&self, wanted: &Unarrived<'_>, most: u64) -> Result<u64, StoreError>;
}
