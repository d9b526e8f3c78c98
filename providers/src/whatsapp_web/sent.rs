//! Recognition of a note whose answer was lost, by an event that says that a message was sent over the API.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::message_id;
use crate::{Content, JidServer};

/// Names by which an event about a message that was sent over the API finds its note, although the answer with the
/// message's id was lost. These gateways take no id of ours with audio, so the names are made of the chat and of what
/// was sent: the hash that WhatsApp keeps of every file, and for engines that do not tell it the mere fact that it was
/// audio.
pub fn sent_names(chat: &str, content: &Content) -> Vec<String> {
    let what = match content {
        Content::Audio { audio, .. } => vec![audio.facts.sha256.clone(), "audio".to_owned()],
        Content::Text(text) => vec![sha256(text.as_bytes())],
    };
    let chats = std::iter::once(chat.to_owned()).chain(respelt(chat));
    chats
        .flat_map(|chat| what.iter().map(move |what| format!("sent:{chat}:{what}")).collect::<Vec<_>>())
        .collect()
}

/// The chat by which WhatsApp may know the same person: in Brazil without the ninth digit of mobile numbers, in Mexico and
/// Argentina without the digit behind the country code
/// (<https://github.com/EvolutionAPI/evolution-api/blob/3454bec/src/utils/createJid.ts>).
fn respelt(chat: &str) -> Option<String> {
    let is_long = |user: &&str| user.len() == 13 && user.bytes().all(|byte| byte.is_ascii_digit());
    let digits = chat.strip_suffix("@c.us").filter(is_long)?;
    let left_out = match digits.get(..2)? {
        "55" => 4,
        "52" | "54" => 2,
        _ => return None,
    };
    Some(format!("{}{}@c.us", &digits[..left_out], &digits[left_out + 1..]))
}

/// The name that an event about a sent message has, as [`sent_names`] made it. `None`: it cannot be one of our notes.
pub fn sent_name(message: &Value) -> Option<String> {
    let chat = chat_of(message)?;
    if let Some(hash) = file_sha256(message) {
        return Some(format!("sent:{chat}:{hash}"));
    }
    if message["hasMedia"] == true {
        return is_audio(message).then(|| format!("sent:{chat}:audio"));
    }
    let inner = &message["message"];
    if inner["audioMessage"].is_object() {
        return Some(format!("sent:{chat}:audio"));
    }
    let text = [&message["body"], &inner["conversation"], &inner["extendedTextMessage"]["text"]];
    let text = text.into_iter().find_map(Value::as_str).filter(|text| !text.is_empty())?;
    Some(format!("sent:{chat}:{}", sha256(text.as_bytes())))
}

/// The chat that a message went to, as `chat_id` spells it. Where a person is told as `@lid` and by number, the number
/// counts, because notes are mostly sent to numbers.
fn chat_of(message: &Value) -> Option<String> {
    let data = &message["_data"];
    let id = message_id(message);
    let in_id = id.as_deref().and_then(|id| id.split('_').nth(1)).filter(|chat| chat.contains('@'));
    let told = [
        message["to"].as_str(),
        in_id,
        message["key"]["remoteJid"].as_str(),
        message["key"]["remoteJidAlt"].as_str(),
        data["key"]["remoteJidAlt"].as_str(),
        data["key"]["remoteJid"].as_str(),
        data["Info"]["RecipientAlt"].as_str(),
        data["Info"]["Chat"].as_str(),
    ];
    let told: Vec<&str> = told.into_iter().flatten().filter(|jid| jid.contains('@')).collect();
    let jid = told.iter().find(|jid| !jid.ends_with("@lid")).or(told.first())?;
    let (user, server) = jid.rsplit_once('@')?;
    // Behind a colon is the number of a device.
    let user = user.split(':').next().unwrap_or_default();
    let server = if server == JidServer::LinkedUser.as_str() { JidServer::User.as_str() } else { server };
    let sound =
        (1..=40).contains(&user.len()) && user.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let known = server.len() <= 20 && server.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.');
    (sound && known).then(|| format!("{user}@{server}"))
}

/// Whether a message with media may be a voice note. An engine that does not say so is believed.
fn is_audio(message: &Value) -> bool {
    let data = &message["_data"];
    let told = [&message["media"]["mimetype"], &data["mimetype"]].into_iter().find_map(Value::as_str);
    let kind = data["type"].as_str();
    match (told, kind) {
        (Some(mime_type), _) => mime_type.starts_with("audio/"),
        (None, Some(kind)) => matches!(kind, "ptt" | "audio"),
        (None, None) => true,
    }
}

