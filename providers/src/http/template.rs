//! The language of recipes: texts with `{{placeholders}}` in them. There are no conditions and no loops.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de::Visitor};
use serde_json::Value;

use super::words::nearest;

/// A placeholder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    BaseUrl,
    Token,
    Setting(String),
    To,
    Audio,
    Media,
    Duration,
    Waveform,
    Filename,
    Mime,
    Caption,
    Text,
    NoteId,
    NoteUuid,
    ReplyTo,
}

impl Name {
    /// Every placeholder but `settings.NAME`, as recipes write it.
    const FIXED: [(&'static str, Self); 14] = [
        ("base_url", Self::BaseUrl),
        ("token", Self::Token),
        ("to", Self::To),
        ("audio", Self::Audio),
        ("media", Self::Media),
        ("duration", Self::Duration),
        ("waveform", Self::Waveform),
        ("filename", Self::Filename),
        ("mime", Self::Mime),
        ("caption", Self::Caption),
        ("text", Self::Text),
        ("note_id", Self::NoteId),
        ("note_uuid", Self::NoteUuid),
        ("reply_to", Self::ReplyTo),
    ];

    fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, name)) = Self::FIXED.into_iter().find(|(known, _)| *known == text) {
            return Ok(name);
        }
        if let Some(setting) = text.strip_prefix("settings.") {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            if !setting.is_empty() && setting.chars().all(plain) {
                return Ok(Self::Setting(setting.to_owned()));
            }
        }
        let known: Vec<&str> = Self::FIXED.iter().map(|(name, _)| *name).collect();
        Err(match nearest(text, &known) {
            Some(meant) => format!("there is no placeholder {{{{{text}}}}}; did you mean {{{{{meant}}}}}?"),
            None => format!(
                "there is no placeholder {{{{{text}}}}}; known are {} and settings.NAME",
                known.join(", ")
            ),
        })
    }

    /// Whether it is the same for every note of a connection.
    pub fn is_fixed(&self) -> bool {
        matches!(self, Self::BaseUrl | Self::Token | Self::Setting(_))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Setting(name) = self {
            return write!(f, "{{{{settings.{name}}}}}");
        }
        let known = Self::FIXED.iter().find(|(_, name)| name == self).map_or("", |(known, _)| known);
        write!(f, "{{{{{known}}}}}")
    }
}

/// The values that are put in place of placeholders.
#[derive(Clone, Default)]
pub(super) struct Values {
    values: BTreeMap<Name, Value>,
    /// They stand for values that are not shown, so they are written as they are.
    pub masked: bool,
}

impl Values {
    /// Stand-ins: what is put in is shown as it is.
    pub fn masked() -> Self {
        Self { masked: true, ..Self::default() }
    }

    pub fn insert(&mut self, name: Name, value: impl Into<Value>) {
        self.values.insert(name, value.into());
    }

    pub fn insert_some(&mut self, name: Name, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.insert(name, value);
        }
    }

    fn get(&self, name: &Name) -> Option<&Value> {
        self.values.get(name)
    }
}

enum Part {
    Text(String),
    Value(Name),
}

/// A text with placeholders.
pub(super) struct Template(Vec<Part>);

