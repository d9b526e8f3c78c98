//! Names for unsupported bytes, so that the caller sees what went wrong.

use crate::error::{AudioError, AudioErrorKind};
use crate::formats::mpeg::is_free_format;
use crate::formats::webm::vint;
use crate::reading::hexadecimal::{is_hexadecimal, was_decoded_as_base64};
use crate::reading::wide_text::wide_text;

/// Classification of bytes that are not read, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// The bytes are not audio.
    NotAudio(String),
    /// Audio, or a container that may hold audio, in a format that is not supported.
    NotRead(String),
    /// A supported format whose beginning is not followed by valid content.
    Broken(String),
}

impl Named {
    pub fn refused(self) -> AudioError {
        let (kind, detail) = match self {
            Self::NotAudio(detail) | Self::Broken(detail) => (AudioErrorKind::Unreadable, detail),
            Self::NotRead(detail) => (AudioErrorKind::Unsupported, detail),
        };
        AudioError::probe(kind, detail)
    }
}

/// Proof that bytes are no samples of the declared format. It overrides the declaration, because such samples would be
/// noise.
///
/// For samples of two or more bytes any text is proof, because sound made of printable characters would never change
/// its sign. One-byte samples of quiet sound are printable characters, so only text with an unmistakable beginning is
/// proof. Text of wide characters is always proof.
pub(crate) fn no_samples(head: &[u8], bytes_per_sample: u64) -> Option<Named> {
    let not_audio = |detail: &str| Named::NotAudio(detail.to_owned());
    let text = match bytes_per_sample {
        1 if wide_text(head).is_none() => {
            text_kind(head).filter(|&kind| kind != JSON || is_json_for_sure(head))
        }
        _ => text_kind(head).or_else(|| other_text(head)),
    };
    unmistakable(head)
        .or_else(|| text.map(not_audio))
        .or_else(|| was_decoded_as_base64(head).then(|| not_audio(HEX_AS_BASE64)))
        .or_else(|| by_structure(head))
}

/// Detail for hexadecimal text in a field for base64.
pub(crate) const HEX_AS_BASE64: &str = "this is hexadecimal text that was decoded as base64; decode it as hexadecimal, and send the resulting bytes";

const JSON: &str = "this looks like JSON, not audio; is it an error message of the service it came from?";

/// A brace alone may begin quiet 8-bit sound, in which consecutive bytes differ little.
fn is_json_for_sure(head: &[u8]) -> bool {
    let Some(text) = plain_text(head) else { return false };
    let inside = text.trim_start_matches('[').trim_start();
    inside.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with(['"', '}']))
}

/// Kind of a text that callers send in place of audio, by its beginning.
pub(crate) fn text_kind(head: &[u8]) -> Option<&'static str> {
    let text = plain_text(head)?.to_ascii_lowercase();
    let begins = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start));
    let is_xml = begins(&["<?xml", "<!--"]);
    let holds = |tag: &str| begins(&[tag]) || (is_xml || begins(&["<!doctype"])) && text.contains(tag);
    if begins(&["<!doctype html", "<head", "<body"]) || holds("<html") {
        Some("this looks like a web page (HTML), not audio; was the URL a login page?")
    } else if holds("<svg") {
        Some("this is an SVG image, not audio")
    } else if holds("<mpd") {
        Some("this is a stream description (DASH), not audio; send the audio it points to")
    } else if begins(&["#extm3u", "ffconcat", "[playlist]", "<asx"])
        || holds("<playlist")
        || holds("<smoothstreamingmedia")
    {
        Some("this is a playlist, not audio; send the audio it points to")
    } else if begins(&["http://", "https://", "file://", "rtsp://"]) {
        Some("this is the address of something, not audio; give it as `audio.url`")
    } else if begins(&["v=0\r\n", "v=0\n"]) {
        Some("this is a session description (SDP), not audio")
    } else if begins(&["<?xml", "<error"]) {
        Some("this looks like XML, not audio; is it an error message of the server it came from?")
    } else if begins(&["{", "[{"]) {
        Some(JSON)
    } else if begins(&["data:"]) {
        Some("this is a data URI as text, not audio; give it as `audio.data` in a JSON body, or decode it")
    } else if begins(&["--"]) && text.contains("content-disposition:") {
        Some("this is a multipart form, not audio; send the file in it alone")
    } else {
        None
    }
}

