//! Sources that must be refused quickly, with a reason, and without leaving anything behind.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ogg::{PacketWriteEndInfo, PacketWriter};
use voicegate_audio::{AudioErrorKind, Convert, Hints, PcmFormat, profile};

use crate::tools::{Bench, fixture};

/// A media type alone declares headerless samples as well as a name does; bytes with a header override both.
#[tokio::test(flavor = "multi_thread")]
async fn headerless_samples_need_a_format() {
    let bench = Bench::new();
    let raw = fixture("speech.s16le");
    for mime_type in ["audio/l16; rate=16000", "audio/pcm", "AUDIO/RAW", "audio/basic"] {
        let hints = Hints { mime_type: Some(mime_type.to_owned()), ..Hints::default() };
        let error = bench.engine.probe(&raw, &hints).await.unwrap_err();
        assert_eq!(error.kind, AudioErrorKind::FormatRequired, "{mime_type}");
    }
    let format: PcmFormat =
        serde_json::from_str(r#"{"encoding":"s16le","sample_rate":48000,"channels":2}"#).unwrap();
    let probed = bench.probe("speech-24k.mp3", Some(format)).await;
    assert_eq!((probed.facts.codec.0.as_str(), probed.detail.format), ("mp3", None));
    let hints = Hints { format: Some(format), ..Hints::default() };
    let error = bench.engine.probe(&fixture("page.mp3"), &hints).await.unwrap_err();
    assert!(error.detail.contains("HTML"), "{error:?}");
    for bad in [
        r#"{"encoding":"s16le","sample_rate":0,"channels":1}"#,
        r#"{"encoding":"s16le","sample_rate":16000,"channels":9}"#,
        r#"{"encoding":"s8","sample_rate":16000,"channels":1}"#,
        r#"{"encoding":"s16le","sample_rate":16000,"channels":1,"rate":1}"#,
    ] {
        assert!(serde_json::from_str::<PcmFormat>(bad).is_err(), "{bad}");
    }
}

/// Three hours in less than 300 kB: empty Opus packets of 120 ms, which decode to silence.
fn hours_of_silence() -> Vec<u8> {
    let mut pages = PacketWriter::new(Vec::new());
    let head = b"OpusHead\x01\x01\x38\x01\x80\xbb\0\0\0\0\0".to_vec();
    pages.write_packet(head, 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    let tags = b"OpusTags\0\0\0\0\0\0\0\0".to_vec();
    pages.write_packet(tags, 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    let packets = 3 * 3600 * 1000 / 120;
    for index in 1..=packets {
        let end =
            if index == packets { PacketWriteEndInfo::EndStream } else { PacketWriteEndInfo::NormalPacket };
        // Two narrowband frames of 60 ms and length zero, code 3.
        pages.write_packet(vec![0x1b, 2], 1, end, index * 5760).unwrap();
    }
    pages.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_of_silence_are_refused_quickly() {
    let bench = Bench::with(|options| options.max_duration = Duration::from_secs(60));
    let path = bench.scratch.path().join("silence.ogg");
    let bytes = hours_of_silence();
    assert!(bytes.len() < 300_000);
    std::fs::write(&path, bytes).unwrap();
    let started = Instant::now();
    let error = bench.engine.probe(&path, &Hints::default()).await.unwrap_err();
    assert_eq!(error.kind, AudioErrorKind::TooLong, "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_has_a_flat_waveform() {
    let bench = Bench::new();
    let path = bench.scratch.path().join("silence.pcm");
    std::fs::write(&path, vec![0; 32_000]).unwrap();
    let format = serde_json::from_str(r#"{"encoding":"s16le","sample_rate":16000,"channels":1}"#).unwrap();
    let hints = Hints { format: Some(format), ..Hints::default() };
    let probed = bench.engine.probe(&path, &hints).await.unwrap();
    assert_eq!((probed.facts.duration_ms, probed.waveform), (1000, vec![0; 64]));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_ffmpeg_is_reported() {
    let bench = Bench::with(|options| options.ffmpeg = Some("/nonexistent/ffmpeg".into()));
    let reason = bench.engine.self_test().await.unwrap_err();
    assert_eq!(reason, "ffmpeg was not found; install it or set audio.ffmpeg");
}

/// Tests that an output that would be too large is refused, not truncated.
#[tokio::test(flavor = "multi_thread")]
async fn too_large_output_is_refused() {
    let bench = Bench::with(|options| options.max_output = 4_000);
    let probed = bench.probe("speech.wav", None).await;
    let target = voicegate_audio::profile("mp3-1").unwrap();
    let always = voicegate_audio::Convert::Always;
    let error = bench.engine.render(&fixture("speech.wav"), &probed, target, always).await.unwrap_err();
    assert_eq!(error.kind, AudioErrorKind::TooLarge, "{error:?}");
    assert_eq!(bench.leftovers(), Vec::<PathBuf>::new());
}

/// Tests that a truncated or damaged recording is either refused or converted correctly. The engine must never report
/// an internal error, because a note would then be retried again and again.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_source_is_never_an_internal_error() {
    let bench = Bench::new();
    let mut made = 0;
    for name in
        ["speech.webm", "speech-wideband.webm", "speech-opus-wideband.ogg", "speech.aac", "speech-24k.mp3"]
    {
        let whole = std::fs::read(fixture(name)).unwrap();
        for n in (1..12).step_by(2) {
            let at = whole.len() * n / 12;
            let cut = whole[..at].to_vec();
            let mut hole = whole.clone();
            hole.drain(at..(at + 700).min(whole.len()));
            let mut flipped = whole.clone();
            flipped[at] ^= 0xff;
            for damaged in [cut, hole, flipped] {
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), damaged).unwrap();
                let probed = match bench.engine.probe(file.path(), &Hints::default()).await {
                    Ok(probed) => probed,
                    Err(error) => {
                        assert_ne!(error.kind, AudioErrorKind::Internal, "{name} at {at}: {error:?}");
                        continue;
                    }
                };
                let target = profile("whatsapp-1").unwrap();
                let render = bench.engine.render(file.path(), &probed, target, Convert::Auto).await;
                render.unwrap_or_else(|error| panic!("{name} at {at}: {error:?}"));
                made += 1;
            }
        }
    }
    assert!(made > 25, "{made}");
}
