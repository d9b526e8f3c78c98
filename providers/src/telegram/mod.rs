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
//! * A waveform is drawn by the server, and only up to 1 MB (<https://github.com/tdlib/telegram-bot-api/issues/354>): the
//!   profile keeps files below that.

mod callbacks;
mod errors;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use self::errors::Refusal;
use crate::{
    Accepted, BaseUrl, Callback, CallbackError, CallbackRequest, Callbacks, Capabilities, ConfigError,
    Content, Context, Descriptor, Form, FormSupport, Intake, MediaHandle, Memory, NativeId, OutboundNote,
    Prepared, Proof, Provider, Recipient, RecipientError, Registration, ReplySupport, Secrets, SendError,
    SendErrorKind, SendWarning, Settings, USUAL_CALLBACK, Upstream,
    wire::{self, Answer, Multipart, NoAnswer, Step},
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

/// Of larger voice messages the server draws no waveform (1 MB; the profile keeps to the same number):
/// <https://github.com/tdlib/telegram-bot-api/issues/354>
const WAVEFORM_BYTES: u64 = 1_000_000;

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
    let config: Config = settings.parse()?;
    if !is_token(config.token.expose_secret()) {
        return Err(ConfigError::new(
            "token",
            "expected a bot's token: its number, a colon, letters and digits",
        ));
    }
    callbacks::check_secrets(&config.webhook_secret)?;
    Ok(Arc::new(Telegram {
        api: BaseUrl::try_from(config.base_url).map_err(|why| ConfigError::new("base_url", why))?,
        token: config.token,
        webhook_secrets: config.webhook_secret,
        capabilities: capabilities(),
    }))
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

fn capabilities() -> Capabilities {
    let audio = |form, profile: &str| FormSupport {
        form,
        profile: Some(profile.to_owned()),
        intake: Intake::Upload,
        max_bytes: MAX_BYTES,
        max_duration_ms: None,
        caption: Some(MAX_CAPTION),
    };
    Capabilities {
        forms: vec![
            audio(Form::Voice, "telegram-1"),
            // `sendAudio` takes MP3 and M4A: https://core.telegram.org/bots/api#sendaudio
            audio(Form::Audio, "m4a-1"),
            audio(Form::File, "m4a-1"),
            FormSupport {
                form: Form::Text,
                profile: None,
                intake: Intake::Upload,
                max_bytes: 4 * MAX_TEXT as u64,
                max_duration_ms: None,
                caption: Some(MAX_TEXT),
            },
        ],
        profile_family: "telegram-",
        provider_converts: None,
        reply: ReplySupport::MessageId,
        idempotency: None,
        look_up: false,
        receipts: Vec::new(),
        inbound: false,
        listens: false,
        media_reuse: true,
        recipients: &["telegram"],
    }
}

/// Whom a note goes to: `123`, `-100123/17`, `@channel`.
#[derive(Debug, PartialEq)]
struct Chat {
    id: String,
    /// A topic of a group.
    thread: Option<u32>,
}

impl Chat {
    fn parse(text: &str) -> Option<Self> {
        let (id, thread) = match text.split_once('/') {
            Some((id, thread)) => (id, Some(thread.parse().ok().filter(|thread: &u32| *thread > 0)?)),
            None => (text, None),
        };
        let id = match id.strip_prefix('@') {
            Some(name) => {
                let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
                let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                // Names are the same in either case.
                (begins && plain && (4..=32).contains(&name.len())).then(|| id.to_ascii_lowercase())?
            }
            None => id.parse::<i64>().ok().filter(|_| !id.starts_with('+'))?.to_string(),
        };
        Some(Self { id, thread })
    }

    /// A number where it is one: names are texts on the wire.
    fn json(&self) -> Value {
        self.id.parse::<i64>().map_or_else(|_| json!(self.id), |id| json!(id))
    }

    /// Groups and channels have negative numbers.
    fn is_private(&self) -> bool {
        self.id.parse::<i64>().is_ok_and(|id| id > 0)
    }
}

impl fmt::Display for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.thread.map_or(Ok(()), |thread| write!(f, "/{thread}"))
    }
}

