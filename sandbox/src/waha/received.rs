//! Messages that people write, with each engine's own view of them in `_data`, and their files:
//! <https://waha.devlike.pro/docs/how-to/receive-messages/>.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::hooks::outgoing;
use super::{App, NAME, Refusal, authenticate, session};
use crate::Sandbox;
use crate::hooks::Outgoing;
use crate::inbound::{MediaFault, Note};
use crate::whatsapp::{self, ME};

/// Address at which a server in a container believes to be reached. It leads nowhere from outside.
const BELIEVED: &str = "http://localhost:3000";

fn session_of(note: &Note) -> &str {
    if note.account.is_empty() { "default" } else { &note.account }
}

/// A message's id as the engine spells it: GOWS calls people by their hidden number.
pub(super) fn receive(note: &mut Note) -> Result<(), String> {
    let Some((engine, "WORKING")) = session(session_of(note)) else {
        return Err("there is no such session, or it is not linked".to_owned());
    };
    note.conversation = whatsapp::chat_of(note)?;
    note.message_id =
        whatsapp::received_id(note, &shown(&note.conversation, engine), &shown(&person(note), engine));
    Ok(())
}

fn person(note: &Note) -> String {
    format!("{}@c.us", note.digits())
}

fn shown(jid: &str, engine: &str) -> String {
    match jid.strip_suffix("@c.us") {
        Some(digits) if engine == "GOWS" => format!("9{digits}@lid"),
        _ => jid.to_owned(),
    }
}

/// Two events: the one for what people write, and the one for all messages. Our own messages are in the second alone.
pub(super) fn events(sandbox: &Sandbox, note: &Note) -> Vec<Outgoing> {
    let name = session_of(note);
    let Some((engine, _)) = session(name) else { return Vec::new() };
    let payload = payload(note, engine, &link(note));
    let events = if note.own { &["message.any"][..] } else { &["message", "message.any"] };
    events.iter().flat_map(|event| outgoing(sandbox, name, event, &payload, &note.message_id)).collect()
}

fn link(note: &Note) -> String {
    note.link(format!("{BELIEVED}/api/files/{}/{}", session_of(note), note.filename()))
}

fn payload(note: &Note, engine: &str, link: &str) -> Value {
    let chat = shown(&note.conversation, engine);
    let sender = shown(&person(note), engine);
    let quoted = note.reply_to.as_deref().map(whatsapp::raw_part);
    let (from, to) = if note.own { (ME.to_owned(), chat.clone()) } else { (chat.clone(), ME.to_owned()) };
    // A file at another address lies in a bucket.
    let bucket = matches!(note.media, MediaFault::Elsewhere { .. })
        .then(|| json!({ "Bucket": "waha", "Key": note.filename() }));
    json!({
        "id": note.message_id,
        "timestamp": note.at.as_second(),
        "from": from,
        "fromMe": note.own,
        "source": "app",
        "to": to,
        "participant": note.group.as_ref().map(|_| &sender),
        "body": "",
        "hasMedia": true,
        "media": { "url": link, "mimetype": note.mime_type, "filename": null, "s3": bucket, "error": null },
        "ack": 1,
        "ackName": "SERVER",
        "vCards": [],
        "replyTo": quoted.map(|raw| json!({ "id": raw, "participant": ME, "body": "", "hasMedia": true })),
        "_data": data(note, engine, &chat, &sender),
    })
}

fn data(note: &Note, engine: &str, chat: &str, sender: &str) -> Value {
    let audio = whatsapp::audio_message(note);
    match engine {
        "NOWEB" => json!({
            "key": { "remoteJid": chat.replace("@c.us", "@s.whatsapp.net"), "fromMe": note.own, "id": note.raw,
                     "participant": note.group.as_ref().map(|_| sender.replace("@c.us", "@s.whatsapp.net")) },
            "pushName": note.sender_name,
            "message": { "audioMessage": audio },
        }),
        "GOWS" => {
            let mut message = audio;
            message["PTT"] = message["ptt"].take();
            json!({
                "Info": { "Chat": chat, "Sender": sender, "SenderAlt": format!("{}@s.whatsapp.net", note.digits()),
                          "IsFromMe": note.own, "PushName": note.sender_name, "Type": "media",
                          "MediaType": if note.is_voice { "ptt" } else { "audio" } },
                "Message": { "audioMessage": message },
            })
        }
        _ => json!({
            "type": if note.is_voice { "ptt" } else { "audio" },
            "notifyName": note.sender_name,
            "mimetype": note.mime_type,
            "duration": note.seconds().to_string(),
            "size": note.bytes.len(),
            "filehash": note.sha256(),
        }),
    }
}

/// A file, for whoever has the key.
pub(super) async fn file(
    State(sandbox): App,
    Path((session, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = authenticate(&headers) {
        return refusal.into_response();
    }
    let note = sandbox.inbound_note(NAME, |note| session_of(note) == session && note.filename() == name);
    match note.filter(|note| !note.is_expired()) {
        Some(note) => note.file().await,
        None => {
            let error = json!({ "code": 404, "key": "FILE_NOT_FOUND", "message": "File not found" });
            Refusal { status: 404, body: json!({ "error": error }) }.into_response()
        }
    }
}

/// A message, whose file is downloaded once more.
pub(super) async fn message(
    State(sandbox): App,
    Path((session, chat, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    authenticate(&headers)?;
    let engine = super::working(&session)?;
    let note = sandbox.inbound_note(NAME, |note| {
        session_of(note) == session && note.message_id == id && shown(&note.conversation, engine) == chat
    });
    let note = note.filter(|note| !note.is_expired());
    let note = note.ok_or_else(|| Refusal::nest(404, format!("Message {id} not found")))?;
    Ok(Json(payload(&note, engine, &link(&note))))
}
