//! The grammar of `to`.

use std::{borrow::Cow, fmt};

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::NativeId;

/// A recipient as a bot writes it, understood but not yet tied to a provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// E.164: `+` and 7 to 15 digits. Possible is enough; whether it exists is the provider's to say.
    Phone(String),
    /// An e-mail address in lower case.
    Email(String),
    /// A WhatsApp address.
    Jid { user: String, server: JidServer },
    /// A provider's own id of a chat: `linq:UUID`.
    Native { provider: String, id: String },
}

/// The part of a WhatsApp address behind its `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JidServer {
    /// `@c.us`: a person, by phone number.
    User,
    /// `@s.whatsapp.net`: the same person, in the spelling of linked devices.
    LinkedUser,
    Group,
    Newsletter,
    /// `@lid`: a person whose number is hidden.
    Hidden,
}

impl JidServer {
    const ALL: [(Self, &'static str); 5] = [
        (Self::User, "c.us"),
        (Self::LinkedUser, "s.whatsapp.net"),
        (Self::Group, "g.us"),
        (Self::Newsletter, "newsletter"),
        (Self::Hidden, "lid"),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(server, _)| *server == self).map_or("c.us", |(_, name)| name)
    }
}

/// The reason why a recipient is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// The text fits no form of the grammar.
    #[error("{0}")]
    Invalid(String),
    /// The recipient is well-formed, but not valid for this connection.
    #[error("{0}")]
    Unsupported(String),
}

const FORMS: &str = "write it as +15551234567, as an e-mail address, as a WhatsApp id \
    (...@c.us, @g.us, @newsletter, @lid), as alias:NAME, or as PROVIDER:ID";

/// Maximum length of a `to`, in bytes.
const MAX_LEN: usize = 320;

impl Recipient {
    /// Parses every form except `alias:NAME`, which only the tenant's configuration can resolve. `native_ids` are the
    /// forms of providers' own ids.
    ///
    /// # Errors
    /// [`RecipientError::Invalid`] if `text` fits no form.
    pub fn parse<I: Iterator<Item = &'static NativeId>>(
        text: &str,
        native_ids: impl Fn() -> I,
    ) -> Result<Self, RecipientError> {
        let invalid = |why: &str| RecipientError::Invalid(format!("{why}; {FORMS}"));
        let text = visible(text);
        let text = text.trim();
        if text.is_empty() {
            return Err(invalid("the recipient is empty"));
        }
        if text.len() > MAX_LEN {
            return Err(invalid("the recipient is too long"));
        }
        if text.starts_with('+') {
            let text = text.replace(is_separator, "");
            none_unseen(&text)?;
            return phone(&text).ok_or_else(|| invalid("a phone number has + and 7 to 15 digits"));
        }
        none_unseen(text)?;
        let named = |native: &NativeId, id| Self::Native { provider: native.prefix.to_owned(), id };
        let bare = native_ids()
            .filter(|native| native.bare)
            .find_map(|native| Some((native, (native.canonical)(text)?)));
        if let Some((native, id)) = bare {
            return Ok(named(native, id));
        }
        // Before everything that has an @: the id of a Telegram channel begins with one.
        if let Some((prefix, id)) = text.split_once(':')
            && let Some(native) = native_ids().find(|native| native.prefix == prefix)
        {
            let id = (native.canonical)(id).ok_or_else(|| {
                let (prefix, meaning) = (native.prefix, native.meaning);
                RecipientError::Invalid(format!("behind {prefix}: comes {meaning}"))
            })?;
            return Ok(named(native, id));
        }
        if let Some((user, server)) = text.rsplit_once('@')
            // Upper and lower case are equal, as in domains: otherwise it would be taken for an e-mail address.
            && let Some((server, _)) = JidServer::ALL.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(server))
        {
            return jid(user, server).ok_or_else(|| invalid("the part before the @ is no WhatsApp id"));
        }
        if text.contains('@') {
            return email(text).ok_or_else(|| invalid("this is no e-mail address"));
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(invalid("a phone number begins with + and the country code"));
        }
        Err(invalid("this fits no form of recipient"))
    }
}

impl Recipient {
    /// Every text that names the same recipient, this one's own first: WhatsApp knows a person by number in three
    /// spellings.
    pub fn spellings(&self) -> Vec<String> {
        let number = match self {
            Self::Phone(number) => number.strip_prefix('+'),
            Self::Jid { user, server: JidServer::User | JidServer::LinkedUser } => {
                Some(user.as_str()).filter(|user| phone(&format!("+{user}")).is_some())
            }
            _ => None,
        };
        let mut all = vec![self.to_string()];
        if let Some(digits) = number {
            let others = [format!("+{digits}"), format!("{digits}@c.us"), format!("{digits}@s.whatsapp.net")];
            all.extend(others.into_iter().filter(|other| *other != self.to_string()));
        }
        all
    }
}

