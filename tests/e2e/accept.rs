//! `POST /voice`: every body, every answer, every refusal.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{PHONE, World, fixture, read};

#[tokio::test]
async fn json_with_data_arrives_as_a_voice_note() {
    let world = World::start().await;
    let body = json!({
        "to": "+1 (555) 123-4567",
        "audio": { "data": BASE64_STANDARD.encode(fixture("speech-24k.mp3")) },
        "metadata": { "order": 7 },
    });
    let response = world.post_json(&body).send().await.expect("an answer");
    let location = response.headers()["location"].to_str().expect("text").to_owned();
    let (status, note) = read(response).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{note}");
    let id = note["id"].as_str().expect("an id");
    assert_eq!(location, format!("/voice/{id}"));
    assert_eq!(note["status"], "queued");
    assert_eq!(note["to"], PHONE);
    assert_eq!(note["audio"]["source"]["codec"], "mp3");
    assert_eq!(note["audio"]["source"]["duration_ms"], 3000);
    assert!(note["audio"]["waveform"].is_null(), "known by its structure, not decoded yet: {note}");

    let note = world.until_status(id, "accepted").await;
    assert_eq!(note["audio"]["waveform"].as_array().map(Vec::len), Some(64));
    assert_eq!(note["form"], "voice");
    assert_eq!(note["metadata"], json!({ "order": 7 }));
    assert_eq!(note["attempts"][0]["outcome"], "accepted");
    assert!(note["attempts"][0]["trace"].is_string());
    let arrived = world.delivered("linq");
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].problems, [""; 0]);
    assert_eq!(note["provider_message_id"], arrived[0].message_id);
}

#[tokio::test]
async fn a_data_uri_and_wrapped_base64_are_read_too() {
    let world = World::start().await;
    let wrapped = BASE64_STANDARD.encode(fixture("speech-24k.mp3"));
    let wrapped: Vec<_> = wrapped.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
    let body = json!({ "to": PHONE, "audio": { "data": wrapped.join("\r\n") } });
    let (status, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{note}");
    let data = format!("data:audio/mpeg;base64,{}", BASE64_STANDARD.encode(fixture("speech-24k.mp3")));
    let (status, note) = read(
        world.post_json(&json!({ "to": PHONE, "audio": { "data": data } })).send().await.expect("an answer"),
    )
    .await;
    assert_eq!(status, StatusCode::ACCEPTED, "{note}");
}

#[tokio::test]
async fn prefer_wait_answers_with_the_final_status() {
    let world = World::start().await;
    let send = |to: &'static str| {
        world
            .post_raw(&format!("to={to}"), fixture("speech-24k.mp3"))
            .header("prefer", "respond-async, wait=30")
    };
    let response = send("%2B15551234567").send().await.expect("an answer");
    assert_eq!(response.headers()["preference-applied"], "wait=30");
    let (status, note) = read(response).await;
    assert_eq!((status, note["status"].as_str()), (StatusCode::OK, Some("accepted")));

    // A number without a chat is refused permanently, and the problem names the note.
    let (status, problem) = read(send("%2B15557654321").send().await.expect("an answer")).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, Some("recipient_unsupported"))
    );
    assert!(problem["detail"].as_str().expect("text").contains("open_chat"), "{problem}");
    let id = problem["id"].as_str().expect("an id");
    assert_eq!(world.note(id).await["status"], "failed");
}

