//! Values that a recipe writes as short texts: pointers, patterns, durations, statuses and kinds.

use std::{fmt, time::Duration};

use regex::{Regex, RegexBuilder};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::Value;

use super::super::words::nearest;
use crate::SendErrorKind;

/// `429`, or `"4xx"`.
#[derive(Clone, Copy)]
pub enum StatusRule {
    One(u16),
    Hundred(u16),
}

impl StatusRule {
    pub fn fits(self, status: u16) -> bool {
        match self {
            Self::One(one) => status == one,
            Self::Hundred(hundred) => status / 100 == hundred,
        }
    }
}

#[derive(Clone, Copy)]
pub enum Outcome {
    Accepted,
    Refused(SendErrorKind),
}

/// A JSON pointer (RFC 6901).
pub struct Pointer(pub String);

/// One pointer, or several in the order in which they are tried.
pub struct Pointers(pub Vec<Pointer>);

pub struct Pattern(pub Regex);

/// `"29d"`.
#[derive(Clone, Copy)]
pub struct Span(pub Duration);

#[derive(Clone)]
pub enum TokenPlace {
    Query,
    Header(String),
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        pointer(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn pointer(text: &str) -> Result<Pointer, &'static str> {
    let sound = text.starts_with('/') && !text.replace("~0", "").replace("~1", "").contains('~');
    sound.then(|| Pointer(text.to_owned())).ok_or("expected a JSON pointer such as /message/id")
}

impl<'de> Deserialize<'de> for Pointers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pointers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON pointer such as /message/id, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Pointers, E> {
                pointer(text).map(|one| Pointers(vec![one])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Pointers, A::Error> {
                let mut list = Vec::new();
                while let Some(one) = items.next_element()? {
                    list.push(one);
                }
                if list.is_empty() {
                    Err(A::Error::custom("expected at least one JSON pointer"))
                } else {
                    Ok(Pointers(list))
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Pointers {
    /// The first value that is there.
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.0.iter().find_map(|pointer| value.pointer(&pointer.0).filter(|found| !found.is_null()))
    }

    /// The first that is an id: a text that is not empty, or a number.
    pub fn id(&self, value: &Value) -> Option<String> {
        self.0.iter().find_map(|pointer| id(value.pointer(&pointer.0)?))
    }
}

/// Longest id that is believed, in bytes.
const MAX_ID: usize = 255;

/// An id: a text or a whole number.
pub fn id(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return None,
    };
    let sound = (1..=MAX_ID).contains(&text.len())
        && !text.contains(char::is_control)
        && text.contains(|c: char| c.is_alphanumeric());
    sound.then_some(text)
}

impl<'de> Deserialize<'de> for StatusRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || D::Error::custom("expected a status such as 429, or \"4xx\"");
        match Value::deserialize(deserializer)? {
            Value::Number(number) => {
                let status = number.as_u64().and_then(|status| u16::try_from(status).ok());
                status.filter(|status| (100..600).contains(status)).map(Self::One).ok_or_else(wrong)
            }
            Value::String(text) => {
                let hundred = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
                hundred.filter(|hundred| (1..6).contains(hundred)).map(Self::Hundred).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

/// The kinds that a row may name, beside `accepted`.
const KINDS: [&str; 17] = [
    "accepted",
    "invalid_recipient",
    "not_reachable",
    "form_unavailable",
    "conversation_closed",
    "opted_out",
    "media_rejected",
    "media_too_large",
    "rejected",
    "unauthorized",
    "misconfigured",
    "rate_limited",
    "outdated",
    "not_ready",
    "unavailable",
    "outcome_unknown",
    "unexpected",
];

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "accepted" {
            return Ok(Self::Accepted);
        }
        serde_json::from_value(Value::String(text.clone())).map(Self::Refused).map_err(|_| {
            let meant =
                nearest(&text, &KINDS).map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
            D::Error::custom(format!("expected one of {}{meant}", KINDS.join(", ")))
        })
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        RegexBuilder::new(&text).size_limit(1 << 20).build().map(Self).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            D::Error::custom(format!("expected a regular expression: {why}"))
        })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let split = text.len().saturating_sub(1);
        let seconds =
            text.is_char_boundary(split).then(|| text.split_at(split)).and_then(|(number, unit)| {
                let unit = match unit {
                    "s" => 1,
                    "m" => 60,
                    "h" => 3600,
                    "d" => 86_400,
                    _ => return None,
                };
                number
                    .parse::<u64>()
                    .ok()
                    .filter(|number| (1..=10_000).contains(number))
                    .map(|number| number * unit)
            });
        let wrong = || D::Error::custom("expected a duration such as \"30m\", \"24h\" or \"29d\"");
        seconds.map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for TokenPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(true) => Ok(Self::Query),
            Value::String(name) if !name.is_empty() => Ok(Self::Header(name)),
            _ => Err(D::Error::custom("expected true (?token= in the address) or the name of a header")),
        }
    }
}
