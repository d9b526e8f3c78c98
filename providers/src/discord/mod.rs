//! Discord's HTTP API, version 10: voice messages of a bot in channels and in direct messages.
//!
//! * Voice messages: <https://docs.discord.com/developers/resources/message#voice-messages>
//! * Rate limits: <https://docs.discord.com/developers/topics/rate-limits>
//! * Error codes: <https://docs.discord.com/developers/topics/opcodes-and-status-codes#json>
//! * OpenAPI: <https://github.com/discord/discord-api-spec>
//!
//! Quirks:
//! * Clients draw what the sender says: duration and waveform come with the request, and only count where the part's own
//!   type begins with `audio/` (<https://github.com/discord/discord-api-docs/issues/7153>).
//! * A voice message holds no text. Where a text is to go with the audio, it goes as an attachment with a player.
//! * A direct message is a channel that has to be opened first.
//! * `nonce` with `enforce_nonce` makes a send repeatable for a few minutes.
//! * Ten thousand answers of 401, 403 and 429 in ten minutes ban the address of this machine, so no refusal is tried again.
//! * Requests without `User-Agent: DiscordBot (URL, VERSION)` are blocked.
//! * There are no receipts, and no callbacks.

mod channel;
mod errors;
pub(crate) mod limits;
mod send;
mod voice;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use reqwest::{
    Method, Request,
    header::{AUTHORIZATION, HeaderValue, USER_AGENT},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use self::{channel::Place, errors::Refusal, send::message};
use crate::{
    Accepted, BaseUrl, Capabilities, ConfigError, Context, Descriptor, Form, FormSupport, Idempotency,
    Intake, Memory, NativeId, OutboundNote, Prepared, Provider, Recipient, RecipientError, ReplySupport,
    SendError, SendErrorKind, Settings, Stage,
    wire::{self, NoAnswer, Step},
};

pub(crate) static DESCRIPTOR: Descriptor = Descriptor {
    name: "discord",
    sample: SAMPLE,
    example: r#"{"token": "secret-discord-token"}"#,
    secrets: &["token"],
    made_up: &[],
    native_id: Some(NativeId {
        prefix: "discord",
        bare: false,
        pattern: "(?:user:)?[1-9][0-9]{4,19}",
        meaning: "a channel's number, or user: and a person's number",
        canonical: |id| Place::parse(id).map(|_| id.to_owned()),
        valid: &["1234567890123456789", "user:1234567890123456789"],
        invalid: &["", "user:", "general", "12 34567", "012345678"],
    }),
    secret_in_path: false,
    callbacks: None,
    build,
};

const SAMPLE: &str = r#"base_url = "https://discord.com/api/v10"     # the root of Discord's API with its version
token = { env = "DISCORD_TOKEN" }        # the bot's token: Developer Portal, Bot, Reset Token
"#;

/// Without boosts: <https://docs.discord.com/developers/reference#uploading-files>
const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// <https://docs.discord.com/developers/resources/message#create-message>
const MAX_TEXT: usize = 2000;

/// A nonce is known "in the past few minutes": <https://docs.discord.com/developers/resources/message#create-message>.
const NONCE_WINDOW: std::time::Duration = std::time::Duration::from_secs(120);

/// <https://docs.discord.com/developers/reference#user-agent>
const AGENT: &str = concat!(
    "DiscordBot (https://crates.io/crates/",
    env!("CARGO_PKG_NAME"),
    ", ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "production")]
    base_url: String,
    token: SecretString,
}

fn production() -> String {
    "https://discord.com/api/v10".to_owned()
}

pub(crate) struct Discord {
    api: BaseUrl,
    token: SecretString,
    authorization: HeaderValue,
    capabilities: Capabilities,
}

impl fmt::Debug for Discord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discord").field("api", &self.api).finish_non_exhaustive()
    }
}

fn build(settings: Settings) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(connection(settings)?))
}

