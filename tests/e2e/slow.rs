//! Servers of callers that never answer: a job that waits for one does not delay others.

use std::{fmt::Write as _, time::Duration};

use axum::{Router, response::IntoResponse};
use serde_json::json;
use tokio::net::TcpListener;
use voicegate::store::fetch_key;

use crate::harness::{World, fixture, read};

/// A server that accepts connections and never answers.
async fn stalling() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            kept.push(socket);
        }
    });
    url
}

/// A server with a recording, whose URL has another fetch key than `other`.
async fn answering(other: &str) -> String {
    let (mut others, app) =
        (Vec::new(), Router::new().fallback(async || fixture("speech-24k.mp3").into_response()));
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        if fetch_key("a", &url) != fetch_key("a", other) {
            tokio::spawn(async move { axum::serve(listener, app).await });
            return url;
        }
        others.push(listener);
    }
}

/// Sends the audio behind `url` to a recipient that no other note has.
async fn send_url(world: &World, url: &str, number: usize) -> String {
    let body = json!({ "to": format!("+1555000{number:04}"), "via": "whatsapp", "audio": { "url": url } });
    let (status, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
    assert_eq!(status, 202, "{note}");
    note["id"].as_str().expect("an id").to_owned()
}

/// A timeout that is longer than any wait in this test, so that a stalled download does not end by chance.
const FOREVER: &str = "allow_http = true\ntimeout = \"10m\"";

#[tokio::test]
async fn stalled_downloads_do_not_block_the_connection() {
    let world = World::with(|config| config.replace("allow_http = true", FOREVER)).await;
    let dead = stalling().await;
    let mut waiting = Vec::new();
    for number in 0..8 {
        waiting.push(send_url(&world, &format!("{dead}/{number}"), number).await);
    }
    world.until_status(&waiting[0], "processing").await;
    let stored = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.until_status(&stored, "accepted").await;
    let alive = answering(&dead).await;
    for number in 100..104 {
        let id = send_url(&world, &format!("{alive}/audio"), number).await;
        world.until_status(&id, "accepted").await;
    }
    let mut under_way = 0;
    for id in &waiting {
        let status = world.note(id).await["status"].clone();
        assert!(status == "processing" || status == "queued", "{status}");
        under_way += usize::from(status == "processing");
    }
    assert_eq!(under_way, 2, "a host that was never heard of is not asked eight times at once");
}

/// A note keeps its position in its lane during a download, and a later note to the same recipient waits for it.
#[tokio::test]
async fn a_note_that_is_downloaded_first_is_sent_first() {
    let world = World::start().await;
    let url = answering("").await;
    let body = json!({ "to": "+15551234567", "via": "whatsapp", "audio": { "url": format!("{url}/audio") } });
    let (_, first) = read(world.post_json(&body).send().await.expect("an answer")).await;
    let second = world.accept("via=whatsapp", fixture("speech.flac")).await;
    world.until_status(&second, "accepted").await;
    let first = world.note(first["id"].as_str().expect("an id")).await;
    assert_eq!(first["status"], "accepted");
    let order: Vec<_> = world.delivered("wawp").into_iter().map(|entry| entry.message_id).collect();
    assert_eq!(order[0], first["provider_message_id"], "{order:?}");
}

/// Twelve tenants, each with more webhook deliveries than a process has slots, to a server that never answers.
#[tokio::test]
async fn hanging_webhooks_do_not_delay_other_tenants() {
    const TENANTS: usize = 12;
    let dead = stalling().await;
    let world = World::with(|config| {
        let connection = |tenant: &str| {
            let own = config.split_once("[tenants.b.connections.imessage]").expect("a connection").1;
            format!("[tenants.{tenant}.connections.imessage]{own}")
        };
        let mut config = format!("{config}\n[delivery]\nin_flight = 1\n");
        for number in 0..TENANTS {
            let _ = write!(
                config,
                "\n[tenants.t{number}]\napi_keys = [\"vg_{number:02}qv0cJ5hRk1yZbWm7sLpE4uGfAoD9iNtQxYwV3c\"]\nroute = [\"imessage\"]\n\
                 webhook = {{ url = \"{dead}/{number}\", secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"] }}\n{}",
                connection(&format!("t{number}"))
            );
        }
        config
    })
    .await;
    for number in 0..TENANTS {
        let sent = world
            .http
            .post(format!("{}/voice?to=%2B15551234567", world.url))
            .bearer_auth(format!("vg_{number:02}qv0cJ5hRk1yZbWm7sLpE4uGfAoD9iNtQxYwV3c"))
            .header("content-type", "application/octet-stream")
            .body(fixture("speech-24k.mp3"));
        let (status, note) = read(sent.send().await.expect("an answer")).await;
        assert_eq!(status, 202, "{note}");
    }
    // Every note is sent, although its webhook deliveries hang; a delivery has a timeout of 15 s.
    let all = async {
        while world.delivered("linq").len() < TENANTS {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let id = world.accept("", fixture("speech.flac")).await;
        world.until_status(&id, "accepted").await;
    };
    tokio::time::timeout(Duration::from_secs(14), all).await.expect("nobody waits for a webhook");
}
