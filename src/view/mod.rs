//! The types that the API returns, from which its document is generated. Stored data has types of its own, so that both
//! can change independently.

pub mod dialects;
pub mod grammar;
pub mod linq_chats;
mod plan;
mod received;
mod render;
pub mod schema;
mod task;
mod usage;
mod webhook;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use voicegate_providers as providers;

use crate::model::{
    clock::rfc3339_millis,
    event::{Event, EventKind, Subject},
    id::{NoteId, ReceivedId, UploadId},
    note::{self, Attempt, ConvertChoice, Metadata, Note, Status, Warning},
    problem::Problem,
    upload,
};
use voicegate_audio::{Confinement, Profile, Work};

pub use plan::{ConnectionPlan, Verdict, VoicePlan};
pub use received::{ReceivedNote, ReceivedNoteList};
pub use render::{RenderedAudio, RenderedFacts};
pub use task::Task;
pub use usage::{UsageItem, UsageList};
pub use webhook::{EventAttempt, EventAttempts, EventSummary};

/// One audio for one recipient, and its status.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VoiceNote {
    pub id: NoteId,
    pub status: Status,
    /// The recipient, in canonical spelling. `null` once the note was erased.
    #[schema(required, examples("+15551234567"))]
    pub to: Option<String>,
    /// The connection in use.
    #[schema(examples("imessage"))]
    pub via: String,
    /// The provider of that connection.
    #[schema(examples("linq"))]
    pub provider: String,
    /// The provider's id of the message that the recipient sees.
    #[schema(required, examples("69a37c7d-af4f-4b5e-af42-e28e98ce873a"))]
    pub provider_message_id: Option<String>,
    /// The `reply_to` of the request; `null` if no connection of the route supports replies.
    #[schema(required)]
    pub reply_to: Option<String>,
    /// The note that this one repeats.
    #[schema(required)]
    pub resend_of: Option<NoteId>,
    /// The form in which the recipient sees the note. `null` until that is known.
    #[schema(required, value_type = Option<schema::Form>)]
    pub form: Option<providers::Form>,
    pub audio: NoteAudio,
    /// The first attempt, and the most recent of the others.
    #[schema(max_items = 50)]
    pub attempts: Vec<Attempt>,
    /// Everything that was left out or done differently without an error.
    pub warnings: Vec<Warning>,
    /// Whether the note was accepted and no receipt came in time.
    pub stalled: bool,
    /// The time of the next attempt. It has passed while a note waits behind an earlier one to the same recipient.
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// The reason why the note failed or why its outcome is unknown.
    #[schema(required)]
    pub error: Option<Problem>,
    /// The `metadata` of the request.
    #[schema(value_type = Object)]
    pub metadata: Metadata,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When the provider accepted the note.
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub accepted_at: Option<Timestamp>,
    /// When the provider reported it as sent. Like all times below, `null` if the provider does not report this.
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Timestamp>,
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub delivered_at: Option<Timestamp>,
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub played_at: Option<Timestamp>,
}

/// Facts about the audio of a note. All of them are measured on the bytes, never taken from the caller.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NoteAudio {
    /// The audio as it was received. `null` until it was read, which for `audio.url` and speech is after the answer.
    #[schema(required)]
    pub source: Option<AudioFacts>,
    /// The audio as it is sent to the provider. `null` until it was made.
    #[schema(required)]
    pub sent: Option<SentAudio>,
    /// The text that is spoken. `null` for other audio, and once the note was erased.
    #[schema(required)]
    pub speech: Option<SpokenText>,
    /// The loudness of the source in 64 steps. `null` until it was decoded, which is before the first attempt.
    #[schema(required, value_type = Option<schema::Waveform>)]
    pub waveform: Option<Vec<u8>>,
}

/// A text that a server speaks.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SpokenText {
    #[schema(examples("Your parcel is here."))]
    pub text: String,
    /// The speech server, by its name in the configuration.
    #[schema(examples("voice"))]
    pub with: String,
    /// The voice of the request. `null`: that of the configuration.
    #[schema(required)]
    pub voice: Option<String>,
    #[schema(required)]
    pub instructions: Option<String>,
    #[schema(required)]
    pub speed: Option<f64>,
}

