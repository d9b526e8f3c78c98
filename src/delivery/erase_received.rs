//! Erases received notes.

use super::inbound;
use crate::{
    config::Tenant,
    gateway::Gateway,
    model::{code::Code, id::ReceivedId, problem::Problem},
    store::StoreError,
};

/// Erases a received note with its audio and its events. Only the fact remains that its message came. Repeating it is
/// harmless.
///
/// # Errors
/// `not_found` for a note of another tenant, and for one that was not announced yet.
pub async fn erase(gateway: &Gateway, tenant: &Tenant, id: ReceivedId) -> Result<(), Problem> {
    let absent = || Problem::new(Code::NotFound, "there is no such received note");
    if !gateway.store.has_received(id, Some(&tenant.name)).await? {
        return Err(absent());
    }
    let note = match gateway.store.received(id, &tenant.name).await {
        Err(StoreError::Corrupt(_)) => None,
        note => note?,
    };
    if !gateway.store.erase_received(id, gateway.clock.now()).await? {
        return Err(absent());
    }
    // The files are removed after the row. If the process crashes in between, they are removed by the next sweep.
    gateway.media.remove_received(id).await?;
    gateway.store.received_audio_removed(id).await?;
    if let Some(note) = &note {
        inbound::forget_renders(gateway, note).await;
    }
    tracing::info!(received.id = %id, "received note {id} was erased");
    Ok(())
}
