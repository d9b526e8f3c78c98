//! Tests of the checks of this machine.

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use voicegate::store::SqliteStore;

use super::World;

#[tokio::test]
async fn sqlite_database_is_checked_without_changes() {
    let world = World::new().await;
    let file = world.folder.path().join("data/voicegate.db");
    let change = async |statement: &'static str| {
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let mut database = SqliteConnection::connect_with(&options).await.expect("a database");
        sqlx::raw_sql(statement).execute(&mut database).await.expect("executed");
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut database).await.expect("executed");
        database.close().await.expect("closed");
    };
    let look = async || {
        let before = world.files();
        let answer = world.check(&[], "").await;
        assert_eq!(world.files(), before);
        answer.about("storage.database: voicegate.db").concat()
    };
    drop(SqliteStore::open(&file).await.expect("a database"));
    change("SELECT 1").await;
    assert_eq!(look().await, "ok    storage.database: voicegate.db is up to date");
    change("DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)").await;
    assert_eq!(
        look().await,
        "note  storage.database: voicegate.db is 1 step behind; the next start brings it up to date, so keep a copy"
    );
    change("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").await;
    assert!(look().await.starts_with("FAIL  storage.database: voicegate.db is not of this version: "));
    change("DROP TABLE _sqlx_migrations").await;
    assert_eq!(
        look().await,
        "FAIL  storage.database: voicegate.db contains tables that are not voicegate's; use a separate database"
    );
    for suffix in ["", "-wal", "-shm", ".lock"] {
        std::fs::remove_file(format!("{}{suffix}", file.display())).ok();
    }
    std::fs::write(&file, "").expect("written");
    assert_eq!(
        look().await,
        "ok    storage.database: voicegate.db is empty; the next start makes its tables"
    );
    std::fs::write(&file, "no database at all, but long enough to have a header".repeat(10))
        .expect("written");
    assert_eq!(
        look().await,
        "FAIL  storage.database: voicegate.db cannot be read: file is not a database; name another file, or restore a \
         copy"
    );
}

#[tokio::test]
async fn missing_or_incomplete_ffmpeg_is_reported() {
    let world = World::new().await;
    let with = async |ffmpeg: &str| {
        let answer = world.check_with(&[], &[("VOICEGATE__AUDIO__FFMPEG", ffmpeg)], "", "").await;
        answer.about("audio.ffmpeg").join("\n")
    };
    assert_eq!(
        with("/nonexistent").await,
        "FAIL  audio.ffmpeg: /nonexistent is not there; install ffmpeg, or set audio.ffmpeg to where it is"
    );
    let script = |text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let file = world.folder.path().join("ffmpeg");
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("executable");
        file.to_string_lossy().into_owned()
    };
    let failing = script("exit 3");
    assert_eq!(
        with(&failing).await,
        "FAIL  audio.ffmpeg: DIR/ffmpeg fails at -version (exit status: 3); name another ffmpeg"
    );
    // An ffmpeg whose build lacks two features, and reports so.
    let maimed = script(
        r#"case "$2" in
-encoders) ffmpeg "$@" | grep -v libopus ;;
-codecs) ffmpeg "$@" | sed 's/ DE\(.*amr_nb\)/ .E\1/; s/ D\.\(.*amr_nb\)/ ..\1/' ;;
*) exec ffmpeg "$@" ;;
esac"#,
    );
    let lines = with(&maimed).await;
    assert!(
        lines.contains(
            "\nFAIL  audio.ffmpeg: this build lacks the decoder amr_nb, the encoder libopus; install a complete ffmpeg\n"
        ),
        "{lines}"
    );
}

#[tokio::test]
async fn full_disk_and_invalid_folder_are_reported() {
    let world = World::new().await;
    let env = [("VOICEGATE__AUDIO__MAX_BYTES", "1 PiB"), ("VOICEGATE__AUDIO__WORKERS", "3")];
    let answer = world.check_with(&[], &env, "", "").await;
    let media = answer.about("storage.media").concat();
    assert!(media.starts_with("FAIL  storage.media: DIR/data/media, "), "{media}");
    let end = " free, where 6.0 PiB can be needed at once; make room, or name a folder on another disk";
    assert!(media.ends_with(end), "{media}");
    let answer = world.check_with(&[], &[("VOICEGATE__STORAGE__MEDIA", "/dev/null/media")], "", "").await;
    assert_eq!(
        answer.about("storage.media").concat(),
        "FAIL  storage.media: /dev/null cannot be written to (not a directory); let this user write there, or name \
         another folder"
    );
}
