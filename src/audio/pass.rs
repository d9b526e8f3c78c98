//! One pass of ffmpeg over a source: it is measured, or something is made of it, or both at once.

use std::path::Path;
use std::time::Duration;

use ffmpeg_sidecar::command::FfmpegCommand;
use tempfile::NamedTempFile;
use voicegate_providers::Container;

use super::ffmpeg::{self, Clock, Finished, Limits, RunError};
use super::probe::demuxer;
use super::profile::{AudioCodec, Profile};
use super::source::PcmFormat;
use super::waveform::Waveform;

/// Rate at which sources are measured where nothing else is done with them.
const MEASURE_RATE: u32 = 8_000;

/// What the engine lends to a job.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub ffmpeg: Option<&'a Path>,
    pub scratch: &'a Path,
    pub timeout: Duration,
    pub max_duration: Duration,
    /// Bytes of the largest source that is taken.
    pub max_source: u64,
    /// Bytes of one made file.
    pub max_output: u64,
    /// Of Opus, 0 to 10.
    pub complexity: u8,
}

/// A source by what has to be known to read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub path: &'a Path,
    pub container: Container,
    pub format: Option<PcmFormat>,
    /// It has several clocks.
    pub chained: bool,
    /// The index of the audio stream that is heard.
    pub track: u32,
}

/// What is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Make {
    Nothing,
    /// M4A of the same packets.
    Copy,
    Encode {
        profile: &'static Profile,
        /// Hz.
        rate: u32,
        /// A second.
        bits: u32,
    },
}

/// What came of a pass.
#[derive(Debug)]
pub(super) struct Passed {
    pub success: bool,
    /// What ffmpeg said.
    pub log: Vec<u8>,
    /// Where it was asked for.
    pub measured: Option<Measured>,
    /// Where something was to be made.
    pub file: Option<NamedTempFile>,
}

/// The sound of a source.
#[derive(Debug)]
pub(super) struct Measured {
    pub waveform: Waveform,
    /// Of its samples, Hz.
    pub rate: u32,
}

impl Measured {
    pub fn duration_ms(&self) -> u64 {
        let rate = u64::from(self.rate);
        (self.waveform.samples() * 1000 + rate / 2) / rate
    }
}

/// Why there is nothing.
#[derive(Debug)]
pub(super) enum PassError {
    Run(RunError),
    /// No working file could be made.
    Scratch,
}

