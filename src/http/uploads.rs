//! `/media`: audio that is uploaded ahead of its notes.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    auth::Caller,
    body::{self, Submission},
};
use crate::{gateway::Gateway, id::UploadId, media::AudioInput, problem::Problem, upload};

/// The fields beside the audio: there are none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

/// `POST /media`
pub async fn add(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<impl IntoResponse, Problem> {
    let Submission { fields: NoFields {}, audio, hints } = body::read(&gateway, request).await?;
    let upload = upload::add(&gateway, &tenant, audio, &hints).await?;
    let location = [(header::LOCATION, format!("/media/{}", upload.id))];
    Ok((StatusCode::CREATED, location, Json(upload.view())))
}

/// `GET /media/{id}`
pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let upload = upload::find(&gateway, &tenant, parse(id)?).await.map_err(unnamed)?;
    Ok(Json(upload.view()))
}

/// `DELETE /media/{id}`
pub async fn remove(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    upload::remove(&gateway, &tenant, parse(id)?).await.map_err(unnamed)?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(id: Result<Path<String>, PathRejection>) -> Result<UploadId, Problem> {
    // What is no text is no id either.
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(|| unnamed(AudioInput::no_such_upload()))
}

/// Here the id is in the path and no field is to blame.
fn unnamed(problem: Problem) -> Problem {
    Problem { field: None, ..problem }
}
