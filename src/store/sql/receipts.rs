//! Receipts of providers, and the notes that they belong to. This file is compiled once for each database.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sqlx::QueryBuilder;
use voicegate_providers::Receipt;

use super::{
    dialect::{Tx, ahead, elect, lock_delivery, lock_names},
    events,
    read::doc,
    received_rows, webhook_rows,
    write::{Saving, record_health, require_lease, save},
};
use crate::{
    model::{
        event::EventKind,
        note::{Note, NoteId, Status},
        received::Received,
    },
    store::{
        Claim, JobEnd, JobLease, ReceiptBatch, ReceiptOutcome, Stall, Step, StoreError, Stored,
        connection_key, document::Document,
    },
};

/// See [`crate::store::Store::receive`].
pub async fn receive(tx: &mut Tx<'_>, received: &ReceiptBatch) -> Result<ReceiptOutcome, StoreError> {
    let connection = connection_key(&received.tenant, &received.connection);
    let fresh = fresh(tx, &connection, received).await?;
    let is_old = fresh.is_empty() && !(received.receipts.is_empty() && received.voices.is_empty());
    if is_old && received.voices.is_empty() {
        return Ok(ReceiptOutcome { duplicate: true, ..ReceiptOutcome::default() });
    }
    let mut reception = ReceiptOutcome::default();
    let names = names(tx, &connection, &fresh).await?;
    lock_names(tx, &names).await?;
    for receipt in fresh {
        match addressee(tx, &connection, receipt).await? {
            Some(note) if !is_under_way(tx, note.id).await? => {
                let mut latest = note.clone();
                if apply(tx, note, receipt, received.now, received.notify).await? {
                    reception.changed.push(latest.id);
                    latest.receive(receipt, received.now);
                    // Receipts that came before under the message's own id belong to the note, as is known only now.
                    take_early(tx, &latest, &connection, received.now, received.notify).await?;
                }
            }
            // The receipt is applied by the holder of the note's lease when the attempt has ended.
            found => {
                park(tx, &connection, receipt, received.now).await?;
                reception.unmatched += usize::from(found.is_none());
            }
        }
    }
    // The messages are sorted, so that two deliveries of the same batch never deadlock.
    let mut voices: Vec<&Received> = received.voices.iter().collect();
    voices.sort_by_key(|voice| &voice.message_id);
    for voice in voices {
        if received_rows::add(tx, &connection, voice, received.now).await? {
            reception.received.push(voice.id);
        }
    }
    if is_old && reception.received.is_empty() {
        return Ok(ReceiptOutcome { duplicate: true, ..reception });
    }
    sqlx::query(
        "INSERT INTO connections (connection, callback_at) VALUES ($1, $2)
         ON CONFLICT (connection) DO UPDATE SET callback_at = excluded.callback_at",
    )
    .bind(&connection)
    .bind(received.now.as_millisecond())
    .execute(&mut **tx)
    .await?;
    Ok(reception)
}

/// Selects the receipts that are new. Each has its own id, because providers regroup events when they deliver them
/// again.
async fn fresh<'a>(
    tx: &mut Tx<'_>,
    connection: &str,
    received: &'a ReceiptBatch,
) -> Result<Vec<&'a Receipt>, StoreError> {
    // The ids are sorted, so that two deliveries of the same batch never deadlock.
    let mut ids: Vec<&str> = received.receipts.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut new = BTreeSet::new();
    for id in ids {
        let fresh = sqlx::query(
            "INSERT INTO callbacks (connection, id, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(connection)
        .bind(id)
        .bind(received.now.as_millisecond())
        .execute(&mut **tx)
        .await?;
        if fresh.rows_affected() > 0 {
            new.insert(id);
        }
    }
    // The first receipt counts if an id occurs twice in a batch.
    let events = received.receipts.iter().filter(|event| new.remove(event.id.as_str()));
    Ok(events.map(|event| &event.receipt).collect())
}

/// Lists the names to lock for these receipts: the messages that they name, whose notes may just be recorded by an
/// attempt, and the notes that have those messages already, with their lanes.
async fn names(tx: &mut Tx<'_>, connection: &str, receipts: &[&Receipt]) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for receipt in receipts {
        names.extend(
            std::iter::once(&receipt.message_id)
                .chain(&receipt.correlation_id)
                .chain(&receipt.guess)
                .map(|name| message(connection, name)),
        );
        if let Some(note) = addressee(tx, connection, receipt).await? {
            names.extend([note.id.to_string(), note.lane()]);
        }
    }
    Ok(names)
}

/// The lock name of a message.
pub fn message(connection: &str, name: &str) -> String {
    format!("{connection}\u{1f}{name}")
}

