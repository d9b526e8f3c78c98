//! Received audio on S3: it is kept, served, erased and removed as in a folder.

use std::{io::Write, process::Command, time::Duration};

use reqwest::{Response, StatusCode, header};
use serde_json::Value;
use voicegate::delivery::housekeeping::{remove_orphans, remove_what_is_old};

use crate::{
    bucket::{in_bucket, large},
    harness::read,
    house::{House, path, received},
    inbound::DAY,
    links::body,
    s3::Server,
    waha_server::Answer,
};

async fn start() -> (House, Server) {
    let server = Server::start().await;
    let house = House::with_environment(server.environment(), in_bucket).await;
    (house, server)
}

/// Ten seconds of FLAC, which are smaller than what is made of them.
fn compressed() -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&large()).expect("written");
    let made = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-i"])
        .arg(file.path())
        .args(["-f", "flac", "pipe:1"])
        .output()
        .expect("ffmpeg");
    assert!(made.status.success());
    made.stdout
}

async fn audio(house: &House, url: &Value, range: &str) -> Response {
    let request = house.world.get(path(url)).header(header::RANGE, range);
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn large_audio_is_kept_in_the_bucket_and_served_from_it() {
    let (house, server) = start().await;
    let native = large();
    let note = house.heard("M1", Answer::Audio(native.clone().into())).await;
    assert_eq!(note["status"], "received", "{note}");
    let id = path(&note["id"]).to_owned();
    // Its renders are small enough for the database, or are the native audio.
    assert_eq!(server.keys(), [format!("gateway/received/{id}/native")]);
    assert!(server.objects()[&server.keys()[0]] == native, "as it came");
    let answer = audio(&house, &note["audio"]["native"]["url"], "bytes=300000-300099").await;
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.headers()[header::CONTENT_RANGE], format!("bytes 300000-300099/{}", native.len()));
    assert_eq!(body(answer).await, native[300_000..300_100]);

    let note = house.heard("M2", Answer::Audio(compressed().into())).await;
    assert_eq!(note["status"], "received", "{note}");
    let render = &note["audio"]["renders"]["wav16k-1"];
    let key = format!("gateway/received/{}/wav16k-1", path(&note["id"]));
    let keys = server.keys();
    assert!(keys.contains(&key), "{keys:?}");
    let stored = server.objects()[&key].clone();
    assert_eq!(render["size_bytes"], stored.len());
    let answer = audio(&house, &render["url"], "bytes=0-").await;
    assert!(body(answer).await == stored);
    assert_eq!(house.world.stray_files(), [""; 0].map(std::path::PathBuf::from));
    let folder = house.world.stop().await;
    assert!(!folder.path().join("media").exists());
}

#[tokio::test]
async fn received_audio_in_the_bucket_is_erased_and_expires() {
    let (house, server) = start().await;
    let first = house.heard("M1", Answer::Audio(large().into())).await;
    let second = house.heard("M2", Answer::Audio(large().into())).await;
    let (first, second) = (path(&first["id"]), path(&second["id"]));
    let (status, problem) = house.world.delete(&format!("/received/{first}")).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{problem}");
    assert_eq!(server.keys(), [format!("gateway/received/{second}/native")]);

    house.world.clock.advance(2 * DAY);
    remove_what_is_old(&house.world.gateway).await.expect("removed");
    assert_eq!(server.keys(), [""; 0]);
    let gone = house.world.get(&format!("/received/{second}/audio")).send().await.expect("an answer");
    assert_eq!(read(gone).await.0, StatusCode::GONE);
}

#[tokio::test]
async fn orphans_of_received_notes_are_removed_from_the_bucket() {
    let (house, server) = start().await;
    let note = house.heard("M1", Answer::Audio(large().into())).await;
    let orphan = voicegate::model::id::ReceivedId::new();
    let place = server.path(&format!("gateway/received/{orphan}/native"));
    std::fs::create_dir_all(place.parent().expect("a folder")).expect("made");
    std::fs::write(place, "x").expect("written");
    remove_orphans(&house.world.gateway).await.expect("swept");
    assert_eq!(server.keys().len(), 2, "its callback may still be under way");
    house.world.clock.advance(Duration::from_secs(3900));
    remove_orphans(&house.world.gateway).await.expect("swept");
    assert_eq!(server.keys(), [format!("gateway/received/{}/native", path(&note["id"]))]);
}

#[tokio::test]
async fn note_that_comes_while_the_bucket_is_down_is_announced_when_it_is_up() {
    let (house, server) = start().await;
    server.set_down(true);
    house.say("M1", Answer::Audio(large().into())).await;
    while server.broken() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.set_down(false);
    house.world.pass_until_told(&house.bot, 1).await;
    let note = received(&house.bot.told(1).await[0]);
    assert_eq!(note["status"], "received", "{note}");
    assert_eq!(server.keys(), [format!("gateway/received/{}/native", path(&note["id"]))]);
}
