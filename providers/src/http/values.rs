//! The values that placeholders stand for.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::recipe::{Format, Kind, Unit, Waveform};
use crate::{JidServer, Recipient};

impl Kind {
    const ALL: [Self; 7] =
        [Self::Phone, Self::Email, Self::User, Self::Group, Self::Newsletter, Self::Hidden, Self::Native];

    /// The kinds that the format has a spelling for, where the recipe names none.
    pub fn usual(format: Format) -> Vec<Self> {
        match format {
            Format::E164 | Format::Digits => vec![Self::Phone, Self::User, Self::Native],
            Format::User | Format::LinkedUser => {
                Self::ALL.into_iter().filter(|kind| *kind != Self::Email).collect()
            }
            Format::Raw => Self::ALL.to_vec(),
        }
    }

    pub fn of(to: &Recipient) -> Option<Self> {
        Some(match to {
            Recipient::Phone(_) => Self::Phone,
            Recipient::Email(_) => Self::Email,
            Recipient::Jid { server, .. } => match server {
                JidServer::User | JidServer::LinkedUser => Self::User,
                JidServer::Group => Self::Group,
                JidServer::Newsletter => Self::Newsletter,
                JidServer::Hidden => Self::Hidden,
            },
            Recipient::Native { provider, .. } if provider == super::NAME => Self::Native,
            Recipient::Native { .. } => return None,
        })
    }

    /// The name in `capabilities.recipients`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Email => "email",
            Self::User => "c.us",
            Self::Group => "g.us",
            Self::Newsletter => "newsletter",
            Self::Hidden => "lid",
            Self::Native => super::NAME,
        }
    }

    /// An example in the spelling of `to`.
    pub fn example(self) -> &'static str {
        match self {
            Self::Phone => "+15551234567",
            Self::Email => "an e-mail address",
            Self::User => "...@c.us",
            Self::Group => "...@g.us",
            Self::Newsletter => "...@newsletter",
            Self::Hidden => "...@lid",
            Self::Native => "http:ID",
        }
    }
}

impl Format {
    /// The form of a recipient in requests. Only people with a number have several forms.
    pub fn on_the_wire(self, to: &Recipient) -> String {
        let number = match to {
            Recipient::Phone(number) => number.trim_start_matches('+'),
            Recipient::Jid { user, server: JidServer::User | JidServer::LinkedUser } => user,
            Recipient::Jid { user, server } => return format!("{user}@{}", server.as_str()),
            Recipient::Email(text) => return text.clone(),
            Recipient::Native { id, .. } => return id.clone(),
        };
        match (self, to) {
            (Self::E164, _) | (Self::Raw, Recipient::Phone(_)) => format!("+{number}"),
            (Self::Digits, _) => number.to_owned(),
            (Self::User | Self::Raw, _) => format!("{number}@c.us"),
            (Self::LinkedUser, _) => format!("{number}@s.whatsapp.net"),
        }
    }
}

impl Unit {
    /// A length; whole seconds are rounded up, because 0 would show none.
    pub fn of(self, duration_ms: u64) -> Value {
        match self {
            Self::Ms => json!(duration_ms),
            Self::S => json!(duration_ms.div_ceil(1000).max(1)),
            Self::SFloat => {
                #[expect(clippy::cast_precision_loss, reason = "notes are shorter than 2^52 milliseconds")]
                let seconds = duration_ms as f64 / 1000.0;
                json!(seconds)
            }
        }
    }
}

impl Waveform {
    /// `bars` are of 0 to 100.
    pub fn of(self, bars: &[u8]) -> Option<Value> {
        let scaled = |most: u16| bars.iter().map(move |bar| u16::from((*bar).min(100)) * most / 100);
        let bytes = |most: u16| {
            let bytes: Vec<u8> = scaled(most).map(|bar| u8::try_from(bar).unwrap_or(u8::MAX)).collect();
            Value::from(BASE64_STANDARD.encode(bytes))
        };
        Some(match self {
            Self::None => return None,
            Self::List100 => scaled(100).collect::<Vec<_>>().into(),
            Self::Base64By100 => bytes(100),
            Self::Base64By127 => bytes(127),
            Self::Base64By255 => bytes(255),
            Self::List1024 => {
                bars.iter().map(|bar| u64::from((*bar).min(100)) * 1024 / 100).collect::<Vec<_>>().into()
            }
            Self::Flag => true.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_recipient;

    #[test]
    fn a_recipient_is_spelt_as_the_format_says() {
        for (format, text, expected) in [
            (Format::E164, "+15551234567", "+15551234567"),
            (Format::E164, "15551234567@s.whatsapp.net", "+15551234567"),
            (Format::Digits, "+15551234567", "15551234567"),
            (Format::Digits, "15551234567@c.us", "15551234567"),
            (Format::User, "+15551234567", "15551234567@c.us"),
            (Format::User, "120363000000000000@g.us", "120363000000000000@g.us"),
            (Format::LinkedUser, "15551234567@c.us", "15551234567@s.whatsapp.net"),
            (Format::Raw, "+15551234567", "+15551234567"),
            (Format::Raw, "15551234567@s.whatsapp.net", "15551234567@c.us"),
            (Format::Raw, "Ann@Example.com", "ann@example.com"),
            (Format::Raw, "http:U4af4980629", "U4af4980629"),
        ] {
            assert_eq!(format.on_the_wire(&parse_recipient(text).expect(text)), expected, "{text}");
        }
    }

    #[test]
    fn lengths_and_waveforms_have_the_units_of_the_recipe() {
        assert_eq!(Unit::Ms.of(2140), json!(2140));
        assert_eq!(Unit::S.of(2140), json!(3));
        assert_eq!(Unit::S.of(0), json!(1));
        assert_eq!(Unit::SFloat.of(2140), json!(2.14));
        let bars = [0, 50, 100];
        assert_eq!(Waveform::List100.of(&bars), Some(json!([0, 50, 100])));
        assert_eq!(Waveform::List1024.of(&bars), Some(json!([0, 512, 1024])));
        assert_eq!(Waveform::Base64By100.of(&bars), Some(json!(BASE64_STANDARD.encode([0, 50, 100]))));
        assert_eq!(Waveform::Base64By127.of(&bars), Some(json!(BASE64_STANDARD.encode([0, 63, 127]))));
        assert_eq!(Waveform::Base64By255.of(&bars), Some(json!(BASE64_STANDARD.encode([0, 127, 255]))));
        assert_eq!(Waveform::Flag.of(&bars), Some(json!(true)));
        assert_eq!(Waveform::None.of(&bars), None);
    }
}
