//! The types that a store takes and returns.

use std::{fmt, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use voicegate_providers::{Form, MediaHandle, Receipt};

use super::{EVENTS, FETCH, INBOUND, ReceivedClaim, StoreError, WATCH, WebhookEnd, connection_parts};
use crate::{
    config::Rate,
    model::{
        breaker::Tally,
        event::{Event, Subject},
        id::ReceivedId,
        note::{Note, NoteId, Status},
        received::Received,
        usage::{Days, UsageBy},
    },
};

#[derive(Clone, Debug)]
pub struct NewNote {
    pub note: Note,
    /// The audio, if it is small enough to be kept in the database instead of in a file.
    pub source: Option<SmallAudio>,
    pub idempotency: Option<KeyClaim>,
    /// A note that blocks its lane because its outcome is unknown. Accepting this note releases that lane.
    pub releases: Option<NoteId>,
    /// Maximum number of waiting notes that are due within a day.
    pub max_queue: u64,
    /// Maximum for one tenant. It applies separately to the notes due within a day and to those due later.
    pub max_queue_per_tenant: u64,
    /// Guaranteed share of a tenant: with fewer waiting notes it is let in even when `max_queue` is reached.
    pub share: u64,
}

/// Small audio that is kept in the database, once for each tenant and content.
#[derive(Clone, PartialEq, Eq)]
pub struct SmallAudio {
    /// SHA-256 digest in hexadecimal.
    pub sha256: String,
    pub bytes: Bytes,
}

impl From<Bytes> for SmallAudio {
    fn from(bytes: Bytes) -> Self {
        Self { sha256: hex::encode(Sha256::digest(&bytes)), bytes }
    }
}

/// The audio is a tenant's, so `Debug` leaves it out.
impl fmt::Debug for SmallAudio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmallAudio").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Small audio that was downloaded or made under a lease. It is stored together with the next change of its note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewAudio {
    pub source: Option<SmallAudio>,
    /// The audio as it is sent to the provider.
    pub sent: Option<SmallAudio>,
    /// The key of the speech that the source is, by which later notes find it.
    pub spoken: Option<String>,
}

impl NewAudio {
    /// The contents, each with the number of its variant in the database.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i32, &SmallAudio)> {
        self.source
            .iter()
            .map(|content| (SOURCE, content))
            .chain(self.sent.iter().map(|content| (SENT, content)))
    }
}

/// How a note is stored after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As the change has it.
    AsGiven,
    /// Receipts that came before were applied to it, or that is unknown.
    WithReceipts,
}

/// The numbers of the variants of a note's audio in the database.
pub(super) const SOURCE: i32 = 0;
pub(super) const SENT: i32 = 1;

/// Notes that are due later than this are counted separately from the waiting ones.
pub const NEAR: Duration = Duration::from_secs(24 * 60 * 60);

/// Maximum number of notes recounted in one transaction.
pub(super) const NEAR_AT_ONCE: i64 = 500;

impl NewNote {
    /// Whether the note counts as scheduled for later.
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

/// The kind of work, each with slots of its own. Jobs of one class never wait for slots of another, so a slow server
/// that a tenant chose for `audio.url` or a webhook delays no send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Send,
    /// Downloads of `audio.url`.
    Fetch,
    /// Webhook deliveries of events.
    Webhook,
    /// Deadlines, and look-ups at providers about unknown outcomes.
    Watch,
    /// Fetching, reading and rendering the audio of received notes.
    Inbound,
    /// Notes that expired or were interrupted: only their final status has to be written.
    End,
}

impl Class {
    pub const ALL: [Self; 6] =
        [Self::Send, Self::Fetch, Self::Webhook, Self::Watch, Self::Inbound, Self::End];

    /// The class of the jobs that wait for a connection, given its key.
    pub fn of(connection: &str) -> Self {
        let (_, name) = connection_parts(connection);
        let is =
            |own: &str| name.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if is(FETCH) {
            Self::Fetch
        } else if is(EVENTS) {
            Self::Webhook
        } else if is(WATCH) {
            Self::Watch
        } else if is(INBOUND) {
            Self::Inbound
        } else {
            Self::Send
        }
    }
}

