//! Reads the facts about a file that need no decoding. Blocking; runs on a thread of its own.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};
use voicegate_providers::Container;

use crate::error::{AudioError, AudioErrorKind};
use crate::formats::iff::{self, CHANNELS, Fault, RATES, Sizes};
use crate::formats::mp4::Mp4;
use crate::formats::mp4_fragments;
use crate::formats::patched::{FromStart, PatchedFile};
use crate::formats::{caf_opus, ogg, ogg_opus, tracks, wav, webm};
use crate::reading::consistency;
use crate::reading::names::no_samples;
use crate::reading::sniff::{LATE_MP3, Sniffed, refusal, sniff};
use crate::reading::structure::{StructureFacts, structure_facts};
use crate::source::findings::Contradiction;
use crate::source::{Hints, SourceDetail};

/// Size limit for reading WebM in memory, in bytes. A larger file is no voice note and is transcoded.
const LARGEST_IN_MEMORY: u64 = 64 << 20;
/// Size limit for reading the structure, in bytes. Larger files are decoded, because reading their structure would take
/// the memory of many requests.
const LARGEST_KNOWN: u64 = 8 << 20;

#[derive(Debug)]
pub(crate) struct Examined {
    pub container: Container,
    pub size_bytes: u64,
    pub sha256: String,
    pub detail: SourceDetail,
    /// Length according to the container's index, in milliseconds.
    pub stated_ms: Option<u64>,
    /// Damage that our own reader found in the container.
    pub damage: Option<&'static str>,
    /// Contradiction within the structure.
    pub contradiction: Option<Contradiction>,
    /// Facts that the structure proves.
    pub structure: Option<StructureFacts>,
}

/// Examines a file. `largest` is the size limit of a source in bytes; a header that states more is one of unknown size.
pub(crate) fn examine(path: &Path, hints: &Hints, largest: u64) -> Result<Examined, AudioError> {
    let mut file = File::open(path).map_err(|error| unreadable_file(&error))?;
    let (size_bytes, sha256) = digest(&mut file).map_err(|error| unreadable_file(&error))?;
    let mut examined = look(&mut file, size_bytes, sha256, hints, largest)?;
    if size_bytes <= LARGEST_KNOWN {
        let bytes = std::fs::read(path).map_err(|error| unreadable_file(&error))?;
        examined.structure = structure_facts(&bytes, examined.container, &examined.detail);
    }
    Ok(examined)
}

/// Examines bytes in memory whose digest is known already.
pub(crate) fn examine_bytes(
    bytes: &[u8],
    sha256: &str,
    hints: &Hints,
    largest: u64,
) -> Result<Examined, AudioError> {
    let mut examined = look(&mut Cursor::new(bytes), bytes.len() as u64, sha256.to_owned(), hints, largest)?;
    examined.structure = structure_facts(bytes, examined.container, &examined.detail);
    Ok(examined)
}

fn look(
    file: &mut (impl Read + Seek),
    size_bytes: u64,
    sha256: String,
    hints: &Hints,
    largest: u64,
) -> Result<Examined, AudioError> {
    let (found, head) = sniff(file).map_err(|error| unreadable_file(&error))?;
    let found = match (found, hints.format) {
        (Some(found), _) => found,
        (None, Some(format)) if !head.is_empty() => {
            // A declared format does not turn an error page or a picture into sound.
            if let Some(named) = no_samples(&head, format.encoding.bytes_per_sample()) {
                return Err(named.refused());
            }
            let format =
                format.checked().map_err(|detail| AudioError::probe(AudioErrorKind::Unsupported, detail))?;
            let detail = SourceDetail { intact: true, format: Some(format), ..SourceDetail::default() };
            let container = Container::Pcm;
            return Ok(Examined {
                container,
                size_bytes,
                sha256,
                detail,
                stated_ms: None,
                damage: None,
                contradiction: None,
                structure: None,
            });
        }
        (None, _) => return Err(refusal(&head, hints)),
    };
    let Sniffed { container, flavour, begins_at } = found;
    let mut structure = Structure {
        detail: SourceDetail { intact: flavour != LATE_MP3, flavour, ..SourceDetail::default() },
        stated_ms: None,
        damage: None,
    };
    // Every reader counts from the start of the container.
    let mut container_bytes = FromStart::new(file, begins_at).map_err(|error| unreadable_file(&error))?;
    structure.read(&mut container_bytes, container, size_bytes, largest)?;
    let Structure { mut detail, stated_ms, damage } = structure;
    let within = size_bytes.saturating_sub(begins_at);
    let contradiction = consistency::examine(&mut container_bytes, container, within, &mut detail)
        .map_err(|error| unreadable_file(&error))?;
    // A file with wrong granules only is not damaged.
    let damage = damage.filter(|_| detail.opus.is_none());
    detail.patched = match detail.patched {
        Some(patched) => Some(patched.moved(begins_at)),
        None if begins_at > 0 => Some(PatchedFile::default().source(begins_at, size_bytes)),
        None => None,
    };
    detail.intact &= detail.patched.is_none();
    Ok(Examined { container, size_bytes, sha256, detail, stated_ms, damage, contradiction, structure: None })
}

