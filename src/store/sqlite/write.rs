//! Changes to a leased note, each guarded by its fence.

use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};

use super::lanes::elect;
use crate::note::{Note, NoteId};
use crate::store::{Change, Claim, Health, Learned, Step, StoreError, connection_key};

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
    save(tx, note, matches!(change.step, Step::Done | Step::Hold { .. })).await?;
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
    Ok(())
}

/// Lets go of the lane of a note whose outcome is unknown, before its time.
pub async fn release(tx: &mut Transaction<'_, Sqlite>, note: NoteId) -> Result<(), StoreError> {
    let lane: Option<String> =
        sqlx::query_scalar("DELETE FROM deliveries WHERE note_id = $1 AND state = 'held' RETURNING lane")
            .bind(note.to_string())
            .fetch_optional(&mut **tx)
            .await?;
    match lane {
        Some(lane) => elect(tx, &lane).await,
        None => Ok(()),
    }
}

/// Takes a note that waits out of the queue.
pub async fn cancel(tx: &mut Transaction<'_, Sqlite>, note: &Note) -> Result<bool, StoreError> {
    let lane: Option<String> =
        sqlx::query_scalar("DELETE FROM deliveries WHERE note_id = $1 AND state = 'queued' RETURNING lane")
            .bind(note.id.to_string())
            .fetch_optional(&mut **tx)
            .await?;
    let Some(lane) = lane else { return Ok(false) };
    elect(tx, &lane).await?;
    save(tx, note, true).await?;
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

async fn save(tx: &mut Transaction<'_, Sqlite>, note: &Note, ended: bool) -> Result<(), StoreError> {
    sqlx::query("UPDATE notes SET status = $2, ended_at = $3, doc = $4, via = $5 WHERE id = $1")
        .bind(note.id.to_string())
        .bind(note.status.as_str())
        .bind(ended.then(|| note.updated_at.as_millisecond()))
        .bind(serde_json::to_string(note)?)
        .bind(&note.current().connection)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn heard_of(
    tx: &mut Transaction<'_, Sqlite>,
    connection: &str,
    health: &Health,
    at: Timestamp,
) -> Result<(), StoreError> {
    let failure = match health {
        Health::Works => None,
        Health::Fails(why) => Some(why),
    };
    sqlx::query(
        "INSERT INTO connections (connection, seen_at, failure) VALUES ($1, $2, $3)
         ON CONFLICT (connection) DO UPDATE SET seen_at = excluded.seen_at, failure = excluded.failure",
    )
    .bind(connection)
    .bind(at.as_millisecond())
    .bind(failure)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Leaves of an ended note only what `left` says.
pub async fn erase(
    tx: &mut Transaction<'_, Sqlite>,
    left: &Note,
    lanes: &[String],
) -> Result<bool, StoreError> {
    let erased = sqlx::query(
        "UPDATE notes SET doc = $2, recipient = NULL
         WHERE id = $1 AND ended_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deliveries WHERE note_id = $1)",
    )
    .bind(left.id.to_string())
    .bind(serde_json::to_string(left)?)
    .execute(&mut **tx)
    .await?;
    if erased.rows_affected() == 0 {
        return Ok(false);
    }
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
