//! Reads format, length and waveform of a source.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use voicegate_providers::{AudioFacts, Codec, Container};

use crate::error::{AudioError, AudioErrorKind, Stage};
use crate::ffmpeg::job::JobContext;
use crate::ffmpeg::log::{AudioStream, InputLog};
use crate::ffmpeg::measure::Measured;
use crate::ffmpeg::pass::{Input, Measure, PassError, Passed, not_run, pass};
use crate::ffmpeg::run::RunError;
use crate::formats::iff::CHANNELS;
use crate::reading::examine::{Examined, digest, examine, examine_bytes, several, too_many_channels};
use crate::reading::in_process::decode_here;
use crate::reading::structure::StructureFacts;
use crate::reading::tone;
use crate::remux::readable::readable;
use crate::remux::repaired::repaired;
use crate::source::findings::{Contradiction, Findings, Mix};
use crate::source::{Hints, Probed, SourceDetail, mime_type};

/// Depth to which a source is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Stops at the structure if that is conclusive. The waveform and the proof that the audio decodes are then
    /// missing.
    Structure,
    Decoded,
}

/// Reads the facts from the structure of these bytes, if it is conclusive. There is no waveform.
pub(crate) fn recognise(
    bytes: &[u8],
    sha256: &str,
    hints: &Hints,
    max_duration: Duration,
    max_source: u64,
) -> Result<Option<Probed>, AudioError> {
    let examined = examine_bytes(bytes, sha256, hints, max_source)?;
    refuse_longer_samples(&examined, max_duration)?;
    Ok(from_structure(&examined, max_duration))
}

/// Reads the facts from an examination, if the structure is conclusive.
pub(crate) fn from_structure(examined: &Examined, max_duration: Duration) -> Option<Probed> {
    /// Tolerance in milliseconds, about one frame. The index of a clean file is not further off.
    const NEAR_MS: u64 = 130;
    let stated = examined.stated_ms;
    let structure = examined.structure.as_ref()?;
    if stated.is_some_and(|stated| stated.abs_diff(structure.duration_ms) > NEAR_MS) {
        return None;
    }
    // Near the length limit, decoding decides.
    let short = Duration::from_millis(structure.duration_ms) + Duration::from_secs(1) < max_duration;
    let stream = AudioStream {
        codec: structure.codec.to_owned(),
        sample_rate: structure.sample_rate,
        channels: Some(structure.channels),
    };
    let mut findings = Findings::default();
    examined.contradiction.into_iter().for_each(|found| findings.add(found));
    short.then(|| probed(examined, stream, 0, structure.duration_ms, Vec::new(), findings))
}

pub(crate) async fn probe(
    context: &JobContext<'_>,
    file: &Path,
    hints: &Hints,
    depth: Depth,
) -> Result<Probed, AudioError> {
    let examined = look(context, file, hints).await?;
    if depth == Depth::Structure
        && let Some(probed) = from_structure(&examined, context.max_duration)
    {
        return Ok(probed);
    }
    let readable = readable(context, file, examined.detail.patched.as_ref()).await?;
    decode(context, readable.path(), &examined).await
}

/// Examines a file, and refuses it if its size alone shows that it is too long.
pub(crate) async fn look(
    context: &JobContext<'_>,
    file: &Path,
    hints: &Hints,
) -> Result<Examined, AudioError> {
    let (path, asked, largest) = (file.to_owned(), hints.clone(), context.max_source);
    let examined =
        tokio::task::spawn_blocking(move || examine(&path, &asked, largest)).await.map_err(|error| {
            tracing::error!(%error, "reading a source failed");
            AudioError::probe(AudioErrorKind::Internal, "reading the audio failed")
        })??;
    refuse_longer_samples(&examined, context.max_duration)?;
    Ok(examined)
}

