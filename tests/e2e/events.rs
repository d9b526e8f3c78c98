//! Events: webhook deliveries and event streams.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    bot::Bot,
    harness::{OTHER_KEY, World, fixture, read},
};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEXT_SECRET: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// A world whose tenant `a` has a webhook with these secrets.
async fn world(bot: &Bot, secrets: &str) -> World {
    let webhook = format!("[tenants.a.webhook]\nurl = \"{}\"\nsecrets = [{secrets}]\n", bot.url);
    World::with(|config| config + &webhook).await
}

fn refuse(times: u32) -> Fault {
    let action =
        FaultAction::Status { status: 403, body: None, headers: Default::default(), retry_after: None };
    Fault::new(Provider::LINQ, Operation::Voicememo, action).times(times)
}

#[tokio::test]
async fn webhook_events_are_signed_with_every_secret() {
    let bot = Bot::start().await;
    let world = world(&bot, &format!("\"{SECRET}\", \"{NEXT_SECRET}\"")).await;
    let id = world.accept("metadata=%7B%22order%22%3A7%7D", fixture("speech-24k.mp3")).await;
    let told = bot.told(1).await.remove(0);
    assert_eq!((told.kind(), &told.body["data"]["id"]), ("voice.accepted", &json!(id)));
    assert!(told.is_signed_with(SECRET) && told.is_signed_with(NEXT_SECRET));
    assert!(!told.is_signed_with("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    let note = world.note(&id).await;
    assert_eq!(told.body["data"], note, "the note as it is read");
    assert_eq!(told.body["timestamp"], note["accepted_at"]);
    assert_eq!(note["metadata"], json!({ "order": 7 }));
    assert_eq!(told.timestamp, world.clock_seconds().to_string());
}

#[tokio::test]
async fn failed_webhook_delivery_is_retried_in_order_with_the_same_id() {
    let bot = Bot::start().await;
    let world = world(&bot, &format!("\"{SECRET}\"")).await;
    bot.answer(&[500, 302, 429]);
    world.sandbox.add_fault(refuse(1));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    let first = bot.told(1).await;
    assert_eq!(first[0].kind(), "voice.failed");
    for times in 2..=4 {
        world.pass_until_told(&bot, times).await;
    }
    let told = bot.told(4).await;
    assert!(told.iter().all(|told| told.id == first[0].id && told.body == first[0].body), "{told:#?}");
    assert_eq!(told[0].body["data"]["id"], id);
}

#[tokio::test]
async fn events_are_not_delivered_after_the_webhook_is_removed() {
    let bot = Bot::start().await;
    let world = world(&bot, &format!("\"{SECRET}\"")).await;
    bot.answer(&[500]);
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    bot.told(1).await;
    let without = |config: String| config.split("[tenants.a.webhook]").next().expect("the rest").to_owned();
    world.reconfigure(without).expect("reloaded");
    world.clock.advance(Duration::from_secs(60));
    let second = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&second, "accepted").await;
    assert_eq!(bot.told(1).await.len(), 1);
    assert_eq!(world.note(&id).await["status"], "accepted");
}

/// Reads a number of server-sent events.
async fn streamed(response: reqwest::Response, count: usize) -> Vec<(String, String, Value)> {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut bytes = response.bytes_stream();
    let mut text = String::new();
    let complete = |text: &str| {
        text.split_inclusive("\n\n")
            .filter(|block| block.contains("data:") && block.ends_with("\n\n"))
            .count()
    };
    while complete(&text) < count {
        let piece =
            tokio::time::timeout(Duration::from_secs(30), bytes.next()).await.expect("an event in time");
        text.push_str(std::str::from_utf8(&piece.expect("more").expect("bytes")).expect("text"));
    }
    let field = |block: &str, name: &str| {
        let line =
            block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{block}"));
        line.trim().to_owned()
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("data:"));
    let event = |block: &str| {
        let data = serde_json::from_str(&field(block, "data:")).expect("JSON");
        (field(block, "id:"), field(block, "event:"), data)
    };
    blocks.map(event).collect()
}

#[tokio::test]
async fn event_stream_resumes_after_the_last_event_id() {
    let world = World::start().await;
    let before = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&before, "accepted").await;
    let live = world.get("/events").send().await.expect("a stream");
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    let events = streamed(live, 1).await;
    let (position, kind, body) = &events[0];
    assert_eq!((kind.as_str(), &body["type"]), ("voice.accepted", &json!("voice.accepted")));
    assert_eq!(body["data"], world.note(&id).await, "only what came after the stream began");

    let third = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&third, "accepted").await;
    let resumed = world.get("/events").header("last-event-id", position).send().await.expect("a stream");
    let events = streamed(resumed, 1).await;
    assert_eq!(events[0].2["data"]["id"], third, "nothing twice and nothing left out");

    let of_note = world.get(&format!("/voice/{before}/events")).send().await.expect("a stream");
    let events = streamed(of_note, 1).await;
    assert_eq!(events[0].2["data"]["id"], before, "of one note, from its first");
    let foreign = world.http.get(format!("{}/voice/{before}/events", world.url)).bearer_auth(OTHER_KEY);
    assert_eq!(foreign.send().await.expect("an answer").status(), StatusCode::NOT_FOUND);
    let nonsense = world.get("/events").header("last-event-id", "yesterday").send().await.expect("an answer");
    let (status, problem) = read(nonsense).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("Last-Event-ID")));
}

/// A client whose connection breaks before the first event must miss nothing either.
#[tokio::test]
async fn event_stream_begins_with_the_position_to_resume_from() {
    let world = World::start().await;
    let before = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&before, "accepted").await;
    let mut broken = world.get("/events").send().await.expect("a stream");
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        let piece = tokio::time::timeout(Duration::from_secs(30), broken.chunk()).await.expect("in time");
        text.push_str(std::str::from_utf8(&piece.expect("bytes").expect("more")).expect("text"));
    }
    let position = text.strip_prefix("id: ").and_then(|rest| rest.strip_suffix("\n\n")).expect("only an id");
    drop(broken);
    let missed = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&missed, "accepted").await;
    let resumed = world.get("/events").header("last-event-id", position).send().await.expect("a stream");
    let events = streamed(resumed, 1).await;
    assert_eq!(events[0].2["data"]["id"], missed, "nothing before, and nothing left out");
}

#[tokio::test]
async fn refused_account_is_paused_probed_and_reopened() {
    let world = World::start().await;
    let unauthorized =
        FaultAction::Status { status: 401, body: None, headers: Default::default(), retry_after: None };
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Attachments, unauthorized).times(5));
    for _ in 0..5 {
        let id = world.accept("", fixture("speech-24k.mp3")).await;
        world.until_status(&id, "failed").await;
    }
    let (_, connections) = read(world.get("/connections").send().await.expect("an answer")).await;
    assert_eq!(connections["items"][0]["health"], "paused", "{connections}");
    let waiting = world.accept("", fixture("speech-24k.mp3")).await;
    assert_eq!(world.note(&waiting).await["status"], "queued");
    world.clock.advance(Duration::from_secs(5));
    world.until_status(&waiting, "accepted").await;
    let probes = world.sandbox.requests().into_iter().filter(|r| r.operation == "lines").count();
    assert_eq!(probes, 1, "the account was asked before the note was tried");
    let (_, connections) = read(world.get("/connections").send().await.expect("an answer")).await;
    assert_eq!(connections["items"][0]["health"], "ok", "{connections}");
}
