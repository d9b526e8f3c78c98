//! Leasing of the deliveries that are next. Every step reads an index from its start, so that its cost does not grow
//! with the queue, its lanes or the backlog of a paused connection.

use std::collections::HashMap;

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Tx, dialect::elect, events};
use crate::{
    config::Rate,
    store::{
        ClaimRequest, Claims, Class, StoreError,
        position::Positions,
        share::{
            Candidate, ConnectionLoad, Due, ReadyConnection, closed, connections_with_slots, cut, fair_share,
            tenant_of,
        },
        types::Leased,
    },
};

/// See [`crate::store::Store::claim`].
pub async fn claim(
    tx: &mut Tx<'_>,
    request: &ClaimRequest<'_>,
    positions: &Positions,
) -> Result<Claims, StoreError> {
    let Overdue { held, leased, expired } = overdue(tx, request).await?;
    if held {
        release_held_lanes(tx, request).await?;
    }
    if leased {
        put_back(tx, request).await?;
    }
    let mut chosen = if leased || expired { over(tx, request).await? } else { Vec::new() };
    let share = fair_share(ready(tx, request).await?, &request.slots);
    count_starts(tx, request, &share).await?;
    chosen.extend(share);
    chosen.sort_by_key(|candidate| (candidate.due_at, candidate.id));
    if chosen.is_empty() {
        return Ok(Claims::default());
    }
    let mut data = read(tx, &chosen, request).await?;
    let mut claims = Claims::default();
    for mut candidate in chosen {
        let Some(row) = data.remove(&candidate.id) else { continue };
        // The fence of the lease that follows.
        candidate.fence += 1;
        match hand_out(tx, &candidate, row, positions).await {
            Ok(claim) => claims.add(claim),
            Err(StoreError::Corrupt(error)) => set_aside(tx, &candidate, request, &error).await?,
            Err(error) => return Err(error),
        }
    }
    lease(tx, &claims, request).await?;
    Ok(claims)
}

/// Whether there are deliveries whose time has passed, in each state.
#[derive(sqlx::FromRow)]
struct Overdue {
    held: bool,
    leased: bool,
    expired: bool,
}

/// Looks for deliveries that need more than to be sent. Usually there are none, and three statements are saved.
async fn overdue(tx: &mut Tx<'_>, request: &ClaimRequest<'_>) -> Result<Overdue, StoreError> {
    let found = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state = 'held' AND due_at <= $1) AS held,
            EXISTS (SELECT 1 FROM deliveries WHERE lease_until <= $1) AS leased,
            EXISTS (SELECT 1 FROM deliveries WHERE state = 'queued' AND expires_at <= $1) AS expired",
    )
    .bind(request.now.as_millisecond())
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

/// Releases lanes whose unknown head was held long enough.
async fn release_held_lanes(tx: &mut Tx<'_>, request: &ClaimRequest<'_>) -> Result<(), StoreError> {
    let lanes: Vec<String> =
        sqlx::query_scalar("DELETE FROM deliveries WHERE state = 'held' AND due_at <= $1 RETURNING lane")
            .bind(request.now.as_millisecond())
            .fetch_all(&mut **tx)
            .await?;
    for lane in lanes {
        elect(tx, &lane).await?;
    }
    Ok(())
}

/// Requeues deliveries that a dead process had leased. They are subject to fair shares again.
async fn put_back(tx: &mut Tx<'_>, request: &ClaimRequest<'_>) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deliveries SET state = 'queued', lease_until = NULL
         WHERE lease_until <= $1 AND state = 'leased' AND id NOT IN (SELECT value FROM json_each($2))",
    )
    .bind(request.now.as_millisecond())
    .bind(json(request.held))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Finds deliveries whose final status has to be written: interrupted sends of dead processes, and expired notes,
/// wherever in their lane.
async fn over(tx: &mut Tx<'_>, request: &ClaimRequest<'_>) -> Result<Vec<Candidate>, StoreError> {
    let found = sqlx::query_as(
        "SELECT *, 1 AS is_over FROM (SELECT * FROM deliveries
                        WHERE lease_until <= $1 AND state = 'sending'
                        AND id NOT IN (SELECT value FROM json_each($3)) LIMIT $2)
         UNION ALL
         SELECT *, 1 AS is_over FROM (SELECT * FROM deliveries
                        WHERE state = 'queued' AND expires_at <= $1 ORDER BY expires_at LIMIT $2)
         LIMIT $2",
    )
    .bind(request.now.as_millisecond())
    .bind(request.slots.of(Class::End).limit as i64)
    .bind(json(request.held))
    .fetch_all(&mut **tx)
    .await?;
    Ok(found)
}

