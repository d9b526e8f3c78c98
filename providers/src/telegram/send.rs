//! One send: the request of a note in each form, and the meaning of its answer.

use jiff::Timestamp;
use reqwest::{Method, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Chat, Refusal, Telegram};
use crate::{
    Accepted, Content, Form, MediaHandle, Memory, OutboundAudio, OutboundNote, Provider as _, SendError,
    SendErrorKind, SendWarning,
    wire::{self, Answer, Multipart, Step},
};

/// The content of `Memory::recipient`: the new number of a group that became a supergroup.
#[derive(Serialize, Deserialize)]
struct Moved {
    chat_id: i64,
}

impl Telegram {
    fn chat(&self, note: &OutboundNote, memory: &Memory) -> Result<Chat, SendError> {
        let invalid = || SendError::new(SendErrorKind::InvalidRecipient, "this is no chat of Telegram's");
        let key = self.recipient_key(&note.to).map_err(|_| invalid())?;
        let mut chat = Chat::parse(&key).ok_or_else(invalid)?;
        if let Some(moved) = memory.recipient.as_ref().and_then(|value| Moved::deserialize(value).ok()) {
            chat.id = moved.chat_id.to_string();
        }
        Ok(chat)
    }

    /// The request that shows the note.
    pub(super) async fn request(&self, note: &OutboundNote, memory: &Memory) -> Result<Request, SendError> {
        let mut fields = address(note, &self.chat(note, memory)?);
        match &note.content {
            Content::Text(text) => {
                fields.insert("text".to_owned(), json!(text));
                Ok(self.post("sendMessage", fields))
            }
            Content::Audio { form, audio, caption } => {
                if let Some(caption) = caption {
                    fields.insert("caption".to_owned(), json!(caption));
                }
                if *form != Form::File {
                    // Whole seconds; 0 would show no length.
                    let seconds = audio.facts.duration_ms.div_ceil(1000).max(1);
                    fields.insert("duration".to_owned(), json!(seconds));
                }
                let (method, field) = method(*form);
                match &memory.media {
                    Some(known) => {
                        fields.insert(field.to_owned(), json!(known.value));
                        Ok(self.post(method, fields))
                    }
                    None => self.upload(&note.id, method, &fields, field, audio).await,
                }
            }
        }
    }

    /// A form with the fields of a method, and the audio as its file.
    async fn upload(
        &self,
        note_id: &str,
        method: &str,
        fields: &Map<String, Value>,
        field: &str,
        audio: &OutboundAudio,
    ) -> Result<Request, SendError> {
        let bytes = audio.read().await?;
        let mut form = Multipart::new(note_id);
        for (name, value) in fields {
            form = match value {
                Value::String(text) => form.text(name, text),
                other => form.text(name, &other.to_string()),
            };
        }
        let form = form.file(field, &audio.filename, audio.bare_mime_type(), &bytes);
        Ok(form.request(Method::POST, self.url(method)))
    }

    /// Reads the answer to the visible request.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        memory: &mut Memory,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        let body = answer.json();
        if answer.status.is_success() && body["ok"] == true {
            return accepted(note, memory, answer, &body["result"]);
        }
        let link = note.link_secrets();
        let refusal = Refusal::read(answer, now, &self.secrets(&link));
        if let Some(chat_id) = refusal.moved_to() {
            memory.recipient = serde_json::to_value(Moved { chat_id }).ok();
            let detail = "the group has moved to another number; the note is sent there";
            return Err(SendError::new(SendErrorKind::Outdated, detail).from_upstream(refusal.upstream));
        }
        if refusal.is_stale_file() && memory.media.take().is_some() {
            let detail = "the provider no longer knows the uploaded audio; it is uploaded again";
            return Err(SendError::new(SendErrorKind::Outdated, detail).from_upstream(refusal.upstream));
        }
        let chat = self.chat(note, memory)?;
        Err(refusal.into_error(Step::Dispatch, Some((note.form(), &chat))))
    }
}

/// The fields that say where a note goes and which message it answers.
fn address(note: &OutboundNote, chat: &Chat) -> Map<String, Value> {
    let mut fields = Map::from_iter([("chat_id".to_owned(), chat.json())]);
    if let Some(thread) = chat.thread {
        fields.insert("message_thread_id".to_owned(), json!(thread));
    }
    if let Some(reply) = reply(note, chat) {
        fields.insert("reply_parameters".to_owned(), reply);
    }
    fields
}

/// The method that shows a form, and the name of its file field.
fn method(form: Form) -> (&'static str, &'static str) {
    match form {
        Form::Audio => ("sendAudio", "audio"),
        Form::File => ("sendDocument", "document"),
        Form::Voice | Form::Text => ("sendVoice", "voice"),
    }
}

/// The message to answer, if it is in this chat. The number of a message counts within its chat alone. A channel that is
/// addressed by its name has a number that only its messages tell, so Telegram has to compare the two.
fn reply(note: &OutboundNote, chat: &Chat) -> Option<Value> {
    let text = note.reply_to.as_deref()?;
    let (of, message) = text.rsplit_once(':').map_or((None, text), |(of, message)| (Some(of), message));
    // If that message is gone, the note is sent without a reference.
    let mut reply = json!({"message_id": message.parse::<i64>().ok()?, "allow_sending_without_reply": true});
    match of {
        Some(of) if chat.id.starts_with('@') => reply["chat_id"] = json!(of.parse::<i64>().ok()?),
        Some(of) if of != chat.id => return None,
        _ => {}
    }
    Some(reply)
}

fn accepted(
    note: &OutboundNote,
    memory: &mut Memory,
    answer: &Answer,
    message: &Value,
) -> Result<Accepted, SendError> {
    let (Some(id), Some(chat)) = (message["message_id"].as_i64(), message["chat"]["id"].as_i64()) else {
        return Err(wire::no_message_id(answer));
    };
    // The server decides in which form it shows the audio, whatever the request asked for.
    let shown =
        [(Form::Voice, "voice"), (Form::Audio, "audio"), (Form::File, "document"), (Form::Text, "text")]
            .into_iter()
            .find(|(_, field)| !message[*field].is_null());
    if let Some((form, field)) = shown
        && form == note.form()
        && let Some(file) = message[field]["file_id"].as_str()
    {
        memory.media = Some(MediaHandle { value: file.to_owned(), valid_until: None });
    }
    let mut warnings = Vec::new();
    if note.reply_to.is_some() && message["reply_to_message"].is_null() {
        warnings.push(SendWarning::ReplyLost);
    }
    Ok(Accepted {
        message_id: format!("{chat}:{id}"),
        form: shown.map(|(form, _)| form),
        warnings,
        ..Accepted::default()
    })
}
