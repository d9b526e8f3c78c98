//! `POST /render`: the bytes are those that a provider receives, and nothing is left behind.

use std::time::Duration;

use axum::{Router, http::header, response::IntoResponse};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{KEY, PHONE, World, fixture, read, whole};

impl World {
    fn render(&self, query: &str) -> RequestBuilder {
        self.http.post(format!("{}/render?{query}", self.url)).bearer_auth(KEY)
    }

    fn render_raw(&self, query: &str, audio: Vec<u8>) -> RequestBuilder {
        self.render(query).header("content-type", "application/octet-stream").body(audio)
    }

    /// The bytes that the provider received last.
    fn received(&self, provider: &str) -> Vec<u8> {
        let entry = self.delivered(provider).pop().expect("a message");
        self.sandbox.audio(&entry.id).expect("its audio").to_vec()
    }
}

async fn ok(request: RequestBuilder) -> Response {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    if status != StatusCode::OK {
        panic!("{status}: {}", read(response).await.1);
    }
    response
}

async fn problem(request: RequestBuilder) -> (u16, String, Option<String>, Option<String>) {
    let (status, problem) = read(request.send().await.expect("an answer")).await;
    let text = |name: &str| problem[name].as_str().map(str::to_owned);
    (status.as_u16(), text("code").unwrap_or_else(|| problem.to_string()), text("field"), text("stage"))
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).unwrap_or_else(|| panic!("{name} is missing")).to_str().expect("text")
}

