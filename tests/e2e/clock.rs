//! The wall clock is set while the gateway runs: this does not change the times or the order of sends.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use voicegate::model::clock::Clock;
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    bot::Bot,
    harness::{World, attempts, fixture},
};

/// Sets the wall clock and lets the worker read the queue.
fn jump(world: &World, hours: i64) {
    world.clock.jump(SignedDuration::from_hours(hours));
    world.gateway.wake_worker();
}

/// Waits until the worker has read the queue at the current time.
async fn worker_has_looked(world: &World) {
    let id = world.accept("via=imessage", fixture("speech.flac")).await;
    world.until_status(&id, "accepted").await;
}

/// Waits until an emulator has received the visible request.
async fn dispatched(world: &World) {
    while world.dispatches() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn rate_is_unaffected_by_setting_the_clock() {
    for hours in [-1, 1] {
        let world =
            World::with(|config| config.replacen("instance_id", "rate = \"1/60s\"\ninstance_id", 1)).await;
        let first = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
        world.until_status(&first, "accepted").await;
        let second = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
        jump(&world, hours);
        world.clock.advance(Duration::from_secs(50));
        worker_has_looked(&world).await;
        assert_eq!(world.note(&second).await["attempts"], json!([]), "{hours:+} h: its time has not come");
        world.clock.advance(Duration::from_secs(15));
        world.until_status(&second, "accepted").await;
    }
}

#[tokio::test]
async fn later_note_does_not_overtake_a_retry_to_the_same_recipient() {
    let world = World::start().await;
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, FaultAction::NotReady));
    let first = world.accept("", fixture("speech-24k.mp3")).await;
    world.until(&first, |note| attempts(note) == 1 && note["status"] == "queued").await;
    jump(&world, -1);
    let second = world.accept("", fixture("speech.flac")).await;
    world.clock.advance(Duration::from_secs(60));
    world.until_status(&second, "accepted").await;
    let first = world.note(&first).await;
    assert_eq!(first["status"], "accepted", "{first}");
    let order: Vec<_> = world.delivered("linq").into_iter().map(|entry| entry.message_id).collect();
    assert_eq!(order[0], first["provider_message_id"], "{order:?}");
}

#[tokio::test]
async fn answer_after_the_clock_was_set_is_recorded() {
    for hours in [-1, 1] {
        let world = World::start().await;
        let slow = FaultAction::Slow { ms: 1000 };
        world.sandbox.add_fault(Fault::new(Provider::WAWP, Operation::Voice, slow));
        let id = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
        dispatched(&world).await;
        jump(&world, hours);
        worker_has_looked(&world).await;
        let note = world.until(&id, |note| attempts(note) == 1).await;
        assert_eq!((&note["status"], world.dispatches()), (&json!("accepted"), 2), "{hours:+} h: {note}");
    }
}

/// A process that was suspended for the length of a lease still holds its notes.
#[tokio::test]
async fn answer_after_the_lease_ended_is_recorded() {
    let world = World::start().await;
    let slow = FaultAction::Slow { ms: 1000 };
    world.sandbox.add_fault(Fault::new(Provider::WAWP, Operation::Voice, slow));
    let id = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    dispatched(&world).await;
    world.clock.advance(world.gateway.live().lease() + Duration::from_secs(1));
    worker_has_looked(&world).await;
    let note = world.until(&id, |note| attempts(note) == 1).await;
    assert_eq!(note["status"], "accepted", "{note}");
}

#[tokio::test]
async fn expiry_is_unaffected_by_setting_the_clock() {
    let world = World::start().await;
    let status = FaultAction::RateLimit { retry_after: 100 };
    world.sandbox.add_fault(Fault::new(Provider::WAWP, Operation::Voice, status));
    let id = world.accept("via=whatsapp&expires_in=10m", fixture("speech-24k.mp3")).await;
    world.until(&id, |note| attempts(note) == 1 && note["status"] == "queued").await;
    jump(&world, 1);
    worker_has_looked(&world).await;
    assert_eq!(world.note(&id).await["status"], "queued");
    world.clock.advance(Duration::from_secs(120));
    world.until_status(&id, "accepted").await;
}

/// Bots refuse signatures that are old by their own clock.
#[tokio::test]
async fn webhook_timestamp_is_wall_clock_time() {
    let bot = Bot::start().await;
    let hook = format!(
        "[tenants.a.webhook]\nurl = \"{}\"\nsecrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n",
        bot.url
    );
    let world = World::with(|config| format!("{config}\n{hook}")).await;
    jump(&world, 1);
    world.accept("", fixture("speech-24k.mp3")).await;
    let told = bot.told(1).await;
    assert_eq!(told[0].timestamp, world.clock.wall().as_second().to_string());
}

#[tokio::test]
async fn clock_jump_is_counted_in_the_metrics() {
    let world = World::start().await;
    let count = async || {
        let mut metrics = world.get("/metrics").send().await.expect("an answer");
        let mut text = Vec::new();
        while let Some(chunk) = metrics.chunk().await.expect("the metrics") {
            text.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(text).expect("text");
        let line =
            text.lines().find(|line| line.starts_with("voicegate_clock_jumps_total{direction=\"back\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = count().await;
    jump(&world, -2);
    worker_has_looked(&world).await;
    assert!(count().await > before, "other tests of this process may count, too");
}
