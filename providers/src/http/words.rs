//! Mistakes in a recipe, described by the key. A value is never shown, because it may be a secret.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::without_values;

/// Reads a recipe, or a part of one.
///
/// # Errors
/// `KEY: what was expected`, with a suggestion where a name was mistyped.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        // A key that is one of several names is `?` there.
        let path = path.strip_suffix(".?").unwrap_or(&path);
        explain(if path == "." { "" } else { path }, &error.into_inner().to_string())
    })
}

fn explain(path: &str, message: &str) -> String {
    let below = |name: &str| {
        let ends = path == name || path.ends_with(&format!(".{name}"));
        match path {
            _ if ends => path.to_owned(),
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    };
    if let Some((name, known)) = quoted_after(message, "unknown field ") {
        let known = names(known);
        return match nearest(name, &known) {
            Some(meant) => format!("{}: there is no such key; did you mean `{meant}`?", below(name)),
            None => format!("{}: there is no such key; known are {}", below(name), known.join(", ")),
        };
    }
    if let Some((name, _)) = quoted_after(message, "missing field ") {
        return format!("{}: is required, and missing", below(name));
    }
    let said = if let Some((given, known)) = quoted_after(message, "unknown variant ") {
        let known = names(known);
        let meant =
            nearest(given, &known).map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
        format!("expected one of {}{meant}", known.join(", "))
    } else {
        without_values(message)
    };
    if path.is_empty() { said } else { format!("{path}: {said}") }
}

fn quoted_after<'a>(message: &'a str, lead: &str) -> Option<(&'a str, &'a str)> {
    message.strip_prefix(lead)?.strip_prefix('`')?.split_once('`')
}

/// The names that serde lists: ``, expected one of `a`, `b` ``.
fn names(list: &str) -> Vec<&str> {
    list.split('`').skip(1).step_by(2).collect()
}

/// The known name that was most likely meant.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let word = plain(word);
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let distance = |name: &str| strsim::osa_distance(&word, &plain(name));
    let (distance, name) = known.iter().map(|name| (distance(name), *name)).min_by_key(|(d, _)| *d)?;
    let allowed = (word.len().max(name.len()) / 3).clamp(1, 3);
    (distance <= allowed && distance < name.len()).then_some(name)
}
