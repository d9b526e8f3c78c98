//! Messages that people write, and their files: <https://core.telegram.org/bots/api#getfile>.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use url::Url;

use super::chats::{Chat, GROUP, Memory, TOPIC};
use super::form::Fields;
use super::{Refusal, TOKEN, Telegram};
use crate::Sandbox;
use crate::emulator::Emulator as _;
use crate::faults::Provider;
use crate::hooks::{Outgoing, Signer};
use crate::inbound::Note;

/// Bots may download no more: 20 MiB.
const LARGEST: usize = 20 << 20;

/// The chat and the topic of a note. Groups are written as `telegram:-100123/17`.
fn place(note: &Note) -> Option<(Chat, Option<i64>)> {
    let Some(group) = &note.group else {
        let id = number(&note.from).filter(|id| *id > 0)?;
        return Some((Chat { id, kind: "private", name: "Person" }, None));
    };
    let (chat, topic) =
        group.split_once('/').map_or((group.as_str(), None), |(chat, topic)| (chat, Some(topic)));
    let topic = topic.map(str::parse).transpose().ok()?;
    let id = number(chat).filter(|id| *id == GROUP)?;
    let known = topic.is_none_or(|topic: i64| topic == TOPIC);
    known.then_some((Chat { id, kind: "supergroup", name: "Sandbox group" }, topic))
}

fn number(text: &str) -> Option<i64> {
    text.strip_prefix("telegram:").unwrap_or(text).parse().ok()
}

pub fn receive(sandbox: &Sandbox, note: &mut Note) -> Result<(), String> {
    let wrong =
        format!("from must be a person's number, and group telegram:{GROUP} or telegram:{GROUP}/{TOPIC}");
    let (chat, topic) = place(note).ok_or_else(|| wrong.clone())?;
    number(&note.from).ok_or(wrong)?;
    let mut state = sandbox.inner.lock();
    let id = state.own::<Memory>().next_number(chat.id);
    note.message_id = format!("{}:{id}", chat.id);
    note.conversation = topic.map_or_else(|| chat.id.to_string(), |topic| format!("{}/{topic}", chat.id));
    Ok(())
}

/// The bot's one webhook. Updates are numbered, and one that comes again has its number again.
pub fn outgoing(sandbox: &Sandbox, note: &Note) -> Option<Outgoing> {
    let provider = Provider::named(Telegram.name())?;
    let mut state = sandbox.inner.lock();
    let memory = state.own::<Memory>();
    let (url, secret) = (Url::parse(&memory.webhook).ok()?, memory.webhook_secret.clone());
    drop(state);
    let update = u32::from_be_bytes(note.id.as_bytes()[..4].try_into().ok()?);
    let body = json!({ "update_id": update, "message": message(note)? });
    Some(Outgoing {
        provider,
        event: "message",
        event_id: update.to_string(),
        message_id: note.message_id.clone(),
        url,
        body: body.to_string(),
        signer: secret.map(|secret| Signer { secret, sign, subscription: String::new() }),
    })
}

fn sign(_: &Outgoing, secret: &str) -> Vec<(&'static str, String)> {
    vec![("x-telegram-bot-api-secret-token", secret.to_owned())]
}

fn message(note: &Note) -> Option<Value> {
    let (chat, topic) = place(note)?;
    let own = TOKEN.split(':').next().and_then(|id| id.parse::<i64>().ok());
    let from = if note.own { own? } else { number(&note.from)? };
    let id = |message_id: &str| message_id.rsplit(':').next().and_then(|id| id.parse::<i64>().ok());
    let mut message = json!({
        "message_id": id(&note.message_id)?,
        "from": { "id": from, "is_bot": note.own, "first_name": note.sender_name.as_deref().unwrap_or("Person") },
        "chat": chat.json(),
        "date": note.at.as_second(),
    });
    let mut file = json!({
        "duration": note.seconds(),
        "mime_type": note.mime_type.split(';').next(),
        "file_id": file_id(note),
        "file_unique_id": note.raw,
        "file_size": note.bytes.len(),
    });
    if !note.is_voice {
        file["file_name"] = json!(note.filename());
    }
    message[if note.is_voice { "voice" } else { "audio" }] = file;
    if let Some(topic) = topic {
        message["message_thread_id"] = json!(topic);
        message["is_topic_message"] = json!(true);
    }
    if let Some(quoted) = note.reply_to.as_deref().and_then(id) {
        message["reply_to_message"] = json!({ "message_id": quoted, "chat": chat.json(), "date": 0 });
    }
    Some(message)
}

fn file_id(note: &Note) -> String {
    format!("AwACAgIAAxkB{}", note.id.simple())
}

/// Path of a file, which is valid for an hour.
pub fn get_file(sandbox: &Sandbox, fields: &Fields) -> Result<Value, Refusal> {
    let asked = fields.text("file_id").unwrap_or_default();
    let note = sandbox.inbound_note(Telegram.name(), |note| file_id(note) == asked);
    let unknown = || Refusal::bad("wrong file_id or the file is temporarily unavailable");
    let note = note.filter(|note| !note.is_expired()).ok_or_else(unknown)?;
    if note.bytes.len() > LARGEST {
        return Err(Refusal::bad("file is too big"));
    }
    Ok(json!({
        "file_id": asked,
        "file_unique_id": note.raw,
        "file_size": note.bytes.len(),
        "file_path": format!("voice/{}", note.filename()),
    }))
}

/// A file, for whoever has the token.
pub async fn file(State(sandbox): State<Sandbox>, Path((bot, name)): Path<(String, String)>) -> Response {
    if bot.strip_prefix("bot") != Some(TOKEN) {
        return Refusal::new(401, "Unauthorized").into_response();
    }
    match sandbox.inbound_note(Telegram.name(), |note| note.filename() == name) {
        Some(note) => note.file().await,
        None => Refusal::new(404, "Not Found").into_response(),
    }
}
