//! Voice notes that people send, as events of these gateways describe them. Each engine behind WAHA has the message as
//! its own library tells it in `_data`: whatsapp-web.js and WPPConnect with `type: "ptt"`, Baileys and whatsmeow with
//! the message of the protocol.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{event_message_id, is_from_me, message_id, own_part, time};
use crate::{
    BaseUrl, CallbackError, Form, InboundVoice, JidServer, MediaRef, Recipient,
    inbound::{self, address, reference, sender_name},
    parse_recipient,
};

/// Messages of the protocol that have another message in them.
const WRAPPERS: [&str; 4] =
    ["ephemeralMessage", "viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension"];

/// The place of a note's audio, as stored in [`MediaRef::value`].
#[derive(Serialize, Deserialize)]
pub(crate) struct File {
    /// The address that the event names. A server that does not download media by itself names none.
    pub url: Option<String>,
    /// The file is in a bucket, behind a signed link.
    #[serde(default)]
    pub in_bucket: bool,
    /// The message and its chat, by which the file can be asked for again.
    pub message: String,
    pub chat: String,
}

impl File {
    /// Reads the file of a message.
    pub fn of(message: &Value, id: &str, chat: &str) -> Self {
        let media = &message["media"];
        Self {
            // Older servers have the address beside the object.
            url: address(&media["url"]).or_else(|| address(&message["mediaUrl"])),
            in_bucket: media["s3"].is_object(),
            message: id.to_owned(),
            chat: chat.to_owned(),
        }
    }
}

/// Reads the payload of `message` and `message.any`. `None` if it is no voice note or audio file of somebody else.
///
/// # Errors
/// [`CallbackError::Malformed`] where a voice note has no id.
pub(crate) fn waha_voice(payload: &Value, now: Timestamp) -> Result<Option<InboundVoice>, CallbackError> {
    let Some(form) = waha_form(payload) else { return Ok(None) };
    let id = event_message_id(payload)?;
    if id.len() > inbound::LONGEST_ID {
        return Err(CallbackError::Malformed);
    }
    let Some(place) = waha_place(payload, &id).filter(|_| !is_from_me(payload, &id)) else { return Ok(None) };
    let data = &payload["_data"];
    let names =
        [&data["notifyName"], &data["pushName"], &data["Info"]["PushName"], &data["sender"]["pushname"]];
    Ok(Some(InboundVoice {
        from: place.from,
        conversation: place.conversation,
        group: place.group,
        sender_name: names.into_iter().find_map(sender_name),
        reply_to: waha_quoted(payload),
        sent_at: time(&payload["timestamp"]).unwrap_or(now),
        form,
        // Files are kept for three minutes, but WAHA gets one again that is asked for later. So the server says when it is
        // too late, and not the time.
        media: MediaRef { value: reference(&File::of(payload, &id, &place.chat)), fetch_before: None },
        message_id: id,
    }))
}

/// Chat and author of a message.
pub(crate) struct Place {
    /// The chat as WhatsApp spells it.
    pub chat: String,
    pub from: String,
    pub conversation: String,
    pub group: bool,
}

impl Place {
    /// `chats` are the ids of the chat and `senders` those of the writer, each as it is told in several places. A person
    /// is named by number where any of them is one, because notes are mostly sent to numbers. `None` for what is no
    /// conversation: newsletters and the status of contacts.
    pub fn of(chats: &[Option<&str>], senders: &[Option<&str>]) -> Option<Self> {
        let chat = chats.iter().flatten().find_map(|jid| Some((*jid, recipient(jid)?)))?;
        let (chat, recipient) = chat;
        match &recipient {
            Recipient::Jid { server: JidServer::Group, .. } => {
                let conversation = recipient.to_string();
                // A member whom nobody names can still be answered in the group.
                let from = person(senders.iter().flatten().copied());
                let from = from.unwrap_or_else(|| conversation.clone());
                Some(Self { chat: chat.to_owned(), from, conversation, group: true })
            }
            Recipient::Jid { server: JidServer::Newsletter, .. } => None,
            _ => {
                let told = chats.iter().chain(senders).flatten().copied();
                let from = person(told)?;
                Some(Self { chat: chat.to_owned(), conversation: from.clone(), from, group: false })
            }
        }
    }
}

