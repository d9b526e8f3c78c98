//! `POST /voice`: turns a request into a note, or into a problem that says what to do.

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
use utoipa::ToSchema;
use voicegate_providers::Degrade;

use super::{
    App, REPLAYED,
    auth::Caller,
    body::{self, Submission},
    notes::find,
    openapi::{Bytes, VoiceForm, VoiceRequestBody},
    room,
};
use crate::{
    delivery::{VoiceRequest, accept::accept, resend},
    gateway::{Gateway, changes::Watch},
    http::memory::Holding,
    model::{
        note::{ConvertChoice, Note, NoteId, Status, TextAs},
        problem::Problem,
    },
    view::{
        VoiceNote,
        grammar::{Recipient, Span},
        schema::{ConvertWish, Substitute},
    },
};

/// The longest time that a request waits for its note.
pub(super) const MAX_WAIT: u64 = 60;

/// How often a waiting request reads its note without having been notified of a change.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The fields besides the audio.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VoiceFields {
    #[schema(value_type = Recipient)]
    to: String,
    /// A connection or a route. Default: the route of the tenant.
    #[schema(examples("imessage"))]
    via: Option<String>,
    #[serde(default, deserialize_with = "body::choice")]
    #[schema(value_type = Option<ConvertWish>)]
    convert: Option<ConvertChoice>,
    /// The note that this one answers: its `vn_` id, or the provider's own id of a message. If the provider does not
    /// support replies, the note is sent as a message of its own, with a warning.
    #[schema(examples("true_15551234567@c.us_3EB0A1B2C3D4E5F6"))]
    reply_to: Option<String>,
    /// The words of the note as a text. `text_as` says when it is shown.
    #[schema(examples("Your parcel is here."))]
    text: Option<String>,
    /// `fallback`: the text is shown only where no form with sound is left, which `degrade` has to allow. `caption`: it is
    /// shown beside the note, too, where the provider can; a longer one than the provider takes is cut.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Option<TextAs>, default = "fallback")]
    text_as: TextAs,
    /// Forms that may replace a voice bubble that is not possible. An empty list: a voice note or nothing. Default: what the
    /// connection's configuration says.
    #[serde(default, deserialize_with = "body::degrade")]
    #[schema(value_type = Option<Vec<Substitute>>, examples(json!(["audio", "text"])))]
    degrade: Option<Degrade>,
    /// Refuse the request instead of giving a warning.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Option<bool>, default = false)]
    strict: bool,
    /// Do not send before this time. At most one year ahead; a time in the past means at once.
    #[serde(default, deserialize_with = "body::time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    send_at: Option<Timestamp>,
    /// Give up if the note could not be sent within this time. Default: `delivery.expires_in`.
    #[serde(default, deserialize_with = "body::span")]
    #[schema(value_type = Option<Span>)]
    expires_in: Option<Duration>,
    /// Your own data, at most 4 KiB as JSON and 16 levels deep, including the object itself. It is returned in every
    /// answer, and its numbers keep all their digits.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Option<Object>, examples(json!({ "order": 7 })))]
    #[expect(dead_code, reason = "judged here; kept in the submission, where numbers keep their digits")]
    metadata: Map<String, Value>,
}

impl Submission<VoiceFields> {
    /// The request, and the memory that is reserved for its fields.
    pub(super) fn into_request(self, idempotency_key: Option<String>) -> (VoiceRequest, Holding) {
        let VoiceFields {
            to,
            via,
            convert,
            reply_to,
            text,
            text_as,
            degrade,
            strict,
            send_at,
            expires_in,
            metadata: _,
        } = self.fields;
        let Self { audio, hints, metadata, held, .. } = self;
        let request = VoiceRequest {
            to,
            audio,
            hints,
            via,
            convert,
            reply_to,
            text,
            text_as,
            degrade,
            strict,
            send_at,
            expires_in,
            metadata,
            idempotency_key,
        };
        (request, held)
    }
}

