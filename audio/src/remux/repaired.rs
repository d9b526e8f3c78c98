//! Repairs a copy of a source for decoders: frames without headers that miscount them, and Opus packets with recomputed
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

/// Writes the copy, if one is needed.
pub(crate) async fn repaired(
    context: &JobContext<'_>,
    source: &Path,
    container: Container,
    detail: &SourceDetail,
) -> Result<Option<NamedTempFile>, AudioError> {
    let is_ogg = container == Container::Ogg && detail.counted && detail.opus.is_some();
    if !is_ogg && !detail.frames_only {
        return Ok(None);
    }
    let copy = scratch_file(context.scratch).map_err(|error| not_run(&error, Stage::Probe))?;
    let (source, target) = (source.to_owned(), copy.path().to_owned());
    let written = blocking(move || {
        Ok(if is_ogg {
            let wrap = Wrap { container: Container::Ogg, input_rate: None, frames_per_packet: None };
            rewrap_file(&source, &target, Packets::CountedOgg, wrap)
        } else {
            keep_frames(&source, &target, container)
        })
    });
    written.await?.map(|()| Some(copy)).map_err(|Damage(reason)| {
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
