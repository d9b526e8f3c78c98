//! One pass of ffmpeg over a source, which measures it, produces files from it, or both.

use std::path::Path;
use std::time::Duration;

use ffmpeg_sidecar::command::FfmpegCommand;
use tempfile::NamedTempFile;
use voicegate_providers::Container;

use crate::error::{AudioError, AudioErrorKind, Stage};
use crate::ffmpeg::descriptors;
use crate::ffmpeg::filters::{self, Clock, MEASURE_RATE};
use crate::ffmpeg::job::{JobContext, scratch_file};
use crate::ffmpeg::measure::Measured;
use crate::ffmpeg::run::{self, Finished, Limits, RunError};
use crate::formats::iff::CHANNELS;
use crate::profiles::profile::{AudioCodec, Profile};
use crate::source::PcmFormat;
use crate::source::findings::Mix;

/// A source with the facts needed to read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub path: &'a Path,
    pub container: Container,
    pub format: Option<PcmFormat>,
    /// Index of the stream to read among the audio streams.
    pub track: u32,
    /// Timestamps are ignored, because the source has several clocks or a wrong one.
    pub counted: bool,
    /// The mix of the channels, if their mean as it is would not do.
    pub mix: Option<&'a Mix>,
}

impl Input<'_> {
    fn clock(&self, limit: Duration) -> Clock {
        // These containers hold frames or samples without timestamps.
        let has_none = matches!(
            self.container,
            Container::Mp3 | Container::Adts | Container::Wav | Container::Aiff | Container::Pcm
        );
        if has_none || self.counted { Clock::Counted } else { Clock::Kept(limit) }
    }
}

/// A file that a pass produces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Make {
    /// M4A with the packets of the source.
    Copy,
    /// Headerless 16-bit samples, for an encoder in a later pass.
    Samples {
        /// Sample rate in Hz.
        rate: u32,
    },
    Encode {
        profile: &'static Profile,
        /// Sample rate in Hz.
        rate: u32,
        /// Bit rate in bits per second.
        bits: u32,
        tuning: Tuning,
    },
}

/// Kinds of sound for which libopus can be tuned: its `application`
/// (<https://ffmpeg.org/ffmpeg-codecs.html#libopus-1>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tuning {
    Speech,
    /// Any sound. Most steady tones, which the model of a voice may distort, are kept.
    Sound,
    /// Any sound, without a model of a voice. It costs quality of speech, and changes between the models that are heard in
    /// some tones do not happen.
    Tone,
}

/// Kinds of measurement in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Nothing,
    /// The mixed sound of the source.
    Sound,
    /// Like `Sound`, comparing only this many milliseconds.
    First(u64),
    /// Each channel by itself, without gaps.
    Apart,
}

/// Results of a pass.
#[derive(Debug)]
pub(crate) struct Passed {
    pub success: bool,
    /// The log of ffmpeg.
    pub log: Vec<u8>,
    /// The measurement, if one was requested.
    pub measured: Option<Measured>,
    /// The produced files, in the order of the request.
    pub files: Vec<NamedTempFile>,
}

/// Reason why a pass has no result.
#[derive(Debug)]
pub(crate) enum PassError {
    Run(RunError),
    /// No working file could be created.
    Scratch,
}

/// Runs ffmpeg once. The source is decoded once, whatever is made of it.
pub(crate) async fn pass(
    context: &JobContext<'_>,
    input: Input<'_>,
    makes: &[Make],
    measure: Measure,
) -> Result<Passed, PassError> {
    let binary = context.ffmpeg.ok_or(PassError::Run(RunError::Missing))?;
    let files = makes.iter().map(|_| scratch_file(context.scratch)).collect::<Result<Vec<_>, _>>()?;
    let measures = measure != Measure::Nothing;
    // One more second than allowed, so that a longer source is noticed. Three hours of silence cost no more than that.
    let longest = context.max_duration + Duration::from_secs(1);
    // A measuring pass is limited by its output, because a limit on its input would silently drop everything after a
    // long gap. Without measuring, the length was checked before.
    let reads = (!measures).then_some(longest);
    let mut command = run::reading(binary, input.path, &demuxer(input.container, input.format), reads);
    let clock = input.clock(longest);
    let filtered = |make: &Make| match *make {
        Make::Samples { rate } | Make::Encode { rate, .. } => Some(filters::made(rate, input.mix, clock)),
        Make::Copy => None,
    };
    let made: Vec<Option<String>> = makes.iter().map(filtered).collect();
    let measured = match measure {
        Measure::Apart => filters::apart(),
        Measure::Nothing | Measure::Sound | Measure::First(_) => filters::measured(input.mix, clock),
    };
    let heard = format!("0:a:{}", input.track);
    if !measures {
        // The facts about the source are known already, and ffmpeg would print them in forty pieces.
        command.args(["-loglevel", "level+warning"]);
    }
    // One decoder feeds all branches, which are filtered separately, so the measurement is of the source and not of an
    // output.
    let is_split = measures && made.iter().any(Option::is_some);
    if is_split {
        command.args(["-filter_complex", &split(&heard, &made, &measured)]);
    }
    for (place, ((make, made), file)) in makes.iter().zip(&made).zip(&files).enumerate() {
        match made {
            Some(_) if is_split => run::only(&mut command, &format!("[made{place}]")),
            Some(made) => {
                run::only(&mut command, &heard);
                command.args(["-af", made]);
            }
            None => run::only(&mut command, &heard),
        }
        let muxer = codec(&mut command, *make, context.complexity);
        if measures {
            command.duration(run::seconds(longest));
        }
        // Bit-exact output names no version of ffmpeg, and equal sources give equal bytes.
        command.args(["-fflags", "+bitexact", "-flags:a", "+bitexact"]);
        command.args(["-fs", &most(context, *make, longest).to_string()]);
        // The file is empty already; see `rewrap::emptied`.
        command.args(["-truncate", "0"]);
        command.overwrite().format(muxer).output(run::file_url(file.path()));
    }
    if measures {
        run::only(&mut command, if is_split { "[measured]" } else { &heard });
        if !is_split {
            command.args(["-af", measured.as_str()]);
        }
        // Samples are written in large blocks, because flushing each packet would wake both sides. The WAV header
        // states the number of channels.
        command.args(["-c:a", "pcm_s16le", "-flush_packets", "0"]);
        command.duration(run::seconds(longest)).format("wav").pipe_stdout();
    }

    let most_channels = u64::from(if measure == Measure::Apart { *CHANNELS.end() } else { 2 });
    let largest = makes.iter().map(|make| most(context, *make, longest)).max();
    let limits = Limits {
        purpose: match files.first() {
            _ if context.is_self_test => "self-test",
            Some(_) => "encode",
            None => "probe",
        },
        timeout: context.timeout,
        max_output: largest.unwrap_or(context.max_output),
        // Two bytes per sample, and room for the samples that a resampler flushes.
        max_piped: (longest.as_secs() + 2) * u64::from(MEASURE_RATE) * 2 * most_channels,
    };
    let compared_ms = if let Measure::First(ms) = measure { ms } else { u64::MAX };
    let mut sound = Measured::new(compared_ms);
    let Finished { success, log } = run::run(command, &limits, context.observer, |bytes| sound.take(bytes))
        .await
        .map_err(PassError::Run)?;
    Ok(Passed { success, log, measured: measures.then_some(sound), files })
}

