//! Tests of `kill -9` at critical moments: nothing accepted is lost, and nothing is sent twice.

use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::gateway::Process;

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
