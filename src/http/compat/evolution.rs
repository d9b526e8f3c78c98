//! Evolution API, versions 1 and 2. <https://doc.evolution-api.com>

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        FromRequestParts, Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use voicegate_providers::{Form, parse_recipient};

use super::{Account, Fields, Shape, Wishes, accounts, named, parameter, seconds, shown, take};
use crate::{
    config::Tenant,
    gateway::Gateway,
    http::{App, auth},
    model::{code::Code, note::Note, problem::Problem},
    view::dialects::{evolution_chat, evolution_id, evolution_status, message_id, named_id, recipient},
};

/// The version of Evolution whose answers these are.
const VERSION: &str = "2.3.6";

/// The audio is in the field of version 2 or in that of version 1, or it is a part of a form.
const AUDIO: Shape = Shape {
    members: &[&["audio"], &["audioMessage", "audio"]],
    texts: &["audio"],
    files: &["file", "attachment"],
};

const NO_AUDIO: Shape = Shape { members: &[], texts: &[], files: &[] };

/// The tenant of the key in the header `apikey`.
pub struct Caller(Arc<Tenant>);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = parts.headers.get("apikey").and_then(|key| key.to_str().ok()).map(str::trim);
        auth::tenant(app, &parts.extensions, key, "send the header `apikey` with the key of the tenant")
            .await
            .map(Self)
    }
}

/// A voice note in the form of version 2 or of version 1. Other fields are ignored.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct EvolutionVoice {
    /// Digits with the country code, or an id with an `@`. A `to` of `POST /voice` is understood as well.
    #[schema(examples("15551234567"))]
    number: String,
    /// An http or https address, base64 or a data URI.
    #[schema(examples("https://bot.example/greeting.mp3"))]
    audio: Option<String>,
    /// A hint for audio whose bytes alone do not say what it is.
    #[schema(examples("audio/mpeg"))]
    mimetype: Option<String>,
    /// Also a hint.
    #[schema(examples("greeting.mp3"))]
    file_name: Option<String>,
    /// The note is not sent before this many milliseconds have passed.
    #[schema(examples(1200))]
    delay: Option<u64>,
    /// Ignored: audio is converted where the provider needs it, and left as it is otherwise.
    encoding: Option<bool>,
    /// The message that this one answers, by its id in `key.id`.
    quoted: Option<EvolutionQuoted>,
    /// `delay` and `quoted` in version 1.
    options: Option<EvolutionOptions>,
    /// The audio in version 1.
    audio_message: Option<EvolutionAudioV1>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct EvolutionQuoted {
    key: EvolutionQuotedKey,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct EvolutionQuotedKey {
    #[schema(examples("vn_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41"))]
    id: String,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct EvolutionOptions {
    delay: Option<u64>,
    quoted: Option<EvolutionQuoted>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct EvolutionAudioV1 {
    audio: String,
}

/// The form of the same request: the audio is the file part `file`, or text in `audio`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct EvolutionVoiceForm {
    number: String,
    #[schema(value_type = Option<String>, format = Binary)]
    file: Option<String>,
    audio: Option<String>,
    delay: Option<String>,
    /// As JSON.
    quoted: Option<String>,
}

/// A message as Evolution shows it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvolutionMessage {
    key: EvolutionKey,
    push_name: String,
    /// `PENDING` as long as WhatsApp's server has not acknowledged the message, or its fate is not known.
    #[schema(examples("PENDING"))]
    status: &'static str,
    message: EvolutionContent,
    #[schema(required, value_type = Option<Object>)]
    context_info: Option<()>,
    #[schema(examples("audioMessage"))]
    message_type: &'static str,
    /// Seconds since 1970.
    message_timestamp: i64,
    #[schema(value_type = String, format = "uuid")]
    instance_id: Uuid,
    source: &'static str,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EvolutionKey {
    #[schema(examples("15551234567@s.whatsapp.net"))]
    remote_jid: String,
    from_me: bool,
    /// The id of the voice note.
    #[schema(examples("vn_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41"))]
    id: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EvolutionContent {
    audio_message: EvolutionAudio,
}

/// The audio. Facts are left out until they are known.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EvolutionAudio {
    /// A signed link to the audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("audio/ogg; codecs=opus"))]
    mimetype: Option<String>,
    /// The SHA-256 hash as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    file_sha256: Option<String>,
    /// The size in bytes, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("15800"))]
    file_length: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples(10))]
    seconds: Option<u64>,
    /// 64 bytes from 0 to 100, as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    waveform: Option<String>,
    /// Whether it is a voice note.
    ptt: bool,
}