impl From<&note::SpokenText> for SpokenText {
    fn from(spoken: &note::SpokenText) -> Self {
        let note::SpokenText { text, with, voice, instructions, speed } = spoken.clone();
        Self { text, with, voice, instructions, speed }
    }
}

/// Facts about a piece of audio.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AudioFacts {
    #[schema(value_type = schema::Container)]
    pub container: providers::Container,
    /// The codec, by the name that ffmpeg uses.
    #[schema(value_type = String, examples("mp3"))]
    pub codec: providers::Codec,
    /// The exact media type of these bytes.
    #[schema(examples("audio/mpeg"))]
    pub mime_type: String,
    /// The length of the decoded audio.
    #[schema(examples(9870))]
    pub duration_ms: u64,
    #[schema(examples(158_000))]
    pub size_bytes: u64,
    /// Sample rate in Hz. For Opus, the rate of the original that the header states.
    #[schema(examples(24_000))]
    pub sample_rate: u32,
    #[schema(minimum = 1, examples(1))]
    pub channels: u16,
    /// The SHA-256 hash, in hexadecimal.
    #[schema(
        pattern = "^[0-9a-f]{64}$",
        examples("2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
    )]
    pub sha256: String,
}

/// The audio that is sent to the provider.
#[derive(Clone, Debug, Serialize)]
pub struct SentAudio {
    #[serde(flatten)]
    pub facts: AudioFacts,
    pub profile: String,
    pub work: Work,
    pub checks: Vec<String>,
}

/// An event, as sent to the bot's webhook and to event streams.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventBody {
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The time of the event.
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// The place of the note in the trace of the request that created it, for a span of your own. Left out without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))]
    pub traceparent: Option<String>,
    pub data: EventData,
}

/// Subject of an event.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum EventData {
    /// With `voice.received` and `voice.transcribed`: what a person sent.
    Received(Box<ReceivedNote>),
    /// With any other `voice.…`: the note as it was at that time.
    Note(Box<VoiceNote>),
    /// With `webhook.paused`.
    Webhook(PausedWebhook),
}

/// A webhook to which nothing is posted any more.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PausedWebhook {
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub paused_at: Timestamp,
    /// Advice: the next step.
    pub detail: String,
    /// The note that it was to be told of last, if that was one that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub note_id: Option<NoteId>,
    /// The received note that it was to be told of last, if that was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub received_id: Option<ReceivedId>,
}

impl From<&Event> for EventBody {
    fn from(event: &Event) -> Self {
        let data = match (event.kind, &event.subject) {
            (EventKind::WebhookPaused, subject) => EventData::Webhook(PausedWebhook {
                paused_at: event.at,
                detail: "the webhook failed for five days; when it works again, resume it with POST /webhook/recover"
                    .to_owned(),
                note_id: subject.id().note(),
                received_id: subject.id().received(),
            }),
            (_, Subject::Note(note)) => EventData::Note(Box::new((&**note).into())),
            (_, Subject::Received(received)) => EventData::Received(Box::new((&**received).into())),
        };
        let traceparent = event.subject.note().and_then(|note| note.traceparent.clone());
        Self { kind: event.kind, timestamp: event.at, traceparent, data }
    }
}

/// A page of notes, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct VoiceNoteList {
    #[schema(max_items = 200)]
    pub items: Vec<VoiceNote>,
    /// The `cursor` of the next page. `null` on the last page. Any other page may have fewer notes than `limit`, even
    /// none, if stored notes are damaged.
    #[schema(required)]
    pub next_cursor: Option<NoteId>,
}

/// Audio that was uploaded before its notes are sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct Upload {
    pub id: UploadId,
    pub audio: AudioFacts,
    /// The loudness in 64 steps.
    #[schema(value_type = schema::Waveform)]
    pub waveform: Vec<u8>,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The time until which it can be used. Notes that use it by then keep their audio for longer.
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// The tenant's connections, by name, and its webhook.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionList {
    pub items: Vec<Connection>,
    /// The webhook for events; `null` if the tenant has none.
    #[schema(required)]
    pub webhook: Option<Webhook>,
}

/// The webhook of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct Webhook {
    /// `paused`: it failed several times in a row and is tried again soon, or, with `paused_at`, it failed for five days.
    pub health: Health,
    /// The reason why it is paused or failing.
    #[schema(required)]
    pub health_detail: Option<String>,
    /// The time of the first failure after the last success.
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// Set if it failed for five days: nothing is posted since then, until it is resumed.
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub paused_at: Option<Timestamp>,
}

