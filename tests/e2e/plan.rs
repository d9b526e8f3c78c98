//! `POST /voice/plan`: the plan agrees with the result of sending.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{KEY, World, fixture, read};

async fn plan(world: &World, query: &str, file: &str) -> (StatusCode, Value) {
    let url = format!("{}/voice/plan?{query}&filename={file}", world.url);
    let request = world.http.post(url).bearer_auth(KEY).header("content-type", "application/octet-stream");
    read(request.body(fixture(file)).send().await.expect("an answer")).await
}

fn reasons(connection: &Value) -> Vec<&str> {
    let reasons = connection["reasons"].as_array().expect("a list").iter();
    reasons.map(|reason| reason["code"].as_str().expect("a code")).collect()
}

#[tokio::test]
async fn plan_predicts_what_is_sent() {
    let world = World::start().await;
    for (query, file) in [
        ("via=imessage", "speech-24k.mp3"),
        ("via=imessage&convert=always", "speech-24k.mp3"),
        ("via=imessage", "speech.flac"),
        ("via=whatsapp", "speech-24k.mp3"),
        ("via=whatsapp", "speech-opus-wideband.ogg"),
        ("via=whatsapp&convert=never", "recorder-wideband.ogg"),
        ("via=whatsapp", "speech-wideband.webm"),
        ("via=whatsapp&convert=provider", "speech.flac"),
    ] {
        let query = format!("to=%2B15551234567&{query}");
        let (status, planned) = plan(&world, &query, file).await;
        assert_eq!(status, StatusCode::OK, "{planned}");
        assert_eq!(planned["connections"].as_array().map(Vec::len), Some(1));
        let connection = &planned["connections"][0];
        assert_eq!(
            (&connection["verdict"], &connection["form"]),
            (&json!("ok"), &json!("voice")),
            "{planned}"
        );
        let request = world.post_raw(&format!("{query}&filename={file}"), fixture(file));
        let (status, note) = read(request.header("prefer", "wait=30").send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::OK, "{note}");

        let sent = &note["audio"]["sent"];
        assert_eq!(planned["audio"]["sha256"], note["audio"]["source"]["sha256"]);
        for field in ["profile", "work"] {
            assert_eq!(connection[field], sent[field], "{file} {query}: {field}");
        }
        for field in ["container", "codec", "mime_type", "sample_rate", "channels"] {
            assert_eq!(connection["audio"][field], sent[field], "{file} {query}: {field}");
        }
        let number = |value: &Value| value.as_f64().expect("a number");
        let apart = number(&connection["audio"]["duration_ms"]) - number(&sent["duration_ms"]);
        assert!(apart.abs() <= 60.0, "{file} {query}: {apart} ms");
        let ratio = number(&connection["audio"]["size_bytes"]) / number(&sent["size_bytes"]);
        // A file of three seconds is a tenth container.
        let guessed = if connection["work"] == "none" { 1.0..=1.0 } else { 0.75..=1.35 };
        assert!(guessed.contains(&ratio), "{file} {query}: {ratio}");
    }
}

#[tokio::test]
async fn plan_covers_every_connection_of_the_route() {
    let world = World::start().await;
    let (_, planned) = plan(&world, "to=15551234567@c.us&reply_to=abc&via=both", "speech-24k.mp3").await;
    let connections = planned["connections"].as_array().expect("a list");
    let [imessage, whatsapp] = &connections[..] else { panic!("{planned}") };
    assert_eq!((&imessage["connection"], &imessage["verdict"]), (&json!("imessage"), &json!("refused")));
    assert!(imessage["work"].is_null() && imessage["audio"].is_null() && imessage["form"].is_null());
    assert!(reasons(imessage).contains(&"recipient_unsupported"), "{planned}");
    assert_eq!(whatsapp["verdict"], "ok", "{planned}");

    let (_, planned) = plan(&world, "to=%2B15551234567&reply_to=abc&via=imessage", "speech-24k.mp3").await;
    let connection = &planned["connections"][0];
    assert_eq!((&connection["verdict"], reasons(connection)), (&json!("warning"), vec!["reply_unsupported"]));
    let (_, planned) =
        plan(&world, "to=%2B15551234567&reply_to=abc&via=imessage&strict=true", "speech-24k.mp3").await;
    assert_eq!(planned["connections"][0]["verdict"], "refused", "{planned}");

    let (_, planned) = plan(&world, "to=%2B15551234567&convert=never&via=both", "speech-24k.mp3").await;
    let verdicts: Vec<_> =
        planned["connections"].as_array().expect("a list").iter().map(|c| &c["verdict"]).collect();
    assert_eq!(verdicts, ["ok", "refused"], "{planned}");
    assert_eq!(reasons(&planned["connections"][1]), ["convert_refused"]);
}

#[tokio::test]
async fn plan_stores_nothing_and_refuses_invalid_requests() {
    let world = World::start().await;
    plan(&world, "to=%2B15551234567", "speech.flac").await;
    for (query, code) in [
        ("to=nobody", "recipient_invalid"),
        ("to=%2B15551234567&via=pigeon", "unknown_connection"),
        ("to=alias:nobody", "recipient_invalid"),
    ] {
        let (_, problem) = plan(&world, query, "speech-24k.mp3").await;
        assert_eq!(problem["code"], code, "{problem}");
    }
    let (status, problem) = plan(&world, "to=%2B15551234567", "page.mp3").await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("audio_unreadable")));
    let (_, notes) = read(world.get("/voice").send().await.expect("an answer")).await;
    assert_eq!(notes["items"], json!([]));
    assert!(world.sandbox.requests().is_empty() && world.stray_files().is_empty());
    let (_, connections) = read(world.get("/connections").send().await.expect("an answer")).await;
    let audio = &connections["items"][1]["capabilities"]["audio"];
    assert!(audio["makes"].as_str().is_some_and(|makes| makes.contains("16 kHz")), "{connections}");
}
