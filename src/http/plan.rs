//! `POST /voice/plan`: what would happen to a note.

use axum::{
    Json,
    extract::{Request, State},
};

use super::{
    App,
    auth::Caller,
    body,
    openapi::{Bytes, VoiceForm, VoiceRequestBody},
    voice::VoiceFields,
};
use crate::{delivery::plan, model::problem::Problem, view::VoicePlan};

/// Plan a voice note
///
/// Takes the same request as `POST /voice`, and says for each connection of the route what would be sent there, or why
/// nothing would. The decision is made on the real bytes and by the same rules as sending; a URL is downloaded for it.
/// Nothing is stored or sent, and no provider is asked.
#[utoipa::path(
    post, path = "/voice/plan", tag = "Voice notes", operation_id = "planVoice",
    request_body(
        description = "As with `POST /voice`.",
        content(
            (VoiceRequestBody = "application/json"),
            (VoiceForm = "multipart/form-data"),
            (inline(Bytes) = "audio/*"),
            (inline(Bytes) = "video/*"),
            (inline(Bytes) = "application/ogg"),
            (inline(Bytes) = "application/octet-stream"),
            (inline(Bytes) = "binary/octet-stream"),
        ),
    ),
    responses((status = 200, description = "The plan for each connection of the route.", body = VoicePlan)),
)]
pub async fn plan(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Json<VoicePlan>, Problem> {
    app.gateway.accept_gate.pass(&tenant.name).await?;
    let submission = body::read::<VoiceFields>(&app, &tenant.name, request).await?;
    let (request, _held) = submission.into_request(&app.gateway, &tenant, None).await?;
    let plan = plan::plan(&app.gateway, &tenant, request).await?;
    Ok(Json(VoicePlan::from(&plan)))
}
