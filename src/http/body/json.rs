//! Reads JSON bodies. `audio.data` is decoded in one pass, into a file if it is large; only the small rest is kept in
//! memory.

use std::io::{self, BufReader, Cursor, Read, Write};

use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    read::DecoderReader,
};
use serde_json::{Map, Value};
use struson::{
    reader::{JsonReader, JsonStreamReader, ReaderError, ReaderSettings, TransferError, ValueType},
    writer::{JsonStreamWriter, JsonWriter},
};

use super::{
    ENTRY, MAX_FIELDS, Parts, TREE,
    fields::too_many,
    incoming::{Incoming, Spooled, too_large},
    tokens::{Tokens, TooLong, without_mark},
};
use crate::{
    http::memory::{Full, Holding},
    media::{MediaStore, Spool, SpooledAudio},
    model::{
        code::{Code, Stage},
        problem::Problem,
    },
};
use voicegate_audio::HexDigits;

/// The longest head of a data URI, such as `data:audio/ogg;codecs=opus;base64,`, that is accepted.
const LONGEST_HEAD: usize = 256;

/// Reads a JSON body. Memory for it is reserved from `held`.
pub async fn read(
    body: Incoming,
    media: &MediaStore,
    max_bytes: u64,
    mut held: Holding,
) -> Result<Parts, Problem> {
    let spooled = body.spool(media, &mut held).await?;
    let media = media.clone();
    let split = move || {
        let parts = match spooled {
            Spooled::Memory(bytes) => split(Cursor::new(bytes), &media, max_bytes, held.another()),
            Spooled::File(file) => split(BufReader::new(file.reopen()?), &media, max_bytes, held.another()),
        };
        drop(held); // the body itself is gone, and its fields have a reservation of their own
        parts
    };
    tokio::task::spawn_blocking(split).await.unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

/// Splits a JSON object into audio and fields. Blocks.
pub(super) fn split(
    json: impl Read,
    media: &MediaStore,
    max_bytes: u64,
    held: Holding,
) -> Result<Parts, Problem> {
    // Fields are limited by their bytes. The numbers in metadata may have any size.
    let settings = ReaderSettings { restrict_number_values: false, ..ReaderSettings::default() };
    let mut reader = JsonStreamReader::new_custom(Tokens::new(without_mark(json)?), settings);
    if reader.peek().map_err(unreadable)? != ValueType::Object {
        return Err(Problem::invalid("body", "expected a JSON object"));
    }
    let mut parts = Parts { held, ..Parts::default() };
    let mut room = MAX_FIELDS;
    reader.begin_object().map_err(unreadable)?;
    while reader.has_next().map_err(unreadable)? {
        let name = name(&mut reader, &mut room, &mut parts.held)?;
        if name == "audio" {
            if reader.peek().map_err(unreadable)? != ValueType::Object {
                let detail =
                    "expected an object such as {\"url\": \"https://...\"} or {\"data\": \"BASE64\"}";
                return Err(Problem::invalid("audio", detail));
            }
            if parts.audio.is_some() {
                return Err(twice("audio"));
            }
            let (audio, file) = split_audio(&mut reader, &mut room, &mut parts.held, media, max_bytes)?;
            (parts.audio, parts.file) = (Some(audio), file);
        } else {
            let (value, text) = small(&mut reader, &mut room, &mut parts.held, &name)?;
            if name == "metadata" {
                parts.metadata = Some(text);
            }
            if parts.fields.insert(name.clone(), value).is_some() {
                return Err(twice(&name));
            }
        }
    }
    reader.end_object().map_err(unreadable)?;
    reader.consume_trailing_whitespace().map_err(unreadable)?;
    Ok(parts)
}

fn split_audio<R: Read>(
    reader: &mut JsonStreamReader<R>,
    room: &mut usize,
    held: &mut Holding,
    media: &MediaStore,
    max_bytes: u64,
) -> Result<(Map<String, Value>, Option<SpooledAudio>), Problem> {
    let mut audio = Map::new();
    let mut file = None;
    reader.begin_object().map_err(unreadable)?;
    while reader.has_next().map_err(unreadable)? {
        let name = name(reader, room, held)?;
        let value = if name == "data" && reader.peek().map_err(unreadable)? == ValueType::String {
            let text = reader.next_string_reader().map_err(unreadable)?;
            let (mime_type, received) = decode(text, media, max_bytes)?;
            if let Some(mime_type) = mime_type {
                audio.entry("mime_type").or_insert(Value::String(mime_type));
            }
            file = Some(received);
            Value::String(String::new())
        } else {
            small(reader, room, held, &format!("audio.{name}"))?.0
        };
        if name == "mime_type" && value.is_null() {
            continue; // the field is not set, whatever a data URI says
        }
        // The field takes precedence over the type in a data URI.
        if audio.insert(name.clone(), value).is_some() && name != "mime_type" {
            return Err(twice(&format!("audio.{name}")));
        }
    }
    reader.end_object().map_err(unreadable)?;
    Ok((audio, file))
}

pub(super) fn name<R: Read>(
    reader: &mut JsonStreamReader<R>,
    room: &mut usize,
    held: &mut Holding,
) -> Result<String, Problem> {
    let name = reader.next_name_owned().map_err(unreadable)?;
    held.grow(name.len() + ENTRY)?;
    *room = room.checked_sub(name.len()).ok_or_else(|| too_many("body"))?;
    Ok(name)
}

/// A value that is kept in memory, and its text without white space.
pub(super) fn small<R: Read>(
    reader: &mut JsonStreamReader<R>,
    room: &mut usize,
    held: &mut Holding,
    field: &str,
) -> Result<(Value, String), Problem> {
    let is_tree = matches!(reader.peek().map_err(unreadable)?, ValueType::Array | ValueType::Object);
    let mut copied = Bounded { bytes: Vec::new(), room: *room, held, full: None };
    let mut writer = JsonStreamWriter::new(&mut copied);
    let transferred = reader.transfer_to(&mut writer).map_err(|error| match error {
        TransferError::ReaderError(ReaderError::MaxNestingDepthExceeded { .. }) => {
            Some(Problem::invalid(field, "this is nested too deeply"))
        }
        TransferError::ReaderError(error) => Some(unreadable(error)),
        TransferError::WriterError(_) => None,
    });
    let written = transferred.and_then(|()| writer.finish_document().map(drop).map_err(|_| None));
    if let Some(full) = copied.full {
        return Err(full.into());
    }
    written.map_err(|problem| problem.unwrap_or_else(|| too_many(field)))?;
    *room = copied.room;
    let text = String::from_utf8(copied.bytes).unwrap_or_default(); // the reader has checked that
    held.grow(text.len() * if is_tree { TREE } else { 1 })?;
    // The syntax was checked before.
    let value = serde_json::from_str(&text).map_err(|_| {
        Problem::invalid(field, "a number is larger than JSON readers understand: at most 1.8e308")
    })?;
    Ok((value, text))
}

struct Bounded<'a> {
    bytes: Vec<u8>,
    room: usize,
    held: &'a mut Holding,
    /// Set if there was no memory left.
    full: Option<Full>,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        if let Err(full) = self.held.grow(bytes.len()) {
            self.full = Some(full);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn twice(field: &str) -> Problem {
    Problem::invalid(field, "the field is given twice")
}

pub(super) fn unreadable(error: ReaderError) -> Problem {
    match error {
        ReaderError::SyntaxError(error) => {
            let place = error.location.line_pos.map(|place| (place.line + 1, place.column + 1));
            let kind = in_words(&error.kind.to_string());
            if place == Some((1, 1)) && kind == "incomplete document" {
                return Problem::invalid("body", "the body is empty; expected a JSON object");
            }
            let place =
                place.map_or_else(String::new, |(line, column)| format!(" at line {line}, column {column}"));
            Problem::invalid("body", format!("this is not valid JSON{place}: {kind}"))
        }
        ReaderError::IoError { error, .. } if error.get_ref().is_some_and(|inner| inner.is::<TooLong>()) => {
            Problem::invalid("body", TooLong.to_string())
        }
        ReaderError::IoError { error, .. } if error.kind() != io::ErrorKind::InvalidData => error.into(),
        _ => Problem::invalid("body", "this is not valid JSON, or nested too deeply"),
    }
}

/// `UnknownEscapeSequence`, as the reader names a mistake, in words.
fn in_words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// Decodes base64 or a data URI. Also returns the type that the URI names.
pub(super) fn decode(
    mut text: impl Read,
    media: &MediaStore,
    max_bytes: u64,
) -> Result<(Option<String>, SpooledAudio), Problem> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let wrong = || Problem::invalid("audio.data", "this is neither base64 nor a data URI with base64 in it");
    let mut head = Vec::new();
    text.by_ref().take(LONGEST_HEAD as u64).read_to_end(&mut head).map_err(|_| wrong())?;
    let (mime_type, start) = match data_uri(&head) {
        Some((mime_type, length)) => (Some(mime_type), length),
        None if head.trim_ascii_start().get(..5).is_some_and(|lead| lead.eq_ignore_ascii_case(b"data:")) => {
            return Err(wrong());
        }
        None => (None, 0),
    };
    let text = Cursor::new(head[start..].trim_ascii_start()).chain(text);
    let mut text = Clean { text, ended: false, digits: HexDigits::default() };
    let engine = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    let filled = Spool::new(media, max_bytes, None)?.fill(DecoderReader::new(&mut text, &engine));
    match filled {
        Ok(Some(_)) if text.digits.is_hexadecimal() => Err(hexadecimal()),
        Ok(Some(received)) => Ok((mime_type.filter(|mime_type| !mime_type.is_empty()), received)),
        Ok(None) => Err(too_large(max_bytes)),
        // Base64 has four characters for three bytes, hexadecimal any even number.
        Err(_) if text.digits.is_hexadecimal() => Err(hexadecimal()),
        // Errors of the decoder and of the text are mistakes of the caller; any other comes from the disk.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other) => {
            Err(wrong())
        }
        Err(error) => Err(error.into()),
    }
}

