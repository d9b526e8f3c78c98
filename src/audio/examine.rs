//! What can be known of a file without decoding it. Blocking; runs on a thread of its own.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};
use voicegate_providers::Container;

use super::error::{AudioError, AudioErrorKind};
use super::iff::{self, CHANNELS, Fault, RATES};
use super::known::{Known, known};
use super::mp4::Mp4;
use super::names::{text_kind, unmistakable};
use super::sniff::{LATE_MP3, refusal, sniff};
use super::source::{Hints, SourceDetail};
use super::{caf_opus, ogg, ogg_opus, webm};

/// WebM is read in memory; what is larger is not a voice note and gets transcoded.
const LARGEST_IN_MEMORY: u64 = 64 << 20;
/// What is larger is known by decoding alone: walking it would take the memory of many other requests.
const LARGEST_KNOWN: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct Examined {
    pub container: Container,
    pub size_bytes: u64,
    pub sha256: String,
    pub detail: SourceDetail,
    /// What the container's index says the audio lasts.
    pub stated_ms: Option<u64>,
    /// What its structure says for sure.
    pub known: Option<Known>,
}

pub(super) fn examine(path: &Path, hints: &Hints) -> Result<Examined, AudioError> {
    let mut file = File::open(path).map_err(|error| unreadable_file(&error))?;
    let (size_bytes, sha256) = digest(&mut file).map_err(|error| unreadable_file(&error))?;
    let mut examined = look(&mut file, size_bytes, sha256, hints)?;
    if size_bytes <= LARGEST_KNOWN {
        let bytes = std::fs::read(path).map_err(|error| unreadable_file(&error))?;
        examined.known = known(&bytes, examined.container, &examined.detail);
    }
    Ok(examined)
}

/// The same for bytes in memory whose digest is known already.
pub(super) fn examine_bytes(bytes: &[u8], sha256: &str, hints: &Hints) -> Result<Examined, AudioError> {
    let mut examined = look(&mut Cursor::new(bytes), bytes.len() as u64, sha256.to_owned(), hints)?;
    examined.known = known(bytes, examined.container, &examined.detail);
    Ok(examined)
}

fn look(
    file: &mut (impl Read + Seek),
    size_bytes: u64,
    sha256: String,
    hints: &Hints,
) -> Result<Examined, AudioError> {
    let (found, head) = sniff(file).map_err(|error| unreadable_file(&error))?;
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
    let stated_ms = structure(file, container, size_bytes, &mut detail)?;
    Ok(Examined { container, size_bytes, sha256, detail, stated_ms, known: None })
}

/// Reads the container's own structure where that decides something later.
fn structure(
    file: &mut (impl Read + Seek),
    container: Container,
    size_bytes: u64,
    detail: &mut SourceDetail,
) -> Result<Option<u64>, AudioError> {
    let io_failed = |error: io::Error| unreadable_file(&error);
    file.seek(SeekFrom::Start(0)).map_err(io_failed)?;
    let mut reader = BufReader::new(file);
    match container {
        Container::Ogg => match ogg_opus::read(&mut reader, &mut |_| Ok(())) {
            Ok(opus) => detail.opus = Some(opus),
            // Damaged, of another codec, or several recordings one after another.
            Err(_) => return chained(&ogg::links(&mut reader).map_err(io_failed)?, detail),
        },
        Container::Webm | Container::Matroska if size_bytes <= LARGEST_IN_MEMORY => {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map_err(io_failed)?;
            if webm::begins_again(&bytes) {
                return Err(several());
            }
            detail.opus = webm::read(&bytes, &mut |_| Ok(())).ok();
        }
        Container::Flac if flac_begins_again(&mut reader).map_err(io_failed)? => return Err(several()),
        Container::Wav | Container::Aiff => {
            let big_endian = container == Container::Aiff;
            if let Some(fault) = iff::fault(&mut reader, big_endian).map_err(io_failed)? {
                return Err(faulty(fault));
            }
            detail.intact = iff::is_sound(&mut reader, big_endian).map_err(io_failed)?;
        }
        Container::Caf => {
            if let Some(fault) = iff::caf_fault(&mut reader).map_err(io_failed)? {
                return Err(faulty(fault));
            }
            detail.opus = caf_opus::read(&mut reader, &mut |_| Ok(())).ok();
        }
        Container::Mp4 => {
            let mp4 = Mp4::read(&mut reader).map_err(io_failed)?;
            if mp4.moov_first.is_none() && !mp4.fragmented {
                return Err(AudioError::probe(
                    AudioErrorKind::Unreadable,
                    "this M4A has no index (moov), so nothing in it can be found: was the upload cut off?",
                ));
            }
            if mp4.begins_again {
                return Err(several());
            }
            let audio = mp4.audio();
            if audio.is_some_and(|track| ENCRYPTED.contains(&track.format.as_str())) {
                return Err(AudioError::probe(
                    AudioErrorKind::Unsupported,
                    "this M4A is encrypted (copy protection); send one that is not",
                ));
            }
            // Only AAC is ever passed on, and only where it is written down like that.
            let described = audio.is_some_and(|track| track.aac.is_some());
            detail.intact = !mp4.fragmented && !mp4.cut_off && mp4.has_audio_data && described;
            detail.moov_first = mp4.moov_first;
            detail.aac_object = audio.and_then(|track| track.aac).map(|aac| aac.object);
            return Ok(audio.and_then(|track| track.duration_ms).filter(|_| !mp4.fragmented));
        }
        _ => {}
    }
    Ok(None)
}