/// Runs ffmpeg once.
pub(super) async fn pass(
    bench: &Bench<'_>,
    input: Input<'_>,
    make: Make,
    measure: bool,
) -> Result<Passed, PassError> {
    let binary = bench.ffmpeg.ok_or(PassError::Run(RunError::Missing))?;
    let file = match make {
        Make::Nothing => None,
        Make::Copy | Make::Encode { .. } => Some(scratch_file(bench.scratch)?),
    };
    let rate = match make {
        Make::Encode { rate, .. } => rate,
        Make::Nothing | Make::Copy => MEASURE_RATE,
    };
    // One second more than allowed, to see that it is too long; three hours of silence cost no more.
    let longest = bench.max_duration + Duration::from_secs(1);
    // Where it is measured, the limit is on what comes out: one on what goes in would quietly drop everything behind a
    // long hole. Where it is not, it has been.
    let reads = (!measure).then_some(longest);
    let mut command = ffmpeg::reading(binary, input.path, &demuxer(input.container, input.format), reads);
    let has_clock = !matches!(
        input.container,
        Container::Mp3 | Container::Adts | Container::Wav | Container::Aiff | Container::Pcm
    );
    let clock = match (input.chained, has_clock, measure) {
        (true, _, _) => Clock::Ignored,
        (false, false, _) => Clock::Counted,
        (false, true, true) => Clock::UpTo(longest),
        (false, true, false) => Clock::Kept,
    };
    let filters = ffmpeg::filters(rate, clock);
    let heard = format!("0:a:{}", input.track);
    if !measure {
        // What it says of the source is known already, and it says it in forty pieces.
        command.args(["-loglevel", "level+warning"]);
    }
    // Decoded and resampled once for both.
    let both = measure && matches!(make, Make::Encode { .. });
    if both {
        command.args(["-filter_complex", &format!("[{heard}]{filters},asplit[made][measured]")]);
    }
    if let Some(file) = &file {
        ffmpeg::only(&mut command, if both { "[made]" } else { &heard });
        if !both && matches!(make, Make::Encode { .. }) {
            command.args(["-af", filters.as_str()]);
        }
        let muxer = codec(&mut command, make, bench.complexity);
        if measure {
            command.duration(ffmpeg::seconds(longest));
        }
        // Bit-exact: no version of ffmpeg inside, and equal sources give equal bytes.
        command.args(["-fflags", "+bitexact", "-flags:a", "+bitexact"]);
        command.args(["-fs", &bench.max_output.to_string()]);
        // It is empty, see `rewrap::emptied`.
        command.args(["-truncate", "0"]);
        command.overwrite().format(muxer).output(ffmpeg::file_url(file.path()));
    }
    if measure {
        ffmpeg::only(&mut command, if both { "[measured]" } else { &heard });
        if !both {
            command.args(["-af", filters.as_str()]);
        }
        // Samples come by tens of thousands, not as a packet each for which both sides wake up.
        command.args(["-c:a", "pcm_s16le", "-flush_packets", "0"]);
        command.duration(ffmpeg::seconds(longest)).format("s16le").pipe_stdout();
    }

    let limits = Limits {
        purpose: if file.is_some() { "encode" } else { "probe" },
        timeout: bench.timeout,
        max_output: bench.max_output,
        // Two bytes a sample, and room for what a resampler flushes.
        max_piped: (longest.as_secs() + 2) * u64::from(rate) * 2,
    };
    let mut samples = Samples { waveform: Waveform::new(), odd: None };
    let Finished { success, log } =
        ffmpeg::run(command, &limits, |bytes| samples.take(bytes)).await.map_err(PassError::Run)?;
    let measured = measure.then_some(Measured { waveform: samples.waveform, rate });
    Ok(Passed { success, log, measured, file })
}

/// The codec's arguments, and the muxer.
fn codec(command: &mut FfmpegCommand, make: Make, complexity: u8) -> &'static str {
    let Make::Encode { profile, bits, .. } = make else {
        command.args(["-c:a", "copy", "-movflags", "+faststart"]);
        return "ipod";
    };
    let bits = bits.to_string();
    match profile.makes.codec {
        AudioCodec::Aac => {
            command.args(["-c:a", "aac", "-profile:a", "aac_low", "-b:a", &bits, "-movflags", "+faststart"]);
            "ipod"
        }
        AudioCodec::Mp3 => {
            command.args(["-c:a", "libmp3lame", "-b:a", &bits, "-id3v2_version", "0"]);
            "mp3"
        }
        AudioCodec::Opus => {
            command.args(["-c:a", "libopus", "-b:a", &bits, "-vbr", "on", "-application", "voip"]);
            command.args(["-frame_duration", "20", "-compression_level", &complexity.to_string()]);
            // Into Ogg in any case; the wrapper that was asked for is made of it.
            "ogg"
        }
        AudioCodec::PcmS16 | AudioCodec::LinearPcm | AudioCodec::AmrNb => {
            command.args(["-c:a", "pcm_s16le"]);
            "wav"
        }
    }
}

/// Samples of two bytes, in pieces that may end between the two.
struct Samples {
    waveform: Waveform,
    odd: Option<u8>,
}

impl Samples {
    fn take(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if let (Some(low), Some((&high, rest))) = (self.odd, bytes.split_first()) {
            self.waveform.push(i16::from_le_bytes([low, high]));
            (self.odd, bytes) = (None, rest);
        }
        let (pairs, odd) = bytes.as_chunks::<2>();
        for &pair in pairs {
            self.waveform.push(i16::from_le_bytes(pair));
        }
        if let [low] = odd {
            self.odd = Some(*low);
        }
    }
}

pub(super) fn scratch_file(folder: &Path) -> Result<NamedTempFile, PassError> {
    tempfile::Builder::new().prefix("render-").tempfile_in(folder).map_err(|error| {
        tracing::error!(%error, "no scratch file could be made");
        PassError::Scratch
    })
}