/// Free slots of one class in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreeSlots {
    pub limit: usize,
    /// Number of slots reserved for tenants with little in flight, so that a tenant with a long queue never takes every
    /// slot.
    pub reserved: usize,
    /// Number of slots that may go to servers that are not known to answer.
    pub suspects: usize,
}

/// The free slots of every class.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotsByClass([FreeSlots; Class::ALL.len()]);

impl SlotsByClass {
    pub fn new(room: impl Fn(Class) -> FreeSlots) -> Self {
        Self(Class::ALL.map(room))
    }

    /// Creates equal slots for every class.
    pub fn each(limit: usize, reserved: usize) -> Self {
        Self::new(|_| FreeSlots { limit, reserved, suspects: limit })
    }

    pub fn of(&self, class: Class) -> FreeSlots {
        self.0[class as usize]
    }

    pub fn are_full(&self) -> bool {
        self.0.iter().all(|room| room.limit == 0)
    }
}

pub struct ClaimRequest<'a> {
    pub now: Timestamp,
    pub lease_until: Timestamp,
    pub slots: SlotsByClass,
    /// Deliveries in progress in this process. It is alive, so their leases have not ended, whatever the time is.
    pub held: &'a [i64],
    /// Limits of a connection (`TENANT/CONNECTION`), over all processes.
    pub bounds: &'a (dyn Fn(&str) -> Bounds + Send + Sync),
}

/// Limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Maximum number of deliveries leased at the same time.
    pub concurrency: usize,
    /// Maximum number of attempts begun within any span of that length.
    pub rate: Option<Rate>,
    pub responsiveness: Responsiveness,
}

impl Bounds {
    /// Limits for a server that answers.
    pub const fn of(concurrency: usize, rate: Option<Rate>) -> Self {
        Self { concurrency, rate, responsiveness: Responsiveness::Answers }
    }
}

/// Whether a server answered the last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Responsiveness {
    Answers,
    /// No request was made yet.
    Untried,
    /// The last request timed out without an answer.
    Hung,
}

/// The work that is due for a note.
#[derive(Clone, Debug)]
pub enum Job {
    /// Send the note.
    Send,
    /// Download the audio, so that the note can be sent.
    Fetch,
    /// Deliver an event to the tenant's webhook.
    Webhook(Box<Event>),
    /// Handle an `ack_deadline` that has passed.
    Overdue,
    /// Look up the outcome at the provider.
    LookUp,
}

/// The jobs that were leased together.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    pub notes: Vec<Claim>,
    pub received: Vec<ReceivedClaim>,
}

impl Claims {
    pub fn len(&self) -> usize {
        self.notes.len() + self.received.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The leases, each as delivery and fence.
    pub fn leases(&self) -> impl Iterator<Item = (i64, i64)> {
        let notes = self.notes.iter().map(|claim| (claim.delivery, claim.fence));
        notes.chain(self.received.iter().map(|claim| (claim.delivery, claim.fence)))
    }

    pub(super) fn add(&mut self, leased: Leased) {
        match leased {
            Leased::Note(claim) => self.notes.push(*claim),
            Leased::Received(claim) => self.received.push(*claim),
        }
    }
}

/// A leased job, by what it is about.
pub(super) enum Leased {
    Note(Box<Claim>),
    Received(Box<ReceivedClaim>),
}

/// The lease of a job, whatever it is about.
#[derive(Clone, Debug)]
pub struct JobLease {
    pub delivery: i64,
    pub fence: i64,
    /// Failures of the connection at the time of the lease.
    pub tally: Tally,
    pub subject: Subject,
}

/// A leased job of a note: one row of the queue.
#[derive(Clone, Debug)]
pub struct Claim {
    pub delivery: i64,
    /// Fencing token: it grows with every lease, and a write with an old one is refused.
    pub fence: i64,
    pub job: Job,
    /// `TENANT/CONNECTION`, the key to whose limits the job is subject.
    pub connection: String,
    /// Time at which the job was queued.
    pub queued_at: Timestamp,
    /// Number of earlier leases.
    pub tries: u32,
    /// Whether the lease ran out during the visible request, so that the outcome is unknown.
    pub interrupted: bool,
    /// Whether the note waited longer than it may, by the clock of the queue.
    pub expired: bool,
    pub class: Class,
    /// Failures of the connection at the time of the lease. After several, this attempt is a probe.
    pub tally: Tally,
    pub note: Note,
    /// Audio of the note that is not stored yet.
    pub audio: NewAudio,
    /// Learned facts about the recipient on this connection, stored by lane.
    pub learned: Option<Value>,
    /// Set if the connection may open no new conversations; its time may be past.
    pub closed: Option<Closed>,
}

impl Claim {
    pub fn lease(&self) -> JobLease {
        let subject = self.note.clone().into();
        JobLease { delivery: self.delivery, fence: self.fence, tally: self.tally, subject }
    }
}

/// The reason for which a connection may open no new conversations, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub until: Timestamp,
    /// Text for people.
    pub why: String,
}

