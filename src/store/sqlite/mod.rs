//! The embedded store. One process per file; one connection writes, a few read.

mod accept;
mod claim;
#[path = "../sql/events.rs"]
mod events;
mod group;
mod lanes;
#[path = "../sql/read.rs"]
mod read;
#[path = "../sql/receipts.rs"]
mod receipts;
#[path = "../sql/sources.rs"]
mod sources;
#[path = "../sql/uploads.rs"]
mod uploads;
#[path = "../sql/write.rs"]
mod write;

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sqlx::{
    ConnectOptions, Connection, Executor, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use self::group::Writer;
use super::{
    Acceptance, Change, Claim, ClaimRequest, ConnectionState, Horizon, JobEnd, KeyHolder, NewNote,
    QueueGroup, Received, Reception, Stall, Store, StoreError, Wanted, WantedEvents,
};
use crate::{
    event::Event,
    id::UploadId,
    note::{Note, NoteId},
    upload::Upload,
};

/// What is compiled once for each database asks for it by these names.
type Tx<'c> = Transaction<'c, Sqlite>;
type Pool = SqlitePool;
/// By which events are in order: numbers are given one commit after the other.
const PLACE: &str = "seq";

const READERS: u32 = 4;

#[derive(Debug)]
pub struct SqliteStore {
    /// A pool of one: writers queue here, where waiting is fair, instead of inside SQLite, where it is not.
    writer: SqlitePool,
    /// What happens once for each note or attempt goes through here, many with one flush.
    group: Writer,
    readers: SqlitePool,
    /// Held for as long as this process lives.
    _lock: File,
}

impl SqliteStore {
    /// Opens or creates the database and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`] says what to do.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An accepted note survives a power cut: WAL commits are flushed only with FULL.
            // https://www.sqlite.org/pragma.html#pragma_synchronous
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            // What is removed is overwritten: erased audio is not to live on in free pages and in backups of them.
            // https://www.sqlite.org/pragma.html#pragma_secure_delete
            .pragma("secure_delete", "ON")
            .foreign_keys(true);
        let open =
            |error: sqlx::Error| StoreError::Open(format!("storage.database cannot be opened: {error}"));
        let mut first = options.connect().await.map_err(open)?;
        sqlx::migrate!("src/store/migrations/sqlite").run(&mut first).await.map_err(|error| {
            StoreError::Open(format!("storage.database cannot be brought up to date: {error}"))
        })?;
        first.close().await.map_err(open)?;
        let writes = options
            .clone()
            // What a failing statement takes back is noted down page by page; by default in a file.
            .pragma("temp_store", "MEMORY")
            // In KiB. A batch has to fit, or it is written twice.
            .pragma("cache_size", "-16384")
            // In pages: fewer, larger checkpoints, and less that is flushed for them.
            .pragma("wal_autocheckpoint", "4000");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(accept::SETUP).await.map(drop) })
            })
            .connect_with(writes)
            .await
            .map_err(open)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(open)?;
        Ok(Self { group: Writer::start(writer.clone()), writer, readers, _lock: lock })
    }

    /// The newest time that was written down as the present. Of a process that had a wall clock of its own.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let newest: Option<i64> = sqlx::query_scalar(
            "SELECT MAX(at) FROM (
                SELECT MAX(queued_at) AS at FROM deliveries
                UNION ALL SELECT MAX(at) FROM events
                UNION ALL SELECT MAX(at) FROM starts)",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(newest.and_then(|at| Timestamp::from_millisecond(at).ok()))
    }

    /// Takes the write lock at once: a transaction that reads first and writes later fails with "busy" the moment
    /// somebody else wrote in between, whatever the time-out. <https://www.sqlite.org/lang_transaction.html>
    async fn begin(&self) -> Result<Transaction<'_, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// Two gateways on one SQLite file would end each other's leases.