/// Kind of a text that cannot be samples, if the kind is known.
pub(crate) fn sure_text(head: &[u8]) -> Option<&'static str> {
    text_kind(head).or_else(|| wide_text(head).and_then(|_| other_text(head)))
}

/// Kind of any other text. Samples of 8 bits can look like it.
pub(crate) fn other_text(head: &[u8]) -> Option<&'static str> {
    const SHORTEST_BASE64: usize = 64;
    let text = plain_text(head)?;
    let encoded = |c: char| c.is_ascii_alphanumeric() || "+/-_=\r\n".contains(c);
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if is_hexadecimal(&digits) {
        Some("this looks like hexadecimal text, not audio; decode it, and send the resulting bytes")
    } else if text.len() >= SHORTEST_BASE64 && text.chars().all(encoded) {
        Some("this looks like base64 text, not audio; give it as `audio.data` in a JSON body, or decode it")
    } else {
        Some("this is text, not audio; is it an error message of the service it came from?")
    }
}

/// The beginning of the bytes, if they can be text.
fn plain_text(head: &[u8]) -> Option<String> {
    const LOOKED_AT: usize = 512;
    if let Some(text) = wide_text(head) {
        return Some(text.trim_start().chars().take(LOOKED_AT).collect());
    }
    // Scripts write blank lines before their errors.
    let head = head.trim_ascii_start();
    let head = &head[..head.len().min(LOOKED_AT)];
    // The header of a form is text; its content is not.
    let head = head.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(head, |end| &head[..end]);
    // Samples may begin with any byte, also a brace or a bracket. Text has no control characters.
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    if head.is_empty() || head.iter().any(is_control) {
        return None;
    }
    let sound = match std::str::from_utf8(head) {
        Ok(_) => true,
        // The examined bytes may end inside a character.
        Err(error) => error.error_len().is_none(),
    };
    let text = String::from_utf8_lossy(head);
    sound.then(|| text.trim_start_matches('\u{feff}').trim_start().to_owned())
}

/// Pictures, archives and documents with signatures long enough to override a declared format.
fn unmistakable(head: &[u8]) -> Option<Named> {
    const BEGINNINGS: &[(&[u8], &str)] = &[
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"GIF87a", "a GIF image"),
        (b"GIF89a", "a GIF image"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"%PDF-", "a PDF document"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07", "a RAR archive"),
    ];
    /// Length in bytes from which a signature is no coincidence.
    const LONG: usize = 6;
    let kind = || match head {
        [0xff, 0xd8, 0xff, _, _, _, b'J', b'F', b'I', b'F', ..]
        | [0xff, 0xd8, 0xff, _, _, _, b'E', b'x', b'i', b'f', ..] => Some("a JPEG image"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("a WebP image"),
        // No reserved flags, a defined compression level, and a defined operating system.
        [0x1f, 0x8b, 8, 0..0x20, _, _, _, _, 0 | 2 | 4, 0..=13 | 0xff, ..] => Some("gzip-compressed data"),
        _ => None,
    };
    let beginning = || BEGINNINGS.iter().find(|(beginning, _)| head.starts_with(beginning));
    if let Some(name) = kind().or_else(|| beginning().map(|(_, name)| *name)) {
        return Some(Named::NotAudio(format!("this is {name}, not audio")));
    }
    foreign_audio(head, LONG).map(not_read)
}

/// Name of an audio format that infer does not know, by a signature of at least `least` bytes.
fn foreign_audio(head: &[u8], least: usize) -> Option<&'static str> {
    let is_found = |at: usize, sign: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(sign));
    let (.., name) = AUDIO.iter().find(|(at, sign, _)| sign.len() >= least && is_found(*at, sign))?;
    Some(name)
}

fn not_read(name: &str) -> Named {
    Named::NotRead(format!("{name} is not supported; {INSTEAD}"))
}

