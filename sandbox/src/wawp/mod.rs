//! Wawp, `POST /v2/send/voice`: <https://api.wawp.net/en/docs/v2/send/voice>, and the state of the session:
//! <https://api.wawp.net/en/docs/v2/session/info>.

mod hooks;

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

pub(crate) use hooks::Hook;

use self::hooks::acks;
use crate::audio::{self, AudioInfo, Kind, is_clean_opus};
use crate::emulator::{Emulator, Look};
use crate::faults::Operation;
use crate::fetch::{FetchError, Fetched, is_loopback};
use crate::hooks::Outgoing;
use crate::inbound::Note;
use crate::ledger::{LedgerEntry, redact, redact_query};
use crate::receipts::{ReceiptStatus, ReceiptStep};
use crate::whatsapp::{ME, VOICE_MIME, chat_of, is_jid, is_message_id, raw_id, received_id, voice_problems};
use crate::{Sandbox, state};

/// Largest file. Wawp documents no limit; WhatsApp itself takes 16 MB of audio.
const MAX_BYTES: usize = 20 * 1024 * 1024;
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// The emulator itself; what it remembers is in the sandbox's state.
pub(crate) struct Wawp;

impl Emulator for Wawp {
    fn name(&self) -> &'static str {
        "wawp"
    }

    fn look(&self) -> Look {
        Look {
            app: "WhatsApp",
            through: "through Wawp",
            to: "15551234567@c.us",
            bubble: "#d9fdd3",
            ink: "#111b21",
        }
    }

    fn router(&self, sandbox: &Sandbox) -> Router {
        router(sandbox)
    }

    fn classify(&self, _: &Method, path: &str) -> Operation {
        match path {
            "v2/send/voice" => Operation::Voice,
            "v2/session/info" => Operation::Session,
            "v2/session/webhook" | "v2/webhook/set" | "v2/webhook/delete" => Operation::Webhooks,
            path if path.starts_with("api/files/") => Operation::Media,
            _ => Operation::Other,
        }
    }

    fn scripted(&self, status: u16, _: Option<u64>) -> Response {
        scripted(status)
    }

    fn secrets<'a>(&self, sandbox: &'a Sandbox) -> Vec<&'a str> {
        vec![&sandbox.inner.options.wawp_access_token]
    }

    fn settings(&self, sandbox: &Sandbox, base_url: &str) -> Value {
        let options = &sandbox.inner.options;
        json!({
            "base_url": base_url,
            "instance_id": options.wawp_instance_id,
            "access_token": options.wawp_access_token,
        })
    }

    fn usual_receipts(&self, _: &LedgerEntry, _: bool) -> Vec<ReceiptStep> {
        vec![ReceiptStep::new(ReceiptStatus::Sent, 0), ReceiptStep::new(ReceiptStatus::Delivered, 300)]
    }

    fn says(&self, _: ReceiptStatus) -> bool {
        true
    }

    fn receipts(&self, sandbox: &Sandbox, entry: &LedgerEntry, step: &ReceiptStep, _: &str) -> Vec<Outgoing> {
        acks(sandbox, entry, step)
    }

    fn takes_inbound(&self) -> bool {
        true
    }

    fn receive(&self, _: &Sandbox, note: &mut Note) -> Result<(), String> {
        note.conversation = chat_of(note)?;
        note.message_id = received_id(note, &note.conversation, &format!("{}@c.us", note.digits()));
        Ok(())
    }

    fn inbound(&self, sandbox: &Sandbox, notes: &[Note]) -> Vec<Outgoing> {
        notes.iter().flat_map(|note| hooks::messages(sandbox, note)).collect()
    }
}

