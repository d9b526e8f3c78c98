//! The sound of a file as ffmpeg decodes it, mixed and measured here.

use std::path::Path;
use std::process::Command;

use voicegate_audio::PcmFormat;

/// Sample rate of all comparisons in Hz, which every profile keeps.
const RATE: f64 = 16_000.0;

pub struct Sound {
    pub channels: u16,
    /// The mean of all channels, or the loudest if they cancel each other out.
    samples: Vec<f32>,
    /// Samples of the loudest channel, if there are more than two. Many channels are played as loud as the loudest, as far
    /// as that does not clip.
    loudest: Option<Vec<f32>>,
    /// Messages of ffmpeg.
    pub said: String,
}

impl Sound {
    /// Decodes a source. `format` names the format of headerless samples; `clock` fills gaps in the times of a file.
    pub fn of_source(path: &Path, format: Option<PcmFormat>, clock: bool) -> Result<Self, String> {
        let mut input = Vec::new();
        if let Some(format) = format {
            input.extend(["-f".to_owned(), format.encoding.demuxer().to_owned()]);
            input.extend(["-ar".to_owned(), format.sample_rate.to_string()]);
            input.extend(["-ac".to_owned(), format.channels.to_string()]);
        }
        Self::decode(path, &input, if clock { &["-af", "aresample=async=1"] } else { &[] })
    }

    pub fn of(path: &Path) -> Result<Self, String> {
        Self::decode(path, &[], &[])
    }

    fn decode(path: &Path, input: &[String], filters: &[&str]) -> Result<Self, String> {
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-loglevel", "warning"])
            .args(input)
            .arg("-i")
            .arg(path)
            .args(["-map", "0:a:0"])
            .args(filters)
            .args(["-ar", "16000", "-c:a", "pcm_f32le", "-f", "wav", "-"])
            .output()
            .map_err(|error| error.to_string())?;
        let said = complaints(&output.stderr);
        if !output.status.success() {
            return Err(said);
        }
        let (channels, data) = wav(&output.stdout).ok_or("ffmpeg wrote no WAV")?;
        let values: Vec<f32> = data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let count = usize::from(channels);
        let mean: Vec<f32> =
            values.chunks_exact(count).map(|frame| frame.iter().sum::<f32>() / f32::from(channels)).collect();
        let loudness = |samples: &[f32]| samples.iter().map(|sample| sample.abs()).sum::<f32>();
        let channel =
            |number: usize| values.iter().skip(number).step_by(count).copied().collect::<Vec<f32>>();
        let loudest = (0..count).map(channel).max_by(|a, b| loudness(a).total_cmp(&loudness(b)));
        let loudest = loudest.unwrap_or_default();
        let samples = if loudness(&mean) < loudness(&loudest) * 0.1 { loudest.clone() } else { mean };
        Ok(Self { channels, samples, loudest: Some(loudest).filter(|_| channels > 2), said })
    }

    pub fn length_ms(&self) -> f64 {
        self.samples.len() as f64 * 1000.0 / RATE
    }

    /// Level in dB of full scale, without a DC offset, which speech codecs remove, and without the edges, where codecs
    /// differ.
    pub fn level(&self) -> f64 {
        self.level_of(&self.samples)
    }

    /// Level of the loudest of many channels, and otherwise that of the sound.
    pub fn loudest_level(&self) -> f64 {
        self.level_of(self.loudest.as_ref().unwrap_or(&self.samples))
    }

    fn level_of(&self, samples: &[f32]) -> f64 {
        const EDGE: usize = 800;
        let heard = without_constant(samples);
        let edge = if self.is_short() { 0 } else { EDGE };
        let middle = &heard[edge..heard.len() - edge];
        let square =
            middle.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / middle.len().max(1) as f64;
        10.0 * (square + 1e-18).log10()
    }