/// The hash of the file that a message carries, in hexadecimal. `filehash` is that of whatsapp-web.js, the others have the
/// message of the protocol, which spells the field in two ways.
fn file_sha256(message: &Value) -> Option<String> {
    let data = &message["_data"];
    if let Some(hash) = hash(&data["filehash"]) {
        return Some(hash);
    }
    [&message["message"], &data["message"], &data["Message"]].into_iter().find_map(|content| {
        let parts = content.as_object()?.values();
        parts
            .flat_map(|part| {
                [&part["fileSha256"], &part["fileSHA256"], &part["message"]["documentMessage"]["fileSha256"]]
            })
            .find_map(hash)
    })
}

/// A hash as base64, as a `Buffer` of Node.js, or as an object with an index for each byte.
fn hash(value: &Value) -> Option<String> {
    let bytes = match value {
        Value::String(text) => BASE64_STANDARD.decode(text).ok()?,
        Value::Object(map) => match map.get("data") {
            Some(Value::String(text)) => BASE64_STANDARD.decode(text).ok()?,
            Some(Value::Array(items)) => items.iter().map(byte).collect::<Option<_>>()?,
            _ => (0..map.len()).map(|at| byte(map.get(&at.to_string())?)).collect::<Option<_>>()?,
        },
        _ => return None,
    };
    (bytes.len() == Sha256::output_size()).then(|| hexadecimal(&bytes))
}

fn byte(value: &Value) -> Option<u8> {
    value.as_u64().and_then(|number| u8::try_from(number).ok())
}

fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_whatsapp_spells_differently_has_names_in_both_spellings() {
        let names = |chat: &str| sent_names(chat, &Content::Text("a".to_owned()));
        for (chat, other) in [
            ("5531988887777@c.us", Some("553188887777@c.us")),
            ("5215512345678@c.us", Some("525512345678@c.us")),
            ("5491112345678@c.us", Some("541112345678@c.us")),
            ("553188887777@c.us", None),
            ("1203630000000@g.us", None),
            ("15550001111@c.us", None),
        ] {
            let hash = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
            let expected: Vec<String> =
                std::iter::once(chat).chain(other).map(|chat| format!("sent:{chat}:{hash}")).collect();
            assert_eq!(names(chat), expected, "{chat}");
        }
    }

    #[test]
    fn an_event_about_a_sent_message_has_one_of_the_names_of_its_note() {
        let chat = "15550001111@c.us";
        let base64 = "ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=";
        let bytes = BASE64_STANDARD.decode(base64).expect("base64");
        let (hash, indexed) = (
            hexadecimal(&bytes),
            Value::Object(bytes.iter().enumerate().map(|(at, byte)| (at.to_string(), json!(byte))).collect()),
        );
        assert_eq!(hash, "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
        let exact = format!("sent:{chat}:{hash}");
        let audio = format!("sent:{chat}:audio");
        let waha = |data: Value| json!({"id": "true_15550001111@c.us_3EB0", "to": chat, "hasMedia": true, "_data": data});
        for (message, name) in [
            (waha(json!({"filehash": base64})), Some(&exact)),
            (
                waha(json!({"message": {"audioMessage": {"fileSha256": {"type": "Buffer", "data": bytes}}}})),
                Some(&exact),
            ),
            (waha(json!({"Message": {"audioMessage": {"fileSHA256": base64}}})), Some(&exact)),
            (waha(json!({})), Some(&audio)),
            (waha(json!({"type": "image"})), None),
            (
                json!({"id": "true_1@lid_3EB0", "to": "1@lid", "hasMedia": true,
                       "_data": {"key": {"remoteJidAlt": "15550001111:7@s.whatsapp.net"}}}),
                Some(&audio),
            ),
            (
                json!({"key": {"remoteJid": "15550001111@s.whatsapp.net", "id": "3EB0"},
                       "message": {"audioMessage": {"fileSha256": indexed}}}),
                Some(&exact),
            ),
            (
                json!({"key": {"remoteJid": "15550001111@s.whatsapp.net"}, "message": {"conversation": "a"}}),
                Some(&exact),
            ),
            (json!({"to": chat, "body": "a"}), Some(&exact)),
            (json!({"to": chat, "body": ""}), None),
            (json!({"body": "a"}), None),
        ] {
            assert_eq!(sent_name(&message).as_ref(), name, "{message}");
        }
        assert_eq!(sent_names(chat, &Content::Text("a".to_owned())), [exact]);
    }
}
