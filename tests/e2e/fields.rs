//! Requests as real clients send them: null values, byte order marks, copied phone numbers, misspelt names.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{StatusCode, multipart::Form};
use serde_json::{Value, json};

use crate::harness::{KEY, PHONE, World, fixture, read};

impl World {
    /// A JSON body, sent exactly as written.
    async fn post_text(&self, path: &str, body: impl Into<Vec<u8>>) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(KEY);
        let request = request.header("content-type", "application/json").body(body.into());
        read(request.send().await.expect("an answer")).await
    }
}

fn data() -> String {
    BASE64_STANDARD.encode(fixture("speech-24k.mp3"))
}

#[tokio::test]
async fn a_byte_order_mark_in_front_of_json_is_ignored() {
    let world = World::start().await;
    for path in ["/voice", "/voice/plan"] {
        let body = json!({ "to": PHONE, "audio": { "data": data() } }).to_string();
        let (status, answer) = world.post_text(path, format!("\u{feff}{body}")).await;
        assert!(status.is_success(), "{path}: {answer}");
    }
    let (status, answer) =
        world.post_text("/media", format!("\u{feff}{}", json!({ "audio": { "data": data() } }))).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let (status, problem) = world.post_text("/voice", "\u{feff}\u{feff}{}").await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("body")), "one mark alone");
}

#[tokio::test]
async fn null_means_not_set_in_every_optional_field() {
    let world = World::start().await;
    let fields = ["via", "convert", "reply_to", "text", "strict", "send_at", "expires_in", "metadata"];
    let audio = ["url", "media_id", "filename", "mime_type", "headers", "format"];
    let mut bodies: Vec<Value> = Vec::new();
    let whole = json!({ "to": PHONE, "audio": { "data": data() } });
    for field in fields {
        let mut body = whole.clone();
        body[field] = Value::Null;
        bodies.push(body);
    }
    for field in audio {
        let mut body = whole.clone();
        body["audio"][field] = Value::Null;
        bodies.push(body);
    }
    let by_url = json!({ "to": PHONE, "audio": { "url": "https://example.com/a.mp3", "data": null, "media_id": null } });
    for body in bodies.into_iter().chain([by_url]) {
        let (status, note) = world.post_text("/voice", body.to_string()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{note}");
        assert_eq!(note["metadata"], json!({}));
    }
    for field in audio {
        let (status, upload) =
            world.post_text("/media", json!({ "audio": { "data": data(), field: null } }).to_string()).await;
        assert_eq!(status, StatusCode::CREATED, "{field}: {upload}");
    }
    for field in
        fields.into_iter().chain(["format", "filename", "mime_type"]).filter(|field| *field != "text")
    {
        let file = reqwest::multipart::Part::bytes(fixture("speech-24k.mp3")).file_name("a.mp3");
        let form = Form::new().text("to", PHONE).text(field, "null").part("audio", file);
        let form = world.http.post(format!("{}/voice", world.url)).bearer_auth(KEY).multipart(form);
        let raw = world.post_raw(&format!("to=%2B15551234567&{field}=null"), fixture("speech-24k.mp3"));
        for request in [form, raw] {
            let (status, note) = read(request.send().await.expect("an answer")).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{field}: {note}");
        }
    }
    // A text may be the word `null`.
    let raw = world.post_raw("to=%2B15551234567&text=null", fixture("speech-24k.mp3"));
    let (_, note) = read(raw.send().await.expect("an answer")).await;
    assert_eq!(note["warnings"][0]["code"], "text_dropped", "{note}");
    // Missing required fields and unknown fields are still refused.
    for (field, named) in [("to", "to"), ("audio", "audio"), ("tone", "tone")] {
        let mut body = whole.clone();
        body[field] = Value::Null;
        let (status, problem) = world.post_text("/voice", body.to_string()).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(named)), "{problem}");
    }
}

