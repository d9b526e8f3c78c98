//! Sources that are read in this process are read like those that ffmpeg decodes: the same facts, bars and verdicts.

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use voicegate_audio::{AudioError, Convert, Hints, Observer, PcmFormat, Probed, profile};

use crate::rows::rows;
use crate::tools::{Bench, fixture, table};
use crate::{corpus, time};

/// Permitted difference of a bar, on a scale of 100.
const BAR: u64 = 2;

/// Remembers how sources were decoded.
#[derive(Debug, Default)]
struct Ways(Mutex<Vec<&'static str>>);

impl Observer for Ways {
    fn decoded(&self, way: &'static str) {
        self.0.lock().unwrap().push(way);
    }
}

/// Two engines, of which the second decodes everything with ffmpeg.
struct Both {
    first: Bench,
    second: Bench,
    ways: Arc<Ways>,
}

impl Both {
    fn new() -> Self {
        let ways = Arc::new(Ways::default());
        let observer = ways.clone();
        let first = Bench::with(|options| (options.decodes_in_process, options.observer) = (true, observer));
        let second = Bench::with(|options| options.decodes_in_process = false);
        Self { first, second, ways }
    }

    /// Reads a source in both ways, and returns how the first engine decoded it.
    async fn read(
        &self,
        name: &str,
        path: &Path,
        format: Option<PcmFormat>,
    ) -> Result<Option<&'static str>, String> {
        let hints = Hints { filename: Some(name.to_owned()), format, ..Hints::default() };
        let first = self.first.engine.probe(path, &hints).await;
        let way = self.ways.0.lock().unwrap().pop();
        let second = self.second.engine.probe(path, &hints).await;
        agree(&first, &second).map_err(|why| format!("{name} ({way:?}): {why}"))?;
        Ok(way)
    }
}

fn agree(first: &Result<Probed, AudioError>, second: &Result<Probed, AudioError>) -> Result<(), String> {
    let (first, second) = match (first, second) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(first), Err(second)) if first == second => return Ok(()),
        (first, second) => return Err(format!("{first:?} or {second:?}")),
    };
    if (&first.facts, &first.detail) != (&second.facts, &second.detail) {
        return Err(format!("{first:?} or {second:?}"));
    }
    let (furthest, place) = difference(&first.waveform, &second.waveform);
    if furthest > BAR {
        return Err(format!(
            "bar {place} differs by {furthest}: {:?} or {:?}",
            first.waveform, second.waveform
        ));
    }
    let findings = [first, second].map(|probed| serde_json::to_value(&probed.findings).unwrap());
    let bars = findings.each_ref().map(|findings| {
        let bars = findings["bars"].as_array().unwrap().iter();
        bars.map(|bar| bar.as_u64().unwrap() as u8).collect::<Vec<u8>>()
    });
    let (furthest, place) = difference(&bars[0], &bars[1]);
    if furthest > BAR {
        return Err(format!("bar {place} of the audible sound differs by {furthest}: {bars:?}"));
    }
    let loudest = findings.each_ref().map(|findings| findings["loudest"].as_u64().unwrap());
    if loudest[0].abs_diff(loudest[1]) > 2 + loudest[1] / 50 {
        return Err(format!("the loudest bars have {loudest:?}"));
    }
    let rest = findings.map(|mut findings| {
        findings
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !["bars", "loudest", "decoded_here"].contains(&name.as_str()));
        findings
    });
    if rest[0] == rest[1] { Ok(()) } else { Err(format!("{rest:?}")) }
}

