//! What goes into a store and comes out of it.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use voicegate_providers::{Form, MediaHandle, Receipt};

use super::{EVENTS, FETCH, StoreError, WATCH, connection_parts};
use crate::{
    config::Rate,
    model::{
        breaker::Tally,
        event::Event,
        note::{Note, NoteId, Status},
    },
};

#[derive(Clone, Debug)]
pub struct NewNote {
    pub note: Note,
    /// The audio, where it is small enough to be kept beside the note and not as a file.
    pub source: Option<Bytes>,
    pub idempotency: Option<KeyClaim>,
    /// A note that is held because its outcome is unknown, and whose lane is let go with this one.
    pub releases: Option<NoteId>,
    /// How many notes may wait that are due within a day.
    pub max_queue: u64,
    /// The same for one tenant, and once more for what is due later.
    pub max_queue_per_tenant: u64,
    /// A tenant with fewer waiting is let in although `max_queue` is reached: its share of that.
    pub share: u64,
}

/// A note that is due later than this counts apart from those that wait.
pub const NEAR: Duration = Duration::from_secs(24 * 60 * 60);

/// Notes that are counted anew in one transaction.
pub(super) const NEAR_AT_ONCE: i64 = 500;

impl NewNote {
    /// Whether it counts as scheduled for later.
    pub fn is_far(&self) -> bool {
        self.note.due_at() > self.note.created_at + NEAR
    }
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
    pub(super) fn of_row(fingerprint: String, note: &str) -> Result<Self, StoreError> {
        let malformed = |()| StoreError::Corrupt("idempotency: the note's id is malformed".to_owned());
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

/// What a job has its place among. Jobs of one class never wait for places of another, so a slow server that somebody
/// chose for `audio.url` or a webhook delays no send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Send,
    /// Downloads of `audio.url`.
    Fetch,
    /// Events for webhooks.
    Tell,
    /// Deadlines, and questions to providers about unknown outcomes.
    Watch,
    /// Notes that expired or were interrupted: only their end has to be written.
    End,
}

impl Class {
    pub const ALL: [Self; 5] = [Self::Send, Self::Fetch, Self::Tell, Self::Watch, Self::End];

    /// The class of what waits for a connection, by its key.
    pub fn of(connection: &str) -> Self {
        let (_, name) = connection_parts(connection);
        let is =
            |own: &str| name.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if is(FETCH) {
            Self::Fetch
        } else if is(EVENTS) {
            Self::Tell
        } else if is(WATCH) {
            Self::Watch
        } else {
            Self::Send
        }
    }
}

/// Free places of one class in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub limit: usize,
    /// How many of these are only for tenants that have little under way, so that one with a long queue never has every
    /// place.
    pub reserved: usize,
    /// How many of these may go to servers that are not known to answer.
    pub suspects: usize,
}

/// The free places of every class.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rooms([Room; Class::ALL.len()]);

impl Rooms {
    pub fn new(room: impl Fn(Class) -> Room) -> Self {
        Self(Class::ALL.map(room))
    }

    /// The same for every class.
    pub fn each(limit: usize, reserved: usize) -> Self {
        Self::new(|_| Room { limit, reserved, suspects: limit })
    }

    pub fn of(&self, class: Class) -> Room {
        self.0[class as usize]
    }

    pub fn are_full(&self) -> bool {
        self.0.iter().all(|room| room.limit == 0)
    }
}

pub struct ClaimRequest<'a> {
    pub now: Timestamp,
    pub lease_until: Timestamp,
    pub rooms: Rooms,
    /// Deliveries that this process works on. It lives, so their leases have not ended, whatever the time is.
    pub held: &'a [i64],
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
    pub trust: Trust,
}

impl Bounds {
    /// Of a server that answers.
    pub const fn of(concurrency: usize, rate: Option<Rate>) -> Self {
        Self { concurrency, rate, trust: Trust::Answers }
    }
}

/// Whether a server answered when it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Answers,
    /// It was not asked yet.
    New,
    /// It kept its place for long and said nothing.
    Hung,
}

