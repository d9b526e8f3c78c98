//! Bodies of other gateways' APIs. They have the audio as text, which is base64, a data URI or an address, or as a file
//! of a form. As in our own bodies, audio is never whole in memory if it is large. Unknown fields are no mistakes.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Cursor, Read},
};

use axum::{extract::Request, http::header::TRANSFER_ENCODING};
use serde_json::{Map, Value};
use struson::reader::{JsonReader, JsonStreamReader, ReaderSettings, ValueType};

use super::{
    ENTRY, MAX_FIELDS, TREE, bounded, content_type,
    fields::too_many,
    incoming,
    incoming::Spooled,
    json,
    json::unreadable,
    multipart, stated_length, tokens,
    tokens::{MAX_TOKEN, Tokens, without_mark},
};
use crate::{
    http::{App, memory::Holding},
    media::{AudioBytes, AudioInput, MediaStore},
    model::{
        code::{Code, Stage},
        problem::Problem,
    },
};

/// The places of the audio in a body.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Paths of members of a JSON object whose text is audio, or its address.
    pub members: &'static [&'static [&'static str]],
    /// Names of fields of a form whose text is audio, or its address.
    pub texts: &'static [&'static str],
    /// Names of parts of a form that are files with the audio.
    pub files: &'static [&'static str],
}

/// A body that was split into fields and audio.
#[derive(Debug, Default)]
pub struct Foreign {
    pub fields: Map<String, Value>,
    pub audio: Option<AudioInput>,
    /// The media type that a data URI or a part of a form states.
    pub mime_type: Option<String>,
    /// The file name that a part of a form states.
    pub filename: Option<String>,
    /// The memory reserved for the fields, to be kept for as long as they exist.
    pub held: Holding,
}

/// Reads a JSON object or a form.
///
/// # Errors
/// Fails with the field that is wrong; nothing is left on disk.
pub async fn read(app: &App, tenant: &str, request: Request, shape: Shape) -> Result<Foreign, Problem> {
    let (parts, body) = request.into_parts();
    let App { gateway, memory, .. } = app;
    let live = gateway.live();
    let media = &gateway.media;
    let content_type = content_type(&parts.headers)?;
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let max_bytes = live.config.audio.max_bytes.0;
    let held = memory.for_request(tenant);
    let stated = stated_length(&parts.headers);
    if !parts.headers.contains_key(TRANSFER_ENCODING) && stated.unwrap_or_default() == 0 {
        return Ok(Foreign::new(&held));
    }
    match essence.as_str() {
        "multipart/form-data" => {
            let limit = bounded(&parts.headers, live.config.server.max_body.0)?;
            let body = incoming(&live, body, limit, stated);
            form(body, content_type, shape, media, max_bytes, held).await
        }
        // Some clients leave the type out.
        "" | "application/json" | "text/plain" | "application/x-www-form-urlencoded" => {
            let limit = bounded(&parts.headers, live.config.server.max_json_body.0)?;
            let body = incoming(&live, body, limit, stated);
            let is_form = essence == "application/x-www-form-urlencoded";
            text(body, is_form, shape, media, max_bytes, held).await
        }
        _ => {
            let detail = "send JSON with Content-Type: application/json, or a form";
            Err(Problem::new(Code::UnsupportedMediaType, detail).stage(Stage::Request).field("Content-Type"))
        }
    }
}

/// The largest body that is looked into before it is known whose it is.
const UNKNOWN: u64 = 64 * 1024;

/// Reads the fields of a small JSON body and leaves the request as it was. For APIs whose key is in the body.
///
/// # Errors
/// The body is too large, is no JSON object or does not arrive.
pub async fn look_into(app: &App, request: Request) -> Result<(Request, Map<String, Value>), Problem> {
    let (parts, body) = request.into_parts();
    let limit = bounded(&parts.headers, UNKNOWN)?;
    // No tenant has an empty name.
    let mut held = app.memory.for_request("");
    let mut body = incoming(&app.gateway.live(), body, limit, stated_length(&parts.headers));
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        held.grow(piece.len() * TREE)?;
        bytes.extend_from_slice(&piece);
    }
    let fields = match std::str::from_utf8(&bytes) {
        Ok(text) if tokens::check(text).is_ok() => serde_json::from_str(text.trim_start_matches('\u{feff}')),
        _ => Ok(Map::new()),
    };
    // A body that cannot be read has no key; what is wrong with it is said to whoever has one.
    let fields = fields.unwrap_or_default();
    Ok((Request::from_parts(parts, bytes.into()), fields))
}

