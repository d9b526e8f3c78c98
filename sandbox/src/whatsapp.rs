//! What the emulators of gateways that run WhatsApp Web have in common: ids, and what a phone makes of a voice note.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::audio::{AudioInfo, Kind};

/// How WhatsApp takes a voice note, and no other.
pub(crate) const VOICE_MIME: &str = "audio/ogg; codecs=opus";
/// The emulated phone's own number.
pub(crate) const ME: &str = "12025550100@c.us";
/// Nobody on WhatsApp has this number.
pub(crate) const NOBODY: &str = "15550000404@c.us";
/// Somebody who never wrote to the emulated phone, to whom WhatsApp lets it open no conversation.
pub(crate) const STRANGER: &str = "15550000463@c.us";
/// WhatsApp takes 16 MB of audio.
pub(crate) const MAX_AUDIO: usize = 16_000_000;

pub(crate) fn is_jid(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.rsplit_once('@') {
        Some((user, "c.us")) => digits(user) && (7..=15).contains(&user.len()),
        // Old groups are called after their founder and the second of their founding.
        Some((user, "g.us")) => match user.split_once('-') {
            Some((founder, second)) => digits(founder) && digits(second),
            None => digits(user),
        },
        Some((user, "newsletter" | "lid")) => digits(user),
        _ => false,
    }
}

/// `{true|false}_{chat}_{raw}` with a fourth part in groups.
pub(crate) fn is_message_id(text: &str) -> bool {
    let mut parts = text.split('_');
    matches!(parts.next(), Some("true" | "false"))
        && parts.next().is_some_and(is_jid)
        && parts.next().is_some_and(|raw| !raw.is_empty())
}

/// The part of a message's id that is its own, as linked devices make it.
pub(crate) fn raw_id() -> String {
    format!("3EB0{}", &Uuid::new_v4().simple().to_string()[..18].to_uppercase())
}

/// The hash that WhatsApp keeps of a file.
pub(crate) fn file_hash(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(bytes))
}

/// Base64 as these gateways take it: without line breaks, with its padding, and without `data:` before it.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty())
}

/// What the recipient's phone would make of bytes that were sent as a voice note and not converted.
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
