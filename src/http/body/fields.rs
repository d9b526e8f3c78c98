//! Parses fields: turns text into values, and values into types, or names the field that is wrong.

use std::time::Duration;

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use serde_json::{Map, Value};
use voicegate_providers::Degrade;

use super::{ENTRY, MAX_FIELDS, Parts, TREE, tokens};
use crate::{
    config::Span24,
    http::memory::Holding,
    media::SpooledAudio,
    model::{note::ConvertChoice, problem::Problem, spelling},
};

/// Fields that are text, from a query or a form. Objects are JSON.
#[derive(Default)]
pub struct TextFields {
    fields: Map<String, Value>,
    /// The fields about the audio; in JSON these are inside `audio`.
    audio: Map<String, Value>,
    /// The facts about the audio that the transfer states. A field takes precedence.
    hints: Map<String, Value>,
    metadata: Option<String>,
    size: usize,
    /// The memory reserved for the fields.
    held: Holding,
}

/// Fields that are free text, so that the word `null` is a valid value.
const WORDS: [&str; 2] = ["to", "text"];

impl TextFields {
    /// No fields yet. Memory for them is reserved from `held`.
    pub fn new(held: Holding) -> Self {
        Self { held, ..Self::default() }
    }

    /// # Errors
    /// Fails if a field that is no list occurs twice, or its text is not valid.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), Problem> {
        self.size += name.len() + text.len();
        if self.size > MAX_FIELDS {
            return Err(too_many(name));
        }
        let is_tree = name == "metadata" || text.trim_start().starts_with('{');
        self.held.grow(ENTRY + name.len() + text.len() * if is_tree { TREE } else { 1 })?;
        let mut value = match name {
            // Some clients send every field of a form, whether it is set or not.
            _ if text == "null" && !WORDS.contains(&name) => Value::Null,
            "strict" | "convert" => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Bool),
            "degrade" => names(name, text)?,
            "metadata" => object(name, text)?,
            "format" if text.trim_start().starts_with('{') => object(name, text)?,
            "speech" => object(name, text)?,
            _ => Value::String(text.to_owned()),
        };
        if name == "metadata" {
            self.metadata = Some(text.to_owned());
        }
        let place = match name {
            "filename" | "mime_type" | "format" | "speech" => &mut self.audio,
            "audio" => {
                return Err(Problem::invalid(
                    "audio",
                    "expected a file: the audio itself, not its name or URL (with curl: -F audio=@speech.mp3)",
                ));
            }
            _ => &mut self.fields,
        };
        // Forms and OpenAPI write each item of a list as a field of its own.
        if let (Some(Value::Array(given)), Value::Array(more)) = (place.get_mut(name), &mut value) {
            given.append(more);
            return Ok(());
        }
        match place.insert(name.to_owned(), value) {
            Some(_) => Err(Problem::invalid(name, "the field is given twice")),
            None => Ok(()),
        }
    }

    /// Adds a fact about the audio, unless the caller has set it in a field.
    pub fn hint(&mut self, name: &str, text: &str) {
        self.hints.insert(name.to_owned(), Value::String(text.to_owned()));
    }

    /// The parts of the body. `file` is the audio itself, if it is there.
    pub fn with(mut self, file: Option<SpooledAudio>) -> Parts {
        self.audio.retain(|_, value| !value.is_null());
        self.hints.append(&mut self.audio);
        Parts { fields: self.fields, audio: Some(self.hints), file, metadata: self.metadata, held: self.held }
    }
}

/// All fields together are too large; `field` is the one that no longer fits.
pub fn too_many(field: &str) -> Problem {
    let detail = format!(
        "this field does not fit: all fields together may have at most {MAX_FIELDS} bytes. In JSON the audio itself belongs in `audio.data`"
    );
    Problem::invalid(field, detail)
}

fn object(name: &str, text: &str) -> Result<Value, Problem> {
    tokens::check(text).map_err(|error| Problem::invalid(name, error.to_string()))?;
    serde_json::from_str(text)
        .map_err(|_| Problem::invalid(name, "this is not valid JSON; expected a JSON object as text"))
}

/// A list of names: JSON, or names with commas between them.
fn names(name: &str, text: &str) -> Result<Value, Problem> {
    if text.trim_start().starts_with('[') {
        tokens::check(text).map_err(|error| Problem::invalid(name, error.to_string()))?;
        return serde_json::from_str(text)
            .map_err(|_| Problem::invalid(name, "this is not valid JSON; expected a list as text"));
    }
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect::<Vec<_>>().into())
}