/// Reads a body that is one text.
async fn text(
    body: incoming::Incoming,
    is_form: bool,
    shape: Shape,
    media: &MediaStore,
    max_bytes: u64,
    mut held: Holding,
) -> Result<Foreign, Problem> {
    let spooled = body.spool(media, &mut held).await?;
    let taking =
        Taking { shape, media: media.clone(), max_bytes, room: MAX_FIELDS, foreign: Foreign::new(&held) };
    let split = move || {
        let foreign = match spooled {
            Spooled::Memory(bytes) => taking.all_of(Cursor::new(bytes), is_form),
            Spooled::File(file) => taking.all_of(BufReader::new(file.reopen()?), is_form),
        };
        drop(held); // the body itself is gone, and its fields have a reservation of their own
        foreign
    };
    tokio::task::spawn_blocking(split).await.unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

/// Reads a form with parts.
async fn form(
    body: incoming::Incoming,
    content_type: &str,
    shape: Shape,
    media: &MediaStore,
    max_bytes: u64,
    held: Holding,
) -> Result<Foreign, Problem> {
    let mut taking =
        Taking { shape, media: media.clone(), max_bytes, room: MAX_FIELDS, foreign: Foreign::new(&held) };
    let (mut parts, progress) = multipart::open(body, content_type, held.another())?;
    while let Some(part) = parts.next_field().await.map_err(multipart::unreadable)? {
        progress.made();
        let name = multipart::name(&part)?;
        if shape.files.contains(&name.as_str()) {
            let filename = part.file_name().map(str::to_owned);
            let mime_type = part.content_type().map(ToString::to_string);
            let received = multipart::audio(part, &progress, media, max_bytes).await?;
            let foreign = &mut taking.foreign;
            foreign.filename = filename.or(foreign.filename.take());
            foreign.mime_type = mime_type.or(foreign.mime_type.take());
            foreign.audio = Some(AudioInput::Bytes(received));
        } else if shape.texts.contains(&name.as_str()) {
            // Base64 has four characters for three bytes, and line breaks.
            let most = max_bytes.saturating_mul(3) / 2;
            let text = multipart::audio(part, &progress, media, most).await?;
            let take = move || -> Result<Taking, Problem> {
                let mut taking = taking;
                match text.bytes {
                    AudioBytes::Memory(bytes, _) => taking.audio_in(&mut Cursor::new(bytes), &name)?,
                    AudioBytes::File(file) => taking.audio_in(&mut BufReader::new(file.reopen()?), &name)?,
                }
                Ok(taking)
            };
            let taken = tokio::task::spawn_blocking(take).await;
            taking = taken.unwrap_or_else(|error| Err(io::Error::other(error).into()))?;
        } else {
            let text = multipart::text(part, &name, &progress, held.another()).await?;
            let text = String::from_utf8(text).map_err(|_| Problem::invalid(&*name, "expected text"))?;
            taking.field(name, text)?;
        }
    }
    Ok(taking.foreign)
}

impl Foreign {
    /// An empty body. Memory for its fields is reserved beside `held`.
    fn new(held: &Holding) -> Self {
        Self { held: held.another(), ..Self::default() }
    }
}

/// A body that is being split.
struct Taking {
    shape: Shape,
    media: MediaStore,
    max_bytes: u64,
    /// Bytes that the remaining fields may have.
    room: usize,
    foreign: Foreign,
}

impl Taking {
    /// Splits a JSON object, or a form in one text. Blocks.
    fn all_of(mut self, body: impl BufRead, is_form: bool) -> Result<Foreign, Problem> {
        if is_form {
            self.pairs(body)?;
        } else {
            self.json(body)?;
        }
        Ok(self.foreign)
    }

    fn json(&mut self, json: impl Read) -> Result<(), Problem> {
        let settings = ReaderSettings { restrict_number_values: false, ..ReaderSettings::default() };
        let mut reader = JsonStreamReader::new_custom(Tokens::new(without_mark(json)?), settings);
        if reader.peek().map_err(unreadable)? != ValueType::Object {
            return Err(Problem::invalid("body", "expected a JSON object"));
        }
        self.foreign.fields = self.object(&mut reader, &mut Vec::new())?;
        reader.consume_trailing_whitespace().map_err(unreadable)
    }

    /// An object at a path that leads to audio, or to nothing of interest.
    fn object<R: Read>(
        &mut self,
        reader: &mut JsonStreamReader<R>,
        path: &mut Vec<String>,
    ) -> Result<Map<String, Value>, Problem> {
        let mut fields = Map::new();
        reader.begin_object().map_err(unreadable)?;
        while reader.has_next().map_err(unreadable)? {
            let name = json::name(reader, &mut self.room, &mut self.foreign.held)?;
            path.push(name.clone());
            let leads = |member: &&[&str]| {
                member.len() >= path.len() && member.iter().zip(path.iter()).all(|(a, b)| a == b)
            };
            let here = self.shape.members.iter().copied().find(leads).map(<[_]>::len);
            let kind = reader.peek().map_err(unreadable)?;
            let value = match here {
                Some(length) if length == path.len() && kind == ValueType::String => {
                    let mut text = reader.next_string_reader().map_err(unreadable)?;
                    self.audio_in(&mut text, &path.join("."))?;
                    None
                }
                Some(length) if length > path.len() && kind == ValueType::Object => {
                    Some(Value::Object(self.object(reader, path)?))
                }
                _ => Some(json::small(reader, &mut self.room, &mut self.foreign.held, &path.join("."))?.0),
            };
            path.pop();
            // The last of several members with one name counts, as for other readers of JSON.
            fields.extend(value.map(|value| (name, value)));
        }
        reader.end_object().map_err(unreadable)?;
        Ok(fields)
    }

    /// A form of pairs such as `name=value&name=value`.
    fn pairs(&mut self, mut body: impl BufRead) -> Result<(), Problem> {
        loop {
            let mut name = Vec::new();
            let mut start = Escaped::new(&mut body, b'=');
            start.by_ref().take(MAX_TOKEN as u64 + 1).read_to_end(&mut name)?;
            let delimiter = start.delimiter;
            if name.len() > MAX_TOKEN {
                return Err(Problem::invalid("body", "the name of a field has more than 1 KiB"));
            }
            let name = String::from_utf8(name).map_err(|_| Problem::invalid("body", "expected UTF-8"))?;
            match delimiter {
                Some(b'=') => {}
                Some(_) => continue, // a name without a value says nothing
                None => return Ok(()),
            }
            let mut value = Escaped::new(&mut body, b'&');
            if self.shape.texts.contains(&name.as_str()) {
                self.audio_in(&mut value, &name)?;
                io::copy(&mut value, &mut io::sink())?;
            } else {
                let mut text = Vec::new();
                value.by_ref().take(self.room as u64 + 1).read_to_end(&mut text)?;
                let text = String::from_utf8(text).map_err(|_| Problem::invalid(&*name, "expected text"))?;
                self.field(name, text)?;
            }
        }
    }

    /// A field of a form that is not the audio.
    fn field(&mut self, name: String, text: String) -> Result<(), Problem> {
        let size = name.len() + text.len();
        self.room = self.room.checked_sub(size).ok_or_else(|| too_many(&name))?;
        self.foreign.held.grow(ENTRY + size)?;
        self.foreign.fields.insert(name, Value::String(text));
        Ok(())
    }

    /// Text that is an address, base64 or a data URI. Bytes take precedence over an address. Blocks.
    fn audio_in(&mut self, text: &mut impl Read, field: &str) -> Result<(), Problem> {
        const ADDRESSES: [&[u8]; 2] = [b"https://", b"http://"];
        const HEAD: usize = 64;
        let mut head = Vec::new();
        let unread = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::Other => {
                Problem::invalid(field, "this is not valid text")
            }
            _ => error.into(),
        };
        text.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(unread)?;
        let start = head.trim_ascii_start();
        if start.is_empty() && head.len() < HEAD {
            return Ok(());
        }
        let is = |lead: &&[u8]| start.get(..lead.len()).is_some_and(|text| text.eq_ignore_ascii_case(lead));
        if ADDRESSES.iter().any(is) {
            text.by_ref().take(self.room as u64).read_to_end(&mut head).map_err(unread)?;
            let url = String::from_utf8(head).map_err(|_| Problem::invalid(field, "expected text"))?;
            let url = url.trim().to_owned();
            self.room = self.room.checked_sub(url.len() + 1).ok_or_else(|| too_many(field))?;
            self.foreign.held.grow(url.len())?;
            if !matches!(self.foreign.audio, Some(AudioInput::Bytes(_))) {
                self.foreign.audio = Some(AudioInput::Url { url, headers: BTreeMap::new() });
            }
            return Ok(());
        }
        let whole = Cursor::new(head).chain(text);
        let (mime_type, received) =
            json::decode(whole, &self.media, self.max_bytes).map_err(|problem| renamed(problem, field))?;
        self.foreign.mime_type = mime_type.or(self.foreign.mime_type.take());
        self.foreign.audio = Some(AudioInput::Bytes(received));
        Ok(())
    }
}

