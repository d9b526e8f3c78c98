//! Reads, lists, cancels and erases notes.

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
use utoipa::IntoParams;

use super::{
    auth::Caller,
    body::plus_is_kept,
    query::{page, unfit},
};
use crate::{
    config::Tenant,
    delivery::{cancel, erase, route},
    gateway::Gateway,
    model::{
        code::Code,
        id::NoteId,
        note::{Note, Status},
        problem::Problem,
    },
    store::{NoteQuery, StoreError},
    view::{VoiceNote, VoiceNoteList, grammar::Recipient},
};

/// Read a note
///
/// Its status, and everything that has happened to it so far.
#[utoipa::path(
    get, path = "/voice/{id}", tag = "Voice notes", operation_id = "getVoice",
    params(("id" = NoteId, Path, description = "The note.")),
    responses((status = 200, description = "The current state of the note.", body = VoiceNote)),
)]
pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<VoiceNote>, Problem> {
    Ok(Json((&find(&gateway, &tenant, id).await?).into()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only notes with this status.
    status: Option<Status>,
    /// Only notes for this recipient, in any spelling.
    #[param(value_type = Option<Recipient>)]
    to: Option<String>,
    /// Only notes whose connection in use is this one.
    #[param(example = "imessage")]
    via: Option<String>,
    /// The most notes on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<NoteId>)]
    cursor: Option<String>,
}

/// List notes
///
/// Newest first. Notes that appear or disappear between two pages neither repeat nor hide others.
#[utoipa::path(
    get, path = "/voice", tag = "Voice notes", operation_id = "listVoice",
    params(Filter),
    responses((status = 200, description = "One page of notes.", body = VoiceNoteList)),
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<VoiceNoteList>, Problem> {
    let Query(filter) = filter.map_err(|error| unfit(&error.body_text()))?;
    let (limit, before) = page(filter.limit, filter.cursor.as_deref())?;
    filter.to.as_deref().map_or(Ok(()), plus_is_kept)?;
    let to = filter.to.map(|to| route::canonical(&to)).transpose()?;
    let wanted = NoteQuery {
        tenant: &tenant.name,
        status: filter.status,
        to: to.as_deref(),
        via: filter.via.as_deref(),
        before,
        limit,
    };
    let found = gateway.store.notes(&wanted).await?;
    let items = found.notes.iter().map(VoiceNote::from).collect();
    Ok(Json(VoiceNoteList { items, next_cursor: found.next }))
}

/// Erase a note
///
/// Deletes audio, recipient, text and metadata of a note that has ended. The existence of the note, its times and its
/// result can still be read. Erasing twice is harmless.
#[utoipa::path(
    delete, path = "/voice/{id}", tag = "Voice notes", operation_id = "eraseVoice",
    params(("id" = NoteId, Path, description = "The note.")),
    responses((status = 204, description = "Erased.")),
)]
pub async fn remove(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let id = parse(id)?;
    match gateway.store.note(id, Some(&tenant.name)).await {
        Err(StoreError::Corrupt(_)) => erase::erase_unreadable(&gateway, &tenant, id).await?,
        note => erase::erase(&gateway, note?.ok_or_else(absent)?).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Cancel a note
///
/// Possible only while it is `queued`: a note that is on its way to the provider cannot be recalled.
#[utoipa::path(
    post, path = "/voice/{id}/cancel", tag = "Voice notes", operation_id = "cancelVoice",
    params(("id" = NoteId, Path, description = "The note.")),
    responses((status = 200, description = "The note, now `canceled`.", body = VoiceNote)),
)]
pub async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<VoiceNote>, Problem> {
    let note = find(&gateway, &tenant, id).await?;
    Ok(Json((&cancel::cancel(&gateway, note).await?).into()))
}

/// Reads a note of the tenant. The note of another tenant is answered like one that does not exist.
pub async fn find(
    gateway: &Gateway,
    tenant: &Tenant,
    id: Result<Path<String>, PathRejection>,
) -> Result<Note, Problem> {
    let id = parse(id)?;
    match gateway.store.note(id, Some(&tenant.name)).await {
        Err(StoreError::Corrupt(_)) => Err(Problem::unreadable().of_note(id)),
        note => note?.ok_or_else(absent),
    }
}

fn parse(id: Result<Path<String>, PathRejection>) -> Result<NoteId, Problem> {
    // An id that is not text does not exist.
    let Path(id) = id.map_err(|_| absent())?;
    id.parse().map_err(|()| absent())
}

fn absent() -> Problem {
    Problem::new(Code::NotFound, "there is no such voice note")
}
