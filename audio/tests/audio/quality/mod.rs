//! Encoded speech keeps its quality, by the measures of telephony.
//!
//! `QUALITY=must` (`make quality`) fails if the tools are missing; otherwise the test reports that it was skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use voicegate_audio::{Convert, Hints, Render};

use crate::corpus::table::targets;
use crate::sound::Sound;
use crate::tools::Bench;

/// Tools that scripts/setup.sh --quality installs.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools");

/// Normal complexity, and that under load, which may cost a tenth of PESQ.
const COMPLEXITIES: [(u8, f64); 2] = [(10, 0.0), (6, 0.1)];

/// Least PESQ. Above 4 counts as good in voice-over-IP; 4.64 means no difference.
const PESQ: f64 = 4.1;
const STOI: f64 = 0.98;
const LEVEL_DB: f64 = 1.0;
const LAG_MS: f64 = 10.0;

/// A recording and its encoding.
#[derive(Serialize)]
struct Pair {
    before: PathBuf,
    after: PathBuf,
    /// Delay in samples at 16 kHz.
    late: i64,
    #[serde(skip)]
    name: String,
    #[serde(skip)]
    louder_db: f64,
    #[serde(skip)]
    least: f64,
}

#[derive(Deserialize)]
struct Score {
    pesq: f64,
    stoi: f64,
}

#[tokio::test(flavor = "multi_thread")]
async fn encoded_speech_keeps_its_quality() {
    let python = Path::new(TOOLS).join("quality/bin/python");
    let recordings = recordings();
    if !python.exists() || recordings.is_empty() {
        let must = std::env::var("QUALITY").is_ok_and(|asked| asked == "must");
        assert!(!must, "run scripts/setup.sh --quality first");
        return println!(
            "skipped: what judges speech is not installed; scripts/setup.sh --quality does that"
        );
    }
    let targets = targets();
    let mut pairs = Vec::new();
    let benches = COMPLEXITIES.map(|(complexity, cost)| {
        (complexity, cost, Bench::with(|options| options.complexity = Some(complexity)))
    });
    for recording in &recordings {
        let clip = recording.file_stem().unwrap().to_str().unwrap();
        let before = benches[0].2.scratch.path().join(format!("{clip}.wav"));
        to_wav(recording, &before);
        let heard = Sound::of(recording).unwrap();
        for (complexity, cost, bench) in &benches {
            let probed = bench.engine.probe(recording, &Hints::default()).await.unwrap();
            for (profile, target) in &targets {
                // Only Opus has a choice of complexities.
                if *cost > 0.0 && target.encoded.codec != "opus" {
                    continue;
                }
                let name = format!("{} of {clip}, complexity {complexity}", profile.name);
                let rendered = bench.engine.render(recording, &probed, profile, Convert::Always).await;
                let Render::Made { file, .. } = rendered.unwrap_or_else(|error| panic!("{name}: {error:?}"))
                else {
                    panic!("{name}: nothing was made")
                };
                let after = bench.scratch.path().join(format!("{clip}-{}.wav", profile.name));
                to_wav(file.path(), &after);
                let least = PESQ - cost;
                pairs.push(pair(&heard, &before, file.path(), after, name, least));
            }
        }
    }

    let mut wrong = Vec::new();
    for (pair, Score { pesq, stoi }) in pairs.iter().zip(judge(&python, &pairs)) {
        let Pair { name, late, louder_db, least, .. } = pair;
        let late = *late as f64 / 16.0;
        println!("PESQ {pesq:.2}, STOI {stoi:.3}, {louder_db:+.2} dB, {late:+.1} ms: {name}");
        // NaN is not good either.
        if !(pesq >= *least && stoi >= STOI) {
            wrong.push(format!("{name}: PESQ {pesq:.2}, STOI {stoi:.3}, and it needs {least:.1} and {STOI}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Aligns an encoding in time and level; its quality is judged elsewhere.
fn pair(heard: &Sound, before: &Path, made: &Path, after: PathBuf, name: String, least: f64) -> Pair {
    let sound = Sound::of(made).unwrap();
    let (lag, likeness) = sound.lag_behind(heard);
    assert!(lag.abs() <= LAG_MS && likeness > 0.5, "{name} starts {lag:.1} ms late ({likeness:.2})");
    let louder_db = sound.level() - heard.level();
    assert!(louder_db.abs() <= LEVEL_DB, "{name} is {louder_db:.1} dB louder");
    Pair { before: before.to_owned(), after, late: (lag * 16.0).round() as i64, name, louder_db, least }
}

fn recordings() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(Path::new(TOOLS).join("speech")) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "wav")).collect();
    found.sort();
    found
}

fn to_wav(from: &Path, to: &Path) {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-i"])
        .arg(from)
        .args(["-ac", "1", "-ar", "16000", "-c:a", "pcm_s16le"])
        .arg(to)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn judge(python: &Path, pairs: &[Pair]) -> Vec<Score> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audio/quality/judge.py");
    let mut child =
        Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&serde_json::to_vec(pairs).unwrap()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "see above");
    let scores: Vec<Score> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(scores.len(), pairs.len());
    scores
}
