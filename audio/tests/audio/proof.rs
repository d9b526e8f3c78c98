//! The engine returns no file that fails verification, whatever ffmpeg produced.

use std::path::PathBuf;

use voicegate_audio::{AudioErrorKind, Convert, Render, Stage, profile};

use crate::tools::{Bench, fixture};

/// A substitute for ffmpeg that outputs a given file. The content is embedded, because other files are out of its
/// reach.
#[cfg(unix)]
fn copying_ffmpeg(folder: &std::path::Path, made: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;

    let script = folder.join(format!("ffmpeg-{made}"));
    let made = std::fs::read(fixture(made)).unwrap();
    let text = format!(
        "#!/bin/sh\nfor last; do :; done\nexec tail -c {} \"$0\" > \"${{last#file:}}\"\n",
        made.len()
    );
    std::fs::write(&script, [text.as_bytes(), &made].concat()).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    script
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn file_that_fails_verification_is_not_returned() {
    let folder = tempfile::TempDir::new().unwrap();
    let real = Bench::new();
    let speech = real.probe("speech.flac", None).await;
    let longer = real.probe("speech-hole.webm", None).await;
    let table = [
        ("linq-1", "speech-moov-first.m4a", true),
        ("linq-1", "speech-moov-last.m4a", false),
        ("linq-1", "speech-fragmented.mp4", false),
        ("linq-1", "speech-video.mp4", false),
        ("linq-1", "speech-alac.m4a", false),
        ("linq-1", "truncated-moov-first.m4a", false),
        ("linq-1", "speech-24k.mp3", false),
        ("linq-1", "empty.mp3", false),
        // Their headers are written anew, so only the packets matter here.
        ("whatsapp-1", "speech-opus-wideband.ogg", true),
        ("whatsapp-1", "speech-opus-stereo.ogg", false),
        ("whatsapp-1", "speech-opus-mono-fullband.ogg", false),
        ("whatsapp-1", "speech-opus-60ms.ogg", false),
        ("whatsapp-1", "speech-vorbis.ogg", false),
        ("whatsapp-1", "damaged.ogg", false),
        ("whatsapp-1", "truncated.ogg", false),
        ("whatsapp-3", "speech-opus-mono-fullband.ogg", true),
        ("whatsapp-3", "speech-opus-stereo.ogg", false),
        ("mp3-1", "speech-24k.mp3", true),
        ("mp3-1", "stereo-dual-mono.mp3", false),
        ("mp3-1", "speech.wav", false),
        ("mp3-1", "tag-only.mp3", false),
    ];
    for (target, made, right) in table {
        let bench = Bench::with(|options| options.ffmpeg = Some(copying_ffmpeg(folder.path(), made)));
        let target = profile(target).unwrap();
        let source = fixture("speech.flac");
        let case = format!("{made} for {}", target.name);
        match bench.engine.render(&source, &speech, target, Convert::Always).await {
            Ok(Render::Made { .. }) => assert!(right, "{case} was handed out"),
            Ok(Render::Untouched) => panic!("{case}: nothing was made"),
            Err(error) => {
                assert!(!right, "{case}: {error:?}");
                // An empty file only shows that this ffmpeg does not work.
                let kind =
                    if made == "empty.mp3" { AudioErrorKind::Outage } else { AudioErrorKind::Internal };
                assert_eq!((error.kind, error.stage), (kind, Stage::Encode), "{case}");
            }
        }
        // The file is wrong for a source that is a second longer.
        let render = bench.engine.render(&source, &longer, target, Convert::Always).await;
        assert!(render.is_err(), "{case} was handed out for a longer source");
        drop(render);
        assert_eq!(bench.leftovers(), Vec::<PathBuf>::new(), "{case}");
    }
}
