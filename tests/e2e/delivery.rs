//! Delivery while a provider fails: nothing is lost, and nothing is sent twice.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use voicegate_sandbox::{Fault, FaultAction, NewChat, Operation, Provider, Service};

use crate::harness::{World, attempts, fixture, read};

fn linq(operation: Operation, action: FaultAction) -> Fault {
    Fault::new(Provider::LINQ, operation, action)
}

fn wawp(action: FaultAction) -> Fault {
    Fault::new(Provider::WAWP, Operation::Voice, action)
}

fn status(status: u16) -> FaultAction {
    FaultAction::Status { status, body: None, headers: Default::default(), retry_after: None }
}

#[tokio::test]
async fn pending_attachment_is_not_uploaded_again() {
    let world = World::start().await;
    world.sandbox.add_fault(linq(Operation::Voicememo, FaultAction::NotReady).times(2));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.to_next_attempt(&id, 1).await;
    world.to_next_attempt(&id, 2).await;
    let note = world.until_status(&id, "accepted").await;
    let outcomes: Vec<_> =
        note["attempts"].as_array().expect("attempts").iter().map(|a| a["outcome"].clone()).collect();
    assert_eq!(outcomes, ["deferred", "deferred", "accepted"]);
    assert_eq!(note["attempts"][0]["error"]["provider"]["code"], "2007");
    let uploads =
        world.sandbox.requests().into_iter().filter(|request| request.operation == "upload").count();
    assert_eq!((uploads, world.delivered("linq").len()), (1, 1));
}

#[tokio::test]
async fn rate_limit_pauses_only_its_connection() {
    let world = World::start().await;
    world.sandbox.add_chat(NewChat {
        handles: vec!["+15550002222".into()],
        service: Some(Service::IMessage),
        is_group: false,
        id: None,
    });
    world.sandbox.add_fault(linq(Operation::Voicememo, FaultAction::RateLimit { retry_after: 120 }));
    let limited = world.accept("", fixture("speech-24k.mp3")).await;
    let note = world.until(&limited, |note| note["attempts"][0]["outcome"] == "deferred").await;
    let wait = seconds_between(&note["updated_at"], &note["next_attempt_at"]);
    assert!((120.0..=140.0).contains(&wait), "{wait}");

    // Another recipient of the same connection waits too; another connection does not.
    let response =
        world.post_raw("to=%2B15550002222", fixture("speech-24k.mp3")).send().await.expect("an answer");
    let waiting = read(response).await.1["id"].as_str().expect("an id").to_owned();
    let elsewhere = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.until_status(&elsewhere, "accepted").await;
    assert_eq!(world.note(&waiting).await["attempts"], json!([]));

    world.clock.advance(Duration::from_secs(140));
    world.until_status(&limited, "accepted").await;
    world.until_status(&waiting, "accepted").await;
    assert_eq!(world.delivered("linq").len(), 2);
}

fn seconds_between(from: &serde_json::Value, to: &serde_json::Value) -> f64 {
    let at = |value: &serde_json::Value| {
        value.as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time")
    };
    at(to).duration_since(at(from)).as_secs_f64()
}

#[tokio::test]
async fn missing_answer_makes_the_note_unknown_and_holds_its_lane() {
    for action in
        [FaultAction::ResetAfter, FaultAction::ResetBefore, FaultAction::Garbage, status(500), status(502)]
    {
        let world = World::start().await;
        let sent_in_truth = usize::from(matches!(action, FaultAction::ResetAfter | FaultAction::Garbage));
        world.sandbox.add_fault(wawp(action.clone()));
        let first = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
        let note = world.until_status(&first, "unknown").await;
        assert_eq!(note["attempts"][0]["outcome"], "unknown", "{action:?}");
        assert_eq!(note["error"]["code"], "provider_unavailable");

        let second = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
        assert_eq!(world.note(&second).await["status"], "queued");
        world.clock.advance(Duration::from_secs(29));
        assert_eq!(world.note(&second).await["attempts"], json!([]));
        world.clock.advance(Duration::from_secs(2));
        world.until_status(&second, "accepted").await;
        assert_eq!(world.dispatches(), 2, "{action:?}");
        assert_eq!(world.delivered("wawp").len(), sent_in_truth + 1, "{action:?}");
        assert_eq!(world.note(&first).await["status"], "unknown");
    }
}