/// The SHA-256 digest of a file, in hexadecimal.
pub(crate) async fn digest_of(file: &Path) -> Result<String, AudioError> {
    let file = file.to_owned();
    let digest = tokio::task::spawn_blocking(move || digest(&mut File::open(file)?));
    match digest.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok((_, sha256)) => Ok(sha256),
        Err(error) => {
            tracing::error!(%error, "reading a source failed");
            Err(AudioError::probe(AudioErrorKind::Outage, "reading the audio failed"))
        }
    }
}

/// Refuses headerless samples whose size shows that they are too long.
fn refuse_longer_samples(examined: &Examined, max_duration: Duration) -> Result<(), AudioError> {
    let Some(format) = examined.detail.format else { return Ok(()) };
    let rate =
        format.encoding.bytes_per_sample() * u64::from(format.channels) * u64::from(format.sample_rate);
    refuse_longer(max_duration, examined.size_bytes * 1000 / rate)
}

pub(crate) fn input<'a>(
    path: &'a Path,
    container: Container,
    detail: &SourceDetail,
    mix: Option<&'a Mix>,
) -> Input<'a> {
    let counted = detail.chained || detail.counted;
    Input { path, container, format: detail.format, track: detail.track, counted, mix }
}

/// Decodes the source, in this process if that is possible. A verdict against it needs two runs of a working ffmpeg,
/// because the first may have met a temporary problem of ours.
pub(crate) async fn decode(
    context: &JobContext<'_>,
    file: &Path,
    examined: &Examined,
) -> Result<Probed, AudioError> {
    if let Some(probed) = decode_here(context, file, examined).await {
        return Ok(probed);
    }
    let first = match decode_once(context, file, examined).await {
        Err(error) if error.kind.is_verdict() => error,
        decoded => return decoded,
    };
    match decode_once(context, file, examined).await {
        Err(second) if second.kind.is_verdict() && second.kind != first.kind => {
            tracing::warn!(%first, %second, "two runs of ffmpeg do not agree");
            Err(AudioError::probe(
                AudioErrorKind::Died,
                "two runs of ffmpeg gave different results for this audio",
            ))
        }
        Err(second) if second.kind.is_verdict() && !tone::decodes(context).await => {
            Err(AudioError::outage(Stage::Probe))
        }
        second => second,
    }
}

pub(crate) async fn decode_once(
    context: &JobContext<'_>,
    file: &Path,
    examined: &Examined,
) -> Result<Probed, AudioError> {
    let copy = repaired(context, file, examined.container, &examined.detail).await?;
    let (file, container) = match &copy {
        Some(copy) => (copy.file.path(), copy.container),
        None => (file, examined.container),
    };
    let input = |mix| input(file, container, &examined.detail, mix);
    let passed = measure(context, input(None), Measure::Sound).await?;
    let Some((mix, cancels)) = mix_of(context, input(None), &passed).await? else {
        return assemble(context, examined, &passed, None, false);
    };
    let passed = measure(context, input(Some(&mix)), Measure::Sound).await?;
    assemble(context, examined, &passed, Some(mix), cancels)
}

async fn measure(context: &JobContext<'_>, input: Input<'_>, measure: Measure) -> Result<Passed, AudioError> {
    match pass(context, input, &[], measure).await {
        Ok(passed) => Ok(passed),
        Err(PassError::Run(RunError::TooMuch)) => Err(too_long(context.max_duration)),
        Err(PassError::Run(RunError::Timeout)) => Err(AudioError::probe(
            AudioErrorKind::Slow,
            format!("this audio could not be read within {} s", context.timeout.as_secs()),
        )),
        Err(error) => Err(not_run(&error, Stage::Probe)),
    }
}

/// The mix that the channels need if their mean as it is would not do, and whether they cancel each other out.
async fn mix_of(
    context: &JobContext<'_>,
    input: Input<'_>,
    passed: &Passed,
) -> Result<Option<(Mix, bool)>, AudioError> {
    let channels = InputLog::read(&passed.log, input.track).audio.and_then(|audio| audio.channels);
    if passed.success && channels.is_some_and(|channels| channels > 2 && CHANNELS.contains(&channels)) {
        let apart = measure(context, input, Measure::Apart).await?;
        return Ok(apart.measured.and_then(|measured| measured.of_many()));
    }
    Ok(passed.measured.as_ref().and_then(Measured::mix))
}

