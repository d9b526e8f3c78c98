//! `POST /{number}/messages`.
//!
//! Whom a message goes to decides what becomes of it: a number `+1 555 0CCCCCC` is refused with the code `CCCCCC`
//! (`+15550131047`: the conversation is closed), and `+1 555 1CCCCCC` is accepted and fails with it afterwards, as Meta often
//! does. Everybody else gets the message.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::media::Media;
use super::{GraphError, Memory, authenticate, number};
use crate::audio::{self, AudioInfo, Kind};
use crate::ledger::{LedgerEntry, redact};
use crate::{Sandbox, state};

const FIELDS: [&str; 9] = [
    "messaging_product",
    "recipient_type",
    "to",
    "recipient",
    "type",
    "audio",
    "text",
    "context",
    "biz_opaque_callback_data",
];

const MAX_TEXT: usize = 4096;
const MAX_OPAQUE: usize = 512;

/// Above, phones show a download arrow in place of the play button.
const PLAY_ICON_BYTES: usize = 512 * 1024;

/// A message that is as it should be.
struct Message {
    to: To,
    content: Content,
    reply_to: Option<String>,
}

enum To {
    /// Digits.
    Phone(String),
    User(String),
}

enum Content {
    Audio { media: Media, voice: bool },
    Text(String),
}

pub async fn send(
    State(sandbox): State<Sandbox>,
    Path((_, node)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, GraphError> {
    authenticate(&headers)?;
    let (number, _) = number(&node)?;
    let request: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|_| GraphError::parameter("The body is not a JSON object"))?;
    let message = read(&sandbox, number, &request)?;
    if let To::Phone(digits) = &message.to
        && let Some(error) = scripted_code(digits, '0').and_then(GraphError::of_code)
    {
        return Err(error);
    }
    let id = format!("wamid.{}", BASE64_STANDARD.encode(Sha256::digest(Uuid::new_v4().as_bytes())));
    sandbox.inner.lock().own::<Memory>().sent.insert(id.clone(), number);
    let contact = match &message.to {
        To::Phone(digits) => json!({"input": request["to"], "wa_id": digits}),
        To::User(id) => json!({"input": id, "user_id": id}),
    };
    let (entry, bytes) = entry(&sandbox, &id, message, request);
    sandbox.inner.deliver(entry.clone(), bytes);
    sandbox.follow(&entry, false);
    Ok(Json(json!({
        "messaging_product": "whatsapp",
        "contacts": [contact],
        "messages": [{"id": id, "message_status": "accepted"}],
    })))
}

/// The code in a number that stands for a refusal (`0`) or a later failure (`1`).
pub(super) fn scripted_code(digits: &str, when: char) -> Option<u32> {
    let code = digits.strip_prefix("1555")?.strip_prefix(when)?.parse().ok()?;
    GraphError::of_code(code).map(|_| code)
}

fn read(sandbox: &Sandbox, number: &str, request: &Map<String, Value>) -> Result<Message, GraphError> {
    if let Some(name) = request.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(GraphError::parameter(format!("Unexpected key \"{name}\" on param \"messages\".")));
    }
    let text = |name: &str| request.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if text("messaging_product") != Some("whatsapp") {
        return Err(GraphError::parameter("The parameter messaging_product is required."));
    }
    if text("recipient_type").is_some_and(|kind| kind != "individual") {
        return Err(GraphError::parameter("Param recipient_type must be one of {INDIVIDUAL}"));
    }
    let to = match (text("to"), text("recipient")) {
        // If both are present, `to` wins.
        (Some(to), _) => To::Phone(phone(to)?),
        (None, Some(id)) if is_user_id(id) => To::User(id.to_owned()),
        (None, Some(_)) => {
            return Err(GraphError::parameter("Param recipient must be a business-scoped user id"));
        }
        (None, None) => return Err(GraphError::parameter("The parameter to is required.")),
    };
    let opaque = request.get("biz_opaque_callback_data");
    let fits = |value: &Value| value.as_str().is_some_and(|text| text.chars().count() <= MAX_OPAQUE);
    if opaque.is_some_and(|value| !fits(value)) {
        return Err(GraphError::parameter(
            "Param biz_opaque_callback_data must be a text of at most 512 characters",
        ));
    }
    let content = match text("type") {
        Some("audio") => audio_content(sandbox, number, request.get("audio"))?,
        Some("text") => text_content(request.get("text"))?,
        Some(_) => return Err(GraphError::new(400, 131_051, "(#131051) Unsupported message type")),
        None => return Err(GraphError::parameter("The parameter type is required.")),
    };
    Ok(Message { to, content, reply_to: reply(request.get("context"))? })
}

fn phone(text: &str) -> Result<String, GraphError> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let plain = text.chars().all(|c| c.is_ascii_digit() || "+-() ".contains(c));
    if plain && (7..=15).contains(&digits.len()) {
        return Ok(digits);
    }
    Err(GraphError::parameter("Param to must be a valid WhatsApp ID"))
}

