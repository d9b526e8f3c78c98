//! Facts about a piece of audio, as plain data that is shared with the gateway's audio engine.

use serde::{Deserialize, Serialize};

/// The wrapper around the audio, as found in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    Mp3,
    Mp4,
    Adts,
    Ogg,
    Webm,
    Matroska,
    Wav,
    Aiff,
    Caf,
    Flac,
    Amr,
    /// Headerless samples whose format the caller declared.
    Pcm,
}

/// A codec by ffmpeg's name for it (`aac`, `opus`, `pcm_s16le`, ...).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Codec(pub String);

impl Codec {
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Whether this is codec `name`.
    pub fn is(&self, name: &str) -> bool {
        self.0 == name
    }

    /// Linear PCM, integer or float; not A-law, mu-law or ADPCM.
    pub fn is_linear_pcm(&self) -> bool {
        ["pcm_s", "pcm_u", "pcm_f"].iter().any(|prefix| self.0.starts_with(prefix))
    }
}

/// Measured on bytes, never taken from a caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudioFacts {
    pub container: Container,
    pub codec: Codec,
    /// The exact media type that belongs to these bytes, parameters included (`audio/ogg; codecs=opus`).
    pub mime_type: String,
    /// Length of the decoded audio in milliseconds.
    pub duration_ms: u64,
    pub size_bytes: u64,
    /// Sample rate in Hz. For Opus it is the original rate stated in the header.
    pub sample_rate: u32,
    pub channels: u16,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl AudioFacts {
    /// The file name extension that belongs to these bytes, without its dot. Providers guess types from
    /// names, so the gateway names every file itself.
    pub fn extension(&self) -> &'static str {
        match self.container {
            Container::Mp3 => "mp3",
            Container::Mp4 => "m4a",
            Container::Adts => "aac",
            Container::Ogg => "ogg",
            Container::Webm => "webm",
            Container::Matroska => "mka",
            Container::Wav => "wav",
            Container::Aiff => "aiff",
            Container::Caf => "caf",
            Container::Flac => "flac",
            Container::Amr => "amr",
            Container::Pcm => "pcm",
        }
    }
}
