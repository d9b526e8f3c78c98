//! Metrics of notes: the mapping from domain events to metrics and labels.

use std::time::Duration;

use voicegate_providers::{Receipt, ReceiptStatus};

use crate::{
    config::Tenants,
    model::{
        code::Stage,
        note::{Note, Outcome, Status},
        received::Received,
    },
    store::{Change, Step},
    telemetry::metrics::names::{
        ATTEMPT, ATTEMPT_ERRORS, ATTEMPTS, NOTE_ACCEPTED, NOTE_DELIVERED, NOTE_ERRORS, NOTES, PAUSES,
        RECEIVED, RECEIVED_ERRORS, RECEIVED_SECONDS, WRONG_KEYS,
    },
};

/// Initialises the series of all connections with zero.
pub fn expect(tenants: &Tenants) {
    use Status::{Accepted, Canceled, Expired, Failed, Queued, Unknown};
    WRONG_KEYS.show([]);
    for tenant in tenants.iter() {
        for connection in tenant.connections.values() {
            let (tenant, name) = (tenant.name.as_str(), connection.name.as_str());
            for status in [Queued, Accepted, Failed, Expired, Canceled, Unknown] {
                NOTES.show([tenant, name, status.as_str()]);
            }
            for outcome in Outcome::ALL {
                ATTEMPTS.show([tenant, name, connection.provider_name, outcome.as_str()]);
            }
            if connection.inbound {
                for status in ["new", "received", "failed"] {
                    RECEIVED.show([tenant, name, status]);
                }
            }
            PAUSES.show([tenant, name]);
        }
    }
}

/// A note reached its present status: it was accepted from a bot, ended, or a receipt raised it.
pub fn note(note: &Note) {
    let entry = note.current();
    NOTES.inc([&note.tenant, &entry.connection, note.status.as_str()]);
    let labels = [note.tenant.as_str(), entry.connection.as_str()];
    let waited = note.updated_at.duration_since(note.due_at()).as_secs_f64().max(0.0);
    match note.status {
        Status::Accepted => NOTE_ACCEPTED.observe(labels, waited),
        Status::Delivered => NOTE_DELIVERED.observe(labels, waited),
        _ => {}
    }
    if let Some(error) = note.error.as_ref().filter(|_| !note.status.is_accepted()) {
        let stage = error.stage.as_ref().map_or("", Stage::as_str);
        NOTE_ERRORS.inc([labels[0], labels[1], error.code.as_str(), stage]);
    }
}

/// The end of a received note was committed.
pub fn received(note: &Received) {
    let labels = [note.tenant.as_str(), note.connection.as_str()];
    RECEIVED.inc([labels[0], labels[1], note.status.as_str()]);
    if let Some(ended_at) = note.ended_at {
        let took = ended_at.duration_since(note.received_at).as_secs_f64().max(0.0);
        RECEIVED_SECONDS.observe(labels, took);
    }
    if let Some(error) = &note.error {
        let stage = error.stage.as_ref().map_or("", Stage::as_str);
        RECEIVED_ERRORS.inc([labels[0], labels[1], error.code.as_str(), stage]);
    }
}

/// A callback reported voice notes, of which `new` were not known before.
pub fn reported(tenant: &str, connection: &str, all: usize, new: usize) {
    for (status, count) in [("new", new), ("duplicate", all.saturating_sub(new))] {
        for _ in 0..count {
            RECEIVED.inc([tenant, connection, status]);
        }
    }
}

/// The end of an attempt or of a note was committed.
pub fn change(change: &Change) {
    match change.step {
        Step::Done | Step::Hold { .. } => note(&change.note),
        Step::Retry { pause_connection_until: Some(_), .. } => {
            PAUSES.inc([&change.note.tenant, &change.note.current().connection]);
        }
        _ => {}
    }
}

/// An attempt at `provider` ended. It is the note's last one.
pub fn attempt(note: &Note, provider: &str) {
    let Some(attempt) = note.attempts.last() else { return };
    let (tenant, connection, outcome) = (&note.tenant, &attempt.connection, attempt.outcome.as_str());
    ATTEMPTS.inc([tenant, connection, provider, outcome]);
    ATTEMPT.observe([provider, outcome], Duration::from_millis(attempt.took_ms).as_secs_f64());
    if let Some(error) = &attempt.error {
        let stage = error.stage.as_ref().map_or("", Stage::as_str);
        ATTEMPT_ERRORS.inc([tenant, connection, error.code.as_str(), stage]);
    }
}

/// Receipts changed the note. The note counts if one of them gave it its present status; its other times may have been
/// set before.
pub fn receipts(note: &Note, receipts: &[Receipt]) {
    let (status, at) = match note.status {
        Status::Accepted => (ReceiptStatus::Accepted, note.accepted_at),
        Status::Sent => (ReceiptStatus::Sent, note.sent_at),
        Status::Delivered => (ReceiptStatus::Delivered, note.delivered_at),
        Status::Read => (ReceiptStatus::Read, note.read_at),
        Status::Played => (ReceiptStatus::Played, note.played_at),
        Status::Failed => (ReceiptStatus::Failed, None),
        _ => return,
    };
    let raised = |receipt: &&Receipt| receipt.status == status && at.is_none_or(|at| at == receipt.at);
    if receipts.iter().any(|receipt| raised(&receipt)) {
        self::note(note);
    }
}