/// A problem with our own field, said of the field in this body.
fn renamed(problem: Problem, field: &str) -> Problem {
    let detail = problem.detail.replace("audio.data", field);
    match problem.code {
        Code::InvalidRequest => {
            let detail =
                "this is neither base64, nor a data URI with base64 in it, nor an http or https address";
            Problem::invalid(field, detail)
        }
        _ => Problem { detail, field: problem.field.map(|_| field.to_owned()), ..problem },
    }
}

/// A part of a form of pairs, up to a delimiter that is taken away, with its escapes replaced.
struct Escaped<'a, R> {
    body: &'a mut R,
    end: u8,
    ended: bool,
    /// The delimiter that was found; `None` at the end of the body.
    delimiter: Option<u8>,
}

impl<'a, R: BufRead> Escaped<'a, R> {
    fn new(body: &'a mut R, end: u8) -> Self {
        Self { body, end, ended: false, delimiter: None }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.body.fill_buf()?.first().copied();
        self.body.consume(usize::from(byte.is_some()));
        Ok(byte)
    }

    fn digit(&mut self) -> io::Result<u8> {
        let digit = self.byte()?.and_then(|byte| char::from(byte).to_digit(16));
        digit.and_then(|digit| u8::try_from(digit).ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl<R: BufRead> Read for Escaped<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        while count < buffer.len() && !self.ended {
            buffer[count] = match self.byte()? {
                None => {
                    self.ended = true;
                    break;
                }
                // A name without a value ends with its pair.
                Some(byte) if byte == self.end || byte == b'&' => {
                    (self.ended, self.delimiter) = (true, Some(byte));
                    break;
                }
                Some(b'+') => b' ',
                Some(b'%') => self.digit()? * 16 + self.digit()?,
                Some(byte) => byte,
            };
            count += 1;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use serde_json::json;

    use super::*;
    use crate::media::SpooledAudio;

    const SHAPE: Shape = Shape {
        members: &[&["audio"], &["audioMessage", "audio"], &["file", "data"], &["file", "url"]],
        texts: &["base64", "url"],
        files: &["file"],
    };

    fn split(body: &str, is_form: bool) -> Result<Foreign, Problem> {
        let folder = tempfile::tempdir().expect("a folder");
        let media = MediaStore::open(folder.path()).expect("a media folder");
        let taking =
            Taking { shape: SHAPE, media, max_bytes: 1000, room: MAX_FIELDS, foreign: Foreign::default() };
        taking.all_of(Cursor::new(body.to_owned()), is_form)
    }

    fn bytes(foreign: &Foreign) -> &[u8] {
        match &foreign.audio {
            Some(AudioInput::Bytes(SpooledAudio { bytes: AudioBytes::Memory(bytes, _), .. })) => bytes,
            other => panic!("no bytes in memory: {other:?}"),
        }
    }

    fn url(foreign: &Foreign) -> &str {
        match &foreign.audio {
            Some(AudioInput::Url { url, .. }) => url,
            other => panic!("no address: {other:?}"),
        }
    }

    #[test]
    fn audio_is_found_wherever_the_body_has_it() {
        let data = BASE64_STANDARD.encode("some audio");
        for body in [
            json!({ "audio": data, "number": "1", "unknown": { "deep": [1, 2] } }),
            json!({ "audio": format!("data:audio/ogg;base64,{data}"), "number": "1" }),
            json!({ "audioMessage": { "audio": data }, "number": "1" }),
            json!({ "file": { "mimetype": "audio/ogg", "data": data }, "number": "1" }),
            json!({ "file": { "url": "https://example.com/a", "data": data }, "number": "1" }),
            json!({ "file": { "data": data, "url": "https://example.com/a" }, "number": "1" }),
        ] {
            let foreign = split(&body.to_string(), false).expect("a body");
            assert_eq!(bytes(&foreign), b"some audio", "{body}");
            assert_eq!(foreign.fields["number"], "1");
        }
        for body in [
            json!({ "audio": " https://example.com/a.mp3 " }),
            json!({ "file": { "url": "https://example.com/a.mp3" } }),
        ] {
            assert_eq!(url(&split(&body.to_string(), false).expect("a body")), "https://example.com/a.mp3");
        }
        for body in [json!({ "audio": null }), json!({ "audio": "" }), json!({ "file": "x" }), json!({})] {
            assert!(split(&body.to_string(), false).expect("a body").audio.is_none(), "{body}");
        }
    }

    #[test]
    fn form_in_one_text_is_read_like_json() {
        let data = BASE64_STANDARD.encode([0xfb_u8, 0xff, 0xfe, 1, 2]);
        let escaped: String = url::form_urlencoded::byte_serialize(data.as_bytes()).collect();
        let foreign = split(&format!("format=mp3&base64={escaped}&x&=&note=a+b%21"), true).expect("a form");
        assert_eq!(bytes(&foreign), [0xfb, 0xff, 0xfe, 1, 2]);
        assert_eq!((&foreign.fields["format"], &foreign.fields["note"]), (&json!("mp3"), &json!("a b!")));
        let foreign =
            split("url=https%3A%2F%2Fexample.com%2Fa%3Fb%3D1%26c&format=ogg", true).expect("a form");
        assert_eq!(url(&foreign), "https://example.com/a?b=1&c");
        assert_eq!(foreign.fields["format"], "ogg");
        assert!(split("", true).expect("an empty form").fields.is_empty());
        assert!(split("base64=%zz", true).is_err());
    }

    #[test]
    fn problem_names_the_field_of_this_body() {
        for (body, field, code) in [
            (json!({ "audio": "not base64 at all!" }), "audio", "invalid_request"),
            (json!({ "file": { "data": "%%%" } }), "file.data", "invalid_request"),
            (json!({ "file": { "data": hex::encode([7; 300]) } }), "file.data", "audio_unreadable"),
            (json!([]), "body", "invalid_request"),
            (json!({ "text": "x".repeat(70_000) }), "text", "invalid_request"),
        ] {
            let problem = split(&body.to_string(), false).expect_err("refused");
            assert_eq!((problem.field.as_deref(), problem.code.as_str()), (Some(field), code), "{body}");
        }
        let large = BASE64_STANDARD.encode([7; 1001]);
        let problem = split(&json!({ "audio": large }).to_string(), false).expect_err("refused");
        assert_eq!(problem.status, 413);
    }
}