/// Finds the connections that can get one of the free slots, each with its first due deliveries.
async fn ready(tx: &mut Tx<'_>, request: &ClaimRequest<'_>) -> Result<Vec<ReadyConnection>, StoreError> {
    let now = request.now.as_millisecond();
    let mut ready = connections_with_slots(loads(tx, now).await?, request.bounds);
    for entry in &mut ready {
        if let Some(rate) = entry.rate {
            entry.room = entry.room.min(starts_left(tx, &entry.connection, rate, now).await?);
        }
    }
    cut(&mut ready, &request.slots);
    for entry in &mut ready {
        let mut due: Vec<Candidate> = sqlx::query_as(
            "SELECT * FROM deliveries
             WHERE head = 1 AND state = 'queued' AND connection = $1 AND due_at <= $2 AND expires_at > $2
             ORDER BY due_at, id LIMIT $3",
        )
        .bind(&entry.connection)
        .bind(now)
        .bind(entry.room as i64)
        .fetch_all(&mut **tx)
        .await?;
        due.iter_mut().for_each(|candidate| candidate.tally = entry.tally);
        entry.due = due.into();
    }
    Ok(ready)
}

/// Finds the connections that have deliveries due and are not paused, or have deliveries in flight, with a seek or two
/// for each.
async fn loads(tx: &mut Tx<'_>, now: i64) -> Result<Vec<ConnectionLoad>, StoreError> {
    let due: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "WITH RECURSIVE each (connection) AS (
            SELECT MIN(connection) FROM deliveries WHERE head = 1 AND state = 'queued'
            UNION ALL
            SELECT (SELECT MIN(connection) FROM deliveries
                    WHERE head = 1 AND state = 'queued' AND connection > each.connection)
            FROM each WHERE each.connection IS NOT NULL),
         waiting (connection, since) AS (
            SELECT connection, (SELECT MIN(due_at) FROM deliveries
                                WHERE head = 1 AND state = 'queued' AND connection = each.connection)
            FROM each WHERE connection IS NOT NULL)
         SELECT waiting.connection, since, COALESCE(c.failures, 0), COALESCE(c.failures_ever, 0) FROM waiting
         LEFT JOIN connections c ON c.connection = waiting.connection
         WHERE since <= $1
         AND MAX(COALESCE(c.paused_until, 0), COALESCE(c.broken_until, 0), COALESCE(c.rate_until, 0)) <= $1",
    )
    .bind(now)
    .fetch_all(&mut **tx)
    .await?;
    let under_way: Vec<(String, i64)> = sqlx::query_as(
        "SELECT connection, COUNT(*) FROM deliveries
         WHERE lease_until >= 0 AND state IN ('leased', 'sending') GROUP BY connection",
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut due: HashMap<String, Due> = due
        .into_iter()
        .map(|(connection, since, failures, ever)| (connection, Due::of_row(since, failures, ever)))
        .collect();
    let mut loads: Vec<ConnectionLoad> = under_way
        .into_iter()
        .map(|(connection, count)| ConnectionLoad {
            under_way: usize::try_from(count).unwrap_or_default(),
            due: due.remove(&connection),
            connection,
        })
        .collect();
    loads.extend(due.into_iter().map(|(connection, due)| ConnectionLoad {
        connection,
        under_way: 0,
        due: Some(due),
    }));
    Ok(loads)
}

/// Number of attempts that the rate allows now. If there are none, the connection waits until the oldest attempt is out
/// of the window.
async fn starts_left(tx: &mut Tx<'_>, connection: &str, rate: Rate, now: i64) -> Result<usize, StoreError> {
    let window = i64::try_from(rate.per.as_millis()).unwrap_or(i64::MAX);
    sqlx::query("DELETE FROM starts WHERE connection = $1 AND at <= $2")
        .bind(connection)
        .bind(now.saturating_sub(window))
        .execute(&mut **tx)
        .await?;
    let (count, oldest): (i64, Option<i64>) =
        sqlx::query_as("SELECT COUNT(*), MIN(at) FROM starts WHERE connection = $1")
            .bind(connection)
            .fetch_one(&mut **tx)
            .await?;
    let left = i64::from(rate.count.get()) - count;
    if left <= 0 {
        sqlx::query(
            "INSERT INTO connections (connection, rate_until) VALUES ($1, $2)
             ON CONFLICT (connection) DO UPDATE SET rate_until = excluded.rate_until",
        )
        .bind(connection)
        .bind(oldest.unwrap_or(now).saturating_add(window))
        .execute(&mut **tx)
        .await?;
    }
    Ok(usize::try_from(left).unwrap_or_default())
}