/// Sample formats of protected tracks: common encryption, and FairPlay before it.
const ENCRYPTED: [&str; 2] = ["enca", "drms"];

fn faulty(fault: Fault) -> AudioError {
    let unreadable = |detail| AudioError::probe(AudioErrorKind::Unreadable, detail);
    let unsupported = |detail| AudioError::probe(AudioErrorKind::Unsupported, detail);
    match fault {
        Fault::CutOff { stated, present } => unreadable(format!(
            "the file says {stated} bytes of audio, {present} are there: was the upload cut off?"
        )),
        Fault::Overfull { stated } => unreadable(format!(
            "the file says {stated} bytes of audio, but more follow; state the true size, or 0xFFFFFFFF where it is \
             not known yet"
        )),
        Fault::Several => several(),
        Fault::Channels(0) => unreadable("the file says 0 channels: it is damaged".to_owned()),
        Fault::Channels(channels) => unsupported(too_many_channels(channels)),
        Fault::Rate(0) => unreadable("the file says 0 Hz: it is damaged".to_owned()),
        Fault::Rate(rate) => unsupported(format!(
            "the file says {rate} Hz; from {} to {} Hz are supported",
            RATES.start(),
            RATES.end()
        )),
    }
}

pub(super) fn too_many_channels(channels: u16) -> String {
    format!("the file has {channels} channels; at most {} are supported", CHANNELS.end())
}

/// Decoders stop after the first recording, or lose the clock: half of it would be missing, and nobody would be told.
pub(super) fn several() -> AudioError {
    AudioError::probe(
        AudioErrorKind::Unsupported,
        "this file is several recordings one after another, of which only the first would be heard; send them one \
         by one, or join their sound instead of their bytes",
    )
}

/// Alike recordings one after another decode as one; how long they are together is then the proof.
fn chained(links: &[ogg::Link], detail: &mut SourceDetail) -> Result<Option<u64>, AudioError> {
    let [first, rest @ ..] = links else { return Ok(None) };
    if rest.is_empty() {
        return Ok(None);
    }
    if first.form.is_none() || rest.iter().any(|link| link.form != first.form) {
        return Err(several());
    }
    detail.chained = true;
    Ok(Some(links.iter().fold(0, |sum, link| sum.saturating_add(link.duration_ms))))
}

/// Whether FLAC begins anywhere behind the first byte: its name, and the header of a first block of known length.
fn flac_begins_again(reader: &mut impl Read) -> io::Result<bool> {
    const LENGTH: usize = 8;
    let begins = |bytes: &[u8]| {
        bytes.starts_with(b"fLaC") && matches!(bytes[4], 0 | 0x80) && bytes.ends_with(&[0, 0, 34])
    };
    let mut window = Vec::new();
    let mut first = 1;
    loop {
        let count = reader.by_ref().take(64 << 10).read_to_end(&mut window)?;
        if window.get(first..).is_some_and(|rest| rest.windows(LENGTH).any(begins)) {
            return Ok(true);
        }
        if count == 0 {
            return Ok(false);
        }
        let done = window.len().saturating_sub(LENGTH - 1);
        window.drain(..done);
        first = first.saturating_sub(done);
    }
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
    AudioError::probe(AudioErrorKind::Outage, "the stored audio could not be read")
}
