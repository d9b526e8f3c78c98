//! The kinds of failed attempts, and the one place that decides what the queue does about each.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{RecipientError, Scope};

/// The kind of a failure. An adapter chooses the kind and never the consequence.
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
    /// The recipient does not want messages (opt-out, block). That applies to all connections, so there is no fallback.
    OptedOut,
    /// The provider will not take this audio.
    MediaRejected,
    /// The audio is larger than the provider takes.
    MediaTooLarge,
    /// Any other permanent refusal.
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
    /// The provider is still processing an earlier step, which takes seconds.
    NotReady,
    /// Nothing was sent, or the answer proves that the note was not accepted. A later attempt may succeed.
    Unavailable,
    /// The request was sent and its outcome is unknown: the recipient may or may not see the note.
    OutcomeUnknown,
    /// The answer could not be understood. It is treated as `OutcomeUnknown` and logged as an error.
    Unexpected,
}

/// The consequence of a failure for the note.
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

/// Error details from the provider. They are for the tenant; logs contain only status, code and trace.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// HTTP status.
    pub status: Option<u16>,
    /// The provider's own error code.
    pub code: Option<String>,
    /// The provider's message, at most 300 characters, with every secret of the connection removed.
    pub message: Option<String>,
    pub trace: Option<String>,
}

impl fmt::Debug for Upstream {
    /// `Debug` omits `message`, because a provider may echo a phone number in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("status", &self.status)
            .field("code", &self.code)
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

/// The stage in which an adapter failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A question about the account, for an operator. No note is involved.
    Check,
    /// Everything before the visible request: look-ups and uploads.
    Upload,
    /// The visible request.
    Dispatch,
    /// Receiving reports of the provider.
    Receipt,
    /// Fetching the audio of a received note.
    Fetch,
}

/// One failed attempt.
#[derive(Clone, PartialEq, Eq)]
pub struct SendError {
    pub kind: SendErrorKind,
    /// Advice in the gateway's words: neutral, and free of numbers, secrets and bodies.
    pub detail: String,
    /// The provider wants no earlier retry than after this time.
    pub retry_after: Option<Duration>,
    /// Scope of a limit or refusal: for [`SendErrorKind::RateLimited`], whose requests wait; for
    /// [`SendErrorKind::ConversationClosed`], whether this conversation is closed or the connection opens no new ones.
    pub scope: Scope,
    /// Time at which the error's finding about the recipient (or about new conversations) ends, if the provider states
    /// it. Until then, or for `delivery.learned_ttl`, no attempt is made that is known to fail.
    pub until: Option<Timestamp>,
    pub stage: Stage,
    /// The number of equal answers after which the finding is believed; before that, the note is tried again. `None` if
    /// [`SendErrorKind::disposition`] is followed at once: a failure that may pass is then retried until the note
    /// expires.
    pub most: Option<u32>,
    /// Whether the rules for addresses forbid where the provider says that the audio is. Only of [`Stage::Fetch`].
    pub is_forbidden: bool,
    pub upstream: Option<Upstream>,
}

impl SendError {
    pub fn new(kind: SendErrorKind, detail: impl Into<String>) -> Self {
        let scope = if kind == SendErrorKind::RateLimited { Scope::Connection } else { Scope::Recipient };
        let detail = detail.into();
        Self {
            kind,
            detail,
            retry_after: None,
            scope,
            until: None,
            stage: Stage::Dispatch,
            most: None,
            is_forbidden: false,
            upstream: None,
        }
    }

    /// Sets the scope of a limit or refusal. The default is the connection for a rate limit, and the recipient for
    /// everything else.
    #[must_use]
    pub fn about(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets the number of equal answers after which the finding is believed.
    #[must_use]
    pub fn at_most(mut self, tries: u32) -> Self {
        self.most = Some(tries);
        self
    }

    /// Says that the rules for addresses forbid where the audio is.
    #[must_use]
    pub fn forbidden(mut self) -> Self {
        self.is_forbidden = true;
        self
    }

    /// Sets the time at which the error's finding ends.
    #[must_use]
    pub fn until(mut self, until: Timestamp) -> Self {
        self.until = Some(until);
        self
    }

    /// Sets the stage, which is [`Stage::Dispatch`] by default.
    #[must_use]
    pub fn at(mut self, stage: Stage) -> Self {
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

/// A recipient that the connection does not reach ends the note.
impl From<RecipientError> for SendError {
    fn from(error: RecipientError) -> Self {
        Self::new(SendErrorKind::InvalidRecipient, error.to_string())
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
