//! The voice note: one audio to one recipient, from the request to its end.

mod metadata;
mod receipts;
#[cfg(test)]
pub(crate) mod sample;
mod speech;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use utoipa::ToSchema;
use voicegate_providers::{AudioFacts, Degrade, Form};

use crate::model::{clock::rfc3339_millis, code::WarningCode, problem::Problem};
use voicegate_audio::{Contradiction, Convert, Hints, Loss, Probed, Work};

pub use self::{metadata::Metadata, speech::SpokenText};
pub use crate::model::id::NoteId;

/// The state of a note. Receipts only raise the rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waiting for its first or next attempt.
    Queued,
    /// Being fetched, converted or prepared.
    Processing,
    /// The one visible request is under way.
    Sending,
    /// The provider took responsibility.
    Accepted,
    Sent,
    Delivered,
    Read,
    Played,
    Failed,
    Expired,
    Canceled,
    /// The provider may or may not have it.
    Unknown,
}

impl Status {
    pub const ALL: [Self; 12] = [
        Self::Queued,
        Self::Processing,
        Self::Sending,
        Self::Accepted,
        Self::Sent,
        Self::Delivered,
        Self::Read,
        Self::Played,
        Self::Failed,
        Self::Expired,
        Self::Canceled,
        Self::Unknown,
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Sending => "sending",
            Self::Accepted => "accepted",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Played => "played",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Canceled => "canceled",
            Self::Unknown => "unknown",
        }
    }

    /// The provider has accepted the note, as far as is known.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted | Self::Sent | Self::Delivered | Self::Read | Self::Played)
    }

    /// The note ended without success.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Expired | Self::Canceled)
    }

    /// No attempt will follow.
    pub fn is_ended(self) -> bool {
        self.is_accepted() || self.is_failure() || self == Self::Unknown
    }
}

/// One connection that the note may go through, and the recipient as written for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEntry {
    pub connection: String,
    pub provider: String,
    pub to: String,
    /// The adapter's canonical key of the recipient.
    pub recipient_key: String,
}

impl RouteEntry {
    /// The lane of this entry. Notes in one lane are sent one after the other, in order.
    pub fn lane(&self, tenant: &str) -> String {
        format!("{tenant}\u{1f}{}\u{1f}{}", self.connection, self.recipient_key)
    }
}

/// The source of the audio.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioSource {
    /// The bytes came with the request and are in the media store.
    Stored,
    /// The worker downloads it. `headers` are the caller's secrets and are dropped after the download.
    Url {
        url: String,
        headers: BTreeMap<String, String>,
        /// Nothing of it was dropped, so that it can be downloaded again. Unknown for notes of earlier versions.
        #[serde(default)]
        is_whole: bool,
    },
    /// The worker lets a server speak the note's `speech`.
    Speech,
}

impl AudioSource {
    /// Removes headers, query and fragment of a URL, since they may contain credentials.
    pub fn forget_secrets(&mut self) {
        if let Self::Url { url, headers, is_whole } = self {
            let end = url.find(['?', '#']);
            *is_whole &= headers.is_empty() && end.is_none();
            headers.clear();
            url.truncate(end.unwrap_or(url.len()));
        }
    }
}

impl fmt::Debug for AudioSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "Stored",
            Self::Url { .. } => "Url",
            Self::Speech => "Speech",
        })
    }
}

/// The conversion that the caller wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Convert)]
pub enum ConvertChoice {
    /// Transcode only where the target requires it.
    #[default]
    Auto,
    Always,
    /// Untouched or remuxed, else refused.
    Never,
    /// Let the provider convert where it can.
    Provider,
}

impl From<ConvertChoice> for Convert {
    fn from(choice: ConvertChoice) -> Self {
        match choice {
            // Audio that the provider converts still has to be in a format that it accepts.
            ConvertChoice::Auto | ConvertChoice::Provider => Self::Auto,
            ConvertChoice::Always => Self::Always,
            ConvertChoice::Never => Self::Never,
        }
    }
}

/// When a note's text is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TextAs {
    /// Only where no form with sound is left.
    #[default]
    Fallback,
    /// Beside the note, where the form has captions.
    Caption,
}

/// A form in which a recipient accepts no notes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub form: Form,
    /// The reason, in words that do not depend on the provider.
    pub why: String,
    #[serde(with = "rfc3339_millis")]
    pub until: Timestamp,
}

/// The audio that was made for the provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SentAudio {
    #[serde(flatten)]
    pub facts: AudioFacts,
    pub profile: String,
    pub work: Work,
    /// The names of the checks that the audio passed. Empty if the source is sent unchanged.
    #[serde(default)]
    pub checks: Vec<String>,
}

