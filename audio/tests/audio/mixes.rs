//! Channels that become one, and sound with a constant part.

use std::path::{Path, PathBuf};
use std::process::Command;

use voicegate_audio::{Convert, Hints, PcmEncoding, PcmFormat, Render};

use crate::sound::Sound;
use crate::tools::{Bench, fixture};

async fn made(bench: &Bench, source: &Path, hints: &Hints, target: &str) -> Sound {
    let target = voicegate_audio::profile(target).unwrap();
    let (_, render) = bench.engine.convert(source, hints, target, Convert::Always).await.unwrap();
    let Render::Made { file, .. } = render else { panic!("nothing was made") };
    Sound::of(file.path()).unwrap()
}

/// Writes what ffmpeg makes of the speech of the fixtures.
fn speech(bench: &Bench, options: &str, name: &str) -> PathBuf {
    let path = bench.scratch.path().join(name);
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(fixture("speech.flac"))
        .args(options.split_whitespace())
        .arg(&path)
        .status()
        .unwrap();
    assert!(done.success(), "{options}");
    path
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

/// A recording with a constant of three tenths of full scale, as a bad sound card adds. ffmpeg's encoder for AAC fills its
/// pauses with noise half as loud as the speech.
#[tokio::test(flavor = "multi_thread")]
async fn pauses_stay_silent_where_the_sound_has_a_constant_part() {
    let bench = Bench::new();
    for channels in [1, 2] {
        let options = format!("-af aeval=0.25*val(0)+0.3:c=same -ar 32000 -ac {channels} -c:a pcm_alaw");
        let source = speech(&bench, &options, &format!("{channels}.wav"));
        let before = Sound::of(&source).unwrap();
        for target in ["m4a-1", "linq-1", "mp3-1", "whatsapp-1", "imessage-caf-1"] {
            let after = made(&bench, &source, &Hints::default(), target).await;
            assert!((after.level() - before.level()).abs() < 1.0, "{target}");
            let (expected, found) = (before.bars(&after), after.bars(&before));
            let mut pauses = 0;
            for (place, near) in expected.windows(3).enumerate() {
                if near.iter().all(|&bar| bar < 2.0) {
                    pauses += 1;
                    assert!(
                        found[place + 1] < 8.0,
                        "{target}: bar {} has {:.0}",
                        place + 1,
                        found[place + 1]
                    );
                }
            }
            assert!(pauses > 3, "{pauses} pauses");
        }
    }
}

/// Only the last packet of ALAC says itself that it is not full.
#[tokio::test(flavor = "multi_thread")]
async fn short_alac_is_not_taken_for_cut_off() {
    let bench = Bench::new();
    let source = speech(&bench, "-ss 0.5 -t 0.1 -ar 8000 -ac 1 -c:a alac", "short.caf");
    let sound = made(&bench, &source, &Hints::default(), "whatsapp-1").await;
    assert!((sound.length_ms() - 100.0).abs() < 20.0, "{} ms", sound.length_ms());
}