fn router(sandbox: &Sandbox) -> Router {
    Router::new()
        .route("/v2/send/voice", any(send_voice))
        .route("/v2/session/info", any(session_info))
        .route("/v2/session/webhook", any(hooks::session_webhook))
        .route("/v2/webhook/set", post(hooks::set))
        .route("/v2/webhook/delete", delete(hooks::delete))
        .route("/api/files/{name}", get(hooks::file))
        .fallback(unknown)
        .with_state(sandbox.clone())
}

/// `{"code", "message", "status", "error"}`
#[derive(Debug)]
struct WawpError {
    status: u16,
    code: &'static str,
    message: String,
}

impl WawpError {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "bad_request", message)
    }
}

impl IntoResponse for WawpError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({
            "code": self.code,
            "message": self.message,
            "status": self.status,
            "error": status.canonical_reason().unwrap_or("Error"),
        });
        (status, Json(body)).into_response()
    }
}

async fn unknown() -> WawpError {
    WawpError::new(404, "rest_no_route", "No route was found matching the URL and request method.")
}

/// A POST without credentials in its query. The real one takes GET as well, with everything in the query; its own
/// documents advise against it.
fn only_post(sandbox: &Sandbox, method: &Method, uri: &Uri) -> Result<(), WawpError> {
    let leaks = |query: &&str| query.contains("access_token") || query.contains("instance_id");
    if let Some(query) = uri.query().filter(leaks) {
        report_leak(sandbox, method, uri.path(), query);
        return Err(WawpError::bad(
            "voicegate sandbox: credentials in the URL end up in every log on the way. Send them in the JSON body.",
        ));
    }
    if method == Method::POST {
        return Ok(());
    }
    Err(WawpError::new(405, "method_not_allowed", "Use POST with a JSON body: a query ends up in logs."))
}

fn scripted(status: u16) -> Response {
    let (code, message) = match status {
        401 => ("invalid_token", "Invalid access_token"),
        403 => ("quota_reached", "Message quota reached"),
        404 => ("invalid_session", "Instance not found"),
        429 => ("too_many_requests", "Too many requests"),
        500.. => ("wawp_upstream_error", "The WhatsApp engine did not answer"),
        _ => ("bad_request", "Bad request"),
    };
    WawpError::new(status, code, message).into_response()
}

