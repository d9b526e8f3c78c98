//! Evolution API, version 2: WhatsApp Web sessions ("instances") behind an HTTP API, on a server of one's own.
//!
//! * API: <https://doc.evolution-api.com/v2/api-reference/message-controller/send-audio>; where its file and the code
//!   differ, the code counts: <https://github.com/EvolutionAPI/evolution-api/tree/3454bec>
//! * The server takes 136 MB, which is more than WhatsApp does.
//!
//! Quirks:
//! * Without `encoding: false` every note is encoded a second time, at 128 kbit/s.
//! * The answer to a send repeats the whole file where the instance has `webhookBase64`.
//! * Whatever goes wrong while sending is a 400, a lost connection and a failed database included: `errors`.
//! * A quoted message is ignored for audio, so there are no replies.
//! * A newsletter's id is taken for a group's, so notes to newsletters are refused here.
//! * Numbers from Brazil, Mexico and Argentina are rewritten; the answer names the chat that was meant.
//! * An instance has one webhook, and its times are local ones that say they are UTC.

mod callbacks;
mod errors;
mod presence;
mod received;

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

use self::errors::{Refusal, judge_state};
use crate::{
    Accepted, BaseUrl, Callback, CallbackError, CallbackRequest, Callbacks, Capabilities, ConfigError,
    Content, Context, Descriptor, Fetched, Form, Intake, JidServer, MediaRef, Memory, OutboundAudio,
    OutboundNote, Prepared, Presence, Proof, Provider, Recipient, RecipientError, Registration, ReplySupport,
    Secrets, SendError, Settings, Stage, Upstream, require_text, secret_header, whatsapp_web,
    wire::{self, Answer, NoAnswer, Step},
};

pub(crate) static DESCRIPTOR: Descriptor = Descriptor {
    name: "evolution",
    sample: SAMPLE,
    example: r#"{"base_url": "http://evolution.example:8080", "api_key": "secret-evolution-key", "instance": "main"}"#,
    secrets: &["api_key", "callback_token"],
    made_up: &["callback_token"],
    native_id: None,
    secret_in_path: false,
    callbacks: Some(Callbacks { proof: Proof::Token, max_bytes: MAX_CALLBACK, registers: true }),
    build,
};

const SAMPLE: &str = r#"base_url = "http://evolution.example:8080"   # the root of your Evolution server
api_key = { env = "EVOLUTION_API_KEY" }  # the server's key, or better the instance's own
instance = "main"                        # the linked WhatsApp session
intake = "upload"                        # "url": Evolution downloads the audio from a signed link, for which it must reach server.public_url
# callback_token = { env = "EVOLUTION_CALLBACK_TOKEN" }   # no default: receipts are believed only with it, at least 16 characters
                                         # of your choice, which become part of the address that Evolution calls, or
                                         # its jwt_key. A list while one replaces another
"#;

/// An event about a sent message repeats the file where the instance has `webhookBase64`: four bytes for three, and the rest.
const MAX_CALLBACK: usize = 24 * 1024 * 1024;

/// A phone number has no more digits; what has more is a group for the server.
const LONGEST_NUMBER: usize = 15;

/// The kinds of recipient that a connection states in [`Capabilities::recipients`].
const RECIPIENTS: &[&str] = &["phone", "c.us", "g.us", "lid"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    base_url: String,
    api_key: SecretString,
    instance: String,
    #[serde(default)]
    intake: Intake,
    #[serde(default)]
    callback_token: Secrets,
}

pub(crate) struct Evolution {
    api: BaseUrl,
    api_key: SecretString,
    key_header: HeaderValue,
    instance: String,
    intake: Intake,
    callback_tokens: Secrets,
    capabilities: Capabilities,
}

impl fmt::Debug for Evolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evolution").field("api", &self.api).finish_non_exhaustive()
    }
}

fn build(settings: Settings) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(connection(settings)?))
}

pub(crate) fn connection(settings: Settings) -> Result<Evolution, ConfigError> {
    let config: Config = settings.parse()?;
    require_text(&[("api_key", config.api_key.expose_secret()), ("instance", &config.instance)])?;
    config.callback_token.check_callback_token()?;
    Ok(Evolution {
        api: BaseUrl::try_from(config.base_url).map_err(|why| ConfigError::new("base_url", why))?,
        key_header: secret_header("api_key", &config.api_key)?,
        api_key: config.api_key,
        instance: config.instance,
        intake: config.intake,
        capabilities: capabilities(config.intake, &config.callback_token),
        callback_tokens: config.callback_token,
    })
}

fn capabilities(intake: Intake, tokens: &Secrets) -> Capabilities {
    use whatsapp_web::{audio, file, text, voice};

    let forms = vec![voice(intake), audio(intake), file(intake), text()];
    let usual = whatsapp_web::capabilities(forms, ReplySupport::None, RECIPIENTS, tokens);
    Capabilities { presence: Some(5), ..usual }
}

#[async_trait]
impl Provider for Evolution {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError> {
        if let Recipient::Jid { server: JidServer::Newsletter, .. } = to {
            return Err(unreachable_kind());
        }
        whatsapp_web::chat_id(to).map_err(|_| unreachable_kind())
    }