/// What has to be done for a note.
#[derive(Clone, Debug)]
pub enum Job {
    /// Send it.
    Send,
    /// Download its audio, so that it can be sent.
    Fetch,
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
    /// `TENANT/CONNECTION`, by which the queue bounds it.
    pub connection: String,
    /// When it came into the queue.
    pub queued_at: Timestamp,
    /// How often it was leased before.
    pub tries: u32,
    /// The lease ran out while the visible request was under way: the outcome is unknown.
    pub interrupted: bool,
    /// The note waited longer than it may, by the clock of the queue.
    pub expired: bool,
    pub class: Class,
    /// Failures of the connection when this was leased: it may have to prove first that it works again.
    pub tally: Tally,
    pub note: Note,
    /// What is known about the recipient on this connection, by lane.
    pub learned: Option<Value>,
    /// The connection may open no new conversations, or might not until a time that is past.
    pub closed: Option<Closed>,
}

/// A connection may open no new conversations until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub until: Timestamp,
    /// For people.
    pub why: String,
}

/// Names media that a provider keeps: bytes that were uploaded over a connection, to be shown in one form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaKey {
    /// `TENANT/CONNECTION`.
    pub connection: String,
    pub form: Form,
    pub sha256: String,
}

/// What becomes of the provider's name for uploaded bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaChange {
    Keep(MediaKey, MediaHandle),
    /// The provider no longer knows this name. A newer one stays.
    Forget(MediaKey, String),
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
    /// How many at most; fewer where some cannot be read.
    pub limit: u32,
}

/// Notes of which the first columns of an index have these values.
pub(super) struct Range<'a> {
    pub index: &'static str,
    pub equal: Vec<(&'static str, &'a str)>,
    pub before: &'a str,
    pub limit: i64,
}

/// Some notes of a list.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    pub notes: Vec<Note>,
    /// What the next page comes before; `None` on the last one.
    pub next: Option<NoteId>,
}

/// What is known of a note beside its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    pub status: Status,
    pub created_at: Timestamp,
    /// The connection in use.
    pub via: Option<String>,
}

/// What attempts told about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// Without the tenant.
    pub connection: String,
    /// Nothing is sent before: the provider asked for it, or failed again and again.
    pub paused_until: Option<Timestamp>,
    /// When an attempt last said something about the connection.
    pub seen_at: Option<Timestamp>,
    /// What that was, if it was no success.
    pub failure: Option<String>,
    /// How many in a row were none.
    pub failures: u32,
    /// When a genuine callback last came.
    pub callback_at: Option<Timestamp>,
    /// It may, or might, open no new conversations.
    pub closed: Option<Closed>,
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
    pub media: Option<MediaChange>,
    /// Of the connection of the attempt, as the next one.
    pub closed: Option<(String, Closed)>,
    /// Nothing goes out over the connection before, although this note did.
    pub pause: Option<(String, Timestamp)>,
    pub step: Step,
}

impl Change {
    /// Only the note, and what becomes of its delivery.
    pub fn new(note: Note, step: Step) -> Self {
        let learned = Learned::Keep;
        Self {
            note,
            step,
            learned,
            health: None,
            notify: false,
            deadline: None,
            look_up: None,
            media: None,
            closed: None,
            pause: None,
        }
    }
}

/// What becomes of what is known about the recipient. `Set` and `Forget` concern `lane`, that of the
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
    /// The provider's answer proves that nothing was sent, and the note is made ready again.
    Again,
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
    pub(super) fn may_free_others(self) -> bool {
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
    /// In their order. Each is taken in once.
    pub events: Vec<ReceivedEvent>,
    pub now: Timestamp,
    pub notify: bool,
}

/// One thing that a callback says.
#[derive(Clone, Debug)]
pub struct ReceivedEvent {
    /// The same when the provider delivers it again.
    pub id: String,
    pub receipt: Receipt,
}

/// What became of a callback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reception {
    /// All that it says had come before; nothing was changed.
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
