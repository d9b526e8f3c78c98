//! Outages of ffmpeg: notes wait for it, and their audio is not blamed.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use voicegate_audio::{Convert, Hints};

use crate::{
    harness::{World, attempts, fixture, read},
    house::{House, ogg, received},
};

/// A script in front of the system's ffmpeg that fails in each run as the lines of a file say. The modification time of
/// the file counts the runs, since a confined run may change that time but no content.
const SCRIPT: &str = r#"#!/bin/sh
runs="${0%/bin/*}/lib/runs"
n=$(stat -c %Y "$runs")
touch -c -d "@$((n + 1))" "$runs"
case $(sed -n "$((n + 1))p" "$runs") in
killed) kill -9 $$ ;;
crashed) kill -11 $$ ;;
quiet) exit 1 ;;
empty) exit 0 ;;
hangs) exec sleep 600 ;;
damaged) echo '[error] file:x: Invalid data found when processing input' >&2; exit 1 ;;
esac
case $(cat "${0%/bin/*}/lib/always")$* in
killed*/tone-* | hangs*/tone-*) ;;
killed*) kill -9 $$ ;;
hangs*) exec sleep 600 ;;
esac
exec ffmpeg "$@"
"#;

struct FakeFfmpeg {
    folder: tempfile::TempDir,
}

impl FakeFfmpeg {
    /// `runs` lists the failure of each run, from the first one. Later runs succeed, except that runs on anything other
    /// than a tone always fail like `always`.
    fn new(runs: &[&str], always: &str) -> Self {
        let fake = Self { folder: tempfile::tempdir().expect("a folder") };
        for folder in ["bin", "lib"] {
            std::fs::create_dir(fake.path(folder)).expect("a folder");
        }
        std::fs::write(fake.path("lib/runs"), runs.join("\n")).expect("written");
        std::fs::write(fake.path("lib/always"), always).expect("written");
        fake.set_runs(0);
        fake.install();
        fake
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn executable(&self) -> PathBuf {
        self.path("bin/ffmpeg")
    }

    fn install(&self) {
        // The script is written elsewhere and moved, because an executable that is open for writing cannot be started.
        let new = self.path("bin/new");
        std::fs::write(&new, SCRIPT).expect("written");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("executable");
        std::fs::rename(new, self.executable()).expect("moved");
    }

    fn remove(&self) {
        std::fs::remove_file(self.executable()).expect("removed");
    }

    fn set_runs(&self, count: u64) {
        let file = std::fs::File::options().write(true).open(self.path("lib/runs")).expect("opened");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(count)).expect("set");
    }

    /// The number of runs.
    fn runs(&self) -> u64 {
        let changed =
            std::fs::metadata(self.path("lib/runs")).and_then(|file| file.modified()).expect("a time");
        changed.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
    }

    async fn world(&self, timeout: &str) -> World {
        let executable = self.executable();
        World::with(|config| configured(&config, &executable, timeout)).await
    }
}

fn configured(config: &str, executable: &Path, timeout: &str) -> String {
    let executable = executable.display();
    format!(
        "{config}\n[audio]\nffmpeg = \"{executable}\"\ntimeout = \"{timeout}\"\nworkers = 2\ncache = \"0 B\"\n"
    )
}