impl EvolutionAudio {
    fn of(gateway: &Gateway, note: &Note) -> Self {
        let shown = shown(gateway, note);
        let facts = shown.as_ref().map(|shown| shown.facts);
        let bars = note.probed.as_ref().map(|probed| &probed.waveform).filter(|bars| !bars.is_empty());
        let hash = |hash: &String| BASE64_STANDARD.encode(hex::decode(hash).unwrap_or_default());
        Self {
            url: shown.as_ref().map(|shown| shown.url.to_string()),
            mimetype: facts.map(|facts| facts.mime_type.clone()),
            file_sha256: facts.map(|facts| hash(&facts.sha256)),
            file_length: facts.map(|facts| facts.size_bytes.to_string()),
            seconds: facts.map(seconds),
            waveform: bars.map(|bars| BASE64_STANDARD.encode(bars)),
            ptt: note.form.is_none_or(|form| form == Form::Voice),
        }
    }
}

impl EvolutionMessage {
    fn of(gateway: &Gateway, tenant: &Tenant, instance: &str, note: &Note) -> Self {
        Self {
            key: EvolutionKey {
                remote_jid: evolution_chat(&note.to),
                from_me: true,
                id: evolution_id(note.id),
            },
            push_name: String::new(),
            status: evolution_status(note.status),
            message: EvolutionContent { audio_message: EvolutionAudio::of(gateway, note) },
            context_info: None,
            message_type: "audioMessage",
            message_timestamp: note.created_at.as_second(),
            instance_id: named_id(&tenant.name, "instance", instance),
            source: "unknown",
        }
    }
}

/// Send a voice note
///
/// Answers when the provider has accepted the note, or with `PENDING` after `dialects.wait`.
#[utoipa::path(
    post, path = "/compat/evolution/message/sendWhatsAppAudio/{instance}", tag = "Evolution",
    operation_id = "evolutionSendWhatsAppAudio",
    params(("instance" = String, Path, description = "A connection or a route.")),
    request_body(content((EvolutionVoice = "application/json"), (EvolutionVoiceForm = "multipart/form-data"))),
    responses((status = 201, description = "The note was accepted, and certainly has not failed.", body = EvolutionMessage)),
)]
pub async fn send(
    State(app): State<App>,
    Caller(tenant): Caller,
    instance: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let instance = parameter(instance);
    let via = named(&tenant, &instance).ok_or_else(|| absent(&instance))?;
    let order = take(&app, &tenant, request, AUDIO).await?;
    let fields = &order.fields;
    let number = fields.text(&["number"]).ok_or_else(|| missing("number"))?;
    if order.audio.is_none() {
        return Err(Problem::invalid(
            "audio",
            "Owned media must be a url, base64, or valid file with buffer",
        ));
    }
    let to = recipient(&number);
    let wishes = Wishes {
        to: to.clone(),
        via: Some(via),
        reply_to: fields
            .first(&[&["quoted", "key", "id"], &["options", "quoted", "key", "id"]])
            .map(|id| message_id(&id)),
        delay: match fields.millis(&["delay"])? {
            None => fields.millis(&["options", "delay"])?,
            delay => delay,
        },
        mime_type: fields.text(&["mimetype"]),
        filename: fields.text(&["fileName"]),
        key: None,
    };
    match order.send(&app, &tenant, wishes).await {
        Ok(note) => {
            let message = EvolutionMessage::of(&app.gateway, &tenant, &instance, &note);
            Ok((StatusCode::CREATED, Json(message)).into_response())
        }
        Err(problem) if matches!(problem.code, Code::RecipientInvalid | Code::RecipientUnsupported) => {
            let jid = evolution_chat(&to);
            let reason =
                json!({ "jid": jid, "exists": false, "number": number, "reason": problem.to_string() });
            Ok(refusal(StatusCode::BAD_REQUEST, &reason).into_response())
        }
        Err(problem) => Err(problem),
    }
}