/// The first person among some ids, by number where one of them is a number.
fn person<'a>(jids: impl Iterator<Item = &'a str>) -> Option<String> {
    let is_person = |known: &Recipient| match known {
        Recipient::Phone(_) => true,
        Recipient::Jid { server, .. } => !matches!(server, JidServer::Group | JidServer::Newsletter),
        _ => false,
    };
    let known: Vec<Recipient> = jids.filter_map(recipient).filter(is_person).collect();
    let number = known.iter().find(|known| matches!(known, Recipient::Phone(_)));
    number.or_else(|| known.first()).map(ToString::to_string)
}

/// A chat as a recipient: `15550001111:7@s.whatsapp.net` is the phone number, without its device.
fn recipient(jid: &str) -> Option<Recipient> {
    let (user, server) = jid.rsplit_once('@')?;
    let user = user.split(':').next().unwrap_or_default();
    match parse_recipient(&format!("{user}@{server}")).ok()? {
        Recipient::Jid { user, server: server @ (JidServer::User | JidServer::LinkedUser) } => {
            let number = parse_recipient(&format!("+{user}")).ok();
            Some(number.unwrap_or(Recipient::Jid { user, server }))
        }
        other @ Recipient::Jid { .. } => Some(other),
        _ => None,
    }
}

fn waha_place(payload: &Value, id: &str) -> Option<Place> {
    let (data, info) = (&payload["_data"], &payload["_data"]["Info"]);
    let parts: Vec<&str> = id.split('_').collect();
    let part = |at: usize| parts.get(at).copied().filter(|part| part.contains('@'));
    let author = data["author"].as_str().or_else(|| data["author"]["_serialized"].as_str());
    let chats = [payload["from"].as_str(), part(1), data["key"]["remoteJid"].as_str()];
    let senders = [
        payload["participant"].as_str(),
        payload["author"].as_str(),
        part(3),
        author,
        data["key"]["participant"].as_str(),
        data["key"]["participantAlt"].as_str(),
        data["key"]["remoteJidAlt"].as_str(),
        data["key"]["senderPn"].as_str(),
        info["SenderAlt"].as_str(),
        info["Sender"].as_str(),
    ];
    Place::of(&chats, &senders)
}

/// The form of a message with audio; `None` for every other kind. An audio file that was sent as a document is one.
fn waha_form(payload: &Value) -> Option<Form> {
    let data = &payload["_data"];
    let kind = data["type"].as_str().or_else(|| data["Info"]["MediaType"].as_str());
    match kind {
        Some("ptt") => return Some(Form::Voice),
        Some("audio") => return Some(Form::Audio),
        Some("chat" | "image" | "video" | "gif" | "document" | "sticker" | "vcard" | "location" | "ptv") => {
            return None;
        }
        _ => {}
    }
    for content in [&data["message"], &data["Message"]] {
        if content.is_object() {
            return protocol_form(content);
        }
    }
    // Without the engine's own message the type of the file has to do.
    let mime_type = payload["media"]["mimetype"].as_str().or_else(|| data["mimetype"].as_str())?;
    match mime_type.strip_prefix("audio/")? {
        kind if kind.starts_with("ogg") => Some(Form::Voice),
        _ => Some(Form::Audio),
    }
}

/// The form of a message of the protocol.
pub(crate) fn protocol_form(content: &Value) -> Option<Form> {
    let audio = audio_message(content)?;
    let is_voice = audio["ptt"] == true || audio["PTT"] == true;
    Some(if is_voice { Form::Voice } else { Form::Audio })
}

