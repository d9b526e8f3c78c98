//! Changes to a leased note, each guarded by its fence.

use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};

use super::{events, lanes::elect, receipts};
use crate::{
    breaker,
    event::EventKind,
    note::{Note, NoteId},
    store::{Change, Claim, Health, Learned, Step, StoreError, connection_key},
};

pub async fn write(
    tx: &mut Transaction<'_, Sqlite>,
    claim: &Claim,
    change: &Change,
) -> Result<(), StoreError> {
    let note = &change.note;
    let lane: Option<String> = sqlx::query_scalar("SELECT lane FROM deliveries WHERE id = $1 AND fence = $2")
        .bind(claim.delivery)
        .bind(claim.fence)
        .fetch_optional(&mut **tx)
        .await?;
    let lane = lane.ok_or(StoreError::LeaseLost)?;
    match change.step {
        Step::Done => {
            sqlx::query("DELETE FROM deliveries WHERE id = $1")
                .bind(claim.delivery)
                .execute(&mut **tx)
                .await?;
            elect(tx, &lane).await?;
        }
        Step::Progress | Step::Dispatching => {
            let state = if change.step == Step::Dispatching { "sending" } else { "leased" };
            let held = sqlx::query("UPDATE deliveries SET state = $2 WHERE id = $1 AND state = 'leased'")
                .bind(claim.delivery)
                .bind(state)
                .execute(&mut **tx)
                .await?;
            if held.rows_affected() == 0 {
                return Err(StoreError::LeaseLost);
            }
        }
        Step::Retry { at: due, .. } | Step::Hold { until: due } => {
            let state = if matches!(change.step, Step::Hold { .. }) { "held" } else { "queued" };
            sqlx::query("UPDATE deliveries SET state = $2, due_at = $3, lease_until = NULL WHERE id = $1")
                .bind(claim.delivery)
                .bind(state)
                .bind(due.as_millisecond())
                .execute(&mut **tx)
                .await?;
            if note.lane() != lane {
                move_on(tx, claim, note, &lane, due).await?;
            }
        }
    }
    let ended = matches!(change.step, Step::Done | Step::Hold { .. });
    save(tx, note, Saving { ended, notify: change.notify }).await?;
    learn(tx, &change.learned).await?;
    if let Some((connection, health)) = &change.health {
        heard_of(tx, connection, health, note.updated_at).await?;
    }
    if let Step::Retry { pause_connection_until: Some(until), .. } = change.step {
        // The connection of the attempt; a note that moves on never pauses the one it left.
        sqlx::query(
            "INSERT INTO connections (connection, paused_until) VALUES ($1, $2)
             ON CONFLICT (connection) DO UPDATE SET paused_until = MAX(paused_until, excluded.paused_until)",
        )
        .bind(connection_key(&note.tenant, &note.current().connection))
        .bind(until.as_millisecond())
        .execute(&mut **tx)
        .await?;
    }
    follow_up(tx, change).await
}

/// What begins with a change, and what came before it was written.
async fn follow_up(tx: &mut Transaction<'_, Sqlite>, change: &Change) -> Result<(), StoreError> {
    let note = &change.note;
    for (kind, due) in [("overdue", change.deadline), ("look_up", change.look_up)] {
        if let Some(due) = due {
            sqlx::query("DELETE FROM deliveries WHERE note_id = $1 AND kind = $2")
                .bind(note.id.to_string())
                .bind(kind)
                .execute(&mut **tx)
                .await?;
            events::watch(tx, note, kind, note.updated_at, due).await?;
        }
    }
    match change.step {
        Step::Progress => Ok(()),
        Step::Dispatching => receipts::name(tx, note, note.marks.iter().map(String::as_str)).await,
        Step::Done | Step::Retry { .. } | Step::Hold { .. } => {
            if note.status.is_accepted() {
                let names = note.provider_message_id.iter().chain(&note.marks);
                receipts::name(tx, note, names.map(String::as_str)).await?;
            }
            let connection = connection_key(&note.tenant, &note.current().connection);
            receipts::take_early(tx, note, &connection, note.updated_at, change.notify).await
        }
    }
}

/// Lets go of the lane of a note whose outcome is unknown, before its time.
pub async fn release(tx: &mut Transaction<'_, Sqlite>, note: NoteId) -> Result<(), StoreError> {
    let lane: Option<String> = sqlx::query_scalar(
        "DELETE FROM deliveries WHERE note_id = $1 AND kind = 'send' AND state = 'held' RETURNING lane",
    )
    .bind(note.to_string())
    .fetch_optional(&mut **tx)
    .await?;
    match lane {
        Some(lane) => elect(tx, &lane).await,
        None => Ok(()),
    }
}

/// Takes a note that waits out of the queue.
pub async fn cancel(tx: &mut Transaction<'_, Sqlite>, note: &Note, notify: bool) -> Result<bool, StoreError> {
    let lane: Option<String> = sqlx::query_scalar(
        "DELETE FROM deliveries WHERE note_id = $1 AND kind = 'send' AND state = 'queued' RETURNING lane",
    )
    .bind(note.id.to_string())
    .fetch_optional(&mut **tx)
    .await?;
    let Some(lane) = lane else { return Ok(false) };
    elect(tx, &lane).await?;
    save(tx, note, Saving { ended: true, notify }).await?;
    Ok(true)
}

