//! Recordings of a browser's microphone, from the sandbox's page to the bot.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    harness::{World, fixture, read, whole},
    house::{path, received},
    inbound::{PROVIDERS, received_by, with_emulators},
};

/// Sends a recording in, as the page does, and returns what the sandbox shows of it.
async fn record(world: &World, base: &str, provider: &str, recording: &[u8]) -> Value {
    let from = PROVIDERS.iter().find(|(name, ..)| *name == provider).expect("a provider").2;
    let order = json!({
        "provider": provider, "from": from, "sender_name": "You", "audio": BASE64_STANDARD.encode(recording),
    });
    let request = world.http.post(format!("{base}/sandbox/inbound")).body(order.to_string());
    let (status, sent) = read(request.send().await.expect("an answer")).await;
    assert_eq!(status, 201, "{provider}: {sent}");
    assert_eq!(sent["answers"][0], "200", "{provider}: {sent}");
    sent
}

/// Browsers record WebM. Every provider states what its file is; an iPhone sends CAF, by which Linq's voice notes are known.
#[tokio::test(flavor = "multi_thread")]
async fn recording_of_a_browser_arrives_as_a_voice_note_with_its_own_facts() {
    let (world, bot, base) = with_emulators("").await;
    let recording = fixture("speech-live.webm");
    for (turn, (provider, ..)) in PROVIDERS.into_iter().enumerate() {
        let sent = record(&world, &base, provider, &recording).await;
        let note = received(&received_by(&bot, turn + 1).await[turn]);
        assert_eq!(
            (&note["status"], &note["form"]),
            (&json!("received"), &json!("voice")),
            "{provider}: {note}"
        );
        let native = &note["audio"]["native"];
        let container = if provider == "linq" { "caf" } else { "webm" };
        assert_eq!(
            (&native["container"], &native["codec"], &native["channels"]),
            (&json!(container), &json!("opus"), &json!(1)),
            "{provider}: {native}"
        );
        assert_eq!(native["mime_type"], sent["mime_type"], "{provider} states what the file is");
        assert_eq!(native["size_bytes"], sent["size_bytes"], "{provider}");
        let length = native["duration_ms"].as_u64().expect("a length");
        assert!(length.abs_diff(3000) <= 20, "{provider}: {native}");
        assert!(
            sent["audio"]["duration_ms"].as_u64().is_some_and(|told| told.abs_diff(length) <= 10),
            "{sent}"
        );
        if provider != "linq" {
            let file = world.get(path(&native["url"])).send().await.expect("an answer");
            assert_eq!(whole(file).await, recording, "{provider}");
        }
        // The page plays what was recorded, since browsers cannot play CAF.
        let url = format!("{base}/sandbox/inbound/{}/audio", path(&sent["id"]));
        let played = world.http.get(url).send().await.expect("an answer");
        assert_eq!(whole(played).await, recording, "{provider}");
    }
}

/// A file that is no recording of an iPhone stays what it is, and Linq does not pretend otherwise.
#[tokio::test]
async fn file_that_is_no_recording_of_an_iphone_comes_in_as_audio() {
    let (world, bot, base) = with_emulators("").await;
    let mp3 = fixture("speech-24k.mp3");
    let sent = record(&world, &base, "linq", &mp3).await;
    assert_eq!(sent["mime_type"], "audio/mpeg");
    let note = received(&received_by(&bot, 1).await[0]);
    assert_eq!(
        (&note["status"], &note["form"], &note["audio"]["native"]["container"]),
        (&json!("received"), &json!("audio"), &json!("mp3")),
        "{note}"
    );
    let caf = fixture("speech-opus.caf");
    let sent = record(&world, &base, "linq", &caf).await;
    assert_eq!((&sent["mime_type"], &sent["size_bytes"]), (&json!("audio/x-caf"), &json!(caf.len())));
    let note = received(&received_by(&bot, 2).await[1]);
    assert_eq!((&note["status"], &note["form"]), (&json!("received"), &json!("voice")), "{note}");
}
