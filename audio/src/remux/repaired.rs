//! Repairs a copy of a source for decoders: frames without headers that miscount them, and Opus packets in Ogg with right
//! granules.

use std::fs;
use std::path::Path;

use tempfile::NamedTempFile;
use voicegate_providers::Container;

use crate::error::{AudioError, AudioErrorKind, Stage};
use crate::ffmpeg::job::{JobContext, blocking, scratch_file};
use crate::ffmpeg::pass::not_run;
use crate::formats::frames;
use crate::formats::ogg::Damage;
use crate::remux::rewrap::{Packets, Wrap, rewrap_file};
use crate::source::SourceDetail;

/// A copy that decoders read in place of the source.
#[derive(Debug)]
pub(crate) struct Repaired {
    pub file: NamedTempFile,
    pub container: Container,
}

/// The packets that are copied into Ogg: with granules that contradict them, or in CAF, where ffmpeg plays what the packet
/// table leaves out at both ends.
fn packets(container: Container, detail: &SourceDetail) -> Option<Packets> {
    detail.opus.as_ref()?;
    match container {
        Container::Ogg if detail.counted => Some(Packets::CountedOgg),
        Container::Caf => Some(Packets::Caf),
        _ => None,
    }
}

/// Writes the copy, if one is needed.
pub(crate) async fn repaired(
    context: &JobContext<'_>,
    source: &Path,
    container: Container,
    detail: &SourceDetail,
) -> Result<Option<Repaired>, AudioError> {
    let packets = packets(container, detail);
    if packets.is_none() && !detail.frames_only {
        return Ok(None);
    }
    let file = scratch_file(context.scratch).map_err(|error| not_run(&error, Stage::Probe))?;
    let (source, target) = (source.to_owned(), file.path().to_owned());
    let written = blocking(move || {
        Ok(match packets {
            Some(packets) => {
                let wrap = Wrap { container: Container::Ogg, input_rate: None, frames_per_packet: None };
                rewrap_file(&source, &target, packets, wrap)
            }
            None => keep_frames(&source, &target, container),
        })
    });
    let container = if packets.is_some() { Container::Ogg } else { container };
    written.await?.map(|()| Some(Repaired { file, container })).map_err(|Damage(reason)| {
        tracing::error!(reason, "a source could not be copied without what contradicts it");
        AudioError::probe(AudioErrorKind::Internal, "reading the audio failed")
    })
}

/// Writes the frames of `source`, and nothing else of it.
pub(crate) fn keep_frames(source: &Path, target: &Path, container: Container) -> Result<(), Damage> {
    let bytes = fs::read(source).map_err(|_| Damage("the source could not be read"))?;
    let stream = frames::read(&bytes, container).ok_or(Damage("there is something between the frames"))?;
    fs::write(target, stream.copy(&bytes)).map_err(|_| Damage("the new file could not be written"))
}