/// Evolution's envelope of an error.
fn refusal(status: StatusCode, reason: &Value) -> (StatusCode, Json<Value>) {
    let error = status.canonical_reason().unwrap_or("Error");
    (status, Json(json!({ "status": status.as_u16(), "error": error, "response": { "message": [reason] } })))
}

fn missing(field: &str) -> Problem {
    Problem::invalid(field, format!("requires property \"{field}\""))
}

fn absent(instance: &str) -> Problem {
    Problem::new(Code::NotFound, format!("The \"{instance}\" instance does not exist"))
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct EvolutionFilter {
    /// Only the instance with this name.
    instance_name: Option<String>,
    /// Only the instance with this id.
    instance_id: Option<String>,
}

/// A connection or a route, as Evolution shows an instance: by the members of its current versions, and in `instance` by
/// those of its documentation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvolutionInstance {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    name: String,
    /// `open` or `close`.
    connection_status: &'static str,
    integration: &'static str,
    instance: EvolutionInstanceOld,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EvolutionInstanceOld {
    instance_name: String,
    #[schema(value_type = String, format = "uuid")]
    instance_id: Uuid,
    status: &'static str,
}

/// An account without a known fault can be sent with.
fn connection_state(account: &Account) -> &'static str {
    if account.works { "open" } else { "close" }
}

/// List instances
///
/// The connections and routes of the tenant.
#[utoipa::path(
    get, path = "/compat/evolution/instance/fetchInstances", tag = "Evolution", operation_id = "evolutionFetchInstances",
    params(EvolutionFilter),
    responses((status = 200, description = "All instances, or the one that was asked for.", body = [EvolutionInstance])),
)]
pub async fn instances(
    State(app): State<App>,
    Caller(tenant): Caller,
    filter: Result<Query<EvolutionFilter>, QueryRejection>,
) -> Result<Json<Vec<EvolutionInstance>>, Problem> {
    let Query(filter) = filter.unwrap_or_default();
    let shown = |account: Account| {
        let (status, id) = (connection_state(&account), named_id(&tenant.name, "instance", &account.name));
        let name = account.name;
        EvolutionInstance {
            id,
            name: name.clone(),
            connection_status: status,
            integration: "WHATSAPP-BAILEYS",
            instance: EvolutionInstanceOld { instance_name: name, instance_id: id, status },
        }
    };
    // Only names that the other paths take.
    let known = accounts(&app.gateway, &tenant).await?;
    let known = known.into_iter().filter(|account| named(&tenant, &account.name).is_some()).map(shown);
    let wanted = |instance: &EvolutionInstance| {
        filter.instance_name.as_ref().is_none_or(|name| *name == instance.name)
            && filter.instance_id.as_ref().is_none_or(|id| *id == instance.id.to_string())
    };
    let found: Vec<_> = known.filter(wanted).collect();
    match (found.is_empty(), filter.instance_name.or(filter.instance_id)) {
        (true, Some(name)) => Err(absent(&name)),
        _ => Ok(Json(found)),
    }
}

