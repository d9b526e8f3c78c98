//! The embedded store. One process per file; one connection writes, a few read.

mod accept;
mod claim;
mod events;
mod group;
mod lanes;
mod read;
mod receipts;
mod sources;
mod uploads;
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
    Sqlite, SqlitePool, Transaction,
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
        let writer =
            SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(open)?;
        sqlx::migrate!("src/store/migrations/sqlite").run(&writer).await.map_err(|error| {
            StoreError::Open(format!("storage.database cannot be brought up to date: {error}"))
        })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(open)?;
        Ok(Self { group: Writer::start(writer.clone()), writer, readers, _lock: lock })
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

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // SQLITE_FULL, https://www.sqlite.org/rescode.html#full
        let full = error.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == "13");
        if full { Self::Full } else { Self::Database(error) }
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
        let doc: Option<String> =
            sqlx::query_scalar("SELECT doc FROM notes WHERE id = $1 AND tenant = COALESCE($2, tenant)")
                .bind(id.to_string())
                .bind(tenant)
                .fetch_optional(&self.readers)
                .await?;
        Ok(doc.map(|doc| serde_json::from_str(&doc)).transpose()?)
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
        if erased {
            sources::remove(&mut tx, left.id).await?;
        }
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
        let at: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(at) FROM (
                SELECT MIN(due_at) AS at FROM deliveries WHERE head = 1 AND state = 'queued' AND due_at > $1
                UNION ALL SELECT MIN(due_at) FROM deliveries WHERE state = 'held' AND due_at > $1
                UNION ALL SELECT MIN(expires_at) FROM deliveries WHERE state = 'queued' AND expires_at > $1
                UNION ALL SELECT MIN(lease_until) FROM deliveries WHERE lease_until > $1
                UNION ALL SELECT MIN(paused_until) FROM connections WHERE paused_until > $1
                UNION ALL SELECT MIN(rate_until) FROM connections WHERE rate_until > $1)",
        )
        .bind(now.as_millisecond())
        .fetch_one(&self.readers)
        .await?;
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
        sqlx::query("INSERT OR IGNORE INTO secrets (name, value) VALUES ($1, $2)")
            .bind(name)
            .bind(fresh.as_slice())
            .execute(&mut *tx)
            .await?;
        let kept: Vec<u8> = sqlx::query_scalar("SELECT value FROM secrets WHERE name = $1")
            .bind(name)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        kept.try_into()
            .map_err(|_| StoreError::Open(format!("the stored secret \"{name}\" has the wrong length")))
    }

    async fn notes_with_old_audio(&self, before: Timestamp, limit: u32) -> Result<Vec<NoteId>, StoreError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM notes WHERE ended_at <= $1 AND has_audio = 1 ORDER BY ended_at LIMIT $2",
        )
        .bind(before.as_millisecond())
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    async fn audio_removed(&self, id: NoteId) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "UPDATE notes SET has_audio = 0, doc = json_set(doc, '$.audio_expired', json('true')) WHERE id = $1",
        )
        .bind(id.to_string())
        .execute(&mut *tx)
        .await?;
        sources::remove(&mut tx, id).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn forget(&self, horizon: &Horizon) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        events::forget(&mut tx, horizon.events).await?;
        let notes_before = horizon.notes.as_millisecond();
        // A repetition of their requests would find no note.
        sqlx::query(
            "DELETE FROM idempotency
             WHERE note_id IN (SELECT id FROM notes WHERE ended_at <= $1 AND has_audio = 0)",
        )
        .bind(notes_before)
        .execute(&mut *tx)
        .await?;
        // A note is kept while it has audio, so that no file is ever left without its note.
        let notes = sqlx::query("DELETE FROM notes WHERE ended_at <= $1 AND has_audio = 0")
            .bind(notes_before)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM uploads WHERE expires_at <= $1 AND has_audio = 0")
            .bind(notes_before)
            .execute(&mut *tx)
            .await?;
        for sql in
            ["DELETE FROM idempotency WHERE expires_at <= $1", "DELETE FROM learned WHERE expires_at <= $1"]
        {
            sqlx::query(sql).bind(horizon.now.as_millisecond()).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(notes.rows_affected())
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