#[tokio::test]
async fn numbers_in_metadata_keep_all_their_digits() {
    let world = World::start().await;
    let metadata = r#"{"id":12345678901234567890123,"pi":3.14159265358979323846264338327950288}"#;
    let body = format!(r#"{{"to":"{PHONE}","metadata":{metadata},"audio":{{"data":"{}"}}}}"#, data());
    let send = |body: String| {
        let request = world.http.post(format!("{}/voice", world.url)).bearer_auth(KEY);
        let request = request.header("content-type", "application/json").header("idempotency-key", "digits");
        request.body(body).send()
    };
    let answer = send(body.clone()).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let text = answer.text_of().await;
    assert!(text.contains(metadata), "{text}");
    let id = serde_json::from_str::<Value>(&text).expect("JSON")["id"].as_str().expect("an id").to_owned();
    world.until_status(&id, "accepted").await;
    for path in [format!("/voice/{id}"), "/voice".to_owned()] {
        let text = world.get(&path).send().await.expect("an answer").text_of().await;
        assert!(text.contains(metadata), "{path}: {text}");
    }
    let mut events = world.get(&format!("/voice/{id}/events")).send().await.expect("a stream");
    let event = events.chunk().await.expect("bytes").expect("an event");
    assert!(String::from_utf8_lossy(&event).contains(metadata));
    // Requests with equal digits are identical, and those with other digits are not.
    assert_eq!(send(body.clone()).await.expect("an answer").status(), StatusCode::ACCEPTED);
    let other = body.replace("12345678901234567890123", "12345678901234567890124");
    assert_eq!(send(other).await.expect("an answer").status(), StatusCode::CONFLICT);
    let query = url::form_urlencoded::byte_serialize(metadata.as_bytes()).collect::<String>();
    let raw = world.post_raw(&format!("to=%2B15551234567&metadata={query}"), fixture("speech-24k.mp3"));
    assert!(raw.send().await.expect("an answer").text_of().await.contains(metadata));
}

trait Text {
    async fn text_of(self) -> String;
}

impl Text for reqwest::Response {
    #[expect(clippy::disallowed_methods, reason = "the gateway's own answers are short")]
    async fn text_of(self) -> String {
        self.text().await.expect("text")
    }
}

#[tokio::test]
async fn common_media_types_of_recordings_are_accepted() {
    let world = World::start().await;
    for kind in [
        "audio/ogg",
        "video/webm",
        "video/mp4; codecs=opus",
        "Video/WebM",
        "application/ogg",
        "binary/octet-stream",
        "application/octet-stream",
    ] {
        for path in ["/voice?to=%2B15551234567", "/voice/plan?to=%2B15551234567", "/media?"] {
            let request = world.http.post(format!("{}{path}", world.url)).bearer_auth(KEY);
            let request = request.header("content-type", kind).body(fixture("speech-24k.mp3"));
            let (status, answer) = read(request.send().await.expect("an answer")).await;
            assert!(status.is_success(), "{kind} to {path}: {answer}");
        }
    }
    for kind in ["text/html", "image/png", "application/xml"] {
        let request = world.http.post(format!("{}/voice?to=%2B15551234567", world.url)).bearer_auth(KEY);
        let request = request.header("content-type", kind).body(fixture("speech-24k.mp3"));
        assert_eq!(
            request.send().await.expect("an answer").status(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn invisible_characters_in_a_recipient_are_ignored() {
    let world = World::start().await;
    let audio = json!({ "data": data() });
    for to in [
        "\u{202a}+15551234567\u{202c}",
        "+1.555.123\u{2011}4567",
        "\u{200e}+1\u{a0}555 123 4567",
        "\u{feff}alias:family",
    ] {
        let (status, note) = world.post_text("/voice", json!({ "to": to, "audio": audio }).to_string()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{to:?}: {note}");
    }
    let (status, problem) =
        world.post_text("/voice", json!({ "to": "+1555\u{ad}1234567", "audio": audio }).to_string()).await;
    assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("recipient_invalid")));
    assert!(problem["detail"].as_str().expect("text").contains("U+00AD"), "{problem}");
}

#[tokio::test]
async fn conflicting_idempotency_keys_are_refused() {
    let world = World::start().await;
    let post = |keys: &[&str]| {
        let request = world.post_raw("to=%2B15551234567", fixture("speech-24k.mp3"));
        keys.iter().fold(request, |request, key| request.header("idempotency-key", *key)).send()
    };
    let (status, problem) = read(post(&["one", "two"]).await.expect("an answer")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("Idempotency-Key")));
    assert_eq!(post(&["one", "one"]).await.expect("an answer").status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn misspelt_field_gets_a_suggestion() {
    let world = World::start().await;
    let audio = json!({ "url": "https://example.com/a.mp3" });
    for (body, meant) in [
        (json!({ "to": PHONE, "audio": audio, "vai": "imessage" }), "`via`"),
        (json!({ "to": PHONE, "audoi": audio }), "`audio`"),
        (json!({ "to": PHONE, "audio": audio, "sendAt": "2026-01-01T00:00:00Z" }), "`send_at`"),
        (json!({ "to": PHONE, "audio": { "url": "https://example.com/a", "file_name": "a" } }), "`filename`"),
    ] {
        let (status, problem) = world.post_text("/voice", body.to_string()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.contains("did you mean") && detail.contains(meant), "{problem}");
    }
    let (_, problem) = read(world.get("/voice?statsu=failed").send().await.expect("an answer")).await;
    assert!(
        problem["field"] == "statsu"
            && problem["detail"].as_str().is_some_and(|text| text.contains("`status`")),
        "{problem}"
    );
    let (_, problem) =
        world.post_text("/voice", json!({ "to": PHONE, "audio": audio, "tone": 1 }).to_string()).await;
    assert!(!problem["detail"].as_str().expect("text").contains("did you mean"), "{problem}");
}

#[tokio::test]
async fn unsupported_text_is_a_warning_or_with_strict_an_error() {
    let world = World::start().await;
    let body = |more: Value| {
        let mut body = json!({ "to": PHONE, "audio": { "data": data() }, "text": "Your parcel is here." });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body.to_string()
    };
    for via in ["imessage", "whatsapp", "both"] {
        let (status, note) = world.post_text("/voice", body(json!({ "via": via }))).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{note}");
        assert_eq!(note["warnings"][0]["code"], "text_dropped", "{note}");
        let (status, problem) = world.post_text("/voice", body(json!({ "via": via, "strict": true }))).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("text_unsupported")), "{problem}");
        let (_, plan) = world.post_text("/voice/plan", body(json!({ "via": via }))).await;
        assert_eq!(plan["connections"][0]["verdict"], "warning", "{plan}");
        assert_eq!(plan["connections"][0]["reasons"][0]["code"], "text_dropped", "{plan}");
        let (_, plan) = world.post_text("/voice/plan", body(json!({ "via": via, "strict": true }))).await;
        assert_eq!(plan["connections"][0]["reasons"][0]["code"], "text_unsupported", "{plan}");
    }
    let (_, note) = world.post_text("/voice", body(json!({ "text": null }))).await;
    assert_eq!(note["warnings"], json!([]));
}

#[tokio::test]
async fn empty_reply_to_is_none_and_a_malformed_id_of_ours_is_refused() {
    let world = World::start().await;
    let body = |reply_to: &str| json!({ "to": PHONE, "reply_to": reply_to, "audio": { "data": data() } });
    let (status, note) = read(world.post_json(&body(" ")).send().await.expect("an answer")).await;
    assert_eq!(
        (status, &note["reply_to"], &note["warnings"]),
        (StatusCode::ACCEPTED, &Value::Null, &json!([]))
    );
    for id in ["vn_x", "in_zzz"] {
        let (status, problem) = read(world.post_json(&body(id)).send().await.expect("an answer")).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("reply_to")), "{problem}");
    }
}

#[tokio::test]
async fn mistakes_in_a_body_are_told_in_plain_words() {
    let world = World::start().await;
    for (body, words) in [
        ("", "the body is empty"),
        ("{\"to\": ", "this is not valid JSON at line 1, column 8: incomplete document"),
        ("{} {}", "this is not valid JSON at line 1, column 4: trailing data"),
    ] {
        let (status, problem) = world.post_text("/voice", body).await;
        let detail = problem["detail"].as_str().expect("words");
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(detail.contains(words), "{body}: {detail}");
    }
    // A form whose boundary is another one than the header's, and one with a field that belongs into JSON.
    let request = |kind: &str, body: &str| {
        let request = world.http.post(format!("{}/voice", world.url)).bearer_auth(KEY);
        request.header("content-type", kind.to_owned()).body(body.to_owned())
    };
    for (kind, body) in [
        ("multipart/form-data; boundary=abc", "--xyz\r\n\r\n--xyz--\r\n"),
        ("multipart/form-data; boundary=abc", ""),
        ("multipart/form-data; boundary=", "--\r\n"),
    ] {
        let (status, problem) = read(request(kind, body).send().await.expect("an answer")).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!("Content-Type")),
            "{problem}"
        );
    }
    let form = Form::new().text("to", PHONE).text("media_id", "med_1");
    let sent = world.http.post(format!("{}/voice", world.url)).bearer_auth(KEY).multipart(form).send().await;
    let (status, problem) = read(sent.expect("an answer")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("media_id")), "{problem}");
}

#[tokio::test]
async fn key_that_is_given_twice_is_refused() {
    let world = World::start().await;
    let body = json!({ "to": PHONE, "audio": { "data": data() } });
    let request = world.post_json(&body).header("authorization", "Bearer nope");
    let (status, problem) = read(request.send().await.expect("an answer")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("Authorization")), "{problem}");
}
