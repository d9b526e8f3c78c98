//! Code shared by the emulators of WhatsApp Web gateways: ids, and the phone's view of a voice note.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::audio::{AudioInfo, Kind};

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
