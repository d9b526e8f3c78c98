//! The stable codes of problems and warnings, and the stages in which problems occur.

use super::words::words;

words! {
    /// A stable word for programs. A later version may add codes; the status says what kind of problem a new one is.
    Code as "ProblemCode" {
        InvalidRequest = "invalid_request",
        RecipientInvalid = "recipient_invalid",
        Unauthorized = "unauthorized",
        NotFound = "not_found",
        MethodNotAllowed = "method_not_allowed",
        IdempotencyKeyReused = "idempotency_key_reused",
        WrongState = "wrong_state",
        MediaExpired = "media_expired",
        AudioTooLarge = "audio_too_large",
        UnsupportedMediaType = "unsupported_media_type",
        AudioUnreadable = "audio_unreadable",
        AudioInconsistent = "audio_inconsistent",
        AudioUnsupported = "audio_unsupported",
        AudioTooLong = "audio_too_long",
        AudioFormatRequired = "audio_format_required",
        SourceUnreachable = "source_unreachable",
        SourceForbidden = "source_forbidden",
        RecipientUnsupported = "recipient_unsupported",
        UnknownConnection = "unknown_connection",
        ConvertRefused = "convert_refused",
        ReplyUnsupported = "reply_unsupported",
        TextUnsupported = "text_unsupported",
        SpeechRejected = "speech_rejected",
        FormUnavailable = "form_unavailable",
        ConversationClosed = "conversation_closed",
        SpeechUnavailable = "speech_unavailable",
        ProviderRejected = "provider_rejected",
        ProviderUnauthorized = "provider_unauthorized",
        ProviderUnavailable = "provider_unavailable",
        RateLimited = "rate_limited",
        Internal = "internal",
        Overloaded = "overloaded",
        StorageFull = "storage_full",
        QuotaExceeded = "quota_exceeded",
    }
}

impl Code {
    /// The HTTP status of a problem with this code. `docs/errors.md` has a section for each code.
    pub fn status(&self) -> u16 {
        self.about().0
    }

    /// The title of every problem with this code.
    pub fn title(&self) -> &'static str {
        self.about().1
    }

    fn about(&self) -> (u16, &'static str) {
        match self {
            Self::InvalidRequest => (400, "The request is not valid"),
            Self::RecipientInvalid => (400, "The recipient fits no known form"),
            Self::Unauthorized => (401, "The API key is missing or wrong"),
            Self::NotFound => (404, "There is no such thing here"),
            Self::MethodNotAllowed => (405, "This path does not take that method"),
            Self::IdempotencyKeyReused => (409, "The idempotency key belongs to another request"),
            Self::WrongState => (409, "The note is not in a state for that"),
            Self::MediaExpired => (410, "The audio is no longer kept"),
            Self::AudioTooLarge => (413, "The audio is too large"),
            Self::UnsupportedMediaType => (415, "The request body has a type that is not read here"),
            Self::AudioUnreadable => (422, "The audio cannot be read"),
            Self::AudioInconsistent => (422, "The audio contradicts itself"),
            Self::AudioUnsupported => (422, "The audio is of a kind that cannot be handled"),
            Self::AudioTooLong => (422, "The audio is too long"),
            Self::AudioFormatRequired => (422, "Headerless audio needs its format declared"),
            Self::SourceUnreachable => (422, "The audio could not be downloaded"),
            Self::SourceForbidden => (422, "The audio URL is not allowed"),
            Self::RecipientUnsupported => (422, "The recipient cannot be reached over this connection"),
            Self::UnknownConnection => (422, "There is no such connection or route"),
            Self::ConvertRefused => (422, "The audio would have to be converted"),
            Self::ReplyUnsupported => (422, "Replies are not possible over this connection"),
            Self::TextUnsupported => (422, "No connection of the route shows a text"),
            Self::SpeechRejected => (422, "The speech server refused the request"),
            Self::FormUnavailable => (424, "The note can be shown in no form that is allowed"),
            Self::ConversationClosed => {
                (424, "The provider does not let this account write to the recipient for now")
            }
            Self::SpeechUnavailable => (424, "The speech server gave no usable answer"),
            Self::ProviderRejected => (424, "The provider refused the note"),
            Self::ProviderUnauthorized => (424, "The provider does not accept this account's request"),
            Self::ProviderUnavailable => (424, "The provider gave no usable answer"),
            Self::RateLimited => (429, "Too many requests"),
            Self::Internal => (500, "Something went wrong inside the gateway"),
            Self::Overloaded => (503, "The gateway is at its limit"),
            Self::StorageFull => (507, "The gateway's storage is full"),
            Self::QuotaExceeded => (507, "The tenant keeps as much audio as it may"),
            Self::Other(_) => Self::Internal.about(),
        }
    }
}

words! {
    /// The stage of the problem: the request, the download, making speech of a text, reading, encoding or uploading the
    /// audio, sending the note, or a later report of the provider.
    Stage as "Stage" {
        Request = "request",
        Fetch = "fetch",
        Speech = "speech",
        Probe = "probe",
        Encode = "encode",
        Upload = "upload",
        Dispatch = "dispatch",
        Receipt = "receipt",
    }
}

/// A question about an account is no stage of a note: where a note's problem comes from one, it could not be sent.
impl From<voicegate_providers::Stage> for Stage {
    fn from(stage: voicegate_providers::Stage) -> Self {
        match stage {
            voicegate_providers::Stage::Check | voicegate_providers::Stage::Dispatch => Self::Dispatch,
            voicegate_providers::Stage::Upload => Self::Upload,
            voicegate_providers::Stage::Receipt => Self::Receipt,
            voicegate_providers::Stage::Fetch => Self::Fetch,
        }
    }
}

impl From<voicegate_audio::Stage> for Stage {
    fn from(stage: voicegate_audio::Stage) -> Self {
        match stage {
            voicegate_audio::Stage::Probe => Self::Probe,
            voicegate_audio::Stage::Encode => Self::Encode,
        }
    }
}

words! {
    /// The subject of a warning.
    WarningCode as "WarningCode" {
        AudioInconsistent = "audio_inconsistent",
        ReplyUnsupported = "reply_unsupported",
        TextDropped = "text_dropped",
        TextShortened = "text_shortened",
        FormDegraded = "form_degraded",
        ReplyLost = "reply_lost",
        WaveformLost = "waveform_lost",
        PlayIconLost = "play_icon_lost",
    }
}

/// In a plan, the reason of a refusal is listed among the warnings.
impl From<&Code> for WarningCode {
    fn from(code: &Code) -> Self {
        Self::from(code.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn code_of_another_version_is_preserved() {
        let code: Code = from_value(json!("of_tomorrow")).expect("a code");
        assert_eq!(code, Code::Other("of_tomorrow".to_owned()));
        assert_eq!(to_value(&code).expect("JSON"), json!("of_tomorrow"));
        assert_eq!(code.status(), 500);
        assert!(from_value::<Code>(json!(7)).is_err());
    }

    #[test]
    fn codes_and_stages_survive_a_round_trip() {
        for code in Code::ALL {
            assert_eq!(&from_value::<Code>(to_value(code).expect("JSON")).expect("a code"), code);
        }
        for stage in Stage::ALL {
            assert_eq!(&Stage::from(stage.as_str()), stage);
        }
    }
}
