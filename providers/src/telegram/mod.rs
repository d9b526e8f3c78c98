//! Telegram Bot API: voice messages, with audio, files and text where a person does not want them.
//!
//! * Methods: <https://core.telegram.org/bots/api#sendvoice>, `sendAudio`, `sendDocument`, `sendMessage`
//! * Limits: <https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this>
//! * Server: <https://github.com/tdlib/telegram-bot-api>
//!
//! Quirks:
//! * The token is part of every path, so no URL of this adapter may be shown.
//! * A bot cannot write first: a person who never met it is "chat not found".
//! * Message ids count within a chat, so a message is named `CHAT:MESSAGE` here.
//! * There are no receipts.
//! * A bot has one webhook, which is often the bot's own: `callbacks` never replaces a stranger's.
//! * Bots download at most 20 MB, from a link that holds for an hour: `received`.
//! * A waveform is drawn by the server, and only up to 1 MB (<https://github.com/tdlib/telegram-bot-api/issues/354>): the
//!   profile keeps files below that.

mod callbacks;
mod chat;
mod errors;
mod presence;
mod received;
mod send;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::AsyncWrite;
use url::Url;

use self::{chat::Chat, errors::Refusal};
use crate::{
    Accepted, BaseUrl, Callback, CallbackError, CallbackRequest, Callbacks, Capabilities, ConfigError,
    Context, Descriptor, Fetched, Form, FormSupport, Intake, MediaRef, Memory, NativeId, OutboundNote,
    Prepared, Presence, Proof, Provider, Recipient, RecipientError, Registration, ReplySupport, Secrets,
    SendError, SendErrorKind, Settings, Stage, USUAL_CALLBACK,
    wire::{self, NoAnswer, Step},
};

pub(crate) static DESCRIPTOR: Descriptor = Descriptor {
    name: "telegram",
    sample: SAMPLE,
    example: r#"{"token": "123456789:secret-telegram-token"}"#,
    secrets: &["token", "webhook_secret"],
    made_up: &["webhook_secret"],
    native_id: Some(NativeId {
        prefix: "telegram",
        bare: false,
        pattern: "(?:-?[0-9]{1,18}|@[A-Za-z][A-Za-z0-9_]{3,31})(?:/[1-9][0-9]{0,8})?",
        meaning: "a chat's number, or @ and a channel's name; with /TOPIC for a topic of a group",
        canonical: |id| Chat::parse(id).map(|chat| chat.to_string()),
        valid: &["123456789", "-1001234567890", "@news_channel", "-1001234567890/17"],
        invalid: &["", "@", "@a b", "bob", "12x", "99999999999999999999", "-100/", "-100/0", "-100/x", "1:2"],
    }),
    secret_in_path: true,
    callbacks: Some(Callbacks { proof: Proof::Token, max_bytes: USUAL_CALLBACK, registers: true }),
    build,
};

const SAMPLE: &str = r#"base_url = "https://api.telegram.org"    # the root of the Bot API, or a server of your own
token = { env = "TELEGRAM_TOKEN" }       # the bot's token, as BotFather shows it
# webhook_secret = { env = "TELEGRAM_WEBHOOK_SECRET" }   # no default: proves that updates are Telegram's; at least 16 of
                                         # A-Z, a-z, 0-9, _ and -. Use a list while one secret replaces another
"#;

/// The server refuses larger uploads: <https://core.telegram.org/bots/api#sendvoice>
const MAX_BYTES: u64 = 50_000_000;

/// <https://core.telegram.org/bots/api#sendvoice>, <https://core.telegram.org/bots/api#sendmessage>
const MAX_CAPTION: usize = 1024;
const MAX_TEXT: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "production")]
    base_url: String,
    token: SecretString,
    #[serde(default)]
    webhook_secret: Secrets,
}

fn production() -> String {
    "https://api.telegram.org".to_owned()
}

pub(crate) struct Telegram {
    api: BaseUrl,
    token: SecretString,
    webhook_secrets: Secrets,
    capabilities: Capabilities,
}

impl fmt::Debug for Telegram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telegram").field("api", &self.api).finish_non_exhaustive()
    }
}

fn build(settings: Settings) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(connection(settings)?))
}

