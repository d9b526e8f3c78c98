//! Names for bytes that are no audio that we read, so that a caller sees what went wrong.

/// What some bytes are, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// No audio at all.
    NotAudio(String),
    /// Audio, or what may hold some, in a form that is not read here.
    NotRead(String),
    /// The beginning of something that is read, but it does not go on like that.
    Broken(String),
}

/// Text that people send in place of audio, by how it begins. Sure enough to outrank a declared format.
pub(super) fn text_kind(head: &[u8]) -> Option<&'static str> {
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
        Some("this looks like JSON, not audio; is it an error message of the service it came from?")
    } else if begins(&["data:"]) {
        Some("this is a data URI as text, not audio; give it as `audio.data` in a JSON body, or decode it")
    } else if begins(&["--"]) && text.contains("content-disposition:") {
        Some("this is a multipart form, not audio; send the file in it alone")
    } else {
        None
    }
}

/// Any other text. Samples of eight bits can look like it, so it counts only where no format was declared.
pub(super) fn other_text(head: &[u8]) -> Option<&'static str> {
    const SHORTEST_BASE64: usize = 64;
    let text = plain_text(head)?;
    let encoded = |c: char| c.is_ascii_alphanumeric() || "+/-_=\r\n".contains(c);
    if text.len() >= SHORTEST_BASE64 && text.chars().all(encoded) {
        Some("this looks like base64 text, not audio; give it as `audio.data` in a JSON body, or decode it")
    } else {
        Some("this is text, not audio; is it an error message of the service it came from?")
    }
}

/// The beginning, if nothing in it speaks against text.
fn plain_text(head: &[u8]) -> Option<String> {
    let head = &head[..head.len().min(512)];
    // A header of a form is text, what follows in it is not.
    let head = head.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(head, |end| &head[..end]);
    // Samples may begin with any byte, a brace or a bracket too; text has no control characters.
    if head.is_empty() || head.iter().any(|&byte| byte < 0x20 && !byte.is_ascii_whitespace()) {
        return None;
    }
    let sound = match std::str::from_utf8(head) {
        Ok(_) => true,
        // The window may end inside a character.
        Err(error) => error.error_len().is_none(),
    };
    let text = String::from_utf8_lossy(head);
    sound.then(|| text.trim_start_matches('\u{feff}').trim_start().to_owned())
}

/// Pictures, archives and documents that begin with enough bytes to outrank a declared format.
pub(super) fn unmistakable(head: &[u8]) -> Option<String> {
    const BEGINNINGS: &[(&[u8], &str)] = &[
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"GIF87a", "a GIF image"),
        (b"GIF89a", "a GIF image"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"%PDF-", "a PDF document"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07", "a RAR archive"),
    ];
    let (_, name) = BEGINNINGS.iter().find(|(beginning, _)| head.starts_with(beginning))?;
    Some(format!("this is {name}, not audio"))
}

/// What the bytes are by their beginning.
pub(super) fn binary_kind(head: &[u8]) -> Option<Named> {
    let not_read = |name: &str| Named::NotRead(format!("{name} is not supported; {INSTEAD}"));
    if let Some((.., name)) =
        AUDIO.iter().find(|(at, sign, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(sign)))
    {
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
        // Four bytes that quiet samples begin with, too.
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

const INSTEAD: &str = "send MP3, M4A, WAV, Ogg or WebM";

/// Audio that infer does not know: where the sign stands, the sign, and the name.
const AUDIO: &[(usize, &[u8], &str)] = &[
    (0, b".snd", "AU (Sun audio)"),
    (0, b"RIFX", "WAV with its bytes in reverse order (RIFX)"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64 (W64)"),
    (0, b"#!SILK", "SILK"),
    // As WeChat and QQ write it.
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

/// What infer calls things that are no audio, and what people call them.
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

/// What infer calls audio and video that is not read here, and what people call it.
const FOREIGN: &[(&str, &str)] = &[
    ("audio/midi", "MIDI"),
    ("audio/x-dsf", "DSF"),
    ("audio/x-ape", "Monkey's Audio (APE)"),
    ("video/x-msvideo", "AVI"),
    ("video/x-ms-wmv", "Windows Media (WMA, WMV)"),
    ("video/mpeg", "MPEG video"),
    ("video/x-flv", "Flash video"),
];

/// What infer calls the formats that we read: if it sees one and we do not, the file is broken.
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
