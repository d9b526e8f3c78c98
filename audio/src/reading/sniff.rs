//! Identifies the container from the bytes alone, without the caller's hints.

use std::io::{self, Read, Seek, SeekFrom};

use voicegate_providers::Container;

use crate::error::{AudioError, AudioErrorKind};
use crate::formats::mpeg::{FrameHeader, is_adts, tag_length};
use crate::reading::hexadecimal::was_decoded_as_base64;
use crate::reading::names::{HEX_AS_BASE64, binary_kind, other_text, sure_text};
use crate::source::Hints;

/// Number of bytes examined: enough for two of the longest frames (8 KiB each in ADTS) after some junk.
const WINDOW: usize = 64 << 10;
/// Number of junk bytes accepted before the first MP3 frame, as encoders and editors leave them.
const JUNK: usize = 16 << 10;

/// Flavour of an MP3 that begins with neither a frame nor a single tag.
pub(crate) const LATE_MP3: &str = "late";

/// Number of consecutive tags that are skipped.
const MOST_TAGS: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sniffed {
    pub container: Container,
    /// Four characters for the variant of the container, if it has variants.
    pub flavour: String,
    /// Offset of the container's first byte, after foreign tags, padding or junk. A tag is part of an MP3.
    pub begins_at: u64,
}

impl Sniffed {
    fn new(container: Container, flavour: &[u8]) -> Self {
        Self { container, flavour: String::from_utf8_lossy(flavour).into_owned(), begins_at: 0 }
    }

    fn at(self, begins_at: u64) -> Self {
        Self { begins_at, ..self }
    }
}

/// Identifies the container, or returns `None` if it is not supported. Readers begin at `begins_at`.
pub(crate) fn sniff(reader: &mut (impl Read + Seek)) -> io::Result<(Option<Sniffed>, Vec<u8>)> {
    let head = window(reader, 0)?;
    let mut position = 0;
    let mut body = head.clone();
    let mut tags = 0;
    while tags < MOST_TAGS {
        match tag_length(&body) {
            0 => break,
            length => position += length as u64,
        }
        tags += 1;
        body = window(reader, position)?;
    }
    let has_one_id3 = tags == 1 && head.starts_with(b"ID3");
    let found = recognise(&body, tags > 0).map(|(found, at)| {
        if found.container != Container::Mp3 {
            return found.at(position + at);
        }
        // One tag is part of an MP3. Other readers skip a second one, and junk.
        let is_late = at > 0 || tags > 0 && !has_one_id3;
        if is_late { Sniffed::new(Container::Mp3, LATE_MP3.as_bytes()).at(position + at) } else { found }
    });
    Ok((found, head))
}

