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
    body::{self, Fields, Submission},
    notes::find,
    openapi::{Bytes, VoiceForm, VoiceRequestBody},
    room,
    wait::{is_settled, wait_for},
};
use crate::{
    config::Tenant,
    delivery::{SendTime, VoiceRequest, accept::accept, answer, resend},
    gateway::Gateway,
    http::memory::Holding,
    model::{
        id::ReceivedId,
        note::{ConvertChoice, Note, NoteId, TextAs},
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

/// The fields besides the audio.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VoiceFields {
    /// The recipient. May be left out if `reply_to` is a received note: the note then goes to its conversation.
    #[schema(value_type = Recipient, required = false)]
    to: Option<String>,
    /// A connection or a route. Default: the connection of the received note in `reply_to`, or else the route of the
    /// tenant.
    #[schema(examples("imessage"))]
    via: Option<String>,
    #[serde(default, deserialize_with = "body::choice")]
    #[schema(value_type = Option<ConvertWish>)]
    convert: Option<ConvertChoice>,
    /// The note that this one answers: the `in_` id of a received note, the `vn_` id of one that was sent, or the
    /// provider's own id of a message. If the provider does not
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

impl Fields for VoiceFields {
    fn check(&self) -> Result<(), Problem> {
        let answers = self.reply_to.as_ref().is_some_and(|id| id.parse::<ReceivedId>().is_ok());
        if self.to.is_none() && !answers {
            return Err(Problem::invalid("to", answer::MISSING));
        }
        Ok(())
    }
}

impl Submission<VoiceFields> {
    /// The request, and the memory that is reserved for its fields.
    ///
    /// # Errors
    /// `invalid_request` if there is no recipient, or no such received note in `reply_to`.
    pub(super) async fn into_request(
        self,
        gateway: &Gateway,
        tenant: &Tenant,
        idempotency_key: Option<String>,
    ) -> Result<(VoiceRequest, Holding), Problem> {
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
        let reply_to = reply_to.filter(|id| !id.trim().is_empty());
        let (to, via) = answer::addressed(gateway, tenant, (to, via), reply_to.as_deref()).await?;
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
            send_at: send_at.map(SendTime::At),
            expires_in,
            metadata,
            idempotency_key,
        };
        Ok((request, held))
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
    let (request, held) = submission.into_request(gateway, &tenant, key).await?;
    let receipt = accept(gateway, &tenant, request).await?;
    drop(held);
    let mut note = receipt.note;
    if let Some(wait) = wait {
        // The note was accepted, so it is no failure if its state cannot be read.
        let waited = wait_for(gateway, &note, receipt.changes, wait, is_settled).await;
        note = waited.unwrap_or(note);
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
    let key = value.to_str().ok().filter(|key| is_key(key));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| Problem::invalid("Idempotency-Key", KEY))
}

/// The form of an idempotency key.
pub(super) const KEY: &str = "expected 1 to 255 visible ASCII characters, and no tab";

/// Whether a text may be an idempotency key, wherever it comes from.
pub(super) fn is_key(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
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
