//! Wawp, version 2. <https://api.wawp.net/en/docs/v2>

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Account, Fields, Shape, Wishes, accounts, foreign, named, take, waha::WahaDataId};
use crate::{
    config::Tenant,
    gateway::Gateway,
    http::{App, auth},
    media::AudioInput,
    model::{
        code::{Code, Stage},
        note::Note,
        problem::Problem,
    },
    view::dialects::{message_id, recipient, waha_ack, waha_chat},
};

/// The fields of the file are flat or nested.
const FILE: Shape = Shape {
    members: &[&["file", "data"], &["file", "url"], &["file[data]"], &["file[url]"]],
    texts: &["file[data]", "file[url]"],
    files: &["file"],
};

const HOW: &str = "send the key of the tenant as `access_token` in a JSON body of at most 64 KiB, or in the header \
                   `access-token`";

/// A request whose tenant is known, with the parameters of its query.
struct Admitted {
    tenant: Arc<Tenant>,
    query: Map<String, Value>,
    request: Request,
}

/// Finds the tenant by the key, which is in a header, in the query or in the body. A body is looked into only if it is
/// small, since it is not known yet whose memory it takes.
async fn admit(app: &App, request: Request) -> Result<Admitted, Problem> {
    let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let mut query: Map<_, _> =
        query.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect();
    // Wawp's client for Python names the instance in a header, where its other clients use a field.
    if let Some(instance) = request.headers().get("x-instance-id").and_then(|name| name.to_str().ok()) {
        query.entry("instance_id").or_insert_with(|| instance.trim().into());
    }
    let outside = in_headers(request.headers())
        .or_else(|| query.get("access_token").and_then(Value::as_str).map(str::to_owned));
    let (request, key) = match outside {
        Some(key) => (request, Some(key)),
        None => {
            let (request, fields) = foreign::look_into(app, request)
                .await
                .map_err(|problem| if problem.status == 413 { unnamed() } else { problem })?;
            (request, Fields(fields).text(&["access_token"]))
        }
    };
    let tenant = auth::tenant(app, request.extensions(), key.as_deref(), HOW).await?;
    Ok(Admitted { tenant, query, request })
}

fn unnamed() -> Problem {
    Problem::new(Code::Unauthorized, HOW).stage(Stage::Request)
}

fn in_headers(headers: &HeaderMap) -> Option<String> {
    let own = headers.get("access-token").and_then(|key| key.to_str().ok()).map(str::trim);
    let bearer = || headers.get(AUTHORIZATION).and_then(|_| auth::bearer(headers));
    own.or_else(bearer).map(str::to_owned)
}

/// A voice note. `file` may also be flat: `"file[url]"`, `"file[filename]"`, `"file[mimetype]"`. Other fields are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct WawpVoice {
    /// A connection or a route; any other text stands for the tenant's route.
    instance_id: Option<String>,
    /// The key of the tenant, unless it is in the header `access-token`.
    access_token: Option<String>,
    /// An id with an `@`, or digits with the country code. A `to` of `POST /voice` is understood as well.
    #[schema(rename = "chatId", examples("15551234567@c.us"))]
    chat_id: String,
    file: Option<WawpFile>,
    /// Ignored: audio is converted where the provider needs it, and left as it is otherwise.
    #[schema(value_type = Option<Value>)]
    convert: Option<Value>,
    /// The id of the message that this one answers.
    #[schema(examples("true_15551234567@c.us_vn_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41"))]
    reply_to: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `send` reads in the document")]
struct WawpFile {
    /// An http or https address, base64 or a data URI.
    #[schema(examples("https://bot.example/greeting.mp3"))]
    url: String,
    /// A hint for audio whose bytes alone do not say what it is.
    #[schema(examples("greeting.mp3"))]
    filename: Option<String>,
    /// Also a hint.
    #[schema(examples("audio/mpeg"))]
    mimetype: Option<String>,
}

/// A message as whatsapp-web.js shows it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WawpMessage {
    id: WahaDataId,
    /// 0 as long as WhatsApp's server has not acknowledged the message, or its fate is not known.
    #[schema(examples(0))]
    ack: i8,
    has_media: bool,
    body: String,
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    kind: &'static str,
    /// Seconds since 1970.
    timestamp: i64,
    from: String,
    #[schema(examples("15551234567@c.us"))]
    to: String,
    from_me: bool,
    #[serde(rename = "_data")]
    #[schema(rename = "_data")]
    data: WawpData,
}

#[derive(Serialize, ToSchema)]
struct WawpData {
    id: WahaDataId,
}

impl WawpMessage {
    fn of(instance: &str, note: &Note) -> Self {
        Self {
            id: WahaDataId::of(note),
            ack: waha_ack(note.status).0,
            has_media: true,
            body: String::new(),
            kind: "ptt",
            timestamp: note.created_at.as_second(),
            from: instance.to_owned(),
            to: waha_chat(&note.to),
            from_me: true,
            data: WawpData { id: WahaDataId::of(note) },
        }
    }
}

