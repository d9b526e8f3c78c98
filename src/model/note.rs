//! The voice note: one audio to one recipient, from the request to its end.

mod metadata;
mod receipts;
#[cfg(test)]
pub(crate) mod sample;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use utoipa::ToSchema;
use voicegate_providers::{AudioFacts, Degrade, Form};

use crate::model::{clock::rfc3339_millis, code::WarningCode, problem::Problem};
use voicegate_audio::{Contradiction, Convert, Hints, Probed, Work};

pub use self::metadata::Metadata;
pub use crate::model::id::NoteId;

/// Where a note is. Receipts only raise the rank.
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

    /// The provider has it, as far as is known.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted | Self::Sent | Self::Delivered | Self::Read | Self::Played)
    }

    /// Ended without success.
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
pub struct Stop {
    pub connection: String,
    pub provider: String,
    pub to: String,
    /// The adapter's canonical key of the recipient.
    pub recipient_key: String,
}

impl Stop {
    /// Notes in one lane go out one after the other, in order.
    pub fn lane(&self, tenant: &str) -> String {
        format!("{tenant}\u{1f}{}\u{1f}{}", self.connection, self.recipient_key)
    }
}

/// Where the audio comes from.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The bytes came with the request and are in the media store.
    Stored,
    /// To be downloaded by the worker. `headers` are the caller's secrets and are dropped after the download.
    Url { url: String, headers: BTreeMap<String, String> },
}

impl Source {
    /// Leaves of a URL only what tells one host's files apart: the rest may be a credential.
    pub fn forget_secrets(&mut self) {
        if let Self::Url { url, headers } = self {
            headers.clear();
            url.truncate(url.find(['?', '#']).unwrap_or(url.len()));
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "Stored",
            Self::Url { .. } => "Url",
        })
    }
}

/// What the caller wants done with the audio.
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
            // What the provider converts by itself still has to be what it takes.
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

/// A form in which a recipient takes no notes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub form: Form,
    /// In neutral words.
    pub why: String,
    #[serde(with = "rfc3339_millis")]
    pub until: Timestamp,
}

/// Which audio was made for the provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SentAudio {
    #[serde(flatten)]
    pub facts: AudioFacts,
    pub profile: String,
    pub work: Work,
    /// What was verified on what was made, by name; nothing where the source goes as it is.
    #[serde(default)]
    pub checks: Vec<String>,
}

/// Something that was left out or done differently, without being an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// The code that a problem of this kind has.
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

impl From<Contradiction> for Warning {
    fn from(found: Contradiction) -> Self {
        Warning { code: WarningCode::AudioInconsistent, detail: found.detail().to_owned() }
    }
}

/// How a try ended: the provider took the note, refused it for good or for now, or may or may not have it.
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
    /// Why it was not accepted.
    #[schema(required)]
    pub error: Option<Problem>,
}

/// Everything about a note, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub id: NoteId,
    pub tenant: String,
    pub status: Status,
    /// As the caller wrote it, in its canonical spelling (`alias:NAME` stays an alias).
    pub to: String,
    /// Never empty; `route[stop]` is the connection in use.
    #[serde(deserialize_with = "not_empty")]
    pub route: Vec<Stop>,
    pub stop: usize,

    pub source: Source,
    pub hints: Hints,
    pub convert: Option<ConvertChoice>,
    pub reply_to: Option<String>,
    pub text: Option<String>,
    #[serde(default)]
    pub text_as: TextAs,
    /// The forms that may replace a voice bubble, instead of what the connection says.
    #[serde(default)]
    pub degrade: Option<Degrade>,
    pub metadata: Metadata,
    #[serde(with = "rfc3339_millis")]
    pub expires_at: Timestamp,
    /// Not before; `None`: at once.
    #[serde(default, with = "rfc3339_millis::option")]
    pub send_at: Option<Timestamp>,
    /// Of the request that made it.
    #[serde(default)]
    pub request_id: Option<String>,
    /// The note of which this is another try, by the bot's wish.
    #[serde(default)]
    pub resend_of: Option<NoteId>,

    pub probed: Option<Probed>,
    pub sent: Option<SentAudio>,
    pub form: Option<Form>,
    /// Forms that the connection in use refused for this note.
    #[serde(default)]
    pub refused: Vec<Refusal>,
    pub provider_message_id: Option<String>,
    /// What the adapter wants back at the note's next attempt.
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
    /// By the provider's later word, as the three below.
    #[serde(default, with = "rfc3339_millis::option")]
    pub sent_at: Option<Timestamp>,
    #[serde(default, with = "rfc3339_millis::option")]
    pub delivered_at: Option<Timestamp>,
    #[serde(default, with = "rfc3339_millis::option")]
    pub read_at: Option<Timestamp>,
    #[serde(default, with = "rfc3339_millis::option")]
    pub played_at: Option<Timestamp>,
    /// Accepted longer ago than the connection's `ack_deadline`, and no receipt came.
    #[serde(default)]
    pub stalled: bool,
    /// When the visible request was last about to be made.
    #[serde(default, with = "rfc3339_millis::option")]
    pub dispatched_at: Option<Timestamp>,
    /// Names by which the provider may know the message of the last attempt, beside its id.
    #[serde(default)]
    pub marks: Vec<String>,
    /// The audio was removed: after `storage.retention`, or because the note was erased.
    #[serde(default)]
    pub audio_expired: bool,
    /// Whom it was for, and what it said, is forgotten.
    #[serde(default)]
    pub erased: bool,
}