/// Something that was left out or done differently, without being an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// `audio_inconsistent`, `reply_unsupported`, `text_dropped`, `text_shortened`, `form_degraded`, `reply_lost`,
    /// `waveform_lost` or `play_icon_lost`. Where a plan says why a note would be refused, the code of that problem. More
    /// codes may be added.
    #[schema(value_type = String, examples("reply_unsupported"))]
    pub code: WarningCode,
    #[schema(examples(
        "replies are not possible over this connection, so the note is sent as a message of its own"
    ))]
    pub detail: String,
}

impl Warning {
    pub fn new(code: WarningCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl From<Loss> for Warning {
    fn from(loss: Loss) -> Self {
        let code = match loss {
            Loss::PlayIcon => WarningCode::PlayIconLost,
            Loss::Waveform => WarningCode::WaveformLost,
        };
        Warning { code, detail: loss.detail().to_owned() }
    }
}

impl From<Contradiction> for Warning {
    fn from(found: Contradiction) -> Self {
        Warning { code: WarningCode::AudioInconsistent, detail: found.detail().to_owned() }
    }
}

/// The end of a try: the provider took the note, refused it for good or for now, or may or may not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Accepted,
    /// For good.
    Refused,
    /// For now.
    Deferred,
    Unknown,
}

impl Outcome {
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Refused, Self::Deferred, Self::Unknown];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Deferred => "deferred",
            Self::Unknown => "unknown",
        }
    }
}

/// One try at a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Counted from 1.
    #[schema(minimum = 1, examples(1))]
    pub n: u32,
    #[schema(examples("imessage"))]
    pub connection: String,
    pub outcome: Outcome,
    /// When it began.
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Converting included, and the download where the try ended with that.
    #[schema(examples(812))]
    pub took_ms: u64,
    /// The provider's own id of this try, for its support.
    #[schema(required, examples("trc_8f14e45f"))]
    pub trace: Option<String>,
    /// The reason why the note was not accepted.
    #[schema(required)]
    pub error: Option<Problem>,
}

/// A note, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub id: NoteId,
    pub tenant: String,
    pub status: Status,
    /// The recipient in canonical spelling. An alias (`alias:NAME`) is not resolved.
    pub to: String,
    /// Never empty; `route[position]` is the connection in use.
    #[serde(deserialize_with = "not_empty")]
    pub route: Vec<RouteEntry>,
    #[serde(alias = "stop")]
    pub position: usize,

    pub source: AudioSource,
    /// The text that the source speaks, or will speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech: Option<SpokenText>,
    pub hints: Hints,
    pub convert: Option<ConvertChoice>,
    pub reply_to: Option<String>,
    pub text: Option<String>,
    #[serde(default)]
    pub text_as: TextAs,
    /// The forms that may replace a voice bubble. Overrides the setting of the connection.
    #[serde(default)]
    pub degrade: Option<Degrade>,
    pub metadata: Metadata,
    #[serde(with = "rfc3339_millis")]
    pub expires_at: Timestamp,
    /// The earliest time of the first attempt. `None`: at once.
    #[serde(default, with = "rfc3339_millis::option")]
    pub send_at: Option<Timestamp>,
    /// The id of the request that created the note.
    #[serde(default)]
    pub request_id: Option<String>,
    /// The parent of everything that is done for the note in a trace, as W3C Trace Context writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The note that this one repeats, at the request of the bot.
    #[serde(default)]
    pub resend_of: Option<NoteId>,

    pub probed: Option<Probed>,
    pub sent: Option<SentAudio>,
    pub form: Option<Form>,
    /// Forms that the connection in use refused for this note.
    #[serde(default)]
    pub refused: Vec<Refusal>,
    pub provider_message_id: Option<String>,
    /// The state of the adapter for the next attempt.
    pub memory: Option<Value>,
    pub attempts: Vec<Attempt>,
    pub warnings: Vec<Warning>,
    pub error: Option<Problem>,
    #[serde(with = "rfc3339_millis::option")]
    pub next_attempt_at: Option<Timestamp>,
    #[serde(with = "rfc3339_millis")]
    pub created_at: Timestamp,
    #[serde(with = "rfc3339_millis")]
    pub updated_at: Timestamp,
    #[serde(with = "rfc3339_millis::option")]
    pub accepted_at: Option<Timestamp>,
    /// The time in the provider's receipt, like the next three.
    #[serde(default, with = "rfc3339_millis::option")]
    pub sent_at: Option<Timestamp>,
    #[serde(default, with = "rfc3339_millis::option")]
    pub delivered_at: Option<Timestamp>,
    #[serde(default, with = "rfc3339_millis::option")]
    pub read_at: Option<Timestamp>,
    #[serde(default, with = "rfc3339_millis::option")]
    pub played_at: Option<Timestamp>,
    /// No receipt came within the connection's `ack_deadline` after acceptance.
    #[serde(default)]
    pub stalled: bool,
    /// The time just before the last visible request.
    #[serde(default, with = "rfc3339_millis::option")]
    pub dispatched_at: Option<Timestamp>,
    /// The correlation ids by which the provider may know the message of the last attempt, besides its id.
    #[serde(default, alias = "marks")]
    pub correlation_ids: Vec<String>,
    /// The audio was removed, after `storage.retention` or because the note was erased.
    #[serde(default)]
    pub audio_expired: bool,
    /// The recipient and the content were erased.
    #[serde(default)]
    pub erased: bool,
}