    async fn prepare(&self, _: &Context, note: &OutboundNote, _: &mut Memory) -> Result<Prepared, SendError> {
        self.capabilities.check(note)?;
        let chat = self.recipient_key(&note.to)?;
        let mut body = json!({"number": number(&chat)});
        let action = match &note.content {
            Content::Text(text) => {
                body["text"] = json!(text);
                "sendText"
            }
            Content::Audio { form: Form::Voice, audio, .. } => {
                body["audio"] = self.media(audio).await?;
                body["encoding"] = json!(audio.provider_converts);
                "sendWhatsAppAudio"
            }
            Content::Audio { form, audio, caption } => {
                let kind = if *form == Form::Audio { "audio" } else { "document" };
                body["mediatype"] = json!(kind);
                body["mimetype"] = json!(audio.facts.mime_type);
                body["media"] = self.media(audio).await?;
                body["fileName"] = json!(audio.filename);
                if let Some(caption) = caption {
                    body["caption"] = json!(caption);
                }
                "sendMedia"
            }
        };
        Ok(Prepared {
            request: self.request(Method::POST, &["message", action, &self.instance], Some(&body)),
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
        self.dispatched(cx.now, note, &answer)
    }

    /// <https://doc.evolution-api.com/v2/api-reference/instance-controller/connection-state>
    async fn check(&self, cx: &Context) -> Result<String, SendError> {
        let request = self.request(Method::GET, &["instance", "connectionState", &self.instance], None);
        let told = self.ask(cx, request).await.map_err(|error| error.at(Stage::Check))?;
        let body: Value = serde_json::from_slice(&told.body).unwrap_or_default();
        let state = body["instance"]["state"].as_str();
        if state == Some("open") {
            return Ok("instance open".to_owned());
        }
        let (kind, detail) = judge_state(state);
        let code = state.and_then(|state| wire::identifier(state, &self.secrets(&[])));
        Err(SendError::new(kind, detail)
            .at(Stage::Check)
            .from_upstream(Upstream { code, ..Upstream::default() }))
    }

    fn admits(&self, head: &CallbackRequest) -> Result<(), CallbackError> {
        self.check_proof(head)
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
        self.file(cx, media, out).await.map_err(|error| error.at(Stage::Fetch))
    }
}

fn unreachable_kind() -> RecipientError {
    RecipientError::Unsupported(
        "this connection reaches phone numbers and WhatsApp ids (...@c.us, @g.us, @lid), and no newsletters"
            .to_owned(),
    )
}

/// A chat as the server wants it: a person by number, because some numbers have to be rewritten, and everything else by
/// its id (<https://github.com/EvolutionAPI/evolution-api/blob/3454bec/src/utils/createJid.ts>).
fn number(chat: &str) -> String {
    match chat.strip_suffix("@c.us") {
        Some(digits) if digits.len() <= LONGEST_NUMBER => digits.to_owned(),
        Some(digits) => format!("{digits}@s.whatsapp.net"),
        None => chat.to_owned(),
    }
}

impl Evolution {
    /// The audio as a request has it: a link, or base64 without a `data:` before it.
    async fn media(&self, audio: &OutboundAudio) -> Result<Value, SendError> {
        if self.intake == Intake::Url {
            return Ok(json!(audio.link.as_str()));
        }
        Ok(json!(BASE64_STANDARD.encode(&audio.read().await?)))
    }

    fn request(&self, method: Method, path: &[&str], body: Option<&Value>) -> Request {
        let mut request = wire::json_request(method, self.api.join(path), body);
        request.headers_mut().insert("apikey", self.key_header.clone());
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
            let refusal = Refusal::read(answer, now, &self.secrets(&link), &link);
            let to_group = matches!(note.to, Recipient::Jid { server: JidServer::Group, .. });
            return Err(refusal.into_error(Step::Dispatch, to_group));
        }
        // The id suffices. In a long answer it stands before the file.
        let body = answer.json();
        match body["key"]["id"].as_str().filter(|id| !id.is_empty()) {
            Some(id) => Ok(Accepted { message_id: id.to_owned(), ..Accepted::default() }),
            None => Err(wire::no_message_id(answer)),
        }
    }

    /// Asks something that is about no note.
    async fn ask(&self, cx: &Context, request: Request) -> Result<Answer, SendError> {
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(self.refused(cx.now, &answer))
    }

    /// Reads the refusal of a question about the account.
    pub(crate) fn refused(&self, now: Timestamp, answer: &Answer) -> SendError {
        Refusal::read(answer, now, &self.secrets(&[]), &[]).into_error(Step::Check, false)
    }

    fn secrets<'a>(&'a self, link: &'a [SecretString]) -> Vec<&'a SecretString> {
        link.iter().chain([&self.api_key]).chain(&self.callback_tokens).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_written_as_a_number_and_never_as_a_group() {
        for (chat, written) in [
            ("15550001111@c.us", "15550001111"),
            ("120363000000000000@c.us", "120363000000000000@s.whatsapp.net"),
            ("120363000000000000@g.us", "120363000000000000@g.us"),
            ("123456789012345@lid", "123456789012345@lid"),
        ] {
            assert_eq!(number(chat), written, "{chat}");
        }
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused_and_not_shown() {
        let built = |token: &str| {
            let settings = json!({"base_url": "http://e.example", "api_key": "k", "instance": "i", "callback_token": token});
            let settings = settings.as_object().cloned().unwrap_or_default();
            build(Settings::new(settings)).map(|provider| !provider.capabilities().receipts.is_empty())
        };
        assert_eq!(built("0123456789abcdef"), Ok(true));
        let error = built("hunter2").expect_err("refused");
        assert!(error.key == "callback_token" && !error.to_string().contains("hunter2"), "{error}");
    }
}