/// Applies the receipts that came for a note before its message was recorded, or while it was in flight.
pub async fn take_early(
    tx: &mut Tx<'_>,
    note: &Note,
    connection: &str,
    now: Timestamp,
    notify: bool,
) -> Result<Stored, StoreError> {
    let rows = sqlx::query(
        "DELETE FROM early_receipts WHERE id IN (
            SELECT e.id FROM messages m
            JOIN early_receipts e ON e.connection = m.connection AND e.message_id = m.name
            WHERE m.note_id = $1 AND m.connection = $2
            UNION
            SELECT e.id FROM messages m
            JOIN early_receipts e ON e.connection = m.connection AND e.mark = m.name
            WHERE m.note_id = $1 AND m.connection = $2)
         RETURNING doc",
    )
    .bind(note.id.to_string())
    .bind(connection)
    .fetch_all(&mut **tx)
    .await?;
    let stored = if rows.is_empty() { Stored::AsGiven } else { Stored::WithReceipts };
    let mut latest = note.clone();
    for row in rows {
        let Ok(receipt) = doc::<Receipt>(&row, "receipt") else { continue };
        match apply(tx, latest.clone(), &receipt, now, notify).await {
            // The end of the try is recorded in any case.
            Err(error) if !error.is_of_database() => {
                tracing::error!(note.id = %note.id, %error, "a receipt of note {} is dropped", note.id);
            }
            applied => {
                applied?;
                latest.receive(&receipt, now);
            }
        }
    }
    Ok(stored)
}

/// The name of an erased note's message, by which late receipts still find the note. The name itself may contain the
/// recipient's number.
fn disguised(name: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(name)))
}

/// Disguises the names of an erased note's message, and removes the receipts that wait for one.
pub async fn disguise(tx: &mut Tx<'_>, note: NoteId) -> Result<(), StoreError> {
    let names: Vec<(String, String)> =
        sqlx::query_as("SELECT connection, name FROM messages WHERE note_id = $1 ORDER BY connection, name")
            .bind(note.to_string())
            .fetch_all(&mut **tx)
            .await?;
    for (connection, name) in names.iter().filter(|(_, name)| !name.starts_with("sha256:")) {
        sqlx::query("UPDATE messages SET name = $3 WHERE connection = $1 AND name = $2")
            .bind(connection)
            .bind(name)
            .bind(disguised(name))
            .execute(&mut **tx)
            .await?;
        for sql in [
            "DELETE FROM early_receipts WHERE connection = $1 AND message_id = $2",
            "DELETE FROM early_receipts WHERE connection = $1 AND mark = $2",
        ] {
            sqlx::query(sql).bind(connection).bind(name).execute(&mut **tx).await?;
        }
    }
    Ok(())
}

/// Finds the note of a receipt. An unreadable note is not found, and the provider need not repeat the callback.
async fn addressee(tx: &mut Tx<'_>, connection: &str, receipt: &Receipt) -> Result<Option<Note>, StoreError> {
    let row = sqlx::query(
        "SELECT n.doc FROM messages m JOIN notes n ON n.id = m.note_id
         WHERE m.connection = $1 AND m.name IN ($2, $3, $4, $5)
         ORDER BY m.name IN ($2, $5) DESC, m.name = $3 DESC LIMIT 1",
    )
    .bind(connection)
    .bind(&receipt.message_id)
    .bind(receipt.correlation_id.as_ref().unwrap_or(&receipt.message_id))
    .bind(receipt.guess.as_ref().unwrap_or(&receipt.message_id))
    .bind(disguised(&receipt.message_id))
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.and_then(|row| doc(&row, "note").ok()))
}

/// Locks the note's delivery, so that no claim can lease it until the commit.
async fn is_under_way(tx: &mut Tx<'_>, note: NoteId) -> Result<bool, StoreError> {
    lock_delivery(tx, note).await?;
    let found = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM deliveries
                        WHERE note_id = $1 AND kind = 'send' AND state IN ('leased', 'sending'))",
    )
    .bind(note.to_string())
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

