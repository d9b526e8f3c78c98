//! `/media`: audio that is uploaded once and sent to many recipients.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{StatusCode, multipart};
use serde_json::{Value, json};
use voicegate::delivery::housekeeping::{remove_orphans, remove_what_is_old};

use crate::harness::{KEY, OTHER_KEY, PHONE, World, fixture, read};

impl World {
    pub async fn upload(&self, audio: Vec<u8>) -> Value {
        let request = self.http.post(format!("{}/media", self.url)).bearer_auth(KEY).body(audio);
        let response = request.header("content-type", "audio/mpeg").send().await.expect("an answer");
        let location = response.headers().get("location").cloned();
        let (status, upload) = read(response).await;
        assert_eq!(status, StatusCode::CREATED, "{upload}");
        let id = upload["id"].as_str().expect("an id");
        assert_eq!(location.expect("a location"), format!("/media/{id}"));
        upload
    }

    pub async fn send_upload(&self, id: &Value, to: &str) -> (StatusCode, Value) {
        let body = json!({ "to": to, "via": "whatsapp", "audio": { "media_id": id } });
        read(self.post_json(&body).send().await.expect("an answer")).await
    }

    pub async fn delete(&self, path: &str) -> (StatusCode, Value) {
        let request = self.http.delete(format!("{}{path}", self.url)).bearer_auth(KEY);
        read(request.send().await.expect("an answer")).await
    }
}

#[tokio::test]
async fn notes_keep_the_audio_of_a_deleted_upload() {
    let world = World::start().await;
    let upload = world.upload(fixture("speech-24k.mp3")).await;
    assert_eq!(upload["audio"]["codec"], "mp3");
    assert_eq!(upload["waveform"].as_array().map(Vec::len), Some(64));
    let path = format!("/media/{}", upload["id"].as_str().expect("an id"));
    let (status, shown) = read(world.get(&path).send().await.expect("an answer")).await;
    assert_eq!((status, &shown), (StatusCode::OK, &upload));

    let (status, first) = world.send_upload(&upload["id"], PHONE).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{first}");
    assert_eq!(first["audio"]["source"], upload["audio"]);
    let (_, second) = world.send_upload(&upload["id"], "+15557654321").await;
    // The upload is deleted before the notes are prepared; they have copies of the audio.
    assert_eq!(world.delete(&path).await.0, StatusCode::NO_CONTENT);
    for note in [&first, &second] {
        world.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    }
    assert_eq!(world.delivered("wawp").len(), 2);
    let source = format!("/voice/{}/audio?source=1", first["id"].as_str().expect("an id"));
    assert_eq!(world.get(&source).send().await.expect("an answer").status(), StatusCode::OK);

    for (status, problem) in [
        world.delete(&path).await,
        read(world.get(&path).send().await.expect("an answer")).await,
        world.send_upload(&upload["id"], PHONE).await,
    ] {
        assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not_found")), "{problem}");
    }
}