/// Hexadecimal digits are also base64 digits, but decode to noise.
fn hexadecimal() -> Problem {
    let detail = "this is hexadecimal, and `audio.data` is base64: decode it, and encode the bytes that come of it as base64";
    Problem::new(Code::AudioUnreadable, detail).field("audio.data").stage(Stage::Probe)
}

/// The type that a data URI names, and the number of bytes before its base64.
fn data_uri(head: &[u8]) -> Option<(String, usize)> {
    let blank = head.len() - head.trim_ascii_start().len();
    let comma = head.iter().position(|byte| *byte == b',')?;
    let lead = std::str::from_utf8(&head[blank..comma]).ok()?;
    let (scheme, rest) = lead.split_at_checked(5)?;
    let mime_type = rest.get(..rest.len().checked_sub(7)?)?;
    let is_base64 = rest[mime_type.len()..].eq_ignore_ascii_case(";base64");
    (scheme.eq_ignore_ascii_case("data:") && is_base64).then(|| (mime_type.to_owned(), comma + 1))
}

/// Reads base64 as people send it: with either alphabet, wrapped lines, and white space around it. A space inside is an
/// error, because it may have been a plus.
struct Clean<R> {
    text: R,
    ended: bool,
    /// The set of all characters so far, which distinguishes hexadecimal from base64.
    digits: HexDigits,
}

