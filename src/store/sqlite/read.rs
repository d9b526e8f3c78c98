//! Lists for the API.

use jiff::Timestamp;
use sqlx::{QueryBuilder, Row, SqlitePool};

use crate::note::Note;
use crate::store::{ConnectionState, QueueGroup, StoreError, Wanted, connection_key};

pub async fn notes(pool: &SqlitePool, wanted: &Wanted<'_>) -> Result<Vec<Note>, StoreError> {
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
    query.push(" ORDER BY id DESC LIMIT ").push_bind(wanted.limit);
    let rows = query.build().fetch_all(pool).await?;
    rows.iter().map(|row| Ok(serde_json::from_str(row.try_get("doc")?)?)).collect()
}

pub async fn connections(pool: &SqlitePool, tenant: &str) -> Result<Vec<ConnectionState>, StoreError> {
    let prefix = connection_key(tenant, "");
    // Compared as text, because names may contain what LIKE takes for a wildcard.
    let rows: Vec<State> = sqlx::query_as(
        "SELECT connection, paused_until, seen_at, failure, failures, callback_at FROM connections
         WHERE substr(connection, 1, length($1)) = $1",
    )
    .bind(&prefix)
    .fetch_all(pool)
    .await?;
    let time = |at: i64| Timestamp::from_millisecond(at).ok();
    let states = rows.into_iter().map(|row| ConnectionState {
        connection: row.connection[prefix.len()..].to_owned(),
        paused_until: time(row.paused_until).filter(|_| row.paused_until > 0),
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
    seen_at: Option<i64>,
    failure: Option<String>,
    failures: i64,
    callback_at: Option<i64>,
}

/// One look at every delivery: some ten milliseconds for a hundred thousand.
pub async fn queue_state(pool: &SqlitePool, now: Timestamp) -> Result<Vec<QueueGroup>, StoreError> {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "SELECT connection, CASE WHEN state = 'queued' AND order_at > $1 THEN 'scheduled' ELSE state END AS told,
                COUNT(*), MIN(order_at)
         FROM deliveries GROUP BY connection, told",
    )
    .bind(now.as_millisecond())
    .fetch_all(pool)
    .await?;
    let groups = rows.into_iter().map(|(connection, state, count, since)| QueueGroup {
        connection,
        state,
        count: count.unsigned_abs(),
        since: Timestamp::from_millisecond(since).unwrap_or(now),
    });
    Ok(groups.collect())
}
