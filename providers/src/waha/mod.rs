//! WAHA: WhatsApp Web sessions behind an HTTP API, on a server of one's own.
//!
//! * API: <https://waha.devlike.pro/swagger/openapi.json>, pages: <https://waha.devlike.pro/docs/how-to/send-messages/>
//!
//! Quirks:
//! * Four engines (WEBJS, WPP, NOWEB, GOWS) answer a send in four shapes. Only the message's own part of the id is the
//!   same everywhere: the chat in it may be `@c.us` in the answer and `@lid` in an event.
//! * A voice note takes no id of the caller's, so a send cannot be repeated safely. `message.any` with `source: "api"` says
//!   afterwards what was sent.
//! * An answer with status 500 repeats the request, the audio included.
//! * WhatsApp refuses new conversations of senders whom it suspects (error 463, inside a 500), for hours or days:
//!   <https://github.com/devlikeapro/waha/issues/2219>.
//! * Files that people send are kept for three minutes, and their address names a host that may be nobody's: `fetch`.
//! * WAHA sends to a number as it is given, and WhatsApp knows some in another spelling: `numbers`.
//! * Before 2026.6.1 only WAHA Plus sends audio: <https://waha.devlike.pro/docs/overview/changelog/>.

mod callbacks;
mod check;
mod errors;
mod fetch;
mod numbers;
mod presence;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use reqwest::{Method, Request, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWrite;
use url::Url;

use self::errors::Refusal;
use crate::{
    Accepted, BaseUrl, Callback, CallbackError, CallbackRequest, Callbacks, Capabilities, ConfigError,
    Content, Context, Descriptor, Fetched, Form, Intake, MediaRef, Memory, OutboundAudio, OutboundNote,
    Prepared, Presence, Proof, Provider, Recipient, RecipientError, Registration, ReplySupport, Scope,
    Secrets, SendError, SendErrorKind, Settings, Stage, USUAL_CALLBACK, inbound, require_text, secret_header,
    whatsapp_web::{self, own_part},
    wire::{self, Answer, NoAnswer, Step},
};

pub(crate) static DESCRIPTOR: Descriptor = Descriptor {
    name: "waha",
    sample: SAMPLE,
    example: r#"{"base_url": "http://waha.example:3000", "api_key": "secret-waha-key"}"#,
    secrets: &["api_key", "webhook_secret"],
    made_up: &["webhook_secret"],
    native_id: None,
    secret_in_path: false,
    callbacks: Some(Callbacks {
        proof: Proof::Signature { window: None },
        max_bytes: USUAL_CALLBACK,
        registers: true,
    }),
    build,
};

const SAMPLE: &str = r#"base_url = "http://waha.example:3000"    # the root of your WAHA server
api_key = { env = "WAHA_API_KEY" }       # what the server expects in X-Api-Key; a server without keys takes any text
session = "default"                      # the linked WhatsApp session
intake = "upload"                        # "url": WAHA downloads the audio from a signed link, for which it must reach server.public_url
# webhook_secret = { env = "WAHA_WEBHOOK_SECRET" }   # no default: receipts are believed only with it. A random text of yours
                                         # (`openssl rand -hex 32`), with which WAHA signs what it sends. A list while
                                         # one replaces another
"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    base_url: String,
    api_key: SecretString,
    #[serde(default = "default_session")]
    session: String,
    #[serde(default)]
    intake: Intake,
    #[serde(default)]
    webhook_secret: Secrets,
}

fn default_session() -> String {
    "default".to_owned()
}

pub(crate) struct Waha {
    api: BaseUrl,
    api_key: SecretString,
    key_header: HeaderValue,
    session: String,
    intake: Intake,
    webhook_secrets: Secrets,
    capabilities: Capabilities,
}

impl fmt::Debug for Waha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waha").field("api", &self.api).finish_non_exhaustive()
    }
}

fn build(settings: Settings) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(connection(settings)?))
}

pub(crate) fn connection(settings: Settings) -> Result<Waha, ConfigError> {
    let config: Config = settings.parse()?;
    require_text(&[("api_key", config.api_key.expose_secret()), ("session", &config.session)])?;
    Ok(Waha {
        api: BaseUrl::try_from(config.base_url).map_err(|why| ConfigError::new("base_url", why))?,
        key_header: secret_header("api_key", &config.api_key)?,
        api_key: config.api_key,
        session: config.session,
        intake: config.intake,
        capabilities: capabilities(config.intake, &config.webhook_secret),
        webhook_secrets: config.webhook_secret,
    })
}

fn capabilities(intake: Intake, secrets: &Secrets) -> Capabilities {
    use whatsapp_web::{file, text, voice};

    // There is no way to send a player: sendFile makes documents.
    let forms = vec![voice(intake), file(intake), text()];
    let usual = whatsapp_web::capabilities(forms, ReplySupport::MessageId, whatsapp_web::RECIPIENTS, secrets);
    Capabilities { presence: Some(whatsapp_web::PRESENCE), ..usual }
}

