//! Notes, lists for the API, and what is next. Compiled once for each database.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{QueryBuilder, Row};

use super::Pool;
use crate::note::{Note, NoteId};
use crate::store::{ConnectionState, QueueGroup, StoreError, Wanted, connection_key, whole};

pub async fn note(pool: &Pool, id: NoteId, tenant: Option<&str>) -> Result<Option<Note>, StoreError> {
    let doc: Option<String> =
        sqlx::query_scalar("SELECT doc FROM notes WHERE id = $1 AND tenant = COALESCE($2, tenant)")
            .bind(id.to_string())
            .bind(tenant)
            .fetch_optional(pool)
            .await?;
    Ok(doc.map(|doc| serde_json::from_str(&doc)).transpose()?)
}

pub async fn notes(pool: &Pool, wanted: &Wanted<'_>) -> Result<Vec<Note>, StoreError> {
    let mut query = QueryBuilder::new("SELECT doc FROM notes WHERE tenant = ");
    query.push_bind(wanted.tenant);
    if let Some(status) = wanted.status {
        query.push(" AND status = ").push_bind(status.as_str());
    }
    if let Some(to) = wanted.to {
        query.push(" AND recipient = ").push_bind(to);
    }
    if let Some(via) = wanted.via {
        query.push(" AND via = ").push_bind(via);
    }
    if let Some(before) = wanted.before {
        query.push(" AND id < ").push_bind(before.to_string());
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(wanted.limit));
    let rows = query.build().fetch_all(pool).await?;
    rows.iter().map(|row| Ok(serde_json::from_str(row.try_get("doc")?)?)).collect()
}

pub async fn connections(pool: &Pool, tenant: &str) -> Result<Vec<ConnectionState>, StoreError> {
    let prefix = connection_key(tenant, "");
    // Compared as text, because names may contain what LIKE takes for a wildcard.
    let rows: Vec<State> = sqlx::query_as(
        "SELECT connection, paused_until, broken_until, seen_at, failure, failures, callback_at FROM connections
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

/// One look at every delivery: a tenth of a second for a hundred thousand, a few milliseconds for what is usual.
pub async fn queue_state(pool: &Pool, now: Timestamp) -> Result<Vec<QueueGroup>, StoreError> {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "SELECT connection, CASE WHEN state = 'queued' AND order_at > $1 THEN 'scheduled' ELSE state END AS told,
                COUNT(*), MIN(order_at)
         FROM deliveries GROUP BY connection, told",
    )
    .bind(now.as_millisecond())
    .fetch_all(pool)
    .await?;
    // Parts of what one tenant waits for are one to whoever asks.
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
