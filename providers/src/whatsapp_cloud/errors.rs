//! The meaning of Meta's refusals, in answers and in statuses:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes/>.
//! Meta's own advice is to go by code and details, and neither by title nor by HTTP status.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use secrecy::SecretString;
use serde_json::Value;

use crate::{
    Scope, SendError, SendErrorKind, Upstream,
    wire::{self, Answer, Step},
};

/// An answer that is no success, taken apart.
pub(super) struct Refusal {
    status: StatusCode,
    code: Option<u64>,
    subcode: Option<u64>,
    /// Whether Meta says itself that the request may be repeated.
    is_transient: bool,
    /// Message and details, in lower case.
    words: String,
    retry_after: Option<Duration>,
    asked: Timestamp,
    pub upstream: Upstream,
}

/// A closed conversation opens the moment the person writes, of which Meta tells nobody who sends: a refusal is known to
/// hold for this long and no longer.
const CLOSED_FOR: SignedDuration = SignedDuration::from_mins(1);

impl Refusal {
    /// Reads `{"error": {"code", "error_subcode", "is_transient", "message", "error_data": {"details"}, "fbtrace_id"}}`, all
    /// of it optional: a proxy or a reseller on the way answers in its own words.
    pub fn read(answer: &Answer, now: Timestamp, secrets: &[&SecretString]) -> Self {
        let body = answer.json();
        let error = &body["error"];
        let code = number(&error["code"]);
        let said: Vec<&str> = [&error["message"], &error["error_data"]["details"], &error["error_user_msg"]]
            .into_iter()
            .filter_map(Value::as_str)
            .collect();
        let said = said.join(": ");
        Self {
            status: answer.status,
            code,
            subcode: number(&error["error_subcode"]),
            is_transient: error["is_transient"] == true,
            words: said.to_lowercase(),
            retry_after: wire::retry_after(&answer.headers, now).or_else(|| regained(answer)),
            asked: now,
            upstream: Upstream {
                status: Some(answer.status.as_u16()),
                code: code.map(|code| code.to_string()),
                message: (!said.is_empty()).then(|| wire::quote(&said, secrets)),
                trace: error["fbtrace_id"].as_str().and_then(|text| wire::identifier(text, secrets)),
            },
        }
    }

    /// Whether Meta does not know the uploaded audio (any more): "Param audio['id'] is not a valid whatsapp business
    /// account media attachment ID".
    pub fn is_about_media(&self) -> bool {
        self.is_parameter()
            && ["attachment", "media id", "media_id", "media object", "audio['id']", "audio.id"]
                .iter()
                .any(|word| self.words.contains(word))
    }

    /// Whether Meta does not take the message that is answered.
    pub fn is_about_reply(&self) -> bool {
        self.is_parameter() && ["context", "replied", "quoted"].iter().any(|word| self.words.contains(word))
    }

    fn is_parameter(&self) -> bool {
        matches!(self.code, Some(100 | 131_009))
    }

    /// Whether the recipient is the parameter that is wrong.
    fn is_about_recipient(&self) -> bool {
        self.is_parameter()
            && !self.words.contains("recipient_type")
            && ["recipient", "['to']", "param to ", "parameter to ", "wa_id"]
                .iter()
                .any(|word| self.words.contains(word))
    }

    pub fn into_error(self, step: Step) -> SendError {
        let (kind, detail) = self.judge(step);
        let mut error = SendError::new(kind, detail);
        if kind == SendErrorKind::RateLimited {
            error.retry_after = self.retry_after.or_else(|| usual_wait(self.code));
            if self.code == Some(PAIR_LIMIT) {
                error.scope = Scope::Recipient;
            }
        } else {
            error.retry_after = self.retry_after;
        }
        if kind == SendErrorKind::ConversationClosed {
            error = error.until(self.asked + CLOSED_FOR);
        }
        error.from_upstream(self.upstream)
    }