impl Note {
    /// A note that was just taken and is to go out at once. Callers set further fields by struct update.
    pub fn new(
        tenant: String,
        to: String,
        route: Vec<Stop>,
        source: Source,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            id: NoteId::new(),
            tenant,
            status: Status::Queued,
            to,
            route,
            stop: 0,
            source,
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
            marks: Vec::new(),
            audio_expired: false,
            erased: false,
        }
    }

    pub fn current(&self) -> &Stop {
        // `route` is never empty and `stop` only moves inside it.
        &self.route[self.stop.min(self.route.len() - 1)]
    }

    /// When it is first due.
    pub fn due_at(&self) -> Timestamp {
        self.send_at.map_or(self.created_at, |at| at.max(self.created_at))
    }

    /// Notes in one lane go out one after the other, in order.
    pub fn lane(&self) -> String {
        self.current().lane(&self.tenant)
    }

    /// The lanes of every connection that the note may have gone through.
    pub fn lanes(&self) -> Vec<String> {
        self.route.iter().map(|stop| stop.lane(&self.tenant)).collect()
    }

    /// Moves to the next connection of the route; `false` where there is none.
    pub fn next_stop(&mut self) -> bool {
        let more = self.stop + 1 < self.route.len();
        if more {
            self.stop += 1;
            // What was made and learned belongs to the connection that was left.
            (self.sent, self.form, self.memory) = (None, None, None);
            self.refused.clear();
        }
        more
    }

    /// How many bytes of audio are kept for it: its source, and what was made of that.
    pub fn kept_bytes(&self) -> u64 {
        if self.audio_expired {
            return 0;
        }
        let source = self.probed.as_ref().filter(|_| self.source == Source::Stored);
        let made = self.sent.as_ref().filter(|sent| sent.work != Work::None);
        source.map_or(0, |probed| probed.facts.size_bytes) + made.map_or(0, |sent| sent.facts.size_bytes)
    }

    /// An attempt had an unknown outcome, so the recipient may have the note already.
    pub fn may_have_arrived(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.outcome == Outcome::Unknown)
    }

    /// Says something about itself once.
    pub fn warn(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// What may be kept when a person asks to be forgotten: that there was a note, when, and what became of it.
    #[must_use]
    pub fn erased(mut self) -> Self {
        for stop in &mut self.route {
            (stop.to, stop.recipient_key) = (String::new(), String::new());
        }
        // A provider's words may repeat the recipient.
        for problem in
            self.attempts.iter_mut().filter_map(|attempt| attempt.error.as_mut()).chain(&mut self.error)
        {
            "this was erased".clone_into(&mut problem.detail);
            problem.provider = None;
        }
        (self.to, self.text, self.memory) = (String::new(), None, None);
        (self.hints, self.source) = (Hints::default(), Source::Stored);
        self.metadata = Metadata::default();
        self.warnings.clear();
        self.refused.clear();
        (self.erased, self.request_id) = (true, None);
        self
    }
}

/// A note without a connection could not have been accepted.
fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Stop>, D::Error> {
    let route = Vec::deserialize(deserializer)?;
    if route.is_empty() { Err(de::Error::custom("expected a connection")) } else { Ok(route) }
}
