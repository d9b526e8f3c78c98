//! `sendVoice`, `sendAudio`, `sendDocument`, `sendMessage`.

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Refusal;
use super::chats::{Chat, Memory, NO_VOICE, TOPIC, Upload};
use super::form::Fields;
use crate::audio::{self, AudioInfo, Kind};
use crate::ledger::{LedgerEntry, redact};
use crate::{Sandbox, state};

/// A method, the name of its file, and how the recipient sees it.
pub const METHODS: [(&str, &str, &str); 4] = [
    ("sendVoice", "voice", "voice"),
    ("sendAudio", "audio", "audio"),
    ("sendDocument", "document", "file"),
    ("sendMessage", "", "text"),
];

const MAX_CAPTION: usize = 1024;
const MAX_TEXT: usize = 4096;

/// Above, the server draws no waveform: <https://github.com/tdlib/telegram-bot-api/issues/354>
const WAVEFORM_BYTES: usize = 1024 * 1024;

pub fn message(sandbox: &Sandbox, method: &str, fields: &Fields) -> Result<Value, Refusal> {
    let (method, field, form) = METHODS
        .into_iter()
        .find(|(name, ..)| name.eq_ignore_ascii_case(method))
        .ok_or_else(|| Refusal::new(404, "Not Found: method not found"))?;
    let mut state = sandbox.inner.lock();
    let memory = state.own::<Memory>();
    let chat = memory.find(fields)?;
    if form == "voice" && chat.id == NO_VOICE {
        return Err(Refusal::bad("VOICE_MESSAGES_FORBIDDEN"));
    }
    let thread = fields.number("message_thread_id");
    if thread.is_some_and(|thread| chat.kind != "supergroup" || thread != TOPIC) {
        return Err(Refusal::bad("message thread not found"));
    }
    let reply = reply(memory, &chat, fields)?;
    let (text, upload) = if form == "text" {
        let text = fields.text("text").filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| Refusal::bad("message text is empty"))?;
        if text.chars().count() > MAX_TEXT {
            return Err(Refusal::bad("message is too long"));
        }
        (Some(text), None)
    } else {
        let caption = fields.text("caption").filter(|text| !text.is_empty());
        if caption.as_ref().is_some_and(|text| text.chars().count() > MAX_CAPTION) {
            return Err(Refusal::bad("message caption is too long"));
        }
        (caption, Some(upload(memory, method, field, fields)?))
    };
    let number = memory.next_number(chat.id);
    drop(state);

    let seconds = state::clock().as_second();
    let mut message = json!({
        "message_id": number,
        "from": {"id": 123_456_789, "is_bot": true, "first_name": "Sandbox", "username": "voicegate_sandbox_bot"},
        "chat": chat.json(),
        "date": seconds,
    });
    if let Some(thread) = thread {
        message["message_thread_id"] = json!(thread);
    }
    if let Some(reply) = reply {
        message["reply_to_message"] = json!({"message_id": reply, "chat": chat.json(), "date": seconds});
    }
    let info = upload.as_ref().map(|(_, upload)| audio::describe(&upload.bytes));
    let shown = info.as_ref().map_or(form, |info| shown(form, info));
    if let (Some((id, upload)), Some(info)) = (&upload, &info) {
        message[if shown == "file" { "document" } else { shown }] = file(id, upload, info, fields);
        if let Some(caption) = &text {
            message["caption"] = json!(caption);
        }
    } else {
        message["text"] = json!(text);
    }
    let bytes = upload.as_ref().map(|(_, upload)| upload.bytes.clone());
    let entry = LedgerEntry {
        id: Uuid::new_v4(),
        provider: "telegram",
        at: state::now(),
        conversation: thread.map_or_else(|| chat.id.to_string(), |thread| format!("{}/{thread}", chat.id)),
        to: vec![chat.name.to_owned()],
        message_id: format!("{}:{number}", chat.id),
        form: shown,
        service: None,
        via: match &upload {
            Some(_) if fields.file(field).is_some() => format!("POST {method} with the file"),
            Some(_) => format!("POST {method} with the id of a file that Telegram has"),
            None => format!("POST {method}"),
        },
        filename: upload.as_ref().and_then(|(_, upload)| upload.filename.clone()),
        mime_type: upload.as_ref().and_then(|(_, upload)| upload.mime_type.clone()),
        size_bytes: bytes.as_ref().map_or(0, Bytes::len),
        sha256: bytes.as_ref().map(|bytes| hex::encode(Sha256::digest(bytes))),
        problems: match (&upload, &info) {
            (Some((_, upload)), Some(info)) => problems(form, shown, upload, info, fields),
            _ => Vec::new(),
        },
        audio: info,
        text,
        reply_to: reply.map(|reply| reply.to_string()),
        convert: None,
        request: redact(&fields.json(), &sandbox.secrets()),
        receipts: Vec::new(),
    };
    sandbox.inner.deliver(entry, bytes);
    Ok(message)
}

