//! The plan for a note.

use serde::Serialize;
use utoipa::ToSchema;
use voicegate_providers as providers;

use super::{AudioFacts, schema};
use crate::model::{
    note::Warning,
    plan::{Outlook, Plan, Sends},
};
use voicegate_audio::{Foreseen, Work};

/// The plan for a note: what would happen on each connection of its route.
#[derive(Debug, Serialize, ToSchema)]
pub struct VoicePlan {
    /// The audio as it was received.
    pub audio: AudioFacts,
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
    /// `null` if the note would be refused; the same is true for the next two fields.
    #[schema(required)]
    pub work: Option<Work>,
    /// The audio that would be sent.
    #[schema(required)]
    pub audio: Option<PlannedAudio>,
    /// How the recipient would see it.
    #[schema(required, value_type = Option<schema::Form>)]
    pub form: Option<providers::Form>,
    /// The reasons why it would be refused, or what would be left out.
    pub reasons: Vec<Warning>,
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
    /// In Hz. For Opus, the rate of the original that the header states.
    #[schema(examples(16_000))]
    pub sample_rate: u32,
    #[schema(minimum = 1, examples(1))]
    pub channels: u16,
}

impl From<&Plan> for VoicePlan {
    fn from(plan: &Plan) -> Self {
        let connections = plan.connections.iter().map(Into::into).collect();
        Self { audio: (&plan.source.facts).into(), connections }
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
            work: sends.map(|sends| sends.work),
            audio: sends.map(|Sends { audio, .. }| audio.into()),
            form: sends.map(|sends| sends.form),
            reasons: outlook.reasons.clone(),
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