async fn park(
    tx: &mut Tx<'_>,
    connection: &str,
    receipt: &Receipt,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO early_receipts (connection, message_id, mark, at, doc) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(connection)
    .bind(&receipt.message_id)
    .bind(receipt.guess.as_ref().or(receipt.correlation_id.as_ref()))
    .bind(now.as_millisecond())
    .bind(Document::of(receipt)?.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Applies a receipt to the note and returns whether that changed anything.
async fn apply(
    tx: &mut Tx<'_>,
    mut note: Note,
    receipt: &Receipt,
    now: Timestamp,
    notify: bool,
) -> Result<bool, StoreError> {
    if !note.receive(receipt, now) {
        return Ok(false);
    }
    // A note found by its correlation id gets the message id recorded.
    if !note.erased {
        name(tx, &note, std::iter::once(receipt.message_id.as_str())).await?;
    }
    // A note that waits for a retry stays in the queue until the provider confirms that it has it.
    let ended = note.status.is_ended();
    save(tx, &note, Saving { ended, notify }).await?;
    if ended {
        let lane: Option<String> = sqlx::query_scalar(
            "DELETE FROM deliveries WHERE note_id = $1 AND kind = 'send' AND state IN ('queued', 'held')
             RETURNING lane",
        )
        .bind(note.id.to_string())
        .fetch_optional(&mut **tx)
        .await?;
        if let Some(lane) = lane {
            elect(tx, &lane).await?;
        }
        let known = if note.status == Status::Accepted { "" } else { "overdue" };
        sqlx::query("DELETE FROM deliveries WHERE note_id = $1 AND kind IN ('look_up', $2)")
            .bind(note.id.to_string())
            .bind(known)
            .execute(&mut **tx)
            .await?;
    }
    Ok(true)
}

/// See [`crate::store::Store::finish`].
pub async fn finish(tx: &mut Tx<'_>, lease: &JobLease, end: &JobEnd) -> Result<(), StoreError> {
    lock_names(tx, &[lease.subject.id().to_string()]).await?;
    if let Some(told) = &end.told {
        webhook_rows::record(tx, lease, &told.attempt).await?;
    }
    let due = match end.step {
        Step::Retry { at, .. } => Some(at),
        _ => None,
    };
    match due {
        Some(due) => {
            let due = due.as_millisecond() + ahead(tx, end.now).await?;
            let kept = sqlx::query(
                "UPDATE deliveries SET state = 'queued', due_at = $3, lease_until = NULL
                 WHERE id = $1 AND fence = $2",
            )
            .bind(lease.delivery)
            .bind(lease.fence)
            .bind(due)
            .execute(&mut **tx)
            .await?;
            require_lease(kept.rows_affected())?;
        }
        None => done(tx, (lease.delivery, lease.fence)).await?,
    }
    if let Some((connection, health)) = &end.health {
        record_health(tx, connection, health, (lease.tally, end.now)).await?;
    }
    match &end.told {
        Some(told) => webhook_rows::judge(tx, lease, told, end.now).await,
        None => Ok(()),
    }
}

/// See [`crate::store::Store::stall`].
pub async fn stall(tx: &mut Tx<'_>, claim: &Claim, stall: &Stall) -> Result<bool, StoreError> {
    lock_names(tx, &[claim.note.id.to_string()]).await?;
    done(tx, (claim.delivery, claim.fence)).await?;
    let row = sqlx::query("SELECT doc FROM notes WHERE id = $1")
        .bind(claim.note.id.to_string())
        .fetch_one(&mut **tx)
        .await?;
    let Ok(mut note) = doc::<Note>(&row, "note") else { return Ok(false) };
    if note.status != Status::Accepted || note.stalled {
        return Ok(false);
    }
    note.stalled = true;
    note.updated_at = stall.now;
    save(tx, &note, Saving { ended: true, notify: stall.notify }).await?;
    let subject = (note.tenant.as_str(), note.id.to_string());
    let doc = Document::of(&note)?;
    events::add(tx, (subject.0, &subject.1), &doc, EventKind::Stalled, stall.now, stall.notify).await?;
    // The failure is only shown and does not pause the connection: the note may well arrive.
    sqlx::query(
        "INSERT INTO connections (connection, seen_at, failure) VALUES ($1, $2, $3)
         ON CONFLICT (connection) DO UPDATE SET seen_at = excluded.seen_at, failure = excluded.failure",
    )
    .bind(connection_key(&note.tenant, &note.current().connection))
    .bind(stall.now.as_millisecond())
    .bind(&stall.why)
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

async fn done(tx: &mut Tx<'_>, (delivery, fence): (i64, i64)) -> Result<(), StoreError> {
    let lane: Option<String> =
        sqlx::query_scalar("DELETE FROM deliveries WHERE id = $1 AND fence = $2 RETURNING lane")
            .bind(delivery)
            .bind(fence)
            .fetch_optional(&mut **tx)
            .await?;
    elect(tx, &lane.ok_or(StoreError::LeaseLost)?).await
}

/// Records the ids by which the provider knows a note's message.
pub async fn name(tx: &mut Tx<'_>, note: &Note, names: impl Iterator<Item = &str>) -> Result<(), StoreError> {
    let connection = connection_key(&note.tenant, &note.current().connection);
    // The names are deduplicated, because one statement may not change a row twice.
    let names: BTreeSet<&str> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::new("INSERT INTO messages (connection, name, note_id) ");
    query.push_values(names, |mut row, name| {
        row.push_bind(&connection).push_bind(name).push_bind(note.id.to_string());
    });
    query.push(" ON CONFLICT (connection, name) DO UPDATE SET note_id = excluded.note_id");
    query.build().execute(&mut **tx).await?;
    Ok(())
}
