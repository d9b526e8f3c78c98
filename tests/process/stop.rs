//! Tests of SIGTERM at every stage of a note: work in flight is finished, other work is kept, and nothing is sent
//! twice.

use std::time::{Duration, Instant};

use serde_json::Value;
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::gateway::{KEY, Process};

/// Maximum duration of a stop: far below the default `server.shutdown_grace`, and far above the need of an idle
/// gateway.
const SOON: Duration = Duration::from_secs(10);

async fn attempts(process: &Process, id: &str) -> usize {
    process.note(id).await["attempts"].as_array().expect("a list").len()
}

/// Checks that SQLite's journal is empty or gone, so that the file alone is the whole database.
fn database_is_closed(process: &Process) -> bool {
    let journal = process.folder.path().join("voicegate.db-wal");
    journal.metadata().map_or(true, |metadata| metadata.len() == 0)
}

#[tokio::test]
async fn note_in_flight_is_finished_before_the_stop() {
    for (via, provider, operation) in [
        ("via=imessage", Provider::LINQ, Operation::Voicememo),
        // The provider downloads the audio from the gateway that is about to stop.
        ("via=whatsapp", Provider::WAWP, Operation::Voice),
    ] {
        let mut process = Process::start().await;
        process.sandbox.add_fault(Fault::new(provider, operation, FaultAction::Slow { ms: 1500 }));
        let id = process.accept(via).await;
        process.eventually("the dispatch", async || (process.dispatches() == 1).then_some(())).await;
        process.signal("-TERM");
        let ready = process
            .eventually("it is not ready", async || {
                let answer = process.http.get(format!("{}/readyz", process.url)).send().await.ok()?;
                (answer.status() == 503).then_some(answer)
            })
            .await;
        let ready: Value = ready.json().await.expect("JSON");
        assert_eq!(ready["checks"]["shutdown"]["status"], "failed", "{ready}");
        let (status, refused) = process.send(via, crate::gateway::sample()).await;
        assert_eq!((status, &refused["code"]), (503, &"overloaded".into()));
        assert_eq!(process.exit_code().await, Some(0), "{}", process.logged());
        assert!(database_is_closed(&process));
        assert_eq!(process.sandbox.ledger().len(), 1, "{}", process.logged());
        process.launch().await;
        process.until_status(&id, "accepted").await;
        assert_eq!((process.dispatches(), attempts(&process, &id).await), (1, 1));
    }
}

#[tokio::test]
async fn provider_slower_than_the_grace_leaves_the_note_unknown_and_sent_once() {
    let mut process =
        Process::with(|config| config.replace("[server]", "[server]\nshutdown_grace = \"1s\"")).await;
    let stall = FaultAction::StallAfter { ms: None };
    process.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, stall));
    let id = process.accept("").await;
    process.eventually("the dispatch", async || (process.dispatches() == 1).then_some(())).await;
    let asked = Instant::now();
    process.signal("-TERM");
    assert_eq!(process.exit_code().await, Some(0), "{}", process.logged());
    assert!(asked.elapsed() >= Duration::from_secs(1), "it was waited for");
    assert!(asked.elapsed() < SOON);
    assert!(database_is_closed(&process));
    process.launch().await;
    process.until_unknown(&id).await;
    assert_eq!((process.dispatches(), process.sandbox.ledger().len()), (1, 1));
}

#[tokio::test]
async fn unsent_note_is_requeued_at_the_stop_and_sent_after_the_next_start() {
    let mut process = Process::start().await;
    process.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Chats, FaultAction::Stall { ms: None }));
    let id = process.accept("").await;
    process.eventually("the look-up", async || (!process.sandbox.requests().is_empty()).then_some(())).await;
    let asked = Instant::now();
    process.signal("-TERM");
    assert_eq!(process.exit_code().await, Some(0), "{}", process.logged());
    assert!(asked.elapsed() < SOON, "nobody waits for a request that can be repeated");
    assert!(database_is_closed(&process));
    process.launch().await;
    assert!(!process.logged().contains("that an earlier process left"), "{}", process.logged());
    process.until_status(&id, "accepted").await;
    assert_eq!((process.dispatches(), attempts(&process, &id).await), (1, 1));
}

#[tokio::test]
async fn note_waiting_for_a_retry_is_unchanged_by_a_stop() {
    let mut process = Process::start().await;
    let limited = FaultAction::RateLimit { retry_after: 600 };
    process.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, limited));
    let id = process.accept("").await;
    let before = process
        .eventually("the first try has ended", async || {
            let note = process.note(&id).await;
            (note["status"] == "queued" && note["attempts"][0]["outcome"] == "deferred").then_some(note)
        })
        .await;
    let asked = Instant::now();
    process.signal("-TERM");
    assert_eq!(process.exit_code().await, Some(0));
    assert!(asked.elapsed() < SOON);
    process.launch().await;
    assert_eq!(process.note(&id).await, before);
    assert_eq!(process.dispatches(), 1);
}

#[tokio::test]
async fn second_signal_stops_at_once() {
    let mut process = Process::start().await;
    let stall = FaultAction::Stall { ms: None };
    process.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, stall));
    let id = process.accept("").await;
    process.eventually("the dispatch", async || (process.dispatches() == 1).then_some(())).await;
    let asked = Instant::now();
    process.signal("-TERM");
    process
        .eventually("the first signal", async || process.logged().contains("stopping").then_some(()))
        .await;
    process.signal("-INT");
    assert_eq!(process.exit_code().await, Some(1), "{}", process.logged());
    assert!(asked.elapsed() < SOON);
    process.launch().await;
    process.until_unknown(&id).await;
    assert_eq!(process.dispatches(), 1);
}

/// Suspends and resumes the process, as a debugger or a virtual machine does: an answer that came in time counts,
/// although the time limit has passed when the process reads it.
#[tokio::test]
async fn answer_received_while_the_process_was_suspended_counts() {
    let process = Process::with(|config| {
        config.replace("token = \"sandbox-linq", "timeout = \"3s\"\ntoken = \"sandbox-linq")
    })
    .await;
    process.sandbox.add_fault(Fault::new(
        Provider::LINQ,
        Operation::Voicememo,
        FaultAction::Slow { ms: 1000 },
    ));
    let id = process.accept("via=imessage").await;
    process.eventually("the dispatch", async || (process.dispatches() == 1).then_some(())).await;
    process.signal("-STOP");
    process.eventually("the answer", async || (!process.sandbox.ledger().is_empty()).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    process.signal("-CONT");
    let ended = process
        .eventually("an end", async || {
            // Earlier connections were closed when the process resumed.
            let request = process.http.get(format!("{}/voice/{id}", process.url)).bearer_auth(KEY);
            let note: Value = request.send().await.ok()?.json().await.ok()?;
            (note["attempts"].as_array().map(Vec::len) == Some(1)).then_some(note)
        })
        .await;
    assert_eq!((&ended["status"], process.dispatches()), (&serde_json::json!("accepted"), 1), "{ended}");
}
