//! Scheduling, cancelling and resending.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use voicegate::delivery::housekeeping::remove_what_is_old;
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::harness::{KEY, World, fixture, read};

impl World {
    pub async fn post(&self, path: &str) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(KEY);
        read(request.send().await.expect("an answer")).await
    }

    fn in_seconds(&self, seconds: u64) -> String {
        use voicegate::model::clock::Clock;
        (self.clock.now() + Duration::from_secs(seconds)).to_string()
    }
}

#[tokio::test]
async fn scheduled_note_is_sent_on_time_without_blocking_its_lane() {
    let world = World::start().await;
    let at = world.in_seconds(600);
    let scheduled = world.accept(&format!("send_at={at}"), fixture("speech-24k.mp3")).await;
    let note = world.note(&scheduled).await;
    assert_eq!(note["status"], "queued");
    let next: jiff::Timestamp = note["next_attempt_at"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(next, at.parse().expect("a time"));
    let now = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&now, "accepted").await;
    assert_eq!(world.note(&scheduled).await["status"], "queued");
    world.clock.advance(Duration::from_secs(600));
    world.until_status(&scheduled, "accepted").await;
    // A note with a time in the past is sent at once.
    let past = world.accept("send_at=2020-01-01T00:00:00Z", fixture("speech-24k.mp3")).await;
    world.until_status(&past, "accepted").await;
    for (at, field) in
        [("tomorrow", "send_at"), ("2999-01-01T00:00:00Z", "send_at"), ("2026-01-01", "send_at")]
    {
        let request = world.post_raw(&format!("to=%2B15551234567&send_at={at}"), fixture("speech-24k.mp3"));
        let (status, problem) = read(request.send().await.expect("an answer")).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }
}

/// The expiry is counted from the time at which the note is due.
#[tokio::test]
async fn expiry_of_a_scheduled_note_counts_from_its_send_time() {
    let world = World::start().await;
    let at = world.in_seconds(7200);
    let id = world.accept(&format!("send_at={at}&expires_in=1h"), fixture("speech-24k.mp3")).await;
    world.clock.advance(Duration::from_secs(7200));
    world.until_status(&id, "accepted").await;
}

#[tokio::test]
async fn waiting_note_is_cancelled_and_never_sent() {
    let world = World::start().await;
    let at = world.in_seconds(600);
    let id = world.accept(&format!("send_at={at}"), fixture("speech-24k.mp3")).await;
    let (status, note) = world.post(&format!("/voice/{id}/cancel")).await;
    assert_eq!((status, &note["status"]), (StatusCode::OK, &json!("canceled")), "{note}");
    let (status, problem) = world.post(&format!("/voice/{id}/cancel")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("wrong_state")));
    world.clock.advance(Duration::from_secs(700));
    let sent = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&sent, "accepted").await;
    let (status, problem) = world.post(&format!("/voice/{sent}/cancel")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("wrong_state")), "{problem}");
    assert_eq!(world.dispatches(), 1);
    assert_eq!(world.note(&id).await["status"], "canceled");
    let (status, _) = world.post(&format!("/voice/{}/cancel", voicegate::model::id::NoteId::new())).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn resend_of_an_unknown_note_releases_its_lane() {
    let world = World::start().await;
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, FaultAction::ResetBefore));
    let id = world.accept("metadata=%7B%22a%22%3A1%7D", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "unknown").await;
    let again = |key: &'static str| {
        let request = world.http.post(format!("{}/voice/{id}/resend", world.url)).bearer_auth(KEY);
        request.header("idempotency-key", key).send()
    };
    let response = again("once").await.expect("an answer");
    let location = response.headers()["location"].to_str().expect("text").to_owned();
    let (status, copy) = read(response).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{copy}");
    assert_eq!((&copy["resend_of"], &copy["metadata"]), (&json!(id), &json!({ "a": 1 })));
    let copy = copy["id"].as_str().expect("an id").to_owned();
    assert_eq!(location, format!("/voice/{copy}"));
    // No time passes, because the original no longer holds its lane.
    world.until_status(&copy, "accepted").await;
    assert_eq!(world.note(&id).await["status"], "unknown");
    let repeated = again("once").await.expect("an answer");
    assert_eq!(repeated.headers()["idempotency-replayed"], "true");
    assert_eq!(read(repeated).await.1["id"], json!(copy));
    assert_eq!(world.delivered("linq").len(), 1);
    let (status, problem) = world.post(&format!("/voice/{copy}/resend")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("wrong_state")), "{problem}");
}

#[tokio::test]
async fn note_without_stored_audio_cannot_be_resent() {
    let world = World::start().await;
    let response = world.post_raw("to=%2B15557654321", fixture("speech-24k.mp3")).send().await;
    let id = read(response.expect("an answer")).await.1["id"].as_str().expect("an id").to_owned();
    world.until_status(&id, "failed").await;
    world.clock.advance(Duration::from_secs(90_000));
    remove_what_is_old(&world.gateway).await.expect("removed");
    let (status, problem) = world.post(&format!("/voice/{id}/resend")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::GONE, &json!("media_expired")), "{problem}");
}

/// The rate is enforced by waiting, regardless of the length of the queue.
#[tokio::test]
async fn connection_does_not_exceed_its_rate() {
    let world = World::with(|config| {
        config.replace(
            "token = \"sandbox-linq-token\"\n[tenants.a.connections.whatsapp]",
            "token = \"sandbox-linq-token\"\nrate = \"2/60s\"\n[tenants.a.connections.whatsapp]",
        )
    })
    .await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.accept("", fixture("speech-24k.mp3")).await);
    }
    for id in &ids[..2] {
        world.until_status(id, "accepted").await;
    }
    let other = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.until_status(&other, "accepted").await;
    assert_eq!(world.note(&ids[2]).await["status"], "queued");
    world.clock.advance(Duration::from_secs(60));
    world.until_status(&ids[2], "accepted").await;
}