/// The graph that filters one stream for each file, and for the measurement.
fn split(heard: &str, made: &[Option<String>], measured: &str) -> String {
    let filtered = || made.iter().enumerate().filter_map(|(place, made)| Some((place, made.as_ref()?)));
    let ends: String = filtered().map(|(place, _)| format!("[part{place}]")).collect();
    let branches: String =
        filtered().map(|(place, made)| format!("[part{place}]{made}[made{place}];")).collect();
    let count = filtered().count() + 1;
    format!("[{heard}]asplit={count}{ends}[all];{branches}[all]{measured}[measured]")
}

/// Size limit of a produced file, in bytes.
fn most(context: &JobContext<'_>, make: Make, longest: Duration) -> u64 {
    match make {
        Make::Samples { rate } => (longest.as_secs() + 2) * u64::from(rate) * 2,
        Make::Copy | Make::Encode { .. } => context.max_output,
    }
}

/// Adds the arguments of the codec, and returns the muxer.
fn codec(command: &mut FfmpegCommand, make: Make, complexity: u8) -> &'static str {
    let (profile, bits, tuning) = match make {
        Make::Encode { profile, bits, tuning, .. } => (profile, bits, tuning),
        Make::Samples { .. } => {
            command.args(["-c:a", "pcm_s16le"]);
            return "s16le";
        }
        Make::Copy => {
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
            // The default of LAME takes twice as long, and a voice at this bit rate hardly gains: PESQ 4.50 instead of
            // 4.46 on six recordings at 24 kHz.
            command.args(["-c:a", "libmp3lame", "-b:a", &bits, "-compression_level", "7"]);
            command.args(["-id3v2_version", "0"]);
            "mp3"
        }
        AudioCodec::Opus => {
            let application = match tuning {
                Tuning::Speech => "voip",
                Tuning::Sound => "audio",
                Tuning::Tone => "lowdelay",
            };
            command.args(["-c:a", "libopus", "-b:a", &bits, "-vbr", "on", "-application", application]);
            command.args(["-frame_duration", "20", "-compression_level", &complexity.to_string()]);
            // The encoder always writes Ogg; the requested container is made from it afterwards.
            "ogg"
        }
        AudioCodec::PcmS16 | AudioCodec::LinearPcm | AudioCodec::AmrNb => {
            command.args(["-c:a", "pcm_s16le"]);
            "wav"
        }
    }
}

/// The error for a run of ffmpeg that says nothing about the audio.
pub(crate) fn not_run(error: &PassError, stage: Stage) -> AudioError {
    if let PassError::Run(RunError::Io(error)) = error
        && descriptors::is_exhausted(error)
    {
        tracing::error!(stage = stage.as_str(), "ffmpeg could not be run: no file descriptor is left");
        let detail = "the gateway has as many files open as it may; try again shortly".to_owned();
        return AudioError { kind: AudioErrorKind::Overloaded, detail, stage };
    }
    let (kind, detail) = match error {
        PassError::Run(RunError::Missing) => (AudioErrorKind::Outage, MISSING),
        PassError::Run(RunError::Io(error)) => {
            tracing::error!(%error, stage = stage.as_str(), "ffmpeg could not be run");
            (AudioErrorKind::Outage, "ffmpeg could not be run")
        }
        PassError::Run(RunError::Unexplained) => {
            (AudioErrorKind::Died, "ffmpeg failed on this audio without giving a reason")
        }
        PassError::Run(RunError::Timeout | RunError::TooMuch) => {
            (AudioErrorKind::Internal, "ffmpeg exceeded its limits")
        }
        PassError::Scratch => (AudioErrorKind::Outage, "there is no room for working files"),
    };
    AudioError { kind, detail: detail.to_owned(), stage }
}

const MISSING: &str = "ffmpeg was not found; install it or set audio.ffmpeg";

/// Input options that name the demuxer, so that ffmpeg does not guess.
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
