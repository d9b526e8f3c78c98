//! Makes what a profile produces: wraps the packets anew, or encodes.

use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;
use voicegate_providers::{AudioFacts, Container};

use super::error::{AudioError, AudioErrorKind};
use super::ffmpeg::{self, Clock, Limits, RunError};
use super::plan::Work;
use super::probe::{demuxer, not_run};
use super::profile::{Profile, Recipe, Wrapper};
use super::rewrap::{Packets, Wrap, rewrap};
use super::source::Probed;
use super::verify::verify;

/// What a render came to.
#[derive(Debug)]
pub enum Render {
    /// The source itself is what the target accepts.
    Untouched,
    Made {
        file: NamedTempFile,
        facts: AudioFacts,
        work: Work,
        /// What was verified on the result.
        checks: Vec<&'static str>,
    },
}

/// What the engine lends to one render.
pub(super) struct Bench<'a> {
    pub ffmpeg: Option<&'a Path>,
    pub scratch: &'a Path,
    pub limits: Limits,
    pub max_duration: Duration,
}

/// One candidate of the plan, made and proven.
pub(super) async fn make(
    bench: &Bench<'_>,
    source: &Path,
    probed: &Probed,
    profile: &'static Profile,
    work: Work,
) -> Result<Render, AudioError> {
    let (file, container) = match (work, profile.wrapper, profile.recipe) {
        (Work::None, ..) => return Ok(Render::Untouched),
        (Work::Remuxed, Wrapper::Ogg { input_rate }, _) => {
            let packets = if probed.facts.container == Container::Ogg { Packets::Ogg } else { Packets::Webm };
            let wrap = Wrap { container: Container::Ogg, input_rate, frames_per_packet: None };
            (rewrap(bench, source, packets, wrap).await?, Container::Ogg)
        }
        (Work::Remuxed, Wrapper::M4a, _) => {
            (run(bench, source, probed, &["-c:a", "copy"], "ipod").await?, Container::Mp4)
        }
        (Work::Transcoded, _, recipe) => encode(bench, source, probed, recipe).await?,
    };
    let path = file.path().to_owned();
    let facts = probed.facts.clone();
    let encoded = work == Work::Transcoded;
    let proven = blocking(move || Ok(verify(&path, container, &facts, profile, encoded))).await?;
    match proven {
        Ok(proven) => Ok(Render::Made { file, facts: proven.facts, work, checks: proven.checks }),
        Err(reason) => {
            let size = file.as_file().metadata().map_or(0, |metadata| metadata.len());
            let most = profile.max_bytes.unwrap_or(u64::MAX).min(bench.limits.max_output);
            // ffmpeg stops quietly a little before its limit, and what it wrote is then too short.
            if encoded && size >= most - most / 50 {
                return Err(AudioError::encode(
                    AudioErrorKind::TooLarge,
                    format!("even re-encoded, this audio is larger than the {most} bytes that fit"),
                ));
            }
            tracing::warn!(profile = profile.name, ?work, %reason, "a made file did not prove right");
            Err(AudioError::encode(
                AudioErrorKind::Internal,
                format!("what was made for {} did not prove right: it {reason}", profile.name),
            ))
        }
    }
}

