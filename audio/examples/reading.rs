//! Measures the processor time of reading and preparing audio files, in this process and with ffmpeg, children included.
//!
//! ```sh
//! cargo run --release -p voicegate-audio --example reading -- linq-1 note.mp3 whatsapp-1 note.ogg
//! ```
//!
//! Each pair is a profile and a file. `VOICEGATE_TEST_FFMPEG` names the ffmpeg to use.

use std::path::{Path, PathBuf};

use voicegate_audio::{Convert, Engine, EngineOptions, Hints, SourceFile, profile};

const TIMES: u32 = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for (name, file) in arguments.iter().zip(arguments.iter().skip(1)).step_by(2) {
        let target = profile(name).ok_or("no such profile")?;
        for decodes_in_process in [true, false] {
            let scratch = tempfile::TempDir::new()?;
            let engine = Engine::new(EngineOptions {
                decodes_in_process,
                ffmpeg: std::env::var_os("VOICEGATE_TEST_FFMPEG").map(PathBuf::from),
                scratch: scratch.path().to_owned(),
                cache: 0,
                workers: 1,
                ..EngineOptions::default()
            })?;
            let (path, hints) = (Path::new(file), Hints::default());
            engine.probe(path, &hints).await?;
            let before = processor_ms()?;
            for _ in 0..TIMES {
                engine.probe(path, &hints).await?;
            }
            let read = (processor_ms()? - before) / f64::from(TIMES);
            let before = processor_ms()?;
            let mut work = String::new();
            for _ in 0..TIMES {
                let source = SourceFile { path, hints: &hints, probed: None };
                let ready = engine.prepare(source, target, Convert::Auto).await?;
                work = ready.made.as_ref().map_or_else(|| "none".to_owned(), |made| made.work.to_string());
            }
            let prepared = (processor_ms()? - before) / f64::from(TIMES);
            let way = if decodes_in_process { "in process" } else { "by ffmpeg" };
            println!("{file}, {way}: read {read:.2} ms; prepared for {name} ({work}) {prepared:.2} ms");
        }
    }
    Ok(())
}

/// Processor time of this process and its children that have ended.
fn processor_ms() -> Result<f64, Box<dyn std::error::Error>> {
    /// Milliseconds of a clock tick, which is the same on every Linux (`USER_HZ`).
    const TICK: f64 = 10.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no name")?.1.split_whitespace().skip(11).take(4);
    Ok(fields.map(|field| field.parse::<f64>().unwrap_or_default()).sum::<f64>() * TICK)
}
