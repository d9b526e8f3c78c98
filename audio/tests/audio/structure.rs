//! Facts from structure alone equal those from decoding, and uncertain files give no facts.

use std::path::PathBuf;
use std::process::Command;

use sha2::{Digest, Sha256};
use voicegate_audio::{Hints, PcmFormat, Probed};

use crate::rows::rows;
use crate::tools::{Bench, fixture, table};

/// Results of both ways of reading some bytes; `None` if only decoding tells.
async fn both(
    bench: &Bench,
    name: &str,
    bytes: &[u8],
    format: Option<PcmFormat>,
) -> Option<(Probed, Probed)> {
    let hints = Hints { filename: Some(name.to_owned()), format, ..Hints::default() };
    let sha256 = hex::encode(Sha256::digest(bytes));
    let recognised = bench.engine.recognise(bytes, &sha256, &hints);
    let path = bench.scratch.path().join("source");
    std::fs::write(&path, bytes).unwrap();
    let decoded = bench.engine.probe(&path, &hints).await;
    match recognised {
        // A file may be refused only if decoding refuses it with the same words.
        Err(error) => {
            let decoded = decoded.unwrap_err();
            assert_eq!((error.kind, error.detail), (decoded.kind, decoded.detail), "{name}");
            None
        }
        Ok(None) => None,
        Ok(Some(recognised)) => {
            assert_eq!(bench.engine.identify(&path, &hints).await.unwrap(), recognised, "{name}");
            Some((recognised, decoded.unwrap_or_else(|error| panic!("{name}: {error:?}"))))
        }
    }
}

