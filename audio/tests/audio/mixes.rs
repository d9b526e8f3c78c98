//! Channels that become one.

use std::path::Path;

use voicegate_audio::{Convert, Hints, PcmEncoding, PcmFormat, Render};

use crate::sound::Sound;
use crate::tools::Bench;

async fn made(bench: &Bench, source: &Path, hints: &Hints, target: &str) -> Sound {
    let target = voicegate_audio::profile(target).unwrap();
    let (_, render) = bench.engine.convert(source, hints, target, Convert::Always).await.unwrap();
    let Render::Made { file, .. } = render else { panic!("nothing was made") };
    Sound::of(file.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_at_full_scale_are_added_without_wrapping_around() {
    let bench = Bench::new();
    let source = bench.scratch.path().join("source");
    for (encoding, sample_rate) in [(PcmEncoding::S16le, 24_000), (PcmEncoding::U8, 32_000)] {
        for channels in [3_u16, 5, 8] {
            let square = (0..48_000).map(|at| at / 55 % 2 == 0).flat_map(|is_up| match encoding {
                PcmEncoding::U8 => vec![if is_up { u8::MAX } else { 0 }; channels.into()],
                _ => (if is_up { i16::MAX } else { i16::MIN }).to_le_bytes().repeat(channels.into()),
            });
            std::fs::write(&source, square.collect::<Vec<u8>>()).unwrap();
            let format = PcmFormat { encoding, sample_rate, channels };
            let hints = Hints { format: Some(format), ..Hints::default() };
            let level = made(&bench, &source, &hints, "wav16k-1").await.level();
            assert!(level > -1.5, "{channels} channels of {encoding:?}: {level:.1} dB");
        }
    }
}
