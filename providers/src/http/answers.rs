//! The meaning of an answer: the rows of the recipe, read from top to bottom.

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;

use super::{
    recipe::{Outcome, Recipe, Row},
    template::plain,
};
use crate::{
    Scope, SendError, SendErrorKind, Upstream,
    wire::{self, Answer, Step},
};

/// The result of the first row that fits.
pub(super) struct Verdict {
    pub outcome: Outcome,
    pub scope: Option<Scope>,
}

impl Recipe {
    pub fn verdict(&self, answer: &Answer, body: &Value) -> Option<Verdict> {
        let row = self.answers.iter().find(|row| row.fits(answer, body))?;
        Some(Verdict { outcome: row.kind, scope: row.scope })
    }
}

impl Row {
    fn fits(&self, answer: &Answer, body: &Value) -> bool {
        if self.status.is_some_and(|rule| !rule.fits(answer.status.as_u16())) {
            return false;
        }
        let matches = |text: &str| self.pattern.as_ref().is_none_or(|pattern| pattern.0.is_match(text));
        match &self.pointer {
            Some(pointer) => body
                .pointer(&pointer.0)
                .filter(|value| says_something(value))
                .is_some_and(|value| matches(&plain(value))),
            None => matches(&String::from_utf8_lossy(&answer.body)),
        }
    }
}

/// Whether a value is more than a place for one: providers have `"error": null`, `""`, `false` and `[]` in successes.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// The gateway's words for a kind.
fn detail(kind: SendErrorKind) -> &'static str {
    use SendErrorKind as Kind;

    match kind {
        Kind::InvalidRecipient => "the provider knows no such recipient",
        Kind::NotReachable => "the recipient cannot be reached over this connection",
        Kind::FormUnavailable => "the recipient does not take notes in this form",
        Kind::ConversationClosed => "the conversation is closed until the recipient writes again",
        Kind::OptedOut => "the recipient does not want messages",
        Kind::MediaRejected => "the provider does not take this audio",
        Kind::MediaTooLarge => "the provider says that the audio is too large",
        Kind::Rejected => "the provider refused the note",
        Kind::Unauthorized => "the provider refused the credentials; renew them",
        Kind::Misconfigured => "the account cannot do this at the provider; look at its dashboard",
        Kind::RateLimited => "the provider limits the rate of this account",
        Kind::Outdated => "the provider no longer knows the uploaded audio; it is uploaded again",
        Kind::NotReady => "the provider is not ready yet",
        Kind::Unavailable => "the provider did not take the note",
        Kind::OutcomeUnknown => {
            "no row of the recipe says what this answer means, so the note may or may not arrive"
        }
        Kind::Unexpected => wire::NO_MESSAGE_ID,
    }
}

/// The error that an answer is, as the step sees it.
pub(super) fn error(
    step: Step,
    verdict: Option<Verdict>,
    answer: &Answer,
    body: &Value,
    now: Timestamp,
    secrets: &[&SecretString],
) -> SendError {
    use SendErrorKind as Kind;

    let scope = verdict.as_ref().and_then(|verdict| verdict.scope);
    let refused = verdict.and_then(|verdict| match verdict.outcome {
        Outcome::Refused(kind) => Some(kind),
        Outcome::Accepted => None,
    });
    let (kind, detail) = match (step, refused) {
        (Step::Dispatch, Some(kind)) => (kind, detail(kind)),
        (Step::Dispatch, None) if answer.status.is_success() => (Kind::Unexpected, detail(Kind::Unexpected)),
        (Step::Dispatch, None) => (Kind::OutcomeUnknown, detail(Kind::OutcomeUnknown)),
        // The upload comes before the visible request, so nothing was sent.
        (Step::Prepare, Some(Kind::OutcomeUnknown | Kind::Unexpected)) => {
            (Kind::Unavailable, detail(Kind::Unavailable))
        }
        (Step::Prepare, Some(kind)) => (kind, detail(kind)),
        (
            Step::Check,
            Some(
                kind @ (Kind::Unauthorized
                | Kind::Misconfigured
                | Kind::RateLimited
                | Kind::NotReady
                | Kind::Unavailable),
            ),
        ) => (kind, detail(kind)),
        (Step::Check, None) if answer.status.is_success() => {
            (Kind::Misconfigured, "the answer is not what the recipe's check looks for; look at the account")
        }
        (step, _) => wire::default_kind(answer.status, step),
    };
    let mut error = SendError::new(kind, detail).from_upstream(upstream(answer, body, secrets));
    error.retry_after = wire::retry_after(&answer.headers, now);
    if let Some(scope) = scope {
        error.scope = scope;
    }
    error
}

/// Pointers to an API's own words and codes.
const WORDS: [&str; 9] = [
    "/error/message",
    "/message",
    "/error_message",
    "/error/details",
    "/error",
    "/detail",
    "/description",
    "/reason",
    "/errors/0/message",
];
const CODES: [&str; 7] =
    ["/error/code", "/code", "/error_code", "/errorCode", "/errors/0/code", "/error/type", "/error"];
const TRACES: [&str; 4] = ["x-trace-id", "x-request-id", "x-line-request-id", "twilio-request-id"];

fn upstream(answer: &Answer, body: &Value, secrets: &[&SecretString]) -> Upstream {
    let words =
        WORDS.iter().find_map(|pointer| body.pointer(pointer)?.as_str().filter(|text| !text.is_empty()));
    let code = CODES.iter().find_map(|pointer| match body.pointer(pointer)? {
        value @ (Value::String(_) | Value::Number(_)) => wire::identifier(&plain(value), secrets),
        _ => None,
    });
    Upstream {
        status: Some(answer.status.as_u16()),
        code,
        message: words.map(|text| wire::quote(text, secrets)),
        trace: TRACES.iter().find_map(|name| wire::identifier(answer.header(name)?, secrets)),
    }
}
