//! The inbox page and the control API under `/sandbox`.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, RANGE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use crate::linq::NewChat;
use crate::receipts::ReceiptStatus;
use crate::state::Event;
use crate::{Fault, Inbound, Sandbox, audio::describe, emulator};

/// Largest order of a note that is sent in: base64 of its audio.
const MAX_ORDER: usize = 96 * 1024 * 1024;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
/// The page loads its own two files and the audio of notes, and nothing from another host.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                           media-src 'self' blob:; img-src data:; base-uri 'none'; form-action 'none'";

pub(crate) fn router(sandbox: &Sandbox) -> Router {
    Router::new()
        .route("/", get(async || ([(CONTENT_SECURITY_POLICY, PAGE_POLICY)], Html(PAGE))))
        .route("/sandbox/page.css", get(async || ([(CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)))
        .route("/sandbox/page.js", get(async || ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)))
        .route("/sandbox/emulators", get(emulators))
        .route("/sandbox/ledger", get(ledger))
        .route("/sandbox/ledger/{id}/audio", get(audio))
        .route("/sandbox/ledger/{id}/request", get(request))
        .route("/sandbox/requests", get(requests))
        .route("/sandbox/faults", get(faults).post(add_faults).delete(drop_faults))
        .route("/sandbox/callbacks", get(callbacks))
        .route("/sandbox/receipts", get(rules).post(add_rules).delete(drop_rules))
        .route("/sandbox/ledger/{id}/receipts", post(tell))
        .route("/sandbox/inbound", get(sent_in).post(send_in).layer(DefaultBodyLimit::max(MAX_ORDER)))
        .route("/sandbox/inbound/{id}/audio", get(sent_in_audio))
        .route("/sandbox/chats", get(chats).post(add_chat))
        .route("/sandbox/idle", post(close_idle))
        .route("/sandbox/clear", post(clear))
        .route("/sandbox/events", get(events))
        .with_state(sandbox.clone())
}

async fn ledger(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({ "items": sandbox.ledger() }))
}

/// The emulators that answer.
async fn emulators(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({ "items": emulator::listed(&sandbox) }))
}

/// The request that brought an entry of the ledger, with its answer.
async fn request(State(sandbox): State<Sandbox>, Path(id): Path<Uuid>) -> Result<Json<Value>, StatusCode> {
    let state = sandbox.inner.lock();
    state.request_of(&id).map(|log| Json(json!(log))).ok_or(StatusCode::NOT_FOUND)
}

async fn requests(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({ "items": sandbox.requests() }))
}

async fn faults(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({ "items": sandbox.inner.lock().faults }))
}

async fn chats(State(sandbox): State<Sandbox>) -> Json<Value> {
    let state = sandbox.inner.lock();
    let chats: Vec<Value> = state.chats.iter().map(|chat| chat.summary()).collect();
    Json(json!({ "items": chats }))
}

/// An invalid body is answered with an explanation, because these requests are typed by hand.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, (StatusCode, Json<Value>)> {
    serde_json::from_slice(body).map_err(|error| refused(error.to_string()))
}

/// One item or several. This is parsed by hand, because an untagged enum would hide which field is wrong.
fn one_or_more<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, (StatusCode, Json<Value>)> {
    if body.trim_ascii_start().starts_with(b"[") { parse(body) } else { Ok(vec![parse(body)?]) }
}

fn refused(why: String) -> (StatusCode, Json<Value>) {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": why })))
}

async fn add_faults(
    State(sandbox): State<Sandbox>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), (StatusCode, Json<Value>)> {
    let faults = one_or_more::<Fault>(&body)?;
    faults.iter().try_for_each(Fault::check).map_err(refused)?;
    for fault in faults {
        sandbox.add_fault(fault);
    }
    Ok((StatusCode::CREATED, Json(json!({ "items": sandbox.inner.lock().faults }))))
}

async fn callbacks(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({ "items": sandbox.callbacks() }))
}

async fn rules(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({ "items": sandbox.inner.lock().rules }))
}

async fn add_rules(
    State(sandbox): State<Sandbox>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), (StatusCode, Json<Value>)> {
    for rule in one_or_more(&body)? {
        sandbox.add_receipt_rule(rule);
    }
    Ok((StatusCode::CREATED, Json(json!({ "items": sandbox.inner.lock().rules }))))
}

async fn drop_rules(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.inner.lock().rules.clear();
    StatusCode::NO_CONTENT
}

/// Answers after the registered addresses have answered.
async fn tell(
    State(sandbox): State<Sandbox>,
    Path(id): Path<Uuid>,
    body: Bytes,
) -> Result<StatusCode, (StatusCode, Json<Value>)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Told {
        status: ReceiptStatus,
    }
    let Told { status } = parse(&body)?;
    if !sandbox.ledger().iter().any(|entry| entry.id == id) {
        return Err((
            StatusCode::NOT_FOUND,
            Json(json!({ "error": "there is no such entry in the ledger" })),
        ));
    }
    if sandbox.receipt(id, status).await {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(refused("this provider never says that of a message, or nothing was delivered".into()))
}

