//! `speech`: a text that a server speaks.

use serde::{Deserialize, Deserializer, de};
use utoipa::ToSchema;

use crate::model::note::SpokenText;

/// Slowest and fastest speed.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.25..=4.0;

/// A text to be spoken by a server of the tenant's configuration.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Speech)]
pub struct Speech {
    /// The text. It is also the `text` of the note, unless that is given.
    #[serde(deserialize_with = "text")]
    #[schema(min_length = 1, pattern = r"\S", examples("Your parcel is here."))]
    text: String,
    /// The speech server, by its name. May be left out if only one is configured.
    #[serde(default, deserialize_with = "name")]
    #[schema(min_length = 1, pattern = r"\S", examples("voice"))]
    with: Option<String>,
    /// A voice of that server. Default: that of its configuration.
    #[serde(default, deserialize_with = "name")]
    #[schema(min_length = 1, pattern = r"\S", examples("alloy"))]
    voice: Option<String>,
    /// How the text is to be spoken, for servers that take this.
    #[serde(default, deserialize_with = "name")]
    #[schema(min_length = 1, pattern = r"\S", examples("Speak calmly, like a good friend."))]
    instructions: Option<String>,
    /// 1 is the usual speed of the voice. Some servers take a narrower range.
    #[serde(default, deserialize_with = "speed")]
    #[schema(minimum = 0.25, maximum = 4, default = 1.0)]
    speed: Option<f64>,
}

impl From<Speech> for SpokenText {
    fn from(speech: Speech) -> Self {
        let Speech { text, with, voice, instructions, speed } = speech;
        Self { text, with: with.unwrap_or_default(), voice, instructions, speed }
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        Err(de::Error::custom("expected a text that is not empty"))
    } else {
        Ok(text)
    }
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if text.trim().is_empty() => Err(de::Error::custom("expected a text that is not empty")),
        text => Ok(text),
    }
}

fn speed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match Option::<f64>::deserialize(deserializer)? {
        Some(speed) if !SPEEDS.contains(&speed) => {
            Err(de::Error::custom("expected a speed from 0.25 to 4, where 1 is the usual one"))
        }
        speed => Ok(speed),
    }
}
