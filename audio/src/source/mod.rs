//! Hints of the caller about a source, and the facts that reading it yields.

pub(crate) mod findings;
pub(crate) mod presets;

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use voicegate_providers::{AudioFacts, Container};

use crate::formats::opus::OpusDetail;
use crate::formats::patched::PatchedFile;
use crate::source::findings::Findings;

/// Hints of the caller. The bytes decide; only headerless samples need `format`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hints {
    pub filename: Option<String>,
    pub mime_type: Option<String>,
    pub format: Option<PcmFormat>,
}

/// The format of headerless samples. It is read from an object or from the name of a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PcmFormat {
    pub encoding: PcmEncoding,
    /// Sample rate in Hz.
    #[cfg_attr(feature = "schema", schema(minimum = 4000, maximum = 192_000, examples(24_000)))]
    pub sample_rate: u32,
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 8, examples(1)))]
    pub channels: u16,
}

/// Encoding of a sample: integers or floats of a number of bits, `le` with the least significant byte first, `be` with
/// the most significant first, or the mu-law and A-law of telephony.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum PcmEncoding {
    S16le,
    S16be,
    S24le,
    S32le,
    F32le,
    U8,
    Mulaw,
    Alaw,
}

impl PcmEncoding {
    /// ffmpeg's name of the raw demuxer.
    pub fn demuxer(self) -> &'static str {
        match self {
            Self::S16le => "s16le",
            Self::S16be => "s16be",
            Self::S24le => "s24le",
            Self::S32le => "s32le",
            Self::F32le => "f32le",
            Self::U8 => "u8",
            Self::Mulaw => "mulaw",
            Self::Alaw => "alaw",
        }
    }

    pub fn bytes_per_sample(self) -> u64 {
        match self {
            Self::U8 | Self::Mulaw | Self::Alaw => 1,
            Self::S16le | Self::S16be => 2,
            Self::S24le => 3,
            Self::S32le | Self::F32le => 4,
        }
    }
}

impl<'de> Deserialize<'de> for PcmFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Declared)
    }
}

/// A format as it arrives. A [`PcmFormat`] is always within its limits.
struct Declared;

impl<'de> Visitor<'de> for Declared {
    type Value = PcmFormat;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with encoding, sample_rate and channels, or the name of a preset")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<PcmFormat, E> {
        presets::named(name).map_err(E::custom)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<PcmFormat, M::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            encoding: PcmEncoding,
            #[serde(deserialize_with = "whole")]
            sample_rate: u32,
            #[serde(deserialize_with = "whole")]
            channels: u16,
        }
        let Fields { encoding, sample_rate, channels } =
            Fields::deserialize(MapAccessDeserializer::new(map))?;
        PcmFormat { encoding, sample_rate, channels }.checked().map_err(de::Error::custom)
    }
}

/// Accepts 24000 and 24000.0, which are the same number in JSON and both integers in JSON Schema.
fn whole<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..1e15).contains(float));
    let whole = number.as_u64().or_else(|| float.map(|float| float as u64));
    whole
        .and_then(|whole| T::try_from(whole).ok())
        .ok_or_else(|| de::Error::custom(format!("expected a whole number, not {number}")))
}

impl PcmFormat {
    /// Returns the format if the engine supports it.
    ///
    /// # Errors
    /// A sentence for the caller that names the violated limit.
    pub fn checked(self) -> Result<Self, String> {
        if !(4_000..=192_000).contains(&self.sample_rate) {
            return Err(format!("sample_rate must be from 4000 to 192000, not {}", self.sample_rate));
        }
        if !(1..=8).contains(&self.channels) {
            return Err(format!("channels must be from 1 to 8, not {}", self.channels));
        }
        Ok(self)
    }
}

/// The facts about a source that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    pub facts: AudioFacts,
    /// 64 values from 0 to 100 for the bars of a voice bubble. Empty if the source was not decoded.
    pub waveform: Vec<u8>,
    pub detail: SourceDetail,
    /// Further findings, some of which need decoding.
    #[serde(default)]
    pub findings: Findings,
}

/// Details that planning needs beyond the facts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceDetail {
    /// Four characters for the variant of the container: `RIFF`, `M4A `, `qt  `, `AIFC`, ...
    pub flavour: String,
    /// The container's structure was checked and is faultless. Other sources are never sent untouched.
    pub intact: bool,
    /// Index of the audio stream in use among the audio streams: the first that can be decoded.
    #[serde(default)]
    pub track: u32,
    /// Number of other streams, without cover pictures.
    pub other_streams: u32,
    /// Patched copy for decoders, if they would misread the source.
    #[serde(default, rename = "plain", skip_serializing_if = "Option::is_none")]
    pub patched: Option<PatchedFile>,
    /// Several recordings of one kind follow each other, without a common clock.
    #[serde(default)]
    pub chained: bool,
    /// The stated times are wrong, so samples are counted instead.
    #[serde(default)]
    pub counted: bool,
    /// Decoders get a copy of the frames alone, because the data around them is wrong or unknown.
    #[serde(default)]
    pub frames_only: bool,
    /// The rate, channels or kind of the frames change within the file.
    #[serde(default)]
    pub varies: bool,
    /// An edit list cuts out parts of the sound, which must not be sent.
    #[serde(default)]
    pub edited: bool,
    /// Bytes of tags, pictures included.
    #[serde(default)]
    pub tag_bytes: u64,
    pub format: Option<PcmFormat>,
    /// Details of Opus, for Ogg and Matroska with one Opus stream that could be read to its end.
    pub opus: Option<OpusDetail>,
    /// For MP4: whether the index (`moov`) comes before the audio, so that playing can start early.
    pub moov_first: Option<bool>,
    /// For AAC in MP4: the MPEG-4 audio object type (2 is LC, 5 and 29 are HE).
    pub aac_object: Option<u8>,
}

/// The exact media type of a container with a codec.
pub(crate) fn mime_type(container: Container, codec: &str) -> &'static str {
    match (container, codec) {
        (Container::Mp3, _) => "audio/mpeg",
        (Container::Mp4, _) => "audio/mp4",
        (Container::Adts, _) => "audio/aac",
        (Container::Ogg, "opus") => "audio/ogg; codecs=opus",
        (Container::Ogg, "vorbis") => "audio/ogg; codecs=vorbis",
        (Container::Ogg, "flac") => "audio/ogg; codecs=flac",
        (Container::Ogg, _) => "audio/ogg",
        (Container::Webm, _) => "audio/webm",
        (Container::Matroska, _) => "audio/x-matroska",
        (Container::Wav, _) => "audio/wav",
        (Container::Aiff, _) => "audio/aiff",
        (Container::Caf, _) => "audio/x-caf",
        (Container::Flac, _) => "audio/flac",
        (Container::Amr, "amr_wb") => "audio/amr-wb",
        (Container::Amr, _) => "audio/amr",
        (Container::Pcm, _) => "audio/pcm",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn declared_numbers_are_integers_in_any_notation() {
        let declared = |rate| json!({ "encoding": "s16le", "sample_rate": rate, "channels": 1.0 });
        for rate in [json!(24000), json!(24000.0), json!(2.4e4)] {
            assert_eq!(from_value::<PcmFormat>(declared(rate)).expect("a format").sample_rate, 24_000);
        }
        for rate in [json!(24000.5), json!(-24000), json!(1e300), json!("24000"), json!(null)] {
            assert!(from_value::<PcmFormat>(declared(rate.clone())).is_err(), "{rate}");
        }
    }
}
