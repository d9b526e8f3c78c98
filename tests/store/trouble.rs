//! Tests of a SQLite database that is locked, deleted, replaced or damaged.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{ConnectOptions, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use voicegate::store::{Acceptance, SqliteStore, Step, Store, StoreError, Timeouts};

use crate::support::{claim, horizon, new_note, start, write};

/// Timeouts are short, so that refusals come soon.
const PATIENCE: Timeouts = Timeouts { lock: Duration::from_millis(20), change: Duration::from_millis(200) };

async fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::with_timeouts(path, PATIENCE).await.expect("a store"))
}

/// Opens the file as another program.
async fn foreign(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.expect("a connection")
}

async fn accept(store: &Arc<dyn Store>) -> Result<Acceptance, StoreError> {
    store.accept(&new_note("t", "c", "r", start())).await
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

#[tokio::test]
async fn changes_are_refused_as_busy_during_a_foreign_lock_and_succeed_afterwards() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.db");
    let store = open(&path).await;
    accept(&store).await.expect("accepted");
    let claimed = claim(&store, start()).await.pop().expect("a claim");
    let mut foreign = foreign(&path).await;
    foreign.execute("BEGIN IMMEDIATE").await.expect("the lock");
    let note = claimed.note.clone();
    for error in [
        accept(&store).await.expect_err("locked"),
        write(&store, &claimed, Step::Progress).await.expect_err("locked"),
        store.cancel(&note, false).await.expect_err("locked"),
        store.erase(&note, &[]).await.expect_err("locked"),
        store.audio_removed(note.id).await.expect_err("locked"),
        store.forget(&horizon(start())).await.expect_err("locked"),
        store.secret("x", [1; 32]).await.expect_err("locked"),
        store.ping().await.expect_err("locked"),
    ] {
        assert!(matches!(error, StoreError::Busy(_)), "{error:?}");
    }
    foreign.execute("ROLLBACK").await.expect("let go");
    store.ping().await.expect("it takes writes");
    accept(&store).await.expect("accepted");
    write(&store, &claimed, Step::Done).await.expect("written");
    assert_eq!(store.queue_depth().await.expect("a number"), 1, "what was refused is not there");
}

#[tokio::test]
async fn short_foreign_lock_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.db");
    let timeouts = Timeouts { lock: Duration::from_millis(20), change: Duration::from_secs(60) };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::with_timeouts(&path, timeouts).await.expect("a store"));
    let mut foreign = foreign(&path).await;
    foreign.execute("BEGIN IMMEDIATE").await.expect("the lock");
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { accept(&store).await }
    });
    // Several tries fail meanwhile.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    foreign.execute("ROLLBACK").await.expect("let go");
    assert_eq!(waiting.await.expect("no panic").expect("accepted"), Acceptance::Created);
}

#[tokio::test]
async fn impossible_change_does_not_affect_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("x.db")).await;
    let twice = new_note("t", "c", "r", start());
    store.accept(&twice).await.expect("accepted");
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        let new = if number == 10 { twice.clone() } else { new_note("t", "c", "r", start()) };
        asked.spawn(async move { store.accept(&new).await.is_ok() });
    }
    let made = asked.join_all().await.into_iter().filter(|made| *made).count();
    assert_eq!(made, 19);
    assert_eq!(store.queue_depth().await.expect("a number"), 20);
}

#[tokio::test]
async fn cancelled_change_leaves_a_working_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("x.db")).await;
    for step in 0..40 {
        let work = store.secret("x", [step; 32]);
        tokio::select! {
            biased;
            _ = work => {}
            () = async { for _ in 0..step { tokio::task::yield_now().await } } => {}
        }
        accept(&store).await.expect("accepted");
        store.secret("y", [0; 32]).await.expect("a secret");
    }
}

/// Damages the files of an open store and returns the error of the next write.
async fn after(what: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, link) = (folder.path().join("x.db"), folder.path().join("link.db"));
    symlink(&path, &link).expect("linked");
    fs::write(&path, "").expect("written");
    let store = open(&link).await;
    accept(&store).await.expect("accepted");
    what(folder.path());
    let error = accept(&store).await.expect_err("nothing goes into such a file");
    assert!(matches!(error, StoreError::OutOfOrder(_)), "{error:?}");
    assert!(store.ping().await.is_err() && store.out_of_order().is_some());
    assert!(!error.to_string().contains(&folder.path().display().to_string()), "{error}");
    error.to_string()
}

