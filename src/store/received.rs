//! Received notes in the database.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use voicegate_providers::parse_recipient;

use super::{Class, JobLease, StoreError};
use crate::model::{
    breaker::Tally,
    event::{Event, EventKind},
    id::ReceivedId,
    received::{Received, Transcript},
};

/// Time for which the audio of a note is fetched if the provider names none, and for which stored audio is read.
pub const FETCH_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// A provider whose time is nearly over is asked at least once.
pub const LAST_CHANCE: Duration = Duration::from_secs(60);

/// Time within which the words of a note have to be there.
pub const TRANSCRIPTION_PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Time for which the message id of a note is remembered at least. Providers repeat callbacks for up to a week.
pub const MESSAGES_KEPT: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// The work that is due for a received note.
#[derive(Clone, Debug)]
pub enum ReceivedJob {
    /// Fetch the audio, read it and render it.
    Receive,
    /// Have its words written down.
    Transcribe,
    /// Deliver an event to the tenant's webhook.
    Webhook(Box<Event>),
}

/// A leased job of a received note.
#[derive(Clone, Debug)]
pub struct ReceivedClaim {
    pub delivery: i64,
    /// Fencing token: it grows with every lease, and a write with an old one is refused.
    pub fence: i64,
    pub job: ReceivedJob,
    /// `TENANT/CONNECTION`, the key to whose limits the job is subject.
    pub connection: String,
    /// Time at which the job was queued.
    pub queued_at: Timestamp,
    /// Number of earlier leases.
    pub tries: u32,
    /// Whether the job waited longer than it may, by the clock of the queue.
    pub expired: bool,
    pub class: Class,
    pub tally: Tally,
    pub received: Received,
}

impl ReceivedClaim {
    pub fn lease(&self) -> JobLease {
        let subject = self.received.clone().into();
        JobLease { delivery: self.delivery, fence: self.fence, tally: self.tally, subject }
    }
}

/// A change to a received note whose job is leased.
#[derive(Clone, Debug)]
pub struct ReceivedChange {
    pub received: Received,
    /// Small audio that is stored with the change.
    pub audio: Vec<SmallPart>,
    /// Time at which the audio is to be removed. `None` if there is none.
    pub audio_until: Option<Timestamp>,
    pub step: ReceivedStep,
    /// The transcription server by which the words are written down after the announcement.
    pub transcribe: Option<String>,
    pub now: Timestamp,
}

/// One part of the audio of a received note, kept in the database.
#[derive(Clone, PartialEq, Eq)]
pub struct SmallPart {
    /// `native`, or the name of a profile.
    pub part: String,
    pub bytes: Bytes,
}

/// The audio is a person's, so `Debug` leaves it out.
impl fmt::Debug for SmallPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmallPart")
            .field("part", &self.part)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// A received note whose audio is to be removed, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldAudio {
    pub id: ReceivedId,
    pub since: Timestamp,
}

/// A change to the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceivedStep {
    /// The lease goes on, with this end of the time for the rest of the work.
    Progress { until: Timestamp },
    /// The job goes back into the queue.
    Retry { at: Timestamp },
    /// The job is done, and this event is announced. `notify`: the tenant has a webhook.
    Done { event: EventKind, notify: bool },
}

/// The wait of a transcription for its next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Postponed {
    pub at: Timestamp,
    /// Whether the lease counts among the tries.
    pub counts: bool,
    /// No note is written down by the server before this time.
    pub paused: Option<Timestamp>,
    pub now: Timestamp,
}

/// A query for received notes of a tenant that were announced.
#[derive(Debug)]
pub struct ReceivedQuery<'a> {
    pub tenant: &'a str,
    /// Canonical spelling of the sender.
    pub from: Option<&'a str>,
    /// Canonical spelling of the chat.
    pub conversation: Option<&'a str>,
    pub via: Option<&'a str>,
    /// Only notes older than this one.
    pub before: Option<ReceivedId>,
    pub limit: u32,
}

/// One page of a list of received notes.
#[derive(Debug, Default, PartialEq)]
pub struct ReceivedPage {
    pub items: Vec<Received>,
    /// Cursor of the next page; `None` on the last one.
    pub next: Option<ReceivedId>,
}

/// Storage of received notes. Every store has it. New ones come by [`super::Store::receive`].
#[async_trait]
pub trait ReceivedNotes: Send + Sync {
    /// Reads a note, only if it is that tenant's and was not erased.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the note exists and cannot be read.
    async fn received(&self, id: ReceivedId, tenant: &str) -> Result<Option<Received>, StoreError>;

    /// Whether the note exists, readable or not, erased or not; with a tenant, only if it is that tenant's.
    async fn has_received(&self, id: ReceivedId, tenant: Option<&str>) -> Result<bool, StoreError>;

    /// Lists notes that were announced, newest first. Unreadable ones are left out.
    async fn received_notes(&self, wanted: &ReceivedQuery<'_>) -> Result<ReceivedPage, StoreError>;

    /// Reads a part of a note's audio, if it is kept in the database.
    async fn received_audio(&self, id: ReceivedId, part: &str) -> Result<Option<Bytes>, StoreError>;

    /// Changes a note whose job is leased, with its audio and its event, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if another process has the lease; then nothing was changed.
    async fn write_received(&self, claim: &ReceivedClaim, change: &ReceivedChange) -> Result<(), StoreError>;

    /// Ends the leased job of a transcription, with its words and its event, in one transaction. Everything else of the note
    /// stays as it is stored.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if another process has the lease, or the note was erased; then nothing was changed.
    async fn write_transcript(
        &self,
        claim: &ReceivedClaim,
        transcript: &Transcript,
        notify: bool,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Puts the leased job of a transcription back into the queue, and pauses its server.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if another process has the lease, or the note was erased; then nothing was changed.
    async fn postpone_transcription(
        &self,
        claim: &ReceivedClaim,
        postponed: Postponed,
    ) -> Result<(), StoreError>;

    /// Erases a note that was announced: its content, its events and its small audio. Its files are due to be removed.
    /// Returns `false` if there is none.
    async fn erase_received(&self, id: ReceivedId, now: Timestamp) -> Result<bool, StoreError>;

    /// Lists notes whose audio is to be removed by `now`, those that are due first at the beginning. With `after`, only
    /// what follows that one.
    async fn received_with_old_audio(
        &self,
        now: Timestamp,
        after: Option<OldAudio>,
        limit: u32,
    ) -> Result<Vec<OldAudio>, StoreError>;

    /// Records that a note's audio was removed, and removes what of it is kept in the database. Returns the note, unless
    /// it was erased or cannot be read.
    async fn received_audio_removed(&self, id: ReceivedId) -> Result<Option<Received>, StoreError>;
}

/// The name by which a provider's message is recognised. The id itself may contain a phone number.
pub(super) fn message_name(message_id: &str) -> String {
    hex::encode(Sha256::digest(message_id))
}

/// Time after which a new note is given up.
pub(super) fn fetch_until(received: &Received, now: Timestamp) -> Timestamp {
    let before = received.media.as_ref().and_then(|media| media.fetch_before);
    before.unwrap_or(now + FETCH_PATIENCE).max(now + LAST_CHANCE)
}

/// The spelling by which a sender or a chat is searched.
pub(super) fn canonical(recipient: &str) -> String {
    parse_recipient(recipient).map_or_else(|_| recipient.to_owned(), |recipient| recipient.to_string())
}
