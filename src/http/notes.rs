//! Reading notes back.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::Value;

use super::auth::Caller;
use crate::{config::Tenant, delivery::accept::stored, gateway::Gateway, note::Note, problem::Problem};

pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(find(&gateway, &tenant, &id).await?.view()))
}

/// The tenant's note of this id. Another tenant's is as absent as one that never was.
pub async fn find(gateway: &Gateway, tenant: &Tenant, id: &str) -> Result<Note, Problem> {
    let absent = || Problem::new("not_found", "there is no such voice note");
    let id = id.parse().map_err(|()| absent())?;
    let note = gateway.store.note(id).await.map_err(stored)?;
    note.filter(|note| note.tenant == tenant.name).ok_or_else(absent)
}
