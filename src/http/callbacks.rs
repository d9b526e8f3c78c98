//! Where providers call us: `/callbacks/{tenant}/{connection}`.

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
use voicegate_providers::{CallbackError, CallbackRequest};

use super::{App, body::stated_length};
use crate::{
    config::{Connection, Tenant},
    delivery::receive,
    gateway::Live,
    http::memory::{Full, Holding, ONE_CALLBACK},
    model::problem::Problem,
    telemetry::{metrics, seldom::Seldom},
};

/// Providers' callbacks have a few KiB.
const MAX_BODY: usize = ONE_CALLBACK as usize;

/// How long what a refused caller still sends is read and thrown away.
const LINGER: Duration = Duration::from_secs(2);

/// Anybody can cause such a line.
static REFUSED: Seldom = Seldom::new(Duration::from_secs(1));

/// Receive a provider's callback
///
/// For providers alone: they tell here what became of messages. Signature or token are judged first. What means nothing to
/// the gateway is acknowledged, too. Without a proof the answer is the same whether or not there are such a tenant and such a
/// connection, and comes before the body is read where no body could change it.
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
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    take(&app, path, request).await
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
        // What a provider signed says when that was, by the clock of the world outside.
        now: gateway.clock.wall(),
    };
    if let Err(error) = connection.provider.admits(&request) {
        discard(body, &request.headers);
        return Err(disbelieved(tenant, connection, error));
    }
    let mut held = memory.for_callback(&tenant.name);
    let read = read(body, stated_length(&request.headers), &mut held);
    request.body = match tokio::time::timeout(live.config.server.body_timeout.0, read).await {
        Ok(Ok(body)) => body,
        Ok(Err(Unread::NoMemory(full))) => return Err(full.into()),
        // Nobody has proved anything by then, so the answer is the one to strangers.
        Ok(Err(Unread::TooLarge)) => {
            return Err(refused(&tenant.name, &connection.name, "malformed", "the body has more than 1 MiB"));
        }
        Ok(Err(Unread::BrokenOff)) | Err(_) => {
            return Err(refused(&tenant.name, &connection.name, "malformed", "the body broke off"));
        }
    };
    let callback =
        connection.provider.callback(&request).map_err(|error| disbelieved(tenant, connection, error))?;
    let answer = callback.answer.clone();
    let reception = receive::receive(gateway, tenant, connection, &request, callback).await?;
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

/// Why there is no body.
enum Unread {
    TooLarge,
    BrokenOff,
    NoMemory(Full),
}

/// Reads a body. It is charged as it comes, since anybody can state a length and send nothing.
async fn read(body: Body, stated: Option<u64>, held: &mut Holding) -> Result<Bytes, Unread> {
    if stated.is_some_and(|stated| stated > ONE_CALLBACK) {
        return Err(Unread::TooLarge);
    }
    let mut pieces = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Unread::BrokenOff)?;
        let size = whole.len() + piece.len();
        if size > MAX_BODY {
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

/// Throws away what a refused caller still sends. A connection that is closed on somebody who writes is reset, and the
/// answer with it.
fn discard(body: Body, headers: &HeaderMap) {
    if headers.contains_key(header::EXPECT) {
        return; // nothing is sent before it is asked for
    }
    tokio::spawn(tokio::time::timeout(LINGER, async move {
        let mut left = MAX_BODY;
        let mut pieces = body.into_data_stream();
        while let Some(Ok(piece)) = pieces.next().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
            }
        }
    }));
}

/// In metrics and log it says why. The caller learns it only where it proved that it is the provider.
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

/// One answer for all who prove nothing, so that it tells nobody which tenants and connections there are.
fn refused(tenant: &str, connection: &str, verdict: &'static str, why: &str) -> Problem {
    metrics::called_back(tenant, connection, verdict);
    if let Some(count) = REFUSED.pass() {
        tracing::warn!(tenant, connection, verdict, count, "a callback was refused: {why}");
    }
    let detail = "signature or token are missing or wrong, or no connection takes callbacks at this address";
    Problem::new("unauthorized", detail).stage("request")
}
