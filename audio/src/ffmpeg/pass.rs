//! One pass of ffmpeg over a source: it is measured, or something is made of it, or both at once.

use std::path::Path;
use std::time::Duration;

use ffmpeg_sidecar::command::FfmpegCommand;
use tempfile::NamedTempFile;
use voicegate_providers::Container;

use crate::error::{AudioError, AudioErrorKind};
use crate::ffmpeg::descriptors;
use crate::ffmpeg::filters::{self, Clock, MEASURE_RATE};
use crate::ffmpeg::job::{Bench, scratch_file};
use crate::ffmpeg::measure::Measured;
use crate::ffmpeg::run::{self, Finished, Limits, RunError};
use crate::formats::iff::CHANNELS;
use crate::profiles::profile::{AudioCodec, Profile};
use crate::source::PcmFormat;
use crate::source::findings::Mix;

/// A source by what has to be known to read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub path: &'a Path,
    pub container: Container,
    pub format: Option<PcmFormat>,
    /// The index of the audio stream that is heard.
    pub track: u32,
    /// Its times do not count: it has several clocks, or a wrong one.
    pub counted: bool,
    /// How its channels become one, where their mean would not do.
    pub mix: Option<&'a Mix>,
}

impl Input<'_> {
    fn clock(&self, limit: Duration) -> Clock {
        // Frames and samples that follow each other, and nothing that says when.
        let has_none = matches!(
            self.container,
            Container::Mp3 | Container::Adts | Container::Wav | Container::Aiff | Container::Pcm
        );
        if has_none || self.counted { Clock::Counted } else { Clock::Kept(limit) }
    }
}

/// What is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Make {
    Nothing,
    /// M4A of the same packets.
    Copy,
    /// Headerless samples of 16 bits, which an encoder is given later.
    Samples {
        /// Hz.
        rate: u32,
    },
    Encode {
        profile: &'static Profile,
        /// Hz.
        rate: u32,
        /// A second.
        bits: u32,
    },
}

/// Kinds of measurement in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Nothing,
    /// What is heard of the source.
    Sound,
    /// The same, of which so many milliseconds are compared.
    First(u64),
    /// Each of its channels by itself, without gaps.
    Apart,
}

/// What came of a pass.
#[derive(Debug)]
pub(crate) struct Passed {
    pub success: bool,
    /// What ffmpeg said.
    pub log: Vec<u8>,
    /// Where it was asked for.
    pub measured: Option<Measured>,
    /// Where something was to be made.
    pub file: Option<NamedTempFile>,
}

/// Why there is nothing.
#[derive(Debug)]
pub(crate) enum PassError {
    Run(RunError),
    /// No working file could be made.
    Scratch,
}

/// Runs ffmpeg once.
pub(crate) async fn pass(
    bench: &Bench<'_>,
    input: Input<'_>,
    make: Make,
    measure: Measure,
) -> Result<Passed, PassError> {
    let binary = bench.ffmpeg.ok_or(PassError::Run(RunError::Missing))?;
    let file = match make {
        Make::Nothing => None,
        Make::Copy | Make::Samples { .. } | Make::Encode { .. } => Some(scratch_file(bench.scratch)?),
    };
    let measures = measure != Measure::Nothing;
    // One second more than allowed, to see that it is too long; three hours of silence cost no more.
    let longest = bench.max_duration + Duration::from_secs(1);
    // Where it is measured, the limit is on what comes out: one on what goes in would quietly drop everything behind a
    // long hole. Where it is not, it has been.
    let reads = (!measures).then_some(longest);
    let mut command = run::reading(binary, input.path, &demuxer(input.container, input.format), reads);
    let clock = input.clock(longest);
    let made = match make {
        Make::Samples { rate } | Make::Encode { rate, .. } => Some(filters::made(rate, input.mix, clock)),
        Make::Nothing | Make::Copy => None,
    };
    let measured = match measure {
        Measure::Apart => filters::apart(),
        Measure::Nothing | Measure::Sound | Measure::First(_) => filters::measured(input.mix, clock),
    };
    let heard = format!("0:a:{}", input.track);
    if !measures {
        // What it says of the source is known already, and it says it in forty pieces.
        command.args(["-loglevel", "level+warning"]);
    }
    // Decoded once for both, and from there on apart: what is measured is not what was made.
    let both = made.as_ref().filter(|_| measures);
    if let Some(made) = both {
        let graph = format!("[{heard}]asplit[a][b];[a]{made}[made];[b]{measured}[measured]");
        command.args(["-filter_complex", &graph]);
    }
    let max_output = match make {
        Make::Samples { rate } => (longest.as_secs() + 2) * u64::from(rate) * 2,
        _ => bench.max_output,
    };
    if let Some(file) = &file {
        run::only(&mut command, if both.is_some() { "[made]" } else { &heard });
        if let (None, Some(made)) = (both, &made) {
            command.args(["-af", made]);
        }
        let muxer = codec(&mut command, make, bench.complexity);
        if measures {
            command.duration(run::seconds(longest));
        }
        // Bit-exact: no version of ffmpeg inside, and equal sources give equal bytes.
        command.args(["-fflags", "+bitexact", "-flags:a", "+bitexact"]);
        command.args(["-fs", &max_output.to_string()]);
        // It is empty, see `rewrap::emptied`.
        command.args(["-truncate", "0"]);
        command.overwrite().format(muxer).output(run::file_url(file.path()));
    }
    if measures {
        run::only(&mut command, if both.is_some() { "[measured]" } else { &heard });
        if both.is_none() {
            command.args(["-af", measured.as_str()]);
        }
        // Samples come by tens of thousands, not as a packet each for which both sides wake up. The header of WAV tells
        // how many channels there are.
        command.args(["-c:a", "pcm_s16le", "-flush_packets", "0"]);
        command.duration(run::seconds(longest)).format("wav").pipe_stdout();
    }

    let most_channels = u64::from(if measure == Measure::Apart { *CHANNELS.end() } else { 2 });
    let limits = Limits {
        purpose: match &file {
            _ if bench.is_self_test => "self-test",
            Some(_) => "encode",
            None => "probe",
        },
        timeout: bench.timeout,
        max_output,
        // Two bytes a sample, and room for what a resampler flushes.
        max_piped: (longest.as_secs() + 2) * u64::from(MEASURE_RATE) * 2 * most_channels,
    };
    let compared_ms = if let Measure::First(ms) = measure { ms } else { u64::MAX };
    let mut sound = Measured::new(compared_ms);
    let Finished { success, log } = run::run(command, &limits, bench.observer, |bytes| sound.take(bytes))
        .await
        .map_err(PassError::Run)?;
    Ok(Passed { success, log, measured: measures.then_some(sound), file })
}