    /// 64 bars from 0 to 100 as in a voice bubble, up to the length of the other sound. Frequencies above 4 kHz, where
    /// codecs save bits, and below 50 Hz, which they remove, are left out.
    pub fn bars(&self, other: &Self) -> Vec<f32> {
        let kept = &self.samples[..self.samples.len().min(other.samples.len())];
        let means: Vec<f32> = kept.windows(4).map(|four| four.iter().sum::<f32>() / 4.0).collect();
        let low = without_constant(&means);
        let bar = |place: usize| &low[place * low.len() / 64..(place + 1) * low.len() / 64];
        let means = (0..64).map(|place| {
            let bar = bar(place);
            bar.iter().map(|sample| sample.abs()).sum::<f32>() / bar.len().max(1) as f32
        });
        let means: Vec<f32> = means.collect();
        let loudest = means.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        means.into_iter().map(|mean| mean * 100.0 / loudest).collect()
    }

    /// Whether the sound is at most a few frames of a codec.
    pub fn is_short(&self) -> bool {
        self.length_ms() < 300.0
    }

    pub fn peak(&self) -> f32 {
        self.samples.iter().fold(0.0, |peak, sample| sample.abs().max(peak))
    }

    /// Delay relative to the other sound in milliseconds, and the similarity at that delay, from 0 to 1. Nobody hears
    /// whether a sound is upside down, as either of two opposite channels is.
    pub fn lag_behind(&self, other: &Self) -> (f64, f64) {
        /// Search range in samples: 20 ms in either direction, within the first second and a half.
        const SHIFTS: isize = 160;
        const WINDOW: usize = 12_000;
        let halved = |sound: &Self| -> Vec<f32> {
            let kept = without_constant(&sound.samples[..sound.samples.len().min(2 * WINDOW)]);
            kept.chunks_exact(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect()
        };
        let (here, there) = (halved(self), halved(other));
        let power = |samples: &[f32]| samples.iter().map(|sample| sample * sample).sum::<f32>();
        let scale = (power(&here) * power(&there)).sqrt().max(f32::MIN_POSITIVE);
        let likeness = |shift: isize| {
            let (late, early) = (shift.max(0).unsigned_abs(), shift.min(0).unsigned_abs());
            let pairs = here.iter().skip(late).zip(there.iter().skip(early));
            (pairs.map(|(a, b)| a * b).sum::<f32>() / scale).abs()
        };
        let found = (-SHIFTS..=SHIFTS).map(|shift| (shift, likeness(shift)));
        let (shift, likeness) = found.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
        (shift as f64 * 2000.0 / RATE, likeness.into())
    }
}

/// The samples without their constant part, by a one-pole high-pass filter with a cutoff of 50 Hz. A constant from the first
/// sample on is no sound.
fn without_constant(samples: &[f32]) -> Vec<f32> {
    const WEIGHT: f32 = 0.0194;
    let mut constant = samples.first().copied().unwrap_or_default();
    let remove = |&sample: &f32| {
        constant += WEIGHT * (sample - constant);
        sample - constant
    };
    samples.iter().map(remove).collect()
}

/// A tenth of a second of MP3 is too little for certainty, and the channel of a mono WAV has no name.
const HARMLESS: [&str; 2] = ["Format mp3 detected only with low score", "Guessed Channel Layout"];

/// Complaints of ffmpeg or ffprobe about a file.
pub fn complaints(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let lines =
        log.lines().filter(|line| !line.is_empty() && !HARMLESS.iter().any(|part| line.contains(part)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Channels and samples of a WAV from a pipe, whose sizes are unknown.
fn wav(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let mut rest = bytes.strip_prefix(b"RIFF")?.get(8..)?;
    let mut channels = 0;
    loop {
        let (kind, after) = rest.split_first_chunk::<4>()?;
        let (size, content) = after.split_first_chunk::<4>()?;
        match kind {
            b"fmt " => channels = u16::from_le_bytes(*content.get(2..)?.first_chunk()?),
            b"data" if channels > 0 => return Some((channels, content)),
            _ => {}
        }
        rest = content.get(usize::try_from(u32::from_le_bytes(*size)).ok()?..)?;
    }
}
