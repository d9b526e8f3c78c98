//! The database, looked at and left as it is: nothing is created, locked for long, or brought up to date.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, migrate::Migrator, sqlite::SqliteConnectOptions};

use super::line::Line;

/// What a start would bring the tables to.
static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

pub async fn check(path: &Path) -> Vec<Line> {
    let name =
        path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
    let say = |what: &str| format!("storage.database: {name} {what}");
    if !path.exists() {
        return vec![Line::ok(say("does not exist yet; the first start makes it"))];
    }
    // As a start opens it, less the permission to create.
    if let Err(error) = OpenOptions::new().read(true).write(true).open(path) {
        let why = format!("cannot be opened ({}); let this user read and write it", error.kind());
        return vec![Line::fail(say(&why))];
    }
    let running = is_held(path);
    let state = match tables(path, running).await {
        Ok(Tables::None) => Line::ok(say("is empty; the next start makes its tables")),
        Ok(Tables::Current) => Line::ok(say("is up to date")),
        Ok(Tables::Older(steps)) => {
            let steps = if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
            Line::note(say(&format!(
                "is {steps} behind; the next start brings it up to date, so keep a copy"
            )))
        }
        Ok(Tables::OfAnotherVersion) => Line::fail(say(
            "is not of this version: a newer voicegate has used it, or bringing it up to date broke off; install \
             the newer version, or restore a copy",
        )),
        Ok(Tables::Foreign) => {
            Line::fail(say("holds tables that are not voicegate's; name a database of its own"))
        }
        Err(error) => Line::fail(say(&format!("cannot be read: {}; {}", reason(&error), way_out(&error)))),
    };
    let held =
        running.then(|| Line::note(say("is in use by another voicegate; a second one will not start on it")));
    held.into_iter().chain([state]).collect()
}

/// Whether a process has the database open as its own. Asked by taking its lock for an instant, shared.
fn is_held(path: &Path) -> bool {
    let Ok(lock) = File::open(beside(path, ".lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[derive(Debug, PartialEq, Eq)]
enum Tables {
    None,
    Current,
    /// By so many steps.
    Older(usize),
    OfAnotherVersion,
    Foreign,
}

async fn tables(path: &Path, running: bool) -> Result<Tables, sqlx::Error> {
    // Without a journal nobody is in the middle of anything, and the file alone can be read. Asking SQLite for
    // more than that would make it put a journal and an index beside it.
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
    let found = compare(&mut database).await;
    database.close().await?;
    found
}

async fn compare(database: &mut SqliteConnection) -> Result<Tables, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
        .fetch_all(&mut *database)
        .await?;
    if names.is_empty() {
        return Ok(Tables::None);
    }
    if !names.iter().any(|name| name == "_sqlx_migrations") {
        return Ok(Tables::Foreign);
    }
    let applied: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations")
            .fetch_all(&mut *database)
            .await?;
    let ours: BTreeMap<i64, &[u8]> =
        MIGRATIONS.iter().map(|step| (step.version, step.checksum.as_ref())).collect();
    let known = |(version, checksum, success): &(i64, Vec<u8>, bool)| {
        *success && ours.get(version).is_some_and(|expected| *expected == checksum.as_slice())
    };
    Ok(match ours.len() - applied.iter().filter(|step| known(step)).count() {
        _ if !applied.iter().all(known) => Tables::OfAnotherVersion,
        0 => Tables::Current,
        missing => Tables::Older(missing),
    })
}

fn reason(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

fn way_out(error: &sqlx::Error) -> &'static str {
    // SQLITE_NOTADB, https://www.sqlite.org/rescode.html#notadb
    if error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "26") {
        "name another file, or restore a copy"
    } else {
        "restore a copy where it is damaged"
    }
}
