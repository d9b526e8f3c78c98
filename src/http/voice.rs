//! `POST /voice`: a request becomes a note, or a problem that says what to do.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    REPLAYED,
    auth::Caller,
    body::{Incoming, QueryFields, VoiceBody, too_large},
};
use crate::{
    audio::Hints,
    delivery::{VoiceRequest, accept::accept},
    gateway::Gateway,
    note::Note,
    problem::Problem,
};

/// The longest that a request waits for its note.
const MAX_WAIT: u64 = 60;

pub async fn send(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let key = idempotency_key(&parts.headers)?;
    let wait = preferred_wait(&parts.headers);
    let request = read(&gateway, &parts.headers, parts.uri.query().unwrap_or_default(), body, key).await?;
    let mut changes = gateway.changes();
    let receipt = accept(&gateway, &tenant, request).await?;
    let mut note = receipt.note;
    if let Some(wait) = wait {
        // A gateway that is to stop says at once how far the note is.
        let settled = gateway.stop.run_until_cancelled(settled(&gateway, &mut changes, &note));
        if let Ok(Some(latest)) = tokio::time::timeout(wait, settled).await {
            note = latest?;
        } else if let Some(latest) = gateway.store.note(note.id, None).await? {
            note = latest;
        }
    }
    Ok(answer(note, receipt.replayed, wait))
}

/// Reads whichever body came.
async fn read(
    gateway: &Gateway,
    headers: &HeaderMap,
    query: &str,
    body: Body,
    idempotency_key: Option<String>,
) -> Result<VoiceRequest, Problem> {
    let live = gateway.live();
    let (server, audio) = (&live.config.server, &live.config.audio);
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let incoming = |limit: u64| {
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit) { Err(too_large(limit)) } else { Ok(limit) }
    };
    if essence == "application/json" {
        let limit = incoming(server.max_json_body.0)?;
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let _held = gateway.hold_memory(length.unwrap_or(limit))?;
        let json = Incoming::new(body, limit, server.body_timeout.0).all().await?;
        let VoiceBody { to, audio: source, fields } = VoiceBody::read(&json)?;
        let (source, hints) = source.into_input(&gateway.media, audio.max_bytes.0).await?;
        return Ok(fields.into_request(to, source, hints, idempotency_key));
    }
    if essence.starts_with("audio/") || essence == "application/octet-stream" {
        let QueryFields { to, filename, format, fields } = QueryFields::parse(query)?;
        let limit = incoming(server.max_body.0.min(audio.max_bytes.0))?;
        let source = Incoming::new(body, limit, server.body_timeout.0).file(&gateway.media).await?;
        let hints = Hints { filename, mime_type: Some(content_type.to_owned()), format };
        return Ok(fields.into_request(to, source, hints, idempotency_key));
    }
    let detail = "send JSON with Content-Type: application/json, or the audio itself as audio/* or \
                  application/octet-stream";
    Err(Problem::new("unsupported_media_type", detail).stage("request").field("Content-Type"))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    key.map(|key| Some(key.to_owned()))
        .ok_or_else(|| Problem::invalid("Idempotency-Key", "expected 1 to 255 visible ASCII characters"))
}

/// `Prefer: wait=N` (RFC 7240). What cannot be understood is ignored, as the RFC asks.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").into_iter().filter_map(|value| value.to_str().ok());
    preferences.flat_map(|value| value.split(',')).find_map(|preference| {
        let (name, seconds) = preference.split(';').next()?.split_once('=')?;
        let seconds = seconds.trim().trim_matches('"').parse::<u64>().ok()?;
        name.trim().eq_ignore_ascii_case("wait").then(|| Duration::from_secs(seconds.min(MAX_WAIT)))
    })
}

/// Waits until the note is accepted or has failed.
async fn settled(
    gateway: &Gateway,
    changes: &mut tokio::sync::broadcast::Receiver<crate::note::NoteId>,
    note: &Note,
) -> Result<Note, Problem> {
    let mut latest = note.clone();
    loop {
        if latest.status.is_accepted() || latest.status.is_failure() {
            return Ok(latest);
        }
        // A receiver that fell behind may have missed the note: look again, too. The second is for changes that
        // another process made.
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            while changes.recv().await.is_ok_and(|id| id != note.id) {}
        })
        .await;
        match gateway.store.note(note.id, None).await? {
            Some(note) => latest = note,
            None => return Ok(latest),
        }
    }
}

fn answer(note: Note, replayed: bool, wait: Option<Duration>) -> Response {
    let failure = note.error.clone().filter(|_| wait.is_some() && note.status.is_failure());
    let mut response = match failure {
        Some(problem) => problem.into_response(),
        None => {
            let done = wait.is_some() && note.status.is_accepted();
            let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
            (status, Json(note.view())).into_response()
        }
    };
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/voice/{}", note.id)) {
        headers.insert(header::LOCATION, location);
    }
    if replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    if let Some(wait) = wait
        && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", wait.as_secs()))
    {
        headers.insert("preference-applied", applied);
    }
    response
}