#[tokio::test]
async fn repeated_idempotency_key_returns_the_same_note() {
    let world = World::start().await;
    let send = |audio: &str, text: &str| {
        world
            .post_raw(&format!("to=%2B15551234567&text={text}"), fixture(audio))
            .header("idempotency-key", "order-7")
            .send()
    };
    // The result is the same if both requests arrive at the same time.
    let (first, second) = tokio::join!(send("speech-24k.mp3", "hi"), send("speech-24k.mp3", "hi"));
    let responses = [first.expect("an answer"), second.expect("an answer")];
    let replayed: Vec<_> =
        responses.iter().map(|r| r.headers().contains_key("idempotency-replayed")).collect();
    let mut ids = Vec::new();
    for response in responses {
        let (status, note) = read(response).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        ids.push(note["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(replayed.iter().filter(|replayed| **replayed).count(), 1);
    world.until_status(&ids[0], "accepted").await;
    assert_eq!(world.delivered("linq").len(), 1);

    let later = send("speech-24k.mp3", "hi").await.expect("an answer");
    assert_eq!(later.headers()["idempotency-replayed"], "true");
    assert_eq!(read(later).await.1["status"], "accepted");
    for (audio, text) in [("speech.flac", "hi"), ("speech-24k.mp3", "ho")] {
        let (status, problem) = read(send(audio, text).await.expect("an answer")).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (StatusCode::CONFLICT, Some("idempotency_key_reused"))
        );
    }
    // A refused request claims no key.
    let refused =
        world.post_raw("to=%2B15551234567", b"nonsense".to_vec()).header("idempotency-key", "k2").send();
    assert_eq!(refused.await.expect("an answer").status(), StatusCode::UNPROCESSABLE_ENTITY);
    let good =
        world.post_raw("to=%2B15551234567", fixture("speech-24k.mp3")).header("idempotency-key", "k2").send();
    assert_eq!(good.await.expect("an answer").status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn every_wrong_request_says_what_to_do() {
    let world = World::start().await;
    let url = json!({ "url": "https://example.com/a.mp3" });
    let json_cases: Vec<(Value, u16, &str, &str)> = vec![
        (json!({ "audio": url }), 400, "invalid_request", "to"),
        (json!({ "to": PHONE }), 400, "invalid_request", "audio"),
        (json!({ "to": PHONE, "audio": {} }), 400, "invalid_request", "audio"),
        (
            json!({ "to": PHONE, "audio": { "url": "https://e.com/a", "data": "AAAA" } }),
            400,
            "invalid_request",
            "audio",
        ),
        (json!({ "to": PHONE, "audio": url, "tone": 1 }), 400, "invalid_request", "tone"),
        (
            json!({ "to": PHONE, "audio": { "url": "https://e.com/a", "speed": 2 } }),
            400,
            "invalid_request",
            "audio.speed",
        ),
        (json!({ "to": 7, "audio": url }), 400, "invalid_request", "to"),
        (json!({ "to": PHONE, "audio": url, "convert": "maybe" }), 400, "invalid_request", "convert"),
        (json!({ "to": PHONE, "audio": url, "expires_in": "soon" }), 400, "invalid_request", "expires_in"),
        (json!({ "to": PHONE, "audio": url, "metadata": [] }), 400, "invalid_request", "metadata"),
        (
            json!({ "to": PHONE, "audio": url, "metadata": { "x": "y".repeat(5000) } }),
            400,
            "invalid_request",
            "metadata",
        ),
        (json!({ "to": PHONE, "audio": { "data": "%%%" } }), 400, "invalid_request", "audio.data"),
        (json!({ "to": PHONE, "audio": { "url": "not a url" } }), 400, "invalid_request", "audio.url"),
        (
            json!({ "to": PHONE, "audio": { "url": "https://e.com/a", "headers": { "a b": "c" } } }),
            400,
            "invalid_request",
            "audio.headers",
        ),
        (
            json!({ "to": PHONE, "audio": { "data": "AAAA", "format": { "encoding": "s16le", "sample_rate": 24000, "channels": 0 } } }),
            400,
            "invalid_request",
            "audio.format",
        ),
        (json!({ "to": "bob", "audio": url }), 400, "recipient_invalid", "to"),
        (json!({ "to": "alias:nobody", "audio": url }), 400, "recipient_invalid", "to"),
        (json!({ "to": "15551234567@c.us", "audio": url }), 422, "recipient_unsupported", "to"),
        (json!({ "to": PHONE, "audio": url, "via": "fax" }), 422, "unknown_connection", "via"),
        (
            json!({ "to": PHONE, "audio": { "url": "https://10.0.0.1/a.mp3" } }),
            422,
            "source_forbidden",
            "audio.url",
        ),
        (
            json!({ "to": PHONE, "audio": { "url": "file:///etc/passwd" } }),
            422,
            "source_forbidden",
            "audio.url",
        ),
        (json!({ "to": PHONE, "audio": { "data": "" } }), 422, "audio_unreadable", ""),
        (
            json!({ "to": PHONE, "audio": url, "reply_to": "abc", "strict": true }),
            422,
            "reply_unsupported",
            "reply_to",
        ),
    ];
    for (body, status, code, field) in json_cases {
        let response = world.post_json(&body).send().await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let (got, problem) = read(response).await;
        assert_eq!((got.as_u16(), &problem["code"]), (status, &json!(code)), "{body} gave {problem}");
        let got = problem["field"].as_str().unwrap_or_default();
        assert!(got == field || (field == "audio.format" && got.starts_with(field)), "{body} gave {problem}");
        assert!(!problem["detail"].as_str().expect("text").is_empty());
    }
    assert_eq!(world.gateway.store.queue_depth().await.expect("a number"), 0);
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn http_errors_are_problems_too() {
    let world = World::with(|config| {
        config.replace("[storage]", "max_body = \"64 KiB\"\nmax_json_body = \"1 KiB\"\n[storage]")
    })
    .await;
    let post = || world.http.post(format!("{}/voice", world.url)).bearer_auth(crate::harness::KEY);
    let too_big = vec![0_u8; 70_000];
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(vec![Ok::<_, std::io::Error>(
        too_big.clone(),
    )]));
    for (request, status, code) in [
        (world.get("/nowhere"), 404, "not_found"),
        (world.http.put(format!("{}/voice", world.url)), 405, "method_not_allowed"),
        (world.get("/voice/vn_1"), 404, "not_found"),
        (world.get("/m/abc/voice.ogg"), 404, "not_found"),
        (world.http.get(format!("{}/voice/x", world.url)), 401, "unauthorized"),
        (world.http.get(format!("{}/voice/x", world.url)).bearer_auth("wrong"), 401, "unauthorized"),
        (post().header("content-type", "application/json").body("{\"to\""), 400, "invalid_request"),
        (post().header("content-type", "application/json").body("{} {}"), 400, "invalid_request"),
        (post().header("content-type", "application/json").body("[]"), 400, "invalid_request"),
        (post().header("content-type", "application/json").body("{"), 400, "invalid_request"),
        (world.get("/voice/%ff"), 404, "not_found"),
        (world.get("/m/%ff/%ff"), 404, "not_found"),
        (world.post_raw("to=+15551234567", vec![1]), 400, "recipient_invalid"),
        (world.post_raw("to=telegram:12345", vec![1]), 422, "recipient_unsupported"),
        (world.post_raw("to=linq:12345", vec![1]), 400, "recipient_invalid"),
        (
            post().header("content-type", "application/json").body(format!("[{}]", "1,".repeat(2000))),
            413,
            "audio_too_large",
        ),
        (post().header("content-type", "text/plain").body("hi"), 415, "unsupported_media_type"),
        (post().body("hi"), 415, "unsupported_media_type"),
        (world.post_raw("to=%2B15551234567", too_big), 413, "audio_too_large"),
        (world.post_raw("to=%2B15551234567", Vec::new()).body(chunked), 413, "audio_too_large"),
        (world.post_raw("", vec![1]), 400, "invalid_request"),
        (world.post_raw("to=%2B15551234567&to=x", vec![1]), 400, "invalid_request"),
        (world.post_raw("to=%2B15551234567&colour=red", vec![1]), 400, "invalid_request"),
        (
            world.post_raw("to=%2B15551234567", vec![1]).header("idempotency-key", "x".repeat(256)),
            400,
            "invalid_request",
        ),
    ] {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{code}");
        let (got, problem) = read(response).await;
        assert_eq!((got.as_u16(), &problem["code"]), (status, &json!(code)), "{problem}");
    }
    assert_eq!(world.gateway.store.queue_depth().await.expect("a number"), 0);
}

#[tokio::test]
async fn reply_is_sent_if_supported_and_otherwise_a_warning() {
    let world = World::start().await;
    let first = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    let sent = world.until_status(&first, "accepted").await["provider_message_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let second = world.accept(&format!("via=whatsapp&reply_to={first}"), fixture("speech-24k.mp3")).await;
    let note = world.until_status(&second, "accepted").await;
    assert_eq!(note["reply_to"], first.as_str(), "as the bot wrote it");
    assert_eq!(world.delivered("wawp")[1].reply_to.as_deref(), Some(sent.as_str()));

    let third = world.accept("reply_to=abc", fixture("speech-24k.mp3")).await;
    let note = world.until_status(&third, "accepted").await;
    assert_eq!(
        (&note["reply_to"], &note["warnings"][0]["code"]),
        (&Value::Null, &json!("reply_unsupported"))
    );
}
