//! Ids, addresses and states of notes in the words of other gateways' APIs. Answers and webhooks in a dialect both take
//! them from here, so a client finds the id of an answer again in its events.

use uuid::Uuid;

use crate::model::{id::NoteId, note::Status};

/// An id for something of a tenant that has only a name, always the same.
pub fn named_id(tenant: &str, kind: &str, name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("voicegate:{tenant}:{kind}:{name}").as_bytes())
}

/// The id of a note in Evolution's dialect, as in `key.id`: `vn_…`.
pub fn evolution_id(note: NoteId) -> String {
    note.to_string()
}

/// The id of a note in WAHA's and Wawp's dialects: `true_{chatId}_vn_…`. `to` is the recipient of the note.
pub fn waha_id(to: &str, note: NoteId) -> String {
    format!("true_{}_{note}", waha_chat(to))
}

/// The id of a note in Linq's dialect: its UUID without a prefix.
pub fn linq_id(note: NoteId) -> String {
    note.0.to_string()
}

/// The note with this id in Linq's dialect.
pub fn linq_note(id: &str) -> Option<NoteId> {
    Uuid::try_parse(id).ok().map(NoteId)
}

/// The id that the API knows a message by, from its id in the dialects of WhatsApp gateways. The id of a note, and that
/// of a received note (`in_…`), is taken out of its wrapping, which ends with the sender in a group; any other text is a
/// provider's own id and stays as it is.
pub fn message_id(text: &str) -> String {
    let text = text.trim();
    let is_id = |part: &[&str]| matches!(part, ["vn" | "in", id] if id.len() == UUID_LENGTH && Uuid::try_parse(id).is_ok());
    let parts: Vec<&str> = text.split('_').collect();
    parts.windows(2).rfind(|part| is_id(part)).map_or(text.to_owned(), |part| part.join("_"))
}

/// Characters of a UUID with its hyphens.
const UUID_LENGTH: usize = 36;

/// The recipient of a note as WAHA and Wawp write a chat: `15551234567@c.us`.
pub fn waha_chat(to: &str) -> String {
    whatsapp_chat(to, "c.us")
}

/// The recipient of a note as Evolution writes a chat: `15551234567@s.whatsapp.net`.
pub fn evolution_chat(to: &str) -> String {
    whatsapp_chat(to, "s.whatsapp.net")
}

/// A recipient that WhatsApp has no address for stays as it is.
fn whatsapp_chat(to: &str, server: &str) -> String {
    let person = to.strip_suffix("@c.us").or_else(|| to.strip_suffix("@s.whatsapp.net"));
    let person = person.or_else(|| to.strip_prefix('+'));
    match person {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => format!("{digits}@{server}"),
        _ => to.to_owned(),
    }
}

/// The `to` of a note, from a recipient as clients of WhatsApp gateways write it: digits without a plus, or an address
/// with an `@`. A person's address becomes the phone number that it contains, so that every provider understands it.
/// Other texts stay as they are, and are judged like every `to`.
pub fn recipient(text: &str) -> String {
    let text = text.trim();
    if text.contains('@') {
        let person = ["@c.us", "@s.whatsapp.net"].into_iter().find_map(|server| {
            let at = text.len().checked_sub(server.len())?;
            text.get(at..)?.eq_ignore_ascii_case(server).then(|| &text[..at])
        });
        // The number of a linked device follows a colon: `15551234567:12@s.whatsapp.net`.
        let digits = person.and_then(|person| person.split(':').next());
        return digits
            .filter(|digits| is_phone(digits))
            .map_or(text.to_owned(), |digits| format!("+{digits}"));
    }
    let is_number = text.chars().all(|c| c.is_ascii_digit() || matches!(c, ' ' | '-' | '(' | ')' | '.'));
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if !is_number || digits.is_empty() {
        return text.to_owned();
    }
    // Evolution takes long numbers for groups: <https://github.com/EvolutionAPI/evolution-api/blob/3454bec/src/utils/createJid.ts>
    let is_old_group = text.len() >= 24 && text.contains('-') && !text.contains(['(', ' ', '.']);
    match digits.len() {
        _ if is_old_group => format!("{text}@g.us"),
        18.. => format!("{digits}@g.us"),
        _ => format!("+{digits}"),
    }
}

/// Whether the digits may be a phone number with its country code.
fn is_phone(digits: &str) -> bool {
    (7..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0')
}

/// The state of a note as Evolution writes it. A note that was not proven to have failed is at least pending.
pub fn evolution_status(status: Status) -> &'static str {
    match rank(status) {
        -1 => "ERROR",
        0 => "PENDING",
        1 => "SERVER_ACK",
        2 => "DELIVERY_ACK",
        3 => "READ",
        _ => "PLAYED",
    }
}