/// Send a voice note
///
/// Answers when the provider has accepted the note, or with `ack` 0 after `dialects.wait`.
#[utoipa::path(
    post, path = "/compat/wawp/v2/send/voice", tag = "Wawp", operation_id = "wawpSendVoice",
    request_body(content((WawpVoice = "application/json"))),
    responses((status = 200, description = "The note was accepted, and certainly has not failed.", body = WawpMessage)),
)]
pub async fn send(State(app): State<App>, request: Request) -> Result<Json<WawpMessage>, Problem> {
    let Admitted { tenant, query, request } = admit(&app, request).await?;
    let mut order = take(&app, &tenant, request, FILE).await?;
    // Some clients send every field in the query.
    for (name, value) in query {
        order.fields.0.entry(name).or_insert(value);
    }
    let fields = &order.fields;
    if order.audio.is_none() {
        let url = fields.text(&["file[url]"]).filter(|url| url.starts_with("http"));
        order.audio = url.map(|url| AudioInput::Url { url, headers: Default::default() });
    }
    let fields = &order.fields;
    let missing = |field: &str| Problem::invalid(field, format!("Missing parameter(s): {field}"));
    let chat = fields.text(&["chatId"]).ok_or_else(|| missing("chatId"))?;
    if order.audio.is_none() {
        return Err(missing("file[url]"));
    }
    let instance = fields.text(&["instance_id"]).unwrap_or_default();
    let wishes = Wishes {
        to: recipient(&chat),
        via: named(&tenant, &instance),
        reply_to: fields.text(&["reply_to"]).map(|id| message_id(&id)),
        mime_type: fields.first(&[&["file", "mimetype"], &["file[mimetype]"]]),
        filename: fields.first(&[&["file", "filename"], &["file[filename]"]]),
        ..Wishes::default()
    };
    let note = order.send(&app, &tenant, wishes).await?;
    Ok(Json(WawpMessage::of(&instance, &note)))
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `info` reads in the document")]
struct WawpInstance {
    /// A connection or a route; any other text stands for the tenant's route.
    instance_id: Option<String>,
    /// The key of the tenant, unless it is in the header `access-token`.
    access_token: Option<String>,
}

/// A connection or a route, as Wawp shows a session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WawpSession {
    name: String,
    /// `WORKING`, or `FAILED` while the account or its provider fails.
    status: &'static str,
    me: WawpMe,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WawpMe {
    /// The session, since the account's own number is not known.
    id: String,
    push_name: String,
}

/// Read the state of a session
#[utoipa::path(
    post, path = "/compat/wawp/v2/session/info", tag = "Wawp", operation_id = "wawpSessionInfo",
    request_body(content((WawpInstance = "application/json"))),
    responses((status = 200, description = "The session.", body = WawpSession)),
)]
pub async fn info(State(app): State<App>, request: Request) -> Result<Json<WawpSession>, Problem> {
    let Admitted { tenant, query, request } = admit(&app, request).await?;
    let foreign = foreign::read(&app, &tenant.name, request, FILE).await?;
    let mut fields = foreign.fields;
    for (name, value) in query {
        fields.entry(name).or_insert(value);
    }
    session(&app.gateway, &tenant, &Fields(fields)).await
}

/// Read the state of a session by its query
///
/// A query is written to the logs of proxies, so the key is better sent in the header `access-token`.
#[utoipa::path(
    get, path = "/compat/wawp/v2/session/info", tag = "Wawp", operation_id = "wawpSessionInfoByQuery",
    params(
        ("instance_id" = Option<String>, Query, description = "A connection or a route; any other text stands for the tenant's route."),
        ("access_token" = Option<String>, Query, description = "The key of the tenant, unless it is in the header `access-token`."),
    ),
    responses((status = 200, description = "The session.", body = WawpSession)),
)]
pub async fn info_by_query(State(app): State<App>, request: Request) -> Result<Json<WawpSession>, Problem> {
    let Admitted { tenant, query, .. } = admit(&app, request).await?;
    session(&app.gateway, &tenant, &Fields(query)).await
}

async fn session(gateway: &Gateway, tenant: &Tenant, fields: &Fields) -> Result<Json<WawpSession>, Problem> {
    let name = fields.text(&["instance_id"]).unwrap_or_default();
    let known = accounts(gateway, tenant).await?;
    // The first account is the tenant's own route.
    let account = known.iter().find(|account| account.name == name).or(known.first());
    let works = account.is_some_and(|account: &Account| account.works);
    let me = WawpMe { id: name.clone(), push_name: name.clone() };
    Ok(Json(WawpSession { name, status: if works { "WORKING" } else { "FAILED" }, me }))
}

/// A problem as Wawp shows it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `problem` makes in the document")]
pub struct WawpProblem {
    #[schema(examples("bad_request"))]
    code: String,
    message: String,
    #[schema(examples(400))]
    status: u16,
    #[schema(examples("Bad Request"))]
    error: String,
}

pub fn problem(problem: &Problem) -> (StatusCode, Value) {
    let status = match problem.code {
        Code::UnknownConnection => StatusCode::NOT_FOUND,
        _ => super::status(problem, StatusCode::BAD_REQUEST),
    };
    let code = match (status.as_u16(), &problem.code) {
        (401, _) => "invalid_token",
        (404, Code::UnknownConnection) => "invalid_session",
        (429, _) => "too_many_requests",
        (_, code) => code.as_str(),
    };
    let error = status.canonical_reason().unwrap_or("Error");
    let body = json!({ "code": code, "message": problem.detail, "status": status.as_u16(), "error": error });
    (status, body)
}