async fn sent_in(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({ "items": sandbox.sent_in() }))
}

/// Sends a voice note in. Answers after the registered addresses have answered.
async fn send_in(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), (StatusCode, Json<Value>)> {
    let order: Inbound = parse(&body)?;
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or("127.0.0.1");
    let sent = sandbox.send_in(&format!("http://{host}"), order).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(json!(sent))))
}

async fn sent_in_audio(State(sandbox): State<Sandbox>, Path(id): Path<Uuid>) -> Response {
    let Some(bytes) = sandbox.sent_in_audio(&id) else { return StatusCode::NOT_FOUND.into_response() };
    let kind = describe(&bytes).kind.playback_mime();
    let headers = [(CONTENT_TYPE, kind), (HeaderName::from_static("x-content-type-options"), "nosniff")];
    (headers, bytes).into_response()
}

async fn drop_faults(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.inner.lock().faults.clear();
    StatusCode::NO_CONTENT
}

async fn add_chat(
    State(sandbox): State<Sandbox>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), (StatusCode, Json<Value>)> {
    let chat: NewChat = parse(&body)?;
    if chat.handles.is_empty() {
        return Err(refused("a chat needs at least one handle".into()));
    }
    Ok((StatusCode::CREATED, Json(json!({ "id": sandbox.add_chat(chat) }))))
}

/// `{"ms": 5}` closes connections that are idle for that long, `{"ms": null}` none.
async fn close_idle(
    State(sandbox): State<Sandbox>,
    body: Bytes,
) -> Result<StatusCode, (StatusCode, Json<Value>)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Idle {
        ms: Option<u64>,
    }
    let Idle { ms } = parse(&body)?;
    sandbox.close_idle_after(ms.map(Duration::from_millis));
    Ok(StatusCode::NO_CONTENT)
}

async fn clear(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.clear();
    StatusCode::NO_CONTENT
}

/// Event names: `entry` (a ledger entry), `receipts` (all receipts of an entry), `inbound` (a note that a person sent in),
/// `cleared`, `reload` (events were lost: read the ledger again).
async fn events(
    State(sandbox): State<Sandbox>,
) -> Sse<impl Stream<Item = Result<sse::Event, std::convert::Infallible>>> {
    let receiver = sandbox.inner.events.subscribe();
    let events = stream::unfold(receiver, async |mut receiver| {
        let event = match receiver.recv().await {
            Ok(Event::Entry(entry)) => {
                let data = serde_json::to_string(&entry).unwrap_or_default();
                sse::Event::default().event("entry").data(data)
            }
            Ok(Event::Receipts(id, receipts)) => {
                let data = json!({ "id": id, "receipts": receipts }).to_string();
                sse::Event::default().event("receipts").data(data)
            }
            Ok(Event::SentIn(sent)) => {
                let data = serde_json::to_string(&sent).unwrap_or_default();
                sse::Event::default().event("inbound").data(data)
            }
            Ok(Event::Cleared) => sse::Event::default().event("cleared").data("{}"),
            Err(RecvError::Lagged(_)) => sse::Event::default().event("reload").data("{}"),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), receiver))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn audio(State(sandbox): State<Sandbox>, Path(id): Path<Uuid>, headers: HeaderMap) -> Response {
    let Some(bytes) = sandbox.audio(&id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let kind = {
        let state = sandbox.inner.lock();
        let entry = state.ledger.iter().find(|entry| entry.id == id);
        entry.and_then(|entry| entry.audio.as_ref()).map(|audio| audio.kind).unwrap_or_default()
    };
    // The bytes come from the sender; the browser must not interpret them as a page.
    let common = [
        (CONTENT_TYPE, kind.playback_mime()),
        (ACCEPT_RANGES, "bytes"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ];
    let wanted = headers.get(RANGE).and_then(|value| value.to_str().ok());
    match wanted.and_then(|text| range(text, bytes.len())) {
        None => (common, bytes).into_response(),
        Some(Err(())) => {
            let size = format!("bytes */{}", bytes.len());
            (StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, size)]).into_response()
        }
        Some(Ok((start, end))) => {
            let position = format!("bytes {start}-{}/{}", end - 1, bytes.len());
            (StatusCode::PARTIAL_CONTENT, common, [(CONTENT_RANGE, position)], bytes.slice(start..end))
                .into_response()
        }
    }
}

/// Parses one range, RFC 9110 section 14. `None`: ignore the header; `Err`: the range is empty.
fn range(text: &str, size: usize) -> Option<Result<(usize, usize), ()>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.is_empty(), last.is_empty()) {
        (true, true) => return None,
        (true, false) => (size.saturating_sub(last.parse().ok()?), size),
        (false, true) => (first.parse().ok()?, size),
        (false, false) => (first.parse().ok()?, last.parse::<usize>().ok()?.checked_add(1)?.min(size)),
    };
    Some(if start < end { Ok((start, end)) } else { Err(()) })
}
