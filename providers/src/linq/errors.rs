//! The meaning of Linq's refusals. Both status and code count: 5001 is a failed upload with 500 and too much with
//! 413.
//!
//! Codes: <https://docs.linqapp.com/error/>; the page of each is `/error/codes/2xxx/2001/` and so on.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    SendError, SendErrorKind, Upstream,
    wire::{self, Answer},
};

/// The refused call: a call that may be repeated, the one that shows the note, a question about the account, about
/// something in it, or about the file of a received note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Prepare,
    Dispatch,
    Check,
    Inquiry,
    Fetch,
}

/// An answer that is no success, taken apart.
pub(super) struct Refusal {
    status: u16,
    code: Option<u64>,
    retry_after: Option<Duration>,
    upstream: Upstream,
}

impl Refusal {
    /// Reads `{"error": {"code", "message", "retry_after"}, "trace_id"}`, all of it optional: a proxy on the
    /// way answers in its own words.
    pub fn read(answer: &Answer, now: Timestamp, secrets: &[&SecretString]) -> Self {
        let body = answer.json();
        let error = &body["error"];
        let code = error["code"].as_u64().or_else(|| error["code"].as_str()?.parse().ok());
        let status = answer.status.as_u16();
        let wait = || error["retry_after"].as_f64().and_then(wire::wait_of_seconds);
        let upstream = Upstream {
            status: Some(status),
            code: code.map(|code| code.to_string()),
            message: error["message"].as_str().map(|text| wire::quote(text, secrets)),
            trace: trace(answer, secrets),
        };
        Self { status, code, retry_after: wire::retry_after(&answer.headers, now).or_else(wait), upstream }
    }

    pub fn code(&self) -> Option<u64> {
        self.code
    }

    pub fn into_error(self, step: Step) -> SendError {
        let (kind, detail) = judge(self.status, self.code, step);
        let mut error = SendError::new(kind, detail).from_upstream(self.upstream);
        error.retry_after = self.retry_after.or_else(|| usual_wait(self.code));
        error
    }
}

/// Same id in the header and in the body (<https://docs.linqapp.com/guides/platform/debugging/>).
pub(super) fn trace(answer: &Answer, secrets: &[&SecretString]) -> Option<String> {
    let body = answer.json();
    let text = answer.header("x-trace-id").or_else(|| body["trace_id"].as_str())?;
    wire::identifier(text, secrets)
}

/// The wait if Linq names no time itself.
fn usual_wait(code: Option<u64>) -> Option<Duration> {
    match code? {
        // "A few seconds": https://docs.linqapp.com/error/codes/2xxx/2007/
        2007 | 2009 => Some(Duration::from_secs(2)),
        // https://docs.linqapp.com/error/codes/4xxx/4004/
        4004 => Some(Duration::from_secs(30)),
        _ => None,
    }
}

