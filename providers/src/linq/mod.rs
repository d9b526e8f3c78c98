//! Linq Partner API v3: voice memos over iMessage (RCS and SMS show them as plain audio).
//!
//! * API: <https://docs.linqapp.com/>, OpenAPI: <https://cdn.linqapp.com/openapi/linq-api-v3.yaml>
//! * Voice memos: <https://docs.linqapp.com/guides/messaging/voice-memos/>. Their size limit is 10 MB; 100 MB
//!   is the limit of attachments in general, and no page says that a memo may use it.
//!
//! Quirks:
//! * A memo goes to a chat, never to a number, and cannot be the first message of a chat: `chats` finds the
//!   chat.
//! * The memo request has no idempotency key, unlike `POST /v3/messages`.
//! * `audio/wav` is what the voice memo page says and what `POST /v3/attachments` refuses: `uploads`
//!   translates.
//! * The line and the service belong to the chat, so `from` only narrows the search for it.
//! * Nothing tells a voice note that a person sent from an audio file, except that iPhones record voice notes as CAF:
//!   `received`.
//! * `message.failed` is not the last word: a delivery may follow. There are no deliveries and reads for groups and SMS.

pub(crate) mod chats;
mod check;
mod errors;
mod look_up;
mod presence;
mod receipts;
mod received;
mod subscriptions;
pub(crate) mod uploads;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{
    Method, Request,
    header::{AUTHORIZATION, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::io::AsyncWrite;
use url::Url;
use uuid::Uuid;

use self::{
    chats::KnownChat,
    errors::{Refusal, Step},
};
use crate::{
    Accepted, BaseUrl, Callback, CallbackError, CallbackRequest, Callbacks, Capabilities, ConfigError,
    Context, Descriptor, Fetched, Form, FormSupport, Intake, LookUp, MediaRef, Memory, NativeId,
    OutboundNote, Prepared, Presence, Proof, Provider, ReceiptStatus, Recipient, RecipientError,
    Registration, ReplySupport, Secrets, SendError, SendErrorKind, Settings, Stage, USUAL_CALLBACK,
    UnknownSend, Upstream,
    signature::{self, SigningKeys},
    wire::{self, Answer, NoAnswer},
};

pub(crate) static DESCRIPTOR: Descriptor = Descriptor {
    name: "linq",
    sample: SAMPLE,
    example: r#"{"token": "secret-linq-token"}"#,
    secrets: &["token", "webhook_secret"],
    made_up: &[],
    native_id: Some(NativeId {
        prefix: "linq",
        bare: true,
        pattern: "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
        meaning: "a chat's UUID",
        canonical: |id| Uuid::try_parse(id).ok().filter(|_| id.len() == 36).map(|id| id.to_string()),
        valid: &["f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd", "F19EE7B8-8533-4C5C-83EC-4EF8D6D1DDBD"],
        invalid: &["", "f19ee7b8", "f19ee7b885334c5c83ec4ef8d6d1ddbd"],
    }),
    secret_in_path: false,
    callbacks: Some(Callbacks {
        proof: Proof::Signature { window: Some(Duration::from_secs(signature::TOLERANCE)) },
        max_bytes: USUAL_CALLBACK,
        registers: true,
    }),
    build,
};

const SAMPLE: &str = r#"base_url = "https://api.linqapp.com/api/partner"   # the root of Linq's API
token = { env = "LINQ_TOKEN" }           # the API token
# from = "+12052535597"                  # no default: the only line whose chats are used
intake = "upload"                        # how Linq gets the audio: "upload", or "url" to let it download from a signed link
open_chat = "never"                      # "text" opens a chat by sending opening_text if there is none yet
# opening_text = "Hi, this is Ann's assistant."   # no default: required with open_chat = "text"
# webhook_secret = { env = "LINQ_WEBHOOK_SECRET" }   # no default: the secret that verifies receipts, as printed by
                                         # `voicegate callbacks register`; without it they are refused. Use a
                                         # list while one subscription replaces another
"#;

/// The error text for 413/5001 and <https://docs.linqapp.com/guides/resources/faq/> say 10 MB; whether that
/// means MiB is not said, so the smaller one holds.
const MAX_BYTES: u64 = 10_000_000;

/// <https://docs.linqapp.com/guides/webhooks/events/>
const RECEIPTS: [ReceiptStatus; 4] =
    [ReceiptStatus::Sent, ReceiptStatus::Delivered, ReceiptStatus::Read, ReceiptStatus::Failed];

/// <https://docs.linqapp.com/guides/messaging/sending-messages/>
const MAX_TEXT: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "production")]
    base_url: String,
    token: SecretString,
    /// One of the account's lines, to find chats of that line only.
    from: Option<String>,
    #[serde(default)]
    intake: Intake,
    #[serde(default)]
    open_chat: OpenChat,
    opening_text: Option<String>,
    /// Signing secret of the webhook subscription.
    #[serde(default)]
    webhook_secret: Secrets,
}

