//! Scripted faults, and the gate through which every request to an emulator passes.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::emulator::{self, Emulator};
use crate::hooks::Outgoing;
use crate::inbound::Note;
use crate::ledger::{RequestLog, redact, redact_path, redact_query};
use crate::server::hang_up;
use crate::{Sandbox, state};

/// The largest body that any emulated endpoint may take (Linq uploads: 100 MiB), with room to see what exceeds it.
const MAX_BODY: usize = 101 * 1024 * 1024;

/// An emulator, by its name.
#[derive(Clone, Copy)]
pub struct Provider(&'static dyn Emulator);

impl Provider {
    pub const LINQ: Self = Self(&crate::linq::Linq);
    pub const WAWP: Self = Self(&crate::wawp::Wawp);

    /// Finds the emulator with this name.
    pub fn named(name: &str) -> Option<Self> {
        emulator::all().find(|emulator| emulator.name() == name).map(Self)
    }

    pub fn name(self) -> &'static str {
        self.0.name()
    }

    pub(crate) fn receive(self, sandbox: &Sandbox, note: &mut Note) -> Result<(), String> {
        self.0.receive(sandbox, note)
    }

    pub(crate) fn inbound(self, sandbox: &Sandbox, notes: &[Note]) -> Vec<Outgoing> {
        self.0.inbound(sandbox, notes)
    }

    /// The refusals of its own that a fault may ask for.
    pub fn refusals(self) -> &'static [&'static str] {
        self.0.refusals()
    }
}

impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Provider {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Provider {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            let known: Vec<_> = emulator::all().map(|emulator| emulator.name()).collect();
            D::Error::custom(format!("no such provider; expected one of {}", known.join(", ")))
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    #[default]
    Any,
    /// Linq `POST /v3/chats/{id}/voicememo`.
    Voicememo,
    /// Linq `/v3/attachments…`.
    Attachments,
    /// Upload of the audio: Linq's presigned PUT, Meta's `/media`.
    Upload,
    /// Linq `/v3/chats`, `/v3/chats/{id}`, Discord `/users/@me/channels`, WAHA `/api/contacts/check-exists`.
    Chats,
    /// Linq `/v3/messages` and `/v3/chats/{id}/messages`.
    Messages,
    /// Linq `/v3/phone_numbers`.
    Lines,
    /// Registration of webhooks: Linq `/v3/webhook-subscriptions…`, Wawp `/v2/session/webhook`, `/v2/webhook/…`.
    Webhooks,
    /// The request that shows a note: Wawp `/v2/send/voice`, Telegram `sendVoice` and its like, `/messages` of Meta and
    /// Discord.
    Voice,
    /// The state of the account: Wawp `/v2/session/info`, Telegram `getMe`, Discord `/users/@me`, a number of Meta's.
    Session,
    /// The file of a note that a person sent in.
    Media,
    /// A text that is to be spoken.
    Speech,
    /// A recording that is to be written down.
    Transcription,
    /// A sign that somebody is recording or typing.
    Presence,
    /// Any other request to an emulator.
    Other,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Voicememo => "voicememo",
            Self::Attachments => "attachments",
            Self::Upload => "upload",
            Self::Chats => "chats",
            Self::Messages => "messages",
            Self::Lines => "lines",
            Self::Webhooks => "webhooks",
            Self::Voice => "voice",
            Self::Session => "session",
            Self::Media => "media",
            Self::Speech => "speech",
            Self::Transcription => "transcription",
            Self::Presence => "presence",
            Self::Other => "other",
        }
    }
}

