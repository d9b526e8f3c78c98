//! Any API by configuration: one request, described by a recipe.
//!
//! Enough for the many gateways that differ in words alone. `docs/recipes.md` explains the keys of a recipe; those in
//! `providers/recipes/` come with voicegate, each with the vendor's pages that it was written from.
//!
//! Quirks:
//! * Credentials stand where the recipe puts them, in the path and the query too, so no URL of this adapter may be shown.
//! * What no row of the recipe explains is an unknown outcome: a recipe that names too little makes notes wait, never
//!   arrive twice.

mod answers;
mod bundled;
mod callbacks;
mod drawn;
mod preview;
mod recipe;
mod sound;
mod template;
mod values;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use self::{
    answers::error,
    drawn::{Body, Drawn, File, Header},
    recipe::{AudioAs, Kind, Outcome, Recipe, Sending, Upload},
    template::{Name, Template, Values, escaped, plain},
};
use crate::{
    Accepted, BaseUrl, Callback, CallbackError, CallbackRequest, Callbacks, Capabilities, ConfigError,
    Content, Context, Descriptor, Form, FormSupport, Idempotency, Intake, MediaHandle, Memory, NativeId,
    OutboundAudio, OutboundNote, Prepared, Proof, Provider, ReceiptStatus, Recipient, RecipientError,
    ReplySupport, Secrets, SendError, SendErrorKind, Settings, USUAL_CALLBACK,
    wire::{self, Answer, NoAnswer, Step},
};

pub use preview::preview;

/// The adapter's name, which begins its own ids, too.
const NAME: &str = "http";

pub(crate) static DESCRIPTOR: Descriptor = Descriptor {
    name: NAME,
    sample: SAMPLE,
    example: r#"{"recipe": "whapi", "token": "secret-http-token"}"#,
    secrets: &["token", "webhook_secret", "callback_token"],
    made_up: &["callback_token"],
    native_id: Some(NativeId {
        prefix: NAME,
        bare: false,
        pattern: "[@._:+=~-]{0,8}[A-Za-z0-9][A-Za-z0-9@._:+=~-]{0,119}",
        meaning: "an id of the provider's own: at most 128 letters, digits and @ . _ : + = ~ -",
        canonical: |id| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "@._:+=~-".contains(c);
            let sound = (1..=128).contains(&id.len())
                && id.chars().all(plain)
                && id.contains(|c: char| c.is_ascii_alphanumeric());
            sound.then(|| id.to_owned())
        },
        valid: &["U4af4980629", "120363000000000000@g.us", "5511999999999-group"],
        invalid: &["", "a b", "..", "//example.com", "a/b", "ü"],
    }),
    secret_in_path: true,
    callbacks: Some(Callbacks {
        proof: Proof::Signature { window: None },
        max_bytes: USUAL_CALLBACK,
        registers: false,
    }),
    build,
};

const SAMPLE: &str = r#"recipe = "whapi"                         # the request: a file such as "recipes/mine.toml", a table, or the name of a recipe that
                                         # comes with voicegate; docs/recipes.md
token = { env = "WHAPI_TOKEN" }          # what the recipe puts in place of {{token}}
# base_url = "https://gate.whapi.cloud"  # no default: what the recipe puts in place of {{base_url}}; most recipes name one
# settings = { instance = "3C01", client_token = { env = "CLIENT_TOKEN" } }   # no default: further values, in place of {{settings.NAME}}
# webhook_secret = { env = "HTTP_WEBHOOK_SECRET" }   # no default: what the provider signs callbacks with, where callback.hmac says how
# callback_token = { env = "HTTP_CALLBACK_TOKEN" }   # no default: what comes along with callbacks, where the recipe says
                                         # callback.token; at least 16 characters of your choice
"#;

const MAX_BYTES: u64 = 16_000_000;

/// Nothing else keeps strangers from claiming that a note arrived.
const MIN_CALLBACK_TOKEN: usize = 16;

/// Shorter settings are no secrets, and would be taken out of every sentence.
const MIN_SECRET: usize = 6;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    recipe: Value,
    base_url: Option<String>,
    token: Option<SecretString>,
    #[serde(default)]
    webhook_secret: Secrets,
    #[serde(default)]
    callback_token: Secrets,
    #[serde(default)]
    settings: BTreeMap<String, Value>,
}

