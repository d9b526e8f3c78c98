//! For whoever keeps the gateway running.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};

use crate::{
    gateway::Gateway,
    view::{CheckStatus, Readiness},
};

/// Is the process alive?
///
/// Answers without looking at anything.
#[utoipa::path(
    get, path = "/healthz", tag = "Operation", operation_id = "getHealth",
    responses((status = 200, description = "The process answers.", body = String)),
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Can requests be served?
///
/// Looks at database, media store, ffmpeg and disk.
#[utoipa::path(
    get, path = "/readyz", tag = "Operation", operation_id = "getReadiness",
    responses(
        (status = 200, description = "Requests can be served.", body = Readiness),
        (status = 503, description = "Something is missing; its check says what.", body = Readiness),
    ),
)]
pub async fn readyz(State(gateway): State<Arc<Gateway>>) -> (StatusCode, Json<Readiness>) {
    let readiness = gateway.readiness().await;
    let ready = readiness.status == CheckStatus::Ok;
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(readiness))
}
