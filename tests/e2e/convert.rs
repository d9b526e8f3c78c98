//! `convert`, and the ways in which a connection passes audio to its provider.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{World, fixture, read};

async fn send(world: &World, query: &str, file: &str) -> (StatusCode, Value) {
    let request = world.post_raw(&format!("to=%2B15551234567&{query}&filename={file}"), fixture(file));
    read(request.header("prefer", "wait=30").send().await.expect("an answer")).await
}

fn work(note: &Value) -> (&str, &str) {
    let sent = &note["audio"]["sent"];
    (sent["work"].as_str().unwrap_or("-"), sent["container"].as_str().unwrap_or("-"))
}

#[tokio::test]
async fn convert_controls_transcoding() {
    let world = World::start().await;
    for (query, file, expected) in [
        ("via=imessage&convert=auto", "speech-24k.mp3", ("none", "mp3")),
        ("via=imessage&convert=true", "speech-24k.mp3", ("none", "mp3")),
        ("via=imessage&convert=always", "speech-24k.mp3", ("transcoded", "mp4")),
        ("via=imessage&convert=never", "speech-24k.mp3", ("none", "mp3")),
        ("via=imessage&convert=provider", "speech.flac", ("transcoded", "mp4")),
        ("via=whatsapp&convert=never", "speech-opus-wideband.ogg", ("remuxed", "ogg")),
        ("via=whatsapp&convert=never", "recorder-wideband.ogg", ("none", "ogg")),
        ("via=whatsapp&convert=always", "recorder-wideband.ogg", ("transcoded", "ogg")),
        ("via=whatsapp&convert=provider", "speech-24k.mp3", ("none", "mp3")),
        ("via=whatsapp&convert=provider", "speech.aac", ("none", "adts")),
        ("via=whatsapp&convert=provider", "speech.wav", ("none", "wav")),
        ("via=whatsapp&convert=provider", "speech.flac", ("transcoded", "mp3")),
    ] {
        let (status, note) = send(&world, query, file).await;
        assert_eq!((status, work(&note)), (StatusCode::OK, expected), "{query} {file}: {note}");
    }
    let converted: Vec<_> = world.delivered("wawp").into_iter().map(|entry| entry.convert).collect();
    assert_eq!(converted, [false, false, false, true, true, true, true].map(Some));
    assert!(world.sandbox.ledger().iter().all(|entry| entry.problems.is_empty()));
}

#[tokio::test]
async fn convert_never_refuses_unsuitable_audio_at_once() {
    let world = World::start().await;
    for (query, file) in [
        ("via=whatsapp&convert=never", "speech-24k.mp3"),
        ("via=whatsapp&convert=false", "speech-opus-stereo.ogg"),
        ("via=imessage&convert=never", "speech.flac"),
    ] {
        let (status, problem) = send(&world, query, file).await;
        let expected = (StatusCode::UNPROCESSABLE_ENTITY, &json!("convert_refused"));
        assert_eq!((status, &problem["code"]), expected, "{query} {file}: {problem}");
        assert_eq!(problem["id"], Value::Null, "nothing was stored");
    }
}

#[tokio::test]
async fn settings_of_a_connection_affect_its_requests() {
    let world = World::with(|config| {
        config
            .replacen("token = \"sandbox-linq-token\"", "token = \"sandbox-linq-token\"\nintake = \"url\"", 1)
            .replacen("access_token", "file_fields = \"nested\"\nconvert = \"provider\"\naccess_token", 1)
    })
    .await;
    for via in ["imessage", "whatsapp"] {
        let (status, note) = send(&world, &format!("via={via}"), "speech-24k.mp3").await;
        assert_eq!((status, work(&note)), (StatusCode::OK, ("none", "mp3")), "{note}");
    }
    let [linq, wawp] = ["linq", "wawp"].map(|provider| world.delivered(provider).remove(0));
    assert!(linq.request["voice_memo_url"].is_string(), "{}", linq.request);
    assert!(wawp.request["file"]["url"].is_string(), "{}", wawp.request);
    assert_eq!((wawp.convert, wawp.problems.len(), linq.problems.len()), (Some(true), 0, 0));
}

#[tokio::test]
async fn every_kind_of_whatsapp_recipient_is_reached() {
    let world = World::start().await;
    for (to, conversation) in [
        ("%2B15551234567", "15551234567@c.us"),
        ("15551234567@c.us", "15551234567@c.us"),
        ("15551234567@s.whatsapp.net", "15551234567@c.us"),
        ("120363000000000000@g.us", "120363000000000000@g.us"),
        ("120363000000000000@newsletter", "120363000000000000@newsletter"),
        ("123456789012345@lid", "123456789012345@lid"),
    ] {
        world.sandbox.clear();
        let request = world.post_raw(&format!("to={to}&via=whatsapp"), fixture("recorder-wideband.ogg"));
        let (status, note) = read(request.header("prefer", "wait=30").send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::OK, "{note}");
        assert_eq!(world.delivered("wawp")[0].conversation, conversation);
    }
}

#[tokio::test]
async fn declared_samples_are_a_voice_note_in_both_bodies() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let world = World::start().await;
    let format = json!({ "encoding": "s16le", "sample_rate": 16000, "channels": 1 });
    let body = json!({
        "to": "+15551234567",
        "audio": { "data": BASE64_STANDARD.encode(fixture("speech.s16le")), "format": format },
    });
    let request = world.post_json(&body).header("prefer", "wait=30");
    let (status, note) = read(request.send().await.expect("an answer")).await;
    assert_eq!((status, work(&note)), (StatusCode::OK, ("transcoded", "mp4")), "{note}");
    assert_eq!(note["audio"]["source"]["container"], "pcm");
    let query = format!(
        "to=%2B15551234567&format={}",
        url::form_urlencoded::byte_serialize(format.to_string().as_bytes()).collect::<String>()
    );
    let request = world.post_raw(&query, fixture("speech.s16le")).header("prefer", "wait=30");
    let (status, again) = read(request.send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::OK, "{again}");
    assert_eq!(again["audio"]["sent"]["sha256"], note["audio"]["sent"]["sha256"]);
}
