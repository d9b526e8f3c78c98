//! Downloads of audio: by its owner and, through signed links, by providers.

use std::time::Duration;

use reqwest::StatusCode;
use voicegate::delivery::housekeeping::{remove_orphans, remove_what_is_old};
use voicegate::{media::AudioVariant, model::note::NoteId};

use crate::harness::{World, fixture, read};

#[tokio::test]
async fn sent_and_received_audio_can_be_downloaded() {
    let world = World::start().await;
    let id = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
    let sent = world.get(&format!("/voice/{id}/audio")).send().await.expect("an answer");
    assert_eq!(sent.headers()["content-type"], "audio/ogg; codecs=opus");
    let arrived = world.delivered("wawp");
    assert_eq!(body(sent).await, world.sandbox.audio(&arrived[0].id).expect("audio"));
    let source = world.get(&format!("/voice/{id}/audio?source=1")).send().await.expect("an answer");
    assert_eq!(source.headers()["content-type"], "audio/mpeg");
    assert_eq!(body(source).await, fixture("speech-24k.mp3"));
}

#[tokio::test]
async fn links_support_ranges_and_head_and_expire() {
    let world = World::start().await;
    let id = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
    let note: NoteId = id.parse().expect("an id");
    let base = world.url.parse().expect("a URL");
    let now = voicegate::model::clock::Clock::now(&*world.clock);
    let link =
        world.gateway.links.make(&base, note, AudioVariant::Sent, "voice.ogg", now, Duration::from_secs(60));

    let whole = world.http.get(link.clone()).send().await.expect("an answer");
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let whole = body(whole).await;
    let head = world.http.head(link.clone()).send().await.expect("an answer");
    assert_eq!(head.headers()["content-length"], whole.len().to_string().as_str());
    assert_eq!(head.headers()["content-type"], "audio/ogg; codecs=opus");
    for (range, expected) in [("bytes=10-19", &whole[10..20]), ("bytes=-5", &whole[whole.len() - 5..])] {
        let part = world.http.get(link.clone()).header("range", range).send().await.expect("an answer");
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(body(part).await, expected, "{range}");
    }
    // A small file is answered from memory, and a condition on it from a file: both agree about what it is.
    let answer = world.http.get(link.clone()).send().await.expect("an answer");
    for (condition, validator) in [("if-none-match", "etag"), ("if-modified-since", "last-modified")] {
        let validator = answer.headers()[validator].clone();
        let again =
            world.http.get(link.clone()).header(condition, validator).send().await.expect("an answer");
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{condition}");
    }
    let beyond =
        world.http.get(link.clone()).header("range", "bytes=99999999-").send().await.expect("an answer");
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);

    world.clock.advance(Duration::from_secs(61));
    let (status, problem) = read(world.http.get(link).send().await.expect("an answer")).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::GONE, Some("media_expired")));
}

#[tokio::test]
async fn audio_and_note_are_removed_after_their_retention() {
    let world = World::start().await;
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
    world.clock.advance(Duration::from_secs(24 * 3600 + 1));
    remove_what_is_old(&world.gateway).await.expect("removed");
    let (status, problem) =
        read(world.get(&format!("/voice/{id}/audio")).send().await.expect("an answer")).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::GONE, Some("media_expired")));
    assert_eq!(world.note(&id).await["status"], "accepted");
    let left = std::fs::read_dir(world.folder.path().join("media/notes")).expect("a folder").count();
    assert_eq!(left, 0);
    world.clock.advance(Duration::from_secs(30 * 24 * 3600));
    remove_what_is_old(&world.gateway).await.expect("removed");
    assert_eq!(
        world.get(&format!("/voice/{id}")).send().await.expect("an answer").status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn audio_of_an_uncommitted_note_is_removed() {
    let world = World::start().await;
    // Small audio is in the database.
    let kept = world.accept("via=whatsapp", crate::bucket::large()).await;
    world.until_status(&kept, "accepted").await;
    let orphan = world.folder.path().join("media/notes").join(NoteId::new().to_string());
    std::fs::create_dir(&orphan).expect("a folder");
    std::fs::write(orphan.join("source"), "audio").expect("written");
    remove_orphans(&world.gateway).await.expect("looked");
    assert!(orphan.exists(), "its request may be under way");
    world.clock.advance(Duration::from_secs(3900));
    remove_orphans(&world.gateway).await.expect("looked");
    assert!(!orphan.exists());
    assert!(world.folder.path().join("media/notes").join(kept).exists());
}

pub async fn body(mut response: reqwest::Response) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = response.chunk().await.expect("a body") {
        all.extend_from_slice(&chunk);
    }
    all
}
