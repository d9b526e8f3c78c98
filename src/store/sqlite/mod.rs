//! The embedded store. One process uses a file, with one connection for writing and a few for reading.

mod accept;
mod claim;
mod dialect;
#[path = "../sql/events.rs"]
mod events;
mod files;
mod group;
mod integrity;
#[path = "../sql/lists.rs"]
mod lists;
#[path = "../sql/media.rs"]
mod media;
mod open;
mod plain;
mod proof;
#[path = "../sql/read.rs"]
mod read;
#[path = "../sql/receipts.rs"]
mod receipts;
mod received;
#[path = "../sql/received.rs"]
mod received_rows;
#[path = "../sql/sources.rs"]
mod sources;
#[path = "../sql/spoken.rs"]
mod spoken;
#[path = "../sql/tasks.rs"]
mod task_rows;
mod tasks;
#[path = "../sql/uploads.rs"]
mod uploads;
#[path = "../sql/usage.rs"]
mod usage;
mod watch;
#[path = "../sql/webhooks.rs"]
mod webhook_rows;
mod webhooks;
#[path = "../sql/write.rs"]
mod write;
mod writer;

use std::{fs::File, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::Connection;
use tokio::task::JoinSet;
use voicegate_providers::MediaHandle;

use self::{
    dialect::{Db, Pool, Tx},
    files::Files,
    group::Group,
    open::{Open, open},
    proof::Proof,
    writer::{BEGIN, BEGIN_UNFLUSHED, Writer, change},
};
use super::{
    Acceptance, Change, Claim, ClaimRequest, Claims, Columns, ConnectionState, EventQuery, Horizon, JobEnd,
    JobLease, KeyHolder, MediaKey, NEAR, NewNote, NoteQuery, Page, QueueGroup, ReceiptBatch, ReceiptOutcome,
    Stall, Store, StoreError, Stored, UsageQuery,
    fair_pool::FairPool,
    position::Positions,
    types::{NEAR_AT_ONCE, SENT, SOURCE},
};
use crate::model::{
    event::Event,
    id::UploadId,
    note::{Note, NoteId},
    upload::Upload,
    usage::UsageGroup,
};

pub use writer::Timeouts;

/// Maximum number of lists read at the same time, in total and for one tenant.
const LISTS: usize = 2;
const LISTS_OF_ONE: usize = 1;

#[derive(Debug)]
pub struct SqliteStore {
    writer: Arc<Writer>,
    /// Frequent changes, made for each note or attempt, go through group commit and share flushes.
    group: Group,
    readers: Pool,
    lists: FairPool,
    positions: Positions,
    files: Arc<Files>,
    /// Background task, which ends with the store.
    watch: tokio::sync::Mutex<JoinSet<()>>,
    /// Lock file, held for as long as the store exists.
    _lock: File,
}

impl SqliteStore {
    /// Opens or creates the database and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`] says what to do.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::with_timeouts(path, Timeouts::default()).await
    }

    /// Newest time that was stored as the current one, by a process with a wall clock of its own.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let newest: Result<Option<i64>, _> = sqlx::query_scalar(
            "SELECT MAX(at) FROM (
                SELECT MAX(queued_at) AS at FROM deliveries
                UNION ALL SELECT MAX(at) FROM events
                UNION ALL SELECT MAX(at) FROM starts)",
        )
        .fetch_one(&self.readers)
        .await;
        let newest = self.read(newest.map_err(StoreError::from))?;
        Ok(newest.and_then(|at| Timestamp::from_millisecond(at).ok()))
    }

    /// The database's query plan for [`Store::notes`], for tests.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub async fn explain(&self, wanted: &NoteQuery<'_>) -> Result<Vec<String>, StoreError> {
        lists::explain(&self.readers, wanted).await
    }

    /// Opens the database with these timeouts for a busy or failing database.
    ///
    /// # Errors
    /// [`StoreError::Open`] says what to do.
    pub async fn with_timeouts(path: &Path, timeouts: Timeouts) -> Result<Self, StoreError> {
        let Open { writer, readers, files, reading, lock } = open(path, timeouts).await?;
        let mut taken = writer.take().await?;
        let mut tx = taken.connection.begin_with(BEGIN).await?;
        let positions = events::positions(&mut tx).await?;
        tx.commit().await?;
        taken.put_back();
        let lists = FairPool::new(LISTS, LISTS_OF_ONE);
        let mut watch = JoinSet::new();
        watch.spawn(watch::run(files.clone(), reading));
        let (group, watch) = (Group::start(writer.clone()), watch.into());
        Ok(Self { writer, group, readers, lists, positions, files, watch, _lock: lock })
    }

    /// Stops all writing if a read found damage.
    fn read<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        read.map_err(|error| match error {
            StoreError::Damaged(_) => self.files.give_up(error.to_string()),
            other => other,
        })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn accept(&self, new: &NewNote) -> Result<Acceptance, StoreError> {
        self.group.accept(new).await
    }

    async fn idempotency(
        &self,
        tenant: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<KeyHolder>, StoreError> {
        self.read(accept::key_holder(&self.readers, tenant, key, now).await)
    }

    async fn note(&self, id: NoteId, tenant: Option<&str>) -> Result<Option<Note>, StoreError> {
        self.read(read::note(&self.readers, id, tenant).await)
    }

    async fn source(&self, id: NoteId) -> Result<Option<Bytes>, StoreError> {
        self.read(sources::find(&self.readers, id, SOURCE).await)
    }

    async fn sent(&self, id: NoteId) -> Result<Option<Bytes>, StoreError> {
        self.read(sources::find(&self.readers, id, SENT).await)
    }

    async fn has_note(&self, id: NoteId) -> Result<bool, StoreError> {
        self.read(read::has_note(&self.readers, id).await)
    }

    async fn columns(&self, id: NoteId, tenant: &str) -> Result<Option<Columns>, StoreError> {
        self.read(read::columns(&self.readers, id, tenant).await)
    }

    async fn notes(&self, wanted: &NoteQuery<'_>) -> Result<Page, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        self.read(lists::notes(&self.readers, wanted).await)
    }

    async fn erase(&self, left: &Note, lanes: &[String]) -> Result<bool, StoreError> {
        change!(self, tx => write::erase(tx, left, lanes))
    }

    async fn erase_unreadable(&self, left: &Note) -> Result<bool, StoreError> {
        change!(self, tx => write::erase_unreadable(tx, left))
    }

    async fn cancel(&self, note: &Note, notify: bool) -> Result<bool, StoreError> {
        change!(self, tx => write::cancel(tx, note, notify), canceled => match canceled {
            true => Proof::saved(note),
            false => None,
        })
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claims, StoreError> {
        let positions = &self.positions;
        change!(self, BEGIN_UNFLUSHED, tx => claim::claim(tx, request, positions), claims => Proof::leased(&claims))
    }

    async fn write(&self, claim: &Claim, change: &Change) -> Result<Stored, StoreError> {
        self.group.write(claim, change).await
    }

    async fn finish(&self, lease: &JobLease, end: &JobEnd) -> Result<(), StoreError> {
        self.group.finish(lease, end).await
    }

    async fn stall(&self, claim: &Claim, stall: &Stall) -> Result<bool, StoreError> {
        change!(self, tx => receipts::stall(tx, claim, stall), _stalled => Some(Proof::lease_ended(claim)))
    }

    async fn receive(&self, received: &ReceiptBatch) -> Result<ReceiptOutcome, StoreError> {
        self.group.receive(received).await
    }

    async fn events(&self, wanted: &EventQuery<'_>) -> Result<Vec<Event>, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        self.read(events::list(&self.readers, wanted, &self.positions).await)
    }

    async fn last_event(&self, tenant: &str) -> Result<String, StoreError> {
        self.read(events::last(&self.readers, tenant, &self.positions).await)
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let at = self.read(read::next_due(&self.readers, now.as_millisecond()).await)?;
        Ok(at.and_then(|at| Timestamp::from_millisecond(at).ok()))
    }

    async fn end_all_leases(&self, now: Timestamp) -> Result<u64, StoreError> {
        change!(self, tx => claim::end_leases(tx, now))
    }

    async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        change!(self, tx => write::secret(tx, name, fresh))
    }

    async fn notes_with_old_audio(&self, before: Timestamp, limit: u32) -> Result<Vec<NoteId>, StoreError> {
        self.read(read::notes_with_old_audio(&self.readers, before, limit).await)
    }

    async fn audio_removed(&self, id: NoteId) -> Result<(), StoreError> {
        change!(self, tx => write::audio_removed(tx, id))
    }

    async fn forget(&self, horizon: &Horizon) -> Result<u64, StoreError> {
        change!(self, tx => write::forget(tx, horizon))
    }

    async fn connections(&self, tenant: &str) -> Result<Vec<ConnectionState>, StoreError> {
        self.read(read::connections(&self.readers, tenant).await)
    }

    async fn learned(&self, lane: &str, now: Timestamp) -> Result<Option<Value>, StoreError> {
        self.read(read::learned(&self.readers, lane, now).await)
    }

    async fn media(&self, key: &MediaKey, now: Timestamp) -> Result<Option<MediaHandle>, StoreError> {
        self.read(media::find(&self.readers, key, now).await)
    }

    async fn spoken(&self, tenant: &str, key: &str) -> Result<Option<NoteId>, StoreError> {
        self.read(spoken::find(&self.readers, tenant, key).await)
    }

    async fn add_upload(&self, upload: &Upload) -> Result<(), StoreError> {
        change!(self, tx => uploads::add(&mut **tx, upload))
    }

    async fn upload(&self, id: UploadId, tenant: &str) -> Result<Option<Upload>, StoreError> {
        self.read(uploads::find(&self.readers, id, tenant).await)
    }

    async fn has_upload(&self, id: UploadId, tenant: Option<&str>) -> Result<bool, StoreError> {
        self.read(uploads::exists(&self.readers, id, tenant).await)
    }

    async fn remove_upload(&self, id: UploadId) -> Result<(), StoreError> {
        change!(self, tx => uploads::remove(&mut **tx, id))
    }

    async fn expired_uploads(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadId>, StoreError> {
        self.read(uploads::expired(&self.readers, now, limit).await)
    }

    async fn upload_audio_removed(&self, id: UploadId) -> Result<(), StoreError> {
        change!(self, tx => uploads::audio_removed(&mut **tx, id))
    }

    async fn count_near(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut counted = 0;
        loop {
            let until = (now + NEAR).as_millisecond();
            let more = change!(self, tx => claim::count_near(tx, until, NEAR_AT_ONCE))?;
            counted += more;
            if more == 0 {
                return Ok(counted);
            }
        }
    }

    async fn kept_audio(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.read(read::kept_audio(&self.readers).await)
    }

    async fn usage(&self, wanted: &UsageQuery<'_>) -> Result<Vec<UsageGroup>, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        self.read(usage::usage(&self.readers, wanted).await)
    }

    async fn queue_state(&self, now: Timestamp) -> Result<Vec<QueueGroup>, StoreError> {
        self.read(read::queue_state(&self.readers, now).await)
    }

    async fn queue_depth(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COALESCE(SUM(depth), 0) FROM queue_depths")
            .fetch_one(&self.readers)
            .await?;
        Ok(count.unsigned_abs())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.group.probe().await
    }

    fn out_of_order(&self) -> Option<Arc<str>> {
        self.files.trouble()
    }

    async fn close(&self) {
        // The files may disappear from here on.
        self.watch.lock().await.shutdown().await;
        self.files.close();
        // The last writing connection removes the journal when it closes.
        self.readers.close().await;
        self.writer.close().await;
    }
}
