//! Received notes under faults: of the provider's server, of the database, and of the disk.

use std::{path::PathBuf, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    house::{House, ogg, path, received},
    inbound::{DAY, files_in},
    waha_server::{API_KEY, Answer, WahaServer},
};

#[tokio::test]
async fn audio_that_cannot_be_had_is_announced_with_its_code() {
    let stranger = WahaServer::start().await;
    stranger.put("M3.oga", ogg());
    let house = House::with("[audio]\nmax_bytes = \"1 MiB\"\n").await;
    let elsewhere = format!("{}/api/files/default/M3.oga", stranger.url);
    for (message, answer, code) in [
        ("M1", Answer::Status(404), "source_unreachable"),
        ("M2", Answer::Endless, "audio_too_large"),
        ("M3", Answer::RedirectTo(elsewhere), "source_unreachable"),
        ("M4", Answer::Audio(b"<!DOCTYPE html><html></html>".as_slice().into()), "audio_unreadable"),
        ("M5", Answer::Audio(Vec::new().into()), "audio_unreadable"),
        ("M6", Answer::Status(401), "provider_unauthorized"),
    ] {
        let note = house.heard(message, answer).await;
        assert_eq!((&note["status"], &note["error"]["code"]), (&json!("failed"), &json!(code)), "{note}");
        assert_eq!((&note["audio"], &note["waveform"]), (&Value::Null, &Value::Null));
        assert_eq!((&note["from"], &note["form"]), (&json!("+15551234567"), &json!("voice")));
        assert!(!note.to_string().contains(API_KEY));
        let audio = house.world.get(&format!("/received/{}/audio", path(&note["id"])));
        assert_eq!(audio.send().await.expect("an answer").status(), StatusCode::NOT_FOUND);
    }
    assert!(stranger.asked().is_empty(), "a redirect is not followed");
    assert_eq!(house.listed("").await.len(), 6);
    assert_eq!(house.world.stray_files(), [""; 0].map(PathBuf::from));
    assert!(files_in(&house.world.folder.path().join("media/received")).is_empty());
}

#[tokio::test]
async fn server_that_stalls_or_fails_for_now_is_asked_again_until_its_time_is_over() {
    let house = House::edited(|config| config.replace("[fetch]\n", "[fetch]\ntimeout = \"1s\"\n")).await;
    house.say("M1", Answer::Stall).await;
    house.say("M2", Answer::Status(503)).await;
    while house.waha.asked().len() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The second one recovers.
    house.waha.put("M2.oga", ogg());
    house.world.pass_until_told(&house.bot, 2).await;
    let told: Vec<Value> = house.bot.told(2).await.iter().map(received).collect();
    let of = |message: &str| told.iter().find(|note| path(&note["provider_message_id"]).ends_with(message));
    assert_eq!(of("M2").expect("told")["status"], "received");
    let stalled = of("M1").expect("told");
    assert_eq!(stalled["error"]["code"], "source_unreachable", "{stalled}");
}

#[tokio::test]
async fn first_stall_after_other_failures_ends_no_note() {
    let house = House::edited(|config| config.replace("[fetch]\n", "[fetch]\ntimeout = \"1s\"\n")).await;
    house.say("M1", Answer::Status(503)).await;
    let asked = async |times: usize| {
        while house.waha.asked().len() < times {
            house.world.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    asked(6).await;
    house.waha.put("M1.oga", Answer::Stall);
    asked(7).await;
    house.waha.put("M1.oga", ogg());
    house.world.pass_until_told(&house.bot, 1).await;
    let note = received(&house.bot.told(1).await[0]);
    assert_eq!(note["status"], "received", "{note}");
}

#[tokio::test]
async fn file_is_asked_for_also_after_the_time_for_which_the_server_keeps_it() {
    let house = House::start().await;
    house.say("M1", Answer::Status(503)).await;
    while house.waha.asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    house.waha.put("M1.oga", ogg());
    house.world.clock.advance(DAY / 2);
    house.world.pass_until_told(&house.bot, 1).await;
    let note = received(&house.bot.told(1).await[0]);
    assert_eq!(note["status"], "received", "{note}");
}

#[tokio::test]
async fn note_whose_audio_the_database_refuses_at_first_is_received() {
    let house = House::start().await;
    let url = format!("sqlite://{}/voicegate.db", house.world.folder.path().display());
    let raw = sqlx::SqlitePool::connect(&url).await.expect("the database");
    let refuse =
        "CREATE TRIGGER refuse BEFORE INSERT ON received_audio BEGIN SELECT RAISE(ABORT, 'refused'); END";
    sqlx::query(refuse).execute(&raw).await.expect("made");
    house.say("M1", ogg()).await;
    let states = "SELECT status FROM received WHERE json_extract(doc, '$.error') IS NOT NULL";
    let waiting = async {
        loop {
            let state: Option<String> = sqlx::query_scalar(states).fetch_optional(&raw).await.expect("read");
            if let Some(state) = state {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let state = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("a failed try");
    assert_eq!(state, "waiting", "there is no audio yet");
    sqlx::query("DROP TRIGGER refuse").execute(&raw).await.expect("removed");
    house.world.pass_until_told(&house.bot, 1).await;
    let note = received(&house.bot.told(1).await[0]);
    assert_eq!(note["status"], "received", "{note}");
    assert!(house.waha.asked().len() > 1, "it is fetched again");
}

#[tokio::test]
async fn audio_that_cannot_be_removed_keeps_no_other_from_being_removed() {
    let house = House::start().await;
    let note = house.heard("M1", ogg()).await;
    let url = format!("sqlite://{}/voicegate.db", house.world.folder.path().display());
    let raw = sqlx::SqlitePool::connect(&url).await.expect("the database");
    let folder = house.world.folder.path().join("media/received");
    std::fs::create_dir_all(&folder).expect("made");
    let mut all = raw.begin().await.expect("begun");
    for n in 0..500 {
        let id = voicegate::model::id::ReceivedId::new().to_string();
        // A file in the place of a folder stays.
        std::fs::write(folder.join(&id), "").expect("written");
        let due = "INSERT INTO received (id, tenant, connection, message, status, via, sender, conversation,
                       received_at, ended_at, audio_until, bytes)
                   VALUES ($1, 'a', 'a/waha', $1, 'received', 'waha', '', '', $2, $2, $2, 1)";
        sqlx::query(due).bind(&id).bind(n).execute(&mut *all).await.expect("stored");
    }
    all.commit().await.expect("stored");
    house.world.clock.advance(DAY + Duration::from_secs(1));
    voicegate::delivery::housekeeping::remove_what_is_old(&house.world.gateway).await.expect("swept");
    let audio = house.world.get(path(&note["audio"]["native"]["url"])).send().await.expect("an answer");
    assert_eq!(audio.status(), StatusCode::GONE);
}
