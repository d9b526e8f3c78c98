//! WAHA. <https://waha.devlike.pro/docs/>

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Account, DEFAULT, Shape, Wishes, accounts, converter, named, parameter, seconds, shown, take};
use crate::{
    config::Tenant,
    gateway::Gateway,
    http::{App, auth},
    model::{code::Code, note::Note, problem::Problem},
    view::dialects::{message_id, recipient, waha_ack, waha_chat, waha_id},
};

/// The version of WAHA whose answers these are.
const VERSION: &str = "2026.7.1";

/// The engine of WAHA whose messages have a text as their id.
const ENGINE: &str = "GOWS";

const FILE: Shape = Shape {
    members: &[&["file", "data"], &["file", "url"]],
    texts: &["file[data]", "file[url]"],
    files: &["file"],
};

const SOURCE: Shape = Shape { members: &[&["data"], &["url"]], texts: &["data", "url"], files: &["file"] };

/// The tenant of the key in the header `X-Api-Key`, or in the query.
pub struct Caller(Arc<Tenant>);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let header = parts.headers.get("x-api-key").and_then(|key| key.to_str().ok()).map(str::trim);
        let query = || {
            let mut pairs = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
            pairs.find(|(name, _)| name.eq_ignore_ascii_case("x-api-key")).map(|(_, key)| key.into_owned())
        };
        let key = header.map(str::to_owned).or_else(query);
        let how = "send the header `X-Api-Key` with the key of the tenant";
        auth::tenant(app, &parts.extensions, key.as_deref(), how).await.map(Self)
    }
}

/// A voice note. Other fields are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct WahaVoice {
    /// A connection, a route, or `default` for the tenant's route.
    #[schema(default = "default")]
    session: Option<String>,
    /// An id with an `@`, or digits with the country code. A `to` of `POST /voice` is understood as well.
    #[schema(rename = "chatId", examples("15551234567@c.us"))]
    chat_id: String,
    file: WahaFile,
    /// Ignored: audio is converted where the provider needs it, and left as it is otherwise.
    convert: Option<bool>,
    /// The id of the message that this one answers.
    #[schema(examples("true_15551234567@c.us_vn_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41"))]
    reply_to: Option<String>,
}

/// The audio: `data` or `url`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct WahaFile {
    /// Base64 or a data URI.
    data: Option<String>,
    /// An http or https address.
    #[schema(examples("https://bot.example/greeting.mp3"))]
    url: Option<String>,
    /// A hint for audio whose bytes alone do not say what it is.
    #[schema(examples("audio/mpeg"))]
    mimetype: Option<String>,
    /// Also a hint.
    filename: Option<String>,
}

/// A message as WAHA shows it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WahaMessage {
    /// The id of the voice note.
    #[schema(examples("true_15551234567@c.us_vn_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41"))]
    id: String,
    /// Seconds since 1970.
    timestamp: i64,
    /// The session.
    #[schema(examples("default"))]
    from: String,
    from_me: bool,
    #[schema(examples("15551234567@c.us"))]
    to: String,
    source: &'static str,
    body: String,
    has_media: bool,
    /// `null` until the audio was read.
    #[schema(required)]
    media: Option<WahaMedia>,
    /// 0 as long as WhatsApp's server has not acknowledged the message, or its fate is not known.
    #[schema(examples(0))]
    ack: i8,
    #[schema(examples("PENDING"))]
    ack_name: &'static str,
    /// A copy of the id, for clients of other engines, which look for it here.
    #[serde(rename = "_data")]
    #[schema(rename = "_data")]
    data: WahaData,
}

#[derive(Serialize, ToSchema)]
struct WahaMedia {
    url: String,
    mimetype: String,
    filename: String,
    /// In seconds.
    duration: u64,
}