fn window(reader: &mut (impl Read + Seek), position: u64) -> io::Result<Vec<u8>> {
    reader.seek(SeekFrom::Start(position))?;
    let mut bytes = Vec::new();
    reader.take(WINDOW as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The container in these bytes, and its offset.
fn recognise(bytes: &[u8], tagged: bool) -> Option<(Sniffed, u64)> {
    if is_picture(bytes) {
        return None;
    }
    if let Some(found) = by_sign(bytes) {
        return Some((found, 0));
    }
    if is_adts(bytes, 2) {
        return Some((Sniffed::new(Container::Adts, b""), 0));
    }
    if FrameHeader::run(bytes, 2).is_some() {
        return Some((Sniffed::new(Container::Mp3, b""), 0));
    }
    if let Some(found) = behind_padding(bytes) {
        return Some(found);
    }
    // An archive may hold an uncompressed MP3, which does not make it one.
    if !tagged && infer::get(bytes).is_some_and(|kind| kind.matcher_type() != infer::MatcherType::Audio) {
        return None;
    }
    // Away from the start, two frame headers may be coincidence: noise has a pair about once in a megabyte.
    let search = if tagged { bytes.len() } else { JUNK.min(bytes.len()) };
    (1..search).filter(|&from| bytes[from] == 0xff).find_map(|from| {
        let rest = &bytes[from..];
        let container = if FrameHeader::run(rest, 4).is_some_and(|first| first.layer == 3) {
            Container::Mp3
        } else if is_adts(rest, 4) {
            Container::Adts
        } else {
            return None;
        };
        Some((Sniffed::new(container, b""), from as u64))
    })
}

/// Pictures in a container with the boxes of MP4.
fn is_picture(bytes: &[u8]) -> bool {
    const BRANDS: [&[u8]; 7] = [b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis"];
    bytes.get(4..12).is_some_and(|kind| kind.starts_with(b"ftyp") && BRANDS.contains(&&kind[4..]))
}

/// Containers with a signature of four bytes or more.
fn by_sign(bytes: &[u8]) -> Option<Sniffed> {
    let found = |container, flavour: &[u8]| Some(Sniffed::new(container, flavour));
    let at = |from: usize| bytes.get(from..from + 4).unwrap_or_default();
    match (at(0), at(4), at(8)) {
        (b"OggS", ..) => found(Container::Ogg, b"OggS"),
        (form @ (b"RIFF" | b"RF64" | b"BW64"), _, b"WAVE") => found(Container::Wav, form),
        (b"FORM", _, form @ (b"AIFF" | b"AIFC")) => found(Container::Aiff, form),
        (b"caff", ..) => found(Container::Caf, b"caff"),
        (b"fLaC", ..) => found(Container::Flac, b"fLaC"),
        ([0x1a, 0x45, 0xdf, 0xa3], ..) => {
            let is_webm = bytes[..bytes.len().min(64)].windows(4).any(|window| window == b"webm");
            found(if is_webm { Container::Webm } else { Container::Matroska }, b"")
        }
        (_, b"ftyp", brand) => found(Container::Mp4, brand),
        // QuickTime files from before `ftyp` existed.
        ([0, ..], b"moov" | b"mdat" | b"wide", _) => found(Container::Mp4, b"qt  "),
        _ if bytes.starts_with(b"#!AMR-WB\n") => found(Container::Amr, b"WB"),
        _ if bytes.starts_with(b"#!AMR\n") => found(Container::Amr, b"NB"),
        _ => None,
    }
}

/// A container after zeros, as a cleared tag leaves them, or after a byte order mark and blank lines, as scripts write
/// them.
fn behind_padding(bytes: &[u8]) -> Option<(Sniffed, u64)> {
    let marked = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let blank = |byte: &&u8| matches!(byte, 0 | b'\r' | b'\n' | b' ' | b'\t');
    let padding = marked + bytes[marked..].iter().take(JUNK).take_while(blank).count();
    // MP4 begins with a size whose first bytes are zero.
    let places = padding.saturating_sub(3)..=padding;
    places
        .filter(|&at| at > 0 && !is_picture(&bytes[at..]))
        .find_map(|at| by_sign(&bytes[at..]).map(|found| (found, at as u64)))
}

/// The error for unsupported bytes, which tells the caller what went wrong.
pub(crate) fn refusal(head: &[u8], hints: &Hints) -> AudioError {
    let unreadable = |detail: &str| AudioError::probe(AudioErrorKind::Unreadable, detail);
    if head.is_empty() {
        return unreadable("the audio is empty (0 bytes)");
    }
    if let Some(looks_like) = sure_text(head) {
        return unreadable(looks_like);
    }
    if declares_pcm(hints) {
        return AudioError::probe(
            AudioErrorKind::FormatRequired,
            "headerless samples need `format`, for example {\"encoding\":\"s16le\",\"sample_rate\":24000,\"channels\":1}",
        );
    }
    if was_decoded_as_base64(head) {
        return unreadable(HEX_AS_BASE64);
    }
    match binary_kind(head) {
        Some(named) => named.refused(),
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
/// Media types of headerless samples. A rate parameter alone does not describe the format.
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
