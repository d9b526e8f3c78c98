//! Finds the keys in serde's messages, and rewrites the messages in plain words.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use voicegate_providers::without_values;

use crate::model::spelling::nearest;

/// The key of ``unknown field `?`, expected ... ``.
pub fn unknown_field(message: &str) -> Option<&str> {
    quoted_after(message, "unknown field ")
}

/// The key of ``missing field `?` ``.
pub fn missing_field(message: &str) -> Option<&str> {
    quoted_after(message, "missing field ")
}

fn quoted_after<'a>(message: &'a str, lead: &str) -> Option<&'a str> {
    message.strip_prefix(lead)?.strip_prefix('`')?.split_once('`').map(|(name, _)| name)
}

/// The names that serde lists in ``unknown field `?`, expected `a` or `b` ``.
pub fn names(message: &str) -> Vec<&str> {
    let list = message.split_once("expected ").map_or("", |(_, list)| list);
    let list = list.strip_prefix("one of ").unwrap_or(list);
    if !list.starts_with('`') {
        return Vec::new();
    }
    list.split('`').skip(1).step_by(2).collect()
}

/// The keys that a table of this type accepts.
pub fn keys<T: DeserializeOwned>() -> Vec<String> {
    let message = refusal::<T>(json!({ "?": null }));
    names(&message).into_iter().map(str::to_owned).collect()
}

/// serde's message if `table` is not valid for this type; empty if it is.
pub fn refusal<T: DeserializeOwned>(table: Value) -> String {
    serde_json::from_value::<T>(table).err().map_or(String::new(), |error| error.to_string())
}

/// The error for a name that is not among `known`.
pub fn no_such(kind: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(meant) => format!("there is no such {kind}; did you mean `{meant}`?"),
        None if known.is_empty() => format!("there is no such {kind}, and there are none to choose from"),
        None => format!("there is no such {kind}; known are {}", known.join(", ")),
    }
}

/// The error for a value that cannot be read. It says what was expected, and never repeats the value, which may be a
/// secret.
pub fn expected(message: &str, value: Option<&str>) -> String {
    let message = without_values(message);
    let Some(what) = message.strip_prefix("expected ") else { return message };
    let what = match what {
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "path string" => "a path",
        "string or map" => "a text",
        "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        _ if what.starts_with("struct ") => "a table",
        _ => what,
    };
    match value.and_then(|value| nearest(value, &names(&message))) {
        Some(meant) => format!("expected {what}; did you mean `{meant}`?"),
        None => format!("expected {what}"),
    }
}
