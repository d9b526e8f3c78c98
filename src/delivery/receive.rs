//! Taking in what providers say afterwards.

use sha2::{Digest, Sha256};
use voicegate_providers::{Callback, CallbackRequest};

use crate::{
    config::{Connection, Tenant},
    gateway::{Gateway, counted},
    model::problem::Problem,
    store::{Received, Reception},
};

/// Takes in a genuine callback, once, and gives what the provider wants for an answer. When this returns, it is on disk.
///
/// # Errors
/// Where the database fails; the provider calls again.
pub async fn receive(
    gateway: &Gateway,
    tenant: &Tenant,
    connection: &Connection,
    request: &CallbackRequest,
    callback: Callback,
) -> Result<Reception, Problem> {
    let id = callback.id.unwrap_or_else(|| hex::encode(Sha256::digest(&request.body)));
    let received = Received {
        tenant: tenant.name.clone(),
        connection: connection.name.clone(),
        id,
        receipts: callback.receipts,
        now: gateway.clock.now(),
        notify: tenant.webhook.is_some(),
    };
    let reception = gateway.store.receive(&received).await?;
    tracing::info!(
        tenant = tenant.name,
        connection = connection.name,
        receipts = received.receipts.len(),
        changed = reception.changed.len(),
        unmatched = reception.unmatched,
        duplicate = reception.duplicate,
        "a callback came"
    );
    for &note in &reception.changed {
        gateway.changed(&tenant.name, note);
        if let Ok(Some(note)) = gateway.store.note(note, None).await {
            counted::told(&note, &received.receipts);
        }
    }
    // A receipt may let go of a lane, and the bot wants to be told.
    gateway.wake_worker();
    Ok(reception)
}