/// The table, read from top to bottom.
fn judge(status: u16, code: Option<u64>, step: Step) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;
    use Step::{Check, Dispatch, Fetch, Inquiry, Prepare};

    match (status, code.unwrap_or_default(), step) {
        // 429 comes with codes that no page lists, so the status alone decides.
        (429, ..) | (_, 1007, _) => (Kind::RateLimited, "the provider limits the rate of this account"),
        (401, ..) | (_, 2004 | 2005, _) => (Kind::Unauthorized, "the provider refused the token; renew it"),
        // https://docs.linqapp.com/error/codes/2xxx/2007/
        (_, 2007, Fetch) => (Kind::NotReady, "the provider is still processing the audio"),
        (_, 2003, Fetch) | (404 | 410, _, Fetch) => (Kind::Rejected, crate::inbound::GONE),
        (408 | 500.., _, Fetch) => (Kind::Unavailable, "the provider has a fault"),
        (.., Fetch) => (Kind::Rejected, "the provider refused to hand out the audio"),
        // No note is involved, so any other refusal means that the address or the account is wrong.
        (408 | 500.., _, Check | Inquiry) => (Kind::Unavailable, "the provider has a fault; try again later"),
        (300..=399 | 404 | 405, _, Check) => {
            (Kind::Misconfigured, "the provider has nothing at this address; check base_url")
        }
        (.., Check) => (
            Kind::Misconfigured,
            "the provider refused to name the account's lines; check base_url and token",
        ),
        (300..=399, _, Inquiry) | (404 | 405, 0, Inquiry) => {
            (Kind::Misconfigured, "the provider has nothing at this address; check base_url")
        }
        (_, 2001 | 2010 | 2013, Inquiry) => (
            Kind::Misconfigured,
            "the provider no longer has what was asked for, or it belongs to another account",
        ),
        (.., Inquiry) => (
            Kind::Misconfigured,
            "the provider refused the question; where it is about callbacks, server.public_url must be https and \
             reachable from the internet",
        ),
        (413, ..) | (_, 5005, _) => (Kind::MediaTooLarge, "the provider says that the audio is too large"),

        (_, 1002, _) => (Kind::InvalidRecipient, "the provider says that this is no valid recipient"),
        // The line may have left the chat, or the chat was deleted:
        // https://docs.linqapp.com/error/codes/2xxx/2013/
        (_, 2001 | 2013, _) => {
            (Kind::NotReachable, "the conversation does not exist, is closed, or belongs to another account")
        }
        // Sandbox and shared lines only answer: https://docs.linqapp.com/error/codes/2xxx/2008/
        (_, 2008, _) => (Kind::NotReachable, "on this line the recipient has to write first"),
        // 2024 is newer than the error pages (linq-go, chat.go); `override_optout` exists and is never used.
        (_, 2024 | 2026, _) => (Kind::OptedOut, "the recipient does not want messages from this account"),

        (_, 2006, _) => (Kind::Misconfigured, "the line in from does not belong to this account"),
        (_, 2011, _) => (Kind::Misconfigured, "voice notes are not enabled for this account at the provider"),

        (_, 2003, _) => (Kind::Rejected, "the provider does not know the audio that was uploaded to it"),
        // A 404 that heals: https://docs.linqapp.com/error/codes/2xxx/2007/
        (_, 2007, _) => (Kind::NotReady, "the provider is still processing the uploaded audio"),
        (_, 2009, _) => (Kind::NotReady, "the provider is still opening the conversation"),
        // On POST /v3/messages: no line is eligible at the moment (OpenAPI file).
        (_, 2015, _) => (Kind::Unavailable, "the account has no line that may send at the moment"),
        // Reads still work; a flagged line comes back after about a day (linq-go, phonenumber1.go).
        (_, 2027, _) => (Kind::Unavailable, "the line may not send at the moment"),
        (_, 5004 | 5006 | 5007, _) => (Kind::MediaRejected, "the provider does not take this audio"),

        (500.., _, Prepare) => (Kind::Unavailable, "the provider has a fault"),
        // Linq's own word that nothing was sent: its upload, download or signing failed, the line is offline,
        // or a service that it needs is down. https://docs.linqapp.com/error/codes/5xxx/5002/ and others.
        (500, 5001, _) | (_, 5002 | 5003, _) => (Kind::Unavailable, "the provider could not load the audio"),
        (_, 4002, _) => (Kind::Unavailable, "the line is offline at the moment"),
        (_, 4004, _) => (Kind::Unavailable, "a service that the provider needs is down"),
        // A 500 that is final: https://docs.linqapp.com/error/codes/3xxx/3007/
        (_, 3007 | 4001, _) => (Kind::Rejected, "the provider tried to deliver the note and gave up"),

        // Everything else from 500 up may have happened after the memo was queued, and the request has no
        // idempotency key.
        (500.. | 408, _, Dispatch) => (
            Kind::OutcomeUnknown,
            "the provider reported a fault after the note was handed over, so it may or may not arrive",
        ),
        (408, _, Prepare) => (Kind::Unavailable, "the provider did not take the request in time"),

        // States that do not change by waiting: groups, wrong service, apps, contact cards, mentions.
        (409, 1006 | 2014 | 2016 | 2017 | 2018 | 2023, _) => {
            (Kind::Rejected, "the provider refuses this kind of message in this conversation")
        }
        (409, ..) => (Kind::Unavailable, "the conversation is busy at the provider"),
        (404, 0, _) => (Kind::Misconfigured, "the provider has nothing at this address; check base_url"),
        (300..=399, _, Prepare) => {
            (Kind::Misconfigured, "the provider answered with a redirect; check base_url")
        }
        (400..=499, ..) => (Kind::Rejected, "the provider refused the note"),
        _ => (
            Kind::Unexpected,
            "the provider's answer was not understood, so the note may or may not arrive; check base_url",
        ),
    }
}
