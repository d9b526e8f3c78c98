//! Voice messages that people send, and their audio: <https://core.telegram.org/bots/api#message>,
//! <https://core.telegram.org/bots/api#getfile>.

use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, Request};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{Refusal, Telegram};
use crate::{
    Context, Fetched, Form, InboundVoice, MediaRef, SendError, SendErrorKind,
    inbound::{self, reference, referred, sender_name},
    wire::{self, NoAnswer, Out, Step},
};

/// The id of a file does not expire, and its link is asked for each time. A note that could not be fetched for a day is
/// of no more use to a conversation.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Longest id of a file. They have about 80 characters.
const LONGEST_FILE: usize = 512;

/// [`MediaRef::value`].
#[derive(Serialize, Deserialize)]
struct File {
    file_id: String,
}

impl Telegram {
    /// Reads a message. `None` if it is no voice message or audio file of a person. The bot's own messages come in no
    /// update; posts in channels are no conversation.
    pub(super) fn voice(message: &Value, now: Timestamp) -> Option<InboundVoice> {
        let (form, file) = [(Form::Voice, &message["voice"]), (Form::Audio, &message["audio"])]
            .into_iter()
            .find(|(_, file)| file.is_object())?;
        let file_id = file["file_id"].as_str().filter(|id| (1..=LONGEST_FILE).contains(&id.len()))?;
        let chat = &message["chat"];
        let (chat_id, id) = (chat["id"].as_i64()?, message["message_id"].as_i64()?);
        let group = match chat["type"].as_str()? {
            "private" => false,
            "group" | "supergroup" => true,
            _ => return None,
        };
        if message["is_automatic_forward"] == true {
            return None;
        }
        let (from, sender_name) = Self::sender(message)?;
        // A private chat has the number of its person.
        if !group && from != chat_id {
            return None;
        }
        let thread = message["message_thread_id"].as_u64().and_then(|thread| u32::try_from(thread).ok());
        let thread = thread.filter(|thread| *thread > 0 && message["is_topic_message"] == true);
        let topic = thread.map_or_else(String::new, |thread| format!("/{thread}"));
        let quoted = message["reply_to_message"]["message_id"].as_i64();
        // In a topic, everything that answers nothing answers the message that opened the topic.
        let quoted = quoted.filter(|id| thread.is_none_or(|thread| i64::from(thread) != *id));
        Some(InboundVoice {
            message_id: format!("{chat_id}:{id}"),
            from: format!("telegram:{from}"),
            conversation: format!("telegram:{chat_id}{topic}"),
            group,
            sender_name,
            reply_to: quoted.map(|id| format!("{chat_id}:{id}")),
            sent_at: message["date"].as_i64().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(now),
            form,
            media: MediaRef {
                value: reference(&File { file_id: file_id.to_owned() }),
                fetch_before: Some(now + KEPT),
            },
        })
    }

    /// The writer of a message: a person, or a chat in whose name somebody writes. `None` for bots, this one included.
    fn sender(message: &Value) -> Option<(i64, Option<String>)> {
        let in_name_of = &message["sender_chat"];
        if let Some(id) = in_name_of["id"].as_i64() {
            return Some((id, sender_name(&in_name_of["title"])));
        }
        let from = &message["from"];
        let id = from["id"].as_i64().filter(|_| from["is_bot"] != true)?;
        let names = [from["first_name"].as_str(), from["last_name"].as_str()];
        let name = names.into_iter().flatten().collect::<Vec<_>>().join(" ");
        Some((id, sender_name(&json!(name))))
    }

    /// Asks where a file is, and downloads it.
    pub(super) async fn file(
        &self,
        cx: &Context,
        media: &MediaRef,
        out: &mut Out<'_>,
    ) -> Result<Fetched, SendError> {
        let file: File = referred(media)?;
        let fields = json!({"file_id": file.file_id}).as_object().cloned().unwrap_or_default();
        let answer = wire::call(cx, self.post("getFile", fields)).await.map_err(NoAnswer::in_fetch)?;
        let body = answer.json();
        if !answer.status.is_success() || body["ok"] != true {
            return Err(Refusal::read(&answer, cx.now, &self.secrets(&[])).into_error(Step::Fetch, None));
        }
        let path = body["result"]["file_path"].as_str().ok_or_else(|| {
            let detail = "the provider names no file for this message";
            SendError::new(SendErrorKind::Unavailable, detail)
        })?;
        let request = Request::new(Method::GET, self.file_url(path)?);
        wire::download(cx, request, out).await?.whole(cx)
    }

    /// The link of a file. It holds the token: never shown.
    fn file_url(&self, path: &str) -> Result<Url, SendError> {
        if path.starts_with('/') {
            let detail =
                "this Bot API server keeps files on its own disk (--local), where they cannot be fetched";
            return Err(SendError::new(SendErrorKind::Misconfigured, detail));
        }
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| matches!(*part, "" | "." | "..")) || path.len() > inbound::LONGEST_URL {
            return Err(inbound::gone());
        }
        let bot = format!("bot{}", self.token.expose_secret());
        Ok(self.api.join(&[&["file", &bot], parts.as_slice()].concat()))
    }
}
