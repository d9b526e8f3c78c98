//! Webhook deliveries: what was tried, and events that are posted again.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{App, auth::Caller, body, recover::answer};
use crate::{
    delivery::retell,
    gateway::Gateway,
    model::{code::Code, id::EventId, problem::Problem, task::Retelling},
    view,
};

fn absent() -> Problem {
    Problem::new(Code::NotFound, "there is no such event, or it is no longer kept")
}

fn parse(id: Result<Path<String>, PathRejection>) -> Result<EventId, Problem> {
    let Path(id) = id.map_err(|_| absent())?;
    id.parse().map_err(|()| absent())
}

/// Read the deliveries of an event
///
/// Every try to post the event to the webhook, the oldest first. The id of an event is its `webhook-id`. Kept for as
/// long as the event: 48 hours.
#[utoipa::path(
    get, path = "/events/{id}/attempts", tag = "Recovery", operation_id = "listEventAttempts",
    params(("id" = EventId, Path, description = "The event.")),
    responses((status = 200, description = "The tries.", body = view::EventAttempts)),
)]
pub async fn attempts(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<view::EventAttempts>, Problem> {
    let id = parse(id)?;
    gateway.store.event(id, &tenant.name).await?.ok_or_else(absent)?;
    let attempts = gateway.store.webhook_attempts(id).await?.into_iter();
    let items = attempts.map(|attempt| view::EventAttempt {
        at: attempt.at,
        status: attempt.status,
        took_ms: attempt.took_ms,
        error: attempt.error,
    });
    Ok(Json(view::EventAttempts { items: items.collect() }))
}

/// Post an event again
///
/// Posts the event to the webhook once more, with the same `webhook-id`, whether or not it was taken before. One that
/// waits for its next try is posted now.
#[utoipa::path(
    post, path = "/events/{id}/resend", tag = "Recovery", operation_id = "resendEvent",
    params(("id" = EventId, Path, description = "The event.")),
    responses((status = 202, description = "The event will be posted.", body = view::EventSummary)),
)]
pub async fn resend(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, Json<view::EventSummary>), Problem> {
    gateway.open_for_work()?;
    let event = retell::one(&gateway, &tenant, parse(id)?).await?;
    let summary = view::EventSummary {
        id: event.id,
        kind: event.kind,
        timestamp: event.at,
        note_id: event.subject.note(),
        received_id: event.subject.received(),
    };
    Ok((StatusCode::ACCEPTED, Json(summary)))
}

/// The events to be posted again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverWebhookRequest {
    /// Only events from this time or later. Default: all that are kept, which is 48 hours.
    #[serde(default, deserialize_with = "body::time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

/// Resume the webhook and post again what it did not take
///
/// Ends the pause of a webhook that failed for five days, and makes a task that queues every event that the webhook has
/// not taken. `done` counts the events that were queued; `GET /events/{id}/attempts` says what became of one.
#[utoipa::path(
    post, path = "/webhook/recover", tag = "Recovery", operation_id = "recoverWebhook",
    request_body(description = "The events. No body: all that are kept.", content = Option<RecoverWebhookRequest>),
    responses((status = 202, description = "The task, which is stored and goes on by itself.", body = view::Task)),
)]
pub async fn recover(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Response, Problem> {
    app.gateway.open_for_work()?;
    let RecoverWebhookRequest { since } = body::order(&app, &tenant.name, request).await?;
    Ok(answer(&retell::order(&app.gateway, &tenant, Retelling { since }).await?))
}