impl<R: Read> Read for Clean<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.text.read(buffer)?;
            if count == 0 {
                return Ok(0);
            }
            let mut kept = 0;
            for index in 0..count {
                let byte = match buffer[index] {
                    b'\r' | b'\n' => continue,
                    b' ' | b'\t' => {
                        self.ended = true;
                        continue;
                    }
                    _ if self.ended => return Err(io::ErrorKind::InvalidData.into()),
                    b'-' => b'+',
                    b'_' => b'/',
                    other => other,
                };
                buffer[kept] = byte;
                kept += 1;
            }
            if kept > 0 {
                self.digits.take(&buffer[..kept]);
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use serde_json::json;
    use sha2::{Digest, Sha256};

    use super::*;

    fn taken_apart(data: &str) -> Result<Parts, Problem> {
        let folder = tempfile::TempDir::new().expect("a scratch folder");
        let media = MediaStore::open(folder.path()).expect("a media folder");
        let body = json!({ "audio": { "data": data, "format": "openai-pcm" } }).to_string();
        split(Cursor::new(body), &media, 1 << 20, Holding::default())
    }

    /// Hexadecimal decodes as base64, to noise of one and a half times the length.
    #[test]
    fn hexadecimal_in_place_of_base64_is_called_so() {
        let samples: Vec<u8> = (0..30_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let text = hex::encode(&samples);
        let wrapped: Vec<_> = text.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
        for data in [
            text.clone(),
            text.to_uppercase(),
            wrapped.join("\r\n"),
            format!("data:audio/pcm;base64,{text}"),
            format!("0x{text}"),
            hex::encode(&samples[..24]),
            hex::encode(&samples[..29_999]),
            format!("0x{}", hex::encode(&samples[..29_999])),
        ] {
            let problem = taken_apart(&data).err().expect("a problem");
            assert_eq!((problem.code.as_str(), problem.status), ("audio_unreadable", 422));
            assert_eq!(problem.field.as_deref(), Some("audio.data"));
            assert!(problem.detail.contains("hexadecimal"), "{}", problem.detail);
        }
        for samples in [samples.as_slice(), &[0; 3_000], &[0, 1].repeat(3_000), &[0x7f; 3_000]] {
            let parts = taken_apart(&BASE64_STANDARD.encode(samples)).expect("base64");
            let sha256 = hex::encode(Sha256::digest(samples));
            assert_eq!(parts.file.expect("the audio").sha256, sha256);
        }
    }
}