pub(crate) fn connection(settings: Settings) -> Result<Telegram, ConfigError> {
    let config: Config = settings.parse()?;
    if !is_token(config.token.expose_secret()) {
        return Err(ConfigError::new(
            "token",
            "expected a bot's token: its number, a colon, letters and digits",
        ));
    }
    callbacks::check_secrets(&config.webhook_secret)?;
    Ok(Telegram {
        api: BaseUrl::try_from(config.base_url).map_err(|why| ConfigError::new("base_url", why))?,
        token: config.token,
        capabilities: capabilities(config.webhook_secret.first().is_some()),
        webhook_secrets: config.webhook_secret,
    })
}

fn is_token(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    text.split_once(':').is_some_and(|(bot, secret)| {
        !bot.is_empty()
            && bot.bytes().all(|b| b.is_ascii_digit())
            && !secret.is_empty()
            && secret.chars().all(plain)
    })
}

fn capabilities(inbound: bool) -> Capabilities {
    let audio = |form, profile| {
        FormSupport::audio(form, profile, Intake::Upload, MAX_BYTES).with_caption(MAX_CAPTION)
    };
    Capabilities {
        forms: vec![
            audio(Form::Voice, "telegram-1"),
            // `sendAudio` takes MP3 and M4A: https://core.telegram.org/bots/api#sendaudio
            audio(Form::Audio, "m4a-1"),
            audio(Form::File, "m4a-1"),
            FormSupport::text(MAX_TEXT),
        ],
        profile_family: "telegram-",
        provider_converts: None,
        reply: ReplySupport::MessageId,
        idempotency: None,
        look_up: false,
        receipts: Vec::new(),
        inbound,
        listens: false,
        presence: Some(5),
        media_reuse: true,
        recipients: &["telegram"],
    }
}

#[async_trait]
impl Provider for Telegram {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError> {
        match to {
            Recipient::Native { provider, id } if provider == DESCRIPTOR.name => Ok(id.clone()),
            _ => Err(RecipientError::Unsupported(
                "this connection reaches telegram:ID and telegram:@channel; phone numbers mean nothing to a bot"
                    .to_owned(),
            )),
        }
    }

    async fn prepare(
        &self,
        _: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError> {
        self.capabilities.check(note)?;
        self.request(note, memory).await.map(|request| Prepared { request, correlation_ids: Vec::new() })
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

    /// The bot by its own name: <https://core.telegram.org/bots/api#getme>
    async fn check(&self, cx: &Context) -> Result<String, SendError> {
        #[derive(Deserialize)]
        struct Bot {
            username: String,
        }
        let bot: Bot = self.ask(cx, "getMe", Map::new()).await?;
        let plain: String =
            bot.username.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
        Ok(format!("bot @{plain}"))
    }

    fn admits(&self, head: &CallbackRequest) -> Result<(), CallbackError> {
        self.check_token(head)
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
        self.subscribe(cx, url).await
    }

    async fn callback_status(&self, cx: &Context, url: &Url) -> Result<String, SendError> {
        self.subscribed(cx, url).await
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

impl Telegram {
    /// Holds the token: never shown.
    fn url(&self, method: &str) -> Url {
        self.api.join(&[&format!("bot{}", self.token.expose_secret()), method])
    }

    fn post(&self, method: &str, fields: Map<String, Value>) -> Request {
        wire::json_request(Method::POST, self.url(method), Some(&Value::Object(fields)))
    }

    /// Asks something that is about no note.
    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        cx: &Context,
        method: &str,
        fields: Map<String, Value>,
    ) -> Result<T, SendError> {
        let request = if fields.is_empty() {
            wire::json_request(Method::GET, self.url(method), None)
        } else {
            self.post(method, fields)
        };
        let answer =
            wire::call(cx, request).await.map_err(|no_answer| no_answer.in_check().at(Stage::Check))?;
        let body = answer.json();
        if !answer.status.is_success() || body["ok"] == false {
            let refusal = Refusal::read(&answer, cx.now, &self.secrets(&[]));
            return Err(refusal.into_error(Step::Check, None).at(Stage::Check));
        }
        T::deserialize(&body["result"]).map_err(|_| {
            let detail = "the answer is not this provider's; check base_url";
            SendError::new(SendErrorKind::Misconfigured, detail).at(Stage::Check)
        })
    }

    fn secrets<'a>(&'a self, link: &'a [SecretString]) -> Vec<&'a SecretString> {
        link.iter().chain([&self.token]).chain(&self.webhook_secrets).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_has_the_format_of_botfather() {
        for (token, expected) in [
            ("123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", true),
            ("123456789", false),
            (":x", false),
            ("1:", false),
            ("bot1:abc", false),
            ("1:a/b", false),
        ] {
            assert_eq!(is_token(token), expected, "{token}");
        }
    }
}
