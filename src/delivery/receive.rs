//! Stores the receipts that providers report in callbacks.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use voicegate_providers::{Callback, Receipt, What};

use crate::{
    config::{Connection, Tenant},
    gateway::{Gateway, note_metrics},
    model::problem::Problem,
    store::{ReceiptBatch, ReceiptOutcome, ReceivedReceipt},
};

/// Stores the events of an authenticated callback, each event once. When this returns, they are on disk.
///
/// # Errors
/// Fails if the database fails; the provider then repeats the callback.
pub async fn receive(
    gateway: &Gateway,
    tenant: &Tenant,
    called: &Connection,
    callback: Callback,
) -> Result<ReceiptOutcome, Problem> {
    // The time of the callback is recorded for the connection even if no event was for the gateway.
    let mut by_connection: BTreeMap<&str, Vec<ReceivedReceipt>> =
        BTreeMap::from([(called.name.as_str(), Vec::new())]);
    for event in callback.events {
        let What::Receipt(receipt) = event.what else { continue };
        let Some(connection) = owner(tenant, called, event.account.as_deref()) else {
            tracing::warn!(
                tenant = tenant.name,
                connection = called.name,
                "a receipt came for an account that no connection of this tenant has"
            );
            continue;
        };
        let id = event.id.unwrap_or_else(|| fingerprint(&receipt));
        by_connection.entry(connection).or_default().push(ReceivedReceipt { id, receipt });
    }
    let mut all = ReceiptOutcome { duplicate: true, ..ReceiptOutcome::default() };
    for (connection, events) in by_connection {
        let reception = take_in(gateway, tenant, connection, events).await?;
        all.duplicate &= reception.duplicate;
        all.unmatched += reception.unmatched;
        all.changed.extend(reception.changed);
    }
    // A receipt may release a lane, and it causes events for the webhook.
    gateway.wake_worker();
    Ok(all)
}

/// The connection that an event belongs to. One callback address may serve several accounts.
fn owner<'a>(tenant: &'a Tenant, called: &'a Connection, account: Option<&str>) -> Option<&'a str> {
    let has = |connection: &Connection| {
        connection.provider_name == called.provider_name && connection.provider.account() == account
    };
    match account {
        None => Some(called.name.as_str()),
        Some(_) if has(called) => Some(called.name.as_str()),
        Some(_) => tenant.connections.values().find(|one| has(one)).map(|one| one.name.as_str()),
    }
}

/// A replacement for the id of an event that has none: a hash of its content.
fn fingerprint(receipt: &Receipt) -> String {
    hex::encode(Sha256::digest(serde_json::to_vec(receipt).unwrap_or_default()))
}

async fn take_in(
    gateway: &Gateway,
    tenant: &Tenant,
    connection: &str,
    receipts: Vec<ReceivedReceipt>,
) -> Result<ReceiptOutcome, Problem> {
    let received = ReceiptBatch {
        tenant: tenant.name.clone(),
        connection: connection.to_owned(),
        receipts,
        now: gateway.clock.now(),
        notify: tenant.webhook.is_some(),
    };
    let reception = gateway.store.receive(&received).await?;
    tracing::info!(
        tenant = tenant.name,
        connection,
        receipts = received.receipts.len(),
        changed = reception.changed.len(),
        unmatched = reception.unmatched,
        duplicate = reception.duplicate,
        "callback received"
    );
    let receipts: Vec<Receipt> = received.receipts.into_iter().map(|event| event.receipt).collect();
    for &note in &reception.changed {
        gateway.changed(&tenant.name, note);
        if let Ok(Some(note)) = gateway.store.note(note, None).await {
            note_metrics::receipts(&note, &receipts);
        }
    }
    Ok(reception)
}