#[tokio::test]
async fn writes_into_replaced_files_are_refused() {
    let remove =
        |name: &'static str| move |folder: &Path| fs::remove_file(folder.join(name)).expect("removed");
    assert!(after(remove("x.db")).await.contains("file was deleted or moved"));
    assert!(after(remove("x.db-wal")).await.contains("journal (-wal) was deleted or moved"));
    assert!(after(remove("x.db-shm")).await.contains("index (-shm) was deleted or moved"));
    assert!(after(remove("link.db")).await.contains("file was deleted or moved"));
    let replaced = after(|folder| {
        fs::copy(folder.join("x.db"), folder.join("y.db")).expect("copied");
        fs::rename(folder.join("y.db"), folder.join("x.db")).expect("renamed");
    });
    assert!(replaced.await.contains("file was replaced"));
    let elsewhere = after(|folder| {
        fs::write(folder.join("y.db"), "").expect("written");
        fs::remove_file(folder.join("link.db")).expect("removed");
        symlink(folder.join("y.db"), folder.join("link.db")).expect("linked");
    });
    assert!(elsewhere.await.contains("file was replaced"));
    let emptied = |name: &'static str| {
        move |folder: &Path| {
            fs::OpenOptions::new().write(true).truncate(true).open(folder.join(name)).expect("emptied");
        }
    };
    assert!(after(emptied("x.db")).await.contains("file was emptied"));
    // The damage is found by the comparison of files, the check of the journal, or SQLite itself.
    let journal = after(emptied("x.db-wal")).await;
    assert!(journal.contains("journal (-wal) was") || journal.contains("is damaged"), "{journal}");
}

/// Waits until the background checks find the damage.
async fn found_out(store: &Arc<dyn Store>) -> String {
    let waiting = async {
        loop {
            if let Some(why) = store.out_of_order() {
                return why.to_string();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it is found out")
}

#[tokio::test]
async fn damaged_files_are_found_without_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let [deleted, cut, garbled] = ["a.db", "b.db", "c.db"].map(|name| folder.path().join(name));
    let stores = [open(&deleted).await, open(&cut).await, open(&garbled).await];
    accept(&stores[1]).await.expect("accepted");
    fs::remove_file(&deleted).expect("removed");
    fs::OpenOptions::new().write(true).truncate(true).open(beside(&cut, "-wal")).expect("emptied");
    let mut bytes = fs::read(&garbled).expect("read");
    bytes[4096..].fill(0xAB);
    fs::write(beside(&garbled, ".new"), &bytes).expect("written");
    let file = fs::OpenOptions::new().write(true).open(&garbled).expect("opened");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[4096..], 4096).expect("written");
    let [deleted, cut, garbled] = &stores;
    assert!(found_out(deleted).await.contains("deleted"));
    assert!(found_out(cut).await.contains("journal"));
    assert!(found_out(garbled).await.contains("damaged"));
}

#[tokio::test]
async fn closed_store_writes_nothing_and_leaves_no_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.db");
    let store = open(&path).await;
    accept(&store).await.expect("accepted");
    store.close().await;
    assert!(accept(&store).await.is_err() && store.ping().await.is_err());
    assert!(store.secret("x", [0; 32]).await.is_err());
    assert!(!beside(&path, "-wal").exists());
    assert!(store.out_of_order().is_none(), "nothing is wrong with it");
}

#[tokio::test]
async fn database_is_locked_under_all_of_its_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let [path, link, dangling, hard] =
        ["x.db", "link.db", "new.db", "hard.db"].map(|name| folder.path().join(name));
    let first = open(&path).await;
    symlink(&path, &link).expect("linked");
    let error = SqliteStore::open(&link).await.expect_err("it is in use");
    assert!(error.to_string().contains("in use"), "{error}");
    first.close().await;
    drop(first);
    // A link to a file that does not exist yet.
    symlink(folder.path().join("later.db"), &dangling).expect("linked");
    let _second = open(&dangling).await;
    let error = SqliteStore::open(&folder.path().join("later.db")).await.expect_err("it is in use");
    assert!(error.to_string().contains("in use"), "{error}");
    fs::hard_link(&path, &hard).expect("linked");
    let error = SqliteStore::open(&hard).await.expect_err("it has two names");
    assert!(error.to_string().contains("hard link"), "{error}");
}