/// Send a voice note
///
/// After the answer 202 the note is on disk and will be sent; no crash loses it. Audio in the request is read at once;
/// a URL is downloaded afterwards. Repeat a request after no answer, 429, 500, 503 or 507 with the same
/// `Idempotency-Key`: it never becomes a second note.
#[utoipa::path(
    post, path = "/voice", tag = "Voice notes", operation_id = "sendVoice",
    params(
        (
            "Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
            pattern = "^[!-~]([ -~]*[!-~])?$", example = "order-7-greeting",
            description = "A text of your own that is unique to this note, remembered for 24 hours. The same key with the \
                           same request is answered with the note that already exists.",
        ),
        (
            "Prefer" = Option<String>, Header, example = "wait=10",
            description = "`wait=N` (RFC 7240): answer when the note is accepted or has failed, or after N seconds, at \
                           most 60. Anything else is ignored.",
        ),
    ),
    request_body(
        description = "The note in one of three forms, all equivalent. Unknown fields are refused by name. \
                       All fields together, without the audio, may have 64 KiB.",
        content(
            (VoiceRequestBody = "application/json"),
            (VoiceForm = "multipart/form-data"),
            (inline(Bytes) = "audio/*"),
            (inline(Bytes) = "video/*"),
            (inline(Bytes) = "application/ogg"),
            (inline(Bytes) = "application/octet-stream"),
            (inline(Bytes) = "binary/octet-stream"),
        ),
    ),
    responses(
        (status = 200, description = "With `Prefer: wait`: the provider has accepted the note.", body = VoiceNote),
        (
            status = 202, body = VoiceNote,
            description = "The note is stored on disk and will be sent. With `Prefer: wait`: its result is not known yet.",
        ),
    ),
)]
pub async fn send(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Response, Problem> {
    let gateway = &*app.gateway;
    gateway.open_for_work()?;
    let key = idempotency_key(request.headers())?;
    let wait = preferred_wait(request.headers());
    let expected = room::expect(gateway, &tenant, request.headers(), key.as_deref()).await?;
    let submission = body::read::<VoiceFields>(&app, &tenant.name, request).await?;
    drop(expected); // the size is known now
    let (request, held) = submission.into_request(key);
    let receipt = accept(gateway, &tenant, request).await?;
    drop(held);
    let mut note = receipt.note;
    if let Some(wait) = wait {
        // A gateway that is about to stop answers at once with the current state of the note.
        let settled = gateway.stop.run_until_cancelled(settled(gateway, &note, receipt.changes));
        if let Ok(Some(latest)) = tokio::time::timeout(wait, settled).await {
            note = latest?;
        } else if let Some(latest) = gateway.store.note(note.id, None).await? {
            note = latest;
        }
    }
    Ok(answer(note, receipt.replayed, wait))
}

/// Send a note again
///
/// For a note that failed, expired, was canceled, or whose outcome is unknown: a new note with the same audio and
/// fields is sent at once. If the outcome is unknown, the recipient may get it twice.
#[utoipa::path(
    post, path = "/voice/{id}/resend", tag = "Voice notes", operation_id = "resendVoice",
    params(
        ("id" = NoteId, Path, description = "The note that did not arrive."),
        (
            "Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
            pattern = "^[!-~]([ -~]*[!-~])?$", example = "order-7-again",
            description = "As with `POST /voice`: a repetition with the same key gets the note that the first request made.",
        ),
    ),
    responses((status = 202, description = "The new note; `resend_of` names the old one.", body = VoiceNote)),
)]
pub async fn resend(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    gateway.open_for_work()?;
    let key = idempotency_key(&headers)?;
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_body {
        let detail = "this takes no body: it repeats the note as it was. For another one use POST /voice";
        return Err(Problem::invalid("body", detail));
    }
    let original = find(&gateway, &tenant, id).await?;
    let receipt = resend::resend(&gateway, original, key).await?;
    Ok(answer(receipt.note, receipt.replayed, None))
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        let detail = "the header came more than once, with different values; send one key for one note";
        return Err(Problem::invalid("Idempotency-Key", detail));
    }
    // The value of a header may contain tabs as well.
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()) && !key.contains('\t'));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        Problem::invalid("Idempotency-Key", "expected 1 to 255 visible ASCII characters, and no tab")
    })
}

/// Reads `Prefer: wait=N` (RFC 7240). A value that cannot be understood is ignored, as the RFC requires.
pub(super) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").into_iter().filter_map(|value| value.to_str().ok());
    preferences.flat_map(|value| value.split(',')).find_map(|preference| {
        let (name, seconds) = preference.split(';').next()?.split_once('=')?;
        let seconds = seconds.trim().trim_matches('"').parse::<u64>().ok()?;
        name.trim().eq_ignore_ascii_case("wait").then(|| Duration::from_secs(seconds.min(MAX_WAIT)))
    })
}

fn is_settled(note: &Note) -> bool {
    note.status.is_accepted() || note.status.is_failure()
}

/// Waits until the note is accepted or has failed.
async fn settled(gateway: &Gateway, note: &Note, changes: Option<Watch<NoteId>>) -> Result<Note, Problem> {
    let mut latest = note.clone();
    // A note that is not new may have changed before the watch began.
    let mut known = changes.is_some().then(|| Arc::new(latest.clone()));
    let mut changes = changes.unwrap_or_else(|| gateway.changes.of_note(note.id));
    loop {
        latest = match known {
            Some(known) => Arc::unwrap_or_clone(known),
            None => match gateway.store.note(note.id, None).await? {
                Some(note) => note,
                None => return Ok(latest),
            },
        };
        if is_settled(&latest) {
            return Ok(latest);
        }
        // A notification of another process may get lost.
        let told = tokio::time::timeout(LOOK_AGAIN, changes.next()).await.unwrap_or_default();
        // Only the worker changes a note that it sends. In any other state, somebody else may have changed it since.
        known = told.filter(|note| is_settled(note) || note.status == Status::Sending);
    }
}

fn answer(note: Note, replayed: bool, wait: Option<Duration>) -> Response {
    let failure = note.error.clone().filter(|_| wait.is_some() && note.status.is_failure());
    let mut response = match failure {
        Some(problem) => problem.into_response(),
        None => {
            let done = wait.is_some() && note.status.is_accepted();
            let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
            (status, Json(VoiceNote::from(&note))).into_response()
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
