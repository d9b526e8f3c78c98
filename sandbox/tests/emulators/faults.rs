//! Scripted faults, as a client and the ledger see them; and the control API.
use std::time::Duration;

use crate::common::{CHAT, Server, linq_error, wav};
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider, ReceiptRule};

fn voicememo(action: FaultAction) -> Fault {
    Fault::new(Provider::LINQ, Operation::Voicememo, action)
}

#[tokio::test]
async fn a_reset_looks_the_same_before_and_after_commit() {
    let server = Server::start().await;
    let id = server.upload("audio/x-wav", wav(100)).await;
    for (action, delivered) in [(FaultAction::ResetBefore, 0), (FaultAction::ResetAfter, 1)] {
        server.sandbox.add_fault(voicememo(action));
        let error = server.memo(&id).send().await.unwrap_err();
        assert!(error.is_request() && !error.is_timeout(), "{error:?}");
        assert_eq!(server.sandbox.ledger().len(), delivered);
        assert_eq!(server.sandbox.requests().last().unwrap().status, None);
    }
    assert_eq!(server.memo(&id).send().await.unwrap().status(), 202, "the fault is used up");
}

#[tokio::test]
async fn a_stall_is_logged_at_once_and_a_late_commit_still_happens() {
    let server = Server::start().await;
    // Receipts are events, too.
    server.sandbox.add_receipt_rule(ReceiptRule { provider: None, to: None, times: None, steps: Vec::new() });
    let id = server.upload("audio/x-wav", wav(100)).await;
    let short = Duration::from_millis(150);
    for (action, delivered) in
        [(FaultAction::Stall { ms: None }, 0), (FaultAction::StallAfter { ms: None }, 1)]
    {
        server.sandbox.add_fault(voicememo(action));
        let before = server.sandbox.requests().len();
        assert!(server.memo(&id).timeout(short).send().await.unwrap_err().is_timeout());
        assert_eq!(server.sandbox.requests().len(), before + 1);
        assert_eq!(server.sandbox.ledger().len(), delivered);
    }
    // The caller gives up; the provider does not.
    server.sandbox.add_fault(voicememo(FaultAction::Slow { ms: 300 }));
    let mut events = server.client.get(format!("{}/sandbox/events", server.base)).send().await.unwrap();
    assert!(server.memo(&id).timeout(short).send().await.unwrap_err().is_timeout());
    assert_eq!(server.sandbox.ledger().len(), 1);
    let chunk = events.chunk().await.unwrap().unwrap();
    assert!(chunk.starts_with(b"event: entry\ndata: {"));
    assert_eq!(server.sandbox.ledger().len(), 2);
    // A stall with an end hangs up.
    server.sandbox.add_fault(voicememo(FaultAction::Stall { ms: Some(10) }));
    assert!(!server.memo(&id).send().await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn scripted_answers_speak_the_providers_language() {
    let server = Server::start().await;
    let id = server.upload("audio/x-wav", wav(100)).await;
    server.sandbox.add_fault(voicememo(FaultAction::RateLimit { retry_after: 7 }).times(2));
    for _ in 0..2 {
        let response = server.memo(&id).send().await.unwrap();
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(linq_error(response, 429, 1007).await["error"]["retry_after"], 7);
    }
    let script = json!([
        { "provider": "linq", "operation": "voicememo", "action": { "kind": "status", "status": 500 } },
        { "provider": "linq", "path": "voicememo", "action": { "kind": "status", "status": 502,
            "body": "<h1>Bad gateway</h1>", "headers": { "server": "nginx" }, "retry_after": 3 } },
        { "provider": "linq", "operation": "voicememo", "action": { "kind": "garbage" } },
        { "provider": "wawp", "operation": "voice", "action": { "kind": "status", "status": 403 } },
    ]);
    let faults = format!("{}/sandbox/faults", server.base);
    assert_eq!(server.client.post(&faults).json(&script).send().await.unwrap().status(), 201);
    linq_error(server.memo(&id).send().await.unwrap(), 500, 3006).await;
    let proxy = server.memo(&id).send().await.unwrap();
    assert_eq!((proxy.status().as_u16(), &proxy.headers()["server"]), (502, &"nginx".parse().unwrap()));
    assert_eq!(proxy.text().await.unwrap(), "<h1>Bad gateway</h1>");
    assert!(server.sandbox.ledger().is_empty());
    let garbage = server.memo(&id).send().await.unwrap();
    assert_eq!(garbage.status(), 200);
    assert!(garbage.json::<Value>().await.is_err());
    assert_eq!(server.sandbox.ledger().len(), 1);
    let quota = server.wawp(json!({})).send().await.unwrap();
    assert_eq!(quota.json::<Value>().await.unwrap()["code"], "quota_reached");
    let left: Value = server.client.get(&faults).send().await.unwrap().json().await.unwrap();
    assert_eq!(left["items"], json!([]));
    let typo = json!({ "provider": "linq", "operation": "voicemail", "action": { "kind": "garbage" } });
    assert_eq!(server.client.post(&faults).json(&typo).send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn an_upload_can_fail_on_its_own() {
    let server = Server::start().await;
    server.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Upload, FaultAction::ResetBefore));
    let upload = server.ask_upload("audio/x-wav", 4).await;
    let put = server.client.put(upload["upload_url"].as_str().unwrap()).header("content-type", "audio/x-wav");
    assert!(put.body("RIFF").send().await.is_err());
    let id = upload["attachment_id"].as_str().unwrap();
    linq_error(server.memo(id).send().await.unwrap(), 404, 2003).await;
}

#[tokio::test]
async fn control_api_shows_and_plays_and_clears_the_ledger() {
    let server = Server::start().await;
    let get = |path: &str| server.client.get(format!("{}{path}", server.base));
    let id = server.upload("audio/x-wav", wav(100)).await;
    server.memo(&id).send().await.unwrap();
    let ledger: Value = get("/sandbox/ledger").send().await.unwrap().json().await.unwrap();
    let entry = &ledger["items"][0];
    assert_eq!((&entry["provider"], &entry["audio"]["container"]), (&json!("linq"), &json!("wav")));
    assert_eq!(entry["conversation"], CHAT);

    let audio = format!("/sandbox/ledger/{}/audio", entry["id"].as_str().unwrap());
    let all = get(&audio).send().await.unwrap();
    assert_eq!(all.headers()["content-type"], "audio/wav");
    assert_eq!(all.bytes().await.unwrap(), wav(100));
    for (wanted, range, bytes) in [
        ("bytes=0-3", "bytes 0-3/1644", "RIFF"),
        ("bytes=8-11", "bytes 8-11/1644", "WAVE"),
        ("bytes=-4", "bytes 1640-1643/1644", "\0\0\0\0"),
    ] {
        let part = get(&audio).header("range", wanted).send().await.unwrap();
        assert_eq!((part.status().as_u16(), part.headers()["content-range"].to_str().unwrap()), (206, range));
        assert_eq!(part.text().await.unwrap(), bytes);
    }
    assert_eq!(get(&audio).header("range", "bytes=9999-").send().await.unwrap().status(), 416);

    let page = get("/").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("<title>voicegate sandbox</title>"));
    for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!page.contains(outside), "the page works offline");
    }

    let chats = format!("{}/sandbox/chats", server.base);
    let body = json!({ "handles": ["+15558880000"], "service": "RCS", "is_group": false });
    let added = server.client.post(&chats).json(&body).send().await.unwrap();
    assert_eq!(added.status(), 201);
    let clear = server.client.post(format!("{}/sandbox/clear", server.base)).send().await.unwrap();
    assert_eq!(clear.status(), 204);
    assert!(server.sandbox.ledger().is_empty() && server.sandbox.requests().is_empty());
    assert_eq!(get(&audio).send().await.unwrap().status(), 404);
    let chats: Value = get("/sandbox/chats").send().await.unwrap().json().await.unwrap();
    assert_eq!(chats["items"].as_array().unwrap().len(), 3, "chats stay");
}
