//! The meaning of Telegram's refusals. There are no error codes beyond the HTTP status: the description decides, and the server
//! has a fixed set of them (<https://github.com/tdlib/telegram-bot-api/blob/master/telegram-bot-api/Client.cpp>).

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use secrecy::SecretString;

use super::Chat;
use crate::{
    Form, Scope, SendError, SendErrorKind, Upstream,
    wire::{self, Answer, Step},
};

/// The most tries at a file that Telegram does not know or does not have at the moment, which it says in the same words.
/// They take about half a minute.
const MOST_TRIES: u32 = 5;

/// An answer that is no success, taken apart.
pub(super) struct Refusal {
    status: StatusCode,
    /// The description in lower case.
    words: String,
    moved_to: Option<i64>,
    retry_after: Option<Duration>,
    pub upstream: Upstream,
}

impl Refusal {
    /// Reads `{"ok": false, "error_code", "description", "parameters"}`, all of it optional: a proxy on the way answers
    /// in its own words.
    pub fn read(answer: &Answer, now: Timestamp, secrets: &[&SecretString]) -> Self {
        let body = answer.json();
        let description = body["description"].as_str();
        let code = body["error_code"].as_u64();
        // A success with "ok": false has its status in the body.
        let told =
            code.and_then(|code| u16::try_from(code).ok()).and_then(|code| StatusCode::from_u16(code).ok());
        let status = if answer.status.is_success() { told.unwrap_or(answer.status) } else { answer.status };
        let wait = || body["parameters"]["retry_after"].as_f64().and_then(wire::wait_of_seconds);
        Self {
            status,
            words: description.unwrap_or_default().to_lowercase(),
            moved_to: body["parameters"]["migrate_to_chat_id"].as_i64(),
            retry_after: wire::retry_after(&answer.headers, now).or_else(wait),
            upstream: Upstream {
                status: Some(answer.status.as_u16()),
                code: code.map(|code| code.to_string()),
                message: description.map(|text| wire::quote(text, secrets)),
                trace: None,
            },
        }
    }

    /// The new number of a group that became a supergroup.
    pub fn moved_to(&self) -> Option<i64> {
        self.moved_to.filter(|_| self.status == StatusCode::BAD_REQUEST)
    }

    /// Whether the server does not know a `file_id` (any more).
    pub fn is_stale_file(&self) -> bool {
        let says = |words: &str| self.words.contains(words);
        self.status == StatusCode::BAD_REQUEST
            && (says("wrong file_id") || says("wrong file identifier") || says("wrong remote file id"))
    }

    /// `of`: the form and the chat of a send.
    pub fn into_error(self, step: Step, of: Option<(Form, &Chat)>) -> SendError {
        let (kind, detail) = judge(self.status, &self.words, step);
        let mut error = SendError::new(kind, detail).from_upstream(self.upstream);
        error.retry_after = self.retry_after;
        if step == Step::Fetch && self.status == StatusCode::BAD_REQUEST && kind == SendErrorKind::Unavailable
        {
            error = error.at_most(MOST_TRIES);
        }
        // 20 messages a minute go to one group, 30 a second out of one bot; which of them was met is not said. A person
        // is written to one note after the other, so there it is the bot's.
        // https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this
        if kind == SendErrorKind::RateLimited && of.is_some_and(|(_, chat)| !chat.is_private()) {
            error.scope = Scope::Recipient;
        }
        error
    }
}

/// The table, read from top to bottom.
fn judge(status: StatusCode, words: &str, step: Step) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    let says = |part: &str| words.contains(part);
    match (status.as_u16(), step) {
        (401, _) => (Kind::Unauthorized, "the provider refused the token; renew it at BotFather"),
        // A path with a token of another form is no path: Client.cpp, "Not Found".
        (404, _) => (Kind::Misconfigured, "the provider knows no such bot; check token and base_url"),
        // The server keeps a limit of its own, whatever the gateway takes: https://core.telegram.org/bots/api#getfile
        (400, Step::Fetch) if says("file is too big") => {
            (Kind::MediaTooLarge, "the provider hands out files of at most 20 MB to bots")
        }
        // "wrong file_id or the file is temporarily unavailable", for both.
        (400, Step::Fetch) if says("temporarily unavailable") => {
            (Kind::Unavailable, "the provider does not know the audio, or does not have it at the moment")
        }
        // "invalid file_id".
        (400, Step::Fetch) => (Kind::Rejected, "the provider does not know the audio, or no longer"),
        (409, Step::Check) => (Kind::Misconfigured, "the bot is used in another way at the same time"),

        // The recipient's privacy settings, or a group's permissions: the same person may take another form.
        (400 | 403, Step::Dispatch) if says("voice_messages_forbidden") => {
            (Kind::FormUnavailable, "the recipient does not take voice messages")
        }
        (400 | 403, Step::Dispatch)
            if says("not enough rights to send voice")
                || says("not enough rights to send audio")
                || says("not enough rights to send document")
                || says("chat_send_voices_forbidden")
                || says("chat_send_audios_forbidden")
                || says("chat_send_docs_forbidden")
                || says("chat_send_media_forbidden") =>
        {
            (Kind::FormUnavailable, "the group does not take messages of this form")
        }

        (403, Step::Dispatch) if says("blocked by the user") => {
            (Kind::OptedOut, "the recipient has blocked the bot")
        }
        (403, Step::Dispatch) if says("user is deactivated") => {
            (Kind::NotReachable, "the recipient's account is deleted")
        }
        (403, Step::Dispatch)
            if says("can't send messages to bots") || says("can't send messages to the bot") =>
        {
            (Kind::InvalidRecipient, "a bot cannot write to a bot")
        }
        // "can't initiate conversation with a user", "bot was kicked from the group chat", "bot is not a member of the
        // channel chat", "not enough rights to send text messages to the chat".
        (403, Step::Dispatch) => (
            Kind::NotReachable,
            "the bot may not write in this chat: the recipient has to start or add it first",
        ),
        (400, Step::Dispatch)
            if says("chat not found")
                || says("user not found")
                || says("peer_id_invalid")
                || says("chat_id is empty")
                || says("chat_restricted")
                || says("chat_write_forbidden")
                || says("have no rights to send")
                || says("not enough rights") =>
        {
            (Kind::NotReachable, "the bot has no such chat: the recipient has to start or add it first")
        }
        (400, Step::Dispatch)
            if says("message thread not found") || says("topic_closed") || says("topic_deleted") =>
        {
            (Kind::NotReachable, "the topic is closed or does not exist")
        }
        (400, Step::Dispatch)
            if says("file is too big") || says("file too large") || says("request entity too large") =>
        {
            (Kind::MediaTooLarge, "the provider says that the audio is too large")
        }
        (400, Step::Dispatch)
            if says("wrong file")
                || says("wrong type of the")
                || says("file must be non-empty")
                || says("can't parse") =>
        {
            (Kind::MediaRejected, "the provider does not take this audio")
        }
        _ => wire::default_kind(status, step),
    }
}