impl Note {
    /// A new note that is due at once. Callers set further fields by struct update.
    pub fn new(
        tenant: String,
        to: String,
        route: Vec<RouteEntry>,
        source: AudioSource,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            id: NoteId::new(),
            tenant,
            status: Status::Queued,
            to,
            route,
            position: 0,
            source,
            speech: None,
            hints: Hints::default(),
            convert: None,
            reply_to: None,
            text: None,
            text_as: TextAs::default(),
            degrade: None,
            metadata: Metadata::default(),
            expires_at,
            send_at: None,
            request_id: None,
            traceparent: None,
            resend_of: None,
            probed: None,
            sent: None,
            form: None,
            refused: Vec::new(),
            provider_message_id: None,
            memory: None,
            attempts: Vec::new(),
            warnings: Vec::new(),
            error: None,
            next_attempt_at: Some(now),
            created_at: now,
            updated_at: now,
            accepted_at: None,
            sent_at: None,
            delivered_at: None,
            read_at: None,
            played_at: None,
            stalled: false,
            dispatched_at: None,
            correlation_ids: Vec::new(),
            audio_expired: false,
            erased: false,
        }
    }

    pub fn current(&self) -> &RouteEntry {
        // `route` is never empty and `position` only moves inside it.
        &self.route[self.position.min(self.route.len() - 1)]
    }

    /// The time of the first attempt.
    pub fn due_at(&self) -> Timestamp {
        self.send_at.map_or(self.created_at, |at| at.max(self.created_at))
    }

    /// The lane on the current connection.
    pub fn lane(&self) -> String {
        self.current().lane(&self.tenant)
    }

    /// The lanes of every connection that the note may have gone through.
    pub fn lanes(&self) -> Vec<String> {
        self.route.iter().map(|entry| entry.lane(&self.tenant)).collect()
    }

    /// Moves to the next connection of the route. Returns `false` if there is none.
    pub fn next_connection(&mut self) -> bool {
        let more = self.position + 1 < self.route.len();
        if more {
            self.position += 1;
            // The rendered audio and the adapter's state belong to the previous connection.
            (self.sent, self.form, self.memory) = (None, None, None);
            self.refused.clear();
        }
        more
    }

    /// The number of bytes of audio that are stored for the note: its source, and the rendered audio.
    pub fn kept_bytes(&self) -> u64 {
        if self.audio_expired {
            return 0;
        }
        let source = self.probed.as_ref().filter(|_| self.source == AudioSource::Stored);
        let made = self.sent.as_ref().filter(|sent| sent.work != Work::None);
        source.map_or(0, |probed| probed.facts.size_bytes) + made.map_or(0, |sent| sent.facts.size_bytes)
    }

    /// An attempt had an unknown outcome, so the recipient may have the note already.
    pub fn may_have_arrived(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.outcome == Outcome::Unknown)
    }

    /// Adds a warning, unless the note already has it.
    pub fn warn(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Removes all personal data. The existence of the note, its times and its status remain.
    #[must_use]
    pub fn erased(mut self) -> Self {
        for entry in &mut self.route {
            (entry.to, entry.recipient_key) = (String::new(), String::new());
        }
        // The provider's messages, and its ids of messages, may contain the recipient.
        (self.provider_message_id, self.reply_to) = (None, None);
        self.correlation_ids.clear();
        for problem in
            self.attempts.iter_mut().filter_map(|attempt| attempt.error.as_mut()).chain(&mut self.error)
        {
            "this was erased".clone_into(&mut problem.detail);
            problem.provider = None;
        }
        (self.to, self.text, self.speech, self.memory) = (String::new(), None, None, None);
        (self.hints, self.source) = (Hints::default(), AudioSource::Stored);
        self.metadata = Metadata::default();
        self.warnings.clear();
        self.refused.clear();
        (self.erased, self.request_id, self.traceparent) = (true, None, None);
        self
    }
}

/// Rejects an empty route, since every accepted note has a connection.
fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RouteEntry>, D::Error> {
    let route = Vec::deserialize(deserializer)?;
    if route.is_empty() { Err(de::Error::custom("expected a connection")) } else { Ok(route) }
}