impl Template {
    /// # Errors
    /// Names what is wrong with a placeholder.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            push_text(&mut parts, before)?;
            let (name, behind) =
                behind.split_once("}}").ok_or("a placeholder begins with {{ and has no }} at its end")?;
            parts.push(Part::Value(Name::parse(name.trim())?));
            rest = behind;
        }
        push_text(&mut parts, rest)?;
        Ok(Self(parts))
    }

    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().filter_map(|part| match part {
            Part::Value(name) => Some(name),
            Part::Text(_) => None,
        })
    }

    pub fn uses(&self, name: &Name) -> bool {
        self.names().any(|one| one == name)
    }

    /// Whether it is this placeholder and nothing else.
    pub fn is_alone(&self, name: &Name) -> bool {
        matches!(self.0.as_slice(), [Part::Value(one)] if one == name)
    }

    /// The text before the first placeholder.
    pub fn beginning(&self) -> &str {
        match self.0.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether it begins with `{{base_url}}` and goes on with a path.
    pub fn begins_with_base_url(&self) -> bool {
        matches!(self.0.first(), Some(Part::Value(Name::BaseUrl)))
            && match self.0.get(1) {
                None => true,
                Some(Part::Text(text)) => text.starts_with('/') || text.starts_with('?'),
                Some(Part::Value(_)) => false,
            }
    }

    /// The value: with its own type where the template is one placeholder alone, else a text. `None` where the value
    /// of any placeholder is not there.
    pub fn value(&self, values: &Values) -> Option<Value> {
        if let [Part::Value(name)] = self.0.as_slice() {
            return values.get(name).cloned();
        }
        self.text(values).map(Value::String)
    }

    pub fn text(&self, values: &Values) -> Option<String> {
        self.joined(values, |_, text| Some(text))
    }

    /// The value as a URL: everything but `{{base_url}}` is escaped, so that no value leads elsewhere. `None` for a value
    /// of dots, too: escaped or not, a path takes it for the folder above.
    pub fn url(&self, values: &Values) -> Option<String> {
        self.joined(values, |name, text| match name {
            Name::BaseUrl => Some(text.trim_end_matches('/').to_owned()),
            _ if text.chars().all(|c| c == '.') => None,
            _ if values.masked => Some(text),
            _ => Some(escaped(&text)),
        })
    }

    fn joined(&self, values: &Values, put: impl Fn(&Name, String) -> Option<String>) -> Option<String> {
        let part = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Value(name) => put(name, plain(values.get(name)?)),
        };
        self.0.iter().map(part).collect()
    }
}

/// Refuses the one mistake that would go unseen: a placeholder with single braces.
fn push_text(parts: &mut Vec<Part>, text: &str) -> Result<(), String> {
    for inside in
        text.split('{').skip(1).filter_map(|behind| behind.split_once('}')).map(|(inside, _)| inside)
    {
        if let Ok(name) = Name::parse(inside.trim()) {
            return Err(format!("a placeholder has two braces on each side; write {name}"));
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
    Ok(())
}

/// A value inside a text: texts as they are, everything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Percent-encoded but for the unreserved characters of RFC 3986 section 2.3.
pub(super) fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Template;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a text; secrets stand in the connection, as `token` or in `settings`, and here as {{token}} or \
                     {{settings.NAME}}",
                )
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Template, E> {
                Template::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        let mut values = Values::default();
        values.insert(Name::To, "+15550001111");
        values.insert(Name::Token, "a/b c");
        values.insert(Name::BaseUrl, "https://api.example.com/base/");
        values
    }

    #[test]
    fn unknown_placeholder_is_named_with_a_suggestion() {
        for (text, expected) in [
            ("{{too}}", "there is no placeholder {{too}}; did you mean {{to}}?"),
            ("{{ durations }}", "did you mean {{duration}}?"),
            ("{{settings.}}", "known are base_url"),
            ("{{hunter}}", "known are base_url"),
            ("x {{to", "has no }}"),
            ("whatsapp:{to}", "write {{to}}"),
        ] {
            let error = Template::parse(text).err().expect(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Template::parse("{\"not\": \"a placeholder\"} {x}").is_ok());
    }

    #[test]
    fn values_in_a_url_are_escaped_and_never_lead_elsewhere() {
        let url = |text: &str| Template::parse(text).expect("a template").url(&values());
        let expected = "https://api.example.com/base/x/a%2Fb%20c?to=%2B15550001111";
        assert_eq!(url("{{base_url}}/x/{{token}}?to={{to}}").as_deref(), Some(expected));
        assert_eq!(url("{{base_url}}/{{reply_to}}"), None);
        for dots in [".", "..", ""] {
            let mut values = values();
            values.insert(Name::ReplyTo, dots);
            let template = Template::parse("{{base_url}}/{{reply_to}}/x").expect("a template");
            assert_eq!(template.url(&values), None, "{dots:?}");
        }
    }
}
