//! Watches for missing receipts, and looks up sends whose outcome is unknown.

use std::time::{Duration, Instant};

use voicegate_providers::{LookUp, Receipt, ReceiptStatus, UnknownSend, parse_recipient};

use super::persist;
use crate::{
    gateway::{Gateway, server_slots::hung},
    model::note::{Note, Status},
    store::{Claim, JobEnd, ReceiptBatch, ReceivedReceipt, Stall, Step, StoreError, WATCH, connection_key},
};

/// The wait before the first look-up of an unknown outcome, because the provider's records appear with a delay.
pub const FIRST_LOOK: Duration = Duration::from_secs(2);

/// The waits between look-ups. After the last one, only a receipt can resolve the note.
const LOOKS: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(20),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(6 * 60 * 60),
];

/// The wait before a job is claimed again that was returned because the database failed.
const BREATH: Duration = Duration::from_secs(2);

/// Handles a note whose `ack_deadline` has passed.
pub async fn overdue(gateway: &Gateway, claim: &Claim) {
    let result = judge_overdue(gateway, claim).await;
    report(gateway, claim, "deadline", result).await;
}

async fn judge_overdue(gateway: &Gateway, claim: &Claim) -> Result<(), StoreError> {
    let note = &claim.note;
    let connection = &note.current().connection;
    let states = gateway.store.connections(&note.tenant).await?;
    // A connection without any callback is not set up at the provider, which is no reason to call this note stalled.
    if !states.iter().any(|state| state.connection == *connection && state.callback_at.is_some()) {
        return gateway.store.finish(&claim.lease(), &done(gateway)).await;
    }
    let why = "a note was accepted and no receipt came within ack_deadline; \
               see whether the provider still calls back (voicegate callbacks status)";
    let stall = Stall {
        now: gateway.clock.now(),
        notify: gateway.live().notifies(&note.tenant),
        why: why.to_owned(),
    };
    if gateway.store.stall(claim, &stall).await? {
        tracing::warn!(note.id = %note.id, tenant = note.tenant, connection, "note {} is stalled", note.id);
        gateway.changed(&note.tenant, note.id);
    }
    Ok(())
}

/// Asks the provider about a note whose outcome is unknown.
pub async fn look_up(gateway: &Gateway, claim: &Claim) {
    let result = ask(gateway, claim).await;
    report(gateway, claim, "look-up", result).await;
}

async fn ask(gateway: &Gateway, claim: &Claim) -> Result<(), StoreError> {
    let note = &claim.note;
    let asked = async { if note.status == Status::Unknown { find(gateway, note).await } else { None } };
    let Some(found) = gateway.stop.run_until_cancelled(asked).await else {
        // The process that claims the job next can make the look-up.
        let step = Step::Retry { at: gateway.clock.now(), pause_connection_until: None };
        return gateway.store.finish(&claim.lease(), &JobEnd { step, ..done(gateway) }).await;
    };
    if let Some(receipt) = found {
        let connection = &note.current().connection;
        let received = ReceiptBatch {
            tenant: note.tenant.clone(),
            connection: connection.clone(),
            receipts: vec![ReceivedReceipt {
                id: format!("look-up {} {}", note.id, receipt.message_id),
                receipt,
            }],
            voices: Vec::new(),
            now: gateway.clock.now(),
            notify: gateway.live().notifies(&note.tenant),
        };
        gateway.store.receive(&received).await?;
        tracing::info!(note.id = %note.id, tenant = note.tenant, connection, "note {} was found at the provider", note.id);
        gateway.changed(&note.tenant, note.id);
        // The job was removed when the receipt was stored.
        return Ok(());
    }
    let again = LOOKS.get(claim.tries as usize).filter(|_| note.status == Status::Unknown);
    let end = match again {
        Some(wait) => {
            let at = gateway.clock.now() + *wait;
            JobEnd { step: Step::Retry { at, pause_connection_until: None }, ..done(gateway) }
        }
        None => done(gateway),
    };
    gateway.store.finish(&claim.lease(), &end).await
}

/// Looks the note up in the provider's records.
async fn find(gateway: &Gateway, note: &Note) -> Option<Receipt> {
    let live = gateway.live();
    let connection = live.connection(&note.tenant, &note.current().connection)?;
    // The provider's records have wall-clock times.
    let (now, wall) = (gateway.clock.now(), gateway.clock.wall());
    let cx = live.context(wall, connection.timeout);
    let dispatched_at = note.dispatched_at?;
    let doubtful = UnknownSend {
        to: parse_recipient(&note.current().to).ok()?,
        correlation_ids: note.correlation_ids.clone(),
        // With a later time the note might not be found.
        dispatched_at: dispatched_at.min(dispatched_at + wall.duration_since(now)),
    };
    let begun = Instant::now();
    let asked =
        tokio::time::timeout(live.prepare_limit(connection), connection.provider.look_up(&cx, &doubtful))
            .await;
    let watched = format!("{WATCH}.{}", connection.name);
    gateway
        .server_slots
        .record(&connection_key(&note.tenant, &watched), hung(begun.elapsed(), connection.timeout));
    match asked {
        Ok(Ok(LookUp::Found(accepted))) => Some(Receipt {
            message_id: accepted.message_id,
            correlation_id: Some(note.id.to_string()),
            guess: None,
            status: ReceiptStatus::Accepted,
            at: now,
            failure: None,
            trace: accepted.trace,
        }),
        Ok(Ok(LookUp::NotSeen)) => None,
        Ok(Err(error)) => {
            tracing::warn!(note.id = %note.id, connection = connection.name, %error, "a look-up failed");
            None
        }
        Err(_) => None,
    }
}

fn done(gateway: &Gateway) -> JobEnd {
    JobEnd { step: Step::Done, health: None, told: None, now: gateway.clock.now() }
}

/// Returns a job that could not be recorded to the queue, as soon as the database accepts the write.
async fn report(gateway: &Gateway, claim: &Claim, what: &str, result: Result<(), StoreError>) {
    let error = match result {
        // The note was resolved in the meantime, which removed the job.
        Ok(()) | Err(StoreError::LeaseLost) => return,
        Err(error) => error,
    };
    let id = claim.note.id;
    tracing::error!(note.id = %id, %error, "a {what} of note {id} could not be recorded; it is taken up again");
    let step = Step::Retry { at: gateway.clock.now() + BREATH, pause_connection_until: None };
    let end = JobEnd { step, ..done(gateway) };
    let lease = claim.lease();
    let finish = || gateway.store.finish(&lease, &end);
    match persist::written(id, what, persist::lease(gateway), finish).await {
        Ok(()) | Err(StoreError::LeaseLost) => {}
        Err(error) => {
            tracing::error!(note.id = %id, %error, "a {what} of note {id} waits for its lease to end")
        }
    }
}
