//! Changes to a leased note, each guarded by its fence.

use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};

use super::super::{Change, Claim, Health, Learned, Step, StoreError, connection_key};
use crate::note::Note;

pub async fn write(
    tx: &mut Transaction<'_, Sqlite>,
    claim: &Claim,
    change: &Change<'_>,
) -> Result<(), StoreError> {
    let note = change.note;
    let held = match change.step {
        Step::Done => {
            sqlx::query("DELETE FROM deliveries WHERE id = $1 AND fence = $2")
                .bind(claim.delivery)
                .bind(claim.fence)
                .execute(&mut **tx)
                .await?
        }
        Step::Progress | Step::Dispatching => {
            let state = if change.step == Step::Dispatching { "sending" } else { "leased" };
            sqlx::query("UPDATE deliveries SET state = $3 WHERE id = $1 AND fence = $2 AND state = 'leased'")
                .bind(claim.delivery)
                .bind(claim.fence)
                .bind(state)
                .execute(&mut **tx)
                .await?
        }
        Step::Retry { at: due, .. } | Step::Hold { until: due } => {
            let state = if matches!(change.step, Step::Hold { .. }) { "held" } else { "queued" };
            sqlx::query(
                "UPDATE deliveries SET state = $3, due_at = $4, connection = $5, lane = $6, lease_until = NULL
                 WHERE id = $1 AND fence = $2",
            )
            .bind(claim.delivery)
            .bind(claim.fence)
            .bind(state)
            .bind(due.as_millisecond())
            .bind(connection_key(&note.tenant, &note.current().connection))
            .bind(note.lane())
            .execute(&mut **tx)
            .await?
        }
    };
    if held.rows_affected() == 0 {
        return Err(StoreError::LeaseLost);
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
