//! Files for several profiles of one source, which are encoded in one run of ffmpeg.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use voicegate_audio::{Convert, Engine, Hints, Observer, Profile, Ready, SourceFile, profile};

use crate::tools::{Bench, fixture};

/// Remembers how the runs of ffmpeg ended that made files.
#[derive(Debug, Default)]
struct Runs(Mutex<Vec<&'static str>>);

impl Observer for Runs {
    fn ran(&self, purpose: &'static str, outcome: &'static str, _: Duration) {
        if purpose == "encode" {
            self.0.lock().unwrap().push(outcome);
        }
    }
}

impl Runs {
    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn observed() -> (Bench, Arc<Runs>) {
    let runs = Arc::new(Runs::default());
    let observer = runs.clone();
    (Bench::with(|options| options.observer = observer), runs)
}

fn received() -> Vec<&'static Profile> {
    ["wav16k-1", "mp3-1"].map(|name| profile(name).unwrap()).to_vec()
}

async fn each(engine: &Engine, path: &Path, profiles: &[&'static Profile]) -> Vec<Arc<Ready>> {
    let hints = Hints::default();
    let source = SourceFile { path, hints: &hints, probed: None };
    Box::pin(engine.prepare_each(source, profiles, Convert::Auto)).await.unwrap()
}

fn digests(all: &[Arc<Ready>]) -> Vec<Option<String>> {
    all.iter().map(|ready| Some(ready.made.as_ref()?.facts.sha256.clone())).collect()
}

/// Without a cached render, a file is encoded by itself.
async fn alone(path: &Path, profiles: &[&'static Profile]) -> Vec<Option<String>> {
    let bench = Bench::new();
    let mut all = Vec::new();
    for &profile in profiles {
        all.extend(digests(&each(&bench.engine, path, &[profile]).await));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_makes_the_same_files_as_one_run_for_each() {
    for name in
        ["speech-opus-wideband.ogg", "speech-opus-stereo.ogg", "speech-24k.mp3", "speech.flac", "speech.amr"]
    {
        let (bench, runs) = observed();
        let path = fixture(name);
        let made = digests(&each(&bench.engine, &path, &received()).await);
        assert_eq!(runs.take(), ["ok"], "{name}");
        assert_eq!(made, alone(&path, &received()).await, "{name}");
        assert!(made[0].is_some(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_channels_that_cancel_each_other_out_have_the_same_mix() {
    let (bench, runs) = observed();
    let path = bench.scratch.path().join("opposite.wav");
    let tone = |n: u32| (f64::from(n) * 0.1).sin() * 9_000.0;
    let samples: Vec<u8> =
        (0..16_000).flat_map(|n| [tone(n) as i16, -(tone(n) as i16)]).flat_map(i16::to_le_bytes).collect();
    std::fs::write(bench.scratch.path().join("samples"), samples).unwrap();
    let made = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-f", "s16le", "-ar", "16000", "-ac", "2", "-i"])
        .arg(bench.scratch.path().join("samples"))
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    let profiles = ["wav16k-1", "m4a-1", "whatsapp-1"].map(|name| profile(name).unwrap());
    let made = digests(&each(&bench.engine, &path, &profiles).await);
    assert_eq!(made, alone(&path, &profiles).await);
    assert!(made.iter().all(Option::is_some));
    assert_eq!(runs.take(), ["ok", "ok"], "once to find it out, and once for all files");
}

#[tokio::test(flavor = "multi_thread")]
async fn untouched_and_cached_files_are_not_made_again() {
    let (bench, runs) = observed();
    let path = fixture("speech-24k.mp3");
    let made = digests(&each(&bench.engine, &path, &received()).await);
    assert_eq!(made[1], None, "MP3 is kept as it is");
    runs.take();
    assert_eq!(digests(&each(&bench.engine, &path, &received()).await), made);
    assert!(runs.take().is_empty());
}

/// An ffmpeg that makes one file at a time.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_made_together_are_made_one_by_one() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("ffmpeg");
    let text = "#!/bin/sh\ncase \"$*\" in *libmp3lame*pcm_s16le*|*pcm_s16le*libmp3lame*) exit 1;; esac\nexec ffmpeg \"$@\"\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let runs = Arc::new(Runs::default());
    let observer = runs.clone();
    let bench = Bench::with(|options| {
        options.ffmpeg = Some(script);
        options.observer = observer;
    });
    let path = fixture("speech-opus-stereo.ogg");
    let probed = bench.probe("speech-opus-stereo.ogg", None).await;
    runs.take();
    let hints = Hints::default();
    let source = SourceFile { path: &path, hints: &hints, probed: Some(&probed) };
    let all = Box::pin(bench.engine.prepare_each(source, &received(), Convert::Auto)).await.unwrap();
    assert_eq!(digests(&all), alone(&path, &received()).await);
    assert_eq!(runs.take(), ["died", "ok", "ok"]);
}
