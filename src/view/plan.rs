//! The plan for a note.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use voicegate_providers as providers;

use super::{AudioFacts, schema};
use crate::model::{
    clock::rfc3339_millis,
    note::Warning,
    plan::{Outlook, Plan, Rung},
};
use voicegate_audio::{Foreseen, Work};

/// The plan for a note: what would happen on each connection of its route.
#[derive(Debug, Serialize, ToSchema)]
pub struct VoicePlan {
    /// The audio as it was received. `null` for speech that was not made yet: its length is not known.
    #[schema(required)]
    pub audio: Option<AudioFacts>,
    /// The connections in the order of the route. The first that is not refused would be used.
    pub connections: Vec<ConnectionPlan>,
}

/// The plan for one connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionPlan {
    pub connection: String,
    /// The provider of the connection.
    #[schema(examples("linq"))]
    pub provider: String,
    pub verdict: Verdict,
    /// The profile that the audio is judged by.
    #[schema(examples("linq-1"))]
    pub profile: String,
    /// `null` if the note would be refused, if only its text would be shown, or for speech that was not made yet; the same
    /// is true for the next field.
    #[schema(required)]
    pub work: Option<Work>,
    /// The audio that would be sent.
    #[schema(required)]
    pub audio: Option<PlannedAudio>,
    /// The form in which the recipient would see the note. `null` if it would be refused.
    #[schema(required, value_type = Option<schema::Form>)]
    pub form: Option<providers::Form>,
    /// Every form that the connection has, from the best to the last resort.
    pub forms: Vec<PlannedForm>,
    /// The reasons of a refusal, or the parts of the note that would be left out.
    pub reasons: Vec<Warning>,
}

/// A form in which a connection shows notes, and whether this one would be shown in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlannedForm {
    #[schema(value_type = schema::Form)]
    pub form: providers::Form,
    /// The audio profile of this form. `null` if a text replaces the audio.
    #[schema(required, examples("linq-1"))]
    pub profile: Option<String>,
    /// The largest file that the provider takes.
    #[schema(examples(10_000_000))]
    pub max_bytes: u64,
    /// The longest audio that the provider takes.
    #[schema(required)]
    pub max_duration_ms: Option<u64>,
    /// The longest text in characters: beside the audio, or in its place. `null` where there is none.
    #[schema(required, examples(1024))]
    pub caption: Option<usize>,
    /// The note would be shown in this form.
    pub chosen: bool,
    /// Whether `text` would be shown whole in this form. `null` where it would not be shown there at all.
    #[schema(required)]
    pub caption_fits: Option<bool>,
    /// The reason why the note cannot be shown in this form. `null` if it can.
    #[schema(required, examples("the recipient does not take voice messages"))]
    pub reason: Option<String>,
    /// When a refusal of the recipient is forgotten.
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// `ok`: the note would be sent as requested. `warning`: it would be sent, but something would be left out. `refused`:
/// it would not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Warning,
    Refused,
}

/// Audio that has not been made yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlannedAudio {
    #[schema(value_type = schema::Container)]
    pub container: providers::Container,
    /// The codec, by the name that ffmpeg uses.
    #[schema(value_type = String, examples("opus"))]
    pub codec: providers::Codec,
    #[schema(examples("audio/ogg; codecs=opus"))]
    pub mime_type: String,
    #[schema(examples(9870))]
    pub duration_ms: u64,
    /// Exact if the bytes are not changed, otherwise an estimate.
    #[schema(examples(30_200))]
    pub size_bytes: u64,
    /// Sample rate in Hz. For Opus, the rate of the original that the header states.
    #[schema(examples(16_000))]
    pub sample_rate: u32,
    #[schema(minimum = 1, examples(1))]
    pub channels: u16,
}

impl From<&Plan> for VoicePlan {
    fn from(plan: &Plan) -> Self {
        let connections = plan.connections.iter().map(Into::into).collect();
        Self { audio: plan.source.as_ref().map(|source| (&source.facts).into()), connections }
    }
}

impl From<&Outlook> for ConnectionPlan {
    fn from(outlook: &Outlook) -> Self {
        let sends = outlook.sends.as_ref();
        Self {
            connection: outlook.connection.clone(),
            provider: outlook.provider.to_owned(),
            verdict: match sends {
                None => Verdict::Refused,
                Some(_) if outlook.reasons.is_empty() => Verdict::Ok,
                Some(_) => Verdict::Warning,
            },
            profile: outlook.profile.to_owned(),
            work: sends.and_then(|sends| sends.audio.as_ref()).map(|(work, _)| *work),
            audio: sends.and_then(|sends| sends.audio.as_ref()).map(|(_, audio)| audio.into()),
            form: sends.map(|sends| sends.form),
            forms: outlook.forms.iter().map(Into::into).collect(),
            reasons: outlook.reasons.clone(),
        }
    }
}

impl From<&Rung> for PlannedForm {
    fn from(rung: &Rung) -> Self {
        Self {
            form: rung.support.form,
            profile: rung.support.profile.clone(),
            max_bytes: rung.support.max_bytes,
            max_duration_ms: rung.support.max_duration_ms,
            caption: rung.support.caption,
            chosen: rung.chosen,
            caption_fits: rung.caption_fits,
            reason: rung.reason.clone(),
            until: rung.until,
        }
    }
}

impl From<&Foreseen> for PlannedAudio {
    fn from(audio: &Foreseen) -> Self {
        Self {
            container: audio.container,
            codec: audio.codec.clone(),
            mime_type: audio.mime_type().to_owned(),
            duration_ms: audio.duration_ms,
            size_bytes: audio.size_bytes,
            sample_rate: audio.sample_rate,
            channels: audio.channels,
        }
    }
}
