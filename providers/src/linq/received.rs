//! Audio that people send, in both forms of `message.received`: <https://docs.linqapp.com/guides/webhooks/events/>.
//!
//! A link holds for an hour, or on lines that keep nothing for 15 minutes; by its id an attachment gets a new link, on
//! those lines for a day.

use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, Request};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::{
    Linq,
    errors::{Refusal, Step},
};
use crate::{
    CallbackError, Context, Fetched, Form, InboundVoice, MediaRef, Recipient, SendError, SendErrorKind,
    inbound::{self, address, reference, referred},
    parse_recipient,
    wire::{self, Downloaded, NoAnswer, Out},
};

/// The shortest time for which Linq keeps an attachment.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Most parts of a message that are looked at. Linq's own limit: guides/messaging/sending-messages.
const MOST_PARTS: usize = 100;

/// [`MediaRef::value`].
#[derive(Serialize, Deserialize)]
struct File {
    url: Option<String>,
    attachment: Option<String>,
}

/// Reads a message: a note for each of its parts with audio. None if we wrote it.
pub(super) fn voices(
    data: &Value,
    created_at: Option<&str>,
    now: Timestamp,
) -> Result<Vec<InboundVoice>, CallbackError> {
    if !data.is_object() {
        return Err(CallbackError::Malformed);
    }
    let message = if data["message"].is_object() { &data["message"] } else { data };
    let sender = [&data["sender_handle"], &data["from_handle"]].into_iter().find(|handle| handle.is_object());
    let sender = sender.unwrap_or(&Value::Null);
    let is_ours = data["direction"] == "outbound" || data["is_from_me"] == true || sender["is_me"] == true;
    let parts = message["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let audio: Vec<(&Value, Form)> =
        parts.iter().take(MOST_PARTS).filter_map(|part| Some((part, form(part)?))).collect();
    if is_ours || audio.is_empty() {
        return Ok(Vec::new());
    }
    let id = [&message["id"], &data["id"], &data["message_id"]].into_iter().find_map(id);
    let id = id.ok_or(CallbackError::Malformed)?;
    let handle = [&sender["handle"], &data["from"]].into_iter().find_map(Value::as_str);
    let Some(from) = handle.and_then(person) else { return Ok(Vec::new()) };
    let chat = [&data["chat"]["id"], &data["chat_id"]].into_iter().find_map(Value::as_str);
    let group = data["chat"]["is_group"] == true || data["is_group"] == true;
    let conversation = match chat.and_then(|chat| Uuid::try_parse(chat).ok()).filter(|_| group) {
        Some(chat) => format!("linq:{chat}"),
        None => from.clone(),
    };
    let times = [&data["sent_at"], &message["sent_at"], &data["received_at"]];
    let times = times.into_iter().filter_map(Value::as_str).chain(created_at);
    let sent_at = times.filter_map(|text| text.parse().ok()).next().unwrap_or(now);
    let reply_to = [&message["reply_to"]["message_id"], &data["reply_to"]["message_id"]];
    let reply_to = reply_to.into_iter().find_map(self::id);
    let voice = |(at, (part, form)): (usize, (&Value, Form))| InboundVoice {
        // The second and further files of a message are named after it.
        message_id: if at == 0 { id.clone() } else { format!("{id}/{at}") },
        from: from.clone(),
        conversation: conversation.clone(),
        group,
        sender_name: None,
        reply_to: reply_to.clone(),
        sent_at,
        form,
        media: MediaRef {
            value: reference(&File {
                url: address(&part["url"]),
                attachment: part["id"].as_str().filter(|id| Uuid::try_parse(id).is_ok()).map(str::to_owned),
            }),
            fetch_before: Some(now + KEPT),
        },
    };
    Ok(audio.into_iter().enumerate().map(voice).collect())
}

/// The form of a part with audio. iPhones record voice notes as CAF, and nobody sends files of that kind.
fn form(part: &Value) -> Option<Form> {
    let mime_type = part["mime_type"].as_str().filter(|_| part["type"] == "media")?.to_ascii_lowercase();
    let kind = mime_type.strip_prefix("audio/")?;
    Some(if kind.starts_with("x-caf") || kind.starts_with("caf") { Form::Voice } else { Form::Audio })
}

fn id(told: &Value) -> Option<String> {
    let sound =
        |id: &&str| (1..=inbound::LONGEST_ID - 4).contains(&id.len()) && !id.contains(char::is_control);
    told.as_str().filter(sound).map(str::to_owned)
}

/// A handle as a recipient: a phone number or an e-mail address.
fn person(handle: &str) -> Option<String> {
    let to = parse_recipient(handle).ok()?;
    matches!(to, Recipient::Phone(_) | Recipient::Email(_)).then(|| to.to_string())
}

impl Linq {
    pub(super) async fn file(
        &self,
        cx: &Context,
        media: &MediaRef,
        out: &mut Out<'_>,
    ) -> Result<Fetched, SendError> {
        let file: File = referred(media)?;
        if let Some(url) = &file.url {
            match self.file_at(cx, url, out).await? {
                Downloaded::Refused(answer)
                    if file.attachment.is_some() && matches!(answer.status.as_u16(), 400..=410) => {}
                downloaded => return downloaded.whole(cx),
            }
        }
        let attachment = file.attachment.ok_or_else(inbound::gone)?;
        let url = self.new_link(cx, &attachment).await?;
        self.file_at(cx, &url, out).await?.whole(cx)
    }

    /// Downloads without the token: a link is all that it takes.
    async fn file_at(&self, cx: &Context, told: &str, out: &mut Out<'_>) -> Result<Downloaded, SendError> {
        let url = Url::parse(told).map_err(|_| NoAnswer::Forbidden.in_fetch())?;
        if url.origin() == self.api.origin() {
            return wire::download(cx, Request::new(Method::GET, url), out).await;
        }
        wire::download_guarded(cx, url, out).await
    }

    /// <https://docs.linqapp.com/guides/messaging/attachments/>
    async fn new_link(&self, cx: &Context, attachment: &str) -> Result<String, SendError> {
        #[derive(Deserialize)]
        struct Body {
            download_url: Option<String>,
        }
        let request = self.request(Method::GET, self.api.join(&["v3", "attachments", attachment]), None);
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_fetch)?;
        if !answer.status.is_success() {
            return Err(Refusal::read(&answer, cx.now, &self.secrets(&[])).into_error(Step::Fetch));
        }
        let body: Option<Body> = serde_json::from_slice(&answer.body).ok();
        body.and_then(|body| body.download_url).ok_or_else(|| {
            let detail = "the provider's answer has no link to the audio";
            SendError::new(SendErrorKind::Unavailable, detail)
        })
    }
}
