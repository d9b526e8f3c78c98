//! The kit of gateways that run WhatsApp Web (WAHA and what is built on it, Evolution, Wawp): recipients, message ids,
//! acknowledgements and events about what was sent are spelt alike there.

mod connection;
mod inbound;
mod sent;

pub(crate) use connection::{PRESENCE, audio, capabilities, file, text, voice};
pub(crate) use inbound::{
    File, Place, audio_message, own_address, protocol_form, protocol_quoted, quoted_id, waha_voice,
};
pub use sent::{sent_name, sent_names};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use crate::{
    CallbackError, JidServer, Receipt, ReceiptFailure, ReceiptStatus, Recipient, RecipientError, Secrets,
    SendErrorKind, Upstream, wire,
};

/// Longest id of a message that is taken from an event, in bytes.
const LONGEST_ID: usize = 255;

/// The kinds of recipient that such a connection states in [`crate::Capabilities::recipients`].
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
/// Fails if WhatsApp has no such kind of recipient.
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
pub fn event_message_id(message: &Value) -> Result<String, CallbackError> {
    message_id(message)
        .filter(|id| id.len() <= LONGEST_ID && !id.contains(char::is_control))
        .ok_or(CallbackError::Malformed)
}

/// Whether an event is about a message that the session itself sent.
pub fn is_from_me(message: &Value, id: &str) -> bool {
    let told = [&message["fromMe"], &message["id"]["fromMe"], &message["key"]["fromMe"]];
    told.into_iter().find_map(Value::as_bool).unwrap_or_else(|| !id.starts_with("false_"))
}

/// Reads the payload of WAHA's `message.ack`. `None` if it is about a message that the session did not send.
///
/// # Errors
/// [`CallbackError::Malformed`] where it names no message.
pub fn ack_receipt(
    payload: &Value,
    at: Timestamp,
    secrets: &[&SecretString],
) -> Result<Option<Receipt>, CallbackError> {
    let message_id = event_message_id(payload)?;
    if !is_from_me(payload, &message_id) {
        return Ok(None);
    }
    let Some(status) = ack(payload) else { return Ok(None) };
    let code = payload["ackName"].as_str();
    Ok(Some(Receipt {
        correlation_id: Some(own_part(&message_id).to_owned()),
        guess: None,
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

/// The address that is registered at a gateway without signatures. Its query contains the token, so it is never shown.
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
    fn an_address_with_a_token_is_known_by_the_rest() {
        let url: Url = "https://gateway.example/callbacks/a/b".parse().expect("a URL");
        let tokens = serde_json::from_value(json!("secret-token-012345")).expect("secrets");
        let ours = with_token(&url, &tokens).expect("a token");
        assert_eq!(ours.as_str(), "https://gateway.example/callbacks/a/b?token=secret-token-012345");
        assert!(is_same_address(ours.as_str(), &url) && !is_same_address("https://gateway.example/", &url));
        assert_eq!(with_token(&url, &Secrets::default()), None);
    }
}
