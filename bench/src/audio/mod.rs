//! The cost of converting: beside the system's ffmpeg, beside the encoder alone, beside a service in Node, and in memory.

mod cpu;
pub mod http;
mod memory;
mod service;
pub mod sources;
mod usage;

use std::{ffi::OsString, path::PathBuf};

pub use service::serve;

use self::{sources::Sources, usage::Usage};
use crate::{
    Setting,
    convert::{Converter, Settings},
    report::{Report, quantile},
};

/// 16 kHz, 24 kbit/s, complexity 10.
const PROFILE: &str = "whatsapp-1";
const RATE: u32 = 16_000;
const BITRATE: u32 = 24_000;

/// Options of the arms of `audio`.
pub struct Options {
    /// Rounds of every arm, one after the other.
    pub rounds: usize,
    /// The ffmpeg to measure. Default: the one that the gateway takes.
    pub ffmpeg: Option<PathBuf>,
    /// The length of the long source of the memory's part, in seconds.
    pub long: u64,
}

pub async fn measure(setting: &Setting, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let usage = Usage::build(folder.path())?;
    let sources = Sources::make(folder.path())?;
    cpu::measure(&usage, &sources, options, report)?;
    cpu::job(setting, &usage, &sources, options, report).await?;
    http::measure(setting, &sources, options, report).await?;
    memory::measure(setting, &sources, options, report).await
}

/// Processor time in milliseconds of libopus alone for ten seconds of speech, the median of some runs; `None` if it was
/// not built.
pub fn floor(sources: &Sources, folder: &std::path::Path) -> anyhow::Result<Option<f64>> {
    const RUNS: usize = 7;
    let Some(tool) = cpu::floor() else { return Ok(None) };
    let usage = Usage::build(folder)?;
    let words = [RATE.to_string(), BITRATE.to_string(), "10".to_owned()].map(OsString::from);
    let command: Vec<_> =
        [tool.into_os_string(), sources.samples.clone().into_os_string()].into_iter().chain(words).collect();
    let mut took = (0..RUNS).map(|_| usage.of(&command)).collect::<anyhow::Result<Vec<f64>>>()?;
    Ok(Some(quantile(&mut took, 0.5)))
}

/// Converts a file again and again: what one conversion costs is the difference between two such runs.
pub async fn repeat(
    count: usize,
    profile: &str,
    work: &str,
    file: PathBuf,
    settings: &Settings,
) -> anyhow::Result<()> {
    let converter = Converter::new(settings)?;
    for _ in 0..count {
        let done = format!("{:?}", converter.file(&file, profile).await?).to_lowercase();
        anyhow::ensure!(done == work, "this was to be {work}, and was {done}");
    }
    Ok(())
}

/// Arguments of the system's ffmpeg, from `input` to `output`: those that anybody would need for the same file.
fn by_hand(input: &str, output: &str, complexity: u8) -> Vec<String> {
    let (rate, bitrate, complexity) = (RATE.to_string(), BITRATE.to_string(), complexity.to_string());
    let mut options = vec!["-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-i", input];
    options.extend(["-vn", "-map_metadata", "-1", "-ac", "1", "-ar", &rate]);
    options.extend(["-c:a", "libopus", "-b:a", &bitrate, "-vbr", "on", "-application", "voip"]);
    options.extend(["-frame_duration", "20", "-compression_level", &complexity, "-f", "ogg", output]);
    options.into_iter().map(str::to_owned).collect()
}
