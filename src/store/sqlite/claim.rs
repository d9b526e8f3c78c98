//! Leasing: which deliveries are next, and for whom.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use crate::store::{Claim, ClaimRequest, StoreError};

/// See [`crate::store::Store::claim`].
pub async fn claim(
    tx: &mut Transaction<'_, Sqlite>,
    request: &ClaimRequest<'_>,
) -> Result<Vec<Claim>, StoreError> {
    let now = request.now.as_millisecond();
    sqlx::query("DELETE FROM deliveries WHERE state = 'held' AND due_at <= $1")
        .bind(now)
        .execute(&mut **tx)
        .await?;

    let leased: Vec<(String, i64)> = sqlx::query_as(
        "SELECT connection, COUNT(*) FROM deliveries
         WHERE state IN ('leased', 'sending') AND lease_until > $1 GROUP BY connection",
    )
    .bind(now)
    .fetch_all(&mut **tx)
    .await?;
    let mut room = Room { concurrency: request.concurrency, leased: leased.into_iter().collect() };
    let rows = sqlx::query(CANDIDATES)
        .bind(now)
        .bind(serde_json::to_string(&room.full())?)
        .bind(i64::try_from(request.limit).unwrap_or(i64::MAX))
        .fetch_all(&mut **tx)
        .await?;

    let mut claims = Vec::new();
    for row in rows {
        let (connection, state): (String, String) = (row.try_get("connection")?, row.try_get("state")?);
        // Expiring takes no place at the provider.
        let takes_place = state == "queued" && !row.try_get::<bool, _>("expired")?;
        if takes_place && !room.take(&connection) {
            continue;
        }
        match lease(tx, &row, &state, request.lease_until).await {
            Ok(claim) => claims.push(claim),
            Err(StoreError::Corrupt(error)) => set_aside(tx, &row, &error).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(claims)
}

/// What may be leased at $1, leaving out queued deliveries of the connections in $2 (a JSON list). The documents are
/// joined last, to the few rows that are left.
const CANDIDATES: &str = "
    WITH due AS (
        SELECT d.id, d.state, d.fence, d.connection, d.lane, d.note_id, d.due_at, d.expires_at <= $1 AS expired
        FROM deliveries d
        WHERE (d.state = 'queued' AND d.due_at <= $1
               AND d.connection NOT IN (SELECT value FROM json_each($2))
               AND NOT EXISTS (SELECT 1 FROM connections c WHERE c.connection = d.connection AND c.paused_until > $1)
               -- only the head of a lane
               AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.lane = d.lane AND e.id < d.id)
               -- and none beside one under way: a note that moves on to this connection may be older than that
               AND NOT EXISTS (SELECT 1 FROM deliveries e
                               WHERE e.lane = d.lane AND e.id <> d.id AND e.state IN ('leased', 'sending', 'held')))
           OR (d.state = 'queued' AND d.expires_at <= $1)
           OR (d.state IN ('leased', 'sending') AND d.lease_until <= $1)
        ORDER BY d.due_at, d.id LIMIT $3)
    SELECT due.*, n.doc, l.value AS learned
    FROM due JOIN notes n ON n.id = due.note_id
    LEFT JOIN learned l ON l.lane = due.lane AND l.expires_at > $1
    ORDER BY due.due_at, due.id";

/// How many more deliveries each connection may have in flight.
struct Room<'a> {
    concurrency: &'a (dyn Fn(&str) -> usize + Send + Sync),
    leased: HashMap<String, i64>,
}

impl Room<'_> {
    fn has(&self, connection: &str) -> bool {
        let leased = self.leased.get(connection).copied().unwrap_or_default();
        usize::try_from(leased).unwrap_or_default() < (self.concurrency)(connection)
    }

    fn full(&self) -> Vec<&String> {
        self.leased.keys().filter(|connection| !self.has(connection)).collect()
    }

    fn take(&mut self, connection: &str) -> bool {
        let room = self.has(connection);
        if room {
            *self.leased.entry(connection.to_owned()).or_default() += 1;
        }
        room
    }
}

async fn lease(
    tx: &mut Transaction<'_, Sqlite>,
    row: &SqliteRow,
    state: &str,
    until: Timestamp,
) -> Result<Claim, StoreError> {
    let (delivery, fence): (i64, i64) = (row.try_get("id")?, row.try_get("fence")?);
    let (doc, learned): (String, Option<String>) = (row.try_get("doc")?, row.try_get("learned")?);
    let note = serde_json::from_str(&doc)?;
    let learned = learned.map(|text| serde_json::from_str::<Value>(&text)).transpose()?;
    let interrupted = state == "sending";
    sqlx::query("UPDATE deliveries SET state = $2, lease_until = $3, fence = fence + 1 WHERE id = $1")
        .bind(delivery)
        .bind(if interrupted { "sending" } else { "leased" })
        .bind(until.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(Claim { delivery, fence: fence + 1, interrupted, note, learned })
}

/// One note that cannot be read must not stop all others. It stays in the database for somebody to look at.
async fn set_aside(
    tx: &mut Transaction<'_, Sqlite>,
    row: &SqliteRow,
    error: &serde_json::Error,
) -> Result<(), StoreError> {
    let (delivery, note): (i64, String) = (row.try_get("id")?, row.try_get("note_id")?);
    tracing::error!(note.id = note, %error, "note {note} cannot be read from the database and is set aside");
    sqlx::query("UPDATE deliveries SET state = 'unreadable', lease_until = NULL WHERE id = $1")
        .bind(delivery)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
