//! Many concurrent jobs, and callers that go away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use voicegate_audio::{AudioErrorKind, Convert, Hints, Render, profile};

#[cfg(target_os = "linux")]
use crate::tools::group_of;
use crate::tools::{Bench, children, fixture};

#[tokio::test(flavor = "multi_thread")]
async fn eight_concurrent_jobs_succeed() {
    let bench = Bench::new();
    let target = profile("whatsapp-1").unwrap();
    let names = ["speech.wav", "speech.flac", "speech.webm", "speech-moov-last.m4a"];
    let jobs = (0..8).map(|index| {
        let bench = &bench;
        async move {
            let name = names[index % names.len()];
            let probed = bench.probe(name, None).await;
            let render = bench.engine.render(&fixture(name), &probed, target, Convert::Auto).await.unwrap();
            let Render::Made { facts, .. } = render else { panic!("nothing was made") };
            facts.sha256
        }
    });
    let digests = join_all(jobs).await;
    for index in 0..4 {
        assert_eq!(digests[index], digests[index + 4]);
    }
    assert_eq!(bench.leftovers(), Vec::<PathBuf>::new());
    assert_eq!(children(), Vec::<u32>::new());
}

/// A substitute for ffmpeg that never ends and starts a child of its own.
#[cfg(unix)]
fn endless_ffmpeg(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;

    let script = folder.join("ffmpeg");
    std::fs::write(&script, "#!/bin/sh\nsleep 600 &\nwait\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    script
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn full_queue_refuses_further_jobs() {
    let folder = tempfile::TempDir::new().unwrap();
    let script = endless_ffmpeg(folder.path());
    let bench = Bench::with(|options| {
        options.workers = 1;
        options.ffmpeg = Some(script);
    });
    // Nothing but ffmpeg decodes it.
    let path = fixture("speech.flac");
    let hints = Hints::default();
    let mut jobs: FuturesUnordered<_> = (0..100).map(|_| bench.engine.probe(&path, &hints)).collect();
    // One job runs, and 64 wait.
    for _ in 0..35 {
        let error = jobs.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind, AudioErrorKind::Overloaded, "{error:?}");
    }
    assert!(futures_util::poll!(jobs.next()).is_pending());
    drop(jobs);
    until(|| children().is_empty()).await;
}

/// Neither the child nor its own child outlives its caller or its time limit.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn processes_end_with_their_caller() {
    let folder = tempfile::TempDir::new().unwrap();
    let script = endless_ffmpeg(folder.path());
    let bench = Bench::with(|options| {
        options.ffmpeg = Some(script);
        options.timeout = Duration::from_secs(1);
    });
    let path = fixture("speech.flac");

    let hints = Hints::default();
    let (timed_out, pids) = tokio::join!(bench.engine.probe(&path, &hints), both_started());
    let timed_out = timed_out.unwrap_err();
    assert_eq!(timed_out.kind, AudioErrorKind::Outage, "a tone takes as long: {timed_out:?}");
    gone(&pids).await;

    let (engine, source) = (bench.engine.clone(), path.clone());
    let job = tokio::spawn(async move { engine.probe(&source, &Hints::default()).await });
    let pids = both_started().await;
    job.abort();
    gone(&pids).await;
    until(|| children().is_empty()).await;
}

/// Waits for our child and for its own child in the same group, and returns their ids.
#[cfg(target_os = "linux")]
async fn both_started() -> Vec<u32> {
    let mut group = Vec::new();
    until(|| {
        group = children().first().map(|&leader| group_of(leader)).unwrap_or_default();
        group.len() == 2
    })
    .await;
    group
}

/// Waits until these processes have ended.
#[cfg(target_os = "linux")]
async fn gone(pids: &[u32]) {
    for pid in pids {
        until(|| {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // An orphaned zombie waits for the init process, which is not under test.
            state.rsplit_once(')').is_none_or(|(_, after)| after.trim_start().starts_with('Z'))
        })
        .await;
    }
}

async fn until(mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !reached() {
        assert!(Instant::now() < deadline, "it did not happen within ten seconds");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A crashed process leaves its folder. The next engine removes it, and does not touch folders in use.
#[test]
fn leftovers_are_removed_from_the_scratch_folder() {
    let first = Bench::new();
    let scratch = first.scratch.path().join("engine");
    let abandoned = scratch.join("run-dead");
    std::fs::create_dir(&abandoned).unwrap();
    std::fs::write(abandoned.join("render-1"), b"left").unwrap();
    std::fs::write(abandoned.join("lock"), b"").unwrap();
    let second = voicegate_audio::Engine::new(crate::tools::options(first.scratch.path())).unwrap();
    let runs =
        || std::fs::read_dir(&scratch).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
    assert!(!abandoned.exists());
    assert_eq!(runs(), 2);
    drop(second);
    assert_eq!(runs(), 1);
}
