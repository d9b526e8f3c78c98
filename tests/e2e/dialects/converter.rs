//! The converter of Evolution, and that of WAHA: the bytes that would be sent, and nothing kept.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Method, RequestBuilder, StatusCode, multipart};
use serde_json::json;

use super::{Answer, Audio, Door, answer, served};
use crate::harness::{KEY, World, fixture, read};

fn process(world: &World) -> RequestBuilder {
    world.compat(Method::POST, "converter/process-audio").header("apikey", KEY)
}

#[tokio::test]
async fn audio_is_converted_from_every_body_and_nothing_is_kept() {
    let world = World::start().await;
    let mp3 = fixture("speech-24k.mp3");
    let data = BASE64_STANDARD.encode(&mp3);
    let Audio::Url(url) = served().await else { unreachable!("an address") };
    let part = multipart::Part::bytes(mp3.clone()).file_name("a.mp3");
    let mut seen = Vec::new();
    for request in [
        process(&world).multipart(multipart::Form::new().part("file", part)),
        process(&world).multipart(multipart::Form::new().text("base64", data.clone()).text("format", "ogg")),
        process(&world).multipart(multipart::Form::new().text("url", url.clone())),
        process(&world).header("content-type", "application/x-www-form-urlencoded").body(format!(
            "format=ogg&base64={}",
            data.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
        )),
        process(&world).json(&json!({ "base64": data, "format": "ogg", "transcribe": false })),
    ] {
        let Answer { status, body, .. } = answer(request).await;
        assert_eq!((status, &body["format"]), (StatusCode::OK, &json!("ogg")), "{body}");
        let duration = body["duration"].as_u64().expect("whole seconds");
        assert!(duration >= 1, "{duration}");
        let bytes = BASE64_STANDARD.decode(body["audio"].as_str().expect("base64")).expect("base64");
        assert_eq!(&bytes[..4], b"OggS");
        seen.push((duration, bytes));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "the same audio, whatever the body");
    let as_mp3 = answer(process(&world).json(&json!({ "base64": data, "format": "mp3" }))).await.body;
    let bytes = BASE64_STANDARD.decode(as_mp3["audio"].as_str().expect("base64")).expect("base64");
    assert!(bytes.starts_with(b"ID3") || bytes[0] == 0xff, "{:?}", &bytes[..4]);
    assert_eq!((world.stray_files().len(), world.app.memory.used()), (0, 0));
    let notes: serde_json::Value = read(world.get("/voice").send().await.expect("an answer")).await.1;
    assert_eq!(notes["items"], json!([]));
}

#[tokio::test]
async fn refusals_of_the_converter_are_in_its_words() {
    let world = World::start().await;
    let key = |key: &str| world.compat(Method::POST, "converter/process-audio").header("apikey", key);
    for (request, status) in [
        (key("nobody's").json(&json!({})), 401),
        (process(&world).json(&json!({})), 400),
        (process(&world).json(&json!({ "base64": "no base64 at all!" })), 400),
        (process(&world).json(&json!({ "base64": "AAAA", "format": "wav" })), 400),
        (process(&world).json(&json!({ "base64": BASE64_STANDARD.encode([7; 5000]) })), 422),
        (process(&world).json(&json!({ "url": "https://10.0.0.1/a.mp3" })), 422),
    ] {
        let refused = answer(request).await;
        assert_eq!(refused.status, status, "{}", refused.body);
        assert!(refused.body["error"].as_str().expect("a text").len() > 5, "{}", refused.body);
    }
}

#[tokio::test]
async fn converter_of_waha_answers_with_bytes_or_json() {
    let world = World::of_dialects().await;
    let body = json!({ "data": BASE64_STANDARD.encode(fixture("speech-24k.mp3")) });
    let post = |session: &str| {
        let path = format!("waha/api/{session}/media/convert/voice");
        Door::Waha.with_key(world.compat(Method::POST, &path), KEY)
    };
    let as_json = answer(post("default").header("accept", "application/json").json(&body)).await;
    assert_eq!(as_json.status, StatusCode::OK, "{}", as_json.body);
    assert_eq!(as_json.body["mimetype"], "audio/ogg; codecs=opus");
    let data = BASE64_STANDARD.decode(as_json.body["data"].as_str().expect("base64")).expect("base64");
    let mut plain = post("support")
        .header("accept", "audio/ogg; codecs=opus")
        .json(&body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(plain.headers()["content-type"], "audio/ogg; codecs=opus");
    let mut bytes = Vec::new();
    while let Some(piece) = plain.chunk().await.expect("a piece") {
        bytes.extend(piece);
    }
    assert_eq!(bytes, data);
    for (request, status) in [(post("nobody").json(&body), 404), (post("default").json(&json!({})), 400)] {
        let refused = answer(request).await;
        assert_eq!(refused.status, status, "{}", refused.body);
        Door::Waha.problem(&refused);
    }
}