/// The reaction to a recipient with whom there is no chat yet.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OpenChat {
    #[default]
    Never,
    /// Send `opening_text` first.
    Text,
}

fn production() -> String {
    "https://api.linqapp.com/api/partner".to_owned()
}

pub(crate) struct Linq {
    api: BaseUrl,
    token: SecretString,
    authorization: HeaderValue,
    webhook_secrets: Secrets,
    signing_keys: SigningKeys,
    from: Option<String>,
    /// Present where a chat may be opened with it.
    opening_text: Option<String>,
    capabilities: Capabilities,
}

impl fmt::Debug for Linq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linq").field("api", &self.api).finish_non_exhaustive()
    }
}

fn build(settings: Settings) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(connection(settings)?))
}

pub(crate) fn connection(settings: Settings) -> Result<Linq, ConfigError> {
    let config: Config = settings.parse()?;
    let signing_keys = SigningKeys::read("webhook_secret", &config.webhook_secret)?;
    // The chat's service decides which of the two the recipient sees; the request is the same.
    let forms = [Form::Voice, Form::Audio].map(|form| FormSupport {
        form,
        profile: Some("linq-1".to_owned()),
        intake: config.intake,
        max_bytes: MAX_BYTES,
        max_duration_ms: None,
        caption: None,
    });
    let capabilities = Capabilities {
        forms: forms.to_vec(),
        profile_family: "linq-",
        provider_converts: None,
        reply: ReplySupport::None,
        idempotency: None,
        // Only an upload has a name by which the memo can be told from others.
        look_up: config.intake == Intake::Upload,
        receipts: if signing_keys.is_empty() { Vec::new() } else { RECEIPTS.to_vec() },
        inbound: !signing_keys.is_empty(),
        listens: false,
        presence: Some(85),
        media_reuse: false,
        recipients: &["phone", "email", "linq"],
    };
    Ok(Linq {
        api: BaseUrl::try_from(config.base_url).map_err(|why| ConfigError::new("base_url", why))?,
        authorization: authorization(&config.token)?,
        token: config.token,
        webhook_secrets: config.webhook_secret,
        signing_keys,
        from: config.from.map(|text| line(&text)).transpose()?,
        opening_text: opening_text(&config.open_chat, config.opening_text)?,
        capabilities,
    })
}