#[async_trait]
impl Provider for Waha {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError> {
        whatsapp_web::chat_id(to)
    }

    async fn prepare(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError> {
        self.capabilities.check(note)?;
        let chat = self.chat(cx, note, memory).await?;
        let mut body = json!({"session": self.session, "chatId": chat});
        let action = match &note.content {
            Content::Text(text) => {
                body["text"] = json!(text);
                "sendText"
            }
            Content::Audio { form: Form::Voice, audio, .. } => {
                body["file"] = self.file(audio, Form::Voice).await?;
                body["convert"] = json!(audio.provider_converts);
                "sendVoice"
            }
            Content::Audio { form, audio, caption } => {
                body["file"] = self.file(audio, *form).await?;
                if let Some(caption) = caption {
                    body["caption"] = json!(caption);
                }
                "sendFile"
            }
        };
        if let Some(message) = &note.reply_to {
            body["reply_to"] = json!(message);
        }
        Ok(Prepared {
            request: self.request(Method::POST, &["api", action], Some(&body)),
            correlation_ids: whatsapp_web::sent_names(&chat, &note.content),
        })
    }

    fn dispatches_to(&self) -> Option<&Url> {
        Some(self.api.as_url())
    }

    async fn dispatch(
        &self,
        cx: &Context,
        note: &OutboundNote,
        prepared: Prepared,
        _: &mut Memory,
    ) -> Result<Accepted, SendError> {
        let answer = wire::dispatch(cx, prepared.request).await.map_err(NoAnswer::in_dispatch)?;
        let mut outcome = self.dispatched(cx.now, note, &answer);
        if let Err(error) = &mut outcome
            && error.kind == SendErrorKind::ConversationClosed
        {
            error.until = self.time_lock(cx).await;
        }
        outcome
    }

    async fn check(&self, cx: &Context) -> Result<String, SendError> {
        self.state(cx).await.map_err(|error| error.at(Stage::Check))
    }

    fn admits(&self, head: &CallbackRequest) -> Result<(), CallbackError> {
        callbacks::PROOF.admits(head, &self.webhook_secrets)
    }

    fn callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.read_callback(request)
    }

    async fn presence(
        &self,
        cx: &Context,
        to: &Recipient,
        _: Option<&Value>,
        sign: Presence,
    ) -> Result<(), SendError> {
        self.show(cx, to, sign).await
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
        self.file_of(cx, &inbound::referred(media)?, out).await.map_err(|error| error.at(Stage::Fetch))
    }
}

impl Waha {
    /// The audio as a request has it: `VoiceRemoteFile` or `VoiceBinaryFile` of the API file, and their like.
    async fn file(&self, audio: &OutboundAudio, form: Form) -> Result<Value, SendError> {
        let mut file = json!({"mimetype": audio.facts.mime_type});
        if self.intake == Intake::Url {
            file["url"] = json!(audio.link.as_str());
            // A voice note from a link has no name.
            if form != Form::Voice {
                file["filename"] = json!(audio.filename);
            }
            return Ok(file);
        }
        file["filename"] = json!(audio.filename);
        file["data"] = json!(BASE64_STANDARD.encode(&audio.read().await?));
        Ok(file)
    }

    fn request(&self, method: Method, path: &[&str], body: Option<&Value>) -> Request {
        let mut request = wire::json_request(method, self.api.join(path), body);
        request.headers_mut().insert("x-api-key", self.key_header.clone());
        request
    }

    /// Reads the answer to the visible request.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        if !answer.status.is_success() {
            let link = note.link_secrets();
            return Err(Refusal::read(answer, now, &self.secrets(&link)).into_error(Step::Dispatch));
        }
        let message_id =
            whatsapp_web::message_id(&answer.json()).ok_or_else(|| wire::no_message_id(answer))?;
        let correlation_ids = vec![own_part(&message_id).to_owned()];
        Ok(Accepted { message_id, correlation_ids, ..Accepted::default() })
    }

    /// Asks something that is about no note.
    async fn ask(&self, cx: &Context, request: Request) -> Result<Value, SendError> {
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        self.read_answer(cx.now, &answer)
    }

    /// Reads the answer to a question about the account.
    pub(crate) fn read_answer(&self, now: Timestamp, answer: &Answer) -> Result<Value, SendError> {
        if answer.status.is_success() {
            return Ok(answer.json());
        }
        Err(Refusal::read(answer, now, &self.secrets(&[])).into_error(Step::Check))
    }

    fn secrets<'a>(&'a self, link: &'a [SecretString]) -> Vec<&'a SecretString> {
        link.iter().chain([&self.api_key]).chain(&self.webhook_secrets).collect()
    }
}

/// The scope of an error: a time lock holds for all new conversations of the sender.
fn scope(kind: SendErrorKind) -> Scope {
    match kind {
        SendErrorKind::ConversationClosed | SendErrorKind::RateLimited => Scope::Connection,
        _ => Scope::Recipient,
    }
}
