//! Wawp: hosted WhatsApp sessions, one per instance.
//!
//! * Voice notes: <https://api.wawp.net/en/docs/v2/send/voice>, the older API:
//!   <https://docs.wawp.net/send-voice-19594105e0>
//! * No limit on size and no rate limit are published. 16 MB is Meta's own limit for audio on WhatsApp:
//!   <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/audio-messages>
//!
//! Quirks:
//! * The documented place for the credentials in a POST is its JSON body. Samples also put them into the
//!   query, where every log on the way would keep them, so that is never done.
//! * The documentation spells the file as flat keys, literally `"file[url]"`, while the vendor's own MCP
//!   server and WordPress plugin send a nested `file` object: `file_fields` chooses.
//! * `convert` is declared a boolean; samples with `"true"` are not followed.
//! * A failure can come with status 200, and an answer can be JSON, XML or plain text.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Accepted, BaseUrl, Capabilities, ConfigError, Context, Descriptor, Form, Intake, JidServer, Memory,
    OutboundNote, Prepared, Provider, Recipient, RecipientError, ReplySupport, SendError, SendErrorKind,
    Settings, Upstream,
    wire::{self, Answer, NoAnswer},
};

pub(crate) static DESCRIPTOR: Descriptor = Descriptor {
    name: "wawp",
    example: r#"{"instance_id": "A1B2C3D4E5F6", "access_token": "secret-wawp-token"}"#,
    build,
};

const MAX_BYTES: u64 = 16_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "production")]
    base_url: String,
    instance_id: String,
    access_token: SecretString,
    #[serde(default)]
    file_fields: FileFields,
    callback_token: Option<SecretString>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileFields {
    #[default]
    Flat,
    Nested,
}

fn production() -> String {
    "https://api.wawp.net".to_owned()
}

pub(crate) struct Wawp {
    api: BaseUrl,
    instance_id: String,
    access_token: SecretString,
    callback_token: Option<SecretString>,
    file_fields: FileFields,
    capabilities: Capabilities,
}

impl fmt::Debug for Wawp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wawp").field("api", &self.api).finish_non_exhaustive()
    }
}

fn build(settings: Settings) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(connection(settings)?))
}

pub(crate) fn connection(settings: Settings) -> Result<Wawp, ConfigError> {
    let config: Config = settings.parse()?;
    for (key, value) in
        [("instance_id", config.instance_id.as_str()), ("access_token", config.access_token.expose_secret())]
    {
        if value.trim().is_empty() {
            return Err(ConfigError::new(key, "expected a text that is not empty"));
        }
    }
    Ok(Wawp {
        api: BaseUrl::try_from(config.base_url).map_err(|why| ConfigError::new("base_url", why))?,
        instance_id: config.instance_id,
        access_token: config.access_token,
        callback_token: config.callback_token,
        file_fields: config.file_fields,
        capabilities: Capabilities {
            default_profile: "whatsapp-1",
            profile_family: "whatsapp-",
            provider_converts: Some("mp3-1"),
            intake: Intake::Url,
            max_bytes: MAX_BYTES,
            reply: ReplySupport::MessageId,
            caption: false,
            idempotent_send: false,
            look_up: false,
            receipts: false,
            recipients: &["phone", "c.us", "g.us", "newsletter", "lid"],
        },
    })
}

#[async_trait]
impl Provider for Wawp {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError> {
        match to {
            Recipient::Phone(number) => Ok(format!("{}@c.us", number.trim_start_matches('+'))),
            // The linked-device spelling of a person is not to be sent to
            // (https://github.com/devlikeapro/waha-docs, receive-messages/-chat-ids.md).
            Recipient::Jid { user, server: JidServer::User | JidServer::LinkedUser } => {
                Ok(format!("{user}@c.us"))
            }
            Recipient::Jid { user, server } => Ok(format!("{user}@{}", server.as_str())),
            Recipient::Email(_) | Recipient::Native { .. } => Err(RecipientError::Unsupported(
                "this connection reaches phone numbers and WhatsApp ids (...@c.us, @g.us, @newsletter, @lid)"
                    .to_owned(),
            )),
        }
    }

    async fn prepare(&self, _: &Context, note: &OutboundNote, _: &mut Memory) -> Result<Prepared, SendError> {
        self.capabilities.check_size(note.audio.facts.size_bytes)?;
        let chat = self
            .recipient_key(&note.to)
            .map_err(|error| SendError::new(SendErrorKind::InvalidRecipient, error.to_string()))?;
        let mut body = json!({
            "instance_id": self.instance_id,
            "access_token": self.access_token.expose_secret(),
            "chatId": chat,
            "convert": note.provider_converts,
        });
        let (url, filename, mimetype) =
            (note.audio.link.as_str(), &note.audio.filename, &note.audio.facts.mime_type);
        match self.file_fields {
            FileFields::Flat => {
                body["file[url]"] = json!(url);
                body["file[filename]"] = json!(filename);
                body["file[mimetype]"] = json!(mimetype);
            }
            FileFields::Nested => {
                body["file"] = json!({"url": url, "filename": filename, "mimetype": mimetype});
            }
        }
        if let Some(message) = &note.reply_to {
            body["reply_to"] = json!(message);
        }
        let url = self.api.join(&["v2", "send", "voice"]);
        Ok(Prepared {
            form: Form::Voice,
            request: wire::json_request(Method::POST, url, Some(&body)),
            marks: Vec::new(),
        })
    }

