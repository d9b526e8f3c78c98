//! Why audio could not be read or made.

/// A failure of the audio engine. `detail` is for the caller: it says what to do and names no path of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct AudioError {
    pub kind: AudioErrorKind,
    pub detail: String,
    /// `probe` while the source is read, `encode` while something is made of it.
    pub stage: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioErrorKind {
    /// Not audio, damaged, cut off or empty.
    Unreadable,
    /// Audio that no step can handle, or no audio stream at all.
    Unsupported,
    TooLong,
    TooLarge,
    /// Headerless samples whose format the caller did not declare.
    FormatRequired,
    /// `convert = never`, and the target needs a re-encoding.
    ConvertRefused,
    /// More work is waiting than the engine takes on; nothing was started.
    Overloaded,
    /// Our fault: no ffmpeg, no disk, or a result that did not prove right.
    Internal,
}

impl AudioErrorKind {
    /// The stable code of the HTTP API.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreadable => "audio_unreadable",
            Self::Unsupported => "audio_unsupported",
            Self::TooLong => "audio_too_long",
            Self::TooLarge => "audio_too_large",
            Self::FormatRequired => "audio_format_required",
            Self::ConvertRefused => "convert_refused",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
        }
    }
}

impl AudioError {
    pub(super) fn probe(kind: AudioErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), stage: "probe" }
    }

    pub(super) fn encode(kind: AudioErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), stage: "encode" }
    }

    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}