/// What `Memory::recipient` holds: a group that became a supergroup has another number since.
#[derive(Serialize, Deserialize)]
struct Moved {
    chat_id: i64,
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
        let chat = self.chat(note, memory)?;
        let mut fields = Map::from_iter([("chat_id".to_owned(), chat.json())]);
        if let Some(thread) = chat.thread {
            fields.insert("message_thread_id".to_owned(), json!(thread));
        }
        if let Some(message) = reply(note, &chat) {
            // Where that message is gone, the note stands on its own.
            fields.insert(
                "reply_parameters".to_owned(),
                json!({"message_id": message, "allow_sending_without_reply": true}),
            );
        }
        let request = match &note.content {
            Content::Text(text) => {
                fields.insert("text".to_owned(), json!(text));
                self.post("sendMessage", fields)
            }
            Content::Audio { form, audio, caption } => {
                if let Some(caption) = caption {
                    fields.insert("caption".to_owned(), json!(caption));
                }
                let (method, field) = sending(*form);
                if *form != Form::File {
                    // Whole seconds; 0 would show no length.
                    fields
                        .insert("duration".to_owned(), json!(audio.facts.duration_ms.div_ceil(1000).max(1)));
                }
                match &memory.media {
                    Some(known) => {
                        fields.insert(field.to_owned(), json!(known.value));
                        self.post(method, fields)
                    }
                    None => {
                        let bytes = audio.read().await.map_err(|_| {
                            let detail = "the audio could not be read from the gateway's storage";
                            SendError::new(SendErrorKind::Unavailable, detail).at("upload")
                        })?;
                        let mut form = Multipart::new(&note.id);
                        for (name, value) in &fields {
                            form = match value {
                                Value::String(text) => form.text(name, text),
                                other => form.text(name, &other.to_string()),
                            };
                        }
                        // Without its parameters: the server looks at the type alone.
                        let mime_type = audio.facts.mime_type.split(';').next().unwrap_or_default();
                        let form = form.file(field, &audio.filename, mime_type, &bytes);
                        form.request(Method::POST, self.url(method))
                    }
                }
            }
        };
        Ok(Prepared { request, correlation_ids: Vec::new() })
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
        self.knows_token(head)
    }

    fn callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.heard(request)
    }

    async fn register_callbacks(&self, cx: &Context, url: &Url) -> Result<Registration, SendError> {
        self.subscribe(cx, url).await
    }

    async fn callback_status(&self, cx: &Context, url: &Url) -> Result<String, SendError> {
        self.subscribed(cx, url).await
    }
}

/// The method of a form and the name of its file.
fn sending(form: Form) -> (&'static str, &'static str) {
    match form {
        Form::Audio => ("sendAudio", "audio"),
        Form::File => ("sendDocument", "document"),
        Form::Voice | Form::Text => ("sendVoice", "voice"),
    }
}

/// The message to answer, where it is one of this chat: another chat's number would name a stranger's message.
fn reply(note: &OutboundNote, chat: &Chat) -> Option<i64> {
    let text = note.reply_to.as_deref()?;
    let (of, message) = text.rsplit_once(':').map_or((None, text), |(of, message)| (Some(of), message));
    let same = of.is_none_or(|of| of == chat.id);
    message.parse().ok().filter(|_| same)
}

