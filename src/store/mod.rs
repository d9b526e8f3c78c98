//! What must survive: notes, the queue of their deliveries, idempotency keys, and what adapters learned.
//!
//! [`Store`] holds no rules. It makes changes atomic and fenced; `delivery` decides what the changes are. Every
//! implementation passes the one contract suite in `tests/store`.

pub(crate) mod postgres;
mod share;
mod sqlite;

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast;
use voicegate_providers::Receipt;

use crate::{
    clock::Clock,
    config::{Database, Rate},
    event::Event,
    id::UploadId,
    note::{Note, NoteId, Status},
    problem::Problem,
    upload::Upload,
};

pub use postgres::{Notice, PostgresStore, Time};
pub use sqlite::SqliteStore;

/// Opens the configured database. Deliveries that an earlier process left under way are taken up.
///
/// # Errors
/// What the operator has to change.
pub async fn open(database: &Database, clock: &dyn Clock) -> Result<Arc<dyn Store>, StoreError> {
    match database {
        Database::Sqlite(path) => {
            let store = SqliteStore::open(path).await?;
            // Nobody else can have the file. With PostgreSQL others may be at work, and leases run out by themselves.
            let interrupted = store.end_all_leases(clock.now()).await?;
            if interrupted > 0 {
                tracing::warn!(
                    interrupted,
                    "taking up {interrupted} deliveries that an earlier process left"
                );
            }
            Ok(Arc::new(store))
        }
        Database::Postgres(url) => {
            let time = if clock.runs() { Time::Database } else { Time::Caller };
            Ok(Arc::new(PostgresStore::open(url, time).await?))
        }
    }
}

/// Whether `url` can name a PostgreSQL database.
///
/// # Errors
/// What was expected; never the password.
pub fn check_postgres_url(url: &str) -> Result<(), String> {
    postgres::open::options(url).map(drop)
}

