//! Decodes clean sources in this process, which costs a third of a run of ffmpeg.
//!
//! Only files with facts from their structure are decoded here, and the length has to come out as the structure states.
//! Anything else is decoded by ffmpeg, which alone gives verdicts.

use std::path::Path;

use voicegate_providers::Container;

use crate::decoding::limits::Budget;
use crate::decoding::{Clip, NotDecoded, decode};
use crate::ffmpeg::job::JobContext;
use crate::ffmpeg::measure::Measured;
use crate::reading::examine::Examined;
use crate::reading::probe::from_structure;
use crate::source::Probed;

/// Length in milliseconds below which the edges of filters make a part of the bars.
const SHORT_MS: u64 = 500;
/// Mean of |sample| in the loudest bar below which rounding makes a part of the bars.
const QUIET: u32 = 16;

/// Reasons why ffmpeg is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    /// The structure is not clean or not known, or the sound is too short.
    Structure,
    /// No decoder here knows the kind, or is fast enough for it.
    NoDecoder,
    /// A decoder met an error.
    Failed,
    Limit,
    Panicked,
    /// The channels cancel each other out, or there is next to nothing to hear.
    Odd,
}

impl Unread {
    fn name(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::NoDecoder => "no_decoder",
            Self::Failed => "failed",
            Self::Limit => "limit",
            Self::Panicked => "panicked",
            Self::Odd => "odd",
        }
    }
}

impl From<NotDecoded> for Unread {
    fn from(error: NotDecoded) -> Self {
        match error {
            NotDecoded::Unknown => Self::NoDecoder,
            NotDecoded::Failed => Self::Failed,
            NotDecoded::Limit => Self::Limit,
        }
    }
}

/// Decodes a source. `None` leaves it to ffmpeg.
pub(crate) async fn decode_here(
    context: &JobContext<'_>,
    file: &Path,
    examined: &Examined,
) -> Option<Probed> {
    // The self-test shows whether ffmpeg works.
    if context.is_self_test || !context.decodes_in_process {
        return None;
    }
    let read = read(context, file, examined).await;
    context.observer.decoded(read.as_ref().map_or_else(|unread| unread.name(), |_| "in_process"));
    if let Err(unread @ (Unread::Failed | Unread::Limit | Unread::Panicked)) = read {
        tracing::debug!(?unread, container = ?examined.container, "a source is decoded by ffmpeg instead");
    }
    read.ok()
}

async fn read(context: &JobContext<'_>, file: &Path, examined: &Examined) -> Result<Probed, Unread> {
    let facts = from_structure(examined, context.max_duration).ok_or(Unread::Structure)?;
    let structure = examined.structure.as_ref().ok_or(Unread::Structure)?;
    if facts.facts.duration_ms < SHORT_MS || !facts.findings.contradictions.is_empty() {
        return Err(Unread::Structure);
    }
    // The decoder of AAC plays damaged frames as silence and says nothing, so it only proves what ffmpeg has made.
    let is_coded = structure.samples.is_none();
    if is_coded && matches!(examined.container, Container::Mp4 | Container::Adts) {
        return Err(Unread::NoDecoder);
    }
    let (file, container) = (file.to_owned(), examined.container);
    let (played, samples) = (Some(structure.played), structure.samples.clone());
    let mut budget = Budget::new(context.timeout, context.max_duration);
    let _stops = budget.guard();
    let work = tokio::task::spawn_blocking(move || {
        let bytes = std::fs::read(file).map_err(|_| NotDecoded::Unknown)?;
        let clip = Clip { bytes: &bytes, container, played, samples };
        let mut measured = Measured::new(u64::MAX);
        decode(&clip, &mut budget, &mut |planes| measured.take_planes(planes))?;
        Ok::<_, NotDecoded>(measured)
    });
    // Apart from the end of the process, only a panic of a decoder leaves no result.
    let measured = work.await.map_err(|_| Unread::Panicked)??;
    let loudest = measured.audible.loudest();
    // Only samples that need no decoder are silent beyond doubt.
    let is_silent = loudest == 0 && !is_coded;
    if measured.mix().is_some() || (loudest < QUIET && !is_silent) {
        return Err(Unread::Odd);
    }
    let mut facts = facts;
    facts.waveform = measured.waveform.bars();
    facts.findings.bars = measured.audible.bars();
    facts.findings.loudest = loudest;
    facts.findings.decoded_here = true;
    Ok(facts)
}
