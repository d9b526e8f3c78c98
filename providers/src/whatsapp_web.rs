//! The kit of gateways that run WhatsApp Web (WAHA and what is built on it, Evolution, Wawp): recipients, message ids and
//! acknowledgements are spelt alike there.

use jiff::Timestamp;
use serde_json::Value;

use crate::{JidServer, ReceiptStatus, Recipient, RecipientError};

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
}