/// Shortest sound that can be sent, in milliseconds. The shortest frame of Opus is half as long, and an encoder makes no
/// packet of less (<https://www.rfc-editor.org/rfc/rfc6716#section-2.1.4>).
const SHORTEST_SOUND_MS: u64 = 5;

/// Interprets a run, whatever else ffmpeg printed.
fn judge(log: &InputLog, damage: Option<&str>, success: bool, duration_ms: u64) -> Result<(), AudioError> {
    let unsupported = |detail: String| Err(AudioError::probe(AudioErrorKind::Unsupported, detail));
    let Some(audio) = &log.audio else {
        if log.other_streams > 0 {
            return unsupported("there is no sound in this file (no audio stream)".to_owned());
        }
        return Err(AudioError::probe(
            AudioErrorKind::Unreadable,
            match damage {
                Some(damage) => {
                    format!("nothing could be read from this file; it may be damaged or cut off: {damage}")
                }
                None => "nothing could be read from this file; it may be damaged or cut off".to_owned(),
            },
        ));
    };
    if audio.codec == "none" || audio.codec == "unknown" {
        return unsupported("the codec of this audio is not known here".to_owned());
    }
    if log.no_decoder {
        return unsupported(format!("the codec of this audio ({}) cannot be decoded here", audio.codec));
    }
    if let Some(channels) = audio.channels.filter(|channels| channels > CHANNELS.end()) {
        return unsupported(too_many_channels(channels));
    }
    if duration_ms == 0 || audio.sample_rate == 0 || audio.channels == Some(0) || !success {
        return Err(AudioError::probe(
            AudioErrorKind::Unreadable,
            "no sound could be decoded from this file; it is empty, damaged or cut off",
        ));
    }
    if duration_ms < SHORTEST_SOUND_MS {
        let detail = format!("this sound is shorter than {SHORTEST_SOUND_MS} ms, which no voice note can be");
        return Err(AudioError::probe(AudioErrorKind::Unreadable, detail));
    }
    Ok(())
}

/// Combines the examination and a measuring pass.
pub(crate) fn assemble(
    context: &JobContext<'_>,
    examined: &Examined,
    passed: &Passed,
    mix: Option<Mix>,
    cancels: bool,
) -> Result<Probed, AudioError> {
    let log = InputLog::read(&passed.log, examined.detail.track);
    let Examined { container, ref detail, stated_ms, .. } = *examined;
    let measured = passed.measured.as_ref();
    let duration_ms = measured.map_or(0, Measured::duration_ms);
    let bars = measured.map_or(Vec::new(), |measured| measured.waveform.bars());
    judge(&log, examined.damage, passed.success, duration_ms)?;
    refuse_longer(context.max_duration, duration_ms)?;
    if detail.chained && stated_ms.is_some_and(|stated| is_short(duration_ms, stated)) {
        return Err(several());
    }
    // These containers state their length in advance. The length of a video is not that of its sound, so for MP4 the
    // track's length is used.
    let declared_ms = match container {
        Container::Mp4 => stated_ms.filter(|_| !detail.counted),
        // The packet table of Opus was checked already.
        Container::Caf if detail.opus.is_some() => None,
        Container::Caf | Container::Flac => log.declared_ms,
        _ => None,
    };
    let padding_ms = log.audio.as_ref().map_or(0, last_packet_ms);
    if let Some(declared_ms) = declared_ms.filter(|&declared| is_short(duration_ms + padding_ms, declared)) {
        return Err(AudioError::probe(
            AudioErrorKind::Unreadable,
            format!(
                "the file states {} s, but only {} s can be decoded: was the upload cut off?",
                seconds(declared_ms),
                seconds(duration_ms)
            ),
        ));
    }
    let Some(audio) = log.audio else {
        return Err(AudioError::probe(AudioErrorKind::Unreadable, "there is no audio stream"));
    };
    let duration_ms = match &examined.structure {
        Some(structure) if is_borne_out(structure, &audio, duration_ms) => structure.duration_ms,
        Some(structure) => {
            tracing::debug!(
                ?structure,
                ?audio,
                duration_ms,
                "the structure of a source contradicts decoding"
            );
            duration_ms
        }
        None => duration_ms,
    };
    let mut findings = Findings { mix, ..Findings::default() };
    if let Some(Measured { audible, .. }) = measured {
        (findings.bars, findings.loudest) = (audible.bars(), audible.loudest());
    }
    let cancelled = cancels.then_some(Contradiction::Channels);
    examined.contradiction.into_iter().chain(cancelled).for_each(|found| findings.add(found));
    Ok(probed(examined, audio, log.other_streams, duration_ms, bars, findings))
}