/// Masks a phone number: `+1555•••4567`.
pub fn masked_number(number: &str) -> String {
    let digits: Vec<char> = number.chars().filter(char::is_ascii_digit).collect();
    if digits.len() < 7 {
        return "•••".to_owned();
    }
    // Four digits at each end would be nearly all of a short number.
    let shown = if digits.len() < 11 { 2 } else { 4 };
    let (start, end) = (&digits[..shown], &digits[digits.len() - shown..]);
    format!("+{}•••{}", start.iter().collect::<String>(), end.iter().collect::<String>())
}

/// Removes the invisible characters that contacts, chats and web pages add to a number: text direction marks, joiners,
/// and spaces without width.
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_mark = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    if text.contains(is_mark) { text.replace(is_mark, "").into() } else { text.into() }
}

/// Whether people write this character between the digits of a number.
fn is_separator(c: char) -> bool {
    // Hyphens, the non-breaking one among them, and the dashes that word processors make of them.
    matches!(c, '-' | '(' | ')' | '.' | '\u{2010}'..='\u{2015}' | '\u{2212}')
        || c.general_category() == GeneralCategory::SpaceSeparator
}

/// Names the first character that cannot be seen.
fn none_unseen(text: &str) -> Result<(), RecipientError> {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, Unassigned};
    let is_unseen = |c: &char| {
        // Besides what has no glyph at all: blanks other than the one on the keyboard, fillers and variation selectors.
        matches!(
            c.general_category(),
            Control | Format | LineSeparator | ParagraphSeparator | PrivateUse | Unassigned
        ) || (c.general_category() == GeneralCategory::SpaceSeparator && *c != ' ')
            || matches!(c, '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}')
    };
    match text.chars().find(is_unseen) {
        None => Ok(()),
        Some(c) => Err(RecipientError::Invalid(format!(
            "the recipient has the character U+{:04X} in it, which cannot be seen; remove it",
            u32::from(c)
        ))),
    }
}

fn phone(text: &str) -> Option<Recipient> {
    let digits = &text[1..];
    let possible = (7..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0'); // no country code starts with 0 (ITU-T E.164 annex D)
    possible.then(|| Recipient::Phone(format!("+{digits}")))
}

fn jid(user: &str, server: JidServer) -> Option<Recipient> {
    // Old group ids are PHONE-TIMESTAMP; all others are digits alone.
    let fits = |c: char| c.is_ascii_digit() || (server == JidServer::Group && c == '-');
    let sound = (1..=40).contains(&user.len()) && user.chars().all(fits);
    sound.then(|| Recipient::Jid { user: user.to_owned(), server })
}

fn email(text: &str) -> Option<Recipient> {
    let (local, domain) = text.rsplit_once('@')?;
    let local_ok = (1..=64).contains(&local.len())
        && local.chars().all(|c| c.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c));
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let domain_ok = domain.contains('.') && domain.len() <= 253 && domain.split('.').all(label_ok);
    (local_ok && domain_ok).then(|| Recipient::Email(text.to_lowercase()))
}

