//! Opening a database file: which file that is, that nobody else has it, and how every connection is set up.

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

use super::{Patience, files::Files, writer::Writer};
use crate::{media::disk::Identity, store::StoreError};

const READERS: u32 = 4;

/// How long a request waits for a connection that reads.
const READER_WAIT: Duration = Duration::from_secs(5);

/// A database that is open and up to date.
pub struct Open {
    pub writer: Arc<Writer>,
    pub readers: SqlitePool,
    pub files: Arc<Files>,
    /// For connections that read and are closed again.
    pub reading: SqliteConnectOptions,
    /// Held for as long as this process lives.
    pub lock: File,
}

/// Opens or creates the database and brings its tables up to date.
///
/// # Errors
/// [`StoreError::Open`] says what to do.
pub async fn open(configured: &Path, patience: Patience) -> Result<Open, StoreError> {
    let (path, lock) = lock(configured)?;
    let cannot = |error: sqlx::Error| StoreError::Open(format!("storage.database cannot be opened: {error}"));
    let lost = |error: io::Error| StoreError::Open(format!("storage.database cannot be opened: {error}"));
    let before = Identity::of(configured).map_err(lost)?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        // It is there by now. A connection that is opened later must not make another one in its place.
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // An accepted note survives a power cut: WAL commits are flushed only with FULL.
        // https://www.sqlite.org/pragma.html#pragma_synchronous
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        // What is removed is overwritten: erased audio is not to live on in free pages and in backups of them.
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
        // Short, since the writer asks again by itself and looks around in between.
        .busy_timeout(patience.lock)
        // What a failing statement takes back is noted down page by page; by default in a file.
        .pragma("temp_store", "MEMORY")
        // In KiB. A batch has to fit, or it is written twice.
        .pragma("cache_size", "-16384")
        // In pages: fewer, larger checkpoints, and less that is flushed for them.
        .pragma("wal_autocheckpoint", "4000");
    let reading = options.read_only(true);
    let writer = Arc::new(Writer::new(writes, reading.clone(), files.clone(), patience));
    writer.take().await?.put_back();
    let readers = readers(reading.clone(), files.clone()).await.map_err(cannot)?;
    files.remember(before).map_err(lost)?;
    Ok(Open { writer, readers, files, reading, lock })
}

/// Connections that read. They are opened now and stay open: while one is, SQLite neither removes nor exchanges the
/// journal, and none is opened later on a file that has taken the place of this one.
async fn readers(options: SqliteConnectOptions, files: Arc<Files>) -> Result<SqlitePool, sqlx::Error> {
    let pool = SqlitePoolOptions::new()
        .max_connections(READERS)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(READER_WAIT)
        .after_connect(move |connection, _| {
            let files = files.clone();
            Box::pin(async move { look(connection, &files).await })
        })
        .connect_with(options)
        .await?;
    // Not by `min_connections`, whose task goes on connecting for minutes, also while the pool is closed.
    let mut opened = Vec::new();
    for _ in 0..READERS {
        opened.push(pool.acquire().await?);
    }
    drop(opened);
    Ok(pool)
}

/// Makes a new connection open all its files, and sees that they are those of the others.
pub async fn look(connection: &mut sqlx::SqliteConnection, files: &Files) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT COUNT(*) FROM sqlite_schema").execute(connection).await?;
    files.check().map_err(|error| sqlx::Error::Io(io::Error::other(error.to_string())))
}

/// The file that the database is, with every link followed, and the lock on it: two gateways on one SQLite file would end
/// each other's leases. Both make an empty file where there is none.
fn lock(configured: &Path) -> Result<(PathBuf, File), StoreError> {
    let shown = configured.display();
    let cannot = |error: &io::Error| {
        StoreError::Open(format!("storage.database: {shown} cannot be created: {}", error.kind()))
    };
    if let Some(folder) = configured.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
    }
    // Not opened where it exists: see `Files` for what closing it would do.
    if !configured.exists() {
        // SQLite alone would make the file readable by everybody, and its journals like it.
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
