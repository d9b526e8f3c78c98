//! Callbacks of providers: `/callbacks/{tenant}/{connection}`.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;
use voicegate_providers::{self as providers, CallbackError, CallbackRequest, USUAL_CALLBACK};

use super::{App, body::stated_length};
use crate::{
    config::{Connection, Tenant},
    delivery::receive,
    gateway::Live,
    http::memory::{Full, Holding},
    model::{
        code::{Code, Stage},
        problem::Problem,
    },
    telemetry::{log_throttle::LogThrottle, metrics},
};

/// How long the rest of a refused request is read and discarded.
const LINGER: Duration = Duration::from_secs(2);

/// The interval between log lines about refused callbacks, since anybody can cause them.
static REFUSED: LogThrottle = LogThrottle::new(Duration::from_secs(1));

/// Receive a provider's callback
///
/// Only for providers: they report here what happened to messages. The signature or token is verified first. A call
/// that has no meaning for the gateway is acknowledged as well. Without valid proof the answer is the same whether or
/// not the tenant and the connection exist; if no body could make the call valid, it comes before the body is read.
#[utoipa::path(
    post, path = "/callbacks/{tenant}/{connection}", tag = "Callbacks", operation_id = "receiveCallback",
    params(
        ("tenant" = String, Path, description = "The tenant's name in the configuration."),
        ("connection" = String, Path, description = "The connection's name."),
        ("token" = Option<String>, Query, description = "The connection's `callback_token`, for providers that do not sign their calls."),
        ("version" = Option<String>, Query, description = "The version of the provider's events, where its address names one; the gateway accepts every version."),
    ),
    request_body(description = "The body, as the provider writes it.", content((String = "*/*"))),
    responses((
        status = 200, description = "The call was accepted, now or earlier.",
        content((Object = "application/json"), (String = "text/plain")),
    )),
)]
pub async fn post(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    take(&app, path, request).await
}

/// Answer a provider's verification request
///
/// Some providers verify with this request that the address expects their calls.
#[utoipa::path(
    get, path = "/callbacks/{tenant}/{connection}", tag = "Callbacks", operation_id = "answerCallback",
    params(
        ("tenant" = String, Path, description = "The tenant's name in the configuration."),
        ("connection" = String, Path, description = "The connection's name."),
        ("token" = Option<String>, Query, description = "The connection's `callback_token`, for providers that do not sign their calls."),
        ("version" = Option<String>, Query, description = "The version of the provider's events, where its address names one; the gateway accepts every version."),
        ("hub.mode" = Option<String>, Query, description = "Meta: always `subscribe`."),
        ("hub.challenge" = Option<String>, Query, description = "Meta: the text that is expected as the answer."),
        ("hub.verify_token" = Option<String>, Query, description = "Meta: the connection's `verify_token`."),
    ),
    responses((
        status = 200, description = "The answer that the provider expects.",
        content((Object = "application/json"), (String = "text/plain")),
    )),
)]
pub async fn get(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    take(&app, path, request).await
}

async fn take(
    app: &App,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let App { gateway, memory, .. } = app;
    let live = gateway.live();
    let (parts, body) = request.into_parts();
    let Some((tenant, connection)) = called(&live, path) else {
        discard(body, &parts.headers);
        return Err(refused("", "", "unknown", "no connection takes callbacks at this address"));
    };
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let mut request = CallbackRequest {
        method: parts.method,
        query: query.into_owned().collect(),
        headers: parts.headers,
        body: Bytes::new(),
        // The time that a provider signs is that of the real world, so it is compared with the wall clock.
        now: gateway.clock.wall(),
    };
    if let Err(error) = connection.provider.admits(&request) {
        discard(body, &request.headers);
        return Err(disbelieved(tenant, connection, error));
    }
    let mut held = memory.for_callback(&tenant.name);
    let most = largest(connection);
    let read = read(body, stated_length(&request.headers), most, &mut held);
    request.body = match tokio::time::timeout(live.config.server.body_timeout.0, read).await {
        Ok(Ok(body)) => body,
        Ok(Err(Unread::NoMemory(full))) => return Err(full.into()),
        // The caller has not proved anything yet, so it gets the same answer as a stranger.
        Ok(Err(Unread::TooLarge)) => {
            let why = format!("the body has more than {} MiB", most / (1024 * 1024));
            return Err(refused(&tenant.name, &connection.name, "malformed", &why));
        }
        Ok(Err(Unread::BrokenOff)) | Err(_) => {
            return Err(refused(&tenant.name, &connection.name, "malformed", "the body broke off"));
        }
    };
    let callback =
        connection.provider.callback(&request).map_err(|error| disbelieved(tenant, connection, error))?;
    let answer = callback.answer.clone();
    let reception = receive::receive(gateway, tenant, connection, callback).await?;
    let verdict = if reception.duplicate { "duplicate" } else { "accepted" };
    metrics::called_back(&tenant.name, &connection.name, verdict);
    Ok(answer.map_or_else(|| Json(json!({})).into_response(), IntoResponse::into_response))
}

