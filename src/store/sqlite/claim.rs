//! Leasing: which deliveries are next, and for whom. Every step reads an index from its start, so that the cost does
//! not grow with the queue, its lanes or what waits for a paused connection.

use std::collections::HashMap;

use super::{Tx, events, lanes::elect};
use crate::{
    breaker,
    config::Rate,
    store::{
        Claim, ClaimRequest, StoreError,
        share::{Candidate, Ready, candidates_of_each, fair_share, tenant_of},
    },
};

/// See [`crate::store::Store::claim`].
pub async fn claim(tx: &mut Tx<'_>, request: &ClaimRequest<'_>) -> Result<Vec<Claim>, StoreError> {
    let_go(tx, request).await?;
    let mut chosen = overdue(tx, request).await?;
    let room = request.limit.saturating_sub(chosen.len());
    let share = fair_share(ready(tx, request, room).await?, room, request.reserved);
    count_starts(tx, request, &share).await?;
    chosen.extend(share);
    chosen.sort_by_key(|candidate| (candidate.due_at, candidate.id));
    let mut claims = Vec::new();
    for candidate in chosen {
        match lease(tx, &candidate, request).await {
            Ok(claim) => claims.push(claim),
            Err(StoreError::Corrupt(error)) => set_aside(tx, &candidate, &error).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(claims)
}

/// Lets go of lanes whose unknown head was held long enough.
async fn let_go(tx: &mut Tx<'_>, request: &ClaimRequest<'_>) -> Result<(), StoreError> {
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

/// Leases that ran out, and notes that waited longer than they may, wherever in their lane.
async fn overdue(tx: &mut Tx<'_>, request: &ClaimRequest<'_>) -> Result<Vec<Candidate>, StoreError> {
    let found = sqlx::query_as(
        "SELECT * FROM (SELECT * FROM deliveries
                        WHERE lease_until <= $1 AND state IN ('leased', 'sending') LIMIT $2)
         UNION ALL
         SELECT * FROM (SELECT * FROM deliveries
                        WHERE state = 'queued' AND expires_at <= $1 ORDER BY expires_at LIMIT $2)
         LIMIT $2",
    )
    .bind(request.now.as_millisecond())
    .bind(request.limit as i64)
    .fetch_all(&mut **tx)
    .await?;
    Ok(found)
}

/// For each connection that may send: its deliveries that are due, as many as it has room for.
async fn ready(tx: &mut Tx<'_>, request: &ClaimRequest<'_>, limit: usize) -> Result<Vec<Ready>, StoreError> {
    let now = request.now.as_millisecond();
    let under_way = under_way(tx, now).await?;
    let waiting = waiting(tx, now).await?;
    let mut of_each: HashMap<String, usize> = HashMap::new();
    for (connection, _) in &waiting {
        *of_each.entry(tenant_of(connection).to_owned()).or_default() += 1;
    }
    let mut ready = Vec::new();
    for (connection, failures) in waiting {
        let limit = candidates_of_each(limit, of_each[tenant_of(&connection)]);
        let bounds = (request.bounds)(&connection);
        let busy = under_way.get(&connection).copied().unwrap_or_default();
        // One attempt is enough to see whether a connection that failed works again.
        let open = breaker::is_open(failures.try_into().unwrap_or(u32::MAX));
        let concurrency = if open { 1 } else { bounds.concurrency };
        let mut room = concurrency.saturating_sub(busy).min(limit);
        if let Some(rate) = bounds.rate {
            room = room.min(starts_left(tx, &connection, rate, now).await?);
        }
        let due: Vec<Candidate> = sqlx::query_as(
            "SELECT *, $4 AS failures FROM deliveries
             WHERE head = 1 AND state = 'queued' AND connection = $1 AND due_at <= $2 AND expires_at > $2
             ORDER BY due_at, id LIMIT $3",
        )
        .bind(&connection)
        .bind(now)
        .bind(room as i64)
        .bind(failures)
        .fetch_all(&mut **tx)
        .await?;
        let tenant = tenant_of(&connection).to_owned();
        let busy = under_way.iter().filter(|(key, _)| tenant_of(key) == tenant).map(|(_, count)| count).sum();
        ready.push(Ready { tenant, under_way: busy, due: due.into() });
    }
    Ok(ready)
}

/// Connections with something to send that do not wait, and their failures in a row: one seek for each, however much
/// there is.
async fn waiting(tx: &mut Tx<'_>, now: i64) -> Result<Vec<(String, i64)>, StoreError> {
    let found = sqlx::query_as(
        "WITH RECURSIVE each (connection) AS (
            SELECT MIN(connection) FROM deliveries WHERE head = 1 AND state = 'queued'
            UNION ALL
            SELECT (SELECT MIN(connection) FROM deliveries
                    WHERE head = 1 AND state = 'queued' AND connection > each.connection)
            FROM each WHERE each.connection IS NOT NULL)
         SELECT each.connection, COALESCE(c.failures, 0) FROM each
         LEFT JOIN connections c ON c.connection = each.connection
         WHERE each.connection IS NOT NULL AND MAX(COALESCE(c.paused_until, 0), COALESCE(c.rate_until, 0)) <= $1",
    )
    .bind(now)
    .fetch_all(&mut **tx)
    .await?;
    Ok(found)
}

async fn under_way(tx: &mut Tx<'_>, now: i64) -> Result<HashMap<String, usize>, StoreError> {
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "SELECT connection, COUNT(*) FROM deliveries
         WHERE lease_until > $1 AND state IN ('leased', 'sending') GROUP BY connection",
    )
    .bind(now)
    .fetch_all(&mut **tx)
    .await?;
    Ok(counts.into_iter().map(|(key, count)| (key, usize::try_from(count).unwrap_or_default())).collect())
}

