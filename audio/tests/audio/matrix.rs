//! Every source with every profile.

use std::path::Path;

use voicegate_audio::{AudioErrorKind, Convert, PROFILES, Render, Work, plan, profile};
use voicegate_providers::{AudioFacts, Container};

use crate::tools::{Bench, Input, Made, decoded_md5, ffprobe, fixture, level, opusinfo, table};

/// serde's name of a value, as in the table and the API.
fn name(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_source_is_converted_as_the_table_says() {
    let bench = Bench::new();
    let table = table();
    for input in &table.input {
        let probed = bench.probe(&input.file, input.format).await;
        let found = &probed.facts;
        let file = &input.file;
        assert_eq!(name(found.container), input.container, "{file}");
        assert_eq!(found.codec.0, input.codec, "{file}");
        assert_eq!(found.mime_type, input.mime_type, "{file}");
        assert_eq!((found.sample_rate, found.channels), (input.sample_rate, input.channels), "{file}");
        assert_eq!(probed.waveform.len(), 64, "{file}");
        assert_eq!(probed.waveform.iter().max(), Some(&100), "{file}");
        let expected = match file.as_str() {
            "speech-hole.webm" => 4_000,
            "truncated.ogg" => 1_000,
            _ => 3_000,
        };
        assert!(found.duration_ms.abs_diff(expected) <= 120, "{file} lasts {} ms", found.duration_ms);

        for (target, work) in &input.work {
            let target = profile(target).unwrap();
            let source = fixture(file);
            let render = bench.engine.render(&source, &probed, target, Convert::Auto).await;
            let case = format!("{file} for {}", target.name);
            match render.unwrap_or_else(|error| panic!("{case}: {error:?}")) {
                Render::Untouched => assert_eq!(work, "none", "{case}"),
                Render::Made { file, facts, work: done, checks } => {
                    assert_eq!(&name(done), work, "{case}");
                    assert!(
                        checks.contains(&"duration") && checks.contains(&"profile"),
                        "{case}: {checks:?}"
                    );
                    let path = file.path();
                    judge(&case, path, &facts, found, input, &table.made[target.name], done);
                    if done == Work::Remuxed {
                        assert_eq!(decoded_md5(path), decoded_md5(&source), "{case}: samples changed");
                    }
                }
            }
        }
    }
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
    assert_eq!(crate::tools::children(), Vec::<u32>::new());
}

/// Compares the properties of a produced file, as other tools report them, with the table and the engine's facts.
fn judge(
    case: &str,
    path: &Path,
    facts: &AudioFacts,
    source: &AudioFacts,
    input: &Input,
    made: &Made,
    work: Work,
) {
    let found = ffprobe(path);
    let streams = found["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 1, "{case}");
    assert_eq!(found["format"]["format_name"], made.container.as_str(), "{case}");
    assert_eq!(streams[0]["codec_name"], made.codec.as_str(), "{case}");
    assert_eq!(streams[0]["channels"], made.channels, "{case}");
    assert_eq!(facts.size_bytes, std::fs::metadata(path).unwrap().len(), "{case}");
    assert_eq!(facts.channels, made.channels, "{case}");

    let seconds: f64 = found["format"]["duration"].as_str().unwrap().parse().unwrap();
    let tolerance = if facts.container == Container::Ogg { 0.020 } else { 0.130 };
    // ffprobe includes the pre-skip of Opus.
    let seconds = seconds - if facts.container == Container::Ogg { 312.0 / 48_000.0 } else { 0.0 };
    let difference = seconds - source.duration_ms as f64 / 1000.0;
    assert!(difference.abs() <= tolerance, "{case}: {difference} s longer");

    match facts.container {
        Container::Ogg => {
            let said = opusinfo(path);
            let has = |text: &str| assert!(said.contains(text), "{case} lacks {text:?}: {said}");
            // The 48 kHz profile keeps the stated rate of the original when it keeps the packets.
            let kept = work == Work::Remuxed && made.input_rate == Some(48_000);
            let rate = if kept { input.sample_rate } else { made.input_rate.unwrap() };
            has(&format!("Original sample rate: {rate} Hz"));
            has(&format!("Encoded with {}\n", made.vendor.as_deref().unwrap()));
            assert_eq!(
                said.contains("User comments section follows"),
                made.comments != Some(0),
                "{case}: {said}"
            );
            has("20.0ms (max),   20.0ms (avg),   20.0ms (min)");
            assert_eq!(facts.mime_type, "audio/ogg; codecs=opus", "{case}");
        }
        _ => {
            let rate = input.linq_rate.map(|rate| rate.to_string());
            assert_eq!(streams[0]["sample_rate"].as_str(), rate.as_deref(), "{case}");
            assert_eq!(streams[0]["profile"], "LC", "{case}");
            assert_eq!(facts.mime_type, "audio/mp4", "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_channels_keep_their_level() {
    let bench = Bench::new();
    let probed = bench.probe("stereo-dual-mono.mp3", None).await;
    let source = fixture("stereo-dual-mono.mp3");
    let before = level(&source);
    for target in PROFILES {
        let render = bench.engine.render(&source, &probed, target, Convert::Always).await.unwrap();
        let Render::Made { file, facts, work, .. } = render else { panic!("nothing was made") };
        assert_eq!((work, facts.channels), (Work::Transcoded, 1), "{}", target.name);
        let after = level(file.path());
        assert!((after - before).abs() <= 1.0, "{}: {before} dB became {after} dB", target.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn convert_limits_the_conversion() {
    let bench = Bench::new();
    let linq = profile("linq-1").unwrap();
    let recorder = profile("whatsapp-1").unwrap();
    let mp3 = bench.probe("speech-24k.mp3", None).await;
    let wideband = bench.probe("speech-opus-wideband.ogg", None).await;

    let works = |source, target, convert| -> Vec<Work> {
        plan(source, target, convert).unwrap().into_iter().map(|candidate| candidate.work).collect()
    };
    assert_eq!(works(&mp3, linq, Convert::Never), [Work::None]);
    assert_eq!(works(&mp3, linq, Convert::Always), [Work::Transcoded]);
    assert_eq!(works(&wideband, recorder, Convert::Never), [Work::Remuxed]);
    assert_eq!(works(&wideband, recorder, Convert::Auto), [Work::Remuxed, Work::Transcoded]);
    let refused =
        bench.engine.render(&fixture("speech-24k.mp3"), &mp3, recorder, Convert::Never).await.unwrap_err();
    assert_eq!((refused.kind, refused.code()), (AudioErrorKind::ConvertRefused, "convert_refused"));
    assert!(refused.detail.contains("Ogg/Opus"), "{}", refused.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_sources_give_equal_bytes() {
    let bench = Bench::new();
    let probed = bench.probe("speech.flac", None).await;
    for target in PROFILES {
        let mut digests = Vec::new();
        for _ in 0..2 {
            let render = bench.engine.render(&fixture("speech.flac"), &probed, target, Convert::Auto).await;
            let Render::Made { facts, .. } = render.unwrap() else { panic!("nothing was made") };
            digests.push(facts.sha256);
        }
        assert_eq!(digests[0], digests[1], "{}", target.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_self_test_passes() {
    assert_eq!(Bench::new().engine.self_test().await, Ok(()));
}
