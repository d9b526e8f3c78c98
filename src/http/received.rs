//! `/received`: voice notes that people sent.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    auth::Caller,
    media,
    query::{page, unfit},
};
use crate::{
    config::Tenant,
    delivery::{erase_received, route},
    gateway::Gateway,
    media::ReceivedPart,
    model::{code::Code, id::ReceivedId, problem::Problem, received::Received},
    store::{ReceivedQuery, StoreError},
    view::{ReceivedNote, ReceivedNoteList, grammar::Recipient},
};
use voicegate_audio as audio;
use voicegate_providers::AudioFacts;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only notes of this person, in any spelling.
    #[param(value_type = Option<Recipient>)]
    from: Option<String>,
    /// Only notes in this chat, in any spelling.
    #[param(value_type = Option<Recipient>)]
    conversation: Option<String>,
    /// Only notes that came over this connection.
    #[param(example = "whatsapp")]
    via: Option<String>,
    /// The most notes on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<ReceivedId>)]
    cursor: Option<String>,
}

/// List received notes
///
/// Newest first. A note is listed once it was announced, whether its audio could be read or not.
#[utoipa::path(
    get, path = "/received", tag = "Received notes", operation_id = "listReceived",
    params(Filter),
    responses((status = 200, description = "One page of received notes.", body = ReceivedNoteList)),
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<ReceivedNoteList>, Problem> {
    let Query(filter) = filter.map_err(|error| unfit(&error.body_text()))?;
    let (limit, before) = page(filter.limit, filter.cursor.as_deref())?;
    let canonical = |name: &str, told: Option<String>| {
        let told = told.map(|told| route::canonical(&told)).transpose();
        told.map_err(|problem| problem.field(name))
    };
    let from = canonical("from", filter.from)?;
    let conversation = canonical("conversation", filter.conversation)?;
    let wanted = ReceivedQuery {
        tenant: &tenant.name,
        from: from.as_deref(),
        conversation: conversation.as_deref(),
        via: filter.via.as_deref(),
        before,
        limit,
    };
    let found = gateway.store.received_notes(&wanted).await?;
    let items = found.items.iter().map(ReceivedNote::from).collect();
    Ok(Json(ReceivedNoteList { items, next_cursor: found.next }))
}

/// Read a received note
#[utoipa::path(
    get, path = "/received/{id}", tag = "Received notes", operation_id = "getReceived",
    params(("id" = ReceivedId, Path, description = "The received note.")),
    responses((status = 200, description = "The received note.", body = ReceivedNote)),
)]
pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ReceivedNote>, Problem> {
    Ok(Json((&find(&gateway, &tenant, id).await?).into()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Choice {
    /// `native` for the bytes as they came, or the name of a profile of `inbound.renders`.
    #[serde(rename = "as")]
    #[param(pattern = "^[a-z0-9-]{1,64}$", default = "native", example = "mp3-1")]
    part: Option<String>,
}

/// Download a received note's audio
///
/// It is kept for `inbound.retention`.
#[utoipa::path(
    get, path = "/received/{id}/audio", tag = "Received notes", operation_id = "downloadReceivedAudio",
    params(("id" = ReceivedId, Path, description = "The received note."), Choice),
    responses((status = 200, description = "The audio.")),
)]
pub async fn download(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
    choice: Result<Query<Choice>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Query(choice) = choice.map_err(|error| unfit(&error.body_text()))?;
    let part = choice.part.as_deref().unwrap_or("native");
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=64).contains(&part.len()) || !part.bytes().all(is_name) {
        return Err(Problem::invalid("as", "expected `native` or the name of a profile, such as mp3-1"));
    }
    let note = find(&gateway, &tenant, id).await?;
    let native = note.native.as_ref().ok_or_else(|| {
        Problem::new(Code::NotFound, "this note failed, so it has no audio; its error says why")
            .of_note(note.id)
    })?;
    if note.audio_expired {
        let detail = "the audio was removed after inbound.retention";
        return Err(Problem::new(Code::MediaExpired, detail).of_note(note.id));
    }
    let (stored, facts) = match part {
        "native" => (ReceivedPart::Native, native),
        profile => {
            let render = note.render(profile).zip(audio::profile(profile)).ok_or_else(|| {
                let made: Vec<&str> = note.renders.iter().map(|render| render.profile.as_str()).collect();
                let detail = format!("this note was made as: native {}", made.join(" "));
                Problem::new(Code::NotFound, detail.trim()).of_note(note.id)
            })?;
            let (render, profile) = render;
            let stored =
                if render.is_native { ReceivedPart::Native } else { ReceivedPart::Render(profile.name) };
            (stored, &render.facts)
        }
    };
    audio_of(&gateway, &note, (stored, facts), request).await
}

/// Answers with the audio of a received note as it came, for a signed link to it.
pub(super) async fn by_link(
    gateway: &Gateway,
    tenant: &str,
    id: ReceivedId,
    request: Request,
) -> Result<Response, Problem> {
    let gone = || Problem::new(Code::MediaExpired, "the audio behind this link is no longer kept");
    let note = match gateway.store.received(id, tenant).await {
        Err(StoreError::Corrupt(_)) => None,
        note => note?,
    };
    let note = note.filter(|note| note.status.is_ended() && !note.audio_expired).ok_or_else(gone)?;
    let native = note.native.as_ref().ok_or_else(gone)?;
    audio_of(gateway, &note, (ReceivedPart::Native, native), request).await
}

async fn audio_of(
    gateway: &Gateway,
    note: &Received,
    (stored, facts): (ReceivedPart, &AudioFacts),
    request: Request,
) -> Result<Response, Problem> {
    if media::is_plain(&request)
        && let Some(bytes) = gateway.store.received_audio(note.id, stored.as_str()).await?
    {
        return Ok(media::from_memory(bytes, facts, note.received_at, request));
    }
    let file = gateway.received_audio(note.id, stored).await?;
    let gone = || Problem::new(Code::MediaExpired, "the audio is no longer kept").of_note(note.id);
    media::from_file(file.ok_or_else(gone)?, facts, note.received_at, request).await
}

/// Erase a received note
///
/// Removes its audio, the person, the chat and its words at once. The same message of the provider never becomes a note
/// again. Erasing twice is harmless.
#[utoipa::path(
    delete, path = "/received/{id}", tag = "Received notes", operation_id = "eraseReceived",
    params(("id" = ReceivedId, Path, description = "The received note.")),
    responses((status = 204, description = "Erased.")),
)]
pub async fn remove(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    erase_received::erase(&gateway, &tenant, parse(id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a note that was announced. The note of another tenant is answered like one that does not exist.
async fn find(
    gateway: &Gateway,
    tenant: &Tenant,
    id: Result<Path<String>, PathRejection>,
) -> Result<Received, Problem> {
    let id = parse(id)?;
    let note = match gateway.store.received(id, &tenant.name).await {
        Err(StoreError::Corrupt(_)) => return Err(Problem::unreadable().of_note(id)),
        note => note?,
    };
    note.filter(|note| note.status.is_ended()).ok_or_else(absent)
}

fn parse(id: Result<Path<String>, PathRejection>) -> Result<ReceivedId, Problem> {
    // An id that is not text does not exist.
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(absent)
}

fn absent() -> Problem {
    Problem::new(Code::NotFound, "there is no such received note")
}