/// How many more attempts the rate allows now. Where none, the connection waits until the oldest one is out of the
/// window.
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

/// Remembers when attempts over connections with a rate began.
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

async fn lease(
    tx: &mut Tx<'_>,
    candidate: &Candidate,
    request: &ClaimRequest<'_>,
) -> Result<Claim, StoreError> {
    let (doc, learned): (String, Option<String>) = sqlx::query_as(
        "SELECT n.doc, l.value FROM notes n
         LEFT JOIN learned l ON l.lane = $2 AND l.expires_at > $3 WHERE n.id = $1",
    )
    .bind(&candidate.note_id)
    .bind(&candidate.lane)
    .bind(request.now.as_millisecond())
    .fetch_one(&mut **tx)
    .await?;
    let event = match candidate.event {
        Some(seq) => Some(events::one(tx, seq).await?),
        None => None,
    };
    let claim = candidate.claim(&doc, learned.as_deref(), event)?;
    sqlx::query(
        "UPDATE deliveries SET state = $2, lease_until = $3, fence = fence + 1, tries = tries + 1 WHERE id = $1",
    )
    .bind(candidate.id)
    .bind(if claim.interrupted { "sending" } else { "leased" })
    .bind(request.lease_until.as_millisecond())
    .execute(&mut **tx)
    .await?;
    Ok(Claim { fence: candidate.fence + 1, ..claim })
}

/// One note that cannot be read must not stop all others. It stays in the database for somebody to look at.
async fn set_aside(
    tx: &mut Tx<'_>,
    candidate: &Candidate,
    error: &serde_json::Error,
) -> Result<(), StoreError> {
    let note = &candidate.note_id;
    tracing::error!(note.id = note, %error, "note {note} cannot be read from the database and is set aside");
    sqlx::query("UPDATE deliveries SET state = 'unreadable', head = 0, lease_until = NULL WHERE id = $1")
        .bind(candidate.id)
        .execute(&mut **tx)
        .await?;
    elect(tx, &candidate.lane).await
}
