//! Answers to received notes: they go back to the conversation, over the connection of the note.

use crate::{
    config::Tenant,
    gateway::Gateway,
    model::{id::ReceivedId, problem::Problem, received::Received},
    store::StoreError,
};

/// Recipient and connection of a request. Where it answers a received note, both may be left out.
///
/// # Errors
/// `invalid_request` if there is no recipient, or no such received note of this tenant.
pub async fn addressed(
    gateway: &Gateway,
    tenant: &Tenant,
    (to, via): (Option<String>, Option<String>),
    reply_to: Option<&str>,
) -> Result<(String, Option<String>), Problem> {
    let answered = match reply_to.and_then(|id| id.parse().ok()) {
        Some(id) if to.is_none() || via.is_none() => Some(received(gateway, &tenant.name, id).await?),
        _ => None,
    };
    match (to, answered.flatten()) {
        (Some(to), None) => Ok((to, via)),
        (to, Some(Received { conversation, connection, .. })) => {
            Ok((to.unwrap_or(conversation), Some(via.unwrap_or(connection))))
        }
        (None, None) => Err(Problem::invalid("to", MISSING)),
    }
}

/// Clients that send JSON or a form under another type learn where the fields of that type are.
pub const MISSING: &str = "missing: name the recipient, or in `reply_to` the `in_` id of a received note. If the body is the \
                       audio itself, fields are in the query, as in ?to=%2B15551234567; JSON needs Content-Type: \
                       application/json";

/// Reads a received note of the tenant that was announced. `None` if it exists and its record is damaged.
///
/// # Errors
/// `invalid_request` for a note of another tenant, and for one that never was or was erased.
pub(super) async fn received(
    gateway: &Gateway,
    tenant: &str,
    id: ReceivedId,
) -> Result<Option<Received>, Problem> {
    match gateway.store.received(id, tenant).await {
        Err(StoreError::Corrupt(_)) => Ok(None),
        found => match found?.filter(|note| note.status.is_ended()) {
            Some(note) => Ok(Some(note)),
            None => Err(Problem::invalid("reply_to", "there is no such received note")),
        },
    }
}