#[derive(Serialize, ToSchema)]
struct WahaData {
    id: WahaDataId,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WahaDataId {
    from_me: bool,
    remote: String,
    id: String,
    #[serde(rename = "_serialized")]
    #[schema(rename = "_serialized")]
    serialized: String,
}

impl WahaDataId {
    pub fn of(note: &Note) -> Self {
        Self {
            from_me: true,
            remote: waha_chat(&note.to),
            id: note.id.to_string(),
            serialized: waha_id(&note.to, note.id),
        }
    }
}

impl WahaMessage {
    fn of(gateway: &Gateway, session: &str, note: &Note) -> Self {
        let (ack, ack_name) = waha_ack(note.status);
        let media = shown(gateway, note).map(|shown| WahaMedia {
            url: shown.url.to_string(),
            mimetype: shown.facts.mime_type.clone(),
            duration: seconds(shown.facts),
            filename: shown.filename,
        });
        Self {
            id: waha_id(&note.to, note.id),
            timestamp: note.created_at.as_second(),
            from: session.to_owned(),
            from_me: true,
            to: waha_chat(&note.to),
            source: "api",
            body: String::new(),
            has_media: true,
            media,
            ack,
            ack_name,
            data: WahaData { id: WahaDataId::of(note) },
        }
    }
}

/// Send a voice note
///
/// Answers when the provider has accepted the note, or with `PENDING` after `dialects.wait`.
#[utoipa::path(
    post, path = "/compat/waha/api/sendVoice", tag = "WAHA", operation_id = "wahaSendVoice",
    request_body(content((WahaVoice = "application/json"))),
    responses((status = 201, description = "The note was accepted, and certainly has not failed.", body = WahaMessage)),
)]
pub async fn send(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<(StatusCode, Json<WahaMessage>), Problem> {
    let order = take(&app, &tenant, request, FILE).await?;
    let fields = &order.fields;
    let session = fields.text(&["session"]).unwrap_or_else(|| DEFAULT.to_owned());
    let via = via(&tenant, &session)?;
    let chat =
        fields.text(&["chatId"]).ok_or_else(|| Problem::invalid("chatId", "chatId should not be empty"))?;
    if order.audio.is_none() {
        let detail = "file should have data, which is base64, or url, which is an http or https address";
        return Err(Problem::invalid("file", detail));
    }
    let wishes = Wishes {
        to: recipient(&chat),
        via,
        reply_to: fields.first(&[&["reply_to"], &["replyTo"]]).map(|id| message_id(&id)),
        mime_type: fields.first(&[&["file", "mimetype"], &["file[mimetype]"]]),
        filename: fields.first(&[&["file", "filename"], &["file[filename]"]]),
        ..Wishes::default()
    };
    let note = order.send(&app, &tenant, wishes).await?;
    Ok((StatusCode::CREATED, Json(WahaMessage::of(&app.gateway, &session, &note))))
}

/// The connection or route of a session; `None` for the tenant's route.
fn via(tenant: &Tenant, session: &str) -> Result<Option<String>, Problem> {
    match named(tenant, session) {
        None if session != DEFAULT => Err(absent(session)),
        via => Ok(via),
    }
}

fn absent(session: &str) -> Problem {
    let detail = format!(
        "We didn't find a session with name '{session}'. It is the name of a connection or a route, or '{DEFAULT}'"
    );
    Problem::new(Code::NotFound, detail)
}

/// A connection or a route, as WAHA shows a session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WahaSession {
    #[schema(examples("default"))]
    name: String,
    /// `WORKING`, or `FAILED` while the account or its provider fails.
    status: &'static str,
    me: WahaMe,
    engine: WahaEngine,
    config: WahaEmpty,
    presence: WahaEmpty,
    timestamps: WahaTimestamps,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WahaMe {
    /// The session, since the account's own number is not known.
    id: String,
    push_name: String,
}

#[derive(Serialize, ToSchema)]
struct WahaEngine {
    engine: &'static str,
}

/// An object without members.
#[derive(Serialize, ToSchema)]
struct WahaEmpty {}

#[derive(Serialize, ToSchema)]
struct WahaTimestamps {
    /// Not known here.
    #[schema(required)]
    activity: Option<i64>,
}

impl From<Account> for WahaSession {
    fn from(account: Account) -> Self {
        Self {
            status: if account.works { "WORKING" } else { "FAILED" },
            me: WahaMe { id: account.name.clone(), push_name: account.name.clone() },
            engine: WahaEngine { engine: ENGINE },
            config: WahaEmpty {},
            presence: WahaEmpty {},
            timestamps: WahaTimestamps { activity: None },
            name: account.name,
        }
    }
}

/// List sessions
///
/// The connections and routes of the tenant, and `default` for its own route.
#[utoipa::path(
    get, path = "/compat/waha/api/sessions", tag = "WAHA", operation_id = "wahaListSessions",
    params(
        ("all" = Option<String>, Query, description = "Ignored: there are no stopped sessions."),
        ("expand" = Option<Vec<String>>, Query, description = "Ignored: there are no apps."),
    ),
    responses((status = 200, description = "All sessions.", body = [WahaSession])),
)]
pub async fn sessions(
    State(app): State<App>,
    Caller(tenant): Caller,
) -> Result<Json<Vec<WahaSession>>, Problem> {
    let accounts = accounts(&app.gateway, &tenant).await?;
    Ok(Json(accounts.into_iter().map(WahaSession::from).collect()))
}

/// Read a session
#[utoipa::path(
    get, path = "/compat/waha/api/sessions/{session}", tag = "WAHA", operation_id = "wahaGetSession",
    params(
        ("session" = String, Path, description = "A connection, a route, or `default`."),
        ("expand" = Option<Vec<String>>, Query, description = "Ignored: there are no apps."),
    ),
    responses((status = 200, description = "The session.", body = WahaSession)),
)]
pub async fn session(
    State(app): State<App>,
    Caller(tenant): Caller,
    session: Result<Path<String>, PathRejection>,
) -> Result<Json<WahaSession>, Problem> {
    let name = parameter(session);
    let account = accounts(&app.gateway, &tenant).await?.into_iter().find(|account| account.name == name);
    account.map(|account| Json(account.into())).ok_or_else(|| absent(&name))
}