/// The audio in a message of the protocol, whatever is around it.
pub(crate) fn audio_message(content: &Value) -> Option<&Value> {
    let mut content = content;
    while let Some(inner) = WRAPPERS.iter().map(|name| &content[*name]["message"]).find(|m| m.is_object()) {
        content = inner;
    }
    Some(&content["audioMessage"]).filter(|audio| audio.is_object())
}

/// The message that is answered, by the part of its id that is spelt alike everywhere.
fn waha_quoted(payload: &Value) -> Option<String> {
    let (told, data) = (&payload["replyTo"], &payload["_data"]);
    let in_content = [&data["message"], &data["Message"]].into_iter().find_map(protocol_quoted);
    [&told["id"], told, &data["quotedStanzaID"]].into_iter().find_map(quoted_id).or(in_content)
}

/// The message that is answered, by the protocol.
pub(crate) fn protocol_quoted(content: &Value) -> Option<String> {
    let context = &audio_message(content)?["contextInfo"];
    [&context["stanzaId"], &context["stanzaID"]].into_iter().find_map(quoted_id)
}

pub(crate) fn quoted_id(told: &Value) -> Option<String> {
    let id = told.as_str().map(str::to_owned).or_else(|| message_id(&serde_json::json!({"id": told})))?;
    let own = own_part(&id);
    let sound = (1..=inbound::LONGEST_ID).contains(&own.len()) && !own.contains(char::is_control);
    sound.then(|| own.to_owned())
}