/// Parses a value, or says which field is wrong; `prefix` is put before its name.
///
/// # Errors
/// `invalid_request`, with the field.
pub fn understand<T: DeserializeOwned>(value: Value, prefix: &str) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if matches!(path.as_str(), "." | "?") { String::new() } else { path };
        in_field(prefix, path, &error.into_inner().to_string())
    })
}

/// serde names an unknown or missing field only in its text, but callers need it in `field`.
fn in_field(prefix: &str, path: String, message: &str) -> Problem {
    let named = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|lead| message.strip_prefix(lead)?.split_once('`').map(|(name, _)| name));
    let path = match named {
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) if path.rsplit('.').next() != Some(name) => format!("{path}.{name}"),
        _ if path.is_empty() => "body".to_owned(),
        _ => path,
    };
    let detail = match named {
        Some(name) if message.starts_with("unknown") => {
            unknown(name, message, path.contains('.') || !prefix.is_empty())
        }
        // The names of our types and of serde mean nothing to a caller.
        _ => message
            .split_once("expected struct ")
            .map_or(message.to_owned(), |(before, _)| format!("{before}expected an object"))
            .replace("expected a map", "expected an object")
            .replace("expected a boolean", "expected true or false"),
    };
    Problem::invalid(format!("{prefix}{path}"), detail)
}

/// The fields about the audio are inside `audio` in JSON, and beside the other fields elsewhere. `message` is that of
/// serde.
fn unknown(name: &str, message: &str, inside: bool) -> String {
    let of_audio = ["url", "data", "media_id", "filename", "mime_type", "headers", "format", "speech"];
    if !inside && of_audio.contains(&name) {
        return format!("in JSON `{name}` belongs inside `audio`; in other bodies the audio itself is sent");
    }
    let others = if inside { &[][..] } else { &["audio"] };
    let meant =
        unknown_name(message, others).map_or(String::new(), |meant| format!(" did you mean `{meant}`?"));
    format!("there is no field `{name}` here;{meant} /docs/http#fields lists the fields")
}

/// The name that was probably meant, from serde's "unknown field `x`, expected one of `y`, `z`" and further known
/// names.
pub fn unknown_name<'a>(message: &'a str, others: &[&'a str]) -> Option<&'a str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let name = quoted.next()?;
    let known: Vec<&str> = quoted.chain(others.iter().copied()).collect();
    spelling::nearest(name, &known)
}

/// Parses a value in which `null` means that it is not set.
///
/// # Errors
/// Errors of the value.
pub fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Parses `convert`: a word, or true for `auto` and false for `never`.
///
/// # Errors
/// Fails with the possible values.
pub fn choice<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ConvertChoice>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Bool(true) => Ok(Some(ConvertChoice::Auto)),
        Value::Bool(false) => Ok(Some(ConvertChoice::Never)),
        other => ConvertChoice::deserialize(other).map(Some).map_err(|_| {
            de::Error::custom("expected \"auto\", \"always\", \"never\", \"provider\", true or false")
        }),
    }
}

/// `degrade`: a list of forms.
///
/// # Errors
/// Says what it may have in it.
pub fn degrade<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Degrade>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        given => Degrade::deserialize(given).map(Some).map_err(|_| {
            de::Error::custom("expected a list of \"audio\", \"file\" and \"text\", which may be empty")
        }),
    }
}

/// Parses a duration above zero.
///
/// # Errors
/// Fails with an example of a duration.
pub fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let span = Option::<Span24>::deserialize(deserializer)?.map(|span| span.0);
    if span.is_some_and(|span| span.is_zero()) {
        return Err(de::Error::custom("expected a duration above zero"));
    }
    Ok(span)
}

/// Parses a point in time, as in RFC 3339.
///
/// # Errors
/// Fails with an example of a time.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let wrong = || de::Error::custom("expected a time with its offset, such as \"2026-01-31T18:30:00Z\"");
    text.parse().map(Some).map_err(|_| wrong())
}

/// Reads a whole number of JSON: 12 and 12.0 are the same number, and both are integers in JSON Schema.
pub fn whole_number(value: &Value) -> Option<u64> {
    let number = value.as_number()?;
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..1e15).contains(float));
    number.as_u64().or_else(|| float.map(|float| float as u64))
}