    async fn dispatch(
        &self,
        cx: &Context,
        note: &OutboundNote,
        prepared: Prepared,
        _: &mut Memory,
    ) -> Result<Accepted, SendError> {
        let answer = wire::call(cx, prepared.request).await.map_err(wire::NoAnswer::in_dispatch)?;
        self.dispatched(cx.now, note, &answer)
    }

    async fn check(&self, cx: &Context) -> Result<String, SendError> {
        self.session(cx).await.map_err(|error| error.at("check"))
    }
}

/// The id in every shape that was seen: the whatsapp-web.js message that the page shows (`id._serialized`,
/// mirrored in `_data`), a bare string, and `message_id` of the older API.
fn message_id(body: &Value) -> Option<String> {
    [&body["id"], &body["_data"]["id"], &body["message_id"]]
        .into_iter()
        .flat_map(|id| [id, &id["_serialized"], &id["id"]])
        .find_map(|id| id.as_str().filter(|id| !id.is_empty()))
        .map(str::to_owned)
}

fn no_id(answer: &Answer) -> SendError {
    let upstream = Upstream { status: Some(answer.status.as_u16()), ..Upstream::default() };
    SendError::new(
        SendErrorKind::Unexpected,
        "the provider's answer names no message, so the note may or may not arrive",
    )
    .from_upstream(upstream)
}

/// Whether a body says "failed" although its status says 2xx.
fn reports_failure(body: &Value) -> bool {
    // Wawp prints empty lists as `{}`, so an empty anything is no error.
    let error = match &body["error"] {
        Value::Null => false,
        Value::Bool(error) => *error,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    };
    error
        || body["code"].is_string()
        || body["success"] == json!(false)
        || body["result"] == json!(false)
        || status_in(body).is_some()
}

/// `{"status": 404}` inside the body (schema of the published OpenAPI file).
fn status_in(body: &Value) -> Option<u16> {
    body["status"].as_u64().and_then(|status| u16::try_from(status).ok()).filter(|status| *status >= 400)
}

impl Wawp {
    /// What the answer says.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        let body = answer.json();
        if answer.status.is_success() && !reports_failure(&body) {
            return match message_id(&body) {
                Some(message_id) => Ok(Accepted { message_id, form: None, trace: None }),
                None => Err(no_id(answer)),
            };
        }
        Err(self.refused(now, note, answer, &body))
    }

    fn refused(&self, now: Timestamp, note: &OutboundNote, answer: &Answer, body: &Value) -> SendError {
        let (kind, detail) = judge(status_of(answer, body), &words(answer, body));
        self.error(now, kind, detail, answer, body, &note.audio.link_secrets())
    }

    /// An error with what the provider itself said, cleared of our secrets and those of `link`.
    fn error(
        &self,
        now: Timestamp,
        kind: SendErrorKind,
        detail: &str,
        answer: &Answer,
        body: &Value,
        link: &[SecretString],
    ) -> SendError {
        let code = [&body["code"], &body["error"]].into_iter().find_map(Value::as_str);
        let secrets = self.secrets(link);
        let quote = |text: &str| wire::quote(text, &secrets);
        let mut error = SendError::new(kind, detail).from_upstream(Upstream {
            status: Some(answer.status.as_u16()),
            code: code.and_then(|code| wire::identifier(code, &secrets)),
            message: body["message"].as_str().or(code).map(quote),
            trace: None,
        });
        error.retry_after = wire::retry_after(&answer.headers, now);
        error
    }

    fn secrets<'a>(&'a self, link: &'a [SecretString]) -> Vec<&'a SecretString> {
        link.iter().chain([&self.access_token]).chain(&self.callback_token).collect()
    }

    /// The state of the WhatsApp session: <https://api.wawp.net/en/docs/v2/session/info>. A POST, because a GET
    /// would have the credentials in its query.
    async fn session(&self, cx: &Context) -> Result<String, SendError> {
        let credentials =
            json!({"instance_id": self.instance_id, "access_token": self.access_token.expose_secret()});
        let url = self.api.join(&["v2", "session", "info"]);
        let request = wire::json_request(Method::POST, url, Some(&credentials));
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        self.told(cx.now, &answer)
    }

    /// What the answer says.
    pub(crate) fn told(&self, now: Timestamp, answer: &Answer) -> Result<String, SendError> {
        let body = answer.json();
        if !answer.status.is_success() || reports_failure(&body) {
            let (kind, detail) = judge_check(status_of(answer, &body), &words(answer, &body));
            return Err(self.error(now, kind, detail, answer, &body, &[]));
        }
        let state = body["status"].as_str();
        if state == Some("WORKING") {
            return Ok("instance WORKING".to_owned());
        }
        let (kind, detail) = judge_state(state);
        let upstream = Upstream {
            status: Some(answer.status.as_u16()),
            code: state.and_then(|state| wire::identifier(state, &self.secrets(&[]))),
            ..Upstream::default()
        };
        Err(SendError::new(kind, detail).from_upstream(upstream))
    }
}