/// Whether the structure gives facts, which must then equal those from decoding.
async fn is_recognised(bench: &Bench, name: &str, bytes: &[u8], format: Option<PcmFormat>) -> bool {
    let Some((recognised, decoded)) = both(bench, name, bytes, format).await else { return false };
    assert_eq!((recognised.facts, recognised.detail), (decoded.facts, decoded.detail), "{name}");
    assert!(recognised.waveform.is_empty() && decoded.waveform.len() == 64, "{name}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn structure_of_fixtures_agrees_with_decoding() {
    let bench = Bench::new();
    let mut recognised = Vec::new();
    for input in table().input {
        let bytes = std::fs::read(fixture(&input.file)).unwrap();
        if is_recognised(&bench, &input.file, &bytes, input.format).await {
            recognised.push(input.file);
        }
    }
    for row in rows() {
        if is_recognised(&bench, &row.name, &row.bytes(), row.format).await {
            assert!(row.accepted.is_some(), "{} is refused only after decoding", row.name);
            recognised.push(row.name);
        }
    }
    println!("{recognised:?}");
    for common in [
        "speech-24k.mp3",
        "speech-cover.mp3",
        "stereo-dual-mono.mp3",
        "speech.wav",
        "24-bit.wav",
        "f32.wav",
        "speech.aiff",
        "speech-pcm.caf",
        "speech.s16le",
        "speech-moov-first.m4a",
        "speech-moov-last.m4a",
        "speech-opus-wideband.ogg",
        "speech-opus-60ms.ogg",
        "recorder-wideband.ogg",
        "speech-wideband.webm",
    ] {
        assert!(recognised.iter().any(|name| name == common), "{common} costs a decoding");
    }
}

/// A little more than a second, from the encoders that bots use.
fn made(bench: &Bench, name: &str, options: &str) -> Vec<u8> {
    let path: PathBuf = bench.scratch.path().join(name);
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-i"])
        .arg(fixture("speech.wav"))
        .args(["-t", "1.2345"])
        .args(options.split_whitespace())
        .arg(&path)
        .status()
        .unwrap();
    assert!(done.success(), "{name}");
    std::fs::read(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn structure_of_encoder_output_agrees_with_decoding() {
    let bench = Bench::new();
    for rate in [8_000, 22_050, 24_000, 44_100, 48_000] {
        for (name, options) in [
            ("constant.mp3", "-c:a libmp3lame -b:a 48k"),
            ("variable.mp3", "-c:a libmp3lame -q:a 4"),
            ("stereo.mp3", "-ac 2 -c:a libmp3lame -b:a 64k"),
            ("bare.mp3", "-c:a libmp3lame -b:a 48k -write_xing 0 -id3v2_version 0"),
            ("tagged.mp3", "-c:a libmp3lame -metadata title=x -write_id3v1 1"),
            ("stereo.wav", "-ac 2 -c:a pcm_s16le"),
            ("plain.aiff", "-c:a pcm_s16be"),
            ("plain.caf", "-c:a pcm_s16le"),
            ("plain.m4a", "-c:a aac"),
            ("first.m4a", "-ac 2 -c:a aac -movflags +faststart"),
        ] {
            let bytes = made(&bench, name, &format!("{options} -ar {rate}"));
            let name = format!("{name} at {rate} Hz");
            let recognised = is_recognised(&bench, &name, &bytes, None).await;
            // The file is so small that the tag at its end makes ffmpeg distrust its header.
            assert!(recognised != (name == "tagged.mp3 at 8000 Hz"), "{name} costs a decoding, or should");
        }
    }
    let speech = std::fs::read(fixture("speech.amr")).unwrap();
    let frames = speech[6..].chunks(32).take_while(|frame| frame[0] == 0x3c).flatten();
    let amr: Vec<u8> = b"#!AMR\n".iter().chain(frames).copied().collect();
    assert!(is_recognised(&bench, "speech.amr without pauses", &amr, None).await);
    for (name, options) in [
        ("voip.ogg", "-c:a libopus -b:a 24k -application voip"),
        ("music.ogg", "-ac 2 -c:a libopus -b:a 64k"),
        ("long-frames.opus", "-c:a libopus -frame_duration 60"),
        ("fast.aac", "-ar 44100 -c:a aac"),
    ] {
        let bytes = made(&bench, name, options);
        assert!(is_recognised(&bench, name, &bytes, None).await, "{name} costs a decoding");
    }
}

/// Bots cut MP3 anywhere: at the end within a frame, at the start after data that the first frames need.
#[tokio::test(flavor = "multi_thread")]
async fn structure_of_truncated_mp3_agrees_with_decoding() {
    let bench = Bench::new();
    for (name, length) in [("speech-24k.mp3", 96), ("stereo-dual-mono.mp3", 192)] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        // The offset after the tag and the information frame.
        let first = 45 + 192;
        for from in [0, first, first + 9 * length] {
            for end in [bytes.len(), bytes.len() / 2, bytes.len() / 3] {
                let case = format!("{name} from {from} to {end}");
                // Fewer than forty bytes of a frame may decode as a frame or not.
                let left = (end - first) % length;
                let whole = left == 0 || left >= 40;
                // An information frame that states too many frames is not believed, and decoding tells.
                let sure = whole && (from > 0 || end == bytes.len());
                assert_eq!(is_recognised(&bench, &case, &bytes[from..end], None).await, sure, "{case}");
            }
        }
    }
}

/// Tests that a clean file that was truncated or changed anywhere gives no other facts than decoding.
#[tokio::test(flavor = "multi_thread")]
async fn structure_of_damaged_files_never_contradicts_decoding() {
    let bench = Bench::new();
    for name in ["speech.wav", "speech-opus-wideband.ogg", "speech.amr", "speech-moov-first.m4a"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for end in [bytes.len() - 1, bytes.len() / 2 + 1, bytes.len() / 3] {
            let case = format!("{name} up to {end}");
            assert!(!is_recognised(&bench, &case, &bytes[..end], None).await, "{case}");
        }
        let mut longer = bytes.clone();
        longer.extend_from_slice(b"something that does not belong there");
        assert!(!is_recognised(&bench, &format!("{name} and more"), &longer, None).await, "{name} and more");
    }
}
