//! The meaning of WAHA's refusals. It is a NestJS application over four engines: the status says little, and the engine's words
//! are in the text of an exception (<https://github.com/devlikeapro/waha/blob/core/src/core/exceptions.ts>).

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use secrecy::SecretString;
use serde_json::Value;

use super::scope;
use crate::{
    SendError, SendErrorKind, Upstream,
    wire::{self, Answer, Step},
};

/// An answer that is no success, taken apart.
pub(super) struct Refusal {
    status: StatusCode,
    /// The message in lower case.
    words: String,
    /// The state of a session that cannot send.
    state: Option<String>,
    retry_after: Option<Duration>,
    upstream: Upstream,
}

impl Refusal {
    /// Reads `{statusCode, message, error}`, `{error, session, status, expected}` and `{statusCode, exception, request}`.
    /// `request` repeats what was sent, so it is not looked at.
    pub fn read(answer: &Answer, now: Timestamp, secrets: &[&SecretString]) -> Self {
        let body = answer.json();
        let mut texts = Vec::new();
        for place in
            [&body["exception"]["message"], &body["exception"]["details"], &body["message"], &body["error"]]
        {
            collect(place, &mut texts);
        }
        let nested = [&body, &body["message"], &body["exception"]];
        let state = nested.into_iter().find_map(|place| place["status"].as_str()).map(str::to_owned);
        Self {
            status: answer.status,
            words: texts.join("\n").to_lowercase(),
            retry_after: wire::retry_after(&answer.headers, now),
            upstream: Upstream {
                status: Some(answer.status.as_u16()),
                code: state.as_deref().and_then(|state| wire::identifier(state, secrets)),
                message: texts.first().map(|text| wire::quote(text, secrets)),
                trace: None,
            },
            state,
        }
    }

    pub fn into_error(self, step: Step) -> SendError {
        let (kind, detail) = self.judge(step);
        let mut error = SendError::new(kind, detail).about(scope(kind)).from_upstream(self.upstream);
        error.retry_after = self.retry_after;
        error
    }

    /// The table, read from top to bottom.
    fn judge(&self, step: Step) -> (SendErrorKind, &'static str) {
        use SendErrorKind as Kind;

        let says = |part: &str| self.words.contains(part);
        match (self.status.as_u16(), step) {
            (401, _) => (Kind::Unauthorized, "the provider refused the API key; check api_key"),
            // "Session status is not as expected", after the server itself has waited for some seconds:
            // https://github.com/devlikeapro/waha/blob/core/src/core/manager.core.ts
            (422, _) if self.state.is_some() => judge_state(self.state.as_deref().unwrap_or_default(), step),
            (404 | 422, Step::Check) if says("session") => (
                Kind::Misconfigured,
                "the provider knows no such session: check session, or create and start it at the provider",
            ),
            // A session that is stopped to be started again is answered like one that does not exist (`getSession`):
            // https://github.com/devlikeapro/waha/blob/core/src/core/manager.core.ts
            (404 | 422, _) if says("session") => (
                Kind::Unavailable,
                "the WhatsApp session is not started; start it at the provider, or check session",
            ),
            (422, _) if says("plus") => (
                Kind::Misconfigured,
                "this edition of the provider sends no voice notes; update the server to 2026.6.1 or later",
            ),
            (422 | 501, Step::Dispatch)
                if says("not implemented") || says("not available") || says("not supported") =>
            {
                (Kind::FormUnavailable, "the provider's engine does not send messages of this form")
            }
            (500.., Step::Dispatch) => self.judge_exception(),
            (status, step) => {
                wire::default_kind(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), step)
            }
        }
    }

    /// An exception while sending. It proves that nothing was sent where WhatsApp answered with a refusal of its own, or
    /// where the work before the send failed.
    fn judge_exception(&self) -> (SendErrorKind, &'static str) {
        use SendErrorKind as Kind;

        let says = |part: &str| self.words.contains(part);
        match () {
            // https://github.com/devlikeapro/waha/issues/1992
            () if says("error 463") || says("reachouttimelock") => (
                Kind::ConversationClosed,
                "WhatsApp lets this sender open no new conversations for now; whoever wrote to it can be answered",
            ),
            () if says("error 429") || says("rate-overlimit") => {
                (Kind::RateLimited, "WhatsApp limits the rate of this sender")
            }
            // An answer of WhatsApp's server to the message itself: https://github.com/tulir/whatsmeow/blob/main/send.go
            () if says("server returned error") => (Kind::Rejected, "WhatsApp refused the note"),
            // https://github.com/pedroslopez/whatsapp-web.js/issues/3834
            () if says("no lid for user") => (Kind::NotReachable, "the recipient is not on WhatsApp"),
            // https://github.com/devlikeapro/waha/blob/core/src/core/utils/ffmpeg.ts
            () if says("ffmpeg") => (Kind::MediaRejected, "the provider could not convert the audio"),
            () if says("request failed with status code") => (
                Kind::Unavailable,
                "the provider could not download the audio; server.public_url must be reachable from it",
            ),
            () => wire::default_kind(self.status, Step::Dispatch),
        }
    }
}

/// Texts, alone or in lists.
fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if !text.is_empty() => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        _ => {}
    }
}

/// The states of a session that cannot send, and the way out of each:
/// <https://waha.devlike.pro/docs/how-to/sessions/#session-status>. A note waits where the session may come back without
/// anybody's help: it is stopped and started whenever its configuration changes.
pub(super) fn judge_state(state: &str, step: Step) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    match (state, step) {
        ("STARTING", _) => (Kind::NotReady, "the WhatsApp session is starting; try again in a minute"),
        // It had the time to start in between.
        ("WORKING", _) => (Kind::NotReady, "the WhatsApp session was not ready yet"),
        ("SCAN_QR_CODE" | "PASSKEY_REQUIRED" | "PASSKEY_CONFIRMATION_REQUIRED", _) => (
            Kind::Misconfigured,
            "the WhatsApp session is not linked; link it with the phone at the provider's dashboard",
        ),
        ("STOPPED", Step::Check) => {
            (Kind::Misconfigured, "the WhatsApp session is stopped; start it at the provider's dashboard")
        }
        ("FAILED", Step::Check) => (
            Kind::Misconfigured,
            "the WhatsApp session has failed; restart it, and where that does not help log out and link it again",
        ),
        ("STOPPED", _) => (Kind::Unavailable, "the WhatsApp session is stopped; start it at the provider"),
        ("FAILED", _) => (Kind::Unavailable, "the WhatsApp session has failed; restart it at the provider"),
        (_, Step::Check) => (
            Kind::Misconfigured,
            "the WhatsApp session is in no state that can send; look at it at the provider's dashboard",
        ),
        _ => (Kind::Unavailable, "the WhatsApp session cannot send; look at it at the provider's dashboard"),
    }
}
