//! What can be known of a file without decoding it. Blocking; runs on a thread of its own.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};
use voicegate_providers::Container;

use super::error::{AudioError, AudioErrorKind};
use super::mp4::Mp4;
use super::names::{text_kind, unmistakable};
use super::sniff::{LATE_MP3, refusal, sniff};
use super::source::{Hints, SourceDetail};
use super::{iff, ogg_opus, webm};

/// WebM is read in memory; what is larger is not a voice note and gets transcoded.
const LARGEST_IN_MEMORY: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Examined {
    pub container: Container,
    pub size_bytes: u64,
    pub sha256: String,
    pub detail: SourceDetail,
    /// What the container's index says the audio lasts.
    pub stated_ms: Option<u64>,
}

pub(super) fn examine(path: &Path, hints: &Hints) -> Result<Examined, AudioError> {
    let mut file = File::open(path).map_err(|error| unreadable_file(&error))?;
    let (size_bytes, sha256) = digest(&mut file).map_err(|error| unreadable_file(&error))?;
    let (found, head) = sniff(&mut file).map_err(|error| unreadable_file(&error))?;
    let (container, mut detail) = match (found, hints.format) {
        (Some(found), _) => {
            let intact = found.flavour != LATE_MP3;
            (found.container, SourceDetail { flavour: found.flavour, intact, ..SourceDetail::default() })
        }
        // A declared format does not turn an error page or a picture into sound.
        (None, Some(_)) if let Some(why) = unmistakable(&head) => {
            return Err(AudioError::probe(AudioErrorKind::Unreadable, why));
        }
        (None, Some(format)) if !head.is_empty() && text_kind(&head).is_none() => {
            let format =
                format.checked().map_err(|detail| AudioError::probe(AudioErrorKind::Unsupported, detail))?;
            let detail = SourceDetail { intact: true, format: Some(format), ..SourceDetail::default() };
            (Container::Pcm, detail)
        }
        (None, _) => return Err(refusal(&head, hints)),
    };
    let stated_ms = structure(&mut file, container, size_bytes, &mut detail)?;
    Ok(Examined { container, size_bytes, sha256, detail, stated_ms })
}

/// Reads the container's own structure where that decides something later.
fn structure(
    file: &mut File,
    container: Container,
    size_bytes: u64,
    detail: &mut SourceDetail,
) -> Result<Option<u64>, AudioError> {
    let io_failed = |error: io::Error| unreadable_file(&error);
    file.seek(SeekFrom::Start(0)).map_err(io_failed)?;
    let mut reader = BufReader::new(file);
    match container {
        Container::Ogg => detail.opus = ogg_opus::read(&mut reader, &mut |_| Ok(())).ok(),
        Container::Webm | Container::Matroska if size_bytes <= LARGEST_IN_MEMORY => {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map_err(io_failed)?;
            detail.opus = webm::read(&bytes, &mut |_| Ok(())).ok();
        }
        Container::Wav | Container::Aiff => {
            let big_endian = container == Container::Aiff;
            if let Some(shortfall) = iff::shortfall(&mut reader, big_endian).map_err(io_failed)? {
                return Err(cut_off(shortfall));
            }
            detail.intact = iff::is_sound(&mut reader, big_endian).map_err(io_failed)?;
        }
        Container::Caf => {
            if let Some(shortfall) = iff::caf_shortfall(&mut reader).map_err(io_failed)? {
                return Err(cut_off(shortfall));
            }
        }
        Container::Mp4 => {
            let mp4 = Mp4::read(&mut reader).map_err(io_failed)?;
            if mp4.moov_first.is_none() && !mp4.fragmented {
                return Err(AudioError::probe(
                    AudioErrorKind::Unreadable,
                    "this M4A has no index (moov), so nothing in it can be found: was the upload cut off?",
                ));
            }
            detail.intact = !mp4.fragmented && !mp4.cut_off && mp4.has_audio_data;
            detail.moov_first = mp4.moov_first;
            let audio = mp4.audio();
            detail.aac_object = audio.and_then(|track| track.aac).map(|aac| aac.object);
            return Ok(audio.and_then(|track| track.duration_ms).filter(|_| !mp4.fragmented));
        }
        _ => {}
    }
    Ok(None)
}

fn cut_off((stated, present): (u64, u64)) -> AudioError {
    AudioError::probe(
        AudioErrorKind::Unreadable,
        format!("the file says {stated} bytes of audio, {present} are there: was the upload cut off?"),
    )
}

pub(super) fn digest(file: &mut File) -> io::Result<(u64, String)> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hex::encode(hash.finalize()))),
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

fn unreadable_file(error: &io::Error) -> AudioError {
    tracing::warn!(%error, "a stored source could not be read");
    AudioError::probe(AudioErrorKind::Internal, "the stored audio could not be read")
}
