//! Voice notes of iPhones: Opus in CAF, whose packet table says what is cut off at both ends.

use voicegate_audio::{Convert, Hints, PROFILES, PcmEncoding, PcmFormat, Render, profile};

use crate::tools::{Bench, fixture};

/// ffmpeg plays what the packet table leaves out. Every target gets the rest, and no result is refused for its length.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_packet_table_cuts_off_is_in_no_result() {
    let samples = std::fs::read(fixture("speech.s16le")).unwrap();
    let format = PcmFormat { encoding: PcmEncoding::S16le, sample_rate: 16_000, channels: 1 };
    let pcm = Hints { format: Some(format), ..Hints::default() };
    for decodes_in_process in [true, false] {
        let bench = Bench::with(|options| options.decodes_in_process = decodes_in_process);
        let source = bench.scratch.path().join("source");
        // Lengths between whole packets, which have 20 ms.
        for length in [801_u64, 1_013, 1_990] {
            std::fs::write(&source, &samples[..length as usize * 32]).unwrap();
            let caf = profile("imessage-caf-1").unwrap();
            let (_, made) = bench.engine.convert(&source, &pcm, caf, Convert::Always).await.unwrap();
            let Render::Made { file, facts, .. } = made else { panic!("CAF was made of samples") };
            assert!(facts.duration_ms.abs_diff(length) <= 1, "{facts:?}");
            let heard = bench.engine.probe(file.path(), &Hints::default()).await.unwrap();
            assert!(heard.facts.duration_ms.abs_diff(length) <= 1, "{:?}", heard.facts);
            for target in PROFILES {
                let made =
                    bench.engine.convert(file.path(), &Hints::default(), target, Convert::Always).await;
                let (read, made) =
                    made.unwrap_or_else(|error| panic!("{length} ms, {}: {error}", target.name));
                assert!(read.facts.duration_ms.abs_diff(length) <= 1, "{}: {:?}", target.name, read.facts);
                let Render::Made { facts, .. } = made else { continue };
                // Frames of AMR have 20 ms, and those of AAC and MP3 up to 72 ms.
                let most = if target.name == "wav16k-1" { 1 } else { 75 };
                assert!(facts.duration_ms.abs_diff(length) <= most, "{}: {facts:?}", target.name);
            }
        }
    }
}
