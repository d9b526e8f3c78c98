//! What can go wrong in an attempt, and the one place that says what the queue does about it.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Scope;

/// What happened. An adapter picks the kind; it never picks the consequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendErrorKind {
    /// The provider says that there is no such recipient.
    InvalidRecipient,
    /// This recipient cannot be reached over this connection; another connection may.
    NotReachable,
    /// The recipient could be reached, but not in this form. The next form of the ladder may be shown.
    FormUnavailable,
    /// A message may only be sent within a time after the recipient last wrote, and that time is over; or the account
    /// may open no new conversations for now. The next connection is tried.
    ConversationClosed,
    /// The recipient does not want messages (opt-out, block). Respected everywhere, so no fallback either.
    OptedOut,
    /// The provider will not take this audio.
    MediaRejected,
    /// The audio is larger than the provider takes.
    MediaTooLarge,
    /// Any other refusal for good.
    Rejected,
    /// Credentials are missing, wrong or expired.
    Unauthorized,
    /// The account cannot do this: wrong line, feature not enabled, session gone, quota used up.
    Misconfigured,
    /// Too many requests: the recipient's lane or the whole connection slows down, as the error's scope says.
    RateLimited,
    /// The answer proves that nothing was sent, and the adapter knows better now: the chat moved, the media id is
    /// stale. Made ready again at once, within the same attempt, and once. Says nothing about the connection.
    Outdated,
    /// The provider is still digesting an earlier step; a matter of seconds.
    NotReady,
    /// Nothing left this machine, or the answer proves that the note was not taken. Later it may be.
    Unavailable,
    /// The request left and no answer proves anything: the recipient may or may not see the note.
    OutcomeUnknown,
    /// An answer that could not be understood. Like `OutcomeUnknown`, and logged loudly.
    Unexpected,
}

/// What the queue does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The note has failed.
    Stop,
    /// Show the note in the ladder's next form on the same connection, at once; where none is left, as
    /// `NextConnection`.
    NextForm,
    /// Move on to the route's next connection; where there is none, the note has failed.
    NextConnection,
    /// Prepare again at once, within the same attempt; the second time as `Retry`.
    PrepareAgain,
    /// Try again later on the schedule.
    Retry,
    /// Try again later, and let the recipient's lane or the whole connection wait too, as the scope says.
    SlowDown,
    /// Hold as unknown: repeating could send twice.
    Hold,
}

impl SendErrorKind {
    /// The single decision between retry and stop.
    pub fn disposition(self) -> Disposition {
        match self {
            Self::InvalidRecipient
            | Self::OptedOut
            | Self::MediaRejected
            | Self::MediaTooLarge
            | Self::Rejected
            | Self::Unauthorized
            | Self::Misconfigured => Disposition::Stop,
            Self::FormUnavailable => Disposition::NextForm,
            Self::NotReachable | Self::ConversationClosed => Disposition::NextConnection,
            Self::Outdated => Disposition::PrepareAgain,
            Self::NotReady | Self::Unavailable => Disposition::Retry,
            Self::RateLimited => Disposition::SlowDown,
            Self::OutcomeUnknown | Self::Unexpected => Disposition::Hold,
        }
    }

    /// The stable problem code that the bot sees.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidRecipient | Self::NotReachable | Self::FormUnavailable => "recipient_unsupported",
            Self::ConversationClosed => "conversation_closed",
            Self::MediaTooLarge => "audio_too_large",
            Self::OptedOut | Self::MediaRejected | Self::Rejected => "provider_rejected",
            Self::Unauthorized | Self::Misconfigured => "provider_unauthorized",
            Self::RateLimited
            | Self::Outdated
            | Self::NotReady
            | Self::Unavailable
            | Self::OutcomeUnknown
            | Self::Unexpected => "provider_unavailable",
        }
    }
}

/// What the provider itself said. For the tenant's eyes; the logs get status, code and trace only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// HTTP status.
    pub status: Option<u16>,
    /// The provider's own error code.
    pub code: Option<String>,
    /// The provider's own words, at most 300 characters, with every secret of the connection removed.
    pub message: Option<String>,
    pub trace: Option<String>,
}

impl fmt::Debug for Upstream {
    /// Without `message`: a provider may echo a phone number in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("status", &self.status)
            .field("code", &self.code)
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

/// One failed attempt.
#[derive(Clone, PartialEq, Eq)]
pub struct SendError {
    pub kind: SendErrorKind,
    /// What to do about it, in the gateway's words: neutral, and free of numbers, secrets and bodies.
    pub detail: String,
    /// The provider wants no earlier retry than after this time.
    pub retry_after: Option<Duration>,
    /// What a limit or a refusal is about: for [`SendErrorKind::RateLimited`] whose requests wait, for
    /// [`SendErrorKind::ConversationClosed`] whether this conversation is closed or the connection opens no new ones.
    pub scope: Scope,
    /// When what the error says of the recipient (or of new conversations) ends, where the provider names it. Until
    /// then, or for `delivery.learned_ttl`, no attempt is made that is known to fail.
    pub until: Option<Timestamp>,
    /// What was being done: `upload`, `dispatch` or `check`.
    pub stage: &'static str,
    pub upstream: Option<Upstream>,
}

impl SendError {
    pub fn new(kind: SendErrorKind, detail: impl Into<String>) -> Self {
        let scope = if kind == SendErrorKind::RateLimited { Scope::Connection } else { Scope::Recipient };
        let detail = detail.into();
        Self { kind, detail, retry_after: None, scope, until: None, stage: "dispatch", upstream: None }
    }

    /// Says what a limit or a refusal is about. Without it a rate limit is the connection's, everything else the
    /// recipient's.
    #[must_use]
    pub fn about(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Names the end of what the error says.
    #[must_use]
    pub fn until(mut self, until: Timestamp) -> Self {
        self.until = Some(until);
        self
    }

    /// Names the stage; without it an error is of stage `dispatch`.
    #[must_use]
    pub fn at(mut self, stage: &'static str) -> Self {
        self.stage = stage;
        self
    }

    #[must_use]
    pub fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    #[must_use]
    pub fn from_upstream(mut self, upstream: Upstream) -> Self {
        self.upstream = Some(upstream);
        self
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("kind", &self.kind)
            .field("detail", &self.detail)
            .field("stage", &self.stage)
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for SendError {}
