//! For whoever keeps the gateway running.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde_json::Value;

use crate::gateway::Gateway;

/// The process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Requests can be served; else 503 and the reason.
pub async fn readyz(State(gateway): State<Arc<Gateway>>) -> (StatusCode, Json<Value>) {
    let (ready, checks) = gateway.readiness().await;
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(checks))
}