/// A scripted fault: its action, the requests that it applies to, and how often.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub provider: Provider,
    #[serde(default)]
    pub operation: Operation,
    /// Only requests whose path contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default = "once")]
    pub times: u32,
    pub action: FaultAction,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// Applies to the next matching request, once.
    pub fn new(provider: Provider, operation: Operation, action: FaultAction) -> Self {
        Self { provider, operation, path: None, times: 1, action }
    }

    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Rejects a refusal that the provider does not have, since that is a mistake in a script.
    pub(crate) fn check(&self) -> Result<(), String> {
        let FaultAction::Refusal { name } = &self.action else { return Ok(()) };
        let known = self.provider.0.refusals();
        if known.contains(&name.as_str()) {
            return Ok(());
        }
        let provider = self.provider.name();
        Err(format!("{provider} has no refusal of this name; it has: {}", known.join(", ")))
    }

    fn matches(&self, provider: Provider, operation: Operation, path: &str) -> bool {
        self.times > 0
            && self.provider == provider
            && (self.operation == Operation::Any || self.operation == operation)
            && self.path.as_deref().is_none_or(|part| path.contains(part))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultAction {
    /// Answer with this status instead of processing. Without `body`: the provider's error envelope for that status.
    Status {
        status: u16,
        #[serde(default)]
        body: Option<Value>,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// `Retry-After` in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// Answer 429 in the provider's format.
    RateLimit { retry_after: u64 },
    /// Answer "not ready yet" in the provider's format: at Linq 404/2007, an attachment that is still being processed.
    NotReady,
    /// Answer with one of the provider's own refusals, by its name; nothing is processed.
    Refusal { name: String },
    /// Read the request without processing or answering it; close the connection after `ms`, without `ms` never.
    Stall {
        #[serde(default)]
        ms: Option<u64>,
    },
    /// Read the request and close the connection without processing it.
    ResetBefore,
    /// Process the request, then close the connection without an answer. The caller cannot tell it from `reset_before`.
    ResetAfter,
    /// Process the request, then act as `stall`.
    StallAfter {
        #[serde(default)]
        ms: Option<u64>,
    },
    /// Process the request, then answer 200 with a meaningless body.
    Garbage,
    /// Wait, then process and answer normally.
    Slow { ms: u64 },
}

/// Logs the request as soon as its head has arrived, applies a scripted fault if there is one, and completes the log.
pub(crate) async fn guard(State(sandbox): State<Sandbox>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    // Faults never apply to the page and the control API.
    let Some((emulator, below)) = emulator::of_path(&path) else {
        return next.run(request).await;
    };
    let provider = Provider(emulator);
    let operation = emulator.classify(request.method(), below);
    let began = state::clock();
    let (number, fault) = arrive(&sandbox, provider, operation, &request);
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        // The caller disconnected midway, or sent more than any endpoint takes.
        return hang_up();
    };
    log_body(&sandbox, number, &parts.headers, &body);

    let response = match fault {
        Some(action) => meet(number, action, provider, next, Request::from_parts(parts, body.into())).await,
        None => process(number, None, next, Request::from_parts(parts, body.into())).await,
    };
    let Some(response) = response else { return hang_up() };
    let (response, answer) = read_json(emulator.finish(response, below)).await;
    let answer = redact(&answer, &sandbox.secrets());
    if let Some(log) = sandbox.inner.lock().request_mut(number) {
        log.status = Some(response.status().as_u16());
        log.took_ms = u64::try_from(state::clock().duration_since(began).as_millis()).ok();
        log.answer = answer;
    }
    response
}

tokio::task_local! {
    static REQUEST: u64;
}

/// The number of the request that is being processed, if any.
pub(crate) fn request_number() -> Option<u64> {
    REQUEST.try_with(|number| *number).ok()
}

/// Longest answer that is kept beside its request, in bytes.
const MAX_ANSWER: u64 = 16 * 1024;

/// Returns the answer, and its JSON where it has some that is short.
async fn read_json(response: Response) -> (Response, Value) {
    let (parts, body) = response.into_parts();
    let is_short = body.size_hint().upper().is_some_and(|size| size <= MAX_ANSWER);
    if !is_short || !is_json(&parts.headers) {
        return (Response::from_parts(parts, body), Value::Null);
    }
    let bytes = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (Response::from_parts(parts, bytes.into()), json)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok());
    kind.is_some_and(|value| value.starts_with("application/json"))
}

