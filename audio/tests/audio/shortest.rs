//! Sounds of a few milliseconds. Each is sent or refused as the audio's fault, never as a fault of ours.

use voicegate_audio::{Convert, Hints, PROFILES, PcmEncoding, PcmFormat};

use crate::tools::Bench;

/// Writes noise of this length, since text and silence are judged by other rules.
fn noise(bench: &Bench, rate: u32, tenths_of_ms: u32) -> (std::path::PathBuf, Hints) {
    let source = bench.scratch.path().join("source");
    let bytes = rate * tenths_of_ms / 10_000 * 2;
    let noise: Vec<u8> = (0..bytes).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x80).collect();
    std::fs::write(&source, noise).unwrap();
    let format = PcmFormat { encoding: PcmEncoding::S16le, sample_rate: rate, channels: 1 };
    (source, Hints { format: Some(format), ..Hints::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_is_too_short_to_encode_is_refused_as_unreadable() {
    let bench = Bench::new();
    let target = voicegate_audio::profile("whatsapp-1").unwrap();
    for rate in [8_000, 16_000, 44_100] {
        for tenths in [5, 15, 20, 25, 28, 35, 43] {
            let (source, hints) = noise(&bench, rate, tenths);
            let made = bench.engine.convert(&source, &hints, target, Convert::Always).await;
            let code = made.as_ref().map_err(|error| error.code()).err();
            assert_eq!(
                code,
                Some("audio_unreadable"),
                "{tenths} tenths of 1 ms at {rate} Hz: {:?}",
                made.err()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn short_sound_is_encoded_by_every_profile() {
    let bench = Bench::new();
    // Profiles with several frames in a packet get fewer of them from these.
    for tenths in [70, 300, 500] {
        let (source, hints) = noise(&bench, 8_000, tenths);
        for target in PROFILES {
            let made = bench.engine.convert(&source, &hints, target, Convert::Always).await;
            assert!(made.is_ok(), "{tenths} tenths of 1 ms by {}: {:?}", target.name, made.err());
        }
    }
}