/// A server that has one file.
async fn server(name: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/audio", listener.local_addr().expect("an address"));
    let app = Router::new().route("/audio", axum::routing::get(async move || fixture(name).into_response()));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn rendered_bytes_are_those_that_the_provider_receives() {
    let world = World::start().await;
    for (via, provider, file, more) in [
        ("whatsapp", "wawp", "speech-24k.mp3", ""),
        ("whatsapp", "wawp", "speech-opus-wideband.ogg", ""),
        ("whatsapp", "wawp", "recorder-wideband.ogg", ""),
        ("whatsapp", "wawp", "speech.flac", "&convert=always"),
        ("whatsapp", "wawp", "speech.wav", "&convert=provider"),
        ("imessage", "linq", "speech-24k.mp3", ""),
        ("imessage", "linq", "speech.flac", ""),
    ] {
        let rendered = ok(world.render_raw(&format!("for={via}&filename={file}{more}"), fixture(file))).await;
        let (kind, work) =
            (header(&rendered, "content-type").to_owned(), header(&rendered, "voicegate-work").to_owned());
        let (etag, length) = (header(&rendered, "etag").to_owned(), rendered.content_length());
        let duration: u64 = header(&rendered, "voicegate-duration-ms").parse().expect("a number");
        let waveform = BASE64_STANDARD.decode(header(&rendered, "voicegate-waveform")).expect("base64");
        let checks = header(&rendered, "voicegate-checks").to_owned();
        let bytes = whole(rendered).await;

        let request = world.post_raw(&format!("to=%2B15551234567&via={via}{more}"), fixture(file));
        let (status, note) = read(request.header("prefer", "wait=30").send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::OK, "{note}");
        assert!(world.received(provider) == bytes, "{via} {file}: other bytes were sent");
        let sent = &note["audio"]["sent"];
        assert_eq!((&json!(kind), &json!(work)), (&sent["mime_type"], &sent["work"]), "{via} {file}");
        assert_eq!(json!(duration), sent["duration_ms"], "{via} {file}");
        assert_eq!(json!(waveform), note["audio"]["waveform"], "{via} {file}");
        let checks: Vec<&str> = checks.split(", ").filter(|check| !check.is_empty()).collect();
        assert_eq!(json!(checks), sent["checks"], "{via} {file}");
        assert_eq!(etag, format!("\"{}\"", hex::encode(Sha256::digest(&bytes))));
        assert_eq!(length, Some(bytes.len() as u64));
    }
}

#[tokio::test]
async fn same_samples_in_another_format_are_another_sound() {
    let world = World::start().await;
    let samples = fixture("speech.s16le");
    let mut lengths = Vec::new();
    for format in ["polly-pcm-16000", "elevenlabs-pcm-8000"] {
        let request = world.http.post(format!("{}/media?format={format}", world.url)).bearer_auth(KEY);
        let request = request.header("content-type", "application/octet-stream").body(samples.clone());
        let (_, upload) = read(request.send().await.expect("an answer")).await;
        let body = json!({ "audio": { "media_id": upload["id"] } });
        let answer = ok(world.render("for=whatsapp").json(&body)).await;
        let length: u64 = answer.headers()["voicegate-duration-ms"].to_str().unwrap().parse().unwrap();
        assert_eq!(length, upload["audio"]["duration_ms"].as_u64().expect("a length"), "{upload}");
        lengths.push(length);
    }
    assert!(lengths[1] >= 2 * lengths[0] - 1, "{lengths:?}");
}

#[tokio::test]
async fn every_form_of_the_request_is_rendered_alike() {
    let world = World::start().await;
    let file = "speech-24k.mp3";
    let expected = whole(ok(world.render_raw("for=whatsapp", fixture(file))).await).await;
    let (_, upload) = read(
        world
            .http
            .post(format!("{}/media", world.url))
            .bearer_auth(KEY)
            .header("content-type", "audio/mpeg")
            .body(fixture(file))
            .send()
            .await
            .expect("an answer"),
    )
    .await;
    let form = reqwest::multipart::Form::new()
        .text("strict", "true")
        .part("audio", reqwest::multipart::Part::bytes(fixture(file)).file_name(file));
    let data = BASE64_STANDARD.encode(fixture(file));
    for request in [
        world.render("for=whatsapp").multipart(form),
        world.render("for=whatsapp").json(&json!({ "audio": { "data": data, "filename": file } })),
        world.render("for=whatsapp").json(&json!({ "audio": { "url": server(file).await } })),
        world.render("for=whatsapp").json(&json!({ "audio": { "media_id": upload["id"] } })),
        world.render_raw("profile=whatsapp-1", fixture(file)),
        // Everything that a note may have, less its recipient.
        world.render("for=whatsapp").json(&json!({
            "audio": { "data": data }, "via": "whatsapp", "text": "x", "text_as": "caption", "degrade": ["audio"],
            "reply_to": "abc", "strict": false, "send_at": "2026-11-21T10:00:00Z", "expires_in": "10m",
            "metadata": { "order": 7 }, "convert": "auto",
        })),
    ] {
        let rendered = whole(ok(request).await).await;
        assert!(rendered == expected);
    }
}

#[tokio::test]
async fn json_has_the_facts_and_the_same_bytes() {
    let world = World::start().await;
    let audio = || fixture("speech-24k.mp3");
    let bytes = whole(ok(world.render_raw("for=whatsapp", audio())).await).await;
    let asked = world.render_raw("for=whatsapp", audio()).header("accept", "application/json");
    let answer: Value = ok(asked).await.json().await.expect("JSON");
    assert!(BASE64_STANDARD.decode(answer["data"].as_str().expect("text")).expect("base64") == bytes);
    let facts = &answer["audio"];
    assert_eq!(facts["sent"]["size_bytes"], bytes.len());
    assert_eq!(facts["sent"]["profile"], "whatsapp-1");
    assert_eq!(facts["waveform"].as_array().map(Vec::len), Some(64));
    assert_eq!(facts["source"]["container"], "mp3");
    assert_eq!(facts["checks"], facts["sent"]["checks"]);
    // Larger than one piece, made or sent as it is, in memory or in a file.
    for seconds in [12, 60] {
        let made = whole(ok(world.render_raw("profile=mp3-1&convert=always", wav(seconds))).await).await;
        assert!(made.len() > 48 * 1024, "{}", made.len());
        let asked = |query: &str, audio| world.render_raw(query, audio).header("accept", "application/json");
        for (request, work) in [
            (asked("profile=mp3-1&convert=always", wav(seconds)), "transcoded"),
            (asked("for=imessage", made.clone()), "none"),
        ] {
            let answer: Value = ok(request).await.json().await.expect("JSON");
            assert_eq!(answer["audio"]["sent"]["work"], work, "{seconds} s");
            assert!(BASE64_STANDARD.decode(answer["data"].as_str().expect("text")).expect("base64") == made);
        }
    }
}

/// Speech of a length as a WAV file.
fn wav(seconds: usize) -> Vec<u8> {
    let samples = fixture("speech.s16le").repeat(seconds.div_ceil(3));
    let size = |bytes: usize| u32::try_from(bytes).expect("small").to_le_bytes();
    let format = [1_u16.to_le_bytes(), 1_u16.to_le_bytes()].concat();
    let rates = [16_000_u32.to_le_bytes(), 32_000_u32.to_le_bytes()].concat();
    let rest = [2_u16.to_le_bytes(), 16_u16.to_le_bytes()].concat();
    let head = [&b"RIFF"[..], &size(36 + samples.len()), b"WAVEfmt ", &size(16), &format, &rates, &rest];
    [head.concat(), b"data".to_vec(), size(samples.len()).to_vec(), samples].concat()
}

#[tokio::test]
async fn nothing_is_stored_or_sent() {
    let world = World::start().await;
    for query in ["for=whatsapp", "for=imessage", "profile=mp3-1"] {
        whole(ok(world.render_raw(query, fixture("speech-24k.mp3"))).await).await;
    }
    let url = server("speech.flac").await;
    ok(world.render("for=whatsapp").json(&json!({ "audio": { "url": url } }))).await;
    let (_, notes) = read(world.get("/voice").send().await.expect("an answer")).await;
    assert_eq!(notes["items"], json!([]));
    let media = world.folder.path().join("media");
    for folder in ["notes", "uploads", "incoming"] {
        let left = std::fs::read_dir(media.join(folder)).into_iter().flatten().count();
        assert_eq!(left, 0, "{folder}");
    }
    assert_eq!(world.stray_files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(world.sandbox.requests().len(), 0, "no provider was asked");
    assert_eq!(world.app.memory.used(), 0);
}

#[tokio::test]
async fn tag_of_known_bytes_is_answered_without_them() {
    let world = World::start().await;
    let first = ok(world.render_raw("for=whatsapp", fixture("speech-24k.mp3"))).await;
    let etag = header(&first, "etag").to_owned();
    for known in [etag.clone(), format!("\"other\", {etag}"), "*".to_owned()] {
        let asked =
            world.render_raw("for=whatsapp", fixture("speech-24k.mp3")).header(header::IF_NONE_MATCH, known);
        let answer = asked.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(header(&answer, "etag"), etag);
        assert!(whole(answer).await.is_empty());
    }
    let other = world.render_raw("for=whatsapp", fixture("speech.flac")).header(header::IF_NONE_MATCH, &etag);
    assert_ne!(header(&ok(other).await, "etag"), etag);
}

#[tokio::test]
async fn problems_are_those_of_a_note() {
    let world = World::start().await;
    let mp3 = || fixture("speech-24k.mp3");
    let some = |text: &str| Some(text.to_owned());
    for (query, field) in [
        ("", "for"),
        ("for=whatsapp&profile=whatsapp-1", "for"),
        ("for=whatsapp&for=imessage", "for"),
        ("profile=nothing-1", "profile"),
        ("for=whatsapp&to=%2B15551234567", "to"),
        ("for=whatsapp&via=imessage", "via"),
        ("profile=whatsapp-1&via=whatsapp", "via"),
        ("for=whatsapp&convert=sometimes", "convert"),
    ] {
        let (status, code, at, stage) = problem(world.render_raw(query, mp3())).await;
        assert_eq!(
            (status, code.as_str(), at, stage),
            (400, "invalid_request", some(field), some("request")),
            "{query}"
        );
    }
    for name in ["nobody", "both"] {
        let (status, code, at, _) = problem(world.render_raw(&format!("for={name}"), mp3())).await;
        assert_eq!((status, code.as_str(), at), (422, "unknown_connection", some("for")), "{name}");
    }
    // The audio is judged as that of a note is.
    let audio = |audio: Value| json!({ "to": PHONE, "via": "whatsapp", "audio": audio });
    for body in [
        audio(json!({ "url": "http://10.0.0.1/a.mp3" })),
        audio(json!({ "data": BASE64_STANDARD.encode(b"no audio at all, and not a little of it") })),
        audio(json!({ "data": BASE64_STANDARD.encode(fixture("speech.s16le")) })),
        audio(json!({ "media_id": "med_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41" })),
        json!({ "to": PHONE, "via": "whatsapp", "convert": "never", "audio": { "data": BASE64_STANDARD.encode(mp3()) } }),
    ] {
        let of_note = problem(world.post_json(&body)).await;
        let mut body = body;
        body.as_object_mut().expect("an object").remove("to");
        let of_render = problem(world.render("for=whatsapp").json(&body)).await;
        assert_eq!(of_render, of_note, "{}", body["audio"]);
        assert!(of_note.0 >= 400, "{of_note:?}");
    }
    let gone = format!("{}/nothing", server("speech-24k.mp3").await);
    let (status, code, field, stage) =
        problem(world.render("for=whatsapp").json(&json!({ "audio": { "url": gone } }))).await;
    assert_eq!(
        (status, code.as_str(), field, stage),
        (422, "source_unreachable", some("audio.url"), some("fetch"))
    );
    assert_eq!(world.stray_files(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn client_that_goes_away_leaves_no_file() {
    let world = World::start().await;
    // One leaves while its body arrives, and one while its download goes on.
    let address = world.url.strip_prefix("http://").expect("http").to_owned();
    let mut half = tokio::net::TcpStream::connect(&address).await.expect("connected");
    let head = format!(
        "POST /render?for=whatsapp HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {KEY}\r\n\
         content-type: audio/wav\r\ncontent-length: 3000000\r\n\r\n"
    );
    half.write_all(head.as_bytes()).await.expect("written");
    half.write_all(&vec![7; 1_000_000]).await.expect("written");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/a.mp3", silent.local_addr().expect("an address"));
    let asked = world.render("for=whatsapp").json(&json!({ "audio": { "url": url } }));
    let download = tokio::spawn(asked.send());
    let (mut peer, _) = silent.accept().await.expect("a request");
    peer.read_exact(&mut [0; 10]).await.expect("read");
    assert!(!world.stray_files().is_empty(), "both are under way");
    drop(half);
    download.abort();
    for _ in 0..500 {
        if world.stray_files().is_empty() && world.app.memory.used() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("left behind: {:?}", world.stray_files());
}

#[tokio::test]
async fn flood_of_renders_does_not_hold_back_a_note() {
    let world = World::start().await;
    let (done, mut ended) = tokio::sync::mpsc::unbounded_channel();
    // No two are alike, so that each is converted.
    let floods: Vec<_> = (0..80_u8)
        .map(|number| {
            let mut audio = fixture("speech.wav");
            audio[2000..2064].fill(number);
            let (request, done) = (world.render_raw("for=whatsapp&convert=always", audio), done.clone());
            tokio::spawn(async move {
                let status = request.send().await.expect("an answer").status();
                done.send(status).expect("heard");
            })
        })
        .collect();
    drop(done);
    ended.recv().await.expect("the first");
    let (status, note) = read(
        world
            .post_raw("to=%2B15551234567&via=whatsapp", fixture("speech-24k.mp3"))
            .header("prefer", "wait=60")
            .send()
            .await
            .expect("an answer"),
    )
    .await;
    assert_eq!(status, StatusCode::OK, "{note}");
    let waiting = floods.iter().filter(|flood| !flood.is_finished()).count();
    assert!(waiting > 20, "only {waiting} renders were left when the note went out");
    while let Some(status) = ended.recv().await {
        assert_eq!(status, StatusCode::OK, "nobody of the flood is refused");
    }
}
