//! A confined ffmpeg reaches its source and its output, and nothing else, if the kernel supports it.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use voicegate_audio::{Confinement, Convert, Render, confinement, profile};

use crate::tools::{Bench, fixture};

/// A substitute for ffmpeg that attempts something forbidden. It produces the requested output only if the attempt
/// fails.
fn hostile_ffmpeg(folder: &Path, name: &str, foul: &str) -> PathBuf {
    let script = folder.join(name);
    let made = std::fs::read(fixture("speech-moov-first.m4a")).unwrap();
    let text = format!(
        "#!/bin/bash\nif {{ {foul}; }} >/dev/null 2>&1; then exit 1; fi\n\
         for last; do :; done\nexec tail -c {} \"$0\" > \"${{last#file:}}\"\n",
        made.len()
    );
    std::fs::write(&script, [text.as_bytes(), &made].concat()).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_ffmpeg_reaches_no_other_file_or_process() {
    let folder = tempfile::TempDir::new().unwrap();
    let foreign = folder.path().join("foreign");
    std::fs::write(&foreign, "a secret").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let foreign_path = foreign.display();
    let own = std::process::id();

    let real = Bench::new();
    let speech = real.probe("speech.flac", None).await;
    let level = confinement().unwrap();
    if level == Confinement::Unavailable {
        println!("skipped: the kernel has no Landlock");
        return;
    }
    let files = [
        ("reads", format!("cat '{foreign_path}'")),
        ("lists", format!("ls '{}'", folder.path().display())),
        ("reads-users", "cat /etc/passwd".to_owned()),
        ("reads-our-environment", format!("cat /proc/{own}/environ")),
        ("writes", format!("echo changed > '{foreign_path}'")),
        ("makes", format!("touch '{}/new'", folder.path().display())),
        ("writes-its-source", "while [ \"$1\" != -i ]; do shift; done; : >> \"${2#file:}\"".to_owned()),
        ("removes", format!("rm -f '{foreign_path}' && ! [ -e '{foreign_path}' ]")),
    ];
    let others =
        [("connects", format!("exec 3<>/dev/tcp/127.0.0.1/{port}")), ("signals", format!("kill -0 {own}"))];
    let others = others.into_iter().filter(|(name, _)| {
        let checked = level == Confinement::Enforced;
        if !checked {
            println!("skipped: {name}: the kernel is too old for that");
        }
        checked
    });
    let target = profile("linq-1").unwrap();
    let source = folder.path().join("source.flac");
    for (name, foul) in files.into_iter().chain(others) {
        std::fs::copy(fixture("speech.flac"), &source).unwrap();
        let script = hostile_ffmpeg(folder.path(), name, &foul);
        let bench = Bench::with(|options| options.ffmpeg = Some(script.clone()));
        let render = bench.engine.render(&source, &speech, target, Convert::Always).await;
        assert!(matches!(render, Ok(Render::Made { .. })), "{name} succeeds: {render:?}");
        assert_eq!(std::fs::read(&foreign).unwrap(), b"a secret", "{name}");

        // The attempt succeeds without confinement, so the test would notice a missing one.
        let run = Command::new(&script)
            .args(["-i", &format!("file:{}", source.display()), "file:/dev/null"])
            .status();
        assert_eq!(run.unwrap().code(), Some(1), "{name}");
        std::fs::write(&foreign, "a secret").unwrap();
    }
    listener.set_nonblocking(true).unwrap();
    if level == Confinement::Enforced {
        listener.accept().expect("the unconfined one");
        assert!(listener.accept().is_err(), "the confined one connected as well");
    }
}

/// A confined run does not confine the process that starts it.
#[tokio::test(flavor = "multi_thread")]
async fn confinement_does_not_affect_the_engine() {
    let bench = Bench::new();
    for _ in 0..20 {
        bench.probe("speech.flac", None).await;
    }
    let free = tempfile::TempDir::new().unwrap();
    for _ in 0..20 {
        let path = free.path().join("file");
        tokio::task::spawn_blocking(move || std::fs::write(path, "content")).await.unwrap().unwrap();
    }
    assert!(Command::new("cat").arg(free.path().join("file")).status().unwrap().success());
    TcpListener::bind("127.0.0.1:0").unwrap();
}
