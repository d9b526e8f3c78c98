//! One recording to many people.

use std::time::Instant;

use futures_util::StreamExt as _;
use serde_json::json;

use super::{USUAL, requests};
use crate::harness::{fixture, read};

/// `FAN_OUT_NOTES` changes the number of notes.
fn notes() -> usize {
    std::env::var("FAN_OUT_NOTES").ok().map_or(200, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn same_audio_to_many_people_is_encoded_once_and_uploaded_once() {
    let world = USUAL.start().await;
    let before = crate::renders::runs(&world).await;
    let (started, count) = (Instant::now(), notes());
    // Sixteen requests at a time, each with the same bytes.
    let posting = (0..count).map(|guest| {
        let query = format!("to=%2B1555{:07}&via=whatsapp-cloud", 3_000_000 + guest);
        let request = world.post_raw(&query, fixture("speech-24k.mp3"));
        async move {
            let (status, note) = read(request.send().await.expect("an answer")).await;
            assert_eq!(status.as_u16(), 202, "{note}");
            note["id"].as_str().expect("an id").to_owned()
        }
    });
    let ids: Vec<String> = futures_util::stream::iter(posting).buffer_unordered(16).collect().await;
    let accepted_after = started.elapsed();
    for id in &ids {
        let note = world.until_status(id, "accepted").await;
        assert_eq!(note["attempts"].as_array().map(Vec::len), Some(1), "{note}");
    }
    println!("{count} notes: accepted after {accepted_after:?}, sent after {:?}", started.elapsed());

    assert_eq!(crate::renders::runs(&world).await - before, 1, "one run of ffmpeg");
    assert_eq!(requests(&world, "whatsapp-cloud", "upload"), 1);
    assert_eq!(requests(&world, "whatsapp-cloud", "voice"), count);
    let phones = world.delivered("whatsapp-cloud");
    let people: std::collections::BTreeSet<_> = phones.iter().map(|entry| &entry.conversation).collect();
    assert_eq!((phones.len(), people.len()), (count, count));
    assert!(phones.iter().all(|entry| entry.form == "voice" && entry.sha256 == phones[0].sha256));
    let media: std::collections::BTreeSet<String> =
        phones.iter().map(|entry| entry.request["audio"]["id"].to_string()).collect();
    assert_eq!(media.len(), 1, "{}", json!(media));
}
