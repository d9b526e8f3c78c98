//! The meaning of Evolution's refusals. Every exception while sending becomes a 400 with the exception's text, nested in lists
//! (<https://github.com/EvolutionAPI/evolution-api/blob/3454bec/src/api/integrations/channel/whatsapp/whatsapp.baileys.service.ts>,
//! `sendMessageWithTyping`), so the status says nothing and the words decide.
//!
//! Some of these exceptions come after the message has left: it is stored and offered to other systems before the answer.
//! So an exception proves that nothing was sent only where its words do.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::{
    Scope, SendError, SendErrorKind, Upstream,
    wire::{self, Answer, Step},
};

/// The number of equal answers after which a group counts as unknown. They take some four minutes, and a connection to
/// WhatsApp that is lost comes back within that.
const MOST_TRIES: u32 = 20;

/// An answer that is no success, taken apart.
pub(super) struct Refusal {
    status: StatusCode,
    /// The message in lower case.
    words: String,
    /// `{"exists": false}`: the number is not on WhatsApp.
    is_nobody: bool,
    /// Whether the words repeat the link to the note's audio.
    names_link: bool,
    retry_after: Option<Duration>,
    upstream: Upstream,
}

impl Refusal {
    /// Reads `{status, error, response: {message}}`, where `message` is a text, or a list of texts, lists and objects.
    /// `link` is the link to the note's audio.
    pub fn read(answer: &Answer, now: Timestamp, secrets: &[&SecretString], link: &[SecretString]) -> Self {
        let body = answer.json();
        let mut found = Found::default();
        for place in [&body["response"]["message"], &body["message"], &body["error"]] {
            found.collect(place, 0);
        }
        let words = found.texts.join("\n").to_lowercase();
        Self {
            status: answer.status,
            names_link: link.iter().any(|link| words.contains(&link.expose_secret().to_lowercase())),
            words,
            is_nobody: found.is_nobody,
            retry_after: wire::retry_after(&answer.headers, now),
            upstream: Upstream {
                status: Some(answer.status.as_u16()),
                code: None,
                message: found.texts.first().map(|text| wire::quote(text, secrets)),
                trace: None,
            },
        }
    }

    pub fn into_error(self, step: Step, to_group: bool) -> SendError {
        let (kind, detail) = self.judge(step, to_group);
        let mut error = SendError::new(kind, detail).from_upstream(self.upstream);
        if kind == SendErrorKind::ConversationClosed {
            error.scope = Scope::Connection;
        }
        error.retry_after = self.retry_after;
        if to_group && step == Step::Dispatch && kind == SendErrorKind::NotReachable {
            error = error.at_most(MOST_TRIES);
        }
        error
    }

    /// The table, read from top to bottom.
    fn judge(&self, step: Step, to_group: bool) -> (SendErrorKind, &'static str) {
        use SendErrorKind as Kind;

        let says = |part: &str| self.words.contains(part);
        let status = self.status.as_u16();
        match (status, step) {
            (401, _) => (Kind::Unauthorized, "the provider refused the API key; check api_key"),
            (404, _) if says("instance") => {
                (Kind::Misconfigured, "the provider knows no such instance; check instance and base_url")
            }
            (400 | 404 | 500, Step::Dispatch) if self.is_nobody => {
                (Kind::NotReachable, "the recipient is not on WhatsApp")
            }
            (400 | 404 | 500, Step::Dispatch) => self.judge_exception(to_group),
            // Whatever goes wrong while a message's file is read is a 400 with the words of an exception.
            (400 | 404 | 500, Step::Fetch)
                if says("message not found") || says("media not found") || says("not of the media type") =>
            {
                (Kind::Rejected, "the provider does not have this message's audio, or no longer")
            }
            (400, Step::Fetch) => (Kind::Unavailable, "the provider could not load the audio from WhatsApp"),
            _ => wire::default_kind(self.status, step),
        }
    }

