//! Tests of the check of a PostgreSQL database.

use voicegate::store::{PostgresStore, Time};

use super::World;
use crate::postgres_server::Database;

#[tokio::test]
async fn postgresql_database_is_checked_without_changes() {
    let Some(database) = Database::make().await else { return };
    let world = World::new().await;
    let url = database.url();
    let look = async |url: &str, arguments: &[&str]| {
        let answer = world.check_with(arguments, &[("VOICEGATE__STORAGE__DATABASE", url)], "", "").await;
        let lines = answer.about("storage.database: ").join("\n");
        assert!(!lines.contains("S3CRET"), "{lines}");
        lines
    };
    let lines = look(&url, &[]).await;
    assert!(lines.contains(" answers: PostgreSQL "), "{lines}");
    assert!(lines.ends_with(" is empty; the next start makes its tables"), "{lines}");
    assert!(!lines.contains("free"), "its disk is not here: {lines}");

    let store = PostgresStore::open(&url, Time::Database).await.expect("a store");
    let used = async || {
        let lines = look(&url, &[]).await;
        assert!(lines.ends_with(" is up to date"), "{lines}");
        lines.contains("is in use by another process of voicegate; that is fine").then_some(())
    };
    let until_used = async { while used().await.is_none() {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), until_used).await.expect("it listens");
    drop(store);
    let lines = look(&url, &["--online"]).await;
    assert!(lines.contains(" answers within "), "{lines}");

    let gone = url.replace("voicegate_test_", "voicegate_none_");
    let lines = look(&gone, &[]).await;
    assert!(lines.starts_with("FAIL  ") && lines.contains("; make it: createdb --owner="), "{lines}");
    let lines = look("postgres://voicegate:S3CRET@127.0.0.1:1/voicegate", &["--online"]).await;
    let expected = "FAIL  storage.database: 127.0.0.1:1/voicegate cannot be used: ";
    assert!(lines.starts_with(expected) && lines.contains("see that the server runs there"), "{lines}");
}
