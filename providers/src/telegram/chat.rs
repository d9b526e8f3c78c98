//! Ids of Telegram's chats, as recipients and requests have them.

use std::fmt;

use serde_json::{Value, json};

/// The chat that a note goes to: `123`, `-100123/17`, `@channel`.
#[derive(Debug, PartialEq)]
pub(super) struct Chat {
    pub id: String,
    /// A topic of a group.
    pub thread: Option<u32>,
}

impl Chat {
    pub fn parse(text: &str) -> Option<Self> {
        let (id, thread) = match text.split_once('/') {
            Some((id, thread)) => (id, Some(thread.parse().ok().filter(|thread: &u32| *thread > 0)?)),
            None => (text, None),
        };
        let id = match id.strip_prefix('@') {
            Some(name) => {
                let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
                let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                // Names are the same in either case.
                (begins && plain && (4..=32).contains(&name.len())).then(|| id.to_ascii_lowercase())?
            }
            None => id.parse::<i64>().ok().filter(|_| !id.starts_with('+'))?.to_string(),
        };
        Some(Self { id, thread })
    }

    /// A number where it is one: names are texts on the wire.
    pub fn json(&self) -> Value {
        self.id.parse::<i64>().map_or_else(|_| json!(self.id), |id| json!(id))
    }

    /// Groups and channels have negative numbers.
    pub fn is_private(&self) -> bool {
        self.id.parse::<i64>().is_ok_and(|id| id > 0)
    }
}

impl fmt::Display for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.thread.map_or(Ok(()), |thread| write!(f, "/{thread}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_written_in_one_way() {
        for (text, expected) in [
            ("123", Some("123")),
            ("-1001234567890/17", Some("-1001234567890/17")),
            ("@News_Channel", Some("@news_channel")),
            ("0123", Some("123")),
            ("+123", None),
            ("@abc", None),
            ("-100/0", None),
        ] {
            assert_eq!(Chat::parse(text).map(|chat| chat.to_string()).as_deref(), expected, "{text}");
        }
    }
}
