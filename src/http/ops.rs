//! Endpoints for the operation of the gateway.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};

use super::{
    App,
    auth::{bearer, wrong_key},
    readiness, scrape,
};
use crate::{
    model::{
        code::{Code, Stage},
        problem::Problem,
    },
    telemetry::metrics,
    view::{CheckStatus, Readiness},
};

/// Check that the process is alive
///
/// Answers without checking anything.
#[utoipa::path(
    get, path = "/healthz", tag = "Operation", operation_id = "getHealth",
    responses((status = 200, description = "The process answers.", body = String)),
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Check that requests can be served
///
/// Checks database, media store, ffmpeg and disk.
#[utoipa::path(
    get, path = "/readyz", tag = "Operation", operation_id = "getReadiness",
    responses(
        (status = 200, description = "Requests can be served.", body = Readiness),
        (status = 503, description = "A check failed; it says what is wrong.", body = Readiness),
    ),
)]
pub async fn readyz(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let readiness = readiness::readiness(&app.gateway, &app.probe).await;
    let ready = readiness.status == CheckStatus::Ok;
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(readiness))
}

/// Read the metrics
///
/// For Prometheus, as OpenMetrics text. If `server.metrics_token` is set, it is required as a bearer token.
#[utoipa::path(
    get, path = "/metrics", tag = "Operation", operation_id = "getMetrics",
    responses((
        status = 200, description = "All metrics. The Operations page lists their names and meanings.",
        content_type = "application/openmetrics-text", body = String,
    )),
)]
pub async fn metrics(State(app): State<App>, request: Request) -> Result<impl IntoResponse, Problem> {
    let shown = bearer(request.headers());
    if let Some(token) = &app.gateway.live().config.server.metrics_token
        && !shown.is_some_and(|shown| token.is(shown))
    {
        if shown.is_some() {
            wrong_key(request.extensions()).await;
        }
        let detail = "send the header `Authorization: Bearer TOKEN` with the token of server.metrics_token";
        return Err(Problem::new(Code::Unauthorized, detail).stage(Stage::Request));
    }
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    Ok(([(CONTENT_TYPE, kind)], scrape::text(&app.gateway, &app.probe).await))
}
