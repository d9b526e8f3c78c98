//! The table of hostile files with the engine alone: refusals state the reason, accepted files are complete.

use std::path::Path;

use futures_util::StreamExt;
use voicegate_audio::{Convert, Hints, Render, profile};

use crate::rows::{Accepted, Row, rows};
use crate::tools::{Bench, children, decode, fixture, level};

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_source_is_judged_as_the_table_says() {
    let bench = Bench::new();
    let spoken = level(&fixture("speech.wav"));
    let judged = futures_util::stream::iter(rows())
        .map(async |row| judge(&bench, &row, spoken).await.err().map(|why| format!("{}: {why}", row.name)))
        .buffer_unordered(4);
    let wrong: Vec<String> = judged.filter_map(std::future::ready).collect().await;
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
    assert_eq!(children(), Vec::<u32>::new());
}

async fn judge(bench: &Bench, row: &Row, spoken: f64) -> Result<(), String> {
    let source = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(source.path(), row.bytes()).unwrap();
    let hints = Hints { filename: Some(row.name.clone()), format: row.format, ..Hints::default() };
    let probed = match (bench.engine.probe(source.path(), &hints).await, &row.refused) {
        (Ok(probed), None) => probed,
        (Err(error), Some(refused)) => {
            let paths = [env!("CARGO_MANIFEST_DIR"), bench.scratch.path().to_str().unwrap()];
            assert!(!paths.iter().any(|path| error.detail.contains(path)), "{error:?}");
            let expected = error.code() == refused.code && error.stage.as_str() == refused.stage;
            return if expected && error.detail.contains(&refused.says) {
                Ok(())
            } else {
                Err(format!("{error:?}"))
            };
        }
        (other, _) => return Err(format!("{other:?}")),
    };
    let expected = row.accepted.as_ref().unwrap();
    if probed.facts.duration_ms.abs_diff(expected.ms) > 120 || probed.waveform.len() != 64 {
        return Err(format!("{probed:?}"));
    }
    for target in expected.work.keys().map(|name| profile(name).unwrap()) {
        let made = |what: &str| format!("for {}: {what}", target.name);
        let render = bench.engine.render(source.path(), &probed, target, Convert::Auto).await;
        let (path, work) = match &render {
            Ok(Render::Untouched) => (source.path(), "none".to_owned()),
            Ok(Render::Made { file, work, .. }) => (file.path(), format!("{work:?}").to_lowercase()),
            Err(error) => return Err(made(&format!("{error:?}"))),
        };
        if expected.work[target.name] != work {
            return Err(made(&work));
        }
        if work != "none" {
            whole(path, expected, spoken).map_err(|why| made(&why))?;
        }
    }
    Ok(())
}

/// Checks that the sound has the expected level and no silent part, because a decoder that loses sync fills up with
/// silence.
fn whole(path: &Path, expected: &Accepted, spoken: f64) -> Result<(), String> {
    if expected.any_level {
        return Ok(());
    }
    let said =
        decode(path, &["-af", "silencedetect=noise=-60dB:duration=0.6,volumedetect", "-f", "null", "-"]);
    let (_, level) = said.split_once("mean_volume: ").unwrap();
    let louder = level.split_whitespace().next().unwrap().parse::<f64>().unwrap() - spoken;
    let right = (louder - expected.louder).abs() <= 1.5 && !said.contains("silence_start");
    if right { Ok(()) } else { Err(format!("{louder:.1} dB louder: {said}")) }
}