/// Sends audio to a number of recipients over a connection that needs it transcoded. One of the sources can be
/// identified only by decoding.
async fn send(world: &World, count: usize) -> Vec<String> {
    let names = ["speech.wav", "speech.flac", "speech-vorbis.ogg", "speech-24k.mp3"];
    let mut ids = Vec::new();
    for number in 0..count {
        let query = format!("to=%2B1555000{number:04}&via=whatsapp");
        let request = world.post_raw(&query, fixture(names[number % names.len()]));
        let (status, note) = read(request.send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{note}");
        ids.push(note["id"].as_str().expect("an id").to_owned());
    }
    ids
}

/// Advances the time in steps until every note meets the condition.
async fn pass_until(world: &World, ids: &[String], wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    for _ in 0..3000 {
        let mut notes = Vec::new();
        for id in ids {
            notes.push(world.note(id).await);
        }
        if notes.iter().all(&wanted) {
            return notes;
        }
        let lost = notes.iter().find(|note| note["status"] == "failed" && !wanted(note));
        assert!(lost.is_none(), "{:#}", lost.unwrap_or(&Value::Null));
        world.clock.advance(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain; the first note is {:#}", world.note(&ids[0]).await);
}

#[track_caller]
fn assert_not_blamed(note: &Value) {
    for attempt in note["attempts"].as_array().expect("attempts") {
        let code = &attempt["error"]["code"];
        assert!(code.is_null() || *code == "internal", "{note:#}");
    }
}

#[tokio::test]
async fn all_notes_survive_a_temporary_failure_of_ffmpeg() {
    for how in ["killed", "crashed", "quiet", "empty"] {
        let fake = FakeFfmpeg::new(&[how; 40], "");
        let world = fake.world("60s").await;
        let ids = send(&world, 8).await;
        let notes = pass_until(&world, &ids, |note| note["status"] == "accepted").await;
        assert!(fake.runs() > 40, "{how}");
        assert!(notes.iter().any(|note| attempts(note) > 1), "{how}: no run of a note went wrong");
        notes.iter().for_each(assert_not_blamed);
    }
}

#[tokio::test]
async fn notes_survive_an_ffmpeg_that_hangs() {
    let fake = FakeFfmpeg::new(&["hangs"; 5], "");
    let world = fake.world("4s").await;
    let ids = send(&world, 2).await;
    let notes = pass_until(&world, &ids, |note| note["status"] == "accepted").await;
    notes.iter().for_each(assert_not_blamed);
    assert!(notes.iter().any(|note| attempts(note) > 1));
}

#[tokio::test]
async fn notes_survive_a_missing_ffmpeg() {
    let fake = FakeFfmpeg::new(&[], "");
    let world = fake.world("60s").await;
    fake.remove();
    let ids = send(&world, 8).await;
    // This is more often than the limit of any attempts.
    pass_until(&world, &ids, |note| attempts(note) >= 9).await;
    fake.install();
    let notes = pass_until(&world, &ids, |note| note["status"] == "accepted").await;
    notes.iter().for_each(assert_not_blamed);
}

#[tokio::test]
async fn damage_is_final_if_two_runs_agree() {
    let fake = FakeFfmpeg::new(&[], "");
    let world = fake.world("60s").await;
    let (status, problem) =
        read(world.post_raw("to=%2B15551234567", fixture("truncated.flac")).send().await.expect("an answer"))
            .await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("audio_unreadable")));
    assert_eq!(fake.runs(), 3, "two on the file, and one that shows that ffmpeg works");
}

/// An ffmpeg that calls everything damaged does not work itself.
#[tokio::test]
async fn damage_is_not_blamed_on_the_audio_if_a_test_tone_fails_too() {
    let fake = FakeFfmpeg::new(&["damaged"; 12], "");
    let world = fake.world("60s").await;
    let ids = [world.accept("via=whatsapp", fixture("speech-vorbis.ogg")).await];
    let notes = pass_until(&world, &ids, |note| note["status"] == "accepted").await;
    assert_not_blamed(&notes[0]);
}

#[tokio::test]
async fn damage_that_a_second_run_does_not_find_is_ignored() {
    let fake = FakeFfmpeg::new(&["damaged"], "");
    let world = fake.world("60s").await;
    let id = world.accept("via=whatsapp", fixture("speech-vorbis.ogg")).await;
    let note = world.until_status(&id, "accepted").await;
    assert_eq!(attempts(&note), 1, "{note:#}");

    // Damage is also found while a file is rendered.
    let fake = FakeFfmpeg::new(&["damaged"], "");
    let world = fake.world("60s").await;
    let ids = [world.accept("via=whatsapp", fixture("speech.wav")).await];
    let notes = pass_until(&world, &ids, |note| note["status"] == "accepted").await;
    assert_not_blamed(&notes[0]);
}

/// A note ends if ffmpeg crashes or hangs in every run on its file.
#[tokio::test]
async fn file_that_always_crashes_ffmpeg_fails_eventually() {
    for (how, code, tries) in [("killed", "audio_unsupported", 16), ("hangs", "audio_unreadable", 3)] {
        let fake = FakeFfmpeg::new(&[], how);
        let world = fake.world("4s").await;
        let ids = [world.accept("via=whatsapp", fixture("speech-vorbis.ogg")).await];
        let notes = pass_until(&world, &ids, |note| note["status"] == "failed").await;
        let (note, error) = (&notes[0], &notes[0]["error"]);
        assert_eq!(
            (error["code"].as_str(), error["stage"].as_str()),
            (Some(code), Some("probe")),
            "{note:#}"
        );
        assert_eq!(attempts(note), tries, "{note:#}");
        assert_not_blamed(note);
    }
}

#[tokio::test]
async fn ffmpeg_failure_during_a_request_asks_the_caller_to_retry() {
    let fake = FakeFfmpeg::new(&[], "");
    let world = fake.world("60s").await;
    fake.remove();
    for path in ["/media", "/voice/plan?to=%2B15551234567"] {
        let request = world.http.post(format!("{}{path}", world.url)).bearer_auth(crate::harness::KEY);
        let request =
            request.header("content-type", "application/octet-stream").body(fixture("speech-vorbis.ogg"));
        let response = request.send().await.expect("an answer");
        assert!(response.headers().contains_key("retry-after"), "{path}");
        let (status, problem) = read(response).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("overloaded")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn gateway_becomes_ready_once_ffmpeg_is_installed() {
    let fake = FakeFfmpeg::new(&[], "");
    let world = fake.world("60s").await;
    fake.remove();
    let gateway = world.gateway.clone();
    let testing = tokio::spawn(async move { gateway.audio_test.run_until_it_works(&gateway).await });
    assert!(world.gateway.audio_test.ended().await.is_err());
    fake.install();
    while !testing.is_finished() {
        world.clock.advance(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(world.gateway.audio_test.works());
}

/// Nobody can do anything about an `internal` problem. What was made of the audio before goes with the note.
#[tokio::test]
async fn received_note_of_which_a_render_fails_is_told_so_and_leaves_no_other_render() {
    let folder = tempfile::tempdir().expect("a folder");
    let executable = folder.path().join("ffmpeg");
    let script = "#!/bin/sh\ncase \"$*\" in *libmp3lame*) exec sleep 600 ;; esac\nexec ffmpeg \"$@\"\n";
    std::fs::write(&executable, script).expect("written");
    std::fs::set_permissions(&executable, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let house = House::edited(|config| {
        let renders = "[tenants.a.inbound]\nrenders = [\"wav16k-1\", \"mp3-1\"]\n";
        configured(&(config + renders), &executable, "1s").replace("cache = \"0 B\"\n", "")
    })
    .await;
    house.say("M1", ogg()).await;
    house.world.pass_until_told(&house.bot, 1).await;
    let note = received(&house.bot.told(1).await[0]);
    assert_eq!(
        (&note["status"], &note["error"]["code"], &note["error"]["stage"]),
        (&json!("failed"), &json!("audio_unsupported"), &json!("encode")),
        "{note}"
    );
    let (bytes, hints) = (fixture("recorder-wideband.ogg"), Hints::default());
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let engine = house.world.gateway.engine.for_tenant("a");
    let profile = voicegate_audio::profile("wav16k-1").expect("a profile");
    let probed = engine.recognise(&bytes, &sha256, &hints).expect("audio").expect("known by its structure");
    let render = engine.prepared(&probed, &hints, profile, Convert::Auto).await;
    assert!(render.is_none(), "a render stays");
}
