//! Received notes, as the API and events show them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use voicegate_providers as providers;

use super::{AudioFacts, schema};
use crate::model::{
    clock::rfc3339_millis,
    id::ReceivedId,
    problem::Problem,
    received::{Received, ReceivedStatus, Transcript},
};

/// A voice note that a person sent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReceivedNote {
    pub id: ReceivedId,
    pub status: ReceivedState,
    /// The person who sent it, as a `to` for `via`.
    #[schema(examples("+15551234567"))]
    pub from: String,
    /// The chat in which it was sent, as a `to` for `via`: the group, or the person again.
    #[schema(examples("+15551234567"))]
    pub conversation: String,
    /// Whether the chat is a group.
    pub group: bool,
    /// The name by which the person calls themselves, which anybody may choose.
    #[schema(required, examples("Ann"))]
    pub sender_name: Option<String>,
    /// The connection over which it came.
    #[schema(examples("whatsapp"))]
    pub via: String,
    /// The provider of that connection.
    #[schema(examples("waha"))]
    pub provider: String,
    /// The provider's id of the message.
    #[schema(examples("false_15551234567@c.us_3EB0A1B2C3D4E5F6"))]
    pub provider_message_id: String,
    /// The message that it answers: the `vn_` id of your note, or the provider's id of any other message.
    #[schema(required)]
    pub reply_to: Option<String>,
    /// When the person sent it, by the provider's clock.
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub sent_at: Timestamp,
    /// When the provider reported it.
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    pub form: ReceivedForm,
    /// Its audio. `null` if it failed.
    #[schema(required)]
    pub audio: Option<ReceivedAudio>,
    /// The loudness in 64 steps. `null` if it failed.
    #[schema(required, value_type = Option<schema::Waveform>)]
    pub waveform: Option<Vec<u8>>,
    /// Its words, if the tenant has them written down. They come later, with the event `voice.transcribed`.
    #[schema(required)]
    pub transcript: Option<Transcript>,
    /// The reason why it failed.
    #[schema(required)]
    pub error: Option<Problem>,
}

/// Whether the audio of a received note can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceivedState {
    Received,
    /// The audio could not be fetched or read; `error` says why.
    Failed,
}

/// How the person sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceivedForm {
    /// As a voice note.
    Voice,
    /// As an audio file.
    Audio,
}

/// The audio of a received note.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReceivedAudio {
    /// The bytes as they came.
    pub native: ReceivedFile,
    /// The audio in each profile of `inbound.renders`, by its name.
    pub renders: BTreeMap<String, ReceivedFile>,
}

/// Facts about a piece of audio, and its address.
#[derive(Clone, Debug, Serialize)]
pub struct ReceivedFile {
    #[serde(flatten)]
    pub facts: AudioFacts,
    /// A path of this API, for which the key is needed.
    pub url: String,
}

impl ReceivedFile {
    fn new(id: ReceivedId, part: &str, facts: &providers::AudioFacts) -> Self {
        Self { facts: facts.into(), url: format!("/received/{id}/audio?as={part}") }
    }
}

impl From<&Received> for ReceivedNote {
    fn from(note: &Received) -> Self {
        let id = note.id;
        let audio = note.native.as_ref().map(|native| ReceivedAudio {
            native: ReceivedFile::new(id, "native", native),
            renders: note
                .renders
                .iter()
                .map(|render| (render.profile.clone(), ReceivedFile::new(id, &render.profile, &render.facts)))
                .collect(),
        });
        let is_received = note.status == ReceivedStatus::Received;
        Self {
            id,
            status: if is_received { ReceivedState::Received } else { ReceivedState::Failed },
            from: note.from.clone(),
            conversation: note.conversation.clone(),
            group: note.group,
            sender_name: note.sender_name.clone(),
            via: note.connection.clone(),
            provider: note.provider.clone(),
            provider_message_id: note.message_id.clone(),
            reply_to: note.reply_to.clone(),
            sent_at: note.sent_at,
            received_at: note.received_at,
            form: match note.form {
                providers::Form::Voice => ReceivedForm::Voice,
                _ => ReceivedForm::Audio,
            },
            audio,
            waveform: Some(note.waveform.clone()).filter(|bars| !bars.is_empty()),
            transcript: note.transcript.clone(),
            error: note.error.clone(),
        }
    }
}

/// A page of received notes, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceivedNoteList {
    #[schema(max_items = 200)]
    pub items: Vec<ReceivedNote>,
    /// The `cursor` of the next page. `null` on the last page. Any other page may have fewer notes than `limit`, even
    /// none, if stored notes are damaged.
    #[schema(required)]
    pub next_cursor: Option<ReceivedId>,
}