#[tokio::test]
async fn uploads_are_accepted_in_every_body() {
    let world = World::start().await;
    let mp3 = fixture("speech-24k.mp3");
    let post = || world.http.post(format!("{}/media", world.url)).bearer_auth(KEY);
    let form = multipart::Form::new().part("audio", multipart::Part::bytes(mp3.clone()));
    let bytes = mp3.clone();
    let url = serve(bytes).await;
    let mut seen = Vec::new();
    for request in [
        post().header("content-type", "application/octet-stream").body(mp3.clone()),
        post().json(&json!({ "audio": { "data": BASE64_STANDARD.encode(&mp3) } })),
        post().multipart(form),
        post().json(&json!({ "audio": { "url": url } })),
    ] {
        let (status, upload) = read(request.send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::CREATED, "{upload}");
        seen.push(upload["audio"]["sha256"].clone());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1);
    let pcm = post().header("content-type", "audio/pcm").body(fixture("speech.s16le"));
    let (status, problem) = read(pcm.send().await.expect("an answer")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("audio_format_required")));
    let pcm = world.http.post(format!("{}/media?format=polly-pcm-16000", world.url)).bearer_auth(KEY);
    let pcm = pcm.header("content-type", "audio/pcm").body(fixture("speech.s16le"));
    assert_eq!(pcm.send().await.expect("an answer").status(), StatusCode::CREATED);
    for (request, status, code) in [
        (post().json(&json!({ "to": PHONE, "audio": { "data": "AAAA" } })), 400, "invalid_request"),
        (post().json(&json!({ "audio": { "data": "AAAA" } })), 422, "audio_unreadable"),
        (post().json(&json!({ "audio": { "url": "http://127.0.0.1:9/a.mp3" } })), 422, "source_unreachable"),
        (post().json(&json!({ "audio": { "url": "https://10.0.0.1/a.mp3" } })), 422, "source_forbidden"),
        (post().json(&json!({ "audio": { "media_id": seen[0] } })), 400, "invalid_request"),
    ] {
        let (got, problem) = read(request.send().await.expect("an answer")).await;
        assert_eq!((got.as_u16(), &problem["code"]), (status, &json!(code)), "{problem}");
    }
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn upload_expires_but_its_notes_keep_their_audio() {
    let world = World::with(|config| config.replace("[fetch]", "media_retention = \"1h\"\n[fetch]")).await;
    let upload = world.upload(fixture("speech-24k.mp3")).await;
    let (_, note) = world.send_upload(&upload["id"], PHONE).await;
    let note = world.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    let file = world.folder.path().join("media/uploads").join(upload["id"].as_str().expect("an id"));
    assert!(file.is_file());

    world.clock.advance(Duration::from_secs(3600));
    let (status, problem) = world.send_upload(&upload["id"], PHONE).await;
    assert_eq!((status, &problem["code"]), (StatusCode::GONE, &json!("media_expired")), "{problem}");
    remove_what_is_old(&world.gateway).await.expect("removed");
    assert!(!file.exists());
    let path = format!("/media/{}", upload["id"].as_str().expect("an id"));
    assert_eq!(world.get(&path).send().await.expect("an answer").status(), StatusCode::GONE);
    let audio = format!("/voice/{}/audio", note["id"].as_str().expect("an id"));
    assert_eq!(world.get(&audio).send().await.expect("an answer").status(), StatusCode::OK);
    // The row is removed together with notes of its age.
    world.clock.advance(Duration::from_secs(31 * 86_400));
    remove_what_is_old(&world.gateway).await.expect("removed");
    assert_eq!(world.get(&path).send().await.expect("an answer").status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn files_of_an_interrupted_upload_are_removed() {
    let world = World::start().await;
    let kept = world.upload(fixture("speech-24k.mp3")).await;
    let orphan =
        world.folder.path().join("media/uploads").join(voicegate::model::id::UploadId::new().to_string());
    std::fs::write(&orphan, b"x").expect("written");
    remove_orphans(&world.gateway).await.expect("swept");
    assert!(orphan.exists(), "its request may still be under way");
    world.clock.advance(Duration::from_secs(3900));
    remove_orphans(&world.gateway).await.expect("swept");
    assert!(!orphan.exists());
    let path = format!("/media/{}", kept["id"].as_str().expect("an id"));
    assert_eq!(world.get(&path).send().await.expect("an answer").status(), StatusCode::OK);
}

/// Requests for objects of another tenant get the same answer as for objects that do not exist.
#[tokio::test]
async fn objects_of_another_tenant_are_not_found() {
    let world = World::start().await;
    let upload = world.upload(fixture("speech-24k.mp3")).await;
    let upload = upload["id"].as_str().expect("an id");
    let note = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&note, "accepted").await;
    let (no_upload, no_note) = (voicegate::model::id::UploadId::new(), voicegate::model::id::NoteId::new());
    let other = |method: reqwest::Method, path: String| {
        let request = world.http.request(method, format!("{}{path}", world.url)).bearer_auth(OTHER_KEY);
        request.header("x-request-id", "the-same")
    };
    use reqwest::Method;
    for (method, theirs, nothing) in [
        (Method::GET, format!("/media/{upload}"), format!("/media/{no_upload}")),
        (Method::DELETE, format!("/media/{upload}"), format!("/media/{no_upload}")),
        (Method::GET, format!("/voice/{note}"), format!("/voice/{no_note}")),
        (Method::DELETE, format!("/voice/{note}"), format!("/voice/{no_note}")),
        (Method::GET, format!("/voice/{note}/audio"), format!("/voice/{no_note}/audio")),
        (Method::GET, format!("/voice/{note}/audio?source=1"), format!("/voice/{no_note}/audio?source=1")),
    ] {
        let theirs = read(other(method.clone(), theirs).send().await.expect("an answer")).await;
        let nothing = read(other(method, nothing).send().await.expect("an answer")).await;
        assert_eq!(theirs, nothing);
        assert_eq!(theirs.0, StatusCode::NOT_FOUND);
    }
    let mut answers = Vec::new();
    for id in [upload.to_owned(), no_upload.to_string()] {
        let body = json!({ "to": PHONE, "audio": { "media_id": id } });
        answers.push(
            read(other(Method::POST, "/voice".to_owned()).json(&body).send().await.expect("an answer")).await,
        );
    }
    assert_eq!(answers[0], answers[1]);
    let mut answers = Vec::new();
    for id in [note.clone(), no_note.to_string()] {
        let body = json!({ "to": PHONE, "audio": { "url": "https://example.com/a" }, "reply_to": id });
        answers.push(
            read(other(Method::POST, "/voice".to_owned()).json(&body).send().await.expect("an answer")).await,
        );
    }
    assert_eq!(answers[0], answers[1]);
    let (_, list) = read(other(Method::GET, "/voice".to_owned()).send().await.expect("an answer")).await;
    assert_eq!(list, json!({ "items": [], "next_cursor": null }));
    // The upload still exists.
    assert_eq!(
        world.get(&format!("/media/{upload}")).send().await.expect("an answer").status(),
        StatusCode::OK
    );
    assert_eq!(world.note(&note).await["to"], PHONE);
}

async fn serve(bytes: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/a.mp3", listener.local_addr().expect("an address"));
    let app = axum::Router::new().fallback(async move || bytes.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}