/// The key of media that a provider keeps: bytes uploaded over a connection, to be shown in one form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaKey {
    /// `TENANT/CONNECTION`.
    pub connection: String,
    pub form: Form,
    pub sha256: String,
}

/// A change to the stored media handles of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaChange {
    Keep(MediaKey, MediaHandle),
    /// The provider no longer knows this handle. A newer one stays.
    Forget(MediaKey, String),
}

/// Deliveries of one connection in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueGroup {
    /// `TENANT/CONNECTION`.
    pub connection: String,
    /// The state in the database, or `scheduled` for deliveries that have never been due.
    pub state: String,
    pub count: u64,
    /// Time at which the first of them became due.
    pub since: Timestamp,
}

/// A query for notes of a tenant.
#[derive(Debug)]
pub struct NoteQuery<'a> {
    pub tenant: &'a str,
    pub status: Option<Status>,
    /// Canonical spelling of the recipient.
    pub to: Option<&'a str>,
    /// Connection through which a note goes or went.
    pub via: Option<&'a str>,
    /// Only notes older than this one.
    pub before: Option<NoteId>,
    /// Maximum number; the page has fewer if some notes cannot be read.
    pub limit: u32,
}

/// A range of an index: the notes whose first columns have these values.
pub(super) struct Range<'a> {
    pub index: &'static str,
    pub equal: Vec<(&'static str, &'a str)>,
    pub before: &'a str,
    pub limit: i64,
}

/// One page of a list of notes.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    pub notes: Vec<Note>,
    /// Cursor of the next page; `None` on the last one.
    pub next: Option<NoteId>,
}

/// The columns of a note, which are stored beside its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    pub status: Status,
    pub created_at: Timestamp,
    /// The connection in use.
    pub via: Option<String>,
}

/// The recorded state of a connection, as its attempts and callbacks showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// Name of the connection, without the tenant.
    pub connection: String,
    /// Nothing is sent before this time, because the provider asked for a pause or failed repeatedly.
    pub paused_until: Option<Timestamp>,
    /// Time of the last attempt that said something about the connection.
    pub seen_at: Option<Timestamp>,
    /// Error of that attempt, if it failed.
    pub failure: Option<String>,
    /// Number of failures in a row.
    pub failures: u32,
    /// Time of the last verified callback.
    pub callback_at: Option<Timestamp>,
    /// Set if it may open no new conversations; its time may be past.
    pub closed: Option<Closed>,
}

/// The health of a connection as one attempt showed it, independent of the outcome for the note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Works,
    /// Text for people.
    Fails(String),
}

