//! `POST /voice/plan`: what would become of a note.

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
/// Takes what `POST /voice` takes, and says for each connection of the route what would be sent there, or why nothing would.
/// Judged from the real bytes, by the rules that sending goes by; a URL is downloaded for it. Nothing is stored or sent, and
/// no provider is asked.
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
    responses((status = 200, description = "What would become of it.", body = VoicePlan)),
)]
pub async fn plan(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Json<VoicePlan>, Problem> {
    let submission = body::read::<VoiceFields>(&app, &tenant.name, request).await?;
    let (request, _held) = submission.into_request(None);
    let plan = plan::plan(&app.gateway, &tenant, request).await?;
    Ok(Json(VoicePlan::from(&plan)))
}
