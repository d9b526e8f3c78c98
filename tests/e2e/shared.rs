//! Gateways that share only a PostgreSQL database and a media folder.

use std::{collections::HashSet, sync::Arc, time::Duration};

use reqwest::StatusCode;
use tokio::task::JoinSet;
use voicegate::{
    gateway::Gateway,
    model::clock::Clock,
    store::{Claim, ClaimRequest, SlotsByClass},
};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    harness::{KEY, World, beside, fixture, read},
    postgres_server::Database,
};

/// A world on a database of its own, with a configuration changed by `edit`; `None` if there is no server.
pub async fn world(edit: impl FnOnce(String) -> String) -> Option<(World, Database)> {
    let database = Database::make().await?;
    let url = database.url();
    let world = World::with(|config| {
        let (head, tail) = config.split_once("database = \"").expect("a database");
        let (_, tail) = tail.split_once('"').expect("its URL");
        edit(format!("{head}database = \"{url}\"{tail}"))
    })
    .await;
    Some((world, database))
}

/// The jobs that one more worker would get now.
async fn claims(world: &World, gateway: &Arc<Gateway>) -> Vec<Claim> {
    let (now, live) = (world.clock.now(), gateway.live());
    let bounds = |connection: &str| live.bounds(connection);
    let request = ClaimRequest {
        now,
        lease_until: now + live.lease(),
        slots: SlotsByClass::each(100, 0),
        held: &[],
        bounds: &bounds,
    };
    gateway.store.claim(&request).await.expect("claimed").notes
}

#[tokio::test]
async fn a_note_goes_through_each_provider() {
    let Some((world, _database)) = world(|config| config).await else { return };
    for (via, provider) in [("imessage", "linq"), ("whatsapp", "wawp")] {
        let id = world.accept(&format!("via={via}"), fixture("speech-24k.mp3")).await;
        let note = world.until_status(&id, "accepted").await;
        assert_eq!((note["provider"].as_str(), world.delivered(provider).len()), (Some(provider), 1));
    }
    // Small audio is in the database, larger audio in the folder; both can be downloaded.
    for file in ["speech-24k.mp3", "speech.wav"] {
        let id = world.accept("via=imessage", fixture(file)).await;
        let mut kept = world.get(&format!("/voice/{id}/audio?source=1")).send().await.expect("an answer");
        let mut audio = Vec::new();
        while let Some(chunk) = kept.chunk().await.expect("the audio") {
            audio.extend_from_slice(&chunk);
        }
        assert!(audio == fixture(file), "{file}");
    }
}

