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
    /// ffmpeg ended on this audio without a reason that could be held against it: killed, crashed, silent. It works with
    /// other audio.
    Died,
    /// ffmpeg took too long over this audio, and not over other audio: a busy machine, or a file that never ends.
    Slow,
    /// No audio can be read or made now, whatever it is: ffmpeg is missing, cannot be started or does not work, or there
    /// is no room for working files.
    Outage,
    /// Our fault: a result that did not prove right, or a mistake.
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
            Self::Died | Self::Slow | Self::Outage | Self::Internal => "internal",
        }
    }

    /// Whether it is a moment's trouble that says nothing sure about the audio, as far as is known.
    pub fn is_for_now(self) -> bool {
        matches!(self, Self::Died | Self::Slow | Self::Outage)
    }

    /// Whether it is a verdict on the audio, which another run has to agree with.
    pub(crate) fn is_verdict(self) -> bool {
        matches!(self, Self::Unreadable | Self::Unsupported | Self::TooLong)
    }
}

impl AudioError {
    pub(crate) fn probe(kind: AudioErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), stage: "probe" }
    }

    pub(crate) fn encode(kind: AudioErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), stage: "encode" }
    }

    /// ffmpeg does not get through a tone either.
    pub(crate) fn outage(stage: &'static str) -> Self {
        let detail = "ffmpeg does not work at the moment, whatever the audio".to_owned();
        Self { kind: AudioErrorKind::Outage, detail, stage }
    }

    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}
