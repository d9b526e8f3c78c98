//! Opening of a database file: finding and locking it, and the settings of every connection.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Timeouts, files::Files, writer::Writer};
use crate::{media::disk::Identity, store::StoreError};

const READERS: u32 = 4;

/// Time that a request waits for a read connection.
const READER_WAIT: Duration = Duration::from_secs(5);

/// A database that is open and migrated.
pub struct Open {
    pub writer: Arc<Writer>,
    pub readers: SqlitePool,
    pub files: Arc<Files>,
    /// Options for read connections that are closed again.
    pub reading: SqliteConnectOptions,
    /// Lock file, held for as long as the store exists.
    pub lock: File,
}

/// Opens or creates the database and brings its tables up to date.
///
/// # Errors
/// [`StoreError::Open`] says what to do.
pub async fn open(configured: &Path, timeouts: Timeouts) -> Result<Open, StoreError> {
    let (path, lock) = lock(configured)?;
    let cannot = |error: sqlx::Error| StoreError::Open(format!("storage.database cannot be opened: {error}"));
    let lost = |error: io::Error| StoreError::Open(format!("storage.database cannot be opened: {error}"));
    let before = Identity::of(configured).map_err(lost)?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        // The file exists by now, and a later connection must not create another one in its place.
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // Accepted notes survive a power cut: WAL commits are flushed only with FULL.
        // https://www.sqlite.org/pragma.html#pragma_synchronous
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        // Removed data is overwritten, so that erased audio does not survive in free pages and in backups.
        // https://www.sqlite.org/pragma.html#pragma_secure_delete
        .pragma("secure_delete", "ON")
        .foreign_keys(true);
    let mut first = options.connect().await.map_err(cannot)?;
    sqlx::migrate!("src/store/migrations/sqlite").run(&mut first).await.map_err(|error| {
        StoreError::Open(format!("storage.database cannot be brought up to date: {error}"))
    })?;
    first.close().await.map_err(cannot)?;
    let files = Arc::new(Files::new(configured, &path));
    let writes = options
        .clone()
        // The timeout is short, because the writer retries and checks the files in between.
        .busy_timeout(timeouts.lock)
        // Statement journals stay in memory; by default they are files.
        .pragma("temp_store", "MEMORY")
        // Size in KiB. A batch has to fit, or it is written twice.
        .pragma("cache_size", "-16384")
        // Size in pages: larger checkpoints are fewer and need fewer flushes.
        .pragma("wal_autocheckpoint", "4000");
    let reading = options.read_only(true);
    let writer = Arc::new(Writer::new(writes, reading.clone(), files.clone(), timeouts));
    writer.take().await?.put_back();
    let readers = readers(reading.clone(), files.clone()).await.map_err(cannot)?;
    files.remember(before).map_err(lost)?;
    Ok(Open { writer, readers, files, reading, lock })
}

/// Opens the read connections. They stay open: while one is, SQLite neither removes nor replaces the journal, and no
/// connection is opened later on a file that has taken the place of this one.
async fn readers(options: SqliteConnectOptions, files: Arc<Files>) -> Result<SqlitePool, sqlx::Error> {
    let pool = SqlitePoolOptions::new()
        .max_connections(READERS)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(READER_WAIT)
        // A connection to a file does not break while it rests, and the test is a trip to its thread and back.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let files = files.clone();
            Box::pin(async move { look(connection, &files).await })
        })
        .connect_with(options)
        .await?;
    // This does not use `min_connections`, whose task goes on connecting for minutes, even while the pool is closed.
    let mut opened = Vec::new();
    for _ in 0..READERS {
        opened.push(pool.acquire().await?);
    }
    drop(opened);
    Ok(pool)
}

/// Makes a new connection open all its files, and checks that they are those of the others.
pub async fn look(connection: &mut sqlx::SqliteConnection, files: &Files) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT COUNT(*) FROM sqlite_schema").execute(connection).await?;
    files.check().map_err(|error| sqlx::Error::Io(io::Error::other(error.to_string())))
}

/// Resolves every link to the database file and locks it: two gateways on one SQLite file would end each other's
/// leases. A missing file and its lock are created.
fn lock(configured: &Path) -> Result<(PathBuf, File), StoreError> {
    let shown = configured.display();
    let cannot = |error: &io::Error| {
        StoreError::Open(format!("storage.database: {shown} cannot be created: {}", error.kind()))
    };
    if let Some(folder) = configured.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
    }
    // An existing file is not opened: see `Files` for the effect of closing it.
    if !configured.exists() {
        // SQLite would create the file readable by everybody, and its journals with it.
        private(configured.as_os_str()).map_err(|error| cannot(&error))?;
    }
    let file = configured.canonicalize().map_err(|error| cannot(&error))?;
    let names = file.metadata().map_err(|error| cannot(&error))?.nlink();
    if names > 1 {
        return Err(StoreError::Open(format!(
            "storage.database: {shown} has {names} names (hard links), and SQLite would keep a journal for each of \
             them; leave it one"
        )));
    }
    let lock = private(&lock_of(&file)).map_err(|error| cannot(&error))?;
    match lock.try_lock() {
        Ok(()) => Ok((file, lock)),
        Err(TryLockError::WouldBlock) => Err(StoreError::Open(format!(
            "storage.database: {shown} is in use by another voicegate; stop it, or give this one another database"
        ))),
        Err(TryLockError::Error(error)) => Err(cannot(&error)),
    }
}

fn lock_of(file: &Path) -> OsString {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    name
}

fn private(name: &OsStr) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(name)
}