fn lock(path: &Path) -> Result<File, StoreError> {
    let open = |error: &std::io::Error| {
        StoreError::Open(format!("storage.database: {} cannot be created: {}", path.display(), error.kind()))
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| open(&error))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let private = |name: &OsStr| {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(name)
            .map_err(|e| open(&e))
    };
    // SQLite alone would make the file readable by everybody, and its journals like it.
    private(path.as_os_str())?;
    let file = private(&name)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Open(format!(
            "storage.database: {} is in use by another voicegate; stop it, or give this one another database",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(open(&error)),
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
        let mut tx = self.readers.begin().await?;
        accept::key_holder(&mut tx, tenant, key, now).await
    }

    async fn note(&self, id: NoteId, tenant: Option<&str>) -> Result<Option<Note>, StoreError> {
        read::note(&self.readers, id, tenant).await
    }

    async fn source(&self, id: NoteId) -> Result<Option<Bytes>, StoreError> {
        sources::find(&self.readers, id).await
    }

    async fn notes(&self, wanted: &Wanted<'_>) -> Result<Vec<Note>, StoreError> {
        read::notes(&self.readers, wanted).await
    }

    async fn erase(&self, left: &Note, lanes: &[String]) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let erased = write::erase(&mut tx, left, lanes).await?;
        tx.commit().await?;
        Ok(erased)
    }

    async fn cancel(&self, note: &Note, notify: bool) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let canceled = write::cancel(&mut tx, note, notify).await?;
        tx.commit().await?;
        Ok(canceled)
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<Claim>, StoreError> {
        let mut tx = self.begin().await?;
        let claims = claim::claim(&mut tx, request).await?;
        tx.commit().await?;
        Ok(claims)
    }

    async fn write(&self, claim: &Claim, change: &Change) -> Result<(), StoreError> {
        self.group.write(claim, change).await
    }

    async fn finish(&self, claim: &Claim, end: &JobEnd) -> Result<(), StoreError> {
        self.group.finish(claim, end).await
    }

    async fn stall(&self, claim: &Claim, stall: &Stall) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let stalled = receipts::stall(&mut tx, claim, stall).await?;
        tx.commit().await?;
        Ok(stalled)
    }

    async fn receive(&self, received: &Received) -> Result<Reception, StoreError> {
        self.group.receive(received).await
    }

    async fn events(&self, wanted: &WantedEvents<'_>) -> Result<Vec<Event>, StoreError> {
        events::list(&self.readers, wanted).await
    }

    async fn last_event(&self, tenant: &str) -> Result<String, StoreError> {
        events::last(&self.readers, tenant).await
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let at = read::next_due(&self.readers, now.as_millisecond()).await?;
        Ok(at.and_then(|at| Timestamp::from_millisecond(at).ok()))
    }

    async fn end_all_leases(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query("UPDATE deliveries SET lease_until = $1 WHERE lease_until > $1")
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let mut tx = self.begin().await?;
        let kept = write::secret(&mut tx, name, fresh).await?;
        tx.commit().await?;
        Ok(kept)
    }

    async fn notes_with_old_audio(&self, before: Timestamp, limit: u32) -> Result<Vec<NoteId>, StoreError> {
        read::notes_with_old_audio(&self.readers, before, limit).await
    }

    async fn audio_removed(&self, id: NoteId) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        write::audio_removed(&mut tx, id).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn forget(&self, horizon: &Horizon) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let forgotten = write::forget(&mut tx, horizon).await?;
        tx.commit().await?;
        Ok(forgotten)
    }

    async fn connections(&self, tenant: &str) -> Result<Vec<ConnectionState>, StoreError> {
        read::connections(&self.readers, tenant).await
    }

    async fn add_upload(&self, upload: &Upload) -> Result<(), StoreError> {
        uploads::add(&self.writer, upload).await
    }

    async fn upload(&self, id: UploadId, tenant: &str) -> Result<Option<Upload>, StoreError> {
        uploads::find(&self.readers, id, tenant).await
    }

    async fn has_upload(&self, id: UploadId) -> Result<bool, StoreError> {
        uploads::exists(&self.readers, id).await
    }

    async fn remove_upload(&self, id: UploadId) -> Result<(), StoreError> {
        uploads::remove(&self.writer, id).await
    }

    async fn expired_uploads(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadId>, StoreError> {
        uploads::expired(&self.readers, now, limit).await
    }

    async fn upload_audio_removed(&self, id: UploadId) -> Result<(), StoreError> {
        uploads::audio_removed(&self.writer, id).await
    }

    async fn queue_state(&self, now: Timestamp) -> Result<Vec<QueueGroup>, StoreError> {
        read::queue_state(&self.readers, now).await
    }

    async fn queue_depth(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COALESCE(SUM(depth), 0) FROM queue_depths")
            .fetch_one(&self.readers)
            .await?;
        Ok(count.unsigned_abs())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    async fn close(&self) {
        // The last connection that may write takes the journal away with it.
        self.readers.close().await;
        self.writer.close().await;
    }
}
