//! WhatsApp Cloud API of Meta: voice messages, with plain audio and text where a person is to get those instead.
//!
//! * Audio messages: <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/audio-messages/>
//! * Media: <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media/>
//! * Errors: <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes/>
//! * OpenAPI: <https://github.com/facebook/openapi>, `business-messaging-api_v23.0.yaml`, which lacks outgoing `voice`
//!
//! Quirks:
//! * Audio is uploaded first and sent by its id, which serves any number of recipients for 30 days.
//! * Free messages are taken for 24 hours after a person wrote. Whether that time is over is often said by a status alone,
//!   after the message was accepted.
//! * Above 512 KB the bubble has a download arrow in place of its play button.
//! * There is no idempotency key. `biz_opaque_callback_data` comes back in every status, so that a message whose answer was
//!   lost is found by its first status.
//! * The HTTP status says little; `error.code` decides.
//! * Audio that people send has an id, and the id a link that holds for five minutes: `received`.
//! * An app has one callback address for all its numbers, unless a number has an address of its own.
//! * Resellers serve the same API under another address and header; 360dialog leaves the number out of its paths.

mod check;
mod errors;
mod media;
mod receipts;
mod received;
mod subscriptions;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{
    Method, Request,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWrite;
use url::Url;

use self::errors::Refusal;
use crate::{
    Accepted, BaseUrl, Callback, CallbackError, CallbackRequest, Callbacks, Capabilities, ConfigError,
    Content, Context, Descriptor, Fetched, Form, FormSupport, Intake, MediaRef, Memory, NativeId,
    OutboundNote, Prepared, Proof, Provider, ReceiptStatus, Recipient, RecipientError, Registration,
    ReplySupport, Secrets, SendError, SendErrorKind, SendWarning, Settings, Stage,
    wire::{self, Answer, NoAnswer, Step},
};

pub(crate) static DESCRIPTOR: Descriptor = Descriptor {
    name: "whatsapp-cloud",
    sample: SAMPLE,
    example: r#"{"access_token": "secret-meta-token", "phone_number_id": "106540352242922"}"#,
    secrets: &["access_token", "app_secret", "verify_token"],
    made_up: &["verify_token"],
    native_id: Some(NativeId {
        prefix: PREFIX,
        bare: false,
        pattern: "[A-Za-z0-9._-]{1,131}",
        meaning: "a business-scoped user id",
        canonical: |id| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            ((1..=131).contains(&id.len()) && id.chars().all(plain)).then(|| id.to_owned())
        },
        valid: &["US.13491208655302741918"],
        invalid: &["", "a b", "a/b"],
    }),
    secret_in_path: false,
    callbacks: Some(Callbacks {
        proof: Proof::Signature { window: None },
        max_bytes: MAX_CALLBACK,
        registers: true,
    }),
    build,
};

/// Prefix of the ids that Meta gives to people: `meta:US.1349...`.
const PREFIX: &str = "meta";

const SAMPLE: &str = r#"base_url = "https://graph.facebook.com/v23.0"   # the root of the Graph API with its version, or a reseller's
access_token = { env = "META_TOKEN" }    # of a system user, with the permission whatsapp_business_messaging
phone_number_id = "106540352242922"      # the number's id, which is not the number: App Dashboard, WhatsApp, API Setup
# app_secret = { env = "META_APP_SECRET" }   # no default: App Dashboard, App settings, Basic. Receipts are believed only with it
# verify_token = { env = "META_VERIFY_TOKEN" }   # no default: a long random text of your own, by which Meta proves the address
auth_header = "Authorization"            # where the token goes; in any other than this, as it is. 360dialog: "D360-API-KEY"
number_in_path = true                    # false: the reseller's paths lack the number's id, as 360dialog's do
"#;

/// Each kind of audio: <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media/>.
/// Whether that means MiB is not said, so the smaller one holds.
const MAX_BYTES: u64 = 16_000_000;

