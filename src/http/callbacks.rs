//! Where providers call us: `/callbacks/{tenant}/{connection}`.

use std::sync::Arc;

use axum::{
    Json,
    body::to_bytes,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use serde_json::json;
use voicegate_providers::{CallbackError, CallbackRequest};

use crate::{delivery::receive, gateway::Gateway, metrics, problem::Problem};

/// Providers' callbacks have a few KiB.
const MAX_BODY: usize = 1024 * 1024;

/// Receive a provider's callback
///
/// For providers alone: they tell here what became of messages. Signature or token are judged first. What means nothing to
/// the gateway is acknowledged, too.
#[utoipa::path(
    post, path = "/callbacks/{tenant}/{connection}", tag = "Callbacks", operation_id = "receiveCallback",
    params(
        ("tenant" = String, Path, description = "The tenant's name in the configuration."),
        ("connection" = String, Path, description = "The connection's name."),
        ("token" = Option<String>, Query, description = "Where the provider does not sign: the connection's `callback_token`."),
        ("version" = Option<String>, Query, description = "Of Linq's events. Linq reads it in the address that it was given; the gateway reads every version."),
    ),
    request_body(description = "As the provider writes it.", content((String = "*/*"))),
    responses((
        status = 200, description = "Taken in, now or before.",
        content((Object = "application/json"), (String = "text/plain")),
    )),
)]
pub async fn post(
    State(gateway): State<Arc<Gateway>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    take(&gateway, path, request).await
}

/// Answer a provider's question
///
/// Some providers prove by GET that the address is theirs to call.
#[utoipa::path(
    get, path = "/callbacks/{tenant}/{connection}", tag = "Callbacks", operation_id = "answerCallback",
    params(
        ("tenant" = String, Path, description = "The tenant's name in the configuration."),
        ("connection" = String, Path, description = "The connection's name."),
        ("token" = Option<String>, Query, description = "Where the provider does not sign: the connection's `callback_token`."),
        ("version" = Option<String>, Query, description = "Of Linq's events. Linq reads it in the address that it was given; the gateway reads every version."),
    ),
    responses((
        status = 200, description = "What the provider wants to read.",
        content((Object = "application/json"), (String = "text/plain")),
    )),
)]
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    take(&gateway, path, request).await
}

async fn take(
    gateway: &Gateway,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let absent = || Problem::new("not_found", "no connection takes callbacks here");
    let Path((tenant, connection)) = path.map_err(|_| absent())?;
    let live = gateway.live();
    let tenant = live.tenants.get(&tenant).ok_or_else(absent)?;
    let connection = tenant.connections.get(&connection).ok_or_else(absent)?;
    let (parts, body) = request.into_parts();
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let query = query.into_owned().collect();
    let limit = live.config.server.body_timeout.0;
    let body = tokio::time::timeout(limit, to_bytes(body, MAX_BODY))
        .await
        .map_err(|_| Problem::invalid("body", "the body did not arrive in time"))?
        .map_err(|_| Problem::new("audio_too_large", "a callback has at most 1 MiB").stage("request"))?;
    let request = CallbackRequest {
        method: parts.method,
        headers: parts.headers,
        query,
        body,
        // What a provider signed says when that was, by the clock of the world outside.
        now: gateway.clock.wall(),
    };
    let callback = connection.provider.callback(&request).map_err(|error| {
        tracing::warn!(tenant = tenant.name, connection = connection.name, %error, "a callback was refused: {error}");
        metrics::called_back(&tenant.name, &connection.name, verdict(&error));
        refusal(error)
    })?;
    let answer = callback.answer.clone();
    let reception = receive::receive(gateway, tenant, connection, &request, callback).await?;
    let verdict = if reception.duplicate { "duplicate" } else { "accepted" };
    metrics::called_back(&tenant.name, &connection.name, verdict);
    Ok(answer.map_or_else(|| Json(json!({})).into_response(), IntoResponse::into_response))
}

/// In the metrics.
fn verdict(error: &CallbackError) -> &'static str {
    match error {
        CallbackError::NotConfigured => "not_configured",
        CallbackError::Forged => "forged",
        CallbackError::Stale => "stale",
        CallbackError::Malformed => "malformed",
    }
}

fn refusal(error: CallbackError) -> Problem {
    match error {
        CallbackError::NotConfigured => Problem::new("not_found", "no connection takes callbacks here"),
        CallbackError::Forged | CallbackError::Stale => {
            Problem::new("unauthorized", error.to_string()).stage("request")
        }
        CallbackError::Malformed => Problem::invalid("body", error.to_string()),
    }
}