/// `CC.` and up to 128 letters and digits.
fn is_user_id(text: &str) -> bool {
    text.split_once('.').is_some_and(|(country, id)| {
        country.len() == 2
            && country.bytes().all(|b| b.is_ascii_uppercase())
            && (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

fn audio_content(sandbox: &Sandbox, number: &str, audio: Option<&Value>) -> Result<Content, GraphError> {
    let audio = audio.and_then(Value::as_object);
    let audio = audio.ok_or_else(|| GraphError::parameter("The parameter audio is required."))?;
    if let Some(name) = audio.keys().find(|name| !["id", "voice"].contains(&name.as_str())) {
        // The real one takes links, too. They are not recommended, and the gateway has no use for them.
        return Err(GraphError::parameter(format!("Unexpected key \"{name}\" on param \"audio\".")));
    }
    let voice = match audio.get("voice") {
        None => false,
        Some(Value::Bool(voice)) => *voice,
        Some(_) => return Err(GraphError::parameter("Param audio['voice'] must be a boolean")),
    };
    let id = audio.get("id").and_then(Value::as_str).unwrap_or_default();
    let media = sandbox.inner.lock().own::<Memory>().media.get(id).cloned();
    let media = media.filter(|media| media.number == number).ok_or_else(|| {
        GraphError::parameter(
            "Param audio['id'] is not a valid whatsapp business account media attachment ID",
        )
    })?;
    Ok(Content::Audio { media, voice })
}

fn text_content(text: Option<&Value>) -> Result<Content, GraphError> {
    let body = text.and_then(|text| text["body"].as_str()).filter(|body| !body.is_empty());
    let body = body.ok_or_else(|| GraphError::parameter("The parameter text['body'] is required."))?;
    if body.chars().count() > MAX_TEXT {
        return Err(GraphError::parameter("Param text['body'] must be at most 4096 characters long."));
    }
    Ok(Content::Text(body.to_owned()))
}

fn reply(context: Option<&Value>) -> Result<Option<String>, GraphError> {
    let Some(context) = context else { return Ok(None) };
    match context["message_id"].as_str() {
        Some(id) if id.starts_with("wamid.") => Ok(Some(id.to_owned())),
        _ => Err(GraphError::new(400, 131_009, "(#131009) Parameter value is not valid")
            .with("context.message_id is not a valid message ID")),
    }
}

fn entry(
    sandbox: &Sandbox,
    id: &str,
    message: Message,
    request: Map<String, Value>,
) -> (LedgerEntry, Option<Bytes>) {
    let to = match message.to {
        To::Phone(digits) => format!("+{digits}"),
        To::User(id) => id,
    };
    let mut entry = LedgerEntry {
        id: Uuid::new_v4(),
        provider: "whatsapp-cloud",
        at: state::now(),
        conversation: to.clone(),
        to: vec![to],
        message_id: id.to_owned(),
        form: "text",
        service: None,
        via: "POST /messages with a text".to_owned(),
        filename: None,
        mime_type: None,
        size_bytes: 0,
        sha256: None,
        audio: None,
        text: None,
        problems: Vec::new(),
        reply_to: message.reply_to,
        convert: None,
        request: redact(&Value::Object(request), &sandbox.secrets()),
        receipts: Vec::new(),
    };
    match message.content {
        Content::Text(text) => {
            entry.text = Some(text);
            (entry, None)
        }
        Content::Audio { media, voice } => {
            let info = audio::describe(&media.bytes);
            entry.form = if voice { "voice" } else { "audio" };
            entry.via = "POST /messages with the id of an upload".to_owned();
            entry.problems = problems(&media, &info, voice);
            entry.filename = media.filename;
            entry.mime_type = Some(media.mime_type);
            entry.size_bytes = media.bytes.len();
            entry.sha256 = Some(hex::encode(Sha256::digest(&media.bytes)));
            entry.audio = Some(info);
            (entry, Some(media.bytes))
        }
    }
}

/// Faults that a recipient would notice. Meta looks at the bytes later, and then says by a status that the message failed.
fn problems(media: &Media, info: &AudioInfo, voice: bool) -> Vec<String> {
    let mut problems = info.faults.clone();
    let named = match media.mime_type.split(';').next().unwrap_or_default().trim() {
        "audio/ogg" => Kind::Ogg,
        other => Kind::of_mime(other).unwrap_or_default(),
    };
    let is_opus = info.kind == Kind::Ogg && info.codec.as_deref() == Some("opus");
    if named != info.kind || (info.kind == Kind::Ogg && !is_opus) {
        problems.push(format!(
            "The file is declared as \"{}\" and is {}: Meta takes the message and says later that it failed.",
            media.mime_type,
            info.short()
        ));
    }
    if voice && !is_opus {
        problems.push(format!("A voice message is Ogg with Opus; this is {}.", info.short()));
    }
    if voice && info.channels.is_some_and(|channels| channels != 1) {
        problems
            .push("Voice messages have one channel: phones may say that the audio is unavailable.".into());
    }
    if voice && media.bytes.len() > PLAY_ICON_BYTES {
        problems.push(
            "The file is larger than 512 KB: it has a download arrow in place of its play button.".into(),
        );
    }
    problems
}
