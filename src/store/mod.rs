//! Durable storage: notes, the queue of their deliveries, idempotency keys, and the facts that adapters learned.
//!
//! [`Store`] contains no delivery rules. It makes changes atomic and fenced; `delivery` decides what the changes are.
//! Every implementation passes the one contract suite in `tests/store`.

mod document;
mod error;
mod fair_pool;
mod plain_write;
mod position;
pub(crate) mod postgres;
mod received;
mod share;
mod sqlite;
mod tasks;
mod types;
mod webhooks;

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;
use voicegate_providers::MediaHandle;

use crate::{
    config::Database,
    model::{
        clock::Clock,
        event::Event,
        id::UploadId,
        note::{AudioSource, Note, NoteId},
        upload::Upload,
        usage::{UsageGroup, Used},
    },
};

pub use error::StoreError;
pub use postgres::{Notice, PostgresStore, Time};
pub use received::*;
pub use sqlite::{SqliteStore, Timeouts};
pub use tasks::*;
pub use types::*;
pub use webhooks::*;

/// Opens the configured database. Deliveries that an earlier process left unfinished are taken up again.
///
/// # Errors
/// The error says what the operator has to change.
pub async fn open(database: &Database, clock: &dyn Clock) -> Result<Arc<dyn Store>, StoreError> {
    match database {
        Database::Sqlite(path) => {
            let store = SqliteStore::open(path).await?;
            // The wall clock may be earlier than it was for the process before. Waiting notes would then wait for
            // longer.
            if let Some(newest) = store.newest_time().await? {
                clock.not_before(newest);
            }
            // No other process can have the file open. With PostgreSQL others may be at work, and leases expire by
            // themselves.
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

#[async_trait]
pub trait Store: Tasks + Webhooks + ReceivedNotes + Debug + Send + Sync {
    /// Makes a note durable together with its delivery and its claim on the idempotency key, in one transaction.
    /// When this returns, the commit is on disk.
    async fn accept(&self, new: &NewNote) -> Result<Acceptance, StoreError>;

    /// Finds the note that holds an idempotency key at `now`, if any.
    async fn idempotency(
        &self,
        tenant: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<KeyHolder>, StoreError>;

    /// Reads a note; with a tenant, only if it is that tenant's.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the note exists and cannot be read.
    async fn note(&self, id: NoteId, tenant: Option<&str>) -> Result<Option<Note>, StoreError>;

    /// Whether the note exists, readable or not.
    async fn has_note(&self, id: NoteId) -> Result<bool, StoreError>;

    /// Reads the columns beside a note's document, for a note whose document cannot be read; only if it is that
    /// tenant's.
    async fn columns(&self, id: NoteId, tenant: &str) -> Result<Option<Columns>, StoreError>;

    /// Reads the source of a note, if it is kept in the database.
    async fn source(&self, id: NoteId) -> Result<Option<Bytes>, StoreError>;

    /// Reads the audio that was made for the provider, if it is kept in the database.
    async fn sent(&self, id: NoteId) -> Result<Option<Bytes>, StoreError>;

    /// Lists notes of a tenant, newest first. Unreadable ones are left out.
    async fn notes(&self, wanted: &NoteQuery<'_>) -> Result<Page, StoreError>;

    /// Replaces a note that has ended by its erased form `left`, removes its audio, and forgets the facts learned in
    /// `lanes`. Returns `false` if its delivery is not done; then nothing was changed.
    async fn erase(&self, left: &Note, lanes: &[String]) -> Result<bool, StoreError>;

    /// Erases a note that cannot be read, whether or not it has ended. Returns `false` if it is in flight or held.
    async fn erase_unreadable(&self, left: &Note) -> Result<bool, StoreError>;

    /// Removes a waiting note from the queue and replaces it by `note`. Returns `false` if it does not wait, because it
    /// is in flight, held or done; then nothing was changed.
    async fn cancel(&self, note: &Note, notify: bool) -> Result<bool, StoreError>;

    /// Leases deliveries that are due: of each lane only the head, of each connection no more than its limits allow, of
    /// a paused connection none, and of each tenant a fair share. Requeues deliveries that a dead process had leased,
    /// hands out its interrupted sends and the notes that expired, and releases lanes whose unknown head was held long
    /// enough.
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claims, StoreError>;

    /// Length of a lease that is renewed while its work goes on, so that the work of a dead process is soon taken over.
    /// `None` if no other process could take it over; then a lease lasts as long as any work may take.
    fn renewed_lease(&self) -> Option<Duration> {
        None
    }

    /// Extends leases, given by delivery and fence. Leases that another process has taken over stay lost.
    async fn renew(
        &self,
        _leases: &[(i64, i64)],
        _now: Timestamp,
        _until: Timestamp,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Changes a note whose delivery is leased, and stores the new audio of the claim, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if another process has the lease; then nothing was changed.
    ///
    /// Every change of status that a bot cares about becomes an event in the same transaction, here and in every other
    /// method. Receipts that arrived before the note had its message id are applied now.
    async fn write(&self, claim: &Claim, change: &Change) -> Result<Stored, StoreError>;

    /// Ends or postpones a leased job that changes neither its note nor its received note.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], as for `write`.
    async fn finish(&self, lease: &JobLease, end: &JobEnd) -> Result<(), StoreError>;

    /// Marks a note as stalled if it still waits for its first receipt, and ends the leased job. Returns whether it was
    /// marked.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], as for `write`.
    async fn stall(&self, claim: &Claim, stall: &Stall) -> Result<bool, StoreError>;

    /// Processes the receipts and received notes of one callback once: repeating the callback changes nothing. Receipts
    /// for messages that match no note yet are kept.
    async fn receive(&self, received: &ReceiptBatch) -> Result<ReceiptOutcome, StoreError>;

    /// Lists events of a tenant or of one note, oldest first.
    async fn events(&self, wanted: &EventQuery<'_>) -> Result<Vec<Event>, StoreError>;

    /// Position after the newest event of a tenant.
    async fn last_event(&self, tenant: &str) -> Result<String, StoreError>;

    /// Earliest time at which `claim` may find more than it does at `now`.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Ends every lease at once. Only for a database that a single process uses, at its start: the earlier holders are
    /// dead.
    async fn end_all_leases(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Reads the secret of this name, which is created from `fresh` if it does not exist.
    async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError>;

    /// Lists notes that ended before `before` and still have audio.
    async fn notes_with_old_audio(&self, before: Timestamp, limit: u32) -> Result<Vec<NoteId>, StoreError>;

    /// Records that a note's audio was removed, and removes what of it is kept in the database.
    async fn audio_removed(&self, id: NoteId) -> Result<(), StoreError>;

    /// Reads the recorded state of a tenant's connections; those never used are missing.
    async fn connections(&self, tenant: &str) -> Result<Vec<ConnectionState>, StoreError>;

    /// Reads the learned facts about the recipient of a lane, unless they have expired by `now`.
    async fn learned(&self, lane: &str, now: Timestamp) -> Result<Option<Value>, StoreError>;

    /// Finds the provider's handle for uploaded bytes, unless it has expired by `now`.
    async fn media(&self, key: &MediaKey, now: Timestamp) -> Result<Option<MediaHandle>, StoreError>;

    /// Finds a note of the tenant whose stored source is the speech with this key. The key is a hash of everything that
    /// the speech depends on.
    async fn spoken(&self, tenant: &str, key: &str) -> Result<Option<NoteId>, StoreError>;

    async fn add_upload(&self, upload: &Upload) -> Result<(), StoreError>;

    /// Reads an upload, only if it is that tenant's.
    async fn upload(&self, id: UploadId, tenant: &str) -> Result<Option<Upload>, StoreError>;

    /// Whether the upload exists, with or without its audio; with a tenant, only if it is that tenant's.
    async fn has_upload(&self, id: UploadId, tenant: Option<&str>) -> Result<bool, StoreError>;

    async fn remove_upload(&self, id: UploadId) -> Result<(), StoreError>;

    /// Lists uploads that expired by `now` and still have audio.
    async fn expired_uploads(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadId>, StoreError>;

    /// Records that an upload's audio was removed.
    async fn upload_audio_removed(&self, id: UploadId) -> Result<(), StoreError>;

    /// Removes data older than `horizon` and returns the number of removed notes.
    async fn forget(&self, horizon: &Horizon) -> Result<u64, StoreError>;

    /// Moves notes that have become due within a day to the count of waiting ones, and returns their number.
    async fn count_near(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Bytes of audio kept for each tenant; tenants without any may be missing.
    async fn kept_audio(&self) -> Result<Vec<(String, u64)>, StoreError>;

    /// Adds up the usage of a tenant, in groups by key and status, sorted by both. Every note that was accepted counts
    /// once, also after it was erased or removed.
    async fn usage(&self, wanted: &UsageQuery<'_>) -> Result<Vec<UsageGroup>, StoreError>;

    /// Counts the unfinished deliveries by connection and state.
    async fn queue_state(&self, now: Timestamp) -> Result<Vec<QueueGroup>, StoreError>;

    /// Counts the unfinished notes that are due within a day.
    async fn queue_depth(&self) -> Result<u64, StoreError>;

    /// Checks that the database takes writes by changing a row of its own, with a short timeout.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Reason for which nothing is stored until the next start; `None` normally.
    fn out_of_order(&self) -> Option<Arc<str>> {
        None
    }

    /// Closes the database cleanly; the store cannot be used afterwards.
    async fn close(&self) {}

    /// Subscribes to the changes of other processes on the same database; `None` if there can be no others. A notice
    /// may get lost, so it may only speed things up.
    fn notices(&self) -> Option<broadcast::Receiver<Notice>> {
        None
    }
}

/// Internal connection for the limits of webhook deliveries: `TENANT/#events`.
pub const EVENTS: &str = "#events";

/// Internal connection for the limits of deadlines. Look-ups are limited for each connection:
/// `TENANT/#watch.CONNECTION`.
pub const WATCH: &str = "#watch";

/// Internal connection for the limits of downloads, divided into parts by the host: `TENANT/#fetch.NN`.
pub const FETCH: &str = "#fetch";

/// Internal connection for the limits of received notes, for each connection: `TENANT/#inbound.CONNECTION`.
pub const INBOUND: &str = "#inbound";

/// Number of parts of a tenant's downloads. A host that hangs delays only its own part, and a claim reads no more parts
/// than this, however many hosts a tenant names.
const PARTS: u8 = 32;

/// Internal connections for the limits of speech servers, one for each server: `TENANT/#fetch.speech-NAME`. They have the
/// slots of downloads, since both wait for a server before anything can be sent.
pub const SPEECH: &str = "#fetch.speech-";

/// Internal connections for the limits of transcription servers, as those of speech servers.
pub const TRANSCRIPTION: &str = "#fetch.transcription-";

/// Connection key whose limits apply to the next step of a note: the part of its audio's host until that is downloaded,
/// or its speech server until that has spoken, then its provider's.
pub fn queue_key(note: &Note) -> String {
    match &note.source {
        AudioSource::Url { url, .. } => fetch_key(&note.tenant, url),
        AudioSource::Speech => {
            let with = note.speech.as_ref().map_or("", |speech| speech.with.as_str());
            speech_key(&note.tenant, with)
        }
        AudioSource::Stored => connection_key(&note.tenant, &note.current().connection),
    }
}

/// Connection key whose limits apply to a speech server.
pub fn speech_key(tenant: &str, server: &str) -> String {
    connection_key(tenant, &format!("{SPEECH}{server}"))
}

/// Connection key whose limits apply to a tenant's downloads from the host of this URL.
pub fn fetch_key(tenant: &str, url: &str) -> String {
    let origin =
        url::Url::parse(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization());
    let part = Sha256::digest(origin)[0] % PARTS;
    connection_key(tenant, &format!("{FETCH}.{part:02}"))
}

/// Key of a connection: `TENANT/CONNECTION`.
pub fn connection_key(tenant: &str, connection: &str) -> String {
    format!("{tenant}/{connection}")
}

/// Removes the part number from the key of an internal connection: `TENANT/#fetch.07` becomes `TENANT/#fetch`.
pub(crate) fn whole(key: &str) -> &str {
    match key.split_once("/#") {
        Some((tenant, own)) => &key[..tenant.len() + 2 + own.find('.').unwrap_or(own.len())],
        None => key,
    }
}

/// Splits a [`connection_key`] into its two parts. Names have no slash.
pub fn connection_parts(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or((key, ""))
}

/// The columns with a note's share in the usage: milliseconds, bytes in, bytes out, attempts.
fn used_columns(note: &Note) -> [i64; 4] {
    let Used { notes: _, ms, bytes_in, bytes_out, attempts } = Used::by(note);
    [ms, bytes_in, bytes_out, attempts].map(|number| i64::try_from(number).unwrap_or(i64::MAX))
}