/// The status that counts: where the answer itself says 2xx, the one in its body.
fn status_of(answer: &Answer, body: &Value) -> Option<u16> {
    if answer.status.is_success() { status_in(body) } else { Some(answer.status.as_u16()) }
}

/// Everything in an answer that may hold an error code: which field has it depends on the part of Wawp that
/// answers, and outside JSON there are no fields.
fn words(answer: &Answer, body: &Value) -> String {
    let fields: Vec<&str> =
        ["code", "error", "message"].iter().filter_map(|field| body[*field].as_str()).collect();
    if body.is_null() { String::from_utf8_lossy(&answer.body).into_owned() } else { fields.join(" ") }
}

/// The table, read from top to bottom; `status` is that of the body where the answer itself says 2xx.
fn judge(status: Option<u16>, words: &str) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    let says = |code: &str| words.contains(code);
    match status {
        Some(429) => (Kind::RateLimited, "the provider limits the rate of this account"),
        Some(500..=599 | 408) => (
            Kind::OutcomeUnknown,
            "the provider reported a fault after the note was handed over, so it may or may not arrive",
        ),
        // Wawp's word for a fault of the engine behind it, with whatever status: that may have sent the note.
        _ if says("wawp_upstream_error") => (
            Kind::OutcomeUnknown,
            "the provider lost touch with WhatsApp while sending the note, so it may or may not arrive",
        ),
        Some(401) => (Kind::Unauthorized, "the provider refused the access token; renew it"),
        _ if says("quota_reached") => (Kind::Misconfigured, "the account's message quota is used up"),
        _ if says("subscription_required") => {
            (Kind::Misconfigured, "the account's plan does not include voice notes")
        }
        _ if says("invalid_session") => {
            (Kind::Misconfigured, "the WhatsApp session is gone; it must be linked again")
        }
        _ if says("bad_format") => (Kind::MediaRejected, "the provider does not take this audio"),
        Some(403) => (
            Kind::Misconfigured,
            "the account may not send: its quota is used up or its plan does not allow it",
        ),
        // A wrong or deleted instance, whose session must be linked again, or a wrong address.
        Some(404) => (
            Kind::Misconfigured,
            "the provider knows no such session: check base_url and instance_id, or link the session again",
        ),
        Some(300..=399) => (
            Kind::Unexpected,
            "the provider answered with a redirect, so the note may or may not arrive; check base_url",
        ),
        _ => (Kind::Rejected, "the provider refused the note"),
    }
}

/// The states of a session that cannot send, and the way out of each:
/// <https://docs.wawp.net/wawps-session-lifecycle-1300479m0>.
fn judge_state(state: Option<&str>) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    match state {
        Some("STARTING") => (Kind::NotReady, "the WhatsApp session is starting; try again in a minute"),
        Some("SCAN_QR_CODE") => (
            Kind::Misconfigured,
            "the WhatsApp session is not linked; scan its QR code with the phone, at the provider's dashboard",
        ),
        Some("STOPPED") => {
            (Kind::Misconfigured, "the WhatsApp session is stopped; start it at the provider's dashboard")
        }
        Some("FAILED") => (
            Kind::Misconfigured,
            "the WhatsApp session has failed; restart it, and where that does not help log out and link it again",
        ),
        Some(_) => (
            Kind::Misconfigured,
            "the WhatsApp session is in no state that can send; look at it at the provider's dashboard",
        ),
        None => (Kind::Misconfigured, "the answer is not this provider's; check base_url"),
    }
}

/// [`judge`] for a question about the account, read from top to bottom.
fn judge_check(status: Option<u16>, words: &str) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    let says = |code: &str| words.contains(code);
    match status {
        Some(429) => (Kind::RateLimited, "the provider limits the rate of this account; try again later"),
        Some(401) => (Kind::Unauthorized, "the provider refused the access token; renew it"),
        _ if says("wawp_upstream_error") => {
            (Kind::Unavailable, "the provider lost touch with WhatsApp; try again later")
        }
        Some(500..=599 | 408) => (Kind::Unavailable, "the provider has a fault; try again later"),
        _ if says("invalid_session") => (
            Kind::Misconfigured,
            "the provider knows no such session: check instance_id, or link the session again",
        ),
        Some(403) => (
            Kind::Misconfigured,
            "the account may not do this: its quota is used up or its plan does not allow it",
        ),
        Some(404) => (
            Kind::Misconfigured,
            "the provider knows no such session: check base_url and instance_id, or link the session again",
        ),
        Some(300..=399) => (Kind::Misconfigured, "the provider answered with a redirect; check base_url"),
        _ => (
            Kind::Misconfigured,
            "the provider refused to tell the session's state; check base_url, instance_id and access_token",
        ),
    }
}