/// The JSON object of a request whose credentials are right.
fn authenticate(
    sandbox: &Sandbox,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Map<String, Value>, WawpError> {
    let options = &sandbox.inner.options;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = header("content-type")
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
    // A form-encoded body is not looked into, so its token is not seen either.
    let parsed = if is_json { serde_json::from_slice(body).ok() } else { None };
    if is_json && !matches!(parsed, Some(Value::Object(_))) {
        return Err(WawpError::bad("The request body is not a JSON object"));
    }
    let Some(Value::Object(map)) = parsed else {
        return Err(WawpError::new(401, "missing_token", "Missing access_token"));
    };
    let text = |name: &str| map.get(name).and_then(Value::as_str);
    match text("access_token").or(header("access-token")) {
        None => return Err(WawpError::new(401, "missing_token", "Missing access_token")),
        Some(token) if token != options.wawp_access_token => {
            return Err(WawpError::new(401, "invalid_token", "Invalid access_token"));
        }
        Some(_) => {}
    }
    match text("instance_id") {
        None => Err(WawpError::bad("Missing parameter(s): instance_id")),
        Some(id) if id != options.wawp_instance_id => {
            Err(WawpError::new(404, "invalid_session", "Instance not found or deleted"))
        }
        Some(_) => Ok(map),
    }
}

async fn session_info(
    State(sandbox): State<Sandbox>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, WawpError> {
    only_post(&sandbox, &method, &uri)?;
    let request = authenticate(&sandbox, &headers, &body)?;
    if let Some(name) = request.keys().find(|name| !matches!(name.as_str(), "instance_id" | "access_token")) {
        return Err(WawpError::bad(format!("Unknown parameter: {name}")));
    }
    Ok(Json(json!({
        "name": sandbox.inner.options.wawp_instance_id,
        "status": "WORKING",
        "me": { "id": ME, "pushName": "Sandbox" },
    })))
}

/// The fields of a valid request.
struct Voice {
    chat_id: String,
    url: Url,
    filename: String,
    mime_type: String,
    convert: bool,
    reply_to: Option<String>,
}

async fn send_voice(
    State(sandbox): State<Sandbox>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, WawpError> {
    only_post(&sandbox, &method, &uri)?;
    let request = authenticate(&sandbox, &headers, &body)?;
    let voice = read(&request)?;
    let fetched = sandbox.inner.fetcher.get(&voice.url, MAX_BYTES, FETCH_TIMEOUT).await;
    let fetched = fetched.map_err(|error| {
        let why = match error {
            FetchError::TooLarge => "the file is larger than 20 MB".to_owned(),
            FetchError::Failed(why) => why,
        };
        WawpError::new(500, "wawp_upstream_error", format!("Could not download file[url]: {why}"))
    })?;
    let info = audio::describe(&fetched.bytes);
    if voice.convert && matches!(info.kind, Kind::Unknown) {
        return Err(WawpError::new(400, "bad_format", "The file could not be converted to a voice note"));
    }

    let raw = raw_id();
    let message = message(&voice, &raw);
    let entry = LedgerEntry {
        id: Uuid::new_v4(),
        provider: "wawp",
        at: state::now(),
        conversation: voice.chat_id.clone(),
        to: vec![voice.chat_id.clone()],
        message_id: message["id"]["_serialized"].as_str().unwrap_or_default().to_owned(),
        form: "voice",
        service: None,
        via: "POST /v2/send/voice with a link that Wawp fetched".into(),
        filename: Some(voice.filename.clone()),
        mime_type: Some(voice.mime_type.clone()),
        size_bytes: fetched.bytes.len(),
        sha256: Some(hex::encode(Sha256::digest(&fetched.bytes))),
        problems: problems(&voice, &fetched, &info),
        audio: Some(info),
        text: None,
        reply_to: voice.reply_to,
        convert: Some(voice.convert),
        request: redact(&Value::Object(request), &sandbox.secrets()),
        receipts: Vec::new(),
    };
    sandbox.inner.deliver(entry.clone(), Some(fetched.bytes));
    sandbox.follow(&entry, false);
    Ok(Json(message))
}

/// The page shows the refusal, although no note was delivered.
fn report_leak(sandbox: &Sandbox, method: &Method, path: &str, query: &str) {
    let entry = LedgerEntry {
        id: Uuid::new_v4(),
        provider: "wawp",
        at: state::now(),
        conversation: String::new(),
        to: Vec::new(),
        message_id: String::new(),
        form: "refused",
        service: None,
        via: format!("{method} {path}, refused"),
        filename: None,
        mime_type: None,
        size_bytes: 0,
        sha256: None,
        audio: None,
        text: None,
        problems: vec![
            "The access token was sent in the URL, where every proxy and log on the way keeps it. Treat it as leaked."
                .into(),
        ],
        reply_to: None,
        convert: None,
        request: json!({ "query": redact_query(query, &sandbox.secrets()) }),
        receipts: Vec::new(),
    };
    sandbox.inner.deliver(entry, None);
}

fn read(request: &Map<String, Value>) -> Result<Voice, WawpError> {
    // Both spellings are in use: flat `"file[url]"` in the documents, nested in the vendor's own MCP server.
    let field = |name: &str| match request.get("file") {
        Some(file) => file.get(name),
        None => request.get(&format!("file[{name}]")),
    };
    let text = |name: &str, value: Option<&Value>| match value {
        None | Some(Value::Null) => Err(WawpError::bad(format!("Missing parameter(s): {name}"))),
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(WawpError::bad(format!("{name} must be a string"))),
    };
    let chat_id = text("chatId", request.get("chatId"))?;
    if !is_jid(&chat_id) {
        return Err(WawpError::bad("chatId must be a WhatsApp id: DIGITS@c.us, @g.us, @newsletter or @lid"));
    }
    let url = text("file[url]", field("url"))?;
    let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| WawpError::bad("file[url] must be a publicly accessible HTTPS URL"))?;
    let convert = match request.get("convert") {
        None | Some(Value::Null) => return Err(WawpError::bad("Missing parameter(s): convert")),
        Some(Value::Bool(convert)) => *convert,
        Some(_) => return Err(WawpError::bad("convert must be a boolean")),
    };
    let reply_to = match request.get("reply_to") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return Err(WawpError::bad("reply_to must be a string")),
    };
    let filename = text("file[filename]", field("filename"))?;
    let mime_type = text("file[mimetype]", field("mimetype"))?;
    Ok(Voice { chat_id, url, filename, mime_type, convert, reply_to })
}

/// Faults that the recipient's phone would show. Wawp itself passes such files on.
fn problems(voice: &Voice, fetched: &Fetched, info: &AudioInfo) -> Vec<String> {
    let mut problems = Vec::new();
    if voice.convert {
        // <https://api.wawp.net/en/docs/v2/send/voice> names these three.
        let named = matches!(info.kind, Kind::Mp3 | Kind::Adts | Kind::Mp4 | Kind::Wav);
        if !named && !is_clean_opus(info) {
            let short = info.short();
            problems.push(format!("Wawp promises to convert MP3, AAC and WAV; this is {short}."));
        }
        if info.kind != Kind::Ogg {
            problems.extend(info.faults.clone());
        }
    } else {
        problems.extend(voice_problems(info, &voice.mime_type));
    }
    let essence = |mime: &str| mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if let Some(served) = &fetched.content_type
        && essence(served) != essence(&voice.mime_type)
    {
        problems
            .push(format!("The link serves \"{served}\" while the request says \"{}\".", voice.mime_type));
    }
    if voice.url.scheme() != "https" && !is_loopback(&voice.url) {
        problems.push("The link is plain http: the real Wawp asks for public HTTPS.".into());
    }
    if voice.reply_to.as_deref().is_some_and(|id| !is_message_id(id)) {
        problems.push("reply_to is no WhatsApp message id (false_CHAT_ID): the quote would be lost.".into());
    }
    problems
}

/// The shape of whatsapp-web.js, which Wawp hands through. Empty lists are `{}` there, as in the vendor's sample.
fn message(voice: &Voice, raw: &str) -> Value {
    let chat = &voice.chat_id;
    let id = json!({
        "fromMe": true,
        "remote": chat,
        "id": raw,
        "_serialized": format!("true_{chat}_{raw}"),
    });
    let wid = |jid: &str| {
        let (user, server) = jid.rsplit_once('@').unwrap_or((jid, ""));
        json!({ "server": server, "user": user, "_serialized": jid })
    };
    let seconds = state::clock().as_second();
    json!({
        "_data": {
            "id": id,
            "viewed": false,
            "type": "ptt",
            "t": seconds,
            "from": wid(ME),
            "to": wid(chat),
            "ack": 0,
            "isNewMsg": true,
            "mimetype": VOICE_MIME,
            "mentionedJidList": {},
            "labels": {},
            "links": {},
        },
        "mediaKey": hex::encode(Sha256::digest(raw)),
        "id": id,
        "ack": 0,
        "hasMedia": true,
        "body": "",
        "type": "ptt",
        "timestamp": seconds,
        "from": ME,
        "to": chat,
        "deviceType": "android",
        "isForwarded": false,
        "forwardingScore": 0,
        "isStatus": false,
        "isStarred": false,
        "fromMe": true,
        "hasQuotedMsg": voice.reply_to.is_some(),
        "hasReaction": false,
        "vCards": {},
        "mentionedIds": {},
        "groupMentions": {},
        "isGif": false,
        "links": {},
    })
}
