//! Finds contradictions in a source, between its times and its packets or between its headers and its frames, without
//! decoding.

use std::io::{self, Read, Seek, SeekFrom};

use voicegate_providers::Container;

use crate::formats::clock::Clock;
use crate::formats::mp4_timing::timing;
use crate::formats::ogg_clock;
use crate::formats::patched::PatchedFile;
use crate::formats::{frames, ogg_opus, webm};
use crate::source::SourceDetail;
use crate::source::findings::Contradiction;

/// Size limit for reading frames in memory, in bytes. No target accepts a larger voice note as it is.
const LARGEST_WALKED: u64 = 16 << 20;

/// Records in `detail` how the source has to be decoded and sent, and returns the contradiction, if there is one.
pub(crate) fn examine(
    reader: &mut (impl Read + Seek),
    container: Container,
    size_bytes: u64,
    detail: &mut SourceDetail,
) -> io::Result<Option<Contradiction>> {
    match container {
        Container::Mp3 | Container::Adts | Container::Amr => {
            let bytes = match whole(reader, size_bytes, LARGEST_WALKED)? {
                Some(bytes) => bytes,
                None => {
                    detail.intact = false;
                    return Ok(None);
                }
            };
            Ok(frames_of(&bytes, container, detail))
        }
        // The strict reader refused the file. If only its granules are wrong, its packets or samples determine the
        // times.
        Container::Ogg if detail.opus.is_none() && !detail.chained => {
            reader.seek(SeekFrom::Start(0))?;
            let mut reader = io::BufReader::new(reader);
            detail.opus = ogg_opus::count(&mut reader, &mut |_| Ok(())).ok();
            reader.seek(SeekFrom::Start(0))?;
            Ok(clock(detail.opus.is_some() || ogg_clock::is_ahead(&mut reader), detail))
        }
        Container::Webm | Container::Matroska if detail.opus.is_some() => {
            let bytes = whole(reader, size_bytes, u64::MAX)?.unwrap_or_default();
            Ok(clock(webm::has_wrong_clock(&bytes), detail))
        }
        Container::Mp4 => {
            let Some(timing) = timing(reader, detail.track)? else { return Ok(None) };
            detail.edited = timing.edited;
            detail.tag_bytes = timing.tag_bytes;
            detail.intact &= !timing.edited && timing.clock == Clock::Fits;
            if let Some(name) = timing.idle_edits {
                let without = PatchedFile::default().with_fields(vec![(name, b"free".to_vec())], size_bytes);
                detail.patched.get_or_insert(without);
            }
            // Decoders get another file if fragments had to be reordered, or if the edit list would play nothing.
            Ok(clock(timing.clock == Clock::Wrong || detail.patched.is_some(), detail))
        }
        _ => Ok(None),
    }
}

fn clock(is_wrong: bool, detail: &mut SourceDetail) -> Option<Contradiction> {
    detail.counted |= is_wrong;
    detail.intact &= !is_wrong;
    is_wrong.then_some(Contradiction::Clock)
}

fn frames_of(bytes: &[u8], container: Container, detail: &mut SourceDetail) -> Option<Contradiction> {
    let Some(stream) = frames::read(bytes, container) else {
        detail.intact = false;
        return None;
    };
    detail.tag_bytes = stream.tags;
    detail.varies = !stream.alike;
    detail.intact &= stream.is_clean();
    detail.frames_only = !detail.intact;
    stream.miscounted.then_some(Contradiction::Count)
}

/// Reads all bytes, or returns `None` if there are too many.
fn whole(reader: &mut (impl Read + Seek), size_bytes: u64, most: u64) -> io::Result<Option<Vec<u8>>> {
    if size_bytes > most {
        return Ok(None);
    }
    reader.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