#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// Makes a note durable together with its delivery and its claim on the idempotency key, in one transaction.
    /// When this returns, the commit is on disk.
    async fn accept(&self, new: &NewNote) -> Result<Acceptance, StoreError>;

    /// Who holds an idempotency key at `now`, if anyone.
    async fn idempotency(
        &self,
        tenant: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<KeyHolder>, StoreError>;

    /// A note; with a tenant, only if it is that tenant's.
    async fn note(&self, id: NoteId, tenant: Option<&str>) -> Result<Option<Note>, StoreError>;

    /// The bytes that came with a note, where they are kept beside it.
    async fn source(&self, id: NoteId) -> Result<Option<Bytes>, StoreError>;

    /// Notes of a tenant, newest first.
    async fn notes(&self, wanted: &Wanted<'_>) -> Result<Vec<Note>, StoreError>;

    /// Replaces a note that has ended by what is left of it, removes its source, and forgets what was learned in
    /// `lanes`. `false` where its delivery is not done; then nothing was changed.
    async fn erase(&self, left: &Note, lanes: &[String]) -> Result<bool, StoreError>;

    /// Takes a note that waits out of the queue and replaces it by `note`. `false` where it does not wait: it is
    /// under way, held or done; then nothing was changed.
    async fn cancel(&self, note: &Note, notify: bool) -> Result<bool, StoreError>;

    /// Leases deliveries that are due: of each lane only the head, of each connection no more than it has room and
    /// rate for, of a paused connection none, and of each tenant a fair share. Also takes over leases that ran out, and notes that waited
    /// longer than they may. Lets go of lanes whose unknown head was held long enough.
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<Claim>, StoreError>;

    /// For how long a lease holds that is renewed while its work goes on, so that what a dead process had is taken over
    /// soon. `None` where no other process could take it over; then a lease holds for as long as any work may take.
    fn renewed_lease(&self) -> Option<Duration> {
        None
    }

    /// Lets leases, by delivery and fence, hold until then. Those that somebody else has taken over stay lost.
    async fn renew(
        &self,
        _leases: &[(i64, i64)],
        _now: Timestamp,
        _until: Timestamp,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Changes a note whose delivery is leased, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] where the lease went to somebody else; then nothing was changed.
    ///
    /// Every change of status that a bot cares about becomes an event in the same transaction, here and in every other
    /// method. Receipts that came before the note had the name they are for are taken in now.
    async fn write(&self, claim: &Claim, change: &Change) -> Result<(), StoreError>;

    /// Ends or postpones a leased job that changes no note itself.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], as for `write`.
    async fn finish(&self, claim: &Claim, end: &JobEnd) -> Result<(), StoreError>;

    /// Marks a note as stalled if it still waits for its first receipt, and ends the leased job. Whether it was.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], as for `write`.
    async fn stall(&self, claim: &Claim, stall: &Stall) -> Result<bool, StoreError>;

    /// Takes in what a provider said in one callback, once: the same callback again changes nothing. Receipts for
    /// messages that no note has (yet) are kept for those to come.
    async fn receive(&self, received: &Received) -> Result<Reception, StoreError>;

    /// Events of a tenant or of one note, oldest first.
    async fn events(&self, wanted: &WantedEvents<'_>) -> Result<Vec<Event>, StoreError>;

    /// Behind the newest event of a tenant.
    async fn last_event(&self, tenant: &str) -> Result<String, StoreError>;

    /// When `claim` may find something that it does not find at `now`.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Ends every lease at once. Only for a database that one process alone uses, at its start: whoever held
    /// them is dead.
    async fn end_all_leases(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// The secret of this name, made from `fresh` where there is none yet.
    async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError>;

    /// Notes that ended before `before` and still have audio.
    async fn notes_with_old_audio(&self, before: Timestamp, limit: u32) -> Result<Vec<NoteId>, StoreError>;

    /// Records that a note's audio was removed, and removes the source that is kept beside it.
    async fn audio_removed(&self, id: NoteId) -> Result<(), StoreError>;

    /// What is known of a tenant's connections; those never used are missing.
    async fn connections(&self, tenant: &str) -> Result<Vec<ConnectionState>, StoreError>;

    async fn add_upload(&self, upload: &Upload) -> Result<(), StoreError>;

    /// An upload, only if it is that tenant's.
    async fn upload(&self, id: UploadId, tenant: &str) -> Result<Option<Upload>, StoreError>;

    /// Whether there is such an upload, with or without its audio.
    async fn has_upload(&self, id: UploadId) -> Result<bool, StoreError>;

    async fn remove_upload(&self, id: UploadId) -> Result<(), StoreError>;

    /// Uploads that expired by `now` and still have audio.
    async fn expired_uploads(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadId>, StoreError>;

    /// Records that an upload's audio was removed.
    async fn upload_audio_removed(&self, id: UploadId) -> Result<(), StoreError>;

    /// Removes what is old by `horizon`; how many notes that were.
    async fn forget(&self, horizon: &Horizon) -> Result<u64, StoreError>;

    /// Deliveries not yet done, by connection and state.
    async fn queue_state(&self, now: Timestamp) -> Result<Vec<QueueGroup>, StoreError>;

    /// Deliveries not yet done.
    async fn queue_depth(&self) -> Result<u64, StoreError>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Lets go of the database in order; nothing works afterwards.
    async fn close(&self) {}

    /// What other processes on the same database change, as they tell it; `None` where there can be no others. A
    /// notice may get lost, so nothing may need it for more than being quick.
    fn notices(&self) -> Option<broadcast::Receiver<Notice>> {
        None
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has taken over; nothing was changed.
    #[error("the lease on this delivery was lost")]
    LeaseLost,
    #[error("the database's disk is full")]
    Full,
    #[error("database: {0}")]
    Database(#[source] sqlx::Error),
    #[error("the database holds a document that cannot be read: {0}")]
    Corrupt(#[from] serde_json::Error),
    /// An event position that this store never gave out.
    #[error("there is no such position")]
    Position,
    #[error("{0}")]
    Open(String),
}

impl StoreError {
    /// Whether the change may have been made all the same: the connection broke before the answer came.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let Self::Database(error) = self else { return false };
        error.as_database_error().is_none() && !matches!(error, sqlx::Error::PoolTimedOut)
    }

    /// The same for somebody else whose change was to be made together with this one.
    pub(crate) fn for_another(&self) -> Self {
        match self {
            Self::LeaseLost => Self::LeaseLost,
            Self::Full => Self::Full,
            other => Self::Open(other.to_string()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // SQLITE_FULL, https://www.sqlite.org/rescode.html#full; disk_full,
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        let code = error.as_database_error().and_then(|error| error.code());
        if code.is_some_and(|code| code == "13" || code == "53100") {
            Self::Full
        } else {
            Self::Database(error)
        }
    }
}

/// A failing database is the gateway's fault; the log gets the reason.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Full) {
            return Self::storage_full();
        }
        tracing::error!(%error, "the database failed");
        Self::internal()
    }
}

#[derive(Clone, Debug)]
pub struct NewNote {
    pub note: Note,
    /// The audio, where it is small enough to be kept beside the note and not as a file.
    pub source: Option<Bytes>,
    pub idempotency: Option<KeyClaim>,
    /// A note that is held because its outcome is unknown, and whose lane is let go with this one.
    pub releases: Option<NoteId>,
    pub max_queue: u64,
    pub max_queue_per_tenant: u64,
}

#[derive(Clone, Debug)]
pub struct KeyClaim {
    pub key: String,
    pub fingerprint: String,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHolder {
    pub fingerprint: String,
    pub note: NoteId,
}

impl KeyHolder {
    fn of_row(fingerprint: String, note: &str) -> Result<Self, StoreError> {
        let malformed = |()| StoreError::Open("a stored note id is malformed".to_owned());
        Ok(Self { fingerprint, note: note.parse().map_err(malformed)? })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    Created,
    /// The idempotency key is taken; nothing was stored.
    KeyTaken(KeyHolder),
    /// A bound on the queue is reached; nothing was stored.
    QueueFull,
}

pub struct ClaimRequest<'a> {
    pub now: Timestamp,
    pub lease_until: Timestamp,
    pub limit: usize,
    /// What a connection (`TENANT/CONNECTION`) may do, over all processes.
    pub bounds: &'a (dyn Fn(&str) -> Bounds + Send + Sync),
}

/// How much may go out over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Deliveries leased at the same time.
    pub concurrency: usize,
    /// Attempts begun within any span of that length.
    pub rate: Option<Rate>,
}

/// What has to be done for a note.
#[derive(Clone, Debug)]
pub enum Job {
    /// Send it.
    Send,
    /// Tell the tenant's webhook of an event.
    Tell(Box<Event>),
    /// Its `ack_deadline` has passed.
    Overdue,
    /// Ask the provider what became of it.
    LookUp,
}

/// A leased job: one row of the one queue.
#[derive(Clone, Debug)]
pub struct Claim {
    pub delivery: i64,
    /// Grows with every lease; a write with an old one is refused.
    pub fence: i64,
    pub job: Job,
    /// When it came into the queue.
    pub queued_at: Timestamp,
    /// How often it was leased before.
    pub tries: u32,
    /// The lease ran out while the visible request was under way: the outcome is unknown.
    pub interrupted: bool,
    /// Failures of the connection in a row: it may have to prove first that it works again.
    pub failures: u32,
    pub note: Note,
    /// What the adapter learned about the recipient and wanted back.
    pub learned: Option<Value>,
}

/// Deliveries of one connection in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueGroup {
    /// `TENANT/CONNECTION`.
    pub connection: String,
    /// As in the database, and `scheduled` for what has never been due.
    pub state: String,
    pub count: u64,
    /// When the first of them became due.
    pub since: Timestamp,
}

/// Which notes of a tenant.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub tenant: &'a str,
    pub status: Option<Status>,
    /// In its canonical spelling.
    pub to: Option<&'a str>,
    /// The connection that a note goes or went through.
    pub via: Option<&'a str>,
    /// Only older ones.
    pub before: Option<NoteId>,
    pub limit: u32,
}

/// What attempts told about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// Without the tenant.
    pub connection: String,
    /// Nothing is sent before.
    pub paused_until: Option<Timestamp>,
    /// When an attempt last said something about the connection.
    pub seen_at: Option<Timestamp>,
    /// What that was, if it was no success.
    pub failure: Option<String>,
    /// How many in a row were none.
    pub failures: u32,
    /// When a genuine callback last came.
    pub callback_at: Option<Timestamp>,
}

/// What an attempt says about its connection, whatever it says about the note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Works,
    /// For people.
    Fails(String),
}

/// A change to a leased note.
#[derive(Clone, Debug)]
pub struct Change {
    pub note: Note,
    /// Whether the tenant has a webhook to be told.
    pub notify: bool,
    /// Jobs that begin with this change, and when they are due.
    pub deadline: Option<Timestamp>,
    pub look_up: Option<Timestamp>,
    /// Of the connection with this key, `TENANT/CONNECTION`.
    pub health: Option<(String, Health)>,
    pub learned: Learned,
    pub step: Step,
}

impl Change {
    /// Only the note, and what becomes of its delivery.
    pub fn new(note: Note, step: Step) -> Self {
        let learned = Learned::Keep;
        Self { note, step, learned, health: None, notify: false, deadline: None, look_up: None }
    }
}

/// What becomes of what the adapter knows about the recipient. `Set` and `Forget` concern `lane`, that of the
/// attempt, even where the note moves on to another.
#[derive(Clone, Debug, PartialEq)]
pub enum Learned {
    Keep,
    Forget { lane: String },
    Set { lane: String, value: Value, expires_at: Timestamp },
}

/// What becomes of the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    Progress,
    /// The visible request is about to be made.
    Dispatching,
    /// Back into the queue, in the lane of the note as it is now.
    Retry {
        at: Timestamp,
        pause_connection_until: Option<Timestamp>,
    },
    /// The lane stays blocked until then, and nothing more is tried.
    Hold {
        until: Timestamp,
    },
    Done,
}

