//! The meaning of Wawp's refusals. Codes are documented here and there: <https://api.wawp.net/en/docs/v2/session/info>,
//! <https://docs.wawp.net/wawps-session-lifecycle-1300479m0>.

use serde_json::{Value, json};

use crate::{SendErrorKind, wire::Answer};

/// Whether a body says "failed" although its status says 2xx.
pub(super) fn reports_failure(body: &Value) -> bool {
    // Wawp prints empty lists as `{}`, so an empty anything is no error.
    let error = match &body["error"] {
        Value::Null => false,
        Value::Bool(error) => *error,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    };
    error
        || body["code"].is_string()
        || body["success"] == json!(false)
        || body["result"] == json!(false)
        || status_in(body).is_some()
}

/// `{"status": 404}` inside the body (schema of the published OpenAPI file).
fn status_in(body: &Value) -> Option<u16> {
    body["status"].as_u64().and_then(|status| u16::try_from(status).ok()).filter(|status| *status >= 400)
}

/// The status that counts: where the answer itself says 2xx, the one in its body.
pub(super) fn status_of(answer: &Answer, body: &Value) -> Option<u16> {
    if answer.status.is_success() { status_in(body) } else { Some(answer.status.as_u16()) }
}

/// Everything in an answer that may hold an error code: which field has it depends on the part of Wawp that
/// answers, and outside JSON there are no fields.
pub(super) fn words(answer: &Answer, body: &Value) -> String {
    let fields: Vec<&str> =
        ["code", "error", "message"].iter().filter_map(|field| body[*field].as_str()).collect();
    if body.is_null() { String::from_utf8_lossy(&answer.body).into_owned() } else { fields.join(" ") }
}

/// The table, read from top to bottom; `status` is that of the body where the answer itself says 2xx.
pub(super) fn judge(status: Option<u16>, words: &str) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    let says = |code: &str| words.contains(code);
    match status {
        Some(429) => (Kind::RateLimited, "the provider limits the rate of this account"),
        Some(500..=599 | 408) => (
            Kind::OutcomeUnknown,
            "the provider reported a fault after the note was handed over, so it may or may not arrive",
        ),
        // Wawp's word for a fault of the engine behind it, with whatever status: that may have sent the note.
        _ if says("wawp_upstream_error") => (
            Kind::OutcomeUnknown,
            "the provider lost touch with WhatsApp while sending the note, so it may or may not arrive",
        ),
        Some(401) => (Kind::Unauthorized, "the provider refused the access token; renew it"),
        _ if says("quota_reached") => (Kind::Misconfigured, "the account's message quota is used up"),
        _ if says("subscription_required") => {
            (Kind::Misconfigured, "the account's plan does not include voice notes")
        }
        _ if says("invalid_session") => {
            (Kind::Misconfigured, "the WhatsApp session is gone; it must be linked again")
        }
        _ if says("bad_format") => (Kind::MediaRejected, "the provider does not take this audio"),
        Some(403) => (
            Kind::Misconfigured,
            "the account may not send: its quota is used up or its plan does not allow it",
        ),
        // A wrong or deleted instance, whose session must be linked again, or a wrong address.
        Some(404) => (
            Kind::Misconfigured,
            "the provider knows no such session: check base_url and instance_id, or link the session again",
        ),
        Some(413) => (Kind::MediaTooLarge, "the provider says that the audio is too large"),
        Some(300..=399) => (
            Kind::Unexpected,
            "the provider answered with a redirect, so the note may or may not arrive; check base_url",
        ),
        _ => (Kind::Rejected, "the provider refused the note"),
    }
}

/// The states of a session that cannot send, and the way out of each:
/// <https://docs.wawp.net/wawps-session-lifecycle-1300479m0>.
pub(super) fn judge_state(state: Option<&str>) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    match state {
        Some("STARTING") => (Kind::NotReady, "the WhatsApp session is starting; try again in a minute"),
        Some("SCAN_QR_CODE") => (
            Kind::Misconfigured,
            "the WhatsApp session is not linked; scan its QR code with the phone, at the provider's dashboard",
        ),
        Some("STOPPED") => {
            (Kind::Misconfigured, "the WhatsApp session is stopped; start it at the provider's dashboard")
        }
        Some("FAILED") => (
            Kind::Misconfigured,
            "the WhatsApp session has failed; restart it, and where that does not help log out and link it again",
        ),
        Some(_) => (
            Kind::Misconfigured,
            "the WhatsApp session is in no state that can send; look at it at the provider's dashboard",
        ),
        None => (Kind::Misconfigured, "the answer is not this provider's; check base_url"),
    }
}

/// [`judge`] for a question about the account, read from top to bottom.
pub(super) fn judge_check(status: Option<u16>, words: &str) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    let says = |code: &str| words.contains(code);
    match status {
        Some(429) => (Kind::RateLimited, "the provider limits the rate of this account; try again later"),
        Some(401) => (Kind::Unauthorized, "the provider refused the access token; renew it"),
        _ if says("wawp_upstream_error") => {
            (Kind::Unavailable, "the provider lost touch with WhatsApp; try again later")
        }
        Some(500..=599 | 408) => (Kind::Unavailable, "the provider has a fault; try again later"),
        _ if says("invalid_session") => (
            Kind::Misconfigured,
            "the provider knows no such session: check instance_id, or link the session again",
        ),
        Some(403) => (
            Kind::Misconfigured,
            "the account may not do this: its quota is used up or its plan does not allow it",
        ),
        Some(404) => (
            Kind::Misconfigured,
            "the provider knows no such session: check base_url and instance_id, or link the session again",
        ),
        Some(300..=399) => (Kind::Misconfigured, "the provider answered with a redirect; check base_url"),
        _ => (
            Kind::Misconfigured,
            "the provider refused to tell the session's state; check base_url, instance_id and access_token",
        ),
    }
}

/// [`judge_check`] for the addresses to which events are sent.
pub(super) fn judge_callbacks(status: Option<u16>, words: &str) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    match status {
        // https://api.wawp.net/en/docs/v2/webhook/set
        _ if words.contains("subscription_required") => (
            Kind::Misconfigured,
            "the provider sends receipts to accounts with a paid plan only, and this one has none",
        ),
        Some(400 | 422) => (
            Kind::Misconfigured,
            "the provider refused the address; server.public_url must be https and reachable from the internet",
        ),
        Some(401 | 403 | 404 | 408 | 429 | 300..=399 | 500..=599) => judge_check(status, words),
        _ => (
            Kind::Misconfigured,
            "the provider refused to set up receipts; check base_url, instance_id and access_token",
        ),
    }
}
