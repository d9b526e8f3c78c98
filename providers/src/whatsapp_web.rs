//! The kit of gateways that run WhatsApp Web (WAHA and what is built on it, Evolution, Wawp): recipients, message ids,
//! acknowledgements and events about what was sent are spelt alike there.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use crate::{
    CallbackError, Content, JidServer, Receipt, ReceiptFailure, ReceiptStatus, Recipient, RecipientError,
    Secrets, SendErrorKind, Upstream, wire,
};

/// Longest id of a message that is taken from an event, in bytes.
const LONGEST_ID: usize = 255;

/// What such a connection states in [`crate::Capabilities::recipients`].
pub const RECIPIENTS: &[&str] = &["phone", "c.us", "g.us", "newsletter", "lid"];

/// The receipts that acknowledgements become. <https://waha.devlike.pro/docs/how-to/events/#messageack>
pub const RECEIPTS: [ReceiptStatus; 6] = [
    ReceiptStatus::Accepted,
    ReceiptStatus::Sent,
    ReceiptStatus::Delivered,
    ReceiptStatus::Read,
    ReceiptStatus::Played,
    ReceiptStatus::Failed,
];

/// The chat of a recipient, in the spelling that these gateways send to: `15550001111@c.us`.
///
/// # Errors
/// Where WhatsApp has no such kind of recipient.
pub fn chat_id(to: &Recipient) -> Result<String, RecipientError> {
    match to {
        Recipient::Phone(number) => Ok(format!("{}@c.us", number.trim_start_matches('+'))),
        // The linked-device spelling of a person is not to be sent to
        // (https://github.com/devlikeapro/waha-docs, receive-messages/-chat-ids.md).
        Recipient::Jid { user, server: JidServer::User | JidServer::LinkedUser } => {
            Ok(format!("{user}@c.us"))
        }
        Recipient::Jid { user, server } => Ok(format!("{user}@{}", server.as_str())),
        Recipient::Email(_) | Recipient::Native { .. } => Err(RecipientError::Unsupported(
            "this connection reaches phone numbers and WhatsApp ids (...@c.us, @g.us, @newsletter, @lid)"
                .to_owned(),
        )),
    }
}

/// The id of a message, in every shape that was seen: the whatsapp-web.js message (`id._serialized`, mirrored in
/// `_data`), a bare string, `message_id` of older APIs, and `key.id` of Baileys.
pub fn message_id(message: &Value) -> Option<String> {
    [&message["id"], &message["_data"]["id"], &message["message_id"], &message["key"]["id"]]
        .into_iter()
        .flat_map(|id| [id, &id["_serialized"], &id["id"]])
        .find_map(|id| id.as_str().filter(|id| !id.is_empty()))
        .map(str::to_owned)
}

/// The part of an id that is the message's own: `3EB0...` of `true_15550001111@c.us_3EB0...`, behind which groups have
/// the sender. The chat in the middle is not always spelt as at sending: a person may be `@c.us` there and `@lid` in
/// receipts (<https://github.com/devlikeapro/waha/blob/core/src/core/utils/ids.ts>).
pub fn own_part(id: &str) -> &str {
    match id.split('_').collect::<Vec<_>>().as_slice() {
        ["true" | "false", chat, own, ..] if chat.contains('@') && !own.is_empty() => own,
        _ => id,
    }
}

/// Reads an acknowledgement (`ack`, `ackName`). The number counts; where there is none, its name.
pub fn ack(ack: &Value) -> Option<ReceiptStatus> {
    let number = ack["ack"].as_i64().or_else(|| ack["ack"].as_str()?.parse().ok());
    let named = || match ack["ackName"].as_str()? {
        "ERROR" => Some(-1),
        "PENDING" => Some(0),
        "SERVER" => Some(1),
        "DEVICE" => Some(2),
        "READ" => Some(3),
        "PLAYED" => Some(4),
        _ => None,
    };
    match number.or_else(named)? {
        -1 => Some(ReceiptStatus::Failed),
        0 => Some(ReceiptStatus::Accepted),
        1 => Some(ReceiptStatus::Sent),
        2 => Some(ReceiptStatus::Delivered),
        3 => Some(ReceiptStatus::Read),
        4 => Some(ReceiptStatus::Played),
        _ => None,
    }
}

/// Reads a time: milliseconds in the envelope of WAHA, seconds in whatsapp-web.js.
pub fn time(value: &Value) -> Option<Timestamp> {
    let number = value.as_i64().filter(|number| *number > 0)?;
    if number < 100_000_000_000 {
        Timestamp::from_second(number).ok()
    } else {
        Timestamp::from_millisecond(number).ok()
    }
}

/// A message's id in an event: present, and of a length that no attack needs.
///
/// # Errors
/// [`CallbackError::Malformed`]
pub fn told_id(message: &Value) -> Result<String, CallbackError> {
    message_id(message)
        .filter(|id| id.len() <= LONGEST_ID && !id.contains(char::is_control))
        .ok_or(CallbackError::Malformed)
}

/// Whether an event is about a message that the session itself sent.
pub fn is_from_me(message: &Value, id: &str) -> bool {
    let told = [&message["fromMe"], &message["id"]["fromMe"], &message["key"]["fromMe"]];
    told.into_iter().find_map(Value::as_bool).unwrap_or_else(|| !id.starts_with("false_"))
}