pub(crate) struct Http {
    recipe: Recipe,
    /// What is the same for every note: base_url, token, settings.
    fixed: Values,
    /// Credentials.
    headers: Vec<Header>,
    query: Option<(String, String)>,
    secrets: Vec<SecretString>,
    webhook_secrets: Secrets,
    callback_tokens: Secrets,
    kinds: Vec<Kind>,
    capabilities: Capabilities,
    server: Option<Url>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.server.as_ref().map(|url| url.origin().ascii_serialization());
        f.debug_struct("Http").field("server", &origin).finish_non_exhaustive()
    }
}

fn build(settings: Settings) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(connection(settings)?))
}

pub(crate) fn connection(settings: Settings) -> Result<Http, ConfigError> {
    let config: Config = settings.parse()?;
    let wrong = |key: &str, why: String| ConfigError::new(key, why);
    let recipe = Recipe::read(config.recipe).map_err(|why| wrong("recipe", why))?;
    sound::judge(&recipe).map_err(|why| wrong("recipe", why))?;

    let mut fixed = Values::default();
    let mut secrets = Vec::new();
    let base_url = config.base_url.or_else(|| recipe.base_url.clone());
    let used = names_used(&recipe);
    match base_url {
        Some(text) => {
            BaseUrl::try_from(text.clone()).map_err(|why| wrong("base_url", why.to_owned()))?;
            fixed.insert(Name::BaseUrl, text);
        }
        None if used.contains(&Name::BaseUrl) => {
            return Err(wrong(
                "base_url",
                "is required: the recipe has {{base_url}} and no default for it".to_owned(),
            ));
        }
        None => {}
    }
    let token = config.token.filter(|token| !token.expose_secret().trim().is_empty());
    match token {
        Some(token) => {
            fixed.insert(Name::Token, token.expose_secret());
            secrets.push(token);
        }
        None if used.contains(&Name::Token) => {
            return Err(wrong(
                "token",
                "expected a text that is not empty: the recipe has {{token}}".to_owned(),
            ));
        }
        None => {}
    }
    for (name, value) in &config.settings {
        let text = match value {
            Value::String(text) if text.trim().is_empty() => None,
            Value::String(_) | Value::Number(_) | Value::Bool(_) => Some(plain(value)),
            _ => None,
        };
        let Some(text) = text else {
            return Err(wrong(
                "settings",
                format!("{name}: expected a text that is not empty, a number, true or false"),
            ));
        };
        if text.len() >= MIN_SECRET {
            secrets.push(text.into());
        }
        fixed.insert(Name::Setting(name.clone()), value.clone());
    }
    let known: Vec<&str> = config.settings.keys().map(String::as_str).collect();
    for name in settings_used(&recipe) {
        if !config.settings.contains_key(&name) {
            let meant = words::nearest(&name, &known)
                .map_or(String::new(), |found| format!("; is `{found}` there meant to be it?"));
            return Err(wrong(
                "settings",
                format!("{name}: is required: the recipe has {{{{settings.{name}}}}}{meant}"),
            ));
        }
    }
    let hmac = recipe.callback.as_ref().is_some_and(|callback| callback.hmac.is_some());
    let by_token = recipe.callback.as_ref().is_some_and(|callback| callback.token.is_some());
    if config.webhook_secret.first().is_some() && !hmac {
        let why = "the recipe reads no signed callbacks: it has no callback.hmac";
        return Err(wrong("webhook_secret", why.to_owned()));
    }
    if config.callback_token.first().is_some() && !by_token {
        let why = "the recipe reads no callbacks with a token: it has no callback.token";
        return Err(wrong("callback_token", why.to_owned()));
    }
    let short = |token: &SecretString| token.expose_secret().chars().count() < MIN_CALLBACK_TOKEN;
    if config.callback_token.iter().any(short) {
        let expected = format!("expected at least {MIN_CALLBACK_TOKEN} characters, chosen at random");
        return Err(wrong("callback_token", expected));
    }
    let mut http = Http::assemble(recipe, fixed, secrets);
    if let Some(header) =
        http.headers.iter().find(|header| http::HeaderValue::from_str(&header.value).is_err())
    {
        let why = format!("a credential has characters that the header {} cannot have", header.name);
        return Err(wrong("token", why));
    }
    let hears = config.webhook_secret.first().or(config.callback_token.first()).is_some();
    if let Some(callback) = http.recipe.callback.as_ref().filter(|_| hears) {
        http.capabilities.receipts = receipts(callback.statuses.values());
    }
    (http.webhook_secrets, http.callback_tokens) = (config.webhook_secret, config.callback_token);
    Ok(http)
}

