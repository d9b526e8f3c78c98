//! Messages that people write, and their files:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/audio/>,
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media/>.

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::statuses::{envelope, request};
use super::{GraphError, NUMBERS, WhatsAppCloud, authenticate};
use crate::Sandbox;
use crate::emulator::Emulator as _;
use crate::hooks::Outgoing;
use crate::inbound::Note;

fn number_of(note: &Note) -> &str {
    if note.account.is_empty() { NUMBERS[0].0 } else { &note.account }
}

pub fn receive(note: &mut Note) -> Result<(), String> {
    let digits = note.digits();
    let known = NUMBERS.iter().any(|(id, _)| *id == number_of(note));
    if note.group.is_some() || !known || !(7..=15).contains(&digits.len()) {
        return Err(
            "from must be a phone number, account the id of one of the numbers, and there are no groups"
                .to_owned(),
        );
    }
    note.conversation = format!("+{digits}");
    note.message_id = format!("wamid.{}", note.raw);
    Ok(())
}

/// One request for all of them.
pub fn outgoing(sandbox: &Sandbox, notes: &[Note]) -> Vec<Outgoing> {
    let Some(first) = notes.first() else { return Vec::new() };
    let number = number_of(first);
    let (contacts, messages): (Vec<Value>, Vec<Value>) = notes.iter().map(told).unzip();
    let body = envelope(number, json!({ "contacts": contacts, "messages": messages }));
    request(sandbox, number, "message", &first.message_id, &first.message_id, &body)
}

fn told(note: &Note) -> (Value, Value) {
    let digits = note.digits();
    let ours: String = NUMBERS
        .iter()
        .find(|(id, _)| *id == number_of(note))
        .map_or("", |(_, shown)| shown)
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let mut message = json!({
        "from": if note.own { &ours } else { &digits },
        "id": note.message_id,
        "timestamp": note.at.as_second().to_string(),
        "type": "audio",
        "audio": { "mime_type": note.mime_type, "sha256": note.sha256(), "id": media_id(note), "voice": note.is_voice },
    });
    if let Some(quoted) = &note.reply_to {
        message["context"] = json!({ "from": ours, "id": quoted });
    }
    (json!({ "profile": { "name": note.sender_name }, "wa_id": digits }), message)
}

fn media_id(note: &Note) -> String {
    (note.id.as_u128() % 9_000_000_000_000_000 + 1_000_000_000_000_000).to_string()
}

/// The answer of the Graph API about the media of a message, for the number that received it.
pub fn media(sandbox: &Sandbox, id: &str, asked_by: Option<&str>) -> Option<Result<Value, GraphError>> {
    let note = sandbox.inbound_note(WhatsAppCloud.name(), |note| media_id(note) == id)?;
    if note.is_expired() || asked_by.is_some_and(|number| number != number_of(&note)) {
        return Some(Err(GraphError::no_such_object(id)));
    }
    let own = format!(
        "{}/whatsapp-cloud/lookaside/whatsapp_business/attachments?mid={id}&ext={}&hash=sandbox",
        note.base,
        note.at.as_second() + 300
    );
    Some(Ok(json!({
        "messaging_product": "whatsapp",
        "url": note.link(own),
        "mime_type": note.mime_type,
        "sha256": note.sha256(),
        "file_size": note.bytes.len().to_string(),
        "id": id,
    })))
}

#[derive(Deserialize)]
pub struct Link {
    mid: String,
}

/// Meta's download host, which wants the token as well.
pub async fn file(State(sandbox): State<Sandbox>, Query(link): Query<Link>, headers: HeaderMap) -> Response {
    if let Err(refusal) = authenticate(&headers) {
        return refusal.into_response();
    }
    match sandbox.inbound_note(WhatsAppCloud.name(), |note| media_id(note) == link.mid) {
        Some(note) => note.file().await,
        None => GraphError::no_such_object(&link.mid).into_response(),
    }
}
