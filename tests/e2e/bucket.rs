//! Audio on S3: the gateway behaves as with a folder, and stores no audio on the local disk.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode, header};
use serde_json::json;
use voicegate::delivery::housekeeping::{remove_orphans, remove_what_is_old};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    harness::{PHONE, World, attempts, fixture, read},
    s3::{BUCKET, Server},
};

/// A tone as WAV, too large to be stored in the database.
pub fn large() -> Vec<u8> {
    const RATE: u32 = 16_000;
    let samples = (0..RATE * 10).map(|n| (f64::from(n) * 0.17).sin() * 8_000.0);
    let data: Vec<u8> = samples.flat_map(|sample| (sample as i16).to_le_bytes()).collect();
    let size = u32::try_from(data.len()).expect("small");
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + size).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(RATE.to_le_bytes());
    wav.extend((RATE * 2).to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend(size.to_le_bytes());
    wav.extend(data);
    wav
}

async fn start() -> (World, Server) {
    let server = Server::start().await;
    let world = World::with_environment(server.environment(), in_bucket).await;
    (world, server)
}

/// The configuration with the audio in the bucket.
pub fn in_bucket(config: String) -> String {
    let (before, after) = config.split_once("media = \"").expect("a folder");
    let (_, after) = after.split_once('"').expect("its end");
    format!("{before}media = \"s3://{BUCKET}/gateway\"{after}")
}

fn key(note: &str, which: &str) -> String {
    format!("gateway/notes/{note}/{which}")
}

impl World {
    async fn audio(&self, id: &str, query: &str, headers: &[(header::HeaderName, &str)]) -> Response {
        let request = self.get(&format!("/voice/{id}/audio{query}"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, *value));
        request.send().await.expect("an answer")
    }
}

#[tokio::test]
async fn note_is_delivered_by_upload_and_by_link_from_the_bucket() {
    let (world, server) = start().await;
    let source = large();
    for (via, provider) in [("imessage", "linq"), ("whatsapp", "wawp")] {
        let id = world.accept(&format!("via={via}&convert=always"), source.clone()).await;
        let note = world.until_status(&id, "accepted").await;
        let arrived = world.delivered(provider);
        assert_eq!(arrived.len(), 1);
        assert_eq!(arrived[0].problems, [""; 0]);
        let bytes = world.sandbox.audio(&arrived[0].id).expect("its audio");
        let objects = server.objects();
        assert!(objects[&key(&id, "source")] == source, "as it came");
        assert!(!objects.contains_key(&key(&id, "sent")), "it is small, so it is in the database");

        let answer = world.audio(&id, "", &[]).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            answer.headers()["content-type"],
            note["audio"]["sent"]["mime_type"].as_str().expect("one")
        );
        assert_eq!(answer.headers()["accept-ranges"], "bytes");
        let modified = answer.headers()["last-modified"].to_str().expect("text").to_owned();
        assert!(crate::links::body(answer).await == bytes);
        let same = world.audio(&id, "", &[(header::IF_MODIFIED_SINCE, &modified)]).await;
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED, "whenever it is asked for");

        let part = world.audio(&id, "?source=1", &[(header::RANGE, "bytes=300000-300099")]).await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.headers()["content-range"], format!("bytes 300000-300099/{}", source.len()));
        assert_eq!(crate::links::body(part).await, source[300_000..300_100]);
        let beyond = world.audio(&id, "?source=1", &[(header::RANGE, "bytes=900000-")]).await;
        assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    }
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
    let folder = world.stop().await;
    assert!(!folder.path().join("media").exists());
}

#[tokio::test]
async fn small_audio_is_stored_in_the_database() {
    let (world, server) = start().await;
    let id = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
    assert_eq!(server.keys(), [""; 0]);
    assert_eq!(world.audio(&id, "", &[]).await.status(), StatusCode::OK);
    assert_eq!(world.audio(&id, "?source=1", &[]).await.status(), StatusCode::OK);
    assert_eq!(server.answered(&Method::GET, "source"), 0, "a bucket is not asked in vain");
}

