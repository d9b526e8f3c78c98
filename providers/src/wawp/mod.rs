//! Wawp: hosted WhatsApp sessions, one per instance.
//!
//! * Voice notes: <https://api.wawp.net/en/docs/v2/send/voice>, the older API:
//!   <https://docs.wawp.net/send-voice-19594105e0>
//! * No limit on size and no rate limit are published.
//!
//! Quirks:
//! * The documented place for the credentials in a POST is its JSON body. Samples also put them into the
//!   query, where every log on the way would keep them, so that is never done.
//! * The documentation spells the file as flat keys, literally `"file[url]"`, while the vendor's own MCP
//!   server and WordPress plugin send a nested `file` object: `file_fields` chooses.
//! * `convert` is declared a boolean; samples with `"true"` are not followed.
//! * A failure can come with status 200, and an answer can be JSON, XML or plain text.
//! * What it says afterwards is signed in no documented way: the address has a token instead.

mod callbacks;
mod errors;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{Method, Request, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWrite;
use url::Url;

use self::errors::{judge, judge_check, judge_state, reports_failure, status_of, words};
use crate::{
    Accepted, BaseUrl, Callback, CallbackError, CallbackRequest, Callbacks, Capabilities, ConfigError,
    Context, Descriptor, Fetched, Intake, MediaRef, Memory, OutboundNote, Prepared, Proof, Provider,
    Recipient, RecipientError, Registration, ReplySupport, Secrets, SendError, SendErrorKind, Settings,
    Stage, USUAL_CALLBACK, Upstream, inbound, require_text,
    whatsapp_web::{self, File},
    wire::{self, Answer, NoAnswer, Out},
};

pub(crate) static DESCRIPTOR: Descriptor = Descriptor {
    name: "wawp",
    sample: SAMPLE,
    example: r#"{"instance_id": "A1B2C3D4E5F6", "access_token": "secret-wawp-token"}"#,
    secrets: &["access_token", "callback_token"],
    made_up: &["callback_token"],
    native_id: None,
    secret_in_path: false,
    callbacks: Some(Callbacks { proof: Proof::Token, max_bytes: USUAL_CALLBACK, registers: true }),
    build,
};

const SAMPLE: &str = r#"base_url = "https://api.wawp.net"        # the root of Wawp's API. Wawp downloads the audio, so server.public_url must be https
instance_id = "000000000000"             # the id of the linked WhatsApp session
access_token = { env = "WAWP_TOKEN" }    # the API token
file_fields = "flat"                     # how the request names the file; Wawp's documentation shows both ways
# callback_token = { env = "WAWP_CALLBACK_TOKEN" }   # no default: a random text (`openssl rand -hex 32`) that becomes part
                                         # of the address that Wawp calls; without it receipts are refused. Use a
                                         # list while one token replaces another
"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "production")]
    base_url: String,
    instance_id: String,
    access_token: SecretString,
    #[serde(default)]
    file_fields: FileFields,
    /// The token in the address that is registered at Wawp.
    #[serde(default)]
    callback_token: Secrets,
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
    callback_tokens: Secrets,
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
    require_text(&[
        ("instance_id", &config.instance_id),
        ("access_token", config.access_token.expose_secret()),
    ])?;
    config.callback_token.check_callback_token()?;
    let forms = vec![whatsapp_web::voice(Intake::Url)];
    let (reply, recipients) = (ReplySupport::MessageId, whatsapp_web::RECIPIENTS);
    Ok(Wawp {
        api: BaseUrl::try_from(config.base_url).map_err(|why| ConfigError::new("base_url", why))?,
        instance_id: config.instance_id,
        access_token: config.access_token,
        file_fields: config.file_fields,
        capabilities: whatsapp_web::capabilities(forms, reply, recipients, &config.callback_token),
        callback_tokens: config.callback_token,
    })
}

#[async_trait]
impl Provider for Wawp {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError> {
        whatsapp_web::chat_id(to)
    }

