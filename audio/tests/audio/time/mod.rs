//! Files whose times, headers or channels contradict their sound. The resulting sound is checked tone by tone.

mod make;

use std::path::Path;
use std::process::Command;

use make::{FIRST_TONE, STEP, Source, sources};
use voicegate_audio::{Convert, Hints, Probed, Render, profile};

use crate::tools::Bench;

/// Checks the table in both ways: reading before rendering, and all in one step.
#[test]
fn contradictory_sources_keep_all_of_their_sound() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = Bench::new();
    let folder = tempfile::TempDir::new().unwrap();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.name.contains(&only)) {
        let path = folder.path().join(format!("source.{}", source.name));
        std::fs::write(&path, source.bytes(folder.path())).unwrap();
        if let Err(why) = runtime.block_on(judge(&bench, source, &path)) {
            wrong.push(format!("{}: {why}", source.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}

/// Name and bytes of each file of the table.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::TempDir::new().unwrap();
    sources().iter().map(|source| (source.name.clone(), source.bytes(folder.path()))).collect()
}

async fn judge(bench: &Bench, source: &Source, path: &Path) -> Result<(), String> {
    let hints = Hints { filename: Some(source.name.clone()), ..Hints::default() };
    let probed = bench.engine.probe(path, &hints).await.map_err(|error| format!("{error:?}"))?;
    facts(source, &probed).map_err(|why| format!("as it is read: {why}"))?;
    for (place, (name, work)) in source.work.iter().enumerate() {
        let target = profile(name).unwrap();
        let converted = match place % 2 {
            0 => bench
                .engine
                .render(path, &probed, target, Convert::Auto)
                .await
                .map(|render| (probed.clone(), render)),
            _ => bench.engine.convert(path, &hints, target, Convert::Auto).await,
        };
        let (again, render) = converted.map_err(|error| format!("{name}: {error:?}"))?;
        facts(source, &again).map_err(|why| format!("{name}: as it is read once more: {why}"))?;
        let (made, done) = match &render {
            Render::Untouched => (path, "none".to_owned()),
            Render::Made { file, work, .. } => (file.path(), format!("{work:?}").to_lowercase()),
        };
        if &done != work {
            return Err(format!("{name}: {done}"));
        }
        let size = std::fs::metadata(made).unwrap().len();
        if let Some(most) = source.max_bytes.filter(|&most| size > most && done != "none") {
            return Err(format!("{name}: {size} bytes, and {most} are enough"));
        }
        heard(source, made).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

fn is_long(source: &Source, ms: u64) -> bool {
    (source.ms - 60 - source.short_ms..=source.ms + 60 + source.more_ms).contains(&ms)
}

fn facts(source: &Source, probed: &Probed) -> Result<(), String> {
    if !is_long(source, probed.facts.duration_ms) {
        return Err(format!("{} ms", probed.facts.duration_ms));
    }
    // Contradictions of channels are found by decoding alone.
    let warns = !probed.findings.contradictions.is_empty();
    if warns != source.warns && !probed.waveform.is_empty() {
        return Err(format!("{:?}", probed.findings));
    }
    Ok(())
}

/// Sample rate of the examined sound, in Hz.
const RATE: usize = 8_000;
const WINDOW: usize = RATE / 20;

fn heard(source: &Source, path: &Path) -> Result<(), String> {
    let decoded = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-ac", "1", "-ar", "8000", "-f", "s16le", "-"])
        .output()
        .unwrap();
    let samples: Vec<f64> = decoded
        .stdout
        .as_chunks()
        .0
        .iter()
        .map(|&pair| f64::from(i16::from_le_bytes(pair)) / 32_768.0)
        .collect();
    let ms = (samples.len() * 1000 / RATE) as u64;
    if !is_long(source, ms) {
        return Err(format!("{ms} ms are heard"));
    }
    let windows: Vec<Option<u32>> = samples.chunks_exact(WINDOW).map(tone).collect();
    let ms_of = |tone: Option<u32>| windows.iter().filter(|found| **found == tone).count() as u64 * 50;
    let mut order: Vec<u32> = windows.iter().flatten().copied().collect();
    order.dedup();
    let expected = source.heard();
    let found: Vec<(u32, u64)> = expected.iter().map(|&tone| (tone, ms_of(Some(tone)))).collect();
    // A window at an edge contains two tones.
    let whole = |ms: u64| (850 - source.short_ms.min(800)..=1050).contains(&ms);
    if order != expected || !found.iter().all(|&(_, ms)| whole(ms)) {
        return Err(format!("{order:?} are heard, {found:?}"));
    }
    let silent = ms_of(None);
    if silent > source.silent_ms + source.more_ms + 250 || silent + 250 < source.silent_ms {
        return Err(format!("{silent} ms are silent"));
    }
    let level = |part: &[f64]| {
        10.0 * (part.iter().map(|sample| sample * sample).sum::<f64>() / part.len() as f64).log10()
    };
    // A tone of amplitude 0.3 has -13.5 dB.
    let off = level(&samples[RATE / 4..RATE * 3 / 4]) + 13.5 - source.level_db;
    if off.abs() > 1.5 { Err(format!("{off:.1} dB louder")) } else { Ok(()) }
}

/// The dominant tone of a window, or `None` if it is silent or a mixture.
fn tone(window: &[f64]) -> Option<u32> {
    let power = window.iter().map(|sample| sample * sample).sum::<f64>();
    if power < 1e-4 * window.len() as f64 {
        return None;
    }
    let part = |tone: u32| {
        let step = std::f64::consts::TAU * f64::from(tone) / RATE as f64;
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (at, sample) in window.iter().enumerate() {
            sine += sample * (step * at as f64).sin();
            cosine += sample * (step * at as f64).cos();
        }
        2.0 * (sine * sine + cosine * cosine) / (window.len() as f64 * power)
    };
    (0..30).map(|second| FIRST_TONE + STEP * second).find(|&tone| part(tone) > 0.6)
}