/// In the order in which they come.
fn receipts<'a>(statuses: impl Iterator<Item = &'a ReceiptStatus> + Clone) -> Vec<ReceiptStatus> {
    use ReceiptStatus::{Accepted, Delivered, Failed, Played, Read, Sent};
    let comes = |status: &ReceiptStatus| statuses.clone().any(|one| one == status);
    [Accepted, Sent, Delivered, Read, Played, Failed].into_iter().filter(comes).collect()
}

/// Every placeholder that the recipe has.
fn names_used(recipe: &Recipe) -> BTreeSet<Name> {
    let mut used = BTreeSet::new();
    let mut see = |_: &str, template: &Template| used.extend(template.names().cloned());
    for sending in Form::LADDER.iter().filter_map(|form| recipe.sending(*form)) {
        see("", sending.url);
        sending.fields.each("", &mut see);
    }
    if let Some(upload) = &recipe.upload {
        see("", &upload.url);
        upload.fields.each("", &mut see);
    }
    let auth = recipe.auth.iter().flat_map(|auth| {
        let pairs = [&auth.header, &auth.query].into_iter().flatten().map(|(_, value)| value);
        let basic = auth.basic.iter().flat_map(|(user, password)| [user, password]);
        auth.bearer.iter().chain(pairs).chain(basic)
    });
    for template in auth.chain(recipe.headers.values()).chain(recipe.check.as_ref().map(|check| &check.url)) {
        see("", template);
    }
    used
}

fn settings_used(recipe: &Recipe) -> Vec<String> {
    let names = names_used(recipe).into_iter();
    names.filter_map(|name| if let Name::Setting(name) = name { Some(name) } else { None }).collect()
}

impl Http {
    /// `fixed` has the values that the recipe needs, or stand-ins for them.
    fn assemble(recipe: Recipe, fixed: Values, mut secrets: Vec<SecretString>) -> Self {
        let mut headers = Vec::new();
        let mut query = None;
        let value = |template: &Template| template.text(&fixed).unwrap_or_default();
        let mut secret = |name: &str, value: String| {
            // Whoever repeats a header repeats all of it.
            secrets.extend(value.split(' ').filter(|part| part.len() >= MIN_SECRET).map(SecretString::from));
            headers.push(Header { name: name.to_owned(), value, is_secret: true });
        };
        if let Some(auth) = &recipe.auth {
            if let Some(token) = &auth.bearer {
                secret("authorization", format!("Bearer {}", value(token)));
            }
            if let Some((name, token)) = &auth.header {
                secret(name, value(token));
            }
            if let Some((user, password)) = &auth.basic {
                let pair = format!("{}:{}", value(user), value(password));
                let pair =
                    if fixed.masked { format!("[base64 of {pair}]") } else { BASE64_STANDARD.encode(pair) };
                secret("authorization", format!("Basic {pair}"));
            }
            if let Some((name, token)) = &auth.query {
                let token = value(token);
                let shown = if fixed.masked { token } else { escaped(&token) };
                query = Some((escaped(name), shown));
            }
        }
        // As they stand in URLs, where an answer may repeat them.
        let spelt: Vec<SecretString> = secrets
            .iter()
            .map(|secret| escaped(secret.expose_secret()))
            .filter(|text| text.contains('%'))
            .map(SecretString::from)
            .collect();
        secrets.extend(spelt);
        let server = if recipe.url.begins_with_base_url() {
            Template::parse("{{base_url}}").ok().and_then(|base| base.text(&fixed))
        } else {
            Some(recipe.url.beginning().to_owned())
        };
        let server = server.and_then(|text| Url::parse(&text).ok());
        let kinds = recipe.recipients.clone().unwrap_or_else(|| Kind::usual(recipe.recipient));
        let capabilities = capabilities(&recipe, &kinds);
        Self {
            recipe,
            fixed,
            headers,
            query,
            secrets,
            webhook_secrets: Secrets::default(),
            callback_tokens: Secrets::default(),
            kinds,
            capabilities,
            server,
        }
    }

    fn accepts(&self, to: &Recipient) -> Result<(), RecipientError> {
        if Kind::of(to).is_some_and(|kind| self.kinds.contains(&kind)) {
            return Ok(());
        }
        let forms: Vec<&str> = self.kinds.iter().map(|kind| kind.example()).collect();
        Err(RecipientError::Unsupported(format!("this connection reaches {}", forms.join(", "))))
    }

