//! The render cache: at most one run of ffmpeg for a note, and none for the next note with the same audio.

use reqwest::StatusCode;
use serde_json::Value;
use voicegate_sandbox::{NewChat, Service};

use crate::harness::{World, fixture, read};

/// The number of runs of ffmpeg so far, without the self-test.
pub async fn runs(world: &World) -> u64 {
    let answer = world.http.get(format!("{}/metrics", world.url)).send().await.expect("an answer");
    let text = String::from_utf8(crate::links::body(answer).await).expect("UTF-8");
    let counts = text.lines().filter(|line| {
        line.starts_with("voicegate_ffmpeg_runs_total{") && !line.contains("purpose=\"self-test\"")
    });
    counts.map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number")).sum()
}

async fn send(world: &World, query: &str, file: &str) -> Value {
    let request = world.post_raw(query, fixture(file)).header("prefer", "wait=30");
    let (status, note) = read(request.send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::OK, "{note}");
    assert_eq!(note["audio"]["waveform"].as_array().map(Vec::len), Some(64), "{note}");
    note
}

#[tokio::test]
async fn identical_audio_is_rendered_once() {
    let world = World::start().await;
    let handles = vec!["+15557654321".to_owned()];
    world.sandbox.add_chat(NewChat { handles, service: Some(Service::IMessage), ..NewChat::default() });
    for (query, file, needed) in [
        // Clean audio that is sent untouched or wrapped anew is decoded by the gateway itself.
        ("via=imessage", "speech-24k.mp3", 0),
        ("via=whatsapp", "speech-24k.mp3", 1),
        ("via=whatsapp", "speech.wav", 1),
        ("via=whatsapp", "speech-opus-wideband.ogg", 0),
        ("via=imessage&convert=always", "speech-moov-first.m4a", 1),
    ] {
        let before = runs(&world).await;
        let first = send(&world, &format!("to=%2B15551234567&{query}"), file).await;
        assert_eq!(runs(&world).await - before, needed, "{query} {file}");
        let second = send(&world, &format!("to=%2B15557654321&{query}"), file).await;
        assert_eq!(runs(&world).await - before, needed, "{query} {file} again");
        assert_eq!(first["audio"], second["audio"]);
    }
}

#[tokio::test]
async fn simultaneous_notes_share_one_run_of_ffmpeg() {
    let world = World::start().await;
    let before = runs(&world).await;
    let mut ids = Vec::new();
    for n in 0..12 {
        let request =
            world.post_raw(&format!("to=%2B155512300{n:02}&via=whatsapp"), fixture("speech-24k.mp3"));
        let (_, note) = read(request.send().await.expect("an answer")).await;
        ids.push(note["id"].as_str().expect("an id").to_owned());
    }
    for id in &ids {
        world.until_status(id, "accepted").await;
    }
    assert_eq!(runs(&world).await - before, 1);
    let digests: std::collections::BTreeSet<_> =
        world.delivered("wawp").into_iter().map(|entry| entry.sha256).collect();
    assert_eq!((digests.len(), world.delivered("wawp").len()), (1, 12));
}

#[tokio::test]
async fn an_erased_note_leaves_no_render_behind() {
    let world = World::start().await;
    let query = "to=%2B15551234567&via=whatsapp";
    let note = send(&world, query, "speech-24k.mp3").await;
    let before = runs(&world).await;
    let id = note["id"].as_str().expect("an id");
    let erased = world.http.delete(format!("{}/voice/{id}", world.url)).bearer_auth(crate::harness::KEY);
    assert_eq!(erased.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    send(&world, query, "speech-24k.mp3").await;
    assert_eq!(runs(&world).await - before, 1);
}