fn called(
    live: &Live,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Option<(&Tenant, &Connection)> {
    let Path((tenant, connection)) = path.ok()?;
    let tenant = live.tenants.get(&tenant)?;
    Some((tenant, tenant.connections.get(&connection)?))
}

/// The largest callback of a connection's provider: more than usual where audio comes in it.
fn largest(connection: &Connection) -> usize {
    const MOST: usize = 32 * 1024 * 1024;
    let callbacks = providers::find(connection.provider_name).and_then(|descriptor| descriptor.callbacks);
    callbacks.map_or(USUAL_CALLBACK, |callbacks| callbacks.max_bytes).min(MOST)
}

/// The reason why the body could not be read.
enum Unread {
    TooLarge,
    BrokenOff,
    NoMemory(Full),
}

/// Reads a body. Memory is reserved as it arrives, since anybody can state a length and send nothing.
async fn read(body: Body, stated: Option<u64>, most: usize, held: &mut Holding) -> Result<Bytes, Unread> {
    if stated.is_some_and(|stated| stated > most as u64) {
        return Err(Unread::TooLarge);
    }
    let mut pieces = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Unread::BrokenOff)?;
        let size = whole.len() + piece.len();
        if size > most {
            return Err(Unread::TooLarge);
        }
        if size > whole.capacity() {
            let wanted = size + whole.len() / 2;
            held.reach(wanted).map_err(Unread::NoMemory)?;
            whole.reserve_exact(wanted - whole.len());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}

/// Reads and discards the rest of a refused request. Closing a connection while the client still writes would reset it,
/// and the answer would be lost.
fn discard(body: Body, headers: &HeaderMap) {
    if headers.contains_key(header::EXPECT) {
        return; // the client waits for "100 Continue" before it sends the body
    }
    tokio::spawn(tokio::time::timeout(LINGER, async move {
        let mut left = USUAL_CALLBACK;
        let mut pieces = body.into_data_stream();
        while let Some(Ok(piece)) = pieces.next().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
            }
        }
    }));
}

/// The verdict in metrics and log says why. The caller learns the reason only after proving that it is the provider.
fn disbelieved(tenant: &Tenant, connection: &Connection, error: CallbackError) -> Problem {
    let verdict = match error {
        CallbackError::NotConfigured => "not_configured",
        CallbackError::Forged => "forged",
        CallbackError::Stale => "stale",
        CallbackError::Malformed => "malformed",
    };
    let problem = refused(&tenant.name, &connection.name, verdict, &error.to_string());
    if error == CallbackError::Malformed { Problem::invalid("body", error.to_string()) } else { problem }
}

/// All callers without proof get the same answer, so that it does not reveal which tenants and connections exist.
fn refused(tenant: &str, connection: &str, verdict: &'static str, why: &str) -> Problem {
    metrics::called_back(tenant, connection, verdict);
    if let Some(count) = REFUSED.pass() {
        tracing::warn!(tenant, connection, verdict, count, "a callback was refused: {why}");
    }
    let detail =
        "the signature or token is missing or wrong, or no connection takes callbacks at this address";
    Problem::new(Code::Unauthorized, detail).stage(Stage::Request)
}