/// A change to a leased note.
#[derive(Clone, Debug)]
pub struct Change {
    pub note: Note,
    /// Whether the tenant has a webhook for the event.
    pub notify: bool,
    /// Times at which the deadline and the look-up that begin with this change are due.
    pub deadline: Option<Timestamp>,
    pub look_up: Option<Timestamp>,
    /// Health of the connection with this key, `TENANT/CONNECTION`.
    pub health: Option<(String, Health)>,
    pub learned: Learned,
    pub media: Option<MediaChange>,
    /// Set if the connection of the attempt may open no new conversations.
    pub closed: Option<(String, Closed)>,
    /// Pause of the connection, although this note was sent.
    pub pause: Option<(String, Timestamp)>,
    pub step: Step,
}

impl Change {
    /// Creates a change of the note and its delivery alone.
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

/// A change to the learned facts about the recipient. `Set` and `Forget` apply to `lane`, the lane of the attempt, even
/// if the note moves on to another.
#[derive(Clone, Debug, PartialEq)]
pub enum Learned {
    Keep,
    Forget { lane: String },
    Set { lane: String, value: Value, expires_at: Timestamp },
}

/// A change to the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The attempt goes on.
    Progress,
    /// The visible request is about to be made.
    Dispatching,
    /// The provider's answer proves that nothing was sent, and the note is prepared again.
    Again,
    /// The delivery goes back into the queue, in the current lane of the note.
    Retry {
        at: Timestamp,
        pause_connection_until: Option<Timestamp>,
    },
    /// The lane stays blocked until this time, and nothing more is tried.
    Hold {
        until: Timestamp,
    },
    Done,
}

impl Step {
    /// Whether another delivery may now be sent, or be sent sooner.
    pub(super) fn may_free_others(self) -> bool {
        matches!(self, Self::Retry { .. } | Self::Hold { .. } | Self::Done)
    }
}

/// The end of a job that changes no note.
#[derive(Clone, Debug)]
pub struct JobEnd {
    /// `Done` or `Retry`.
    pub step: Step,
    /// Health of the connection with this key.
    pub health: Option<(String, Health)>,
    /// The try to tell a bot of an event.
    pub told: Option<WebhookEnd>,
    pub now: Timestamp,
}

/// A receipt that is overdue.
#[derive(Clone, Debug)]
pub struct Stall {
    pub now: Timestamp,
    pub notify: bool,
    /// Message recorded for the connection, which is not paused for it.
    pub why: String,
}

/// The receipts and received notes of one verified callback.
#[derive(Clone, Debug)]
pub struct ReceiptBatch {
    pub tenant: String,
    /// Name of the connection, without the tenant.
    pub connection: String,
    /// Receipts in the order of the callback. Each is processed once.
    pub receipts: Vec<ReceivedReceipt>,
    /// Notes that people sent. Each message is stored once.
    pub voices: Vec<Received>,
    pub now: Timestamp,
    pub notify: bool,
}

/// One receipt of a callback, with the provider's id of the event.
#[derive(Clone, Debug)]
pub struct ReceivedReceipt {
    /// Id of the event, which is equal when the provider delivers it again.
    pub id: String,
    pub receipt: Receipt,
}

/// The result of processing a callback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptOutcome {
    /// Whether all receipts and received notes were known already; then nothing was changed.
    pub duplicate: bool,
    /// Notes that were changed.
    pub changed: Vec<NoteId>,
    /// Number of receipts that match no known message.
    pub unmatched: usize,
    /// Received notes that are new.
    pub received: Vec<ReceivedId>,
}

/// A query for events.
#[derive(Debug)]
pub struct EventQuery<'a> {
    pub tenant: &'a str,
    pub note: Option<NoteId>,
    /// Only events after this position.
    pub after: Option<&'a str>,
    pub limit: u32,
}

/// A query for the usage of a tenant.
#[derive(Debug)]
pub struct UsageQuery<'a> {
    pub tenant: &'a str,
    /// The days on which the notes were accepted.
    pub days: Days,
    pub by: UsageBy,
}

/// The ages at which stored data is removed.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    /// Remove notes that ended, and uploads that expired, by this time.
    pub notes: Timestamp,
    /// Remove events, callbacks and receipts that came by this time, except events whose webhook delivery is pending.
    pub events: Timestamp,
    /// Current time, for data with an expiry of its own: idempotency keys and learned facts.
    pub now: Timestamp,
}
