//! `POST /voice`: a request becomes a note, or a problem that says what to do.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    REPLAYED,
    auth::Caller,
    body::{self, Submission},
    notes::find,
};
use crate::{
    delivery::{VoiceRequest, accept::accept, resend},
    gateway::Gateway,
    note::{ConvertChoice, Note},
    problem::Problem,
};

/// The longest that a request waits for its note.
pub(super) const MAX_WAIT: u64 = 60;

/// The fields beside the audio.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VoiceFields {
    to: String,
    via: Option<String>,
    #[serde(default, deserialize_with = "body::choice")]
    convert: Option<ConvertChoice>,
    reply_to: Option<String>,
    text: Option<String>,
    #[serde(default)]
    strict: bool,
    #[serde(default, deserialize_with = "body::time")]
    send_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "body::span")]
    expires_in: Option<Duration>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

impl Submission<VoiceFields> {
    fn into_request(self, idempotency_key: Option<String>) -> VoiceRequest {
        let VoiceFields { to, via, convert, reply_to, text, strict, send_at, expires_in, metadata } =
            self.fields;
        let (audio, hints) = (self.audio, self.hints);
        VoiceRequest {
            to,
            audio,
            hints,
            via,
            convert,
            reply_to,
            text,
            strict,
            send_at,
            expires_in,
            metadata,
            idempotency_key,
        }
    }
}

/// `POST /voice`
pub async fn send(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Response, Problem> {
    let key = idempotency_key(request.headers())?;
    let wait = preferred_wait(request.headers());
    let submission = body::read::<VoiceFields>(&gateway, request).await?;
    let request = submission.into_request(key);
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

/// `POST /voice/{id}/resend`
pub async fn resend(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let original = find(&gateway, &tenant, id).await?;
    let receipt = resend::resend(&gateway, original, key).await?;
    Ok(answer(receipt.note, receipt.replayed, None))
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    key.map(|key| Some(key.to_owned()))
        .ok_or_else(|| Problem::invalid("Idempotency-Key", "expected 1 to 255 visible ASCII characters"))
}

/// `Prefer: wait=N` (RFC 7240). What cannot be understood is ignored, as the RFC asks.
pub(super) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
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