    fn secrets<'a>(&'a self, link: &'a [SecretString]) -> Vec<&'a SecretString> {
        link.iter().chain(&self.secrets).chain(&self.webhook_secrets).chain(&self.callback_tokens).collect()
    }

    /// The values of one note, without the audio itself.
    fn values(&self, note: &OutboundNote) -> Values {
        let mut values = self.fixed.clone();
        values.insert(Name::To, self.recipe.recipient.spell(&note.to));
        values.insert(Name::NoteId, note.id.as_str());
        values.insert(Name::NoteUuid, note.id.trim_start_matches("vn_"));
        values.insert_some(Name::ReplyTo, note.reply_to.as_deref());
        match &note.content {
            Content::Text(text) => values.insert(Name::Text, text.as_str()),
            Content::Audio { audio, caption, .. } => {
                values.insert(Name::Filename, audio.filename.as_str());
                values.insert(Name::Mime, audio.facts.mime_type.as_str());
                values.insert_some(Name::Caption, caption.as_deref());
                let duration = self.recipe.duration.map(|unit| unit.of(audio.facts.duration_ms));
                values.insert_some(Name::Duration, duration);
                values.insert_some(Name::Waveform, self.recipe.waveform.of(&audio.waveform));
            }
        }
        values
    }

    /// Puts the audio in, in the way that the recipe says.
    fn put_audio(
        &self,
        values: &mut Values,
        audio: &OutboundAudio,
        way: AudioAs,
        bytes: Option<&Bytes>,
    ) -> Result<(), SendError> {
        let encoded = || bytes.map(|bytes| BASE64_STANDARD.encode(bytes)).unwrap_or_default();
        match way {
            AudioAs::Link => {
                let link = audio.link.as_str();
                if let Some(most) = self.recipe.link_max.filter(|most| link.len() > *most) {
                    let detail = format!(
                        "the link to the audio has {} characters and the provider takes {most}; shorten server.public_url",
                        link.len()
                    );
                    return Err(SendError::new(SendErrorKind::Misconfigured, detail));
                }
                values.insert(Name::Audio, link);
            }
            AudioAs::Base64 => values.insert(Name::Audio, encoded()),
            AudioAs::DataUri => {
                values.insert(Name::Audio, format!("data:{};base64,{}", bare_type(audio), encoded()));
            }
            AudioAs::Part => values.insert(Name::Audio, audio.filename.as_str()),
        }
        Ok(())
    }

    /// Headers with the values of a note.
    fn all_headers(&self, values: &Values) -> Vec<Header> {
        let mut headers = self.headers.clone();
        for (name, template) in &self.recipe.headers {
            if let Some(value) = template.text(values) {
                headers.push(Header { name: name.clone(), value, is_secret: true });
            }
        }
        // A map has no order, and a request is the same each time.
        headers[self.headers.len()..].sort_by(|a, b| a.name.cmp(&b.name));
        headers
    }

    fn draw(&self, sending: &Sending<'_>, values: &Values) -> Option<Drawn> {
        let body = Body::of(sending.body, sending.audio, sending.fields, values);
        let drawn = Drawn::new(self.recipe.method, sending.url, values, self.all_headers(values), body)?;
        Some(self.with_query(drawn))
    }

    fn draw_upload(&self, upload: &Upload, values: &Values) -> Option<Drawn> {
        let body = Body::of(upload.body, Some(upload.audio), &upload.fields, values);
        Some(self.with_query(Drawn::new(upload.method, &upload.url, values, self.headers.clone(), body)?))
    }

    fn with_query(&self, drawn: Drawn) -> Drawn {
        match &self.query {
            Some((name, value)) => drawn.with_query(name, value),
            None => drawn,
        }
    }

