//! Recovery after an outage: orders to send again what did not arrive, and their tasks.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use utoipa::ToSchema;

use super::{App, REPLAYED, auth::Caller, body, voice::idempotency_key};
use crate::{
    delivery::recover::{self, Ordered},
    gateway::Gateway,
    model::{code::Code, id::TaskId, note::Status, problem::Problem, task::Recovery},
    store::StoreError,
    view,
};

/// A status of notes that can be recovered.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Recoverable {
    Failed,
    Expired,
    /// The provider may have it, so the recipient may get it twice.
    Unknown,
}

impl From<Recoverable> for Status {
    fn from(status: Recoverable) -> Self {
        match status {
            Recoverable::Failed => Self::Failed,
            Recoverable::Expired => Self::Expired,
            Recoverable::Unknown => Self::Unknown,
        }
    }
}

/// The notes to be sent again. Without any field: everything that failed or expired and still has its audio.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverRequest {
    /// Only notes with one of these statuses. Default: `failed` and `expired`. `unknown` has to be asked for, since
    /// those notes may have arrived.
    #[schema(min_items = 1, examples(json!(["failed", "expired"])))]
    status: Option<Vec<Recoverable>>,
    /// Only notes that were created at this time or later.
    #[serde(default, deserialize_with = "body::time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only notes that were created at this time or earlier. Default: now.
    #[serde(default, deserialize_with = "body::time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Only notes whose connection in use is this one.
    #[schema(examples("whatsapp"))]
    via: Option<String>,
    /// The most notes to be sent again, the oldest first. Notes that cannot be sent again do not count.
    #[serde(default, deserialize_with = "limit")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 100_000, default = 100_000)]
    limit: Option<u64>,
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let given = Value::deserialize(deserializer)?;
    if given.is_null() {
        return Ok(None);
    }
    let limit = body::whole_number(&given).filter(|limit| (1..=Recovery::MOST).contains(limit));
    let wrong = || de::Error::custom(format!("expected a number from 1 to {}", Recovery::MOST));
    limit.map(Some).ok_or_else(wrong)
}

impl From<RecoverRequest> for Recovery {
    fn from(request: RecoverRequest) -> Self {
        let statuses = request.status.map(|all| all.into_iter().map(Status::from).collect());
        Self {
            statuses: statuses.unwrap_or_else(|| Recovery::USUAL.to_vec()),
            since: request.since,
            until: request.until,
            via: request.via,
            limit: request.limit.unwrap_or(Recovery::MOST),
        }
    }
}

/// Send notes again that did not arrive
///
/// Makes a task that sends every note that fits again, the oldest first, each as a new note with `resend_of`. They wait
/// in the queue like any other note, and keep to the rate of their connection; the task waits while the queue is full. A
/// note that was sent again before is left out, so the order can be repeated: while its task runs, the same order gets
/// the same task.
#[utoipa::path(
    post, path = "/voice/recover", tag = "Recovery", operation_id = "recoverVoice",
    params((
        "Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
        pattern = "^[!-~]([ -~]*[!-~])?$", example = "outage-2026-11-21",
        description = "As with `POST /voice`: a repetition with the same key gets the task that the first request made.",
    )),
    request_body(description = "The notes. No body: all that failed or expired.", content = Option<RecoverRequest>),
    responses((status = 202, description = "The task, which is stored and goes on by itself.", body = view::Task)),
)]
pub async fn notes(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Response, Problem> {
    app.gateway.open_for_work()?;
    let key = idempotency_key(request.headers())?;
    let order: RecoverRequest = body::order(&app, &tenant.name, request).await?;
    Ok(answer(&recover::order(&app.gateway, &tenant, order.into(), key).await?))
}

/// The answer to an order.
pub(super) fn answer(ordered: &Ordered) -> Response {
    let mut headers = HeaderMap::new();
    if let Ok(location) = HeaderValue::from_str(&format!("/tasks/{}", ordered.task.id)) {
        headers.insert(header::LOCATION, location);
    }
    if ordered.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    (StatusCode::ACCEPTED, headers, Json(view::Task::from(&ordered.task))).into_response()
}

/// Read a task
///
/// How far it is. A task can be read for as long as notes are kept (`storage.notes_retention`).
#[utoipa::path(
    get, path = "/tasks/{id}", tag = "Recovery", operation_id = "getTask",
    params(("id" = TaskId, Path, description = "The task.")),
    responses((status = 200, description = "The task as it is now.", body = view::Task)),
)]
pub async fn task(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<view::Task>, Problem> {
    let absent = || Problem::new(Code::NotFound, "there is no such task");
    let Path(id) = id.map_err(|_| absent())?;
    let id: TaskId = id.parse().map_err(|()| absent())?;
    let task = gateway.store.task(id, &tenant.name).await.map_err(|error| match error {
        StoreError::Corrupt(_) => Problem::internal(),
        other => other.into(),
    })?;
    Ok(Json((&task.ok_or_else(absent)?).into()))
}