/// The largest difference of two bars, and where it is.
fn difference(a: &[u8], b: &[u8]) -> (u64, usize) {
    if a.len() != b.len() {
        return (u64::MAX, 0);
    }
    let each = a.iter().zip(b).enumerate().map(|(place, (a, b))| (u64::from(a.abs_diff(*b)), place));
    each.max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn fixtures_and_hostile_files_are_read_alike_in_both_ways() {
    let both = Both::new();
    let mut here = Vec::new();
    let mut wrong = Vec::new();
    for input in table().input {
        match both.read(&input.file, &fixture(&input.file), input.format).await {
            Ok(Some("in_process")) => here.push(input.file),
            Ok(_) => {}
            Err(why) => wrong.push(why),
        }
    }
    for row in rows() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), row.bytes()).unwrap();
        match both.read(&row.name, file.path(), row.format).await {
            Ok(Some("in_process")) => here.push(row.name),
            Ok(_) => {}
            Err(why) => wrong.push(why),
        }
    }
    println!("decoded in this process: {here:?}");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
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
        "speech-opus-wideband.ogg",
        "recorder-wideband.ogg",
        "speech-wideband.webm",
    ] {
        assert!(here.iter().any(|name| name == common), "{common} is decoded by ffmpeg");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contradictory_sources_are_read_alike_in_both_ways() {
    let both = Both::new();
    let mut wrong = Vec::new();
    for (name, bytes) in time::files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        if let Err(why) = both.read(&name, file.path(), None).await {
            wrong.push(why);
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Voice notes as recorders and messengers make them, at each rate that linear prediction knows.
#[tokio::test(flavor = "multi_thread")]
async fn opus_voice_notes_are_decoded_in_this_process() {
    let both = Both::new();
    for (name, options) in [
        ("16.ogg", "-ar 16000 -b:a 16k"),
        ("16-60.ogg", "-ar 16000 -b:a 16k -frame_duration 60"),
        ("16.webm", "-ar 16000 -b:a 16k"),
        ("12.ogg", "-ar 12000 -b:a 12k"),
        ("8.ogg", "-ar 8000 -b:a 8k"),
        ("8.webm", "-ar 8000 -b:a 8k"),
    ] {
        let path = both.first.scratch.path().join(name);
        let done = std::process::Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-y", "-i"])
            .arg(fixture("speech.wav"))
            .args(["-ac", "1", "-c:a", "libopus", "-application", "voip"])
            .args(options.split_whitespace())
            .arg(&path)
            .status()
            .unwrap();
        assert!(done.success(), "{name}");
        assert_eq!(both.read(name, &path, None).await, Ok(Some("in_process")), "{name}");
    }
}

/// `CORPUS=all` takes every rate in every format.
#[tokio::test(flavor = "multi_thread")]
async fn sources_of_the_corpus_are_read_alike_in_both_ways() {
    let all = std::env::var("CORPUS").is_ok_and(|asked| asked == "all");
    let sources = corpus::narrow(if all { usize::MAX } else { 4 });
    let judged = futures_util::stream::iter(&sources)
        .map(async |source| {
            let both = Both::new();
            both.read(&source.name, &source.path, source.format).await
        })
        .buffered(3);
    let judged: Vec<_> = judged.collect().await;
    let mut ways = std::collections::BTreeMap::<_, Vec<&str>>::new();
    for (source, outcome) in sources.iter().zip(&judged) {
        if let Ok(way) = outcome {
            ways.entry(way.unwrap_or("refused")).or_default().push(&source.name);
        }
    }
    println!("{ways:#?}");
    let here = ways.get("in_process").map_or(0, Vec::len);
    let wrong: Vec<_> = judged.iter().filter_map(|outcome| outcome.as_ref().err().cloned()).collect();
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), judged.len(), wrong.join("\n"));
    assert!(here > judged.len() / 4, "{here} of {}", judged.len());
}

/// Damage in the sound of a file whose structure is clean: whatever a decoder here says, the verdict is that of ffmpeg.
#[tokio::test(flavor = "multi_thread")]
async fn damage_within_frames_has_the_same_verdict_in_both_ways() {
    let both = Both::new();
    let mut ways = std::collections::BTreeMap::new();
    for name in ["speech-24k.mp3", "speech-moov-first.m4a", "recorder-wideband.ogg", "speech-wideband.webm"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for n in 2..12 {
            let mut damaged = whole.clone();
            let at = whole.len() * n / 12;
            damaged[at..at + 3].iter_mut().for_each(|byte| *byte ^= 0x5a);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), damaged).unwrap();
            let first = both.first.engine.probe(file.path(), &Hints::default()).await;
            let second = both.second.engine.probe(file.path(), &Hints::default()).await;
            match (&first, &second) {
                // ffmpeg leaves out a frame of AAC if it finds the damage, and symphonia plays it.
                (Ok(first), Ok(second)) => {
                    let off = first.facts.duration_ms.abs_diff(second.facts.duration_ms);
                    assert!(
                        off < 50 && first.detail == second.detail,
                        "{name} at {at}: {first:?} {second:?}"
                    );
                }
                (first, second) => assert_eq!(first, second, "{name} at {at}"),
            }
            // The length of an encoding is compared with what ffmpeg decodes, whoever has read the source before.
            if let Ok(probed) = &first {
                let target = profile("linq-1").unwrap();
                let made = both.first.engine.render(file.path(), probed, target, Convert::Always).await;
                made.unwrap_or_else(|error| panic!("{name} at {at}: {error:?}"));
            }
            let way = both.ways.0.lock().unwrap().pop().unwrap_or("refused before");
            *ways.entry(way).or_insert(0) += 1;
        }
    }
    println!("{ways:?}");
}

/// The switch of the engine.
#[tokio::test(flavor = "multi_thread")]
async fn clean_source_is_read_without_ffmpeg() {
    let bench = Bench::with(|options| {
        options.ffmpeg = Some("/nonexistent/ffmpeg".into());
        options.decodes_in_process = true;
    });
    let probed = bench.engine.probe(&fixture("speech-24k.mp3"), &Hints::default()).await.unwrap();
    assert_eq!((probed.facts.duration_ms, probed.waveform.len()), (3_000, 64));
    let bench = Bench::with(|options| {
        options.ffmpeg = Some("/nonexistent/ffmpeg".into());
        options.decodes_in_process = false;
    });
    assert!(bench.engine.probe(&fixture("speech-24k.mp3"), &Hints::default()).await.is_err());
}