    /// The table of what hangs on more than the code, read from top to bottom; then [`meaning`], then the HTTP status.
    fn judge(&self, step: Step) -> (SendErrorKind, &'static str) {
        use SendErrorKind as Kind;

        let says = |part: &str| self.words.contains(part);
        match (self.code, step) {
            // Media that people sent is kept for some days. "Media download error" is a file that Meta itself lost.
            (Some(100 | 131_052), Step::Fetch) => {
                return (Kind::Rejected, crate::inbound::GONE);
            }
            // "Unsupported post request. Object with ID '...' does not exist, cannot be loaded due to missing permissions":
            // https://developers.facebook.com/docs/graph-api/guides/error-handling/
            (Some(100), _) if self.subcode == Some(33) => return NO_SUCH_NUMBER,
            (Some(100 | 2200), Step::Check) if says("callback") || says("webhook") || says("verif") => {
                return (
                    Kind::Misconfigured,
                    "the provider could not verify the callback address; server.public_url must be https and \
                     reachable from the internet, and the gateway must be running with this verify_token",
                );
            }
            (Some(100 | 131_053), Step::Prepare | Step::Dispatch)
                if says("too big") || says("too large") || says("file size") =>
            {
                return (Kind::MediaTooLarge, "the provider says that the audio is too large");
            }
            (Some(100), Step::Prepare) if says("type") || says("mime") => {
                return (Kind::MediaRejected, "the provider does not take this audio");
            }
            (_, Step::Dispatch) if self.is_about_media() => {
                return (
                    Kind::MediaRejected,
                    "the provider does not take the audio that was uploaded to it just now",
                );
            }
            (_, Step::Dispatch) if self.is_about_recipient() => {
                return (Kind::InvalidRecipient, "the provider says that this is no valid recipient");
            }
            _ => {}
        }
        let Some((kind, detail)) = self.code.and_then(meaning) else {
            // Only a refusal proves that nothing was done; a fault or a timeout of the server does not.
            let is_refusal = self.status.is_client_error()
                && !matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
            return if self.is_transient && is_refusal {
                (Kind::Unavailable, "the provider cannot do this at the moment, as it says")
            } else {
                wire::default_kind(self.status, step)
            };
        };
        match (kind, step) {
            (Kind::OutcomeUnknown, Step::Prepare | Step::Check | Step::Fetch) => {
                (Kind::Unavailable, "the provider has a fault")
            }
            (
                Kind::Unauthorized | Kind::Misconfigured | Kind::RateLimited | Kind::Unavailable,
                Step::Check | Step::Fetch,
            ) => (kind, detail),
            (_, Step::Fetch) => (Kind::Rejected, "the provider refused to hand out the audio"),
            (_, Step::Check) => {
                (Kind::Misconfigured, "the provider refused the question; check base_url and phone_number_id")
            }
            _ => (kind, detail),
        }
    }
}

const NO_SUCH_NUMBER: (SendErrorKind, &str) = (
    SendErrorKind::Misconfigured,
    "the provider has no such number for this token; check phone_number_id and the token's permissions",
);

/// About one message in six seconds from one number to one person.
const PAIR_LIMIT: u64 = 131_056;

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The wait if Meta names no time itself.
fn usual_wait(code: Option<u64>) -> Option<Duration> {
    match code? {
        PAIR_LIMIT => Some(Duration::from_secs(6)),
        // The limit that follows complaints of recipients ends by their number, not by the minute.
        131_048 => Some(Duration::from_secs(15 * 60)),
        _ => None,
    }
}

/// The header `X-Business-Use-Case-Usage` says in minutes when requests are taken again:
/// <https://developers.facebook.com/docs/graph-api/overview/rate-limiting/#headers-2>
fn regained(answer: &Answer) -> Option<Duration> {
    let usage: Value = serde_json::from_str(answer.header("x-business-use-case-usage")?).ok()?;
    let limits = usage.as_object()?.values().filter_map(Value::as_array).flatten();
    let minutes = limits.filter_map(|limit| limit["estimated_time_to_regain_access"].as_f64());
    wire::wait_of_seconds(minutes.fold(0.0, f64::max) * 60.0).filter(|wait| !wait.is_zero())
}