    async fn prepare(&self, _: &Context, note: &OutboundNote, _: &mut Memory) -> Result<Prepared, SendError> {
        self.capabilities.check(note)?;
        let audio = note.need_audio()?;
        let chat = self.recipient_key(&note.to)?;
        let mut body = self.credentials();
        body["chatId"] = json!(chat);
        body["convert"] = json!(audio.provider_converts);
        let (url, filename, mimetype) = (audio.link.as_str(), &audio.filename, &audio.facts.mime_type);
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
            request: wire::json_request(Method::POST, url, Some(&body)),
            correlation_ids: Vec::new(),
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
        let answer = wire::dispatch(cx, prepared.request).await.map_err(wire::NoAnswer::in_dispatch)?;
        self.dispatched(cx.now, note, &answer)
    }

    async fn check(&self, cx: &Context) -> Result<String, SendError> {
        self.session(cx).await.map_err(|error| error.at(Stage::Check))
    }

    fn admits(&self, head: &CallbackRequest) -> Result<(), CallbackError> {
        self.check_token(head)
    }

    fn callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.read_callback(request)
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

impl Wawp {
    /// Reads the answer to the visible request.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        let body = answer.json();
        if answer.status.is_success() && !reports_failure(&body) {
            return match whatsapp_web::message_id(&body) {
                Some(message_id) => {
                    let correlation_ids = vec![whatsapp_web::own_part(&message_id).to_owned()];
                    Ok(Accepted { message_id, correlation_ids, ..Accepted::default() })
                }
                None => Err(wire::no_message_id(answer)),
            };
        }
        Err(self.refused(now, note, answer, &body))
    }

    fn refused(&self, now: Timestamp, note: &OutboundNote, answer: &Answer, body: &Value) -> SendError {
        let (kind, detail) = judge(status_of(answer, body), &words(answer, body));
        self.error(now, kind, detail, answer, body, &note.link_secrets())
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
        link.iter().chain([&self.access_token]).chain(&self.callback_tokens).collect()
    }

    /// The token as a header, where a request has no body for it.
    fn token_header(&self) -> Result<HeaderValue, SendError> {
        let mut token = HeaderValue::from_str(self.access_token.expose_secret()).map_err(|_| {
            SendError::new(SendErrorKind::Misconfigured, "access_token has characters that no header takes")
        })?;
        token.set_sensitive(true);
        Ok(token)
    }

    /// The audio of a received note. Wawp's pages leave it out, and it is built on WAHA: a file at the server itself, for
    /// a few minutes, or in a bucket behind a signed link.
    async fn file_of(&self, cx: &Context, file: &File, out: &mut Out<'_>) -> Result<Fetched, SendError> {
        let told = file.url.as_deref().ok_or_else(inbound::gone)?;
        if file.in_bucket
            && let Ok(url) = Url::parse(told)
            && url.origin() != self.api.origin()
        {
            return wire::download_guarded(cx, url, out).await?.whole(cx);
        }
        let url = whatsapp_web::own_address(&self.api, told).ok_or_else(inbound::gone)?;
        let mut request = Request::new(Method::GET, url);
        request.headers_mut().insert("access-token", self.token_header()?);
        wire::download(cx, request, out).await?.whole(cx)
    }

    /// The credentials, which every request has in its body.
    fn credentials(&self) -> Value {
        json!({"instance_id": self.instance_id, "access_token": self.access_token.expose_secret()})
    }

    /// The state of the WhatsApp session: <https://api.wawp.net/en/docs/v2/session/info>. A POST, because a GET
    /// would have the credentials in its query.
    async fn session(&self, cx: &Context) -> Result<String, SendError> {
        let url = self.api.join(&["v2", "session", "info"]);
        let request = wire::json_request(Method::POST, url, Some(&self.credentials()));
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        self.read_session(cx.now, &answer)
    }

    /// Reads the answer about the session.
    pub(crate) fn read_session(&self, now: Timestamp, answer: &Answer) -> Result<String, SendError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_can_be_guessed_is_refused_and_not_shown() {
        let built = |token: Value| {
            let settings = json!({"instance_id": "A1", "access_token": "t", "callback_token": token});
            let settings = settings.as_object().cloned().unwrap_or_default();
            build(Settings::new(settings)).map(|provider| !provider.capabilities().receipts.is_empty())
        };
        assert_eq!(built(json!("0123456789abcdef")), Ok(true));
        for short in [json!("0123456789abcde"), json!(["0123456789abcdef", "hunter2"])] {
            let error = built(short).expect_err("refused");
            assert!(error.key == "callback_token" && !error.to_string().contains("hunter2"), "{error}");
        }
    }
}