/// Audio: `data` or `url`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `convert` reads in the document")]
struct WahaSource {
    /// Base64 or a data URI.
    data: Option<String>,
    /// An http or https address.
    #[schema(examples("https://bot.example/greeting.mp3"))]
    url: Option<String>,
}

/// Converted audio.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `convert` writes in the document")]
struct WahaConverted {
    #[schema(examples("audio/ogg; codecs=opus"))]
    mimetype: String,
    /// Base64.
    data: String,
}

/// Convert audio to a voice note
///
/// The bytes themselves, or with `Accept: application/json` an object that has them as base64. Nothing is sent.
#[utoipa::path(
    post, path = "/compat/waha/api/{session}/media/convert/voice", tag = "WAHA", operation_id = "wahaConvertVoice",
    params(("session" = String, Path, description = "A connection, a route, or `default`.")),
    request_body(content((WahaSource = "application/json"))),
    responses((
        status = 200, description = "Ogg with Opus.",
        headers(("Content-Disposition" = String, description = "A file name, if these are the bytes themselves.")),
        content((WahaConverted = "application/json"), (Vec<u8> = "audio/ogg")),
    )),
)]
pub async fn convert(
    State(app): State<App>,
    Caller(tenant): Caller,
    session: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    via(&tenant, &parameter(session))?;
    let rendered = converter::convert(&app, &tenant, request, SOURCE, converter::VOICE).await?;
    let mime_type = rendered.sent.facts.mime_type.clone();
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Clients that take anything get the bytes, as in WAHA.
    let wants_json = accepted.contains("application/json") && !accepted.contains("audio/");
    let pieces = rendered.pieces().await?;
    if wants_json {
        let head = format!("{{\"mimetype\":{},\"data\":\"", json!(mime_type));
        return Ok(converter::with_base64(head, pieces, "\"}"));
    }
    let headers = [
        (header::CONTENT_TYPE, mime_type),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"output.opus\"".to_owned()),
    ];
    Ok((headers, converter::plain(pieces)).into_response())
}

#[derive(Serialize, ToSchema)]
pub struct WahaPong {
    #[schema(examples("pong"))]
    message: &'static str,
}

/// Check that the gateway answers
///
/// Needs no key.
#[utoipa::path(
    get, path = "/compat/waha/ping", tag = "WAHA", operation_id = "wahaPing",
    responses((status = 200, description = "It does.", body = WahaPong)),
)]
pub async fn ping() -> Json<WahaPong> {
    Json(WahaPong { message: "pong" })
}

#[derive(Serialize, ToSchema)]
pub struct WahaVersion {
    #[schema(examples("2026.7.1"))]
    version: &'static str,
    engine: &'static str,
    tier: &'static str,
    browser: &'static str,
    platform: String,
    worker: WahaWorker,
}

#[derive(Serialize, ToSchema)]
struct WahaWorker {
    #[schema(required)]
    id: Option<String>,
}

/// Read the version of the dialect
#[utoipa::path(
    get, path = "/compat/waha/api/server/version", tag = "WAHA", operation_id = "wahaServerVersion",
    responses((status = 200, description = "The version of WAHA whose answers these are.", body = WahaVersion)),
)]
pub async fn version(_: Caller) -> Json<WahaVersion> {
    Json(WahaVersion {
        version: VERSION,
        engine: ENGINE,
        tier: "CORE",
        browser: "",
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        worker: WahaWorker { id: None },
    })
}

/// A problem as WAHA shows it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `problem` makes in the document")]
#[schema(rename_all = "camelCase")]
pub struct WahaProblem {
    #[schema(examples(404))]
    status_code: u16,
    /// A text, or a list of texts if fields are wrong.
    #[schema(value_type = Value)]
    message: Value,
    #[schema(nullable = false, examples("Not Found"))]
    error: Option<String>,
}

pub fn problem(problem: &Problem) -> (StatusCode, Value) {
    let status = match problem.code {
        Code::UnknownConnection => StatusCode::NOT_FOUND,
        _ => super::status(problem, StatusCode::UNPROCESSABLE_ENTITY),
    };
    if status == StatusCode::UNAUTHORIZED {
        return (status, json!({ "statusCode": 401, "message": "Unauthorized" }));
    }
    let text = match problem.code {
        Code::NotFound => problem.detail.clone(),
        _ => problem.to_string(),
    };
    let message = if status == StatusCode::BAD_REQUEST { json!([text]) } else { json!(text) };
    let error = status.canonical_reason().unwrap_or("Error");
    (status, json!({ "statusCode": status.as_u16(), "message": message, "error": error }))
}
