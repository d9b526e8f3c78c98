//! Sizes that a provider takes, beyond those up to which a recipient sees everything: a file is made to fit where that is
//! possible, and is sent larger where it is not, with a warning.

use std::{process::Command, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Setup, USUAL, codes, only, plan, send};
use crate::harness::{World, read};

/// A tone of this length, as ffmpeg writes it with these options. It costs less to encode than speech, and takes more bytes
/// than an encoder is asked for.
fn tone(seconds: u32, extension: &str, options: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(format!("tone.{extension}"));
    let source = format!("sine=frequency=300:sample_rate=8000:duration={seconds}");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", &source, "-ac", "1"])
        .args(options)
        .arg(&path)
        .status();
    assert!(made.expect("ffmpeg").success());
    std::fs::read(path).expect("a file")
}

/// Ogg/Opus at a constant bit rate, which every target of Ogg takes untouched.
fn opus(seconds: u32, bitrate: &str) -> Vec<u8> {
    let options = ["-c:a", "libopus", "-b:a", bitrate, "-vbr", "off", "-compression_level", "0"];
    tone(seconds, "ogg", &options)
}

async fn world() -> World {
    Setup { top: "[audio]\nmax_duration = \"30m\"", ..USUAL }.start().await
}

/// Sends a note and waits until it is accepted. Minutes of audio take their time on a busy machine.
async fn sent(world: &World, query: &str, audio: Vec<u8>) -> Value {
    let (status, note) = read(world.post_raw(query, audio).send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{note}");
    let id = note["id"].as_str().expect("an id");
    for _ in 0..3000 {
        let note = world.note(id).await;
        if note["status"] == "accepted" {
            return note;
        }
        assert!(note["error"].is_null(), "{note}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the note is not accepted: {:#}", world.note(id).await);
}

/// The plan of a note, and the note as it was sent. They have to agree.
async fn planned_and_sent(world: &World, query: &str, audio: Vec<u8>) -> (Value, Value) {
    let planned = plan(world, query, audio.clone()).await;
    let note = sent(world, query, audio).await;
    assert_eq!(codes(&planned["reasons"]), codes(&note["warnings"]), "{planned} {note}");
    for field in ["profile", "work"] {
        assert_eq!(planned[field], note["audio"]["sent"][field], "{planned} {note}");
    }
    let size = |audio: &Value| audio["size_bytes"].as_f64().expect("a size");
    let ratio = size(&planned["audio"]) / size(&note["audio"]["sent"]);
    // A tone takes another bit rate than the one that is asked for.
    assert!((0.4..2.5).contains(&ratio), "{planned} {note}");
    (planned, note)
}

#[tokio::test]
async fn note_of_more_than_nine_minutes_goes_out_over_whatsapp_cloud_without_a_play_button() {
    let world = world().await;
    let query = "to=%2B15551234567&via=whatsapp-cloud&filename=a.mp3";
    let audio = tone(560, "mp3", &["-b:a", "8k"]);
    let (planned, note) = planned_and_sent(&world, query, audio.clone()).await;
    assert_eq!(codes(&note["warnings"]), ["play_icon_lost"], "{note}");
    assert_eq!((&planned["verdict"], &planned["work"]), (&json!("warning"), &json!("transcoded")));
    let size = note["audio"]["sent"]["size_bytes"].as_u64().expect("a size");
    assert!((512_001..16_000_000).contains(&size), "{size}");
    let entry = only(world.delivered("whatsapp-cloud"));
    assert_eq!((entry.form, entry.size_bytes as u64), ("voice", size));
    assert!(entry.problems.iter().all(|problem| problem.contains("512 KB")), "{:?}", entry.problems);
    // Whoever is strict gets a refusal at once.
    let strict = format!("{query}&strict=true");
    let planned = plan(&world, &strict, audio.clone()).await;
    assert_eq!(
        (&planned["verdict"], codes(&planned["reasons"])),
        (&json!("refused"), vec!["audio_too_long"])
    );
    let (status, problem) = send(&world, &strict, audio).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("audio_too_long")), "{problem}");
    assert_eq!(world.delivered("whatsapp-cloud").len(), 1);
}

#[tokio::test]
async fn file_is_made_to_fit_the_budget_of_whatsapp_cloud_where_that_is_possible() {
    let world = world().await;
    let query = "to=%2B15551234567&via=whatsapp-cloud&filename=a.ogg";
    let large = opus(120, "48k");
    assert!(large.len() > 512_000, "{}", large.len());
    let (planned, note) = planned_and_sent(&world, query, large.clone()).await;
    assert_eq!((&planned["verdict"], &note["warnings"]), (&json!("ok"), &json!([])), "{note}");
    assert_eq!(note["audio"]["sent"]["work"], "transcoded");
    assert!(note["audio"]["sent"]["size_bytes"].as_u64().is_some_and(|size| size <= 512_000), "{note}");
    // A bot that forbids encoding has its bytes sent as they are.
    let never = format!("{query}&convert=never");
    let (planned, note) = planned_and_sent(&world, &never, large.clone()).await;
    assert_eq!((&planned["work"], codes(&note["warnings"])), (&json!("none"), vec!["play_icon_lost"]));
    let sizes: Vec<usize> = world.delivered("whatsapp-cloud").iter().map(|entry| entry.size_bytes).collect();
    assert_eq!(sizes[1], large.len());
    let (status, problem) = send(&world, &format!("{never}&strict=true"), large).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("convert_refused")), "{problem}");
}

#[tokio::test]
async fn note_of_nineteen_minutes_goes_out_over_telegram_without_a_waveform() {
    let world = world().await;
    let query = "to=telegram:123456789&via=telegram&filename=a.ogg";
    let (planned, note) = planned_and_sent(&world, query, opus(1140, "8k")).await;
    assert_eq!(codes(&note["warnings"]), ["waveform_lost"], "{note}");
    assert_eq!((&planned["verdict"], &planned["work"]), (&json!("warning"), &json!("none")));
    let entry = only(world.delivered("telegram"));
    assert!(entry.form == "voice" && entry.size_bytes > 1_000_000, "{entry:?}");
}
