//! The three types of body of `POST /voice` are equivalent.

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::{
    StatusCode,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

use crate::harness::{KEY, PHONE, World, fixture, read};

fn audio(name: &str) -> Part {
    Part::bytes(fixture(name)).file_name("hello.mp3").mime_str("audio/mpeg").expect("a type")
}

impl World {
    async fn post_form(&self, form: Form) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}/voice", self.url)).bearer_auth(KEY).multipart(form);
        read(request.send().await.expect("an answer")).await
    }
}

#[tokio::test]
async fn a_form_arrives_as_a_voice_note() {
    let world = World::start().await;
    let form = Form::new()
        .text("to", PHONE)
        .text("via", "whatsapp")
        .text("metadata", r#"{"order": 7}"#)
        .text("expires_in", "10m")
        .text("convert", "true")
        .part("audio", audio("speech-24k.mp3"));
    let (status, note) = world.post_form(form).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{note}");
    assert_eq!((&note["via"], &note["metadata"]), (&json!("whatsapp"), &json!({ "order": 7 })));
    assert_eq!(note["audio"]["source"]["size_bytes"], fixture("speech-24k.mp3").len());
    world.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    assert_eq!(world.delivered("wawp")[0].problems, [""; 0]);
}

/// Equal requests have the same fingerprint in every type of body.
#[tokio::test]
async fn the_same_request_in_three_bodies_is_one_note() {
    let world = World::start().await;
    let mp3 = fixture("speech-24k.mp3");
    let json_body = json!({
        "to": "+1 555 123 4567", "audio": { "data": BASE64_STANDARD.encode(&mp3) }, "metadata": { "a": 1 },
    });
    let form =
        Form::new().text("to", PHONE).text("metadata", r#"{"a":1}"#).part("audio", Part::bytes(mp3.clone()));
    let form = world.http.post(format!("{}/voice", world.url)).bearer_auth(KEY).multipart(form);
    let raw = world.post_raw("to=%2B15551234567&metadata=%7B%22a%22%3A1%7D", mp3);
    let mut ids = Vec::new();
    for request in [world.post_json(&json_body), form, raw] {
        let response = request.header("idempotency-key", "one").send().await.expect("an answer");
        let (status, note) = read(response).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{note}");
        ids.push(note["id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn invalid_form_names_the_wrong_field() {
    let world = World::start().await;
    let mp3 = || audio("speech-24k.mp3");
    let form = |name: &'static str, value: &str| {
        Form::new().text("to", PHONE).text(name, value.to_owned()).part("audio", mp3())
    };
    for (form, field, code) in [
        (Form::new().part("audio", mp3()), "to", "invalid_request"),
        (Form::new().text("to", PHONE), "audio", "invalid_request"),
        (form("tone", "high"), "tone", "invalid_request"),
        (form("to", PHONE), "to", "invalid_request"),
        (form("audio", "x"), "audio", "invalid_request"),
        (form("metadata", "{"), "metadata", "invalid_request"),
        (form("metadata", "[1]"), "metadata", "invalid_request"),
        (form("convert", "maybe"), "convert", "invalid_request"),
        (form("strict", "very"), "strict", "invalid_request"),
        (form("format", "mystery-pcm"), "format", "invalid_request"),
        (form("format", r#"{"encoding":"s16le","sample_rate":1,"channels":1}"#), "format", "invalid_request"),
        (
            form("format", r#"{"encoding":"s16le","sample_rate":8000,"speed":1}"#),
            "format.speed",
            "invalid_request",
        ),
        (form("text", &"x".repeat(70_000)), "text", "invalid_request"),
        (Form::new().text("to", "bob").part("audio", mp3()), "to", "recipient_invalid"),
    ] {
        let (status, problem) = world.post_form(form).await;
        assert_eq!((&problem["code"], &problem["field"]), (&json!(code), &json!(field)), "{problem}");
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
    let broken = |content_type: &'static str, body: &'static str| {
        world
            .http
            .post(format!("{}/voice", world.url))
            .bearer_auth(KEY)
            .header("content-type", content_type)
            .body(body)
    };
    for (request, field) in [
        (broken("multipart/form-data", "--x\r\n"), "Content-Type"),
        (
            broken(
                "multipart/form-data; boundary=x",
                "--x\r\nContent-Disposition: form-data; name=\"to\"\r\n\r\n+1",
            ),
            "body",
        ),
        (broken("multipart/form-data; boundary=x", "nothing of the kind"), "Content-Type"),
    ] {
        let (status, problem) = read(request.send().await.expect("an answer")).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn format_of_raw_samples_is_accepted_in_every_body() {
    let world = World::start().await;
    let pcm = fixture("speech.s16le"); // 16 kHz, one channel
    let written_out = r#"{"encoding":"s16le","sample_rate":16000,"channels":1}"#;
    let written_out_value: Value = serde_json::from_str(written_out).expect("JSON");
    let json_body = |format: Value| json!({ "to": PHONE, "audio": { "data": BASE64_STANDARD.encode(&pcm), "format": format } });
    let form = |format: &str| {
        let form = Form::new().text("to", PHONE).text("format", format.to_owned());
        let form = form.part("audio", Part::bytes(pcm.clone()));
        world.http.post(format!("{}/voice", world.url)).bearer_auth(KEY).multipart(form)
    };
    let raw = |format: &str| {
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("to", PHONE), ("format", format)])
            .finish();
        world.post_raw(&query, pcm.clone())
    };
    let mut durations = Vec::new();
    for request in [
        world.post_json(&json_body(written_out_value)),
        world.post_json(&json_body(json!("azure-raw-16khz"))),
        form(written_out),
        form("polly-pcm-16000"),
        raw(written_out),
        raw("elevenlabs-pcm-16000"),
    ] {
        let (status, note) = read(request.send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{note}");
        assert_eq!(note["audio"]["source"]["codec"], "pcm_s16le");
        durations.push(note["audio"]["source"]["duration_ms"].as_u64().expect("a number"));
    }
    let expected = pcm.len() as u64 / 32;
    assert!(durations.iter().all(|duration| duration.abs_diff(expected) <= 1), "{durations:?}");
    // Half the rate gives twice the length, so the preset is in effect.
    let (_, slow) = read(raw("elevenlabs-pcm-8000").send().await.expect("an answer")).await;
    assert_eq!(slow["audio"]["source"]["duration_ms"].as_u64().expect("a number") / 2, durations[0]);
    let (status, problem) = read(raw("openai-mp3").send().await.expect("an answer")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("format")), "{problem}");
}

#[tokio::test]
async fn common_variants_of_base64_are_accepted() {
    let world = World::start().await;
    let mp3 = fixture("speech-24k.mp3");
    let plain = BASE64_STANDARD.encode(&mp3);
    let uri = |head: &str| format!("{head},{plain}");
    for data in [
        format!("  {plain}\n"),
        plain.trim_end_matches('=').to_owned(),
        BASE64_URL_SAFE_NO_PAD.encode(&mp3),
        plain.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n"),
        uri("data:;base64"),
        uri("DATA:audio/mpeg;BASE64"),
        uri("data:audio/ogg; codecs=opus;base64"),
    ] {
        let body = json!({ "to": PHONE, "audio": { "data": data } });
        let (status, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{note}");
        assert_eq!(note["audio"]["source"]["size_bytes"], mp3.len());
        // During delivery, a temporary file may exist for a tool that needs a path.
        world.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    }
    let half = &plain[..plain.len() / 8 * 4];
    for data in [
        format!("{half} {half}"),
        "data:audio/mpeg,plain".to_owned(),
        format!("data:{};base64,AAAA", "x".repeat(300)),
        "AAA!".to_owned(),
        "A".to_owned(),
        "AAA=AAAA".to_owned(),
        "\u{e9}\u{e9}\u{e9}\u{e9}".to_owned(),
    ] {
        let body = json!({ "to": PHONE, "audio": { "data": data } });
        let (status, problem) = read(world.post_json(&body).send().await.expect("an answer")).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!("audio.data")),
            "{data:.40}: {problem}"
        );
    }
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn json_is_parsed_strictly_and_with_limits() {
    let world = World::start().await;
    let url = r#""audio":{"url":"https://example.com/a.mp3"}"#;
    for (body, field) in [
        (format!(r#"{{"to":"{PHONE}","to":"{PHONE}",{url}}}"#), "to"),
        (format!(r#"{{"to":"{PHONE}",{url},{url}}}"#), "audio"),
        (format!(r#"{{"to":"{PHONE}","audio":{{"data":"AAAA","data":"AAAA"}}}}"#), "audio.data"),
        (format!(r#"{{"to":"{PHONE}","audio":{{"data":7}}}}"#), "audio.data"),
        (format!(r#"{{"to":"{PHONE}","audio":"https://example.com/a.mp3"}}"#), "audio"),
        (format!(r#"{{"to":"{PHONE}",{url},"text":"{}"}}"#, "x".repeat(70_000)), "text"),
        (
            format!(r#"{{"to":"{PHONE}",{url},"metadata":{}1{}}}"#, "[".repeat(500), "]".repeat(500)),
            "metadata",
        ),
        (format!(r#"{{"to":"{PHONE}",{url}}} extra"#), "body"),
        (format!(r#"{{"to":"{PHONE}",{url},}}"#), "body"),
        ("\u{feff}{}".to_owned(), "to"),
        (format!(r#"{{"{}":1,"to":"{PHONE}",{url}}}"#, "x".repeat(1025)), "body"),
        (format!(r#"{{"to":"{PHONE}",{url},"metadata":{{"{}":1}}}}"#, "x".repeat(1025)), "body"),
        (format!(r#"{{"to":"{PHONE}",{url},"metadata":{{"n":{}}}}}"#, "7".repeat(1025)), "body"),
        (String::new(), "body"),
        (format!(r#"{{"to":"{PHONE}",{url},"metadata":{{"n":1e999}}}}"#), "metadata"),
        (format!(r#"{{"to":"{PHONE}","audio":{{"media_id":"med_x"}}}}"#), "audio.media_id"),
        (format!(r#"{{"to":"{PHONE}","audio":{{"data":"AAAA","headers":{{"a":"b"}}}}}}"#), "audio.headers"),
    ] {
        let request = world.http.post(format!("{}/voice", world.url)).bearer_auth(KEY);
        let response = request.header("content-type", "application/json").body(body.clone()).send();
        let (status, problem) = read(response.await.expect("an answer")).await;
        assert_eq!(&problem["field"], field, "{body:.80}: {problem}");
        assert!(matches!(status.as_u16(), 400 | 404), "{problem}");
    }
    let packed =
        world.post_raw("to=%2B15551234567", fixture("speech-24k.mp3")).header("content-encoding", "gzip");
    let (status, problem) = read(packed.send().await.expect("an answer")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::UNSUPPORTED_MEDIA_TYPE, &json!("Content-Encoding")));
    let stray = world.http.post(format!("{}/voice?via=whatsapp", world.url)).bearer_auth(KEY);
    let stray = stray.json(&json!({ "to": PHONE, "audio": { "data": "AAAA" } }));
    let (status, problem) = read(stray.send().await.expect("an answer")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("via")));
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
}

/// A body that is too large for memory is buffered on disk, and the result is the same.
#[tokio::test]
async fn large_audio_in_json_arrives_whole() {
    let world = World::start().await;
    let samples = fixture("speech.s16le").repeat(20);
    assert!(samples.len() > 1_000_000);
    let audio = json!({ "data": BASE64_STANDARD.encode(&samples), "format": "polly-pcm-16000" });
    let body = json!({ "metadata": { "n": -1.797_693_134_862_315_7e308 }, "audio": audio, "to": PHONE });
    let (status, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{note}");
    assert_eq!(
        (&note["audio"]["source"]["size_bytes"], &note["metadata"]),
        (&json!(samples.len()), &body["metadata"])
    );
    let id = note["id"].as_str().expect("an id");
    let kept = world.get(&format!("/voice/{id}/audio?source=1")).send().await.expect("an answer");
    assert_eq!(kept.headers()["content-length"], samples.len().to_string());
}