#[tokio::test]
async fn prefer_wait_answers_202_for_an_unknown_note() {
    let world = World::start().await;
    world.sandbox.add_fault(wawp(FaultAction::ResetAfter));
    let mut changed = world.gateway.changes();
    let request = world.post_raw("to=%2B15551234567&via=whatsapp", fixture("speech-24k.mp3"));
    // The outcome may still become known, so the request waits. It is answered at once when the gateway stops.
    let stop = async {
        let id = changed.recv().await.expect("a change");
        world.until_status(&id.to_string(), "unknown").await;
        world.gateway.stop.cancel();
    };
    let (answer, ()) = tokio::join!(request.header("prefer", "wait=60").send(), stop);
    let (status, note) = read(answer.expect("an answer")).await;
    assert_eq!((status, note["status"].as_str()), (StatusCode::ACCEPTED, Some("unknown")));
}

#[tokio::test]
async fn on_unknown_resend_repeats() {
    let world =
        World::with(|config| config.replacen("access_token", "on_unknown = \"resend\"\naccess_token", 1))
            .await;
    world.sandbox.add_fault(wawp(FaultAction::ResetAfter));
    let id = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.to_next_attempt(&id, 1).await;
    let note = world.until_status(&id, "accepted").await;
    assert_eq!(note["attempts"][0]["outcome"], "unknown");
    assert_eq!(world.delivered("wawp").len(), 2, "the recipient was to get it twice");
}

#[tokio::test]
async fn provider_outage_is_retried_until_the_note_expires() {
    let world = World::with(|config| {
        let (head, tail) = config.split_once("base_url = \"").expect("a connection");
        let (_, tail) = tail.split_once('"').expect("a URL");
        format!("{head}base_url = \"http://127.0.0.1:1/linq\"{tail}")
    })
    .await;
    let id = world.accept("expires_in=10m", fixture("speech-24k.mp3")).await;
    let note = world.until(&id, |note| attempts(note) == 1).await;
    assert_eq!(note["attempts"][0]["outcome"], "deferred");
    assert!(seconds_between(&note["updated_at"], &note["next_attempt_at"]) <= 5.0);
    world.clock.advance(Duration::from_secs(601));
    let note = world.until_status(&id, "expired").await;
    assert_eq!(
        (&note["error"]["code"], &note["error"]["status"]),
        (&json!("provider_unavailable"), &json!(424))
    );
    assert_eq!(world.gateway.store.queue_depth().await.expect("a number"), 0);
}

#[tokio::test]
async fn unreachable_recipient_is_tried_over_the_next_connection() {
    let world = World::start().await;
    let response = world
        .post_raw("to=%2B15559990000&via=both", fixture("speech-24k.mp3"))
        .header("prefer", "wait=30")
        .send()
        .await
        .expect("an answer");
    let (status, note) = read(response).await;
    assert_eq!((status, note["via"].as_str()), (StatusCode::OK, Some("whatsapp")), "{note}");
    assert_eq!(note["attempts"][0]["outcome"], "refused");
    assert_eq!(note["attempts"][0]["error"]["code"], "recipient_unsupported");
    assert_eq!((world.delivered("linq").len(), world.delivered("wawp").len()), (0, 1));
}

#[tokio::test]
async fn an_opt_out_is_respected_on_every_connection() {
    let world = World::start().await;
    let body = json!({ "success": false, "error": { "status": 403, "code": 2024, "message": "opted out" } });
    world.sandbox.add_fault(linq(
        Operation::Voicememo,
        FaultAction::Status { status: 403, body: Some(body), headers: Default::default(), retry_after: None },
    ));
    let id = world.accept("via=both", fixture("speech-24k.mp3")).await;
    let note = world.until_status(&id, "failed").await;
    assert_eq!(note["error"]["code"], "provider_rejected");
    assert_eq!(world.delivered("wawp").len(), 0);
}

#[tokio::test]
async fn notes_to_one_recipient_arrive_in_order_after_a_retry() {
    let world = World::start().await;
    world.sandbox.add_fault(wawp(FaultAction::RateLimit { retry_after: 1 }));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.accept("via=whatsapp", fixture("speech-24k.mp3")).await);
    }
    world.until(&ids[0], |note| note["attempts"][0]["outcome"] == "deferred").await;
    world.clock.advance(Duration::from_secs(5));
    let mut order = Vec::new();
    for id in &ids {
        order.push(world.until_status(id, "accepted").await["provider_message_id"].clone());
    }
    let arrived: Vec<_> = world.delivered("wawp").into_iter().map(|entry| json!(entry.message_id)).collect();
    assert_eq!(order, arrived);
}