#[tokio::test]
async fn uploads_are_copied_inside_the_bucket() {
    let (world, server) = start().await;
    let upload = world.upload(fixture("speech-24k.mp3")).await;
    let name = upload["id"].as_str().expect("an id");
    assert_eq!(server.keys(), [format!("gateway/uploads/{name}")]);
    let (status, note) = world.send_upload(&upload["id"], PHONE).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{note}");
    assert_eq!(server.answered(&Method::GET, "uploads/med_"), 0, "nothing is fetched for a copy");
    assert_eq!(world.delete(&format!("/media/{name}")).await.0, StatusCode::NO_CONTENT);
    let id = note["id"].as_str().expect("an id");
    world.until_status(id, "accepted").await;
    assert_eq!(server.keys(), [key(id, "source")]);
}

#[tokio::test]
async fn note_in_the_bucket_is_resent_erased_and_expired() {
    let (world, server) = start().await;
    let refused = FaultAction::Status {
        status: 400,
        body: None,
        headers: std::collections::BTreeMap::new(),
        retry_after: None,
    };
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, refused));
    let first = world.accept("convert=always", large()).await;
    world.until_status(&first, "failed").await;
    let (status, second) = world.post(&format!("/voice/{first}/resend")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{second}");
    let second = second["id"].as_str().expect("an id").to_owned();
    let (status, problem) = world.delete(&format!("/voice/{first}")).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{problem}");
    world.until_status(&second, "accepted").await;
    assert_eq!(server.keys(), [key(&second, "source")]);

    world.clock.advance(Duration::from_secs(25 * 3600));
    remove_what_is_old(&world.gateway).await.expect("removed");
    assert_eq!(server.keys(), [""; 0]);
    assert_eq!(world.audio(&second, "", &[]).await.status(), StatusCode::GONE);
}

#[tokio::test]
async fn old_orphans_are_removed() {
    let (world, server) = start().await;
    let id = world.accept("via=whatsapp", large()).await;
    world.until_status(&id, "accepted").await;
    let (note, upload) = (voicegate::model::id::NoteId::new(), voicegate::model::id::UploadId::new());
    for key in
        [key(&note.to_string(), "source"), format!("gateway/uploads/{upload}"), "other/notes/x".to_owned()]
    {
        let path = server.path(&key);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, "x").expect("written");
    }
    remove_orphans(&world.gateway).await.expect("swept");
    assert_eq!(server.keys().len(), 4, "their requests may still be under way");
    world.clock.advance(Duration::from_secs(3900));
    remove_orphans(&world.gateway).await.expect("swept");
    assert_eq!(server.keys(), [key(&id, "source"), "other/notes/x".to_owned()]);
}

#[tokio::test]
async fn nothing_is_accepted_while_the_bucket_is_down() {
    let (world, server) = start().await;
    world.gateway.audio_test.run(&world.gateway).await;
    let ready = async || read(world.get("/readyz").send().await.expect("an answer")).await;
    assert_eq!(ready().await.0, StatusCode::OK);
    server.set_down(true);
    let answer = world.post_raw("to=%2B15551234567", large()).send().await.expect("an answer");
    assert_eq!(answer.headers()["retry-after"], "5");
    let (status, problem) = read(answer).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("overloaded")),
        "{problem}"
    );
    let (status, health) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health["checks"]["media"]["status"], "failed", "{health}");
    assert_eq!(health["checks"]["disk"]["status"], "ok", "{health}");
    let (_, list) = read(world.get("/voice").send().await.expect("an answer")).await;
    assert_eq!(list["items"], json!([]));

    server.set_down(false);
    assert_eq!(server.keys(), [""; 0]);
    let id = world.accept("", large()).await;
    world.until_status(&id, "accepted").await;
    assert_eq!(world.dispatches(), 1);
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn a_note_waits_while_the_bucket_is_down_and_is_sent_once() {
    let (world, server) = start().await;
    let later = world.clock_seconds() + 600;
    let at = jiff::Timestamp::from_second(later).expect("a time");
    let id = world.accept(&format!("send_at={at}"), large()).await;
    server.set_down(true);
    world.clock.advance(Duration::from_secs(601));
    let note = world.until(&id, |note| attempts(note) == 1 && note["status"] == "queued").await;
    assert_eq!(note["attempts"][0]["error"]["code"], "overloaded", "{note}");
    assert_eq!(world.dispatches(), 0);
    server.set_down(false);
    world.to_next_attempt(&id, 1).await;
    world.until_status(&id, "accepted").await;
    assert_eq!(world.dispatches(), 1);
}