/// Classification of bytes by their signature.
pub(crate) fn binary_kind(head: &[u8]) -> Option<Named> {
    if let Some(named) = by_structure(head) {
        return Some(named);
    }
    if let Some(name) = foreign_audio(head, 0) {
        return Some(not_read(name));
    }
    if is_transport_stream(head) {
        return Some(not_read("an MPEG transport stream"));
    }
    let kind = infer::get(head)?;
    let mime_type = kind.mime_type();
    if let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == mime_type) {
        return Some(Named::NotAudio(format!("this is {name}, not audio")));
    }
    let audible = matches!(kind.matcher_type(), infer::MatcherType::Audio | infer::MatcherType::Video);
    match mime_type {
        // Its signature of four bytes may also begin quiet samples.
        "image/vnd.microsoft.icon" => None,
        _ if READ_TYPES.contains(&mime_type) => Some(Named::Broken(format!(
            "this begins like {mime_type}, but the rest does not follow: it is damaged or cut off"
        ))),
        _ if audible => {
            let known = FOREIGN.iter().find(|(known, _)| *known == mime_type);
            Some(not_read(known.map_or(mime_type, |(_, name)| name)))
        }
        _ => Some(Named::NotAudio(format!("this looks like {mime_type}, not audio"))),
    }
}

/// Classification of bytes by several consecutive structures.
fn by_structure(head: &[u8]) -> Option<Named> {
    if continues_webm(head) {
        return Some(without_beginning("WebM"));
    }
    if continues_mp4(head) {
        return Some(without_beginning("MP4"));
    }
    let not_read = if is_latm(head) {
        format!("AAC in LATM (LOAS) is not supported; {INSTEAD}")
    } else if is_free_format(head) {
        "MP3 in free format (its frames state no bit rate) is not supported; encode it at a usual bit rate"
            .to_owned()
    } else {
        return None;
    };
    Some(Named::NotRead(not_read))
}

fn without_beginning(container: &str) -> Named {
    Named::Broken(format!(
        "this is a later piece of a recording ({container}), without its beginning: what the recorder wrote first says how to \
         read the rest. Join all pieces in their order, from the first one on, and send them as one file"
    ))
}

/// Whether the bytes are elements of a WebM or Matroska segment, such as clusters or their parts. Browsers record in
/// such pieces.
fn continues_webm(head: &[u8]) -> bool {
    const CLUSTER: u64 = 0x1f43_b675;
    const TIMESTAMP: u64 = 0xe7;
    const SIMPLE_BLOCK: u64 = 0xa3;
    const BLOCK_GROUP: u64 = 0xa0;
    /// Number of consecutive elements that is no coincidence.
    const SURE: usize = 4;
    let element = |bytes| -> Option<(u64, u64, &[u8])> {
        let (id, rest) = vint(bytes, false)?;
        let (size, body) = vint(rest, true)?;
        Some((id, size, body))
    };
    // The remaining bytes after a part of a cluster.
    let part = |bytes| -> Option<&[u8]> {
        let (id, size, body) = element(bytes)?;
        let (content, rest) = body.split_at_checked(usize::try_from(size).ok()?)?;
        let fits = match (id, content.first()?) {
            (TIMESTAMP, _) => size <= 8,
            // Track numbers as recorders assign them.
            (SIMPLE_BLOCK, 0x81..=0x84) => size > 4,
            (BLOCK_GROUP, 0xa1) => true,
            _ => false,
        };
        fits.then_some(rest)
    };
    if let Some((CLUSTER, _, content)) = element(head) {
        return part(content).is_some();
    }
    let mut rest = head;
    for found in 0..SURE {
        match part(rest) {
            Some(after) => rest = after,
            None => return found > 1 && rest.is_empty(),
        }
    }
    true
}

/// Whether the bytes are boxes of fragments, as in streams and browser recordings.
fn continues_mp4(head: &[u8]) -> bool {
    let Some((&[s0, s1, s2, s3, ref kind @ ..], rest)) = head.split_first_chunk::<8>() else { return false };
    let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    match kind {
        b"styp" | b"sidx" | b"moof" => {
            let inside = rest.get(4..8).is_some_and(|kind| kind == b"mfhd");
            let behind = head.get(size.saturating_add(4)..size.saturating_add(8));
            inside
                || behind.is_some_and(|kind| [b"moof", b"sidx", b"mdat"].iter().any(|known| kind == *known))
        }
        _ => false,
    }
}