fn authorization(token: &SecretString) -> Result<HeaderValue, ConfigError> {
    let token = token.expose_secret();
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .ok()
        .filter(|_| !token.is_empty())
        .ok_or_else(|| ConfigError::new("token", "expected a token without spaces and line breaks"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn line(text: &str) -> Result<String, ConfigError> {
    match Recipient::parse(text, std::iter::empty) {
        Ok(Recipient::Phone(number)) => Ok(number),
        _ => Err(ConfigError::new("from", "expected a phone number like +15551234567")),
    }
}

fn opening_text(open_chat: &OpenChat, text: Option<String>) -> Result<Option<String>, ConfigError> {
    match (open_chat, text) {
        (OpenChat::Never, _) => Ok(None),
        // Linq refuses an address in the first message of a chat with error 1005:
        // https://docs.linqapp.com/error/
        (OpenChat::Text, Some(text)) if has_address(&text) => Err(ConfigError::new(
            "opening_text",
            "the first message of a chat may contain no address of the web",
        )),
        (OpenChat::Text, Some(text)) if (1..=MAX_TEXT).contains(&text.chars().count()) => Ok(Some(text)),
        (OpenChat::Text, _) => Err(ConfigError::new(
            "opening_text",
            format!("open_chat = \"text\" needs an opening_text of 1 to {MAX_TEXT} characters"),
        )),
    }
}

/// Whether a text contains an address of the web: with a scheme, or with `www.` before it.
fn has_address(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("://") || text.split_whitespace().any(|word| word.starts_with("www."))
}

#[async_trait]
impl Provider for Linq {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError> {
        let unsupported = |why: &str| {
            let works = "this connection reaches phone numbers, e-mail addresses and linq:UUID";
            Err(RecipientError::Unsupported(format!("{why}; {works}")))
        };
        match to {
            Recipient::Phone(number) => Ok(number.clone()),
            Recipient::Email(address) => Ok(address.to_lowercase()),
            Recipient::Native { provider, id } if provider == DESCRIPTOR.name => Ok(id.clone()),
            Recipient::Native { .. } => unsupported("this is the id of a chat at another provider"),
            Recipient::Jid { .. } => unsupported("a WhatsApp id means nothing here"),
        }
    }

    /// There is no flag: <https://docs.linqapp.com/guides/webhooks/events/>.
    fn marks_voice_notes(&self) -> bool {
        false
    }

    fn opening_text(&self) -> Option<&str> {
        self.opening_text.as_deref()
    }

    async fn prepare(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError> {
        let intake = self.capabilities.check(note)?.intake;
        let audio = note.need_audio()?;
        let content_type = uploads::content_type(audio.facts.container)?;
        let known = self.known_chat(cx, note, memory).await?;
        if let Some(chat) = &known {
            shows(chat, note.form())?;
        }
        let (body, correlation_ids) = match intake {
            Intake::Upload => {
                let id = self.attachment_for(cx, note, audio, content_type, memory).await?;
                (json!({"attachment_id": id}), vec![id])
            }
            Intake::Url => (json!({"voice_memo_url": audio.link.as_str()}), Vec::new()),
        };
        // The opening text is sent after the upload, so that a voice note follows it.
        let chat = match known {
            Some(chat) => chat,
            None => self.open_chat(cx, note, memory).await?,
        };
        shows(&chat, note.form())?;
        let url = self.api.join(&["v3", "chats", &chat.chat_id, "voicememo"]);
        Ok(Prepared { request: self.request(Method::POST, url, Some(&body)), correlation_ids })
    }

    fn dispatches_to(&self) -> Option<&Url> {
        Some(self.api.as_url())
    }

    async fn dispatch(
        &self,
        cx: &Context,
        note: &OutboundNote,
        prepared: Prepared,
        memory: &mut Memory,
    ) -> Result<Accepted, SendError> {
        let answer = wire::dispatch(cx, prepared.request).await.map_err(wire::NoAnswer::in_dispatch)?;
        self.dispatched(cx.now, note, memory, &answer)
    }

    async fn check(&self, cx: &Context) -> Result<String, SendError> {
        self.lines(cx).await.map_err(|error| error.at(Stage::Check))
    }

    fn admits(&self, head: &CallbackRequest) -> Result<(), CallbackError> {
        self.signing_keys.admits(head)
    }

    fn callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.read_callback(request)
    }

    async fn presence(
        &self,
        cx: &Context,
        to: &Recipient,
        known: Option<&Value>,
        sign: Presence,
    ) -> Result<(), SendError> {
        self.show(cx, to, known, sign).await
    }

    async fn register_callbacks(&self, cx: &Context, url: &Url) -> Result<Registration, SendError> {
        self.subscribe(cx, url).await.map_err(|error| error.at(Stage::Check))
    }

    async fn callback_status(&self, cx: &Context, url: &Url) -> Result<String, SendError> {
        self.subscribed(cx, url).await.map_err(|error| error.at(Stage::Check))
    }

    async fn look_up(&self, cx: &Context, note: &UnknownSend) -> Result<LookUp, SendError> {
        self.seen(cx, note).await.map_err(|error| error.at(Stage::Check))
    }

    async fn fetch(
        &self,
        cx: &Context,
        media: &MediaRef,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<Fetched, SendError> {
        self.file(cx, media, out).await.map_err(|error| error.at(Stage::Fetch))
    }
}

/// Whether the recipient will see a memo in this form. A recipient who may get a plain attachment may get a bubble, too.
fn shows(chat: &KnownChat, form: Form) -> Result<(), SendError> {
    if form == Form::Voice && chat.form() == Form::Audio {
        let detail = "this conversation is not over iMessage, where voice notes are bubbles";
        return Err(SendError::new(SendErrorKind::FormUnavailable, detail));
    }
    Ok(())
}

impl Linq {
    fn request(&self, method: Method, url: Url, body: Option<&Value>) -> Request {
        let mut request = wire::json_request(method, url, body);
        request.headers_mut().insert(AUTHORIZATION, self.authorization.clone());
        request
    }

    /// Makes a call that may be repeated freely.
    async fn ask<T: DeserializeOwned>(
        &self,
        cx: &Context,
        note: &OutboundNote,
        request: Request,
    ) -> Result<T, SendError> {
        let answer = wire::call(cx, request).await.map_err(wire::NoAnswer::in_prepare)?;
        self.understood(cx.now, note, &answer)
    }

    /// Reads the answer to such a call.
    pub(crate) fn understood<T: DeserializeOwned>(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        answer: &Answer,
    ) -> Result<T, SendError> {
        if !answer.status.is_success() {
            return Err(self.refusal(now, note, answer).into_error(Step::Prepare));
        }
        serde_json::from_slice(&answer.body).map_err(|_| {
            let detail = "the provider's answer could not be understood";
            SendError::new(SendErrorKind::Unavailable, detail)
                .from_upstream(self.not_understood(&note.link_secrets(), answer))
        })
    }

    /// Asks something that is about no note on its way.
    async fn inquire<T: DeserializeOwned>(&self, cx: &Context, request: Request) -> Result<T, SendError> {
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        if !answer.status.is_success() {
            return Err(Refusal::read(&answer, cx.now, &self.secrets(&[])).into_error(Step::Inquiry));
        }
        serde_json::from_slice(&answer.body).map_err(|_| {
            let detail = "the answer is not this provider's; check base_url";
            SendError::new(SendErrorKind::Misconfigured, detail)
                .from_upstream(self.not_understood(&[], &answer))
        })
    }

    /// Reads the answer to the memo.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        memory: &mut Memory,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        if answer.status.is_success() {
            return self.accepted(note, answer);
        }
        let refusal = self.refusal(now, note, answer);
        Err(match refusal.code() {
            // https://docs.linqapp.com/error/codes/2xxx/2001/ and 2013: the chat was deleted, or the line
            // left it.
            Some(2001 | 2013) => chats::gone(refusal, note, memory),
            // https://docs.linqapp.com/error/codes/2xxx/2003/
            Some(2003) => uploads::lost(refusal, memory),
            _ => refusal.into_error(Step::Dispatch),
        })
    }

    fn refusal(&self, now: Timestamp, note: &OutboundNote, answer: &Answer) -> Refusal {
        let link = note.link_secrets();
        Refusal::read(answer, now, &self.secrets(&link))
    }

    fn secrets<'a>(&'a self, link: &'a [SecretString]) -> Vec<&'a SecretString> {
        link.iter().chain([&self.token]).chain(&self.webhook_secrets).collect()
    }

    fn accepted(&self, note: &OutboundNote, answer: &Answer) -> Result<Accepted, SendError> {
        #[derive(Deserialize)]
        struct Body {
            voice_memo: VoiceMemo,
        }
        #[derive(Deserialize)]
        struct VoiceMemo {
            id: String,
            service: Option<String>,
        }
        match serde_json::from_slice::<Body>(&answer.body) {
            Ok(Body { voice_memo }) if !voice_memo.id.is_empty() => Ok(Accepted {
                message_id: voice_memo.id,
                form: voice_memo.service.as_deref().and_then(chats::form_over),
                trace: errors::trace(answer, &self.secrets(&note.link_secrets())),
                ..Accepted::default()
            }),
            _ => Err(SendError::new(
                SendErrorKind::Unexpected,
                "the provider took the note but its answer was not understood, so it may or may not arrive",
            )
            .from_upstream(self.not_understood(&note.link_secrets(), answer))),
        }
    }

    /// `link`: secrets in the note's link.
    fn not_understood(&self, link: &[SecretString], answer: &Answer) -> Upstream {
        let trace = errors::trace(answer, &self.secrets(link));
        Upstream { status: Some(answer.status.as_u16()), trace, ..Upstream::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_key(settings: &Value) -> Option<String> {
        let mut map = serde_json::Map::from_iter([("token".to_owned(), json!("secret"))]);
        map.extend(settings.as_object().cloned().unwrap_or_default());
        build(Settings::new(map)).err().map(|error| error.key)
    }

    #[test]
    fn settings_that_depend_on_each_other_are_checked_together() {
        for (settings, key) in [
            (json!({"from": "+1 (205) 253-5597"}), None),
            (json!({"from": "2052535597"}), Some("from")),
            (json!({"intake": "url"}), None),
            (json!({"intake": "both"}), Some("intake")),
            (json!({"open_chat": "text"}), Some("opening_text")),
            (json!({"open_chat": "text", "opening_text": ""}), Some("opening_text")),
            (json!({"open_chat": "text", "opening_text": "é".repeat(MAX_TEXT)}), None),
            (json!({"open_chat": "text", "opening_text": "é".repeat(MAX_TEXT + 1)}), Some("opening_text")),
            (json!({"opening_text": "Kept while chats are not opened."}), None),
            (json!({"token": "two\nlines"}), Some("token")),
        ] {
            assert_eq!(refused_key(&settings).as_deref(), key, "{settings:.80}");
        }
    }
}
