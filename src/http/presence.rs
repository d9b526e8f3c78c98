//! `POST /presence`: a sign to a person that a note is being recorded.

use axum::{
    extract::{Request, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use voicegate_providers as providers;

use super::{App, auth::Caller, body};
use crate::{delivery::presence, model::problem::Problem, view::grammar::Recipient};

/// The sign, and who sees it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PresenceRequest {
    #[schema(value_type = Recipient)]
    to: String,
    /// A connection or a route. Default: the route of the tenant. The sign is shown over its first connection that has it.
    #[schema(examples("whatsapp"))]
    via: Option<String>,
    state: PresenceState,
}

/// `recording`: a note is being recorded. The sign ends with a message, or by itself after 5 to 85 seconds, as the provider
/// has it. `paused`: it ends now.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PresenceState {
    Recording,
    Paused,
}

/// Show that a note is being recorded
///
/// For the time in which a bot makes its audio. For speech that the gateway has made, `presence = "recording"` on a
/// connection does this by itself.
#[utoipa::path(
    post, path = "/presence", tag = "Voice notes", operation_id = "showPresence",
    request_body(description = "The sign.", content = PresenceRequest),
    responses((status = 204, description = "The provider has taken it.")),
)]
pub async fn show(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<StatusCode, Problem> {
    let asked: PresenceRequest = body::order(&app, &tenant.name, request).await?;
    let sign = match asked.state {
        PresenceState::Recording => providers::Presence::Recording,
        PresenceState::Paused => providers::Presence::Paused,
    };
    presence::show(&app.gateway, &tenant, &asked.to, asked.via.as_deref(), sign).await?;
    Ok(StatusCode::NO_CONTENT)
}