/// One account at a provider.
#[derive(Debug, Serialize, ToSchema)]
pub struct Connection {
    /// The name, to be used in `via`.
    #[schema(examples("imessage"))]
    pub name: String,
    #[schema(examples("linq"))]
    pub provider: String,
    pub health: Health,
    /// The reason why it is paused or failing.
    #[schema(required)]
    pub health_detail: Option<String>,
    /// Until then the account may open no new conversations: notes only go to people who were written to before, or who
    /// wrote to this connection.
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub conversations_closed_until: Option<Timestamp>,
    pub capabilities: Capabilities,
}

/// The result of the last requests to the provider. `ok`: it works. `paused`: the provider asked to slow down.
/// `failing`: it gives no usable answer or refuses the account. `unchecked`: nothing was sent yet.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Ok,
    Paused,
    Failing,
    Unchecked,
}

/// The audio that a profile accepts untouched, and the audio that it makes of any other.
#[derive(Debug, Serialize, ToSchema)]
pub struct AudioProfile {
    /// The formats that are sent untouched.
    #[schema(examples("MP3, mono or stereo, at most 48 kHz"))]
    pub accepts: Vec<String>,
    /// The format that any other audio is converted to.
    #[schema(examples("AAC in M4A, mono, the source's rate from 16 to 48 kHz, 64 kbit/s, index first"))]
    pub makes: String,
    /// The largest size of a file. Where a form takes more, this is a budget that longer audio exceeds with a warning.
    #[schema(required, examples(10_000_000))]
    pub max_bytes: Option<u64>,
    /// The longest audio for which an encoding fits `max_bytes`.
    #[schema(required, examples(540_000))]
    pub max_duration_ms: Option<u64>,
}

impl From<&Profile> for AudioProfile {
    fn from(profile: &Profile) -> Self {
        Self {
            accepts: profile.accepted_formats(),
            makes: profile.produces(),
            max_bytes: profile.max_bytes,
            max_duration_ms: profile.max_duration_ms(),
        }
    }
}

/// The capabilities of a connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct Capabilities {
    /// The profile for the audio.
    #[schema(examples("linq-1"))]
    pub profile: &'static str,
    pub audio: AudioProfile,
    /// The default of `convert` for requests without it.
    pub convert: ConvertChoice,
    /// Whether `convert: "provider"` has an effect.
    pub provider_converts: bool,
    /// The way in which the audio reaches the provider: the gateway uploads it, or the provider downloads it from a signed link.
    #[schema(value_type = schema::Intake)]
    pub intake: providers::Intake,
    /// The largest file that the provider takes.
    #[schema(examples(10_000_000))]
    pub max_bytes: u64,
    /// The kinds of recipient that it accepts.
    #[schema(value_type = Vec<String>, examples("phone"))]
    pub recipients: &'static [&'static str],
    /// Whether a note can answer an earlier message.
    #[schema(value_type = schema::ReplySupport)]
    pub reply: providers::ReplySupport,
    /// Whether `text` is shown with the note.
    pub caption: bool,
    /// Whether it can show that a note is being recorded: `POST /presence`.
    pub presence: bool,
    /// Whether a note with an unknown outcome can be repeated without the risk of arriving twice.
    pub idempotent_send: bool,
    /// The forms that may replace a voice note that cannot be shown as one.
    #[schema(value_type = Vec<schema::Form>)]
    pub degrade: providers::Degrade,
    /// The forms in which the connection shows notes, from the best form to the last resort.
    pub forms: Vec<FormSupport>,
}

/// A form in which a connection shows notes, and what it takes for it.
#[derive(Debug, Serialize, ToSchema)]
pub struct FormSupport {
    #[schema(value_type = schema::Form)]
    pub form: providers::Form,
    /// The audio profile of this form. `null` if a text replaces the audio.
    #[schema(required, examples("linq-1"))]
    pub profile: Option<String>,
    #[schema(value_type = schema::Intake)]
    pub intake: providers::Intake,
    /// The largest file that the provider takes.
    #[schema(examples(10_000_000))]
    pub max_bytes: u64,
    /// The longest audio that the provider takes.
    #[schema(required)]
    pub max_duration_ms: Option<u64>,
    /// The longest text in characters: beside the audio, or in its place. `null` where there is none.
    #[schema(required, examples(1024))]
    pub caption: Option<usize>,
}