/// Reads the payload of WAHA's `message.ack`. `None`: it says nothing about a message of ours.
///
/// # Errors
/// [`CallbackError::Malformed`] where it names no message.
pub fn ack_receipt(
    payload: &Value,
    at: Timestamp,
    secrets: &[&SecretString],
) -> Result<Option<Receipt>, CallbackError> {
    let message_id = told_id(payload)?;
    if !is_from_me(payload, &message_id) {
        return Ok(None);
    }
    let Some(status) = ack(payload) else { return Ok(None) };
    let code = payload["ackName"].as_str();
    Ok(Some(Receipt {
        correlation_id: Some(own_part(&message_id).to_owned()),
        message_id,
        status,
        at,
        failure: failure(status, code, secrets),
        trace: None,
    }))
}

/// The failure that belongs to a status; `None` where it is no failure. WhatsApp names no reason, so `code` is the
/// gateway's word for the status.
pub fn failure(
    status: ReceiptStatus,
    code: Option<&str>,
    secrets: &[&SecretString],
) -> Option<ReceiptFailure> {
    (status == ReceiptStatus::Failed).then(|| ReceiptFailure {
        kind: SendErrorKind::NotReachable,
        detail: "the provider took the note and WhatsApp refused it; check that the recipient can be reached there"
            .to_owned(),
        upstream: Upstream {
            code: code.and_then(|code| wire::identifier(code, secrets)),
            ..Upstream::default()
        },
    })
}

/// Names by which an event about a message that was sent over the API finds its note, although the answer with the
/// message's id was lost. These gateways take no id of ours with audio, so the names are made of the chat and of what
/// was sent: the hash that WhatsApp keeps of every file, and for engines that do not tell it the mere fact that it was
/// audio.
pub fn sent_names(chat: &str, content: &Content) -> Vec<String> {
    match content {
        Content::Audio { audio, .. } => {
            vec![format!("sent:{chat}:{}", audio.facts.sha256), format!("sent:{chat}:audio")]
        }
        Content::Text(text) => vec![format!("sent:{chat}:{}", sha256(text.as_bytes()))],
    }
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

/// The chat that a message went to, as [`chat_id`] spells it. Where a person is told as `@lid` and by number, the number
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

/// The address that a gateway without signatures is told to call: it has the token in its query, so it is never shown.
/// `None` without a token.
pub fn with_token(url: &Url, tokens: &Secrets) -> Option<Url> {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("token", tokens.first()?.expose_secret());
    Some(url)
}

/// Whether two addresses differ in their query alone.
pub fn is_same_address(known: &str, url: &Url) -> bool {
    let bare = |mut url: Url| {
        url.set_query(None);
        url
    };
    Url::parse(known).is_ok_and(|known| bare(known) == bare(url.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn own_part_of_an_id_does_not_depend_on_how_the_chat_is_spelt() {
        for (id, own) in [
            ("true_15550001111@c.us_3EB0C767D097B7C7C030", "3EB0C767D097B7C7C030"),
            ("true_123456789012345@lid_3EB0C767D097B7C7C030", "3EB0C767D097B7C7C030"),
            ("true_120363000000000000@g.us_3EB0C767_15559990000@c.us", "3EB0C767"),
            ("3EB0C767D097B7C7C030", "3EB0C767D097B7C7C030"),
            ("true_3EB0", "true_3EB0"),
            ("true_15550001111@c.us_", "true_15550001111@c.us_"),
        ] {
            assert_eq!(own_part(id), own, "{id}");
        }
    }

    #[test]
    fn message_id_is_read_in_every_shape() {
        for message in [
            json!({"id": "m1"}),
            json!({"id": {"_serialized": "m1", "id": "x"}}),
            json!({"id": {"id": "m1"}}),
            json!({"_data": {"id": {"_serialized": "m1"}}}),
            json!({"message_id": "m1"}),
            json!({"key": {"id": "m1", "fromMe": true}}),
        ] {
            assert_eq!(message_id(&message).as_deref(), Some("m1"), "{message}");
        }
        for nothing in [json!({}), json!({"id": ""}), json!({"id": 7}), json!(null)] {
            assert_eq!(message_id(&nothing), None, "{nothing}");
        }
    }

    #[test]
    fn ack_is_read_by_number_and_by_name() {
        for (value, expected) in [
            (json!({"ack": 1, "ackName": "READ"}), Some(ReceiptStatus::Sent)),
            (json!({"ack": "3"}), Some(ReceiptStatus::Read)),
            (json!({"ackName": "PLAYED"}), Some(ReceiptStatus::Played)),
            (json!({"ack": -1, "ackName": "ERROR"}), Some(ReceiptStatus::Failed)),
            (json!({"ack": 5, "ackName": "LATER"}), None),
            (json!({"ack": null}), None),
        ] {
            assert_eq!(ack(&value), expected, "{value}");
        }
    }

    #[test]
    fn time_is_read_in_seconds_and_milliseconds() {
        let expected = Timestamp::from_second(1_767_225_600).ok();
        assert_eq!(time(&json!(1_767_225_600)), expected);
        assert_eq!(time(&json!(1_767_225_600_000_i64)), expected);
        assert_eq!(time(&json!(0)), None);
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

    #[test]
    fn an_address_with_a_token_is_known_by_the_rest() {
        let url: Url = "https://gateway.example/callbacks/a/b".parse().expect("a URL");
        let tokens = serde_json::from_value(json!("secret-token-012345")).expect("secrets");
        let ours = with_token(&url, &tokens).expect("a token");
        assert_eq!(ours.as_str(), "https://gateway.example/callbacks/a/b?token=secret-token-012345");
        assert!(is_same_address(ours.as_str(), &url) && !is_same_address("https://gateway.example/", &url));
        assert_eq!(with_token(&url, &Secrets::default()), None);
    }
}
