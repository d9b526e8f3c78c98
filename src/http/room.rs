//! Refuses or delays audio before it is read: if its tenant may not keep it, and while deliveries need the processors.

use axum::http::{HeaderMap, header};

use crate::{config::Tenant, gateway::Gateway, media::quota::Arriving, model::problem::Problem};

/// The most bytes of fields and framing in a body.
const AROUND: u64 = 128 * 1024;

/// Waits until the request may be read, and counts its audio as kept while it is being read. A repetition of a request is
/// let through although there is no room, because it gets the earlier answer and stores nothing.
///
/// # Errors
/// `quota_exceeded` or `overloaded`.
pub async fn expect(
    gateway: &Gateway,
    tenant: &Tenant,
    headers: &HeaderMap,
    key: Option<&str>,
) -> Result<Option<Arriving>, Problem> {
    gateway.accept_gate.pass(&tenant.name).await?;
    match (gateway.room_for(&tenant.name, at_least(headers)).await, key) {
        (Ok(arriving), _) => Ok(Some(arriving)),
        (Err(problem), None) => Err(problem),
        (Err(problem), Some(key)) => {
            let holder = gateway.store.idempotency(&tenant.name, key, gateway.clock.now()).await?;
            holder.map(|_| None).ok_or(problem)
        }
    }
}

/// The least size that the audio of a body can have.
fn at_least(headers: &HeaderMap) -> u64 {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let length: u64 = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()).unwrap_or_default();
    let kind = text(header::CONTENT_TYPE).unwrap_or_default().trim_start().to_ascii_lowercase();
    if kind.starts_with("application/json") {
        // The audio is base64.
        length.saturating_sub(AROUND) / 4 * 3
    } else if kind.starts_with("multipart/") {
        length.saturating_sub(AROUND)
    } else {
        length
    }
}
