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

mod errors;
mod limits;
mod voice;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{
    Method, Request,
    header::{AUTHORIZATION, HeaderValue, USER_AGENT},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use self::errors::Refusal;
use crate::{
    Accepted, BaseUrl, Capabilities, ConfigError, Content, Context, Descriptor, Form, FormSupport,
    Idempotency, Intake, Memory, NativeId, OutboundNote, Prepared, Provider, Recipient, RecipientError,
    ReplySupport, SendError, SendErrorKind, SendWarning, Settings, Upstream,
    wire::{self, Answer, Multipart, NoAnswer, Step},
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

/// <https://docs.discord.com/developers/resources/message#message-object-message-flags>
const IS_VOICE_MESSAGE: u64 = 1 << 13;

/// A nonce is known "in the past few minutes": <https://docs.discord.com/developers/resources/message#create-message>.
const NONCE_WINDOW: std::time::Duration = std::time::Duration::from_secs(120);

/// The longest that Discord takes.
const NONCE_LENGTH: usize = 25;

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
    let config: Config = settings.parse()?;
    Ok(Arc::new(Discord {
        api: BaseUrl::try_from(config.base_url).map_err(|why| ConfigError::new("base_url", why))?,
        authorization: authorization(&config.token)?,
        token: config.token,
        capabilities: capabilities(),
    }))
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
    let audio = |form, caption| FormSupport {
        form,
        // An attachment of Ogg with Opus has a player, too, so that one file serves both.
        profile: Some("discord-1".to_owned()),
        intake: Intake::Upload,
        max_bytes: MAX_BYTES,
        max_duration_ms: None,
        caption,
    };
    Capabilities {
        forms: vec![
            audio(Form::Voice, None),
            audio(Form::Audio, Some(MAX_TEXT)),
            FormSupport {
                form: Form::Text,
                profile: None,
                intake: Intake::Upload,
                max_bytes: 4 * MAX_TEXT as u64,
                max_duration_ms: None,
                caption: Some(MAX_TEXT),
            },
        ],
        profile_family: "discord-",
        provider_converts: None,
        reply: ReplySupport::MessageId,
        idempotency: Some(Idempotency { window: NONCE_WINDOW }),
        look_up: false,
        receipts: Vec::new(),
        inbound: false,
        listens: false,
        media_reuse: false,
        recipients: &["discord"],
    }
}

/// Whom a note goes to.
#[derive(Debug, PartialEq)]
enum Place<'a> {
    Channel(&'a str),
    User(&'a str),
}

impl<'a> Place<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (number, place): (&str, fn(&'a str) -> Self) = match text.strip_prefix("user:") {
            Some(number) => (number, Place::User),
            None => (text, Place::Channel),
        };
        is_snowflake(number).then(|| place(number))
    }
}

