//! What the bytes are. The caller's words about them do not count here.

use std::io::{self, Read, Seek, SeekFrom};

use voicegate_providers::Container;

use super::error::{AudioError, AudioErrorKind};
use super::mpeg::{FrameHeader, id3_length, is_adts};
use super::names::{Named, binary_kind, other_text, text_kind};
use super::source::Hints;

/// Enough for two of the longest frames (8 KiB each in ADTS) after a little junk.
const WINDOW: usize = 64 << 10;
/// Encoders and cutters leave some bytes before the first MP3 frame.
const JUNK: usize = 16 << 10;

/// The flavour of an MP3 that begins neither with its first frame nor with one tag.
pub(super) const LATE_MP3: &str = "late";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sniffed {
    pub container: Container,
    /// Four characters for the variant of the container, where it has variants.
    pub flavour: String,
}

/// The container, or `None` if these bytes are none that we read.
pub(super) fn sniff(reader: &mut (impl Read + Seek)) -> io::Result<(Option<Sniffed>, Vec<u8>)> {
    let head = window(reader, 0)?;
    let mut position = 0;
    let mut body = head.clone();
    let mut tags = 0;
    // Some taggers write a tag before the tag.
    while tags < 4 {
        match id3_length(&body) {
            0 => break,
            length => position += length as u64,
        }
        tags += 1;
        body = window(reader, position)?;
    }
    let mut found = recognise(&body, tags > 0);
    // Other readers step over one.
    if tags > 1
        && let Some(found) = &mut found
    {
        found.flavour = LATE_MP3.to_owned();
    }
    Ok((found, head))
}

fn window(reader: &mut (impl Read + Seek), position: u64) -> io::Result<Vec<u8>> {
    reader.seek(SeekFrom::Start(position))?;
    let mut bytes = Vec::new();
    reader.take(WINDOW as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn recognise(bytes: &[u8], tagged: bool) -> Option<Sniffed> {
    let found = |container, flavour: &[u8]| {
        Some(Sniffed { container, flavour: String::from_utf8_lossy(flavour).into_owned() })
    };
    let at = |from: usize| bytes.get(from..from + 4).unwrap_or_default();
    match (at(0), at(4), at(8)) {
        (b"OggS", ..) => return found(Container::Ogg, b"OggS"),
        (form @ (b"RIFF" | b"RF64"), _, b"WAVE") => return found(Container::Wav, form),
        (b"FORM", _, form @ (b"AIFF" | b"AIFC")) => return found(Container::Aiff, form),
        (b"caff", ..) => return found(Container::Caf, b"caff"),
        (b"fLaC", ..) => return found(Container::Flac, b"fLaC"),
        ([0x1a, 0x45, 0xdf, 0xa3], ..) => {
            let webm = bytes.iter().take(64).copied().collect::<Vec<_>>();
            let is_webm = webm.windows(4).any(|window| window == b"webm");
            return found(if is_webm { Container::Webm } else { Container::Matroska }, b"");
        }
        // Pictures use the same boxes.
        (_, b"ftyp", b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" | b"avif" | b"avis") => return None,
        (_, b"ftyp", brand) => return found(Container::Mp4, brand),
        // QuickTime files from before there was `ftyp`.
        (_, b"moov" | b"mdat" | b"wide", _) if at(0)[0] == 0 => return found(Container::Mp4, b"qt  "),
        _ => {}
    }
    if bytes.starts_with(b"#!AMR-WB\n") {
        return found(Container::Amr, b"WB");
    }
    if bytes.starts_with(b"#!AMR\n") {
        return found(Container::Amr, b"NB");
    }
    if is_adts(bytes) {
        return found(Container::Adts, b"");
    }
    if FrameHeader::run(bytes, 2).is_some() {
        return found(Container::Mp3, b"");
    }
    // An archive may hold an MP3 as it is; that does not make it one.
    if !tagged && infer::get(bytes).is_some_and(|kind| kind.matcher_type() != infer::MatcherType::Audio) {
        return None;
    }
    // Away from the start, two headers might be chance: noise holds a pair about once in a megabyte.
    let search = if tagged { bytes.len() } else { JUNK.min(bytes.len()) };
    (1..search)
        .filter(|&from| bytes[from] == 0xff)
        .any(|from| FrameHeader::run(&bytes[from..], 4).is_some_and(|first| first.layer == 3))
        .then(|| Sniffed { container: Container::Mp3, flavour: LATE_MP3.to_owned() })
}

/// Why unknown bytes are refused: the caller must be able to see what went wrong.
pub(super) fn refusal(head: &[u8], hints: &Hints) -> AudioError {
    let unreadable = |detail: &str| AudioError::probe(AudioErrorKind::Unreadable, detail);
    if head.is_empty() {
        return unreadable("the audio is empty (0 bytes)");
    }
    if let Some(looks_like) = text_kind(head) {
        return unreadable(looks_like);
    }
    if declares_pcm(hints) {
        return AudioError::probe(
            AudioErrorKind::FormatRequired,
            "headerless samples need `format`, for example {\"encoding\":\"s16le\",\"sample_rate\":24000,\"channels\":1}",
        );
    }
    match binary_kind(head) {
        Some(Named::NotAudio(why) | Named::Broken(why)) => unreadable(&why),
        Some(Named::NotRead(why)) => AudioError::probe(AudioErrorKind::Unsupported, why),
        None => unreadable(other_text(head).unwrap_or(
            "these bytes are no audio format we know; if they are headerless samples, send `format`",
        )),
    }
}

/// File name extensions of headerless samples.
const PCM_EXTENSIONS: &[&str] = &[
    "pcm", "raw", "lpcm", "s16le", "s16be", "s24le", "s32le", "f32le", "u8", "ulaw", "mulaw", "ul", "alaw",
    "al", "sw",
];
/// Media types of headerless samples; a rate parameter does not make them complete.
const PCM_TYPES: &[&str] = &[
    "audio/l8",
    "audio/l16",
    "audio/l24",
    "audio/lpcm",
    "audio/pcm",
    "audio/x-pcm",
    "audio/raw",
    "audio/x-raw",
    "audio/basic",
    "audio/pcma",
    "audio/pcmu",
    "audio/x-mulaw",
    "audio/x-alaw",
    "audio/mulaw",
    "audio/alaw",
];

fn declares_pcm(hints: &Hints) -> bool {
    let extension =
        hints.filename.as_deref().and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension);
    let mime_type =
        hints.mime_type.as_deref().map(|value| value.split(';').next().unwrap_or_default().trim());
    extension.is_some_and(|found| PCM_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(found)))
        || mime_type.is_some_and(|found| PCM_TYPES.iter().any(|known| known.eq_ignore_ascii_case(found)))
}