pub(crate) fn connection(settings: Settings) -> Result<Discord, ConfigError> {
    let config: Config = settings.parse()?;
    Ok(Discord {
        api: BaseUrl::try_from(config.base_url).map_err(|why| ConfigError::new("base_url", why))?,
        authorization: authorization(&config.token)?,
        token: config.token,
        capabilities: capabilities(),
    })
}

fn authorization(token: &SecretString) -> Result<HeaderValue, ConfigError> {
    let token = token.expose_secret();
    let mut value = HeaderValue::from_str(&format!("Bot {token}"))
        .ok()
        .filter(|_| !token.is_empty() && !token.contains(char::is_whitespace))
        .ok_or_else(|| {
            ConfigError::new(
                "token",
                "expected the bot's token alone, without `Bot` before it and without spaces",
            )
        })?;
    value.set_sensitive(true);
    Ok(value)
}

fn capabilities() -> Capabilities {
    // An attachment of Ogg with Opus has a player, too, so that one file serves both.
    let audio = |form| FormSupport::audio(form, "discord-1", Intake::Upload, MAX_BYTES);
    Capabilities {
        forms: vec![
            audio(Form::Voice),
            audio(Form::Audio).with_caption(MAX_TEXT),
            FormSupport::text(MAX_TEXT),
        ],
        profile_family: "discord-",
        provider_converts: None,
        reply: ReplySupport::MessageId,
        idempotency: Some(Idempotency { window: NONCE_WINDOW }),
        look_up: false,
        receipts: Vec::new(),
        inbound: false,
        listens: false,
        presence: None,
        media_reuse: false,
        recipients: &["discord"],
    }
}

#[async_trait]
impl Provider for Discord {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError> {
        match to {
            Recipient::Native { provider, .. } if provider == DESCRIPTOR.name => Ok(to.to_string()),
            _ => Err(RecipientError::Unsupported(
                "this connection reaches discord:CHANNEL and discord:user:ID; phone numbers mean nothing to a bot"
                    .to_owned(),
            )),
        }
    }

    async fn prepare(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError> {
        self.capabilities.check(note)?;
        let channel = self.channel(cx, note, memory).await?;
        let request = message(note, self.api.join(&["channels", &channel, "messages"])).await?;
        Ok(Prepared { request: self.signed(request), correlation_ids: Vec::new() })
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
        let mut accepted = self.dispatched(cx.now, note, memory, &answer)?;
        accepted.not_before = limits::not_before(&answer, cx.now, cx.timeout);
        Ok(accepted)
    }

    /// The bot by its own name: <https://docs.discord.com/developers/resources/user#get-current-user>
    async fn check(&self, cx: &Context) -> Result<String, SendError> {
        let request = self.signed(wire::json_request(Method::GET, self.api.join(&["users", "@me"]), None));
        let answer =
            wire::call(cx, request).await.map_err(|no_answer| no_answer.in_check().at(Stage::Check))?;
        if !answer.status.is_success() {
            let refusal = Refusal::read(&answer, cx.now, &[&self.token]);
            return Err(refusal.into_error(Step::Check).at(Stage::Check));
        }
        let body = answer.json();
        let wrong = |detail: &str| Err(SendError::new(SendErrorKind::Misconfigured, detail).at(Stage::Check));
        let (Some(name), Some(_)) = (body["username"].as_str(), body["id"].as_str()) else {
            return wrong("the answer is not this provider's; check base_url");
        };
        if body["bot"] != true {
            return wrong("the token is not a bot's; make a bot in the Developer Portal");
        }
        let plain: String =
            name.chars().filter(|c| c.is_ascii_alphanumeric() || "_.- ".contains(*c)).take(32).collect();
        Ok(format!("bot {plain}"))
    }
}

impl Discord {
    fn signed(&self, mut request: Request) -> Request {
        request.headers_mut().insert(AUTHORIZATION, self.authorization.clone());
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        request
    }

    fn secrets<'a>(&'a self, link: &'a [SecretString]) -> Vec<&'a SecretString> {
        link.iter().chain([&self.token]).collect()
    }
}