#[derive(Serialize, ToSchema)]
pub struct EvolutionConnection {
    instance: EvolutionConnectionState,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EvolutionConnectionState {
    instance_name: String,
    /// `open`, or `close` while the account or its provider fails.
    state: &'static str,
}

/// Read the state of an instance
#[utoipa::path(
    get, path = "/compat/evolution/instance/connectionState/{instance}", tag = "Evolution",
    operation_id = "evolutionConnectionState",
    params(("instance" = String, Path, description = "A connection or a route.")),
    responses((status = 200, description = "Its state.", body = EvolutionConnection)),
)]
pub async fn state(
    State(app): State<App>,
    Caller(tenant): Caller,
    instance: Result<Path<String>, PathRejection>,
) -> Result<Json<EvolutionConnection>, Problem> {
    let name = parameter(instance);
    named(&tenant, &name).ok_or_else(|| absent(&name))?;
    let account = accounts(&app.gateway, &tenant).await?.into_iter().find(|account| account.name == name);
    let state = account.as_ref().map_or("close", connection_state);
    Ok(Json(EvolutionConnection { instance: EvolutionConnectionState { instance_name: name, state } }))
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `numbers` reads in the document")]
struct EvolutionNumbers {
    #[schema(examples("15551234567"))]
    numbers: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub struct EvolutionNumber {
    #[schema(examples("15551234567@s.whatsapp.net"))]
    jid: String,
    /// Whether this is a possible recipient. No provider is asked.
    exists: bool,
    /// The number as it was asked for.
    number: String,
}

/// Check numbers
///
/// Says which of the numbers are possible. No provider is asked.
#[utoipa::path(
    post, path = "/compat/evolution/chat/whatsappNumbers/{instance}", tag = "Evolution",
    operation_id = "evolutionWhatsappNumbers",
    params(("instance" = String, Path, description = "A connection or a route.")),
    request_body(content((EvolutionNumbers = "application/json"))),
    responses((status = 200, description = "The numbers, in the same order.", body = [EvolutionNumber])),
)]
pub async fn numbers(
    State(app): State<App>,
    Caller(tenant): Caller,
    instance: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Vec<EvolutionNumber>>, Problem> {
    let instance = parameter(instance);
    named(&tenant, &instance).ok_or_else(|| absent(&instance))?;
    let foreign = super::foreign::read(&app, &tenant.name, request, NO_AUDIO).await?;
    let fields = Fields(foreign.fields);
    let numbers = fields.at(&["numbers"]).ok_or_else(|| missing("numbers"))?.into_owned();
    let Value::Array(numbers) = numbers else {
        return Err(Problem::invalid("numbers", "is not of a type(s) array"));
    };
    let check = |number: Value| {
        let number = number.as_str().map_or_else(|| number.to_string(), str::to_owned);
        let to = recipient(&number);
        let known = parse_recipient(&to);
        let jid = evolution_chat(&known.as_ref().map_or(to, ToString::to_string));
        EvolutionNumber { jid, exists: known.is_ok(), number }
    };
    Ok(Json(numbers.into_iter().map(check).collect()))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvolutionAbout {
    status: u16,
    message: &'static str,
    #[schema(examples("2.3.6"))]
    version: &'static str,
    client_name: &'static str,
    documentation: String,
}

/// Read what this is
///
/// Needs no key.
#[utoipa::path(
    get, path = "/compat/evolution/", tag = "Evolution", operation_id = "evolutionAbout",
    responses((status = 200, description = "The version of the dialect.", body = EvolutionAbout)),
)]
pub async fn about(State(app): State<App>) -> Json<EvolutionAbout> {
    let mut documentation = app.gateway.live().config.server.public_url.clone();
    if let Ok(mut path) = documentation.path_segments_mut() {
        path.pop_if_empty().extend(["docs", "dialects"]);
    }
    Json(EvolutionAbout {
        status: 200,
        message: "Welcome to the Evolution API, it is working!",
        version: VERSION,
        client_name: "voicegate",
        documentation: documentation.into(),
    })
}

/// A problem as Evolution shows it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `problem` makes in the document")]
pub struct EvolutionProblem {
    #[schema(examples(400))]
    status: u16,
    #[schema(examples("Bad Request"))]
    error: String,
    response: EvolutionReasons,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `problem` makes in the document")]
struct EvolutionReasons {
    /// Texts; for a recipient that cannot be reached an object with `jid`, `exists` and `number`.
    #[schema(value_type = Vec<Value>)]
    message: Vec<Value>,
}

pub fn problem(problem: &Problem) -> (StatusCode, Value) {
    let status = match problem.code {
        Code::UnknownConnection => StatusCode::NOT_FOUND,
        // Evolution answers 400 to whatever goes wrong while it sends.
        _ => super::status(problem, StatusCode::BAD_REQUEST),
    };
    let text = match problem.code {
        Code::NotFound => problem.detail.clone(),
        _ => problem.to_string(),
    };
    let (status, Json(body)) = refusal(status, &json!(text));
    (status, body)
}