/// The address of a file at the server itself. A server does not always know by which address it is reached: it says
/// `localhost` from within a container. So another host than that of `base_url` is replaced by it.
pub(crate) fn own_address(api: &BaseUrl, told: &str) -> Option<Url> {
    let base = api.as_url();
    let url = base.join(told).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let mut ours = base.clone();
    let is_whole = Url::parse(told).is_ok();
    let path = if is_whole && url.origin() == base.origin() {
        url.path().to_owned()
    } else {
        // The path before it belongs to a proxy that the gateway does not pass.
        let path = url.path().find("/api/").map_or(url.path(), |at| &url.path()[at..]);
        format!("{}{path}", base.path().trim_end_matches('/'))
    };
    ours.set_path(&path);
    ours.set_query(url.query());
    Some(ours)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_is_named_by_number_where_one_is_told() {
        let place = |chats: &[&str], senders: &[&str]| {
            let some = |jids: &[&str]| jids.iter().map(|jid| Some((*jid).to_owned())).collect::<Vec<_>>();
            let (chats, senders) = (some(chats), some(senders));
            let chats: Vec<Option<&str>> = chats.iter().map(Option::as_deref).collect();
            let senders: Vec<Option<&str>> = senders.iter().map(Option::as_deref).collect();
            Place::of(&chats, &senders).map(|place| (place.from, place.conversation, place.group))
        };
        let group = "120363000000000000@g.us";
        for (chats, senders, expected) in [
            (&["15550001111@c.us"][..], &[][..], Some(("+15550001111", "+15550001111", false))),
            (&["15550001111:7@s.whatsapp.net"], &[], Some(("+15550001111", "+15550001111", false))),
            (&["98765@lid"], &[], Some(("98765@lid", "98765@lid", false))),
            (&["98765@lid"], &["15550001111@s.whatsapp.net"], Some(("+15550001111", "+15550001111", false))),
            (&[group], &["98765@lid", "15550001111@c.us"], Some(("+15550001111", group, true))),
            (&[group], &["98765@lid"], Some(("98765@lid", group, true))),
            (&[group], &[], Some((group, group, true))),
            (&["120363000000000000@newsletter"], &["15550001111@c.us"], None),
            (&["status@broadcast"], &["15550001111@c.us"], None),
            (&["nobody"], &[], None),
        ] {
            let expected = expected.map(|(from, chat, group)| (from.to_owned(), chat.to_owned(), group));
            assert_eq!(place(chats, senders), expected, "{chats:?} {senders:?}");
        }
    }

    #[test]
    fn a_voice_note_is_told_from_other_messages_with_every_engine() {
        for (payload, form) in [
            (json!({"_data": {"type": "ptt"}}), Some(Form::Voice)),
            (json!({"_data": {"type": "audio"}}), Some(Form::Audio)),
            (json!({"_data": {"type": "document"}, "media": {"mimetype": "audio/mpeg"}}), None),
            (json!({"_data": {"message": {"audioMessage": {"ptt": true}}}}), Some(Form::Voice)),
            (json!({"_data": {"message": {"audioMessage": {}}}}), Some(Form::Audio)),
            (
                json!({"_data": {"message": {"ephemeralMessage": {"message": {"audioMessage": {"ptt": true}}}}}}),
                Some(Form::Voice),
            ),
            (json!({"_data": {"Message": {"audioMessage": {"PTT": true}}}}), Some(Form::Voice)),
            (json!({"_data": {"Info": {"MediaType": "ptt"}}}), Some(Form::Voice)),
            (json!({"_data": {"Message": {"stickerMessage": {}}}}), None),
            (json!({"media": {"mimetype": "audio/ogg; codecs=opus"}}), Some(Form::Voice)),
            (json!({"media": {"mimetype": "audio/mpeg"}}), Some(Form::Audio)),
            (json!({"media": {"mimetype": "image/jpeg"}}), None),
            (json!({"body": "Hi"}), None),
        ] {
            assert_eq!(waha_form(&payload), form, "{payload}");
        }
    }

    #[test]
    fn a_file_is_asked_for_at_base_url_whatever_host_is_named() {
        let at = |base: &str, told: &str| {
            let base = BaseUrl::try_from(base.to_owned()).expect("a base URL");
            own_address(&base, told).map(String::from)
        };
        let file = "http://waha.example:3000/api/files/default/a.oga";
        for (base, told, expected) in [
            ("http://waha.example:3000", file, Some(file)),
            ("http://waha.example:3000/", "http://localhost:3000/api/files/default/a.oga", Some(file)),
            ("http://waha.example:3000", "https://u:p@evil.example/api/files/default/a.oga", Some(file)),
            ("http://waha.example:3000", "/api/files/default/a.oga", Some(file)),
            ("http://waha.example:3000", "//evil.example/api/files/default/a.oga", Some(file)),
            (
                "https://proxy.example/waha",
                "http://localhost:3000/api/files/a%20b.oga?v=1",
                Some("https://proxy.example/waha/api/files/a%20b.oga?v=1"),
            ),
            (
                "https://proxy.example/waha",
                "/api/files/a.oga",
                Some("https://proxy.example/waha/api/files/a.oga"),
            ),
            ("http://waha.example:3000", "file:///etc/passwd", None),
            ("http://waha.example:3000", "data:audio/ogg;base64,AAAA", None),
        ] {
            assert_eq!(at(base, told).as_deref(), expected, "{base} {told}");
        }
    }

    #[test]
    fn a_quoted_message_is_named_by_its_own_part() {
        for (payload, id) in [
            (json!({"replyTo": {"id": "3EB0", "participant": "15550001111@c.us"}}), Some("3EB0")),
            (json!({"replyTo": {"id": "true_15550001111@c.us_3EB0"}}), Some("3EB0")),
            (json!({"replyTo": "true_15550001111@c.us_3EB0"}), Some("3EB0")),
            (json!({"_data": {"quotedStanzaID": "3EB0"}}), Some("3EB0")),
            (
                json!({"_data": {"message": {"audioMessage": {"contextInfo": {"stanzaId": "3EB0"}}}}}),
                Some("3EB0"),
            ),
            (
                json!({"_data": {"Message": {"audioMessage": {"contextInfo": {"stanzaID": "3EB0"}}}}}),
                Some("3EB0"),
            ),
            (json!({"replyTo": null}), None),
            (json!({}), None),
        ] {
            assert_eq!(waha_quoted(&payload).as_deref(), id, "{payload}");
        }
    }
}
