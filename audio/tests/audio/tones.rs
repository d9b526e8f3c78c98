//! Steady tones, which an encoder for speech distorts.

use voicegate_audio::{Convert, Hints, PROFILES};

use crate::tools::Bench;

/// Tones of 72 ms each, as a made-up voice speaks. libopus 1.3 makes one of them twice as loud with `-application voip` at
/// 16 kHz and 24 kbit/s.
const TONES: &[u8] = include_bytes!("steady-tones.flac");

#[tokio::test(flavor = "multi_thread")]
async fn tones_that_are_distorted_as_speech_are_encoded_as_any_sound() {
    let bench = Bench::new();
    let source = bench.scratch.path().join("source");
    std::fs::write(&source, TONES).unwrap();
    for target in PROFILES {
        let made = bench.engine.convert(&source, &Hints::default(), target, Convert::Always).await;
        assert!(made.is_ok(), "{}: {:?}", target.name, made.err());
    }
}
