//! Reading notes back, and forgetting them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Caller;
use crate::{
    config::Tenant,
    delivery::{accept, cancel, erase},
    gateway::Gateway,
    id::NoteId,
    note::{Note, Status},
    problem::Problem,
    store::Wanted,
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// `GET /voice/{id}`
pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(find(&gateway, &tenant, id).await?.view()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    status: Option<Status>,
    to: Option<String>,
    via: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// `GET /voice`: newest first. The cursor is the last id of a page, so that notes which come or go in between neither
/// repeat nor hide others.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(filter) = filter.map_err(|error| Problem::invalid("query", error.body_text()))?;
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid("limit", format!("expected a number from 1 to {MAX_LIMIT}")));
    }
    let no_cursor = |()| Problem::invalid("cursor", "expected the next_cursor of an earlier answer");
    let before: Option<NoteId> = filter.cursor.map(|cursor| cursor.parse()).transpose().map_err(no_cursor)?;
    let to = filter.to.map(|to| accept::canonical(&to)).transpose()?;
    let wanted = Wanted {
        tenant: &tenant.name,
        status: filter.status,
        to: to.as_deref(),
        via: filter.via.as_deref(),
        before,
        limit: limit + 1, // one more, to know whether there is a next page
    };
    let mut notes = gateway.store.notes(&wanted).await?;
    let more = notes.len() > limit as usize;
    notes.truncate(limit as usize);
    let next_cursor = notes.last().filter(|_| more).map(|note| note.id);
    let items: Vec<Value> = notes.iter().map(Note::view).collect();
    Ok(Json(json!({ "items": items, "next_cursor": next_cursor })))
}

/// `DELETE /voice/{id}`
pub async fn remove(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    erase::erase(&gateway, find(&gateway, &tenant, id).await?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /voice/{id}/cancel`
pub async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let note = find(&gateway, &tenant, id).await?;
    Ok(Json(cancel::cancel(&gateway, note).await?.view()))
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