/// The codec's arguments, and the muxer.
fn codec(command: &mut FfmpegCommand, make: Make, complexity: u8) -> &'static str {
    let (profile, bits) = match make {
        Make::Encode { profile, bits, .. } => (profile, bits),
        Make::Samples { .. } => {
            command.args(["-c:a", "pcm_s16le"]);
            return "s16le";
        }
        Make::Nothing | Make::Copy => {
            command.args(["-c:a", "copy", "-movflags", "+faststart"]);
            return "ipod";
        }
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

/// A run of ffmpeg that says nothing about the audio.
pub(crate) fn not_run(error: &PassError, stage: &'static str) -> AudioError {
    if let PassError::Run(RunError::Io(error)) = error
        && descriptors::is_exhausted(error)
    {
        tracing::error!(stage, "ffmpeg could not be run: no file descriptor is left");
        let detail = "the gateway has as many files open as it may; try again shortly".to_owned();
        return AudioError { kind: AudioErrorKind::Overloaded, detail, stage };
    }
    let (kind, detail) = match error {
        PassError::Run(RunError::Missing) => (AudioErrorKind::Outage, MISSING),
        PassError::Run(RunError::Io(error)) => {
            tracing::error!(%error, stage, "ffmpeg could not be run");
            (AudioErrorKind::Outage, "ffmpeg could not be run")
        }
        PassError::Run(RunError::Unexplained) => {
            (AudioErrorKind::Died, "ffmpeg ended on this audio without saying why")
        }
        PassError::Run(RunError::Timeout | RunError::TooMuch) => {
            (AudioErrorKind::Internal, "ffmpeg did not keep to its limits")
        }
        PassError::Scratch => (AudioErrorKind::Outage, "there is no room for working files"),
    };
    AudioError { kind, detail: detail.to_owned(), stage }
}

const MISSING: &str = "ffmpeg was not found; install it or set audio.ffmpeg";

/// Input options that name the demuxer, so that ffmpeg guesses nothing.
pub(crate) fn demuxer(container: Container, format: Option<PcmFormat>) -> Vec<String> {
    let name = match container {
        Container::Mp3 => "mp3",
        Container::Mp4 => "mov",
        Container::Adts => "aac",
        Container::Ogg => "ogg",
        Container::Webm | Container::Matroska => "matroska",
        Container::Wav => "wav",
        Container::Aiff => "aiff",
        Container::Caf => "caf",
        Container::Flac => "flac",
        Container::Amr => "amr",
        Container::Pcm => format.map_or("s16le", |format| format.encoding.demuxer()),
    };
    let mut options = vec!["-f".to_owned(), name.to_owned()];
    if let Some(format) = format.filter(|_| container == Container::Pcm) {
        options.extend(["-ar".to_owned(), format.sample_rate.to_string()]);
        options.extend(["-ac".to_owned(), format.channels.to_string()]);
    }
    options
}
