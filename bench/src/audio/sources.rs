//! The sources to convert, made of the demo's spoken sample with the system's ffmpeg.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use super::{BITRATE, RATE};
use crate::gateway;

pub struct Sources {
    folder: PathBuf,
    /// Ten seconds of speech as MP3, 24 kHz.
    pub speech: PathBuf,
    /// Two seconds of it.
    pub short: PathBuf,
    /// Five seconds: what the other parts send.
    pub sample: PathBuf,
    /// Ten seconds as Ogg/Opus with headers that are not a recorder's, and as WebM/Opus.
    pub ogg: PathBuf,
    pub webm: PathBuf,
    /// Ten seconds of samples, for the encoder alone.
    pub samples: PathBuf,
}

impl Sources {
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        let place = |name: &str| folder.join(name);
        let sources = Self {
            folder: folder.to_owned(),
            speech: place("speech.mp3"),
            short: place("short.mp3"),
            sample: place("sample.mp3"),
            ogg: place("speech.ogg"),
            webm: place("speech.webm"),
            samples: place("speech.s16le"),
        };
        let whole = place("whole.mp3");
        std::fs::write(&whole, include_bytes!("../../../src/demo/sample.mp3"))?;
        // Without its tag, so that it may get another.
        ffmpeg(&whole, &["-c", "copy", "-id3v2_version", "0"], &sources.speech)?;
        std::fs::write(&sources.sample, gateway::sample())?;
        let (rate, bitrate) = (RATE.to_string(), BITRATE.to_string());
        let opus = ["-ac", "1", "-ar", &rate, "-c:a", "libopus", "-b:a", &bitrate, "-application", "voip"];
        ffmpeg(&sources.speech, &["-t", "2", "-c", "copy", "-id3v2_version", "0"], &sources.short)?;
        ffmpeg(&sources.speech, &opus, &sources.ogg)?;
        ffmpeg(&sources.speech, &opus, &sources.webm)?;
        ffmpeg(&sources.speech, &["-ac", "1", "-ar", &rate, "-f", "s16le"], &sources.samples)?;
        Ok(sources)
    }

    /// The speech over and over, as MP3.
    pub fn long(&self, seconds: u64) -> anyhow::Result<PathBuf> {
        let (seconds, made) = (seconds.to_string(), self.folder.join("long.mp3"));
        let done = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "error", "-y", "-stream_loop", "-1", "-i"])
            .arg(&self.speech)
            .args(["-t", &seconds, "-c", "copy", "-id3v2_version", "0"])
            .arg(&made)
            .status()?;
        ensure!(done.success(), "ffmpeg failed");
        Ok(made)
    }
}

fn ffmpeg(from: &Path, options: &[&str], to: &Path) -> anyhow::Result<()> {
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-y", "-i"])
        .arg(from)
        .args(["-map_metadata", "-1"])
        .args(options)
        .arg(to)
        .status()
        .context("the system's ffmpeg is needed")?;
    ensure!(done.success(), "ffmpeg failed");
    Ok(())
}