/// Whether decoding confirms the structure. At the measuring rate a length is rounded by up to a sample at either end,
/// so the structure's length is then more precise.
fn is_borne_out(structure: &StructureFacts, audio: &AudioStream, decoded_ms: u64) -> bool {
    let same = (structure.codec, structure.sample_rate, Some(structure.channels))
        == (audio.codec.as_str(), audio.sample_rate, audio.channels);
    (same || structure.codec == "opus") && structure.duration_ms.abs_diff(decoded_ms) <= 1
}

fn probed(
    examined: &Examined,
    audio: AudioStream,
    other_streams: u32,
    duration_ms: u64,
    waveform: Vec<u8>,
    findings: Findings,
) -> Probed {
    let Examined { container, size_bytes, .. } = *examined;
    let mut detail = SourceDetail { other_streams, ..examined.detail.clone() };
    let mut sample_rate = audio.sample_rate;
    let mut channels = audio.channels.unwrap_or(*CHANNELS.end());
    if audio.codec != "opus" {
        detail.opus = None;
    }
    if let Some(opus) = &detail.opus {
        (sample_rate, channels) = (opus.sane_rate(), u16::from(opus.channels));
    } else if matches!(container, Container::Ogg | Container::Caf) && audio.codec == "opus" {
        detail.intact = false;
    }
    let facts = AudioFacts {
        container,
        mime_type: mime_type(container, &audio.codec).to_owned(),
        codec: Codec(audio.codec),
        duration_ms,
        size_bytes,
        sample_rate,
        channels,
        sha256: examined.sha256.clone(),
    };
    Probed { facts, waveform, detail, findings }
}

/// Length of a packet that tables count as full although its sound may end earlier, in milliseconds. Only the last packet
/// of ALAC itself says how much it holds: up to 4,096 samples
/// (<https://github.com/macosforge/alac/blob/master/ALACMagicCookieDescription.txt>).
fn last_packet_ms(audio: &AudioStream) -> u64 {
    if audio.codec == "alac" { 4096 * 1000 / u64::from(audio.sample_rate.max(1)) } else { 0 }
}

/// Whether the sound is clearly shorter than declared, beyond encoder padding and rounding.
fn is_short(decoded_ms: u64, declared_ms: u64) -> bool {
    let missing = declared_ms.saturating_sub(decoded_ms);
    missing > 300 && missing > declared_ms / 20
}

fn seconds(milliseconds: u64) -> String {
    format!("{:.1}", milliseconds as f64 / 1000.0)
}

fn refuse_longer(max_duration: Duration, duration_ms: u64) -> Result<(), AudioError> {
    if u128::from(duration_ms) > max_duration.as_millis() { Err(too_long(max_duration)) } else { Ok(()) }
}

pub(crate) fn too_long(max_duration: Duration) -> AudioError {
    AudioError::probe(
        AudioErrorKind::TooLong,
        format!(
            "this audio is longer than the {} s that are allowed; send it in parts",
            max_duration.as_secs()
        ),
    )
}
