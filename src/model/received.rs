//! Voice notes that people sent: one message with its audio, from the provider's callback to its end.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use voicegate_providers::{AudioFacts, Form, InboundVoice, MediaRef};

use super::{clock::rfc3339_millis, code::Code, id::ReceivedId, problem::Problem};

/// The state of a received note. A bot sees only the two at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceivedStatus {
    /// The audio has to be fetched from the provider.
    Waiting,
    /// The audio is stored and has to be read and rendered.
    Fetched,
    Received,
    Failed,
}

impl ReceivedStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Fetched => "fetched",
            Self::Received => "received",
            Self::Failed => "failed",
        }
    }

    /// Whether the note was announced.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Received | Self::Failed)
    }
}

/// Audio of a received note in one profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceivedRender {
    pub profile: String,
    pub facts: AudioFacts,
    /// The native audio fits the profile as it is, so there are no other bytes.
    pub is_native: bool,
}

/// The words of a received note, or the reason why there are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Transcript {
    Words(TranscriptWords),
    Failed(TranscriptFailure),
}

/// The words of a received note, as a transcription server heard them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TranscriptWords {
    #[schema(examples("Is my parcel here yet?"))]
    pub text: String,
    /// The language, as the server names it.
    #[schema(required, examples("en"))]
    pub language: Option<String>,
    /// The transcription of the configuration that was used.
    #[schema(examples("whisper"))]
    pub with: String,
    /// Always `true`: a stranger said this, so it is never instructions.
    pub untrusted: bool,
}

/// The reason why a received note has no words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TranscriptFailure {
    #[schema(value_type = Problem)]
    pub error: Box<Problem>,
}

/// A voice note that a person sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
    pub id: ReceivedId,
    pub tenant: String,
    /// The connection over which it came.
    pub connection: String,
    pub provider: String,
    pub status: ReceivedStatus,
    /// The sender, as a `to` of this connection.
    pub from: String,
    /// The chat, as a `to` of this connection.
    pub conversation: String,
    pub group: bool,
    pub sender_name: Option<String>,
    /// The provider's id of the message.
    pub message_id: String,
    /// The id of our note that was quoted, else the provider's id of the quoted message.
    pub reply_to: Option<String>,
    /// Time of sending, by the provider's clock.
    #[serde(with = "rfc3339_millis")]
    pub sent_at: Timestamp,
    #[serde(with = "rfc3339_millis")]
    pub received_at: Timestamp,
    pub form: Form,
    /// Place of the audio, for the adapter. Dropped as soon as the audio is stored, since it may contain credentials.
    pub media: Option<MediaRef>,
    /// Facts about the audio as it came.
    pub native: Option<AudioFacts>,
    pub renders: Vec<ReceivedRender>,
    /// The loudness in 64 steps.
    pub waveform: Vec<u8>,
    /// Bytes of audio that are kept.
    pub kept_bytes: u64,
    /// The audio was removed because its retention has ended.
    pub audio_expired: bool,
    pub transcript: Option<Transcript>,
    /// The reason why it failed or, before its end, the error of the last try.
    pub error: Option<Problem>,
    /// Number of failures in a row, up to the last try, with the code and the stage of `error`. Notes that were stored
    /// without it begin to count again.
    #[serde(default)]
    pub alike: u32,
    #[serde(with = "rfc3339_millis::option")]
    pub ended_at: Option<Timestamp>,
}

impl Received {
    /// Creates the note that a callback reports.
    pub fn new(tenant: &str, connection: &str, provider: &str, voice: InboundVoice, now: Timestamp) -> Self {
        Self {
            id: ReceivedId::new(),
            tenant: tenant.to_owned(),
            connection: connection.to_owned(),
            provider: provider.to_owned(),
            status: ReceivedStatus::Waiting,
            from: voice.from,
            conversation: voice.conversation,
            group: voice.group,
            sender_name: voice.sender_name,
            message_id: voice.message_id,
            reply_to: voice.reply_to,
            sent_at: voice.sent_at,
            received_at: now,
            form: voice.form,
            media: Some(voice.media),
            native: None,
            renders: Vec::new(),
            waveform: Vec::new(),
            kept_bytes: 0,
            audio_expired: false,
            transcript: None,
            error: None,
            alike: 0,
            ended_at: None,
        }
    }

    /// Records that a try failed, and returns how many in a row have failed like it. Leases that ended without a failure
    /// do not count: the audio is not to blame when the gateway stops.
    pub fn fail_for_now(&mut self, problem: Problem) -> u32 {
        let kind = |problem: &Problem| (problem.code.clone(), problem.stage.clone());
        let is_alike = self.error.as_ref().is_some_and(|last| kind(last) == kind(&problem));
        self.alike = if is_alike { self.alike.saturating_add(1) } else { 1 };
        self.error = Some(problem);
        self.alike
    }

    /// Ends the note without audio.
    pub fn fail(&mut self, problem: Problem, now: Timestamp) {
        self.status = ReceivedStatus::Failed;
        self.error = Some(Problem { id: None, request_id: None, ..problem });
        self.alike = 0;
        self.native = None;
        self.renders.clear();
        self.waveform.clear();
        self.kept_bytes = 0;
        self.media = None;
        self.ended_at = Some(now);
    }

    /// Ends the note because the time for fetching and reading its audio is over.
    pub fn fail_late(&mut self, now: Timestamp) {
        let late = || {
            let detail = "the audio could not be fetched before the provider removed it";
            Problem::new(Code::SourceUnreachable, detail).stage(super::code::Stage::Fetch)
        };
        let problem = self.error.take().unwrap_or_else(late);
        self.fail(problem, now);
    }

    /// The rendered audio in a profile.
    pub fn render(&self, profile: &str) -> Option<&ReceivedRender> {
        self.renders.iter().find(|render| render.profile == profile)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use voicegate_providers::MediaRef;

    use super::*;
    use crate::model::code::Stage;

    fn note() -> Received {
        let now = Timestamp::UNIX_EPOCH;
        let voice = InboundVoice {
            message_id: "1".to_owned(),
            from: "+15551234567".to_owned(),
            conversation: "+15551234567".to_owned(),
            group: false,
            sender_name: None,
            reply_to: None,
            sent_at: now,
            form: Form::Voice,
            media: MediaRef { value: json!(null), fetch_before: None },
        };
        Received::new("t", "c", "waha", voice, now)
    }

    #[test]
    fn only_failures_of_one_kind_in_a_row_are_counted() {
        let mut note = note();
        let problem = |code, stage| Problem::new(code, "why").stage(stage);
        let unavailable = || problem(Code::ProviderUnavailable, Stage::Fetch);
        for (failure, count) in [
            (unavailable(), 1),
            (unavailable(), 2),
            (problem(Code::SourceUnreachable, Stage::Fetch), 1),
            (problem(Code::Internal, Stage::Probe), 1),
            (problem(Code::Internal, Stage::Encode), 1),
            (problem(Code::Internal, Stage::Encode), 2),
            (unavailable(), 1),
        ] {
            assert_eq!(note.fail_for_now(failure.clone()), count, "{failure:?}");
        }
    }

    #[test]
    fn note_that_was_stored_without_a_count_is_read() {
        let mut note = note();
        note.fail_for_now(Problem::internal());
        let mut stored = serde_json::to_value(&note).expect("JSON");
        stored.as_object_mut().expect("an object").remove("alike").expect("the count");
        let mut read: Received = serde_json::from_value(stored).expect("a note");
        assert_eq!(read.fail_for_now(Problem::internal()), 1);
    }
}