/// Builds the answer; `None` closes the connection.
async fn meet(
    number: u64,
    fault: FaultAction,
    provider: Provider,
    next: Next,
    request: Request,
) -> Option<Response> {
    match fault {
        FaultAction::Status { status, body, headers, retry_after } => {
            Some(scripted(provider, status, body, headers, retry_after))
        }
        FaultAction::RateLimit { retry_after } => {
            Some(scripted(provider, 429, None, BTreeMap::new(), Some(retry_after)))
        }
        FaultAction::NotReady => Some(provider.0.not_ready()),
        FaultAction::Refusal { name } => Some(provider.0.refusal(&name)),
        FaultAction::Stall { ms } => stall(ms).await,
        FaultAction::ResetBefore => None,
        FaultAction::ResetAfter => {
            process(number, None, next, request).await;
            None
        }
        FaultAction::StallAfter { ms } => {
            process(number, None, next, request).await;
            stall(ms).await
        }
        FaultAction::Garbage => {
            process(number, None, next, request).await;
            Some(
                (StatusCode::OK, "<!doctype html>\0 this is not the answer you are looking for")
                    .into_response(),
            )
        }
        FaultAction::Slow { ms } => process(number, Some(Duration::from_millis(ms)), next, request).await,
    }
}

/// Runs in a task of its own, because a real server completes a request that it has read, whether or not the caller
/// still waits. hyper would otherwise drop the handler with the connection, and nothing would be committed.
async fn process(number: u64, delay: Option<Duration>, next: Next, request: Request) -> Option<Response> {
    let work = async move {
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        next.run(request).await
    };
    tokio::spawn(REQUEST.scope(number, work)).await.ok()
}

async fn stall(ms: Option<u64>) -> Option<Response> {
    match ms {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
    None
}

fn arrive(
    sandbox: &Sandbox,
    provider: Provider,
    operation: Operation,
    request: &Request,
) -> (u64, Option<FaultAction>) {
    let path = request.uri().path();
    let secrets = sandbox.secrets();
    let log = RequestLog {
        n: 0,
        provider: provider.name(),
        operation: operation.name(),
        method: request.method().to_string(),
        path: redact_path(path, &secrets),
        query: request.uri().query().map(|query| redact_query(query, &secrets)),
        at: state::now(),
        status: None,
        took_ms: None,
        answer: Value::Null,
        body: Value::Null,
        body_bytes: None,
        headers: request.headers().keys().map(|name| name.as_str().to_owned()).collect(),
    };
    let mut state = sandbox.inner.lock();
    let number = state.log_request(log);
    let index = state.faults.iter().position(|fault| fault.matches(provider, operation, path));
    let action = index.map(|index| {
        let fault = &mut state.faults[index];
        fault.times -= 1;
        let action = fault.action.clone();
        if fault.times == 0 {
            state.faults.remove(index);
        }
        action
    });
    (number, action)
}

fn log_body(sandbox: &Sandbox, number: u64, headers: &HeaderMap, body: &Bytes) {
    let json: Value =
        is_json(headers).then(|| serde_json::from_slice(body).ok()).flatten().unwrap_or(Value::Null);
    let json = redact(&json, &sandbox.secrets());
    if let Some(log) = sandbox.inner.lock().request_mut(number) {
        log.body = json;
        log.body_bytes = Some(body.len());
    }
}

fn scripted(
    provider: Provider,
    status: u16,
    body: Option<Value>,
    headers: BTreeMap<String, String>,
    retry_after: Option<u64>,
) -> Response {
    let mut response = match body {
        Some(Value::String(text)) => text.into_response(),
        Some(body) => axum::Json(body).into_response(),
        None => provider.0.scripted(status, retry_after),
    };
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

impl Sandbox {
    /// The credentials of every emulator.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        emulator::all().flat_map(|emulator| emulator.secrets(self)).collect()
    }
}