/// The state of a note as WAHA and Wawp write it: the number `ack`, and `ackName`.
pub fn waha_ack(status: Status) -> (i8, &'static str) {
    let rank = rank(status);
    let name = match rank {
        -1 => "ERROR",
        0 => "PENDING",
        1 => "SERVER",
        2 => "DEVICE",
        3 => "READ",
        _ => "PLAYED",
    };
    (rank, name)
}

/// The state of a note as Linq writes it. It has no state for a note that was played.
pub fn linq_status(status: Status) -> &'static str {
    match status {
        Status::Queued | Status::Processing | Status::Sending | Status::Unknown => "pending",
        Status::Accepted => "queued",
        Status::Sent => "sent",
        Status::Delivered => "delivered",
        Status::Read | Status::Played => "read",
        Status::Failed | Status::Expired | Status::Canceled => "failed",
    }
}

/// The state on WhatsApp's scale of acknowledgements. Acceptance by a provider says nothing about WhatsApp's server.
fn rank(status: Status) -> i8 {
    match status {
        Status::Failed | Status::Expired | Status::Canceled => -1,
        Status::Queued | Status::Processing | Status::Sending | Status::Unknown | Status::Accepted => 0,
        Status::Sent => 1,
        Status::Delivered => 2,
        Status::Read => 3,
        Status::Played => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_a_note_is_found_again_in_every_dialect() {
        let note = NoteId::new();
        for to in ["+15551234567", "120363000000000000@g.us", "ann_lee@example.com", "alias:vn_family", ""] {
            for id in [evolution_id(note), waha_id(to, note)] {
                assert_eq!(message_id(&id), note.to_string(), "{id}");
            }
            assert_eq!(linq_note(&linq_id(note)), Some(note));
        }
        assert_eq!(waha_id("+15551234567", note), format!("true_15551234567@c.us_{note}"));
        let received = format!("in_{}", note.0);
        assert_eq!(message_id(&format!("false_15551234567@c.us_{received}")), received);
        // WhatsApp's own ids of messages in groups end with the sender.
        let in_group = format!("false_120363000000000000@g.us_{received}_15551234567@c.us");
        assert_eq!(message_id(&in_group), received);
    }

    #[test]
    fn id_of_a_provider_stays_as_it_is() {
        for id in ["3EB0A1B2C3D4E5F6", "false_15551234567@c.us_3EB0A1B2", "true_1@c.us_vn_x", "plain_vn_"] {
            assert_eq!(message_id(id), id);
        }
    }

    #[test]
    fn recipient_is_understood_as_clients_write_it() {
        for (text, to) in [
            ("15551234567", "+15551234567"),
            (" 1 (555) 123-4567 ", "+15551234567"),
            ("+15551234567", "+15551234567"),
            ("15551234567@c.us", "+15551234567"),
            ("15551234567@S.WhatsApp.net", "+15551234567"),
            ("15551234567:12@s.whatsapp.net", "+15551234567"),
            ("120363000000000000", "120363000000000000@g.us"),
            ("120363000000000000@g.us", "120363000000000000@g.us"),
            ("4915112345678-1546300800", "4915112345678-1546300800@g.us"),
            ("123456789012345@lid", "123456789012345@lid"),
            ("120363000000000000@newsletter", "120363000000000000@newsletter"),
            ("0123456@c.us", "0123456@c.us"),
            ("ann@example.com", "ann@example.com"),
            ("alias:family", "alias:family"),
            ("telegram:-100123", "telegram:-100123"),
            ("", ""),
        ] {
            assert_eq!(recipient(text), to, "{text}");
        }
    }

    #[test]
    fn recipient_is_written_as_each_dialect_writes_it() {
        for (to, waha, evolution) in [
            ("+15551234567", "15551234567@c.us", "15551234567@s.whatsapp.net"),
            ("15551234567@s.whatsapp.net", "15551234567@c.us", "15551234567@s.whatsapp.net"),
            ("120363000000000000@g.us", "120363000000000000@g.us", "120363000000000000@g.us"),
            ("ann@example.com", "ann@example.com", "ann@example.com"),
            (
                "linq:f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd",
                "linq:f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd",
                "linq:f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd",
            ),
        ] {
            assert_eq!((waha_chat(to).as_str(), evolution_chat(to).as_str()), (waha, evolution), "{to}");
            assert_eq!(recipient(&waha_chat(to)), recipient(&evolution_chat(to)), "{to}");
        }
    }

    #[test]
    fn note_with_an_unknown_outcome_is_pending_and_never_failed() {
        for status in [Status::Unknown, Status::Queued, Status::Processing, Status::Sending] {
            assert_eq!(evolution_status(status), "PENDING");
            assert_eq!(waha_ack(status), (0, "PENDING"));
            assert_eq!(linq_status(status), "pending");
        }
        for status in Status::ALL {
            assert_eq!(status.is_failure(), evolution_status(status) == "ERROR", "{status:?}");
            assert_eq!(status.is_failure(), waha_ack(status).0 == -1, "{status:?}");
            assert_eq!(status.is_failure(), linq_status(status) == "failed", "{status:?}");
        }
    }
}