/// The message that is answered; `None` where there is none, or where it is gone and that does not matter.
fn reply(memory: &Memory, chat: &Chat, fields: &Fields) -> Result<Option<i64>, Refusal> {
    let Some(parameters) = fields.object("reply_parameters") else { return Ok(None) };
    let message = parameters["message_id"].as_i64();
    let message =
        message.ok_or_else(|| Refusal::bad("can't parse reply parameters: message_id is missing"))?;
    // A message of another chat is quoted, which the emulator does not do.
    let is_here = parameters.get("chat_id").and_then(Value::as_i64).is_none_or(|id| id == chat.id);
    if is_here && memory.has(chat.id, message) {
        return Ok(Some(message));
    }
    match parameters["allow_sending_without_reply"].as_bool() {
        Some(true) => Ok(None),
        _ => Err(Refusal::bad("message to be replied not found")),
    }
}

/// The file: a new upload, which gets an id, or a known file by its id.
fn upload(
    memory: &mut Memory,
    method: &'static str,
    field: &str,
    fields: &Fields,
) -> Result<(String, Upload), Refusal> {
    if let Some(file) = fields.file(field) {
        if file.bytes.is_empty() {
            return Err(Refusal::bad("file must be non-empty"));
        }
        let upload = Upload {
            method,
            filename: file.filename.clone(),
            mime_type: file.mime_type.clone(),
            bytes: file.bytes.clone(),
        };
        let id = format!("AwACAg{}", Uuid::new_v4().simple());
        memory.uploads.insert(id.clone(), upload.clone());
        return Ok((id, upload));
    }
    let given =
        fields.text(field).ok_or_else(|| Refusal::bad(&format!("there is no {field} in the request")))?;
    match memory.uploads.get(&given) {
        // An id goes with the kind of file that it was made for.
        Some(upload) if upload.method == method => Ok((given, upload.clone())),
        Some(_) => Err(Refusal::bad("can't use file of another type")),
        None => Err(Refusal::bad("wrong file_id or the file is temporarily unavailable")),
    }
}

/// Voice messages are Opus in Ogg, MP3 or M4A; other files are shown as what they are:
/// <https://core.telegram.org/bots/api#sendvoice>
fn shown(form: &'static str, info: &AudioInfo) -> &'static str {
    match (form, info.kind) {
        ("voice", Kind::Ogg) if info.codec.as_deref() == Some("opus") => "voice",
        ("voice" | "audio", Kind::Mp3 | Kind::Mp4) => form,
        ("file", _) => "file",
        (_, Kind::Unknown) => "file",
        _ => "audio",
    }
}

fn file(id: &str, upload: &Upload, info: &AudioInfo, fields: &Fields) -> Value {
    json!({
        "file_id": id,
        "file_unique_id": &id[id.len() - 12..],
        "file_name": upload.filename,
        "mime_type": upload.mime_type,
        "file_size": upload.bytes.len(),
        "duration": fields.number("duration").or(info.duration_ms.map(|ms| (ms / 1000).cast_signed())).unwrap_or(0),
    })
}

/// Faults that the recipient would notice.
fn problems(form: &str, shown: &str, upload: &Upload, info: &AudioInfo, fields: &Fields) -> Vec<String> {
    let mut problems = info.faults.clone();
    if form != shown {
        let short = info.short();
        problems.push(format!("These bytes are {short}: Telegram shows them as {shown}, not as {form}."));
    }
    if form == "voice" {
        if upload.bytes.len() > WAVEFORM_BYTES {
            problems.push("The file is larger than 1 MB, so Telegram draws a flat waveform.".to_owned());
        }
        if info.kind != Kind::Ogg {
            problems.push("Only Ogg with Opus has a waveform and a speed control in all clients.".to_owned());
        }
    }
    if form != "file" {
        let said = fields.number("duration").unwrap_or(0);
        let real = info.duration_ms.map(|ms| (ms / 1000).cast_signed());
        if real.is_some_and(|real| (said - real).abs() > 1) {
            problems
                .push(format!("The request says {said} s; the sound has {} s.", real.unwrap_or_default()));
        }
    }
    problems
}
