//! Tests of processes that share a PostgreSQL database: their roles, a process that dies, and a database that dies.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    gateway::{KEY, Process, sample},
    postgres_server::Database,
    server::{Server, Stop},
};

/// Returns the usual configuration with this database.
pub fn on(database: &str) -> impl FnOnce(String) -> String + use<> {
    let url = database.to_owned();
    move |config| {
        let (head, tail) = config.split_once("database = \"").expect("a database");
        let (_, tail) = tail.split_once('"').expect("its URL");
        format!("{head}database = \"{url}\"{tail}")
    }
}

async fn status(process: &Process, path: &str) -> u16 {
    let request = process.http.get(format!("{}{path}", process.url)).bearer_auth(KEY);
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn api_role_takes_requests_and_worker_role_sends() {
    let Some(database) = Database::make().await else { return };
    let api = Process::in_role("api", on(&database.url())).await;
    let waiting = api.accept("via=whatsapp").await;
    for path in ["/healthz", "/readyz", "/metrics", "/voice", "/connections"] {
        assert_eq!(status(&api, path).await, 200, "{path}");
    }
    assert_eq!((api.note(&waiting).await["status"].as_str(), api.dispatches()), (Some("queued"), 0));

    let worker = api.beside("worker").await;
    api.until_status(&waiting, "accepted").await;
    // The answer has to come at once, not at the next poll, so waiters must be notified, too.
    let request = api
        .http
        .post(format!("{}/voice?to=%2B15551234567", api.url))
        .bearer_auth(KEY)
        .header("content-type", "audio/mpeg")
        .header("prefer", "wait=30");
    let answer = request.body(sample()).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(status(&worker, path).await, 200, "{path}");
    }
    for path in ["/voice", "/connections", "/events", "/docs", "/openapi.json"] {
        assert_eq!(status(&worker, path).await, 404, "{path}");
    }
    // Wawp has downloaded the audio from the worker, to which the links lead.
    for mut process in [api, worker] {
        process.signal("-TERM");
        assert_eq!(process.exit_code().await, Some(0));
    }
}

#[test]
fn role_requires_a_shared_database() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[storage]\ndatabase = \"sqlite://x.db\"\n").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_voicegate"))
        .args(["serve", "--role", "worker", "--config"])
        .arg(&file)
        .current_dir(folder.path())
        .output()
        .expect("the executable");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("postgres://"), "{error}");
    assert!(!folder.path().join("x.db").exists());
}

#[tokio::test]
async fn notes_of_a_killed_worker_are_sent_once_by_another_within_seconds() {
    let Some(database) = Database::make().await else { return };
    let api = Process::in_role("api", on(&database.url())).await;
    let mut worker = api.beside("worker").await;
    // The look-up before the dispatch never answers, so no visible request can have been made.
    api.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Chats, FaultAction::Stall { ms: None }));
    let id = api.accept("").await;
    api.eventually("the look-up", async || (!api.sandbox.requests().is_empty()).then_some(())).await;
    let _other = api.beside("worker").await;
    assert_eq!(api.dispatches(), 0, "its first worker is alive");
    let died = Instant::now();
    worker.kill();
    let accepted = async || (api.note(&id).await["status"] == "accepted").then_some(());
    api.eventually_long("the next worker to take it over", accepted).await;
    let took = died.elapsed();
    println!("taken over and sent after {took:?}");
    // Nine seconds until the lease is ended, and some for a busy machine.
    assert!(took < Duration::from_secs(15), "long before its lease ends: {took:?}");
    let note = api.note(&id).await;
    assert_eq!(note["attempts"].as_array().map(Vec::len), Some(1));
    assert_eq!((api.dispatches(), api.sandbox.ledger().len()), (1, 1));
}

#[tokio::test]
async fn worker_that_keeps_losing_its_session_does_not_count_as_dead() {
    let Some(database) = Database::make().await else { return };
    let api = Process::in_role("api", on(&database.url())).await;
    let first = api.beside("worker").await;
    // One request before the visible one is slow. A worker that took the note over would make it again.
    let slow = FaultAction::Slow { ms: 16_000 };
    api.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Attachments, slow));
    let id = api.accept("").await;
    api.eventually("the slow request", async || (!api.sandbox.requests().is_empty()).then_some(())).await;
    let second = api.beside("worker").await;
    let mut operator = PgConnection::connect(&database.url()).await.expect("a connection");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(14) {
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN %voicegate%'";
        sqlx::query(ended).execute(&mut operator).await.expect("executed");
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    let accepted = async || (api.note(&id).await["status"] == "accepted").then_some(());
    api.eventually_long("an end", accepted).await;
    assert_eq!(api.note(&id).await["attempts"].as_array().map(Vec::len), Some(1));
    assert_eq!((api.dispatches(), api.sandbox.ledger().len()), (1, 1));
    drop((first, second));
}

#[tokio::test]
async fn repeated_database_crashes_end_no_process_and_lose_nothing() {
    let Some(server) = Server::start() else { return };
    let first = Process::with(on(&server.url)).await;
    let second = first.beside("all").await;
    let mut ids = Vec::new();
    for round in 0..3 {
        for process in [&first, &second] {
            for via in ["via=imessage", "via=whatsapp"] {
                ids.push(process.accept(via).await);
            }
        }
        server.restart(Stop::Immediate).await;
        // The next request comes at once, over connections that are all broken.
        ids.push([&first, &second][round % 2].accept("via=whatsapp").await);
    }
    for id in &ids {
        first
            .eventually_long("an end", async || {
                let status = first.note(id).await["status"].as_str()?.to_owned();
                matches!(status.as_str(), "accepted" | "sent" | "delivered" | "unknown").then_some(())
            })
            .await;
    }
    let ledger = first.sandbox.ledger();
    assert!(ledger.len() <= ids.len(), "{} notes, {} sent", ids.len(), ledger.len());
    // All notes have the same audio. It is there once, and its bytes go with the last note that is erased.
    let mut operator = PgConnection::connect(&server.url).await.expect("a connection");
    for (number, id) in ids.iter().enumerate() {
        first
            .eventually_long("the erasure of a note", async || {
                let request = first.http.delete(format!("{}/voice/{id}", first.url)).bearer_auth(KEY);
                request.send().await.ok().filter(|answer| answer.status().is_success()).map(drop)
            })
            .await;
        let unused = "SELECT COUNT(*) FROM contents WHERE id NOT IN (SELECT content FROM note_audio)";
        let unused: i64 = sqlx::query_scalar(unused).fetch_one(&mut operator).await.expect("a number");
        assert_eq!(unused, 0);
        let sources = "SELECT COUNT(DISTINCT content) FROM note_audio WHERE variant = 0";
        let sources: i64 = sqlx::query_scalar(sources).fetch_one(&mut operator).await.expect("a number");
        assert_eq!(sources, i64::from(number + 1 < ids.len()));
    }
    for mut process in [first, second] {
        process.signal("-TERM");
        assert_eq!(process.exit_code().await, Some(0), "it was there all the time");
    }
}
