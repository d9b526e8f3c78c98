//! Tests of `kill -9` at critical moments: nothing accepted is lost, and nothing is sent twice.

use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::gateway::{KEY, Process};

#[tokio::test]
async fn kill_after_the_202_sends_exactly_once() {
    let mut process = Process::start().await;
    // The look-up before the dispatch never answers, so no visible request can have been made.
    process.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Chats, FaultAction::Stall { ms: None }));
    let id = process.accept("").await;
    process.eventually("the look-up", async || (!process.sandbox.requests().is_empty()).then_some(())).await;
    process.kill();
    assert_eq!(process.dispatches(), 0);
    process.launch().await;
    let note = process.until_status(&id, "accepted").await;
    assert_eq!(note["attempts"].as_array().map(Vec::len), Some(1));
    assert_eq!((process.dispatches(), process.sandbox.ledger().len()), (1, 1));
}

#[tokio::test]
async fn kill_during_the_dispatch_makes_the_note_unknown_and_sends_at_most_once() {
    for (via, provider, operation) in [
        ("via=imessage", Provider::LINQ, Operation::Voicememo),
        ("via=whatsapp", Provider::WAWP, Operation::Voice),
    ] {
        for action in [FaultAction::StallAfter { ms: None }, FaultAction::Stall { ms: None }] {
            let mut process = Process::start().await;
            process.sandbox.add_fault(Fault::new(provider, operation, action));
            let id = process.accept(via).await;
            process.eventually("the dispatch", async || (process.dispatches() == 1).then_some(())).await;
            process.kill();
            process.launch().await;
            process.until_unknown(&id).await;
            assert_eq!(process.dispatches(), 1);
            assert!(process.sandbox.ledger().len() <= 1);
        }
    }
}

#[tokio::test]
async fn repeated_kills_deliver_every_note_once() {
    let mut process = Process::start().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        for via in ["via=imessage", "via=whatsapp"] {
            ids.push(process.accept(via).await);
        }
        process.kill();
        process.launch().await;
    }
    for id in &ids {
        process
            .eventually("an end", async || {
                let status = process.note(id).await["status"].as_str().expect("a status").to_owned();
                matches!(status.as_str(), "accepted" | "unknown").then_some(())
            })
            .await;
    }
    let ledger = process.sandbox.ledger();
    assert!(ledger.len() <= ids.len(), "{} notes, {} sent", ids.len(), ledger.len());
    let mut sent = 0;
    for id in &ids {
        sent += usize::from(process.note(id).await["status"] == "accepted");
    }
    assert!(ledger.len() >= sent, "{sent} said to be accepted, {} arrived", ledger.len());
}

/// Notes with equal audio share its bytes. Whatever dies in between, the bytes are there for as long as a note has them.
#[tokio::test]
async fn shared_audio_survives_kills_until_its_last_note_is_erased() {
    let mut process = Process::start().await;
    let mut ids = Vec::new();
    for round in 0..3 {
        for via in ["via=imessage", "via=whatsapp"] {
            ids.push(process.accept(via).await);
        }
        if round == 1 {
            // Others are killed in the middle of their way.
            process.until_status(&ids[0], "accepted").await;
        }
        process.kill();
        process.launch().await;
    }
    let path = process.folder.path().join("voicegate.db");
    let count = async |sql: &'static str| {
        let mut database: SqliteConnection =
            SqliteConnectOptions::new().filename(&path).connect().await.expect("the database");
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut database).await.expect("a number")
    };
    let mut kept = ids.clone();
    while !kept.is_empty() {
        process
            .eventually_long("the erasure of a note", async || {
                let request =
                    process.http.delete(format!("{}/voice/{}", process.url, kept[0])).bearer_auth(KEY);
                // An unknown note holds its lane for a while.
                request.send().await.ok().filter(|answer| answer.status().is_success()).map(drop)
            })
            .await;
        process.kill();
        let unused = "SELECT COUNT(*) FROM contents WHERE id NOT IN (SELECT content FROM note_audio)";
        assert_eq!(count(unused).await, 0);
        process.launch().await;
        kept.remove(0);
        for id in &kept {
            let request =
                process.http.get(format!("{}/voice/{id}/audio?source=1", process.url)).bearer_auth(KEY);
            assert_eq!(request.send().await.expect("an answer").status().as_u16(), 200);
        }
    }
    process.kill();
    assert_eq!(count("SELECT COUNT(*) FROM contents").await, 0);
    assert_eq!(count("SELECT COUNT(*) FROM note_audio").await, 0);
}