/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/text-messages/>
const MAX_TEXT: usize = 4096;

/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview/>: payloads reach 3 MB.
const MAX_CALLBACK: usize = 3 * 1024 * 1024;

const RECEIPTS: [ReceiptStatus; 5] = [
    ReceiptStatus::Sent,
    ReceiptStatus::Delivered,
    ReceiptStatus::Read,
    ReceiptStatus::Played,
    ReceiptStatus::Failed,
];

/// Longest id that is believed. Those of messages have about 60 characters. With a status behind it, it names an event,
/// and such a name may have 255 characters.
const LONGEST_ID: usize = 240;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "production")]
    base_url: String,
    access_token: SecretString,
    phone_number_id: String,
    #[serde(default)]
    app_secret: Secrets,
    #[serde(default)]
    verify_token: Secrets,
    #[serde(default = "authorization")]
    auth_header: String,
    #[serde(default = "yes")]
    number_in_path: bool,
}

fn production() -> String {
    "https://graph.facebook.com/v23.0".to_owned()
}

fn authorization() -> String {
    "Authorization".to_owned()
}

fn yes() -> bool {
    true
}

pub(crate) struct WhatsAppCloud {
    api: BaseUrl,
    token: SecretString,
    /// The header of the token, and its value.
    credential: (HeaderName, HeaderValue),
    number: String,
    number_in_path: bool,
    app_secrets: Secrets,
    verify_tokens: Secrets,
    capabilities: Capabilities,
}

impl fmt::Debug for WhatsAppCloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WhatsAppCloud").field("api", &self.api).finish_non_exhaustive()
    }
}

fn build(settings: Settings) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(connection(settings)?))
}

pub(crate) fn connection(settings: Settings) -> Result<WhatsAppCloud, ConfigError> {
    let config: Config = settings.parse()?;
    let sound = (1..=32).contains(&config.phone_number_id.len())
        && config.phone_number_id.bytes().all(|b| b.is_ascii_digit());
    if !sound {
        return Err(ConfigError::new("phone_number_id", "expected the number's id: digits, without a +"));
    }
    Ok(WhatsAppCloud {
        api: BaseUrl::try_from(config.base_url).map_err(|why| ConfigError::new("base_url", why))?,
        credential: credential(&config.auth_header, &config.access_token)?,
        token: config.access_token,
        number: config.phone_number_id,
        number_in_path: config.number_in_path,
        capabilities: capabilities(config.app_secret.first().is_some()),
        app_secrets: config.app_secret,
        verify_tokens: config.verify_token,
    })
}

