//! Voice messages that people send, and their audio:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/audio/>,
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media/>.

use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, Request};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::{Host, Url};

use super::{PREFIX, WhatsAppCloud, errors::Refusal, receipts::time, sound_id};
use crate::{
    Context, Fetched, Form, InboundVoice, MediaRef, SendError, SendErrorKind,
    inbound::{reference, referred, sender_name},
    parse_recipient,
    wire::{self, Downloaded, NoAnswer, Out, Step},
};

/// Meta keeps what people send for seven days under its id. The link behind the id holds for five minutes, so it is asked
/// for each time.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Hosts from which Meta hands out files to whoever has the token; and all below them.
const DOWNLOAD_HOSTS: [&str; 4] = ["fbsbx.com", "fbcdn.net", "facebook.com", "whatsapp.net"];

/// [`MediaRef::value`].
#[derive(Serialize, Deserialize)]
struct File {
    id: String,
}

/// Reads a message. `None` if it is no voice message or audio file of a person. What is written in a group is left out,
/// because this connection cannot answer there.
pub(super) fn voice(value: &Value, message: &Value, now: Timestamp) -> Option<InboundVoice> {
    let audio = &message["audio"];
    if message["type"] != "audio" || message["group_id"].is_string() {
        return None;
    }
    let media = audio["id"].as_str().and_then(sound_id)?;
    let message_id = message["id"].as_str().and_then(sound_id)?;
    let from = sender(value, message)?;
    let form = if audio["voice"] == true { Form::Voice } else { Form::Audio };
    Some(InboundVoice {
        conversation: from.clone(),
        from,
        group: false,
        sender_name: contact(value, message).and_then(|contact| sender_name(&contact["profile"]["name"])),
        reply_to: message["context"]["id"].as_str().and_then(sound_id),
        sent_at: time(&message["timestamp"]).unwrap_or(now),
        form,
        media: MediaRef { value: reference(&File { id: media }), fetch_before: Some(now + KEPT) },
        message_id,
    })
}

/// The person: by number, or where people hide it by the id that Meta gave them.
fn sender(value: &Value, message: &Value) -> Option<String> {
    let ours = value["metadata"]["display_phone_number"].as_str().map(digits);
    let number = message["from"].as_str().filter(|from| from.bytes().all(|b| b.is_ascii_digit()));
    if let Some(number) = number {
        let number = Some(number).filter(|number| ours.as_deref() != Some(number))?;
        return parse_recipient(&format!("+{number}")).ok().map(|to| to.to_string());
    }
    let contact = contact(value, message);
    let ids = [
        message["from_user_id"].as_str(),
        message["from"].as_str(),
        contact.and_then(|contact| contact["user_id"].as_str()),
    ];
    let to = ids.into_iter().flatten().find_map(|id| parse_recipient(&format!("{PREFIX}:{id}")).ok());
    to.map(|to| to.to_string())
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// The webhook's entry about the writer.
fn contact<'a>(value: &'a Value, message: &Value) -> Option<&'a Value> {
    let contacts = value["contacts"].as_array()?;
    let is_writer = |contact: &&Value| {
        let same = |told: &Value, of: &Value| told.is_string() && told == of;
        same(&contact["wa_id"], &message["from"])
            || same(&contact["user_id"], &message["from_user_id"])
            || same(&contact["user_id"], &message["from"])
    };
    contacts.iter().find(is_writer).or_else(|| contacts.first().filter(|_| contacts.len() == 1))
}

impl WhatsAppCloud {
    /// Asks for the link of a file, and downloads it.
    pub(super) async fn file(
        &self,
        cx: &Context,
        media: &MediaRef,
        out: &mut Out<'_>,
    ) -> Result<Fetched, SendError> {
        let file: File = referred(media)?;
        let mut url = self.api.join(&[&file.id]);
        if self.number_in_path {
            // Only files that were sent to this number.
            url.query_pairs_mut().append_pair("phone_number_id", &self.number);
        }
        let answer = wire::call(cx, self.json(Method::GET, url, None)).await.map_err(NoAnswer::in_fetch)?;
        let body = answer.json();
        if !answer.status.is_success() || !body["error"].is_null() {
            return Err(Refusal::read(&answer, cx.now, &self.secrets(&[])).into_error(Step::Fetch));
        }
        let link = body["url"].as_str().and_then(|url| Url::parse(url).ok()).ok_or_else(|| {
            let detail = "the provider's answer has no link to the audio";
            SendError::new(SendErrorKind::Unavailable, detail)
        })?;
        let fetched = self.linked(cx, link, out).await?.whole(cx)?;
        let told = body["mime_type"].as_str().map(str::to_owned);
        Ok(Fetched { mime_type: told.filter(|told| told.len() <= 100).or(fetched.mime_type) })
    }

    /// Meta's hosts want the token, too. A reseller's key is no business of theirs: its own host hands the same path on
    /// (<https://docs.360dialog.com/docs/waba-messaging/media/upload-retrieve-or-delete-media>).
    async fn linked(&self, cx: &Context, link: Url, out: &mut Out<'_>) -> Result<Downloaded, SendError> {
        let ours = self.api.as_url();
        if link.origin() == self.api.origin() || (self.has_own_token() && is_metas(&link)) {
            return wire::download(cx, self.with_token(Request::new(Method::GET, link)), out).await;
        }
        if !self.has_own_token() && is_metas(&link) {
            let mut own = ours.clone();
            own.set_path(&format!("{}{}", ours.path().trim_end_matches('/'), link.path()));
            own.set_query(link.query());
            return wire::download(cx, self.with_token(Request::new(Method::GET, own)), out).await;
        }
        wire::download_guarded(cx, link, out).await
    }

    /// Whether the token is Meta's own, and not a reseller's.
    fn has_own_token(&self) -> bool {
        self.credential.0 == reqwest::header::AUTHORIZATION
            && self.api.as_url().host_str().is_some_and(|host| is_below(host, "facebook.com"))
    }
}

fn is_metas(link: &Url) -> bool {
    let Some(Host::Domain(host)) = link.host() else { return false };
    link.scheme() == "https"
        && link.port().is_none()
        && DOWNLOAD_HOSTS.iter().any(|known| is_below(host, known))
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_metas_hosts_over_https_alone() {
        for (link, expected) in [
            ("https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1", true),
            ("https://scontent.whatsapp.net/v/1", true),
            ("https://graph.facebook.com/1", true),
            ("http://lookaside.fbsbx.com/1", false),
            ("https://lookaside.fbsbx.com:8443/1", false),
            ("https://fbsbx.com.evil.example/1", false),
            ("https://evilfbsbx.com/1", false),
            ("https://127.0.0.1/1", false),
        ] {
            assert_eq!(is_metas(&link.parse().expect("a URL")), expected, "{link}");
        }
    }
}