impl Step {
    /// Whether something else may go out now, or may wait for less long.
    fn may_free_others(self) -> bool {
        matches!(self, Self::Retry { .. } | Self::Hold { .. } | Self::Done)
    }
}

/// The end of a job that changes no note.
#[derive(Clone, Debug)]
pub struct JobEnd {
    /// `Done` or `Retry`.
    pub step: Step,
    /// Of the connection with this key.
    pub health: Option<(String, Health)>,
    pub now: Timestamp,
}

/// A missing receipt.
#[derive(Clone, Debug)]
pub struct Stall {
    pub now: Timestamp,
    pub notify: bool,
    /// What is said of the connection; it is not paused for that.
    pub why: String,
}

/// A genuine callback.
#[derive(Clone, Debug)]
pub struct Received {
    pub tenant: String,
    /// Without the tenant.
    pub connection: String,
    /// The same when the provider delivers it again.
    pub id: String,
    pub receipts: Vec<Receipt>,
    pub now: Timestamp,
    pub notify: bool,
}

/// What became of a callback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reception {
    /// It had come before; nothing was changed.
    pub duplicate: bool,
    /// Notes that know more now.
    pub changed: Vec<NoteId>,
    /// Receipts that were for no known message.
    pub unmatched: usize,
}

/// Which events.
#[derive(Debug)]
pub struct WantedEvents<'a> {
    pub tenant: &'a str,
    pub note: Option<NoteId>,
    /// Only those behind this position.
    pub after: Option<&'a str>,
    pub limit: u32,
}

/// How far back things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    /// Notes that ended, and uploads that expired, by then.
    pub notes: Timestamp,
    /// Events, callbacks and receipts that came by then; events that still have to be told are kept.
    pub events: Timestamp,
    /// For what carries its own end: idempotency keys, and what was learned.
    pub now: Timestamp,
}

/// The connection by which the queue bounds the telling of events: `TENANT/#events`.
pub const EVENTS: &str = "#events";

/// The connection by which it bounds deadlines and look-ups.
pub const WATCH: &str = "#watch";

/// `TENANT/CONNECTION`.
pub fn connection_key(tenant: &str, connection: &str) -> String {
    format!("{tenant}/{connection}")
}

/// The two parts of a [`connection_key`]. Names have no slash.
pub fn connection_parts(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or((key, ""))
}