#[tokio::test]
async fn simultaneous_requests_with_one_key_to_two_gateways_make_one_note() {
    let Some((world, _database)) = world(|config| config).await else { return };
    let (_second, url) = beside(&world, true).await;
    let mut requests = JoinSet::new();
    for number in 0..12 {
        let url = if number % 2 == 0 { &world.url } else { &url };
        let request = world
            .http
            .post(format!("{url}/voice?to=%2B15551234567"))
            .bearer_auth(KEY)
            .header("content-type", "audio/mpeg")
            .header("idempotency-key", "once")
            .body(fixture("speech-24k.mp3"));
        requests.spawn(async move { read(request.send().await.expect("an answer")).await });
    }
    let mut ids = HashSet::new();
    for (status, note) in requests.join_all().await {
        assert_eq!(status, StatusCode::ACCEPTED, "{note}");
        ids.insert(note["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(ids.len(), 1);
    world.until_status(ids.iter().next().expect("one"), "accepted").await;
    assert_eq!(world.delivered("linq").len(), 1);
}

/// The gateway that got the request has no worker. It is notified by the one that has.
#[tokio::test]
async fn waiting_request_is_answered_if_another_process_sends_the_note() {
    let Some((world, _database)) = world(|config| config).await else { return };
    let (idle, url) = beside(&world, false).await;
    let mut notices = idle.store.notices().expect("several processes");
    let request = world
        .http
        .post(format!("{url}/voice?to=%2B15551234567"))
        .bearer_auth(KEY)
        .header("content-type", "audio/mpeg")
        .header("prefer", "wait=30")
        .body(fixture("speech-24k.mp3"));
    let (status, note) = read(request.send().await.expect("an answer")).await;
    assert_eq!((status, note["status"].as_str()), (StatusCode::OK, Some("accepted")), "{note}");
    let id = note["id"].as_str().expect("an id").parse().expect("an id");
    let told = async { while !notices.recv().await.expect("open").notes.contains(&id) {} };
    tokio::time::timeout(Duration::from_secs(5), told).await.expect("told by the other");
}

/// Streams read after a notice, which here comes from another process.
#[tokio::test]
async fn event_stream_includes_changes_by_another_process() {
    let Some((world, _database)) = world(|config| config).await else { return };
    let (idle, url) = beside(&world, false).await;
    // Its connection for notices may not be open yet.
    let mut notices = idle.store.notices().expect("several processes");
    let listening = async {
        loop {
            let id = world.accept("", fixture("speech-24k.mp3")).await;
            world.until_status(&id, "accepted").await;
            let heard = tokio::time::timeout(Duration::from_millis(500), notices.recv()).await;
            if heard.is_ok_and(|notice| notice.expect("open").tenants.contains("a")) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), listening).await.expect("it listens");

    let later = (world.clock.now() + Duration::from_secs(3600)).to_string();
    let id = world.accept(&format!("send_at={later}"), fixture("speech-24k.mp3")).await;
    let follow = |path: String| world.http.get(format!("{url}{path}")).bearer_auth(KEY).send();
    let mut of_note = follow(format!("/voice/{id}/events")).await.expect("a stream");
    let mut of_all = follow("/events".to_owned()).await.expect("a stream");
    world.clock.advance(Duration::from_secs(3600));
    for stream in [&mut of_note, &mut of_all] {
        let told = async {
            let mut text = String::new();
            while !text.contains("voice.accepted") || !text.contains(&id) {
                text.push_str(&String::from_utf8_lossy(&stream.chunk().await.expect("bytes").expect("more")));
            }
        };
        // Without notices, the stream of a note reads every 30 s.
        tokio::time::timeout(Duration::from_secs(20), told).await.expect("told by the other");
    }
}

#[tokio::test]
async fn two_gateways_share_a_connections_concurrency() {
    let edit = |config: String| config.replacen("instance_id", "concurrency = 2\ninstance_id", 1);
    let Some((world, _database)) = world(edit).await else { return };
    let (second, _url) = beside(&world, true).await;
    let stall = FaultAction::Stall { ms: None };
    world.sandbox.add_fault(Fault::new(Provider::WAWP, Operation::Voice, stall).times(9));
    let mut changes = second.changes();
    for recipient in 0..6 {
        let query = format!("to=%2B1555123400{recipient}&via=whatsapp");
        let response = world.post_raw(&query, fixture("speech-24k.mp3")).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::ACCEPTED);
    }
    let both = async {
        while world.dispatches() < 2 {
            let _ = tokio::time::timeout(Duration::from_millis(50), changes.recv()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("two are under way");
    for gateway in [&world.gateway, &second] {
        assert_eq!(claims(&world, gateway).await.len(), 0, "there is no room for a third");
    }
    assert_eq!(world.dispatches(), 2);
}

#[tokio::test]
async fn two_gateways_share_a_connections_rate() {
    let edit = |config: String| config.replacen("instance_id", "rate = \"2/60s\"\ninstance_id", 1);
    let Some((world, _database)) = world(edit).await else { return };
    let (second, _url) = beside(&world, true).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(world.accept("via=whatsapp", fixture("speech-24k.mp3")).await);
    }
    world.until_status(&ids[1], "accepted").await;
    for gateway in [&world.gateway, &second] {
        assert_eq!(claims(&world, gateway).await.len(), 0, "two of them began within the minute");
    }
    assert_eq!(world.delivered("wawp").len(), 2);
    world.clock.advance(Duration::from_secs(60));
    world.until_status(&ids[3], "accepted").await;
    assert_eq!(world.delivered("wawp").len(), 4);
}

#[tokio::test]
async fn note_of_a_hanging_gateway_is_claimed_when_its_lease_ends() {
    let Some((world, _database)) = world(|config| config).await else { return };
    // The look-up before the visible request never gets an answer.
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Chats, FaultAction::Stall { ms: None }));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    let hangs = async {
        while !world.sandbox.requests().iter().any(|request| request.operation == "chats") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), hangs).await.expect("the look-up");
    let (_second, _url) = beside(&world, true).await;
    world.clock.advance(world.gateway.live().lease());
    world.until_status(&id, "accepted").await;
    assert_eq!((world.dispatches(), world.delivered("linq").len()), (1, 1));
}
