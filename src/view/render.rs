//! Rendered audio, as the API shows it.

use serde::Serialize;
use utoipa::ToSchema;

use super::{AudioFacts, SentAudio, schema};

/// Rendered audio with its facts.
#[derive(Debug, Serialize, ToSchema)]
pub struct RenderedAudio {
    pub audio: RenderedFacts,
    /// The audio in base64.
    #[schema(content_encoding = "base64", examples("T2dnUwAC"))]
    pub data: String,
}

/// Facts about rendered audio.
#[derive(Debug, Serialize, ToSchema)]
pub struct RenderedFacts {
    /// The audio of the request.
    pub source: AudioFacts,
    /// The audio that would be sent.
    pub sent: SentAudio,
    /// The loudness in 64 steps.
    #[schema(value_type = schema::Waveform)]
    pub waveform: Vec<u8>,
    /// The checks that the audio passed; none if it is the source itself.
    #[schema(examples("ogg_pages"))]
    pub checks: Vec<String>,
}
