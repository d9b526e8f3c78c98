//! Providers that close idle connections: a note that was not sent never becomes unknown.

use std::time::Duration;

use reqwest::StatusCode;
use voicegate_sandbox::{NewChat, Service};

use crate::harness::{World, fixture, read};

const NOTES: usize = 60;

/// Sends one note to each of many recipients, a few at a time. Each has to be accepted.
async fn send(world: &World, via: &str) {
    let mut ids = Vec::new();
    for number in 0..NOTES {
        let to = format!("+1555000{number:04}");
        if via == "imessage" {
            let service = Some(Service::IMessage);
            world.sandbox.add_chat(NewChat { handles: vec![to.clone()], service, is_group: false, id: None });
        }
        let query = format!("to=%2B{}&via={via}", &to[1..]);
        let request = world.post_raw(&query, fixture("speech-24k.mp3"));
        let (status, note) = read(request.send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{note}");
        ids.push(note["id"].as_str().expect("an id").to_owned());
    }
    for id in ids {
        loop {
            let note = world.note(&id).await;
            match note["status"].as_str() {
                Some("accepted") => break,
                Some("unknown" | "failed") => panic!("{note:#}"),
                _ => {
                    // An upload may fail on a closed connection, and is repeated.
                    world.clock.advance(Duration::from_millis(200));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn no_note_is_unknown_if_idle_connections_are_closed_after_5_ms() {
    let world = World::start().await;
    world.sandbox.close_idle_after(Some(Duration::from_millis(5)));
    send(&world, "whatsapp").await;
    assert_eq!(world.delivered("wawp").len(), NOTES);
    assert_eq!(world.sandbox.connections(), NOTES as u64, "one for each note");

    send(&world, "imessage").await;
    assert_eq!(world.delivered("linq").len(), NOTES);
}

/// If a server keeps connections open, one is opened while the note is prepared, and the note uses no other.
#[tokio::test]
async fn provider_gets_one_connection_per_note() {
    let world = World::start().await;
    send(&world, "whatsapp").await;
    assert_eq!(world.sandbox.connections(), NOTES as u64);
}