impl From<&providers::FormSupport> for FormSupport {
    fn from(support: &providers::FormSupport) -> Self {
        Self {
            form: support.form,
            profile: support.profile.clone(),
            intake: support.intake,
            max_bytes: support.max_bytes,
            max_duration_ms: support.max_duration_ms,
            caption: support.caption,
        }
    }
}

/// Whether requests can be served, and the reason if not.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    pub status: CheckStatus,
    pub checks: Checks,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Checks {
    pub database: Check,
    /// The storage for audio: a folder or a bucket.
    pub media: Check,
    /// Whether every profile could be encoded at the start.
    pub ffmpeg: FfmpegCheck,
    /// Whether a file can be written and `storage.min_free` is free.
    pub disk: Check,
    /// Present, and failed, only when the gateway is about to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub shutdown: Option<Check>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Check {
    pub status: CheckStatus,
    /// Present only if the check failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("the self-test is still running"))]
    pub reason: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FfmpegCheck {
    pub status: CheckStatus,
    /// Present only if the check failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("the self-test is still running"))]
    pub reason: Option<String>,
    /// The means that keep ffmpeg from everything except its source and its output. Absent until it has run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub confinement: Option<Confinement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    Ok,
    Failed,
}

impl From<Result<(), String>> for Check {
    fn from(result: Result<(), String>) -> Self {
        let status = if result.is_ok() { CheckStatus::Ok } else { CheckStatus::Failed };
        Self { status, reason: result.err() }
    }
}

impl FfmpegCheck {
    pub fn new(result: Result<(), String>, confinement: Option<Confinement>) -> Self {
        let Check { status, reason } = result.into();
        Self { status, reason, confinement }
    }
}

impl From<&Note> for VoiceNote {
    fn from(note: &Note) -> Self {
        let probed = note.probed.as_ref();
        Self {
            id: note.id,
            status: note.status,
            to: (!note.erased).then(|| note.to.clone()),
            via: note.current().connection.clone(),
            provider: note.current().provider.clone(),
            provider_message_id: note.provider_message_id.clone(),
            reply_to: note.reply_to.clone(),
            resend_of: note.resend_of,
            form: note.form,
            audio: NoteAudio {
                source: probed.map(|probed| (&probed.facts).into()),
                sent: note.sent.as_ref().map(Into::into),
                speech: note.speech.as_ref().map(Into::into),
                waveform: probed.map(|probed| probed.waveform.clone()).filter(|bars| !bars.is_empty()),
            },
            attempts: note.attempts.clone(),
            warnings: note.warnings.clone(),
            stalled: note.stalled,
            next_attempt_at: note.next_attempt_at,
            error: note.error.clone(),
            metadata: note.metadata.clone(),
            created_at: note.created_at,
            updated_at: note.updated_at,
            accepted_at: note.accepted_at,
            sent_at: note.sent_at,
            delivered_at: note.delivered_at,
            read_at: note.read_at,
            played_at: note.played_at,
        }
    }
}

impl From<&upload::Upload> for Upload {
    fn from(upload: &upload::Upload) -> Self {
        Self {
            id: upload.id,
            audio: (&upload.probed.facts).into(),
            waveform: upload.probed.waveform.clone(),
            created_at: upload.created_at,
            expires_at: upload.expires_at,
        }
    }
}

impl From<&providers::AudioFacts> for AudioFacts {
    fn from(facts: &providers::AudioFacts) -> Self {
        Self {
            container: facts.container,
            codec: facts.codec.clone(),
            mime_type: facts.mime_type.clone(),
            duration_ms: facts.duration_ms,
            size_bytes: facts.size_bytes,
            sample_rate: facts.sample_rate,
            channels: facts.channels,
            sha256: facts.sha256.clone(),
        }
    }
}

impl From<&note::SentAudio> for SentAudio {
    fn from(sent: &note::SentAudio) -> Self {
        Self {
            facts: (&sent.facts).into(),
            profile: sent.profile.clone(),
            work: sent.work,
            checks: sent.checks.clone(),
        }
    }
}
