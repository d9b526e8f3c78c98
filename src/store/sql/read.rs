//! Queries for notes, for the next due time, and for counts. This file is compiled once for each database.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::{Database, Row as _};

use super::dialect::{Db, Pool};
use crate::model::note::{Note, NoteId, Status};
use crate::store::{
    Columns, ConnectionState, QueueGroup, StoreError, connection_key, document, share::closed, whole,
};

/// Reads the column `doc` of a row. A value that is not even text is the same error for the caller.
pub fn doc<T: DeserializeOwned>(row: &<Db as Database>::Row, kind: &'static str) -> Result<T, StoreError> {
    let text: String = row.try_get("doc")?;
    document::read(kind, &text)
}

pub async fn note(pool: &Pool, id: NoteId, tenant: Option<&str>) -> Result<Option<Note>, StoreError> {
    let doc: Option<String> =
        sqlx::query_scalar("SELECT doc FROM notes WHERE id = $1 AND tenant = COALESCE($2, tenant)")
            .bind(id.to_string())
            .bind(tenant)
            .fetch_optional(pool)
            .await?;
    doc.map(|doc| document::read("note", &doc)).transpose()
}

pub async fn has_note(pool: &Pool, id: NoteId) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM notes WHERE id = $1)")
        .bind(id.to_string())
        .fetch_one(pool)
        .await?;
    Ok(found)
}

/// See [`crate::store::Store::columns`].
pub async fn columns(pool: &Pool, id: NoteId, tenant: &str) -> Result<Option<Columns>, StoreError> {
    let found: Option<(String, i64, Option<String>)> =
        sqlx::query_as("SELECT status, created_at, via FROM notes WHERE id = $1 AND tenant = $2")
            .bind(id.to_string())
            .bind(tenant)
            .fetch_optional(pool)
            .await?;
    let malformed = || document::corrupt("note", &"its columns are malformed");
    found
        .map(|(status, created_at, via)| {
            let status = Status::parse(&status).ok_or_else(malformed)?;
            let created_at = Timestamp::from_millisecond(created_at).map_err(|_| malformed())?;
            Ok(Columns { status, created_at, via })
        })
        .transpose()
}

/// See [`crate::store::Store::kept_audio`].
pub async fn kept_audio(pool: &Pool) -> Result<Vec<(String, u64)>, StoreError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT tenant, CAST(SUM(bytes) AS BIGINT) FROM kept_audio GROUP BY tenant")
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().map(|(tenant, bytes)| (tenant, u64::try_from(bytes).unwrap_or_default())).collect())
}

pub async fn connections(pool: &Pool, tenant: &str) -> Result<Vec<ConnectionState>, StoreError> {
    let prefix = connection_key(tenant, "");
    // The prefix is compared as text, because names may contain wildcards of LIKE.
    let rows: Vec<State> = sqlx::query_as(
        "SELECT connection, paused_until, broken_until, seen_at, failure, failures, callback_at, closed_until,
            closed_why FROM connections
         WHERE substr(connection, 1, length($1)) = $1",
    )
    .bind(&prefix)
    .fetch_all(pool)
    .await?;
    let time = |at: i64| Timestamp::from_millisecond(at).ok();
    let states = rows.into_iter().map(|row| ConnectionState {
        connection: row.connection[prefix.len()..].to_owned(),
        paused_until: Some(row.paused_until.max(row.broken_until)).filter(|until| *until > 0).and_then(time),
        seen_at: row.seen_at.and_then(time),
        failure: row.failure,
        failures: row.failures.try_into().unwrap_or(u32::MAX),
        callback_at: row.callback_at.and_then(time),
        closed: closed(row.closed_until, row.closed_why),
    });
    Ok(states.collect())
}

#[derive(sqlx::FromRow)]
struct State {
    connection: String,
    paused_until: i64,
    broken_until: i64,
    seen_at: Option<i64>,
    failure: Option<String>,
    failures: i64,
    callback_at: Option<i64>,
    closed_until: Option<i64>,
    closed_why: Option<String>,
}

/// Reads the learned facts about the recipient of a lane.
pub async fn learned(pool: &Pool, lane: &str, now: Timestamp) -> Result<Option<Value>, StoreError> {
    let value: Option<String> =
        sqlx::query_scalar("SELECT value FROM learned WHERE lane = $1 AND expires_at > $2")
            .bind(lane)
            .bind(now.as_millisecond())
            .fetch_optional(pool)
            .await?;
    Ok(value.and_then(|value| document::read("learned", &value).ok()))
}

pub async fn next_due(pool: &Pool, now: i64) -> Result<Option<i64>, StoreError> {
    let at = sqlx::query_scalar(
        "SELECT MIN(at) FROM (
            SELECT MIN(due_at) AS at FROM deliveries WHERE head = 1 AND state = 'queued' AND due_at > $1
            UNION ALL SELECT MIN(due_at) FROM deliveries WHERE state = 'held' AND due_at > $1
            UNION ALL SELECT MIN(expires_at) FROM deliveries WHERE state = 'queued' AND expires_at > $1
            UNION ALL SELECT MIN(lease_until) FROM deliveries WHERE lease_until > $1
            UNION ALL SELECT MIN(paused_until) FROM connections WHERE paused_until > $1
            UNION ALL SELECT MIN(broken_until) FROM connections WHERE broken_until > $1
            UNION ALL SELECT MIN(rate_until) FROM connections WHERE rate_until > $1) AS times",
    )
    .bind(now)
    .fetch_one(pool)
    .await?;
    Ok(at)
}

pub async fn notes_with_old_audio(
    pool: &Pool,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<NoteId>, StoreError> {
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT id FROM notes WHERE ended_at <= $1 AND has_audio = 1 ORDER BY ended_at LIMIT $2",
    )
    .bind(before.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
}

/// Scans every delivery, which takes a tenth of a second for a hundred thousand rows and usually a few milliseconds.
pub async fn queue_state(pool: &Pool, now: Timestamp) -> Result<Vec<QueueGroup>, StoreError> {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "SELECT connection, CASE WHEN state = 'queued' AND order_at > $1 THEN 'scheduled' ELSE state END AS told,
                COUNT(*), MIN(order_at)
         FROM deliveries GROUP BY connection, told",
    )
    .bind(now.as_millisecond())
    .fetch_all(pool)
    .await?;
    // The parts of an internal connection are shown as one.
    let mut groups: BTreeMap<(String, String), (u64, i64)> = BTreeMap::new();
    for (connection, state, count, since) in rows {
        let group = groups.entry((whole(&connection).to_owned(), state)).or_insert((0, since));
        *group = (group.0 + count.unsigned_abs(), group.1.min(since));
    }
    let groups = groups.into_iter().map(|((connection, state), (count, since))| QueueGroup {
        connection,
        state,
        count,
        since: Timestamp::from_millisecond(since).unwrap_or(now),
    });
    Ok(groups.collect())
}
