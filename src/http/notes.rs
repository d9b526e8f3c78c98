//! Reading notes back.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde_json::Value;

use super::auth::Caller;
use crate::{config::Tenant, gateway::Gateway, note::Note, problem::Problem};

pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(find(&gateway, &tenant, id).await?.view()))
}

/// The tenant's note of this id. Another tenant's is as absent as one that never was.
pub async fn find(
    gateway: &Gateway,
    tenant: &Tenant,
    id: Result<Path<String>, PathRejection>,
) -> Result<Note, Problem> {
    let absent = || Problem::new("not_found", "there is no such voice note");
    // What is no text is no id either.
    let Path(id) = id.map_err(|_| absent())?;
    let id = id.parse().map_err(|()| absent())?;
    gateway.store.note(id, Some(&tenant.name)).await?.ok_or_else(absent)
}
