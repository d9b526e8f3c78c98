//! Errors of the audio engine.

/// A failure of the audio engine. `detail` is written for the caller: it says what to do, and contains no file path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct AudioError {
    pub kind: AudioErrorKind,
    pub detail: String,
    pub stage: Stage,
}

/// The stage in which the engine failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the source.
    Probe,
    /// Producing a file from the source.
    Encode,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Encode => "encode",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioErrorKind {
    /// The source is no audio, or is damaged, truncated or empty.
    Unreadable,
    /// No codec or container that can be converted, or no audio stream.
    Unsupported,
    TooLong,
    TooLarge,
    /// The source consists of headerless samples, and the caller did not declare their format.
    FormatRequired,
    /// The caller permits no conversion, and the target needs a new encoding.
    ConvertRefused,
    /// The queue is full; nothing was started.
    Overloaded,
    /// ffmpeg was killed, crashed or gave up on this audio without blaming it, and works with other audio.
    Died,
    /// ffmpeg took too long for this audio, and works with other audio: the machine is busy, or the file never ends.
    Slow,
    /// No audio can be processed at the moment: ffmpeg is missing, cannot be started or does not work, or no working
    /// files can be written.
    Outage,
    /// A fault of ours: a produced file that failed verification, or a bug.
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

    /// Whether the failure is temporary as far as is known, and says nothing certain about the audio.
    pub fn is_for_now(self) -> bool {
        matches!(self, Self::Died | Self::Slow | Self::Outage)
    }

    /// Whether the failure is a verdict on the audio, which a second run has to confirm.
    pub(crate) fn is_verdict(self) -> bool {
        matches!(self, Self::Unreadable | Self::Unsupported | Self::TooLong)
    }
}

impl AudioError {
    pub(crate) fn probe(kind: AudioErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), stage: Stage::Probe }
    }

    pub(crate) fn encode(kind: AudioErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), stage: Stage::Encode }
    }

    /// ffmpeg cannot decode a test tone either.
    pub(crate) fn outage(stage: Stage) -> Self {
        let detail = "ffmpeg does not work at the moment, whatever the audio".to_owned();
        Self { kind: AudioErrorKind::Outage, detail, stage }
    }

    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}