async fn encode(
    bench: &Bench<'_>,
    source: &Path,
    probed: &Probed,
    recipe: Recipe,
) -> Result<(NamedTempFile, Container), AudioError> {
    let rate = recipe.sample_rate(probed.facts.sample_rate);
    let filters = ffmpeg::filters(rate, if probed.detail.chained { Clock::Ignored } else { Clock::Kept });
    let mut options = vec!["-af", filters.as_str()];
    match recipe {
        Recipe::Aac { kbit } => {
            let bits = format!("{kbit}k");
            options.extend(["-c:a", "aac", "-profile:a", "aac_low", "-b:a", &bits]);
            Ok((run(bench, source, probed, &options, "ipod").await?, Container::Mp4))
        }
        Recipe::Mp3 { kbit } => {
            let bits = format!("{kbit}k");
            options.extend(["-c:a", "libmp3lame", "-b:a", &bits, "-id3v2_version", "0"]);
            Ok((run(bench, source, probed, &options, "mp3").await?, Container::Mp3))
        }
        Recipe::Opus { sample_rate, kbit } => {
            let bits = format!("{kbit}k");
            options.extend(["-c:a", "libopus", "-b:a", &bits, "-vbr", "on", "-application", "voip"]);
            options.extend(["-frame_duration", "20", "-compression_level", "10"]);
            let encoded = run(bench, source, probed, &options, "ogg").await?;
            // ffmpeg names itself in the headers; a recorder would not.
            let wrap =
                Wrap { container: Container::Ogg, input_rate: Some(sample_rate), frames_per_packet: None };
            let file = rewrap(bench, encoded.path(), Packets::EncodedOgg, wrap).await?;
            Ok((file, Container::Ogg))
        }
    }
}

async fn run(
    bench: &Bench<'_>,
    source: &Path,
    probed: &Probed,
    options: &[&str],
    muxer: &str,
) -> Result<NamedTempFile, AudioError> {
    let binary = bench.ffmpeg.ok_or_else(|| not_run(&RunError::Missing, "encode"))?;
    let output = scratch_file(bench.scratch)?;
    let demuxer = demuxer(probed.facts.container, probed.detail.format);
    let longest = bench.max_duration + Duration::from_secs(1);
    let mut command = ffmpeg::reading(binary, source, &demuxer, Some(longest));
    // Bit-exact: no version of ffmpeg inside, and equal sources give equal bytes.
    command.args(options).args(["-fflags", "+bitexact", "-flags:a", "+bitexact"]);
    if muxer == "ipod" {
        command.args(["-movflags", "+faststart"]);
    }
    command.args(["-fs", &bench.limits.max_output.to_string()]);
    command.overwrite().format(muxer).output(ffmpeg::file_url(output.path()));

    match ffmpeg::run(command, &bench.limits, |_| {}).await {
        Ok(finished) if finished.success => Ok(output),
        Ok(finished) => {
            let log = String::from_utf8_lossy(&finished.log);
            let said = log.lines().rfind(|line| line.contains("[error]") || line.contains("[fatal]"));
            tracing::warn!(muxer, said = said.unwrap_or_default(), "ffmpeg failed to make a file");
            let missing = log.lines().any(|line| line.contains("Unknown encoder"));
            let size = output.as_file().metadata().map_or(0, |metadata| metadata.len());
            Err(match (missing, size >= bench.limits.max_output) {
                (true, _) => AudioError::encode(
                    AudioErrorKind::Internal,
                    "this ffmpeg lacks an encoder; it needs libopus, aac and libmp3lame",
                ),
                (_, true) => AudioError::encode(AudioErrorKind::TooLarge, "the result would be too large"),
                _ => AudioError::encode(AudioErrorKind::Internal, "ffmpeg failed to make the file"),
            })
        }
        // A busy machine or a file that never ends: a few more times, not for as long as the note lives.
        Err(RunError::Timeout) => Err(AudioError::encode(
            AudioErrorKind::Internal,
            format!("making the file took longer than {} s", bench.limits.timeout.as_secs()),
        )),
        Err(error) => Err(not_run(&error, "encode")),
    }
}

pub(super) fn scratch_file(folder: &Path) -> Result<NamedTempFile, AudioError> {
    tempfile::Builder::new().prefix("render-").tempfile_in(folder).map_err(|error| {
        tracing::error!(%error, "no scratch file could be made");
        AudioError::encode(AudioErrorKind::Internal, "there is no room for working files")
    })
}

/// Runs file work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AudioError> + Send + 'static,
) -> Result<T, AudioError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a step of the audio engine failed");
        AudioError::encode(AudioErrorKind::Internal, "a step of the audio engine failed")
    })?
}