    /// The first step: the provider's own id for the bytes.
    async fn upload(
        &self,
        cx: &Context,
        note: &OutboundNote,
        upload: &Upload,
        values: &Values,
        file: Option<&File<'_>>,
    ) -> Result<String, SendError> {
        let drawn = self.draw_upload(upload, values).ok_or_else(incomplete)?;
        let request = drawn.into_request(&note.id, file)?;
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_prepare)?;
        let body = answer.json();
        let verdict = self.recipe.verdict(&answer, &body);
        let good = match &verdict {
            None => answer.status.is_success(),
            Some(verdict) => matches!(verdict.outcome, Outcome::Accepted),
        };
        match upload.id.id(&body).filter(|_| good) {
            Some(id) => Ok(id),
            None => {
                let link = note.link_secrets();
                Err(error(Step::Prepare, verdict, &answer, &body, cx.now, &self.secrets(&link)))
            }
        }
    }

    async fn made_ready(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError> {
        self.capabilities.check(note)?;
        self.accepts(&note.to)
            .map_err(|error| SendError::new(SendErrorKind::InvalidRecipient, error.to_string()))?;
        let sending = self.recipe.sending(note.form()).ok_or_else(|| {
            let detail = "this connection does not show notes in this form";
            SendError::new(SendErrorKind::FormUnavailable, detail)
        })?;
        let mut values = self.values(note);
        let mut bytes = None;
        if let Some(audio) = note.audio() {
            let direct = sending.audio.filter(|_| uses(&sending, &Name::Audio));
            let upload = self.recipe.upload.as_ref().filter(|_| uses(&sending, &Name::Media));
            let known = memory.media.as_ref().filter(|_| upload.is_some()).map(|media| media.value.clone());
            let first = upload.filter(|_| known.is_none());
            let mut ways = direct.into_iter().chain(first.map(|upload| upload.audio));
            if ways.any(|way| way != AudioAs::Link) {
                bytes = Some(audio.read().await.map_err(|_| unreadable())?);
            }
            values.insert_some(Name::Media, known);
            if let Some(upload) = first {
                let mut values_then = values.clone();
                self.put_audio(&mut values_then, audio, upload.audio, bytes.as_ref())?;
                let file = bytes.as_ref().map(|bytes| file(audio, bytes));
                let id = self.upload(cx, note, upload, &values_then, file.as_ref()).await;
                let id = id.map_err(|error| error.at("upload"))?;
                memory.media = upload.valid_for.map(|span| MediaHandle {
                    value: id.clone(),
                    valid_until: SignedDuration::try_from(span.0)
                        .ok()
                        .and_then(|span| cx.now.checked_add(span).ok()),
                });
                values.insert(Name::Media, id);
            }
            if let Some(way) = direct {
                self.put_audio(&mut values, audio, way, bytes.as_ref())?;
            }
        }
        let drawn = self.draw(&sending, &values).ok_or_else(incomplete)?;
        let file = note.audio().zip(bytes.as_ref()).map(|(audio, bytes)| file(audio, bytes));
        let request = drawn.into_request(&note.id, file.as_ref())?;
        let named = self.recipe.callback.as_ref().is_some_and(|callback| callback.note_id.is_some());
        let correlation_ids = if named { vec![note.id.clone()] } else { Vec::new() };
        Ok(Prepared { request, correlation_ids })
    }

    /// What the answer to the visible request says.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        memory: &mut Memory,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        let body = answer.json();
        let verdict = self.recipe.verdict(answer, &body);
        let good = match &verdict {
            None => answer.status.is_success(),
            Some(verdict) => matches!(verdict.outcome, Outcome::Accepted),
        };
        let ids = self.recipe.sending(note.form()).map_or(&self.recipe.id, |sending| sending.id);
        if let Some(message_id) = ids.id(&body).filter(|_| good) {
            return Ok(Accepted { message_id, ..Accepted::default() });
        }
        let link = note.link_secrets();
        let mut error = error(Step::Dispatch, verdict, answer, &body, now, &self.secrets(&link));
        if good {
            error.kind = SendErrorKind::Unexpected;
            error.detail = NO_ID.to_owned();
        }
        if error.kind == SendErrorKind::Outdated && memory.media.take().is_none() {
            // There is nothing to do better.
            error.kind = SendErrorKind::Rejected;
            error.detail = "the provider refused the note".to_owned();
        }
        Err(error)
    }

    async fn asked(&self, cx: &Context) -> Result<String, SendError> {
        let Some(check) = &self.recipe.check else {
            return Ok("nothing was asked: the recipe has no `check`".to_owned());
        };
        let drawn = Drawn::new(check.method, &check.url, &self.fixed, self.headers.clone(), Body::None);
        let request = self.with_query(drawn.ok_or_else(incomplete)?).into_request("check", None)?;
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        let body = answer.json();
        let verdict = self.recipe.verdict(&answer, &body);
        let found = match &check.pointer {
            None => Some(String::from_utf8_lossy(&answer.body).into_owned()),
            Some(pointer) => body.pointer(&pointer.0).map(plain),
        };
        let fits =
            found.is_some_and(|text| check.pattern.as_ref().is_none_or(|pattern| pattern.0.is_match(&text)));
        if answer.status.is_success() && fits && verdict.is_none() {
            return Ok("the provider answers as the recipe expects".to_owned());
        }
        Err(error(Step::Check, verdict, &answer, &body, cx.now, &self.secrets(&[])))
    }
}