/// Discord's ids are numbers of 64 bits: <https://docs.discord.com/developers/reference#snowflakes>
fn is_snowflake(text: &str) -> bool {
    (5..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0')
}

/// Content of `Memory::recipient` for a person: the channel of our direct messages.
#[derive(Serialize, Deserialize)]
struct Opened {
    channel_id: String,
}

/// Content of `Memory::note`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Tried {
    /// The channel was gone and was opened again.
    reopened: bool,
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
        let url = self.api.join(&["channels", &channel, "messages"]);
        let mut message = json!({
            "nonce": nonce(&note.id),
            "enforce_nonce": true,
            // Nobody is called by a text that was written by a program.
            "allowed_mentions": {"parse": []},
        });
        if let Some(answered) = answered(note) {
            // If that message is gone, the note is sent as a message of its own.
            message["message_reference"] = json!({"message_id": answered, "fail_if_not_exists": false});
        }
        let request = match &note.content {
            Content::Text(text) => {
                message["content"] = json!(text);
                wire::json_request(Method::POST, url, Some(&message))
            }
            Content::Audio { form, audio, caption } => {
                let mut attachment = json!({"id": "0", "filename": audio.filename});
                if *form == Form::Voice {
                    message["flags"] = json!(IS_VOICE_MESSAGE);
                    attachment["duration_secs"] = voice::seconds(audio.facts.duration_ms);
                    attachment["waveform"] = json!(voice::waveform(&audio.waveform, audio.facts.duration_ms));
                } else if let Some(caption) = caption {
                    message["content"] = json!(caption);
                }
                message["attachments"] = json!([attachment]);
                let bytes = audio.read().await.map_err(|_| {
                    let detail = "the audio could not be read from the gateway's storage";
                    SendError::new(SendErrorKind::Unavailable, detail).at("upload")
                })?;
                // Without its parameters, as Discord's own clients name it.
                let mime_type = audio.facts.mime_type.split(';').next().unwrap_or_default();
                Multipart::new(&note.id)
                    .json("payload_json", &message)
                    .file("files[0]", &audio.filename, mime_type, &bytes)
                    .request(Method::POST, url)
            }
        };
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
        let answer = wire::call(cx, request).await.map_err(|no_answer| no_answer.in_check().at("check"))?;
        if !answer.status.is_success() {
            let refusal = Refusal::read(&answer, cx.now, &[&self.token]);
            return Err(refusal.into_error(Step::Check).at("check"));
        }
        let body = answer.json();
        let wrong = |detail: &str| Err(SendError::new(SendErrorKind::Misconfigured, detail).at("check"));
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

/// The message to answer, where it can be one of Discord's.
fn answered(note: &OutboundNote) -> Option<&str> {
    note.reply_to.as_deref().filter(|id| is_snowflake(id))
}

/// Nonce of a note: equal in all of its attempts, and different from those of other notes.
fn nonce(note_id: &str) -> String {
    let digits = Sha256::digest(note_id.as_bytes()).into_iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<String>().chars().take(NONCE_LENGTH).collect()
}

impl Discord {
    fn signed(&self, mut request: Request) -> Request {
        request.headers_mut().insert(AUTHORIZATION, self.authorization.clone());
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        request
    }

    /// The channel that the note goes to. One with a person is opened, which that person does not see, and remembered.
    async fn channel(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<String, SendError> {
        let invalid =
            || SendError::new(SendErrorKind::InvalidRecipient, "this is no channel or person of Discord's");
        let Recipient::Native { id, .. } = &note.to else { return Err(invalid()) };
        let user = match Place::parse(id).ok_or_else(invalid)? {
            Place::Channel(channel) => return Ok(channel.to_owned()),
            Place::User(user) => user,
        };
        let known = memory.recipient.as_ref().and_then(|value| Opened::deserialize(value).ok());
        if let Some(known) = known {
            return Ok(known.channel_id);
        }
        // https://docs.discord.com/developers/resources/user#create-dm
        let url = self.api.join(&["users", "@me", "channels"]);
        let request = wire::json_request(Method::POST, url, Some(&json!({"recipient_id": user})));
        let answer = wire::call(cx, self.signed(request)).await.map_err(NoAnswer::in_prepare)?;
        if !answer.status.is_success() {
            return Err(
                Refusal::read(&answer, cx.now, &self.secrets(&note.link_secrets())).into_error(Step::Prepare)
            );
        }
        let body = answer.json();
        let channel = body["id"].as_str().filter(|id| is_snowflake(id)).ok_or_else(|| {
            let detail = "the provider's answer names no channel; it is tried again";
            SendError::new(SendErrorKind::Unavailable, detail)
        })?;
        memory.recipient = serde_json::to_value(Opened { channel_id: channel.to_owned() }).ok();
        Ok(channel.to_owned())
    }

    /// Meaning of the answer to the one visible request.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        memory: &mut Memory,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        if answer.status.is_success() {
            return accepted(note, answer);
        }
        let link = note.link_secrets();
        let refusal = Refusal::read(answer, now, &self.secrets(&link));
        let tried = memory.note.as_ref().and_then(|value| Tried::deserialize(value).ok()).unwrap_or_default();
        if refusal.is_unknown_channel() && memory.recipient.take().is_some() && !tried.reopened {
            memory.note = serde_json::to_value(Tried { reopened: true }).ok();
            let detail = "the channel of the direct messages is gone; it is opened again";
            return Err(SendError::new(SendErrorKind::Outdated, detail).from_upstream(refusal.upstream));
        }
        Err(refusal.into_error(Step::Dispatch))
    }

    fn secrets<'a>(&'a self, link: &'a [SecretString]) -> Vec<&'a SecretString> {
        link.iter().chain([&self.token]).collect()
    }
}

fn accepted(note: &OutboundNote, answer: &Answer) -> Result<Accepted, SendError> {
    let message = answer.json();
    let Some(id) = message["id"].as_str().filter(|id| is_snowflake(id)) else {
        let upstream = Upstream { status: Some(answer.status.as_u16()), ..Upstream::default() };
        let detail = "the provider's answer names no message, so the note may or may not arrive";
        return Err(SendError::new(SendErrorKind::Unexpected, detail).from_upstream(upstream));
    };
    let lost = note.reply_to.is_some() && message["message_reference"]["message_id"].is_null();
    Ok(Accepted {
        message_id: id.to_owned(),
        form: Some(shown(&message)),
        warnings: if lost { vec![SendWarning::ReplyLost] } else { Vec::new() },
        ..Accepted::default()
    })
}

/// Whatever the request asked for, the message that came of it says what people see.
fn shown(message: &Value) -> Form {
    let is_voice = message["flags"].as_u64().is_some_and(|flags| flags & IS_VOICE_MESSAGE != 0);
    let attachments = message["attachments"].as_array().is_some_and(|all| !all.is_empty());
    match (is_voice, attachments) {
        (true, _) => Form::Voice,
        (false, true) => Form::Audio,
        (false, false) => Form::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_belongs_to_one_note() {
        let nonce = |id| super::nonce(id);
        assert_eq!(nonce("vn_1"), nonce("vn_1"));
        assert_ne!(nonce("vn_1"), nonce("vn_2"));
        assert_eq!(nonce("vn_1").len(), NONCE_LENGTH);
    }

    #[test]
    fn a_place_is_a_channel_or_a_person() {
        for (text, expected) in [
            ("1234567890123456789", Some(Place::Channel("1234567890123456789"))),
            ("user:1234567890123456789", Some(Place::User("1234567890123456789"))),
            ("user:user:1234567", None),
            ("0123456", None),
            ("1234", None),
            ("12345678901234567890123", None),
            ("general", None),
        ] {
            assert_eq!(Place::parse(text), expected, "{text}");
        }
    }
}