/// The meaning of a code in any place. `None` for a code that no page lists.
pub(super) fn meaning(code: u64) -> Option<(SendErrorKind, &'static str)> {
    use SendErrorKind as Kind;

    Some(match code {
        // AuthException, "Access token has expired", and a request without any.
        0 | 104 | 190 => (Kind::Unauthorized, "the provider refused the access token; renew it"),
        3 | 10 | 200..=299 | 131_005 => (
            Kind::Misconfigured,
            "the token lacks a permission: whatsapp_business_messaging, and access to the WhatsApp account",
        ),
        33 | 803 => NO_SUCH_NUMBER,
        368 | 131_031 => (
            Kind::Misconfigured,
            "the provider has restricted or locked the account; Business Support Home says why",
        ),
        131_042 => (Kind::Misconfigured, "there is a problem with the account's payment method"),
        133_010 | 131_045 => {
            (Kind::Misconfigured, "the number is not registered with the Cloud API; register it again")
        }
        131_037 => (Kind::Misconfigured, "the number's display name is not approved yet"),

        // https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput/
        4 | 17 | 613 | 80_007 | 130_429 => {
            (Kind::RateLimited, "the provider limits the rate of this account")
        }
        131_048 => (
            Kind::RateLimited,
            "the provider limits this number, because recipients blocked or reported its messages",
        ),
        PAIR_LIMIT => (Kind::RateLimited, "the provider limits the rate of messages to this recipient"),

        // Down or overloaded: nothing was done.
        2 | 131_016 | 133_004 => (Kind::Unavailable, "a service of the provider is down at the moment"),
        131_057 => (Kind::Unavailable, "the account is in maintenance at the provider"),
        // "Unknown": Meta itself does not say what became of it.
        1 | 131_000 => (
            Kind::OutcomeUnknown,
            "the provider reported a fault after the note was handed over, so it may or may not arrive",
        ),

        131_047 => (
            Kind::ConversationClosed,
            "the recipient has not written in the last 24 hours; only a template may open the conversation again",
        ),
        // Not on WhatsApp, an old app, terms not accepted, and more; Meta does not say which.
        131_026 => (
            Kind::NotReachable,
            "WhatsApp cannot deliver to this recipient: not on WhatsApp, or with an app that is too old",
        ),
        131_030 => (
            Kind::NotReachable,
            "a test number only reaches recipients on its list; add this one in the App Dashboard",
        ),
        130_497 => (Kind::NotReachable, "the account may not write to people in this country"),
        130_472 => (Kind::NotReachable, "the recipient is part of an experiment of Meta's"),
        131_049 => (Kind::NotReachable, "Meta chose not to deliver this message"),
        131_050 => (Kind::OptedOut, "the recipient does not want these messages"),
        131_021 => (Kind::InvalidRecipient, "a number cannot write to itself"),
        131_052 | 131_053 => (Kind::MediaRejected, "the provider does not take this audio"),
        100 | 131_008 | 131_009 | 131_051 | 135_000 => (Kind::Rejected, "the provider refused the note"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_until_access_are_read_from_the_header() {
        let mut answer = Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers: reqwest::header::HeaderMap::new(),
            body: bytes::Bytes::new(),
            is_cut: false,
        };
        for (usage, expected) in [
            (r#"{"1234":[{"type":"whatsapp","estimated_time_to_regain_access":5}]}"#, Some(300)),
            (
                r#"{"1":[{"estimated_time_to_regain_access":1},{"estimated_time_to_regain_access":2}]}"#,
                Some(120),
            ),
            (r#"{"1":[{"estimated_time_to_regain_access":0}]}"#, None),
            ("{}", None),
            ("no JSON", None),
        ] {
            answer.headers.insert("x-business-use-case-usage", usage.parse().expect("a header value"));
            assert_eq!(regained(&answer), expected.map(Duration::from_secs), "{usage}");
        }
    }
}