/// Whether three LOAS frames follow each other: an 11-bit sync word and a 13-bit length each.
fn is_latm(head: &[u8]) -> bool {
    let mut rest = head;
    (0..3).all(|_| {
        let Some(&[0x56, b1, b2]) = rest.first_chunk::<3>().filter(|header| header[1] & 0xe0 == 0xe0) else {
            return false;
        };
        let length = usize::from(b1 & 0x1f) << 8 | usize::from(b2);
        rest = rest.get(length + 3..).unwrap_or_default();
        length > 0
    })
}

const INSTEAD: &str = "send MP3, M4A, WAV, Ogg or WebM";

/// Audio formats that infer does not know: offset, signature and name.
const AUDIO: &[(usize, &[u8], &str)] = &[
    (0, b".snd", "AU (Sun audio)"),
    (0, b"RIFX", "WAV with its bytes in reverse order (RIFX)"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64 (W64)"),
    (0, b"#!SILK", "SILK"),
    // SILK as WeChat and QQ write it.
    (1, b"#!SILK", "SILK"),
    (0, b"#!iLBC", "iLBC"),
    (0, b"#!EVRC", "EVRC"),
    (0, b"wvpk", "WavPack"),
    (0, b"TTA1", "TTA (True Audio)"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"ajkg", "Shorten"),
    (0, b"ADIF", "AAC with one header for all (ADIF)"),
    (0, b"Creative Voice File", "VOC (Creative Voice)"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media (WMA, WMV)"),
    (0, b".RMF", "RealMedia"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
    (0, b"\x0b\x77", "AC-3"),
    (8, b"QLCM", "QCELP"),
];

fn is_transport_stream(head: &[u8]) -> bool {
    const PACKET: usize = 188;
    (0..3).all(|n| head.get(n * PACKET) == Some(&0x47))
}

/// Media types of infer that are not audio, with their common names.
const NAMES: &[(&str, &str)] = &[
    ("image/png", "a PNG image"),
    ("image/jpeg", "a JPEG image"),
    ("image/gif", "a GIF image"),
    ("image/webp", "a WebP image"),
    ("image/bmp", "a BMP image"),
    ("image/tiff", "a TIFF image"),
    ("image/heif", "a HEIF image"),
    ("image/avif", "an AVIF image"),
    ("image/jxl", "a JPEG XL image"),
    ("application/zip", "a ZIP archive"),
    ("application/x-tar", "a TAR archive"),
    ("application/gzip", "gzip-compressed data"),
    ("application/x-bzip2", "bzip2-compressed data"),
    ("application/x-xz", "XZ-compressed data"),
    ("application/zstd", "Zstandard-compressed data"),
    ("application/x-lz4", "LZ4-compressed data"),
    ("application/x-7z-compressed", "a 7z archive"),
    ("application/vnd.rar", "a RAR archive"),
    ("application/pdf", "a PDF document"),
    ("application/x-executable", "a program"),
    ("application/x-mach-binary", "a program"),
    ("application/vnd.microsoft.portable-executable", "a program"),
    ("application/wasm", "a program"),
    ("application/vnd.sqlite3", "an SQLite database"),
    ("text/html", "a web page (HTML)"),
];

/// Media types of unsupported audio and video of infer, with their common names.
const FOREIGN: &[(&str, &str)] = &[
    ("audio/midi", "MIDI"),
    ("audio/x-dsf", "DSF"),
    ("audio/x-ape", "Monkey's Audio (APE)"),
    ("video/x-msvideo", "AVI"),
    ("video/x-ms-wmv", "Windows Media (WMA, WMV)"),
    ("video/mpeg", "MPEG video"),
    ("video/x-flv", "Flash video"),
];

/// Media types of supported formats of infer. If infer recognises one and our readers do not, the file is broken.
const READ_TYPES: &[&str] = &[
    "audio/mpeg",
    "audio/m4a",
    "audio/aac",
    "audio/ogg",
    "audio/opus",
    "audio/x-flac",
    "audio/x-wav",
    "audio/amr",
    "audio/x-aiff",
    "video/mp4",
    "video/webm",
    "video/x-matroska",
    "video/quicktime",
];