#[tokio::test]
async fn sms_chat_gets_an_audio_file_if_allowed() {
    let world = World::start().await;
    let response = world
        .post_raw("to=%2B15550001111", fixture("speech-24k.mp3"))
        .header("prefer", "wait=30")
        .send()
        .await
        .expect("an answer");
    let (_, note) = read(response).await;
    assert_eq!((&note["status"], &note["form"]), (&json!("accepted"), &json!("audio")));

    world
        .reconfigure(|config| {
            config.replacen(
                "token = \"sandbox-linq-token\"",
                "token = \"sandbox-linq-token\"\ndegrade = []",
                1,
            )
        })
        .expect("a sound configuration");
    let response = world
        .post_raw("to=%2B15550001111", fixture("speech-24k.mp3"))
        .header("prefer", "wait=30")
        .send()
        .await
        .expect("an answer");
    let (status, problem) = read(response).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::FAILED_DEPENDENCY, &json!("form_unavailable")),
        "the first note has shown that there are no voice notes here"
    );
    assert_eq!(world.delivered("linq").len(), 1);
}

#[tokio::test]
async fn chat_is_opened_by_one_text_if_allowed() {
    let world = World::with(|config| {
        config.replacen(
            "token = \"sandbox-linq-token\"",
            "token = \"sandbox-linq-token\"\nopen_chat = \"text\"\nopening_text = \"Hello from the bot\"",
            1,
        )
    })
    .await;
    // The answer to the opening text is lost. The idempotency key prevents a second text.
    world.sandbox.add_fault(linq(Operation::Messages, FaultAction::ResetAfter));
    let response =
        world.post_raw("to=%2B15558887777", fixture("speech-24k.mp3")).send().await.expect("an answer");
    let id = read(response).await.1["id"].as_str().expect("an id").to_owned();
    world.to_next_attempt(&id, 1).await;
    world.until_status(&id, "accepted").await;
    let forms: Vec<_> = world.delivered("linq").into_iter().map(|entry| entry.form).collect();
    assert_eq!(forms, ["text", "voice"]);

    // The chat is known now, so the next note makes no look-up.
    world.sandbox.clear();
    let response =
        world.post_raw("to=%2B15558887777", fixture("speech-24k.mp3")).send().await.expect("an answer");
    let id = read(response).await.1["id"].as_str().expect("an id").to_owned();
    world.until_status(&id, "accepted").await;
    let looked_up =
        world.sandbox.requests().into_iter().filter(|request| request.operation == "chats").count();
    assert_eq!(looked_up, 0);
}

#[tokio::test]
async fn download_uses_the_callers_headers_and_reports_failures() {
    let world = World::start().await;
    let source = world.accept("via=whatsapp", fixture("speech.flac")).await;
    world.until_status(&source, "accepted").await;
    let link = format!("{}/voice/{source}/audio?source=1", world.url);
    let body = json!({
        "to": "+15551234567",
        "audio": { "url": link, "headers": { "Authorization": format!("Bearer {}", crate::harness::KEY) } },
    });
    let (_, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
    assert_eq!(note["audio"]["source"], serde_json::Value::Null);
    let note = world.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    assert_eq!(note["audio"]["source"]["codec"], "flac");
    assert_eq!(world.delivered("linq").len(), 1);

    let body = json!({ "to": "+15551234567", "audio": { "url": link } });
    let (_, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
    let note = world.until_status(note["id"].as_str().expect("an id"), "failed").await;
    assert_eq!(
        (&note["error"]["code"], &note["error"]["stage"]),
        (&json!("source_unreachable"), &json!("fetch"))
    );
    assert!(note["error"]["detail"].as_str().expect("text").contains("401"), "{note}");
}

#[tokio::test]
async fn failed_upload_is_retried() {
    let world = World::start().await;
    world.sandbox.add_fault(linq(Operation::Upload, FaultAction::ResetAfter));
    world.sandbox.add_fault(linq(Operation::Attachments, status(500)));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.to_next_attempt(&id, 1).await;
    world.to_next_attempt(&id, 2).await;
    world.until_status(&id, "accepted").await;
    assert_eq!(world.delivered("linq").len(), 1);
}

#[tokio::test]
async fn graceful_stop_returns_work_for_the_next_start() {
    let world = World::start().await;
    world.sandbox.add_fault(linq(Operation::Voicememo, FaultAction::NotReady));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until(&id, |note| attempts(note) == 1 && note["status"] == "queued").await;
    let folder = world.stop().await;
    let store =
        voicegate::store::SqliteStore::open(&folder.path().join("voicegate.db")).await.expect("free again");
    assert_eq!(voicegate::store::Store::queue_depth(&store).await.expect("a number"), 1);
}