fn credential(header: &str, token: &SecretString) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let name = HeaderName::try_from(header)
        .map_err(|_| ConfigError::new("auth_header", "expected the name of a header, like D360-API-KEY"))?;
    let token = token.expose_secret();
    let text = if name == AUTHORIZATION { format!("Bearer {token}") } else { token.to_owned() };
    let mut value = HeaderValue::from_str(&text)
        .ok()
        .filter(|_| !token.is_empty() && !token.contains(char::is_whitespace))
        .ok_or_else(|| ConfigError::new("access_token", "expected a token without spaces and line breaks"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Without the app's secret nothing that Meta says is believed.
fn capabilities(has_callbacks: bool) -> Capabilities {
    let audio = |form, profile: &str| FormSupport {
        form,
        profile: Some(profile.to_owned()),
        intake: Intake::Upload,
        max_bytes: MAX_BYTES,
        max_duration_ms: None,
        caption: None,
    };
    Capabilities {
        forms: vec![
            audio(Form::Voice, "meta-1"),
            audio(Form::Audio, "m4a-1"),
            FormSupport {
                form: Form::Text,
                profile: None,
                intake: Intake::Upload,
                max_bytes: 4 * MAX_TEXT as u64,
                max_duration_ms: None,
                caption: Some(MAX_TEXT),
            },
        ],
        profile_family: "meta-",
        provider_converts: None,
        reply: ReplySupport::MessageId,
        idempotency: None,
        look_up: false,
        receipts: if has_callbacks { RECEIPTS.to_vec() } else { Vec::new() },
        inbound: has_callbacks,
        listens: false,
        presence: None,
        media_reuse: true,
        recipients: &["phone", PREFIX],
    }
}

/// Content of `Memory::note`: the remedies that were tried in vain, each of them once.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Tried {
    /// The audio was uploaded again, because Meta did not know its id.
    uploaded_again: bool,
    /// Meta did not take the message that is answered.
    reply_lost: bool,
}

impl Tried {
    fn recall(memory: &Memory) -> Self {
        memory.note.as_ref().and_then(|value| Self::deserialize(value).ok()).unwrap_or_default()
    }

    fn remember(&self, memory: &mut Memory) {
        memory.note = serde_json::to_value(self).ok();
    }
}

#[async_trait]
impl Provider for WhatsAppCloud {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError> {
        match to {
            Recipient::Phone(number) => Ok(number.clone()),
            Recipient::Native { provider, .. } if provider == PREFIX => Ok(to.to_string()),
            _ => Err(RecipientError::Unsupported(
                "this connection reaches phone numbers (+15551234567) and meta:ID; ids of linked devices mean nothing here"
                    .to_owned(),
            )),
        }
    }

    fn account(&self) -> Option<&str> {
        Some(&self.number)
    }

    async fn prepare(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError> {
        self.capabilities.check(note)?;
        let mut message = json!({
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "biz_opaque_callback_data": note.id,
        });
        address(&note.to, &mut message)?;
        if let Some(answered) = answered(note).filter(|_| !Tried::recall(memory).reply_lost) {
            message["context"] = json!({"message_id": answered});
        }
        match &note.content {
            Content::Text(text) => {
                message["type"] = json!("text");
                message["text"] = json!({"body": text, "preview_url": false});
            }
            Content::Audio { form, audio, .. } => {
                let id =
                    self.media_id(cx, note, audio, memory).await.map_err(|error| error.at(Stage::Upload))?;
                message["type"] = json!("audio");
                message["audio"] = json!({"id": id});
                if *form == Form::Voice {
                    message["audio"]["voice"] = json!(true);
                }
            }
        }
        let request = self.json(Method::POST, self.url(&["messages"]), Some(&message));
        Ok(Prepared { request, correlation_ids: vec![note.id.clone()] })
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
        let answer = wire::dispatch(cx, prepared.request).await.map_err(NoAnswer::in_dispatch)?;
        self.dispatched(cx.now, note, memory, &answer)
    }

    async fn check(&self, cx: &Context) -> Result<String, SendError> {
        self.state(cx).await.map_err(|error| error.at(Stage::Check))
    }

    fn admits(&self, head: &CallbackRequest) -> Result<(), CallbackError> {
        if head.method == Method::GET {
            return self.check_token(head);
        }
        receipts::SIGNATURE.admits(head, &self.app_secrets)
    }

    fn callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        if request.method == Method::GET { self.handshake(request) } else { self.read_callback(request) }
    }

    async fn register_callbacks(&self, cx: &Context, url: &Url) -> Result<Registration, SendError> {
        self.subscribe(cx, url).await.map_err(|error| error.at(Stage::Check))
    }

    async fn callback_status(&self, cx: &Context, url: &Url) -> Result<String, SendError> {
        self.subscribed(cx, url).await.map_err(|error| error.at(Stage::Check))
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

/// Puts the recipient into a message. Both fields must not stand in one, because `to` would win:
/// <https://docs.ycloud.com/reference/whatsapp-business-scoped-user-id>
fn address(to: &Recipient, message: &mut Value) -> Result<(), SendError> {
    match to {
        Recipient::Phone(number) => message["to"] = json!(number),
        Recipient::Native { provider, id } if provider == PREFIX => message["recipient"] = json!(id),
        _ => {
            let detail = "this is neither a phone number nor a user id of Meta's";
            return Err(SendError::new(SendErrorKind::InvalidRecipient, detail));
        }
    }
    Ok(())
}

/// The message to answer, where it can be one of WhatsApp's.
fn answered(note: &OutboundNote) -> Option<&str> {
    note.reply_to.as_deref().filter(|id| id.starts_with("wamid.") && id.len() <= LONGEST_ID)
}

impl WhatsAppCloud {
    /// Something that belongs to the number.
    fn url(&self, path: &[&str]) -> Url {
        let number = self.number_in_path.then_some(self.number.as_str());
        self.api.join(&number.into_iter().chain(path.iter().copied()).collect::<Vec<_>>())
    }

    fn json(&self, method: Method, url: Url, body: Option<&Value>) -> Request {
        self.with_token(wire::json_request(method, url, body))
    }

    fn with_token(&self, mut request: Request) -> Request {
        let (name, value) = &self.credential;
        request.headers_mut().insert(name, value.clone());
        request
    }

    /// Asks something that is about no note.
    async fn ask(&self, cx: &Context, request: Request) -> Result<Value, SendError> {
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        let body = answer.json();
        if !answer.status.is_success() || !body["error"].is_null() {
            return Err(Refusal::read(&answer, cx.now, &self.secrets(&[])).into_error(Step::Check));
        }
        if body.is_object() {
            return Ok(body);
        }
        Err(not_this_provider())
    }

    /// Reads the answer to the visible request.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        memory: &mut Memory,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        let body = answer.json();
        let link = note.link_secrets();
        let secrets = self.secrets(&link);
        if answer.status.is_success() && body["error"].is_null() {
            return Self::accepted(note, memory, answer, &body, &secrets);
        }
        let refusal = Refusal::read(answer, now, &secrets);
        let mut tried = Tried::recall(memory);
        if refusal.is_about_media() && memory.media.take().is_some() && !tried.uploaded_again {
            tried.uploaded_again = true;
            tried.remember(memory);
            let detail = "the provider no longer knows the uploaded audio; it is uploaded again";
            return Err(SendError::new(SendErrorKind::Outdated, detail).from_upstream(refusal.upstream));
        }
        if refusal.is_about_reply() && answered(note).is_some() && !tried.reply_lost {
            tried.reply_lost = true;
            tried.remember(memory);
            let detail =
                "the provider does not know the message that is answered; the note is sent without it";
            return Err(SendError::new(SendErrorKind::Outdated, detail).from_upstream(refusal.upstream));
        }
        Err(refusal.into_error(Step::Dispatch))
    }

    fn accepted(
        note: &OutboundNote,
        memory: &Memory,
        answer: &Answer,
        body: &Value,
        secrets: &[&SecretString],
    ) -> Result<Accepted, SendError> {
        let Some(id) = body["messages"][0]["id"].as_str().and_then(sound_id) else {
            return Err(wire::no_message_id(answer));
        };
        let mut warnings = Vec::new();
        if note.reply_to.is_some() && (answered(note).is_none() || Tried::recall(memory).reply_lost) {
            warnings.push(SendWarning::ReplyLost);
        }
        Ok(Accepted {
            message_id: id,
            trace: answer.header("x-fb-trace-id").and_then(|text| wire::identifier(text, secrets)),
            warnings,
            ..Accepted::default()
        })
    }

    fn secrets<'a>(&'a self, link: &'a [SecretString]) -> Vec<&'a SecretString> {
        link.iter().chain([&self.token]).chain(&self.app_secrets).chain(&self.verify_tokens).collect()
    }
}

fn sound_id(text: &str) -> Option<String> {
    let fits = (1..=LONGEST_ID).contains(&text.len()) && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
}

fn not_this_provider() -> SendError {
    let detail = "the answer is not this provider's; check base_url";
    SendError::new(SendErrorKind::Misconfigured, detail)
}