impl fmt::Display for Recipient {
    /// Prints the spelling that [`Recipient::parse`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phone(text) | Self::Email(text) => f.write_str(text),
            Self::Jid { user, server } => write!(f, "{user}@{}", server.as_str()),
            Self::Native { provider, id } => write!(f, "{provider}:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::{native_ids, parse_recipient as parse};

    #[test]
    fn a_person_has_one_number_in_three_spellings() {
        let spellings = |text: &str| parse(text).expect("a recipient").spellings();
        let all = ["+15551234567", "15551234567@c.us", "15551234567@s.whatsapp.net"];
        assert_eq!(spellings("+1 (555) 123-4567"), all);
        for text in all {
            let mut found = spellings(text);
            assert_eq!(found[0], text);
            found.sort_unstable();
            assert_eq!(found, all, "{text}");
        }
        for text in ["120363000000000000@g.us", "120363000000000000@c.us", "123456789012345@lid", "a@b.com"] {
            assert_eq!(spellings(text), [text]);
        }
    }

    #[test]
    fn native_ids_are_accepted_only_in_one_spelling() {
        for native in native_ids() {
            for id in native.valid {
                let read = parse(&format!("{}:{id}", native.prefix)).expect("a valid id");
                assert_eq!(parse(&read.to_string()), Ok(read.clone()), "{read}");
                assert!(matches!(read, Recipient::Native { provider, .. } if provider == native.prefix));
            }
            for id in native.invalid {
                let text = format!("{}:{id}", native.prefix);
                assert!(matches!(parse(&text), Err(RecipientError::Invalid(_))), "{text:?}");
            }
        }
    }

    #[test]
    fn every_id_that_fits_its_pattern_is_accepted() {
        use proptest::{
            strategy::{Strategy as _, ValueTree as _},
            test_runner::TestRunner,
        };
        let mut runner = TestRunner::deterministic();
        for native in native_ids() {
            let ids = proptest::string::string_regex(native.pattern).expect("a regular expression");
            for _ in 0..2000 {
                let id = ids.new_tree(&mut runner).expect("an id").current();
                let text = format!("{}:{id}", native.prefix);
                assert!(parse(&text).is_ok(), "{text} fits {}", native.pattern);
            }
        }
    }

    #[test]
    fn every_form_is_parsed_and_printed_canonically() {
        for (text, printed) in [
            ("+15551234567", "+15551234567"),
            ("+1 (555) 123-4567", "+15551234567"),
            ("Ann.Lee@Example.COM", "ann.lee@example.com"),
            ("15551234567@c.us", "15551234567@c.us"),
            ("15551234567@s.whatsapp.net", "15551234567@s.whatsapp.net"),
            ("15551234567@S.WhatsApp.Net", "15551234567@s.whatsapp.net"),
            ("120363000000000000@g.us", "120363000000000000@g.us"),
            ("4915112345678-1546300800@g.us", "4915112345678-1546300800@g.us"),
            ("120363000000000000@newsletter", "120363000000000000@newsletter"),
            ("123456789012345@lid", "123456789012345@lid"),
            ("linq:f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd", "linq:f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd"),
            ("F19EE7B8-8533-4C5C-83EC-4EF8D6D1DDBD", "linq:f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd"),
        ] {
            assert_eq!(parse(text).map(|r| r.to_string()), Ok(printed.to_owned()), "{text}");
        }
    }

    #[test]
    fn invisible_characters_are_removed() {
        for mark in [
            '\u{200b}', '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202c}', '\u{202e}',
            '\u{2060}', '\u{2066}', '\u{2069}', '\u{feff}',
        ] {
            for (text, printed) in [
                (format!("{mark}+15551234567{mark}"), "+15551234567"),
                (format!("+1{mark}5551234567"), "+15551234567"),
                (format!("{mark}ann@example.com{mark}"), "ann@example.com"),
                (format!("1555{mark}1234567@c.us"), "15551234567@c.us"),
            ] {
                assert_eq!(parse(&text).map(|r| r.to_string()), Ok(printed.to_owned()), "{text:?}");
            }
        }
    }

    #[test]
    fn phone_numbers_are_parsed_as_people_write_them() {
        for text in [
            "+1.555.123.4567",
            "+1\u{a0}(555)\u{a0}123\u{2011}4567",
            "+1\u{202f}555\u{2007}123\u{2010}4567",
            "\u{a0}+1 555\u{2013}123\u{2212}4567\u{a0}",
        ] {
            assert_eq!(parse(text).map(|r| r.to_string()), Ok("+15551234567".to_owned()), "{text:?}");
        }
    }

    #[test]
    fn other_invisible_characters_are_named_in_the_error() {
        for (text, named) in [
            ("+1555\u{ad}1234567", "U+00AD"),
            ("+1555\u{0}1234567", "U+0000"),
            ("+1555\n1234567", "U+000A"),
            ("+1555\u{3164}1234567", "U+3164"),
            ("+1555\u{fe0f}1234567", "U+FE0F"),
            ("+1555\u{2028}1234567", "U+2028"),
            ("+1555\u{e0041}1234567", "U+E0041"),
            ("ann\u{a0}lee@example.com", "U+00A0"),
            ("1555\u{202f}1234567@c.us", "U+202F"),
        ] {
            let error = parse(text).expect_err("refused").to_string();
            assert!(error.contains(named), "{text:?}: {error}");
        }
    }

    #[test]
    fn text_that_fits_no_form_is_invalid() {
        for text in [
            "",
            " ",
            "+",
            "+123456",
            "+1234567890123456",
            "+0123456789",
            "+1555abc4567",
            "15551234567",
            "bob",
            "@c.us",
            "abc@c.us",
            "a@b",
            "a b@example.com",
            "linq:",
            "linq:a b",
            "nobody:17",
            "a@-x.com",
            "+1555\n1234567",
        ] {
            assert!(matches!(parse(text), Err(RecipientError::Invalid(_))), "{text:?}");
        }
    }

    #[test]
    fn masked_phone_number_keeps_its_ends() {
        for (number, masked) in
            [("+15551234567", "+1555•••4567"), ("+1234567", "+12•••67"), ("911", "•••"), ("secret", "•••")]
        {
            assert_eq!(masked_number(number), masked, "{number}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_printing_round_trips(text in ".{0,60}") {
            if let Ok(recipient) = parse(&text) {
                proptest::prop_assert_eq!(parse(&recipient.to_string()), Ok(recipient));
            }
        }
    }
}
