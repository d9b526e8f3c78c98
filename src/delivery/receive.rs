//! Stores the receipts and voice notes that providers report in callbacks.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use voicegate_providers::{Callback, Form, InboundVoice, Receipt, What};

use crate::{
    config::{Connection, Tenant},
    gateway::{Gateway, note_metrics},
    model::{problem::Problem, received::Received},
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
    let mut by_connection: BTreeMap<&str, Events> =
        BTreeMap::from([(called.name.as_str(), Events::default())]);
    for event in callback.events {
        let Some(connection) = owner(tenant, called, event.account.as_deref()) else {
            tracing::warn!(
                tenant = tenant.name,
                connection = called.name,
                "an event came for an account that no connection of this tenant has"
            );
            continue;
        };
        let events = by_connection.entry(connection.name.as_str()).or_default();
        match event.what {
            What::Receipt(receipt) => {
                let id = event.id.unwrap_or_else(|| fingerprint(&receipt));
                events.receipts.push(ReceivedReceipt { id, receipt });
            }
            What::Voice(voice) if is_wanted(tenant, connection, &voice) => {
                let now = gateway.clock.now();
                let (name, provider) = (&connection.name, connection.provider_name);
                events.voices.push(Received::new(&tenant.name, name, provider, voice, now));
            }
            What::Voice(_) => {}
        }
    }
    let mut all = ReceiptOutcome { duplicate: true, ..ReceiptOutcome::default() };
    for (connection, events) in by_connection {
        let reception = take_in(gateway, tenant, connection, events).await?;
        all.duplicate &= reception.duplicate;
        all.unmatched += reception.unmatched;
        all.changed.extend(reception.changed);
        all.received.extend(reception.received);
    }
    // A receipt may release a lane and causes events for the webhook, and a voice note has to be fetched.
    gateway.wake_worker();
    Ok(all)
}

/// The connection that an event belongs to. One callback address may serve several accounts.
fn owner<'a>(tenant: &'a Tenant, called: &'a Connection, account: Option<&str>) -> Option<&'a Connection> {
    let has = |connection: &Connection| {
        connection.provider_name == called.provider_name && connection.provider.account() == account
    };
    match account {
        None => Some(called),
        Some(_) if has(called) => Some(called),
        Some(_) => tenant.connections.values().find(|one| has(one)),
    }
}

/// Whether a voice note is received. Plain audio only where the tenant wants it, or where the provider cannot tell it from
/// a voice note.
fn is_wanted(tenant: &Tenant, connection: &Connection, voice: &InboundVoice) -> bool {
    let is_voice = voice.form == Form::Voice || !connection.provider.marks_voice_notes();
    connection.inbound && (is_voice || tenant.inbound.accept_audio)
}

/// The events of one connection in a callback.
#[derive(Default)]
struct Events {
    receipts: Vec<ReceivedReceipt>,
    voices: Vec<Received>,
}

/// A replacement for the id of an event that has none: a hash of its content.
fn fingerprint(receipt: &Receipt) -> String {
    hex::encode(Sha256::digest(serde_json::to_vec(receipt).unwrap_or_default()))
}

async fn take_in(
    gateway: &Gateway,
    tenant: &Tenant,
    connection: &str,
    Events { receipts, voices }: Events,
) -> Result<ReceiptOutcome, Problem> {
    let received = ReceiptBatch {
        tenant: tenant.name.clone(),
        connection: connection.to_owned(),
        receipts,
        voices,
        now: gateway.clock.now(),
        notify: tenant.webhook.is_some(),
    };
    let reception = gateway.store.receive(&received).await?;
    note_metrics::reported(&tenant.name, connection, received.voices.len(), reception.received.len());
    tracing::info!(
        tenant = tenant.name,
        connection,
        receipts = received.receipts.len(),
        changed = reception.changed.len(),
        unmatched = reception.unmatched,
        voices = reception.received.len(),
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
