//! Checks a SQLite database without changing it: nothing is created, locked for long, or migrated.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, migrate::Migrator, sqlite::SqliteConnectOptions};

use super::{
    database::{APPLIED, Tables, compare, has_steps},
    line::Line,
};

/// The migrations that a start would apply.
static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

pub async fn check(path: &Path) -> Vec<Line> {
    let name =
        path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
    let say = |what: &str| format!("storage.database: {name} {what}");
    if !path.exists() {
        return vec![Line::ok(say("does not exist yet; the first start makes it"))];
    }
    // Open the file as a start does, but without permission to create it.
    if let Err(error) = OpenOptions::new().read(true).write(true).open(path) {
        let why = format!("cannot be opened ({}); let this user read and write it", error.kind());
        return vec![Line::fail(say(&why))];
    }
    // Lock and journal are beside the file itself, not beside a symbolic link to it.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let running = is_held(path);
    let state = match tables(path, running).await {
        Ok(tables) => tables.line(&say),
        Err(error) => Line::fail(say(&format!("cannot be read: {}; {}", reason(&error), way_out(&error)))),
    };
    let held =
        running.then(|| Line::note(say("is in use by another voicegate; a second one will not start on it")));
    held.into_iter().chain([state]).collect()
}

/// Whether a process has the database open as its own. The test takes its lock, shared, for an instant.
fn is_held(path: &Path) -> bool {
    let Ok(lock) = File::open(beside(path, ".lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

async fn tables(path: &Path, running: bool) -> Result<Tables, sqlx::Error> {
    // Without a journal, no process is in the middle of a change, and the file alone can be read. Opening it normally
    // would make SQLite create a journal and an index beside it.
    // https://www.sqlite.org/wal.html#read_only_databases
    let journal = std::fs::metadata(beside(path, "-wal")).is_ok_and(|journal| journal.len() > 0);
    let mut database = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .create_if_missing(false)
        .immutable(!running && !journal)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
        .connect()
        .await?;
    let found = look(&mut database).await;
    database.close().await?;
    found
}

async fn look(database: &mut SqliteConnection) -> Result<Tables, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
        .fetch_all(&mut *database)
        .await?;
    let mut applied = Vec::new();
    if has_steps(&names) {
        applied = sqlx::query_as(APPLIED).fetch_all(database).await?;
    }
    Ok(compare(&names, &applied, &MIGRATIONS))
}

fn reason(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

fn way_out(error: &sqlx::Error) -> &'static str {
    // SQLITE_NOTADB, https://www.sqlite.org/rescode.html#notadb
    if error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "26") {
        "name another file, or restore a copy"
    } else {
        "restore a copy if it is damaged"
    }
}
