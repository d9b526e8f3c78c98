//! Meaning of Discord's refusals: <https://docs.discord.com/developers/topics/opcodes-and-status-codes#json>.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use secrecy::SecretString;

use super::limits;
use crate::{
    Scope, SendError, SendErrorKind, Upstream,
    wire::{self, Answer, Step},
};

/// An answer that is no success, taken apart.
pub(super) struct Refusal {
    status: StatusCode,
    code: Option<u64>,
    /// The whole answer as text: in which field of a form a mistake is stands deep in `errors`.
    fields: String,
    retry_after: Option<Duration>,
    scope: Scope,
    pub upstream: Upstream,
}

impl Refusal {
    /// Reads `{"code", "message", "errors", "retry_after", "global"}`, all of it optional: Cloudflare answers before Discord
    /// does, in HTML.
    pub fn read(answer: &Answer, now: Timestamp, secrets: &[&SecretString]) -> Self {
        let body = answer.json();
        let code = body["code"].as_u64().filter(|code| *code > 0);
        let wait = body["retry_after"].as_f64().and_then(wire::wait_of_seconds);
        Self {
            status: answer.status,
            code,
            fields: body["errors"].to_string(),
            // The header has whole seconds; the body is exact.
            retry_after: wait.or_else(|| wire::retry_after(&answer.headers, now)),
            scope: limits::scope(answer),
            upstream: Upstream {
                status: Some(answer.status.as_u16()),
                code: code.map(|code| code.to_string()),
                message: body["message"].as_str().map(|text| wire::quote(text, secrets)),
                trace: answer.header("cf-ray").and_then(|text| wire::identifier(text, secrets)),
            },
        }
    }

    pub fn is_unknown_channel(&self) -> bool {
        self.code == Some(10_003)
    }

    pub fn into_error(self, step: Step) -> SendError {
        let (kind, detail) = self.judge(step);
        let mut error = SendError::new(kind, detail);
        if kind == SendErrorKind::RateLimited {
            error.scope = match self.code {
                // Slow mode, and the limits of a channel or a server.
                Some(20_016 | 20_022 | 20_028 | 20_029) => Scope::Recipient,
                Some(40_003) => Scope::Connection,
                _ if step == Step::Dispatch => self.scope,
                _ => Scope::Connection,
            };
        }
        error.retry_after = self.retry_after;
        error.from_upstream(self.upstream)
    }

    /// The table, read from top to bottom.
    fn judge(&self, step: Step) -> (SendErrorKind, &'static str) {
        use SendErrorKind as Kind;

        let code = self.code.unwrap_or_default();
        match (self.status.as_u16(), code, step) {
            (429, ..) | (_, 20_016 | 20_022 | 20_028 | 20_029 | 40_003 | 40_062, _) => {
                (Kind::RateLimited, "the provider limits the rate of messages")
            }
            // 401s are counted and ban this machine's address: never tried again by itself.
            (401, ..) | (_, 40_001 | 50_014, _) => {
                (Kind::Unauthorized, "the provider refused the bot's token; reset it in the Developer Portal")
            }
            (_, 40_333, _) => (
                Kind::Misconfigured,
                "the provider blocks this machine or what stands between; check base_url and proxies",
            ),
            (_, 20_026 | 40_002, _) => (
                Kind::Misconfigured,
                "the provider has restricted the bot; the Developer Portal and the owner's mail say why",
            ),
            // "API resource is currently overloaded", "temporarily disabled": nothing was done.
            (_, 40_004 | 40_006 | 110_001 | 130_000, _) => {
                (Kind::Unavailable, "the provider has switched this off for a while")
            }

            (.., Step::Check) => wire::default_kind(self.status, step),

            // A server or a channel can forbid voice messages alone: permission SEND_VOICE_MESSAGES.
            (_, 50_173, _) => (Kind::FormUnavailable, "this channel does not take voice messages"),
            (_, 400_001, _) => (Kind::FormUnavailable, "this server takes no files at the moment"),
            (_, 10_013 | 50_033, _) => (Kind::InvalidRecipient, "the provider knows no such person"),
            (_, 10_003, _) => {
                (Kind::NotReachable, "the bot knows no such channel: add it to the server first")
            }
            // Reasons of direct messages: privacy settings, a block, or no server in common.
            (_, 50_007 | 50_278, _) => (
                Kind::NotReachable,
                "this person takes no direct messages from the bot: they have to share a server with it and allow them",
            ),
            (_, 50_001 | 50_013 | 50_008 | 50_024 | 40_007, _) => (
                Kind::NotReachable,
                "the bot may not write in this channel: it needs View Channel, Send Messages and Send Voice Messages there",
            ),
            (_, 50_083 | 160_005, _) => (Kind::NotReachable, "the thread is archived or locked"),
            (413, ..) | (_, 40_005 | 50_045, _) => {
                (Kind::MediaTooLarge, "the provider says that the audio is too large")
            }
            // Not exactly one audio file, or one that cannot be read.
            (_, 50_046 | 50_160, _) => (Kind::MediaRejected, "the provider does not take this audio"),
            (_, 50_035, _) if self.fields.contains("recipient_id") || self.fields.contains("channel_id") => {
                (Kind::InvalidRecipient, "the provider says that this is no valid recipient")
            }
            (_, 200_000 | 200_001 | 20_009, _) => {
                (Kind::Rejected, "the server's own rules for messages refuse this one")
            }
            // A refusal of permissions that is new: the next connection may reach the person, this one is not asked again.
            (403, _, Step::Prepare | Step::Dispatch) if code > 0 => {
                (Kind::NotReachable, "the bot may not do this here")
            }
            _ => wire::default_kind(self.status, step),
        }
    }
}