    fn judge_exception(&self, to_group: bool) -> (SendErrorKind, &'static str) {
        use SendErrorKind as Kind;

        let says = |part: &str| self.words.contains(part);
        match () {
            // A message is handed to an open connection without waiting for an answer, and only what comes before it
            // (who has which device, the upload of the file) waits and can end like this:
            // https://github.com/WhiskeySockets/Baileys/blob/master/src/Socket/socket.ts
            () if says("connection closed") || says("connection lost") => {
                (Kind::Unavailable, "the instance has lost its connection to WhatsApp")
            }
            // The instance is known and not running, so there is nothing that could send.
            () if says("cannot read properties of undefined (reading 'onwhatsapp')")
                || says("cannot read properties of undefined (reading 'audiowhatsapp')")
                || says("cannot read properties of undefined (reading 'mediamessage')")
                || says("cannot read properties of undefined (reading 'textmessage')") =>
            {
                (Kind::Unavailable, "the instance is not running at the provider")
            }
            () if says("error 463") || says("reachouttimelock") => (
                Kind::ConversationClosed,
                "WhatsApp lets this sender open no new conversations for now; whoever wrote to it can be answered",
            ),
            () if says("rate-overlimit") => (Kind::RateLimited, "WhatsApp limits the rate of this sender"),
            () if says("media upload failed") => {
                (Kind::Unavailable, "the provider could not upload the audio to WhatsApp")
            }
            () if self.is_about_download() => (
                Kind::Unavailable,
                "the provider could not download the audio; server.public_url must be reachable from it",
            ),
            () if says("failed to convert audio") || says("ffmpeg") => {
                (Kind::MediaRejected, "the provider could not convert the audio")
            }
            () if says("owned media must be") || says("url, or base64 audio is required") => (
                Kind::MediaRejected,
                "the provider does not take the audio; a link's host needs a full domain name, so try intake = \"upload\"",
            ),
            // "Group not found" is thrown as an object, whose text is lost on the way. It is thrown before the send, and
            // also where WhatsApp was not there to be asked for the group.
            () if to_group && (says("group not found") || says("[object object]")) => (
                Kind::NotReachable,
                "the provider does not find this group; the sender is probably no member",
            ),
            () if is_exception(&self.words) => (
                Kind::OutcomeUnknown,
                "the provider met an error while sending the note, so it may or may not arrive",
            ),
            () => wire::default_kind(self.status, Step::Dispatch),
        }
    }

    /// Whether the download of the link failed, which comes before the send.
    ///
    /// An installation that has incoming and outgoing audio written down downloads a note from WhatsApp once more, and asks
    /// OpenAI, after it has sent the note and before it answers. Where one of those fails, the words are the same, and
    /// the name of the exception stands before them, in an answer with 400.
    fn is_about_download(&self) -> bool {
        let says = |part: &str| self.words.contains(part);
        (says("failed to fetch stream") && self.names_link)
            || (says("request failed with status code")
                && (self.status != StatusCode::BAD_REQUEST || !says("axioserror")))
    }
}

/// Whether words are an exception's (`Error: ...`, `PrismaClientKnownRequestError: ...`) or those of a rule that the
/// request breaks (`requires property "number"`).
fn is_exception(words: &str) -> bool {
    let names = |line: &str| {
        line.split_once(':').is_some_and(|(name, _)| name.ends_with("error") && !name.contains(' '))
    };
    words.lines().any(|line| names(line) || line == "[object object]")
}

/// Greatest depth of nested lists that is looked into.
const DEEPEST: usize = 6;

#[derive(Default)]
struct Found<'a> {
    texts: Vec<&'a str>,
    is_nobody: bool,
}

impl<'a> Found<'a> {
    fn collect(&mut self, value: &'a Value, depth: usize) {
        match value {
            Value::String(text) if !text.is_empty() => self.texts.push(text),
            Value::Array(items) if depth < DEEPEST => {
                items.iter().for_each(|item| self.collect(item, depth + 1))
            }
            Value::Object(map) if depth < DEEPEST => {
                self.is_nobody |= map.get("exists") == Some(&Value::Bool(false));
                for key in ["message", "error"] {
                    map.get(key).into_iter().for_each(|inner| self.collect(inner, depth + 1));
                }
            }
            _ => {}
        }
    }
}

/// The states of an instance that cannot send, and the way out of each.
pub(super) fn judge_state(state: Option<&str>) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    match state {
        Some("connecting") => {
            (Kind::NotReady, "the instance is connecting to WhatsApp; try again in a minute")
        }
        Some("close") => (
            Kind::Misconfigured,
            "the instance is not connected to WhatsApp; restart it, or link it again by its QR code",
        ),
        Some(_) => (
            Kind::Misconfigured,
            "the instance is in no state that can send; look at it in the provider's manager",
        ),
        None => (Kind::Misconfigured, "the answer is not this provider's; check base_url"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_exceptions_are_told_from_words_of_rules() {
        for (words, expected) in [
            ("error: stream errored", true),
            ("prismaclientknownrequesterror: unique constraint failed", true),
            ("[object object]", true),
            ("requires property \"number\"", false),
            ("bad request", false),
            ("an odd error: with blanks before it", false),
        ] {
            assert_eq!(is_exception(words), expected, "{words}");
        }
    }
}
