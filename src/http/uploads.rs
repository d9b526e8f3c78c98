//! `/media`: audio that is uploaded before its notes are sent.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;

use super::{
    App,
    auth::Caller,
    body::{self, Submission},
    openapi::{Bytes, UploadForm, UploadRequest},
    room,
};
use crate::{
    delivery::upload,
    gateway::Gateway,
    media::AudioInput,
    model::{code::Code, id::UploadId, problem::Problem},
    view::Upload,
};

/// The fields besides the audio: there are none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

impl body::Fields for NoFields {}

/// Upload audio
///
/// For audio that is sent more than once, or before its recipient is known: notes refer to the upload in
/// `audio.media_id`. It is read at once and kept for `storage.media_retention`.
#[utoipa::path(
    post, path = "/media", tag = "Uploads", operation_id = "uploadAudio",
    request_body(
        description = "The audio in one of three forms, all equivalent.",
        content(
            (UploadRequest = "application/json"),
            (UploadForm = "multipart/form-data"),
            (inline(Bytes) = "audio/*"),
            (inline(Bytes) = "video/*"),
            (inline(Bytes) = "application/ogg"),
            (inline(Bytes) = "application/octet-stream"),
            (inline(Bytes) = "binary/octet-stream"),
        ),
    ),
    responses((
        status = 201, description = "The audio was read and stored.", body = Upload,
        headers(("Location" = String, description = "The address of the upload: `/media/{id}`.")),
    )),
)]
pub async fn add(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<impl IntoResponse, Problem> {
    let gateway = &*app.gateway;
    gateway.open_for_work()?;
    let expected = room::expect(gateway, &tenant, request.headers(), None).await?;
    let read = body::read(&app, &tenant.name, request).await.map_err(no_upload_of_an_upload);
    let Submission { fields: NoFields {}, audio, hints, .. } = read?;
    drop(expected); // the size is known now
    let upload = upload::add(gateway, &tenant, audio, &hints).await?;
    let location = [(header::LOCATION, format!("/media/{}", upload.id))];
    Ok((StatusCode::CREATED, location, Json(Upload::from(&upload))))
}

/// Read an upload
#[utoipa::path(
    get, path = "/media/{id}", tag = "Uploads", operation_id = "getUpload",
    params(("id" = UploadId, Path, description = "The upload.")),
    responses((status = 200, description = "The upload.", body = Upload)),
)]
pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Upload>, Problem> {
    let upload = upload::find(&gateway, &tenant, parse(id)?).await.map_err(unnamed)?;
    Ok(Json((&upload).into()))
}

/// Delete an upload
///
/// Notes that use it keep their audio.
#[utoipa::path(
    delete, path = "/media/{id}", tag = "Uploads", operation_id = "deleteUpload",
    params(("id" = UploadId, Path, description = "The upload.")),
    responses((status = 204, description = "Deleted.")),
)]
pub async fn remove(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    upload::remove(&gateway, &tenant, parse(id)?).await.map_err(unnamed)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The answer is the same whether or not the upload exists.
fn no_upload_of_an_upload(problem: Problem) -> Problem {
    if problem.code == Code::NotFound { upload::uploaded_already() } else { problem }
}

fn parse(id: Result<Path<String>, PathRejection>) -> Result<UploadId, Problem> {
    // An id that is not text does not exist.
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(|| unnamed(AudioInput::no_such_upload()))
}

/// The id is in the path, so no field is named.
fn unnamed(problem: Problem) -> Problem {
    Problem { field: None, ..problem }
}
