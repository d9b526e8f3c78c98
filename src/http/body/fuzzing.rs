//! Fuzz targets for request bodies: any body is understood like any other JSON reader would, or refused as a mistake of
//! the caller, and leaves no file behind.

use std::{convert::Infallible, io::Cursor, path::Path, sync::LazyLock, time::Duration};

use axum::body::Body;
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::{
    Incoming, MAX_FIELDS, Parts, Submission, TextFields, assemble, in_query, json::split, multipart,
};
use crate::{
    http::{memory::Holding, voice::VoiceFields},
    media::{AudioBytes, MediaStore},
    model::{code::Code, problem::Problem},
};

/// The limit for the audio.
const MAX_BYTES: u64 = 4096;

thread_local! {
    /// Created once, because that takes longer than reading a body.
    static FOLDER: TempDir = TempDir::new().expect("a scratch folder");
    static MEDIA: MediaStore = FOLDER.with(|folder| MediaStore::open(folder.path()).expect("a media folder"));
}

fn media() -> MediaStore {
    MEDIA.with(Clone::clone)
}

/// Interprets a parsed body. Whatever the result, no file is left behind.
fn settle(parts: Result<Parts, Problem>, prefix: &str) -> Result<(), Code> {
    let submission: Result<Submission<VoiceFields>, _> = parts.and_then(|parts| assemble(parts, prefix));
    let end = submission.map(drop).map_err(|problem| {
        assert!((400..500).contains(&problem.status) && !problem.detail.is_empty(), "{problem:?}");
        assert!(problem.field.is_some() || problem.code == Code::AudioTooLarge, "{problem:?}");
        problem.code
    });
    assert_eq!(FOLDER.with(|folder| files(folder.path())), 0, "a file is left behind");
    end
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

pub fn json(data: &[u8]) {
    let parts = split(Cursor::new(data), &media(), MAX_BYTES, Holding::default());
    if let Ok(parts) = &parts {
        match serde_json::from_slice(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data)) {
            Ok(whole) => same_as(parts, whole),
            // Fields are read one by one, so their nesting may be slightly deeper.
            Err(_) => assert!(data.iter().filter(|byte| b"[{".contains(byte)).count() > 100),
        }
    }
    let _ = settle(parts, "audio.");
}

/// Parsing a body while it arrives gives the same result as parsing it at once.
fn same_as(parts: &Parts, mut whole: Map<String, Value>) {
    let audio = whole.remove("audio");
    assert_eq!(parts.fields, whole);
    let Some(Value::Object(mut audio)) = audio else { return assert!(parts.audio.is_none()) };
    let mut found = parts.audio.clone().expect("what is said about the audio");
    if let Some(file) = &parts.file {
        let text = audio.insert("data".to_owned(), "".into()).expect("base64 or a data URI");
        let bytes = match &file.bytes {
            AudioBytes::Memory(bytes, _) => bytes.to_vec(),
            AudioBytes::File(file) => std::fs::read(file.path()).expect("its bytes"),
        };
        assert!(bytes.len() as u64 <= MAX_BYTES);
        assert_eq!(BASE64_STANDARD_NO_PAD.encode(&bytes), bare(text.as_str().expect("text")));
        // The type that a data URI names.
        if !audio.contains_key("mime_type") {
            found.remove("mime_type");
        }
    }
    // `null` means that the field is not set.
    if audio.get("mime_type").is_some_and(Value::is_null) {
        audio.remove("mime_type");
        found.remove("mime_type");
    }
    assert_eq!(found, audio);
}

/// Base64 without the extra characters that are allowed around and in it.
fn bare(text: &str) -> String {
    let text = text.trim_ascii_start();
    let is_uri = text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    let text = if is_uri { text.split_once(',').map_or("", |(_, data)| data) } else { text };
    let kept = text.chars().filter(|c| !matches!(c, '\r' | '\n' | ' ' | '\t' | '\x0c' | '='));
    kept.map(|c| {
        if c == '-' {
            '+'
        } else if c == '_' {
            '/'
        } else {
            c
        }
    })
    .collect()
}

/// The query of a request whose body is the audio itself.
pub fn query(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    let empty = split(Cursor::new(br#"{"audio": {"data": ""}}"#), &media(), MAX_BYTES, Holding::default());
    let file = empty.expect("an empty file").file.expect("an empty file");
    let parts = in_query(query).map(|fields: TextFields| fields.with(Some(file)));
    let as_json = parts.as_ref().ok().map(|parts| {
        let mut body = parts.fields.clone();
        let mut audio = parts.audio.clone().unwrap_or_default();
        audio.insert("data".to_owned(), "".into());
        body.insert("audio".to_owned(), Value::Object(audio));
        Value::Object(body).to_string()
    });
    let end = settle(parts, "");
    // The limit on all fields counts the text as written, which is longer in JSON.
    if let Some(body) = as_json.filter(|body| body.len() < MAX_FIELDS) {
        let parts = split(Cursor::new(body), &media(), MAX_BYTES, Holding::default());
        assert_eq!(settle(parts, "audio."), end, "the same in another body means something else");
    }
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// The input is a line with the boundary, followed by the form.
pub fn multipart(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let boundary = String::from_utf8_lossy(&data[..end]);
    let content_type = format!("multipart/form-data; boundary={}", boundary.trim());
    let body = data.get(end + 1..).unwrap_or_default();
    let whole = form(&content_type, body, body.len().max(1));
    let in_pieces = form(&content_type, body, 1 + data.len() % 7);
    assert_eq!(whole, in_pieces, "where a body is parted changes what it means");
}

/// Returns the fields, or the code of the problem.
fn form(content_type: &str, body: &[u8], piece: usize) -> Result<Value, Code> {
    let pieces: Vec<_> =
        body.chunks(piece).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
    let body = Body::from_stream(stream::iter(pieces));
    let body = Incoming::new(body, 64 * 1024, None, Duration::from_secs(60));
    let parts =
        RUNTIME.block_on(multipart::read(body, content_type, &media(), MAX_BYTES, Holding::default()));
    let fields = parts.as_ref().map(|parts| json!([parts.fields, parts.audio])).unwrap_or_default();
    settle(parts, "").map(|()| fields)
}