/// Records the start times of attempts over rate-limited connections.
async fn count_starts(
    tx: &mut Tx<'_>,
    request: &ClaimRequest<'_>,
    share: &[Candidate],
) -> Result<(), StoreError> {
    for candidate in share.iter().filter(|candidate| (request.bounds)(&candidate.connection).rate.is_some()) {
        sqlx::query("INSERT INTO starts (connection, at) VALUES ($1, $2)")
            .bind(&candidate.connection)
            .bind(request.now.as_millisecond())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Reads the data of all chosen deliveries, by their ids.
async fn read(
    tx: &mut Tx<'_>,
    chosen: &[Candidate],
    request: &ClaimRequest<'_>,
) -> Result<HashMap<i64, SqliteRow>, StoreError> {
    let ids: Vec<i64> = chosen.iter().map(|candidate| candidate.id).collect();
    let rows = sqlx::query(
        "SELECT d.id, COALESCE(n.doc, r.doc, '') AS doc, l.value, c.closed_until, c.closed_why
         FROM json_each($1) AS chosen CROSS JOIN deliveries d ON d.id = chosen.value
         LEFT JOIN notes n ON n.id = d.note_id
         LEFT JOIN received r ON r.id = d.note_id
         LEFT JOIN learned l ON l.lane = d.lane AND l.expires_at > $2
         LEFT JOIN connections c ON c.connection = d.connection",
    )
    .bind(json(&ids))
    .bind(request.now.as_millisecond())
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(|row| Ok((row.try_get("id")?, row))).collect()
}

async fn hand_out(
    tx: &mut Tx<'_>,
    candidate: &Candidate,
    row: SqliteRow,
    positions: &Positions,
) -> Result<Leased, StoreError> {
    let event = match candidate.event {
        Some(seq) => Some(events::one(tx, seq, tenant_of(&candidate.connection), positions).await?),
        None => None,
    };
    let doc: String = row.try_get("doc")?;
    let learned: Option<String> = row.try_get("value").unwrap_or_default();
    let closed = closed(row.try_get("closed_until")?, row.try_get("closed_why")?);
    candidate.claim(&doc, learned.as_deref(), closed, event)
}

/// Leases the deliveries of these claims.
async fn lease(tx: &mut Tx<'_>, claims: &Claims, request: &ClaimRequest<'_>) -> Result<(), StoreError> {
    let ids: Vec<i64> = claims.leases().map(|(delivery, _)| delivery).collect();
    sqlx::query(
        "UPDATE deliveries SET state = CASE state WHEN 'sending' THEN 'sending' ELSE 'leased' END, lease_until = $2,
            fence = fence + 1, tries = tries + 1
         WHERE id IN (SELECT value FROM json_each($1))",
    )
    .bind(json(&ids))
    .bind(request.lease_until.as_millisecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Sets an unreadable note aside, so that it does not stop the others. It stays in the database for inspection and
/// takes no slot.
async fn set_aside(
    tx: &mut Tx<'_>,
    candidate: &Candidate,
    request: &ClaimRequest<'_>,
    error: &str,
) -> Result<(), StoreError> {
    let note = &candidate.note_id;
    tracing::error!(note.id = note, error, "note {note} cannot be read from the database and is set aside");
    sqlx::query("UPDATE deliveries SET state = 'unreadable', head = 0, lease_until = NULL WHERE id = $1")
        .bind(candidate.id)
        .execute(&mut **tx)
        .await?;
    // The note ends with this, so its data is removed after the usual time.
    for sql in [
        "UPDATE notes SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL AND $3 = 'send'",
        "UPDATE received SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL AND $3 = 'receive'",
    ] {
        sqlx::query(sql)
            .bind(note)
            .bind(request.now.as_millisecond())
            .bind(&candidate.kind)
            .execute(&mut **tx)
            .await?;
    }
    elect(tx, &candidate.lane).await
}

/// Moves a limited number of notes that have become due within a day to the count of waiting ones.
pub async fn count_near(tx: &mut Tx<'_>, before: i64, limit: i64) -> Result<u64, StoreError> {
    let counted = sqlx::query(
        "UPDATE deliveries SET far = 0
         WHERE id IN (SELECT id FROM deliveries WHERE far = 1 AND due_at <= $1 ORDER BY due_at LIMIT $2)",
    )
    .bind(before)
    .bind(limit)
    .execute(&mut **tx)
    .await?;
    Ok(counted.rows_affected())
}

/// Formats a list of numbers for `json_each`.
fn json(numbers: &[i64]) -> String {
    serde_json::Value::from(numbers).to_string()
}

/// See [`crate::store::Store::end_all_leases`].
pub async fn end_leases(tx: &mut Tx<'_>, now: jiff::Timestamp) -> Result<u64, StoreError> {
    let done = sqlx::query("UPDATE deliveries SET lease_until = $1 WHERE lease_until > $1")
        .bind(now.as_millisecond())
        .execute(&mut **tx)
        .await?;
    sqlx::query("UPDATE tasks SET lease_until = 0 WHERE lease_until > 0").execute(&mut **tx).await?;
    Ok(done.rows_affected())
}
