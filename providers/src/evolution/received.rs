//! Voice notes that people send, and their audio:
//! <https://github.com/EvolutionAPI/evolution-api/blob/3454bec/src/api/integrations/channel/whatsapp/whatsapp.baileys.service.ts>,
//! `messages.upsert` and `getBase64FromMediaMessage`.
//!
//! The audio comes with the event where the instance has `webhookBase64`, lies in a bucket behind a signed link where the
//! server has one, and is asked for by the message's id otherwise. The `url` in `audioMessage` is encrypted.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{Evolution, errors::Refusal};
use crate::{
    CallbackError, Context, Fetched, InboundVoice, MediaRef, SendError, SendErrorKind,
    inbound::{self, address, reference, referred, sender_name},
    whatsapp_web::{self, Place},
    wire::{self, Downloaded, NoAnswer, Out, Step},
};

/// Longest audio that is kept from the event itself, in characters of base64. Longer audio is asked for.
const MOST_KEPT: usize = 4 * 1024 * 1024;

/// Longest media type that is kept, in bytes.
const LONGEST_TYPE: usize = 100;

/// [`MediaRef::value`].
#[derive(Serialize, Deserialize)]
struct File {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mime_type: Option<String>,
}

/// Reads a message of `messages.upsert`. `None` if it is no voice note or audio file of somebody else.
pub(super) fn voice(data: &Value, now: Timestamp) -> Result<Option<InboundVoice>, CallbackError> {
    let (key, message) = (&data["key"], &data["message"]);
    let Some(form) = whatsapp_web::protocol_form(message).filter(|_| key["fromMe"] == false) else {
        return Ok(None);
    };
    let id = whatsapp_web::event_message_id(&json!({"id": key["id"]}))?;
    if id.len() > inbound::LONGEST_ID {
        return Err(CallbackError::Malformed);
    }
    let chats = [key["remoteJid"].as_str()];
    let senders = ["participantAlt", "participantPn", "participant", "remoteJidAlt", "senderPn"]
        .map(|name| key[name].as_str());
    let Some(place) = Place::of(&chats, &senders) else { return Ok(None) };
    let quoted = whatsapp_web::quoted_id(&data["contextInfo"]["stanzaId"]);
    let base64 = [&message["base64"], &data["base64"]].into_iter().find_map(Value::as_str);
    let file = File {
        id: id.clone(),
        base64: base64.filter(|text| (1..=MOST_KEPT).contains(&text.len())).map(str::to_owned),
        url: address(&message["mediaUrl"]),
        mime_type: whatsapp_web::audio_message(message)
            .and_then(|audio| audio["mimetype"].as_str())
            .filter(|told| told.len() <= LONGEST_TYPE)
            .map(str::to_owned),
    };
    Ok(Some(InboundVoice {
        message_id: id,
        from: place.from,
        conversation: place.conversation,
        group: place.group,
        sender_name: sender_name(&data["pushName"]),
        reply_to: quoted.or_else(|| whatsapp_web::protocol_quoted(message)),
        sent_at: sent_at(&data["messageTimestamp"]).unwrap_or(now),
        form,
        media: MediaRef { value: reference(&file), fetch_before: None },
    }))
}

/// Seconds as a number, as a text, or as a `Long` of Node.js.
fn sent_at(told: &Value) -> Option<Timestamp> {
    let seconds = told.as_i64().or_else(|| told.as_str()?.parse().ok()).or_else(|| told["low"].as_i64())?;
    whatsapp_web::time(&json!(seconds))
}

impl Evolution {
    pub(super) async fn file(
        &self,
        cx: &Context,
        media: &MediaRef,
        out: &mut Out<'_>,
    ) -> Result<Fetched, SendError> {
        let file: File = referred(media)?;
        if let Some(bytes) = file.base64.as_deref().and_then(decoded) {
            wire::write(out, &bytes).await?;
            return Ok(Fetched { mime_type: file.mime_type });
        }
        if let Some(url) = file.url.as_deref().and_then(|url| Url::parse(url).ok()) {
            // A bucket on a private network is out of reach, and a link expires; the server itself has the audio, too.
            match wire::download_guarded(cx, url, out).await {
                Ok(Downloaded::Whole(fetched)) => return Ok(fetched),
                Ok(Downloaded::Refused(_)) => {}
                Err(error) if error.kind == SendErrorKind::Rejected => {}
                Err(error) => return Err(error),
            }
        }
        self.base64_of(cx, &file, out).await
    }

    /// <https://doc.evolution-api.com/v2/api-reference/chat-controller/get-base64>. The whole message as a parameter is
    /// refused at times, its id alone never: <https://github.com/EvolutionAPI/evolution-api/issues/2550>.
    async fn base64_of(&self, cx: &Context, file: &File, out: &mut Out<'_>) -> Result<Fetched, SendError> {
        let body = json!({"message": {"key": {"id": file.id}}, "convertToMp4": false});
        let path = ["chat", "getBase64FromMediaMessage", &self.instance];
        let request = self.request(Method::POST, &path, Some(&body));
        let answer = wire::call_whole(cx, request).await.map_err(NoAnswer::in_fetch)?;
        if !answer.status.is_success() {
            return Err(
                Refusal::read(&answer, cx.now, &self.secrets(&[]), &[]).into_error(Step::Fetch, false)
            );
        }
        let told: Answered = serde_json::from_slice(&answer.body).unwrap_or_default();
        let bytes = decoded(&told.base64).ok_or_else(|| {
            let detail = "the provider's answer has no audio";
            SendError::new(SendErrorKind::Unavailable, detail)
        })?;
        wire::write(out, &bytes).await?;
        Ok(Fetched { mime_type: told.mimetype.or_else(|| file.mime_type.clone()) })
    }
}

/// The part of the answer that is looked at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answered {
    base64: String,
    mimetype: Option<String>,
}

/// Decodes base64, with and without a `data:` before it. `None` where nothing is left.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let text = text.split_once(";base64,").map_or(text, |(_, text)| text);
    BASE64_STANDARD.decode(text.trim()).ok().filter(|bytes| !bytes.is_empty())
}