const NO_ID: &str = "the provider's answer names no message, so the note may or may not arrive";

fn uses(sending: &Sending<'_>, name: &Name) -> bool {
    sending.fields.uses(name) || sending.url.uses(name)
}

fn file<'a>(audio: &'a OutboundAudio, bytes: &'a Bytes) -> File<'a> {
    File { filename: &audio.filename, mime_type: bare_type(audio), bytes }
}

/// The media type without its parameters: those confuse more services than they help.
fn bare_type(audio: &OutboundAudio) -> &str {
    audio.facts.mime_type.split(';').next().unwrap_or_default().trim()
}

fn unreadable() -> SendError {
    let detail = "the audio could not be read from the gateway's storage";
    SendError::new(SendErrorKind::Unavailable, detail).at("upload")
}

fn incomplete() -> SendError {
    let detail = "the recipe's URL needs a value that this note does not have";
    SendError::new(SendErrorKind::Misconfigured, detail)
}

#[async_trait]
impl Provider for Http {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError> {
        self.accepts(to)?;
        // An id of the provider's own is spelt as it is, and must not be taken for another kind of recipient.
        Ok(match to {
            Recipient::Native { .. } => to.to_string(),
            other => self.recipe.recipient.spell(other),
        })
    }

    async fn prepare(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError> {
        self.made_ready(cx, note, memory).await
    }

    fn dispatches_to(&self) -> Option<&Url> {
        self.server.as_ref()
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
        self.asked(cx).await.map_err(|error| error.at("check"))
    }

    fn admits(&self, head: &CallbackRequest) -> Result<(), CallbackError> {
        self.may_call(head)
    }

    fn callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.heard(request)
    }
}

fn capabilities(recipe: &Recipe, kinds: &[Kind]) -> Capabilities {
    let support = |form: Form| {
        let sending = recipe.sending(form)?;
        if form == Form::Text {
            return Some(FormSupport {
                form,
                profile: None,
                intake: Intake::Upload,
                // In UTF-8 a character has at most four bytes.
                max_bytes: 4 * recipe.max_text as u64,
                max_duration_ms: None,
                caption: Some(recipe.max_text),
            });
        }
        let mut ways = sending.audio.filter(|_| sending.fields.uses(&Name::Audio)).into_iter().chain(
            recipe.upload.as_ref().filter(|_| uses(&sending, &Name::Media)).map(|upload| upload.audio),
        );
        Some(FormSupport {
            form,
            profile: recipe.forms.get(&form).cloned(),
            intake: if ways.any(|way| way == AudioAs::Link) { Intake::Url } else { Intake::Upload },
            max_bytes: recipe.max_bytes.get(&form).copied().unwrap_or(MAX_BYTES),
            max_duration_ms: None,
            caption: sending.fields.uses(&Name::Caption).then_some(recipe.max_caption),
        })
    };
    let replies = Form::LADDER.iter().filter_map(|form| recipe.sending(*form));
    let replies = replies.into_iter().any(|sending| uses(&sending, &Name::ReplyTo));
    Capabilities {
        forms: Form::LADDER.into_iter().filter_map(support).collect(),
        // Whatever the recipe names.
        profile_family: "",
        provider_converts: None,
        reply: if replies { ReplySupport::MessageId } else { ReplySupport::None },
        idempotency: recipe.repeatable.map(|span| Idempotency { window: span.0 }),
        look_up: false,
        receipts: Vec::new(),
        inbound: false,
        listens: false,
        media_reuse: recipe.upload.as_ref().is_some_and(|upload| upload.valid_for.is_some()),
        recipients: interned(kinds),
    }
}

/// A list that lives as long as the process. There are as many as there are sets of kinds, however often the
/// configuration is read again.
fn interned(kinds: &[Kind]) -> &'static [&'static str] {
    static LISTS: Mutex<Vec<&'static [&'static str]>> = Mutex::new(Vec::new());
    let mut names: Vec<&'static str> = Vec::new();
    for kind in kinds {
        if !names.contains(&kind.name()) {
            names.push(kind.name());
        }
    }
    names.sort_unstable();
    let mut lists = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lists.iter().find(|known| **known == names.as_slice()) {
        return known;
    }
    let made: &'static [&'static str] = names.leak();
    lists.push(made);
    made
}

#[cfg(test)]
mod tests;