impl Telegram {
    fn chat(&self, note: &OutboundNote, memory: &Memory) -> Result<Chat, SendError> {
        let invalid = || SendError::new(SendErrorKind::InvalidRecipient, "this is no chat of Telegram's");
        let key = self.recipient_key(&note.to).map_err(|_| invalid())?;
        let mut chat = Chat::parse(&key).ok_or_else(invalid)?;
        if let Some(moved) = memory.recipient.as_ref().and_then(|value| Moved::deserialize(value).ok()) {
            chat.id = moved.chat_id.to_string();
        }
        Ok(chat)
    }

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
        let answer = wire::call(cx, request).await.map_err(|no_answer| no_answer.in_check().at("check"))?;
        let body = answer.json();
        if !answer.status.is_success() || body["ok"] == false {
            let refusal = Refusal::read(&answer, cx.now, &self.secrets(&[]));
            return Err(refusal.into_error(Step::Check, None).at("check"));
        }
        T::deserialize(&body["result"]).map_err(|_| {
            let detail = "the answer is not this provider's; check base_url";
            SendError::new(SendErrorKind::Misconfigured, detail).at("check")
        })
    }

    /// What the answer to the one visible request says.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        memory: &mut Memory,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        let body = answer.json();
        if answer.status.is_success() && body["ok"] == true {
            return self.accepted(note, memory, answer, &body["result"]);
        }
        let link = note.link_secrets();
        let refusal = Refusal::read(answer, now, &self.secrets(&link));
        if let Some(chat_id) = refusal.moved_to() {
            memory.recipient = serde_json::to_value(Moved { chat_id }).ok();
            let detail = "the group has moved to another number; the note is sent there";
            return Err(SendError::new(SendErrorKind::Outdated, detail).from_upstream(refusal.upstream));
        }
        if refusal.is_stale_file() && memory.media.take().is_some() {
            let detail = "the provider no longer knows the uploaded audio; it is uploaded again";
            return Err(SendError::new(SendErrorKind::Outdated, detail).from_upstream(refusal.upstream));
        }
        let chat = self.chat(note, memory)?;
        Err(refusal.into_error(Step::Dispatch, Some((note.form(), &chat))))
    }

    fn accepted(
        &self,
        note: &OutboundNote,
        memory: &mut Memory,
        answer: &Answer,
        message: &Value,
    ) -> Result<Accepted, SendError> {
        let (Some(id), Some(chat)) = (message["message_id"].as_i64(), message["chat"]["id"].as_i64()) else {
            let upstream = Upstream { status: Some(answer.status.as_u16()), ..Upstream::default() };
            return Err(SendError::new(
                SendErrorKind::Unexpected,
                "the provider's answer names no message, so the note may or may not arrive",
            )
            .from_upstream(upstream));
        };
        // Whatever the request asked for, the server decides what it shows.
        let shown =
            [(Form::Voice, "voice"), (Form::Audio, "audio"), (Form::File, "document"), (Form::Text, "text")]
                .into_iter()
                .find(|(_, field)| !message[*field].is_null());
        if let Some((form, field)) = shown
            && form == note.form()
            && let Some(file) = message[field]["file_id"].as_str()
        {
            memory.media = Some(MediaHandle { value: file.to_owned(), valid_until: None });
        }
        let mut warnings = Vec::new();
        if note.reply_to.is_some() && message["reply_to_message"].is_null() {
            warnings.push(SendWarning::ReplyLost);
        }
        let large = note.audio().is_some_and(|audio| audio.facts.size_bytes > WAVEFORM_BYTES);
        if large && shown.is_none_or(|(form, _)| form == Form::Voice) {
            warnings.push(SendWarning::WaveformLost);
        }
        Ok(Accepted {
            message_id: format!("{chat}:{id}"),
            form: shown.map(|(form, _)| form),
            warnings,
            ..Accepted::default()
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
    fn a_token_has_the_form_of_botfathers() {
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

    #[test]
    fn a_chat_is_written_in_one_way() {
        for (text, expected) in [
            ("123", Some("123")),
            ("-1001234567890/17", Some("-1001234567890/17")),
            ("@News_Channel", Some("@news_channel")),
            ("0123", Some("123")),
            ("+123", None),
            ("@abc", None),
            ("-100/0", None),
        ] {
            assert_eq!(Chat::parse(text).map(|chat| chat.to_string()).as_deref(), expected, "{text}");
        }
    }
}
