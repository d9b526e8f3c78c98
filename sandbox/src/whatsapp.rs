//! Code shared by the emulators of WhatsApp Web gateways: ids, and the phone's view of a voice note.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::audio::{AudioInfo, Kind};
use crate::inbound::Note;

/// The only media type that WhatsApp accepts for voice notes.
pub(crate) const VOICE_MIME: &str = "audio/ogg; codecs=opus";
/// The emulated phone's own number.
pub(crate) const ME: &str = "12025550100@c.us";
/// A number that is not on WhatsApp.
pub(crate) const NOBODY: &str = "15550000404@c.us";
/// A person who never wrote to the emulated phone, with whom WhatsApp lets it open no conversation.
pub(crate) const STRANGER: &str = "15550000463@c.us";
/// Maximum size of audio at WhatsApp: 16 MB.
pub(crate) const MAX_AUDIO: usize = 16_000_000;

pub(crate) fn is_jid(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.rsplit_once('@') {
        Some((user, "c.us")) => digits(user) && (7..=15).contains(&user.len()),
        // Old group ids consist of the founder's number and the second of creation.
        Some((user, "g.us")) => match user.split_once('-') {
            Some((founder, second)) => digits(founder) && digits(second),
            None => digits(user),
        },
        Some((user, "newsletter" | "lid")) => digits(user),
        _ => false,
    }
}

/// Formats `{true|false}_{chat}_{raw}`, with a fourth part in groups.
pub(crate) fn is_message_id(text: &str) -> bool {
    let mut parts = text.split('_');
    matches!(parts.next(), Some("true" | "false"))
        && parts.next().is_some_and(is_jid)
        && parts.next().is_some_and(|raw| !raw.is_empty())
}

/// Creates the random part of a message's id, as linked devices do.
pub(crate) fn raw_id() -> String {
    format!("3EB0{}", &Uuid::new_v4().simple().to_string()[..18].to_uppercase())
}

/// The chat of a message that a person wrote: the group, or the person.
pub(crate) fn chat_of(note: &Note) -> Result<String, String> {
    let chat = note.group.clone().unwrap_or_else(|| format!("{}@c.us", note.digits()));
    let person = format!("{}@c.us", note.digits());
    if is_jid(&chat) && is_jid(&person) && (note.group.is_none() || chat.ends_with("@g.us")) {
        return Ok(chat);
    }
    Err("from must be a phone number, and group a group's id (...@g.us)".to_owned())
}

/// The id of a message that a person wrote, or we ourselves on the phone. `chat` and `person` as the engine spells them.
pub(crate) fn received_id(note: &Note, chat: &str, person: &str) -> String {
    let id = format!("{}_{chat}_{}", note.own, note.raw);
    if note.group.is_some() { format!("{id}_{person}") } else { id }
}

/// The random part of a message's id.
pub(crate) fn raw_part(id: &str) -> &str {
    if is_message_id(id) { id.split('_').nth(2).unwrap_or(id) } else { id }
}

/// The protocol's view of a voice note. Its `url` is encrypted.
pub(crate) fn audio_message(note: &Note) -> Value {
    let quoted = note.reply_to.as_deref().map(raw_part);
    json!({
        "url": "https://mmg.whatsapp.net/v/t62.7117-24/0.enc",
        "mimetype": note.mime_type,
        "fileSha256": note.sha256(),
        "fileLength": note.bytes.len().to_string(),
        "seconds": note.seconds(),
        "ptt": note.is_voice,
        "contextInfo": quoted.map(|raw| json!({ "stanzaId": raw, "participant": ME })),
    })
}

/// Computes the hash that WhatsApp keeps of a file.
pub(crate) fn file_hash(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(bytes))
}

/// Decodes base64 as these gateways accept it: without line breaks, with padding, and without a `data:` prefix.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty())
}

/// Returns the recipient's view of bytes that were sent as a voice note without conversion.
pub(crate) fn voice_problems(info: &AudioInfo, mime_type: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if info.kind != Kind::Ogg || info.codec.as_deref() != Some("opus") {
        problems.push(format!(
            "These bytes are {}, not Ogg/Opus, and nobody was asked to convert them: phones show a dead bubble \
             that says the audio is unavailable.",
            info.short()
        ));
    }
    problems.extend(info.faults.clone());
    if mime_type != VOICE_MIME {
        problems.push(format!(
            "The MIME type is \"{mime_type}\"; WhatsApp takes a voice note only as \"{VOICE_MIME}\"."
        ));
    }
    problems
}
