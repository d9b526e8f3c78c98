//! What must survive: notes, the queue of their deliveries, idempotency keys, and what adapters learned.
//!
//! [`Store`] holds no rules. It makes changes atomic and fenced; `delivery` decides what the changes are. Every
//! implementation passes the one contract suite in `tests/store`.

mod document;
mod error;
mod position;
pub(crate) mod postgres;
mod share;
mod sqlite;
mod turns;
mod types;

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
        note::{Note, NoteId, Source},
        upload::Upload,
    },
};

pub use error::StoreError;
pub use postgres::{Notice, PostgresStore, Time};
pub use sqlite::{Patience, SqliteStore};
pub use types::*;

/// Opens the configured database. Deliveries that an earlier process left under way are taken up.
///
/// # Errors
/// What the operator has to change.
pub async fn open(database: &Database, clock: &dyn Clock) -> Result<Arc<dyn Store>, StoreError> {
    match database {
        Database::Sqlite(path) => {
            let store = SqliteStore::open(path).await?;
            // The wall clock may be earlier than it was for the process before this one; what waits would wait for longer.
            if let Some(newest) = store.newest_time().await? {
                clock.not_before(newest);
            }
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
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where it is there and cannot be read.
    async fn note(&self, id: NoteId, tenant: Option<&str>) -> Result<Option<Note>, StoreError>;

    /// Whether there is such a note, readable or not.
    async fn has_note(&self, id: NoteId) -> Result<bool, StoreError>;

    /// What the columns beside a note's document say, for one whose document cannot be read; only if it is that
    /// tenant's.
    async fn columns(&self, id: NoteId, tenant: &str) -> Result<Option<Columns>, StoreError>;

    /// The bytes that came with a note, where they are kept beside it.
    async fn source(&self, id: NoteId) -> Result<Option<Bytes>, StoreError>;

    /// Notes of a tenant, newest first. Those that cannot be read are left out.
    async fn notes(&self, wanted: &Wanted<'_>) -> Result<Page, StoreError>;

    /// Replaces a note that has ended by what is left of it, removes its source, and forgets what was learned in
    /// `lanes`. `false` where its delivery is not done; then nothing was changed.
    async fn erase(&self, left: &Note, lanes: &[String]) -> Result<bool, StoreError>;

    /// The same for a note that cannot be read, whether or not it had ended. `false` where it is under way or held.
    async fn erase_unreadable(&self, left: &Note) -> Result<bool, StoreError>;

    /// Takes a note that waits out of the queue and replaces it by `note`. `false` where it does not wait: it is
    /// under way, held or done; then nothing was changed.
    async fn cancel(&self, note: &Note, notify: bool) -> Result<bool, StoreError>;

    /// Leases deliveries that are due: of each lane only the head, of each connection no more than it has room and
    /// rate for, of a paused connection none, and of each tenant a fair share. Puts back what was leased by a process that
    /// is gone, and hands out what it was sending, and notes that waited longer than they may. Lets go of lanes whose
    /// unknown head was held long enough.
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

    /// What is known about the recipient of a lane, if that has not ended at `now`.
    async fn learned(&self, lane: &str, now: Timestamp) -> Result<Option<Value>, StoreError>;

    /// The provider's own name for uploaded bytes, if it keeps them at `now`.
    async fn media(&self, key: &MediaKey, now: Timestamp) -> Result<Option<MediaHandle>, StoreError>;

    async fn add_upload(&self, upload: &Upload) -> Result<(), StoreError>;

    /// An upload, only if it is that tenant's.
    async fn upload(&self, id: UploadId, tenant: &str) -> Result<Option<Upload>, StoreError>;

    /// Whether there is such an upload, with or without its audio; with a tenant, only if it is that tenant's.
    async fn has_upload(&self, id: UploadId, tenant: Option<&str>) -> Result<bool, StoreError>;

    async fn remove_upload(&self, id: UploadId) -> Result<(), StoreError>;

    /// Uploads that expired by `now` and still have audio.
    async fn expired_uploads(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadId>, StoreError>;

    /// Records that an upload's audio was removed.
    async fn upload_audio_removed(&self, id: UploadId) -> Result<(), StoreError>;

    /// Removes what is old by `horizon`; how many notes that were.
    async fn forget(&self, horizon: &Horizon) -> Result<u64, StoreError>;

    /// Counts notes that have come within a day among those that wait; how many were counted anew.
    async fn count_near(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// How many bytes of audio each tenant keeps; those that keep none may be missing.
    async fn kept_audio(&self) -> Result<Vec<(String, u64)>, StoreError>;

    /// Deliveries not yet done, by connection and state.
    async fn queue_state(&self, now: Timestamp) -> Result<Vec<QueueGroup>, StoreError>;

    /// Notes that are not done and are due within a day.
    async fn queue_depth(&self) -> Result<u64, StoreError>;

    /// Whether the database takes writes: changes a row of its own, with little patience.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Why nothing is stored any more until the next start; `None` while all is well.
    fn out_of_order(&self) -> Option<Arc<str>> {
        None
    }

    /// Lets go of the database in order; nothing works afterwards.
    async fn close(&self) {}

    /// What other processes on the same database change, as they tell it; `None` where there can be no others. A
    /// notice may get lost, so nothing may need it for more than being quick.
    fn notices(&self) -> Option<broadcast::Receiver<Notice>> {
        None
    }
}

/// The connection by which the queue bounds the telling of events: `TENANT/#events`.
pub const EVENTS: &str = "#events";

/// The connection by which it bounds deadlines. Look-ups are bounded for each connection: `TENANT/#watch.CONNECTION`.
pub const WATCH: &str = "#watch";

/// The connection by which it bounds downloads, in parts by the host: `TENANT/#fetch.NN`.
pub const FETCH: &str = "#fetch";

/// Parts of a tenant's downloads. A host that hangs holds back only its own part, and a claim looks at no more parts
/// than this, however many hosts a tenant names.
const PARTS: u8 = 32;

/// The connection by which the queue bounds the next step of a note: the part of its audio's host until that is
/// downloaded, then its provider's.
pub fn queue_key(note: &Note) -> String {
    match &note.source {
        Source::Url { url, .. } => fetch_key(&note.tenant, url),
        Source::Stored => connection_key(&note.tenant, &note.current().connection),
    }
}

/// The connection by which it bounds a tenant's downloads from the host of this URL.
pub fn fetch_key(tenant: &str, url: &str) -> String {
    let origin =
        url::Url::parse(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization());
    let part = Sha256::digest(origin)[0] % PARTS;
    connection_key(tenant, &format!("{FETCH}.{part:02}"))
}

/// `TENANT/CONNECTION`.
pub fn connection_key(tenant: &str, connection: &str) -> String {
    format!("{tenant}/{connection}")
}

/// The key without the part that one of the queue's own connections may have: `TENANT/#fetch` of `TENANT/#fetch.07`.
pub(crate) fn whole(key: &str) -> &str {
    match key.split_once("/#") {
        Some((tenant, own)) => &key[..tenant.len() + 2 + own.find('.').unwrap_or(own.len())],
        None => key,
    }
}

/// The two parts of a [`connection_key`]. Names have no slash.
pub fn connection_parts(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or((key, ""))
}