/// Results of the container's own reader.
struct Structure {
    detail: SourceDetail,
    stated_ms: Option<u64>,
    damage: Option<&'static str>,
}

impl Structure {
    /// Reads the parts of the structure that later decisions need.
    fn read(
        &mut self,
        file: &mut (impl Read + Seek),
        container: Container,
        size_bytes: u64,
        largest: u64,
    ) -> Result<(), AudioError> {
        let io_failed = |error: io::Error| unreadable_file(&error);
        let mut reader = BufReader::new(file);
        match container {
            Container::Ogg => self.ogg(&mut reader),
            Container::Webm | Container::Matroska if size_bytes <= LARGEST_IN_MEMORY => {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).map_err(io_failed)?;
                if webm::begins_again(&bytes) {
                    return Err(several());
                }
                self.detail.track = u32::try_from(tracks::in_matroska(&bytes)).unwrap_or_default();
                self.detail.opus = webm::read(&bytes, &mut |_| Ok(())).ok();
                Ok(())
            }
            Container::Flac if flac_begins_again(&mut reader).map_err(io_failed)? => Err(several()),
            Container::Wav => {
                self.sizes(wav::wav(&mut reader, largest).map_err(io_failed)?)?;
                self.detail.intact = iff::is_sound(&mut reader, false).map_err(io_failed)?;
                Ok(())
            }
            Container::Aiff => {
                self.sizes(iff::aiff(&mut reader, largest).map_err(io_failed)?)?;
                self.detail.intact = iff::is_sound(&mut reader, true).map_err(io_failed)?;
                Ok(())
            }
            Container::Caf => {
                self.sizes(iff::caf(&mut reader, largest).map_err(io_failed)?)?;
                self.detail.opus = caf_opus::read(&mut reader, &mut |_| Ok(())).ok();
                Ok(())
            }
            Container::Mp4 => {
                let mp4 = Mp4::read(&mut reader).map_err(io_failed)?;
                self.mp4(&mp4)?;
                if mp4.fragmented {
                    self.detail.patched =
                        mp4_fragments::in_order(&mut reader, self.detail.track).map_err(io_failed)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sizes(&mut self, sizes: Sizes) -> Result<(), AudioError> {
        match sizes {
            Sizes::Usable => {}
            Sizes::Rewritten(file) => self.detail.patched = Some(file),
            Sizes::Faulty(fault) => return Err(faulty(fault)),
        }
        Ok(())
    }

    fn ogg(&mut self, reader: &mut (impl Read + Seek)) -> Result<(), AudioError> {
        let io_failed = |error: io::Error| unreadable_file(&error);
        match ogg_opus::read(reader, &mut |_| Ok(())) {
            Ok(opus) => self.detail.opus = Some(opus),
            // The file is damaged, has another codec, or consists of several recordings.
            Err(ogg::Damage(damage)) => {
                if ogg::lacks_checksums(reader).map_err(io_failed)? {
                    return Err(AudioError::probe(
                        AudioErrorKind::Unreadable,
                        "the pages of this Ogg file have no checksums (they are all 0), so players take every page for \
                         damaged; write them as RFC 3533 says, or send the audio in another container",
                    ));
                }
                self.damage = Some(damage);
                self.stated_ms = chained(&ogg::links(reader).map_err(io_failed)?, &mut self.detail)?;
            }
        }
        Ok(())
    }

    fn mp4(&mut self, mp4: &Mp4) -> Result<(), AudioError> {
        if mp4.moov_first.is_none() && !mp4.fragmented {
            return Err(AudioError::probe(
                AudioErrorKind::Unreadable,
                "this M4A has no index (moov), so nothing in it can be found: was the upload cut off?",
            ));
        }
        if mp4.begins_again {
            return Err(several());
        }
        let Some((index, track)) = mp4.audio() else {
            self.detail.intact = false;
            self.detail.moov_first = mp4.moov_first;
            return Ok(());
        };
        if ENCRYPTED.contains(&track.format.as_str()) {
            return Err(AudioError::probe(
                AudioErrorKind::Unsupported,
                "this M4A is encrypted (copy protection); send one that is not",
            ));
        }
        self.detail.track = index;
        // Only AAC is ever sent untouched, and only from an intact file with one index.
        self.detail.intact = !mp4.fragmented && !mp4.cut_off && mp4.has_audio_data && track.aac.is_some();
        self.detail.moov_first = mp4.moov_first;
        self.detail.aac_object = track.aac.map(|aac| aac.object);
        self.stated_ms = track.duration_ms.filter(|_| !mp4.fragmented);
        Ok(())
    }
}

/// Sample formats of protected tracks: common encryption, and FairPlay before it.
const ENCRYPTED: [&str; 2] = ["enca", "drms"];

fn faulty(fault: Fault) -> AudioError {
    let unreadable = |detail| AudioError::probe(AudioErrorKind::Unreadable, detail);
    let unsupported = |detail| AudioError::probe(AudioErrorKind::Unsupported, detail);
    match fault {
        Fault::CutOff { stated, present } => unreadable(format!(
            "the file states {stated} bytes of audio, but has only {present}: was the upload cut off?"
        )),
        Fault::Overfull { stated } => unreadable(format!(
            "the file states {stated} bytes of audio, but more follow; state the true size, or 0xFFFFFFFF where it is \
             not known yet"
        )),
        Fault::Several => several(),
        Fault::Channels(0) => unreadable("the file states 0 channels: it is damaged".to_owned()),
        Fault::Channels(channels) => unsupported(too_many_channels(channels)),
        Fault::Rate(0) => unreadable("the file states 0 Hz: it is damaged".to_owned()),
        Fault::Rate(rate) => unsupported(format!(
            "the file states {rate} Hz; from {} to {} Hz are supported",
            RATES.start(),
            RATES.end()
        )),
    }
}

pub(crate) fn too_many_channels(channels: u16) -> String {
    format!("the file has {channels} channels; at most {} are supported", CHANNELS.end())
}

/// The error for several recordings in one file. Decoders stop after the first one or lose the clock, and part of the
/// sound would be missing without notice.
pub(crate) fn several() -> AudioError {
    AudioError::probe(
        AudioErrorKind::Unsupported,
        "this file is several recordings one after another, of which only the first would be heard; send them one \
         by one, or join their sound instead of their bytes",
    )
}

/// Accepts consecutive recordings of one kind, which decode as one. Their total length, which is returned, is checked
/// after decoding.
fn chained(links: &[ogg::Link], detail: &mut SourceDetail) -> Result<Option<u64>, AudioError> {
    let [first, rest @ ..] = links else { return Ok(None) };
    if rest.is_empty() {
        return Ok(None);
    }
    if first.codec.is_none() || rest.iter().any(|link| link.codec != first.codec) {
        return Err(several());
    }
    detail.chained = true;
    Ok(Some(links.iter().fold(0, |sum, link| sum.saturating_add(link.duration_ms))))
}

/// Whether a second FLAC stream begins after the first byte: its marker with the header of a first block of known
/// length.
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

pub(crate) fn digest(file: &mut File) -> io::Result<(u64, String)> {
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