/// Puts a delivery into the lane of the note's next connection, where it becomes due anew.
async fn move_on(
    tx: &mut Transaction<'_, Sqlite>,
    claim: &Claim,
    note: &Note,
    old_lane: &str,
    due: Timestamp,
) -> Result<(), StoreError> {
    let lane = note.lane();
    sqlx::query("UPDATE deliveries SET connection = $2, lane = $3, order_at = $4, head = 0 WHERE id = $1")
        .bind(claim.delivery)
        .bind(connection_key(&note.tenant, &note.current().connection))
        .bind(&lane)
        .bind(due.as_millisecond())
        .execute(&mut **tx)
        .await?;
    elect(tx, old_lane).await?;
    elect(tx, &lane).await
}

/// How a note is saved.
#[derive(Clone, Copy)]
pub struct Saving {
    /// No attempt will follow.
    pub ended: bool,
    /// The tenant has a webhook to be told.
    pub notify: bool,
}

/// Replaces a note. Where that changes its status, the event is part of it.
pub async fn save(tx: &mut Transaction<'_, Sqlite>, note: &Note, saving: Saving) -> Result<(), StoreError> {
    let id = note.id.to_string();
    let before: Option<String> = sqlx::query_scalar("SELECT status FROM notes WHERE id = $1")
        .bind(&id)
        .fetch_optional(&mut **tx)
        .await?;
    sqlx::query(
        "UPDATE notes SET status = $2, ended_at = CASE WHEN $3 THEN COALESCE(ended_at, $4) END, doc = $5, via = $6
         WHERE id = $1",
    )
    .bind(&id)
    .bind(note.status.as_str())
    .bind(saving.ended)
    .bind(note.updated_at.as_millisecond())
    .bind(serde_json::to_string(note)?)
    .bind(&note.current().connection)
    .execute(&mut **tx)
    .await?;
    match EventKind::of(note.status) {
        Some(kind) if before.as_deref() != Some(note.status.as_str()) => {
            events::add(tx, note, kind, note.updated_at, saving.notify).await
        }
        _ => Ok(()),
    }
}

/// Remembers how a connection does, and leaves it alone for a while where it fails again and again.
pub async fn heard_of(
    tx: &mut Transaction<'_, Sqlite>,
    connection: &str,
    health: &Health,
    at: Timestamp,
) -> Result<(), StoreError> {
    let failure = match health {
        Health::Works => None,
        Health::Fails(why) => Some(why),
    };
    let failures: i64 = sqlx::query_scalar(
        "INSERT INTO connections (connection, seen_at, failure, failures)
         VALUES ($1, $2, $3, CASE WHEN $3 IS NULL THEN 0 ELSE 1 END)
         ON CONFLICT (connection) DO UPDATE SET seen_at = excluded.seen_at, failure = excluded.failure,
            failures = CASE WHEN $3 IS NULL THEN 0 ELSE failures + 1 END
         RETURNING failures",
    )
    .bind(connection)
    .bind(at.as_millisecond())
    .bind(failure)
    .fetch_one(&mut **tx)
    .await?;
    if let Some(pause) = breaker::pause(failures.try_into().unwrap_or(u32::MAX)) {
        sqlx::query("UPDATE connections SET paused_until = MAX(paused_until, $2) WHERE connection = $1")
            .bind(connection)
            .bind((at + pause).as_millisecond())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Leaves of an ended note only what `left` says.
pub async fn erase(
    tx: &mut Transaction<'_, Sqlite>,
    left: &Note,
    lanes: &[String],
) -> Result<bool, StoreError> {
    let erased = sqlx::query(
        "UPDATE notes SET doc = $2, recipient = NULL WHERE id = $1 AND ended_at IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM deliveries WHERE note_id = $1 AND kind = 'send')",
    )
    .bind(left.id.to_string())
    .bind(serde_json::to_string(left)?)
    .execute(&mut **tx)
    .await?;
    if erased.rows_affected() == 0 {
        return Ok(false);
    }
    events::erase(tx, left.id).await?;
    for lane in lanes {
        learn(tx, &Learned::Forget { lane: lane.clone() }).await?;
    }
    Ok(true)
}

async fn learn(tx: &mut Transaction<'_, Sqlite>, learned: &Learned) -> Result<(), StoreError> {
    match learned {
        Learned::Keep => {}
        Learned::Forget { lane } => {
            sqlx::query("DELETE FROM learned WHERE lane = $1").bind(lane).execute(&mut **tx).await?;
        }
        Learned::Set { lane, value, expires_at } => {
            sqlx::query("INSERT OR REPLACE INTO learned (lane, value, expires_at) VALUES ($1, $2, $3)")
                .bind(lane)
                .bind(serde_json::to_string(value)?)
                .bind(expires_at.as_millisecond())
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}
