//! Leasing: which deliveries are next, and for whom. Every step reads an index from its start, as with SQLite. Claims
//! of all processes take turns, so that room, rates and shares are counted by one at a time. Beside them nothing
//! stands still: rows are leased with SKIP LOCKED, and whoever adds, writes or cancels takes other locks.

use std::collections::{HashMap, VecDeque};

use super::{Pool, Tx, events, lanes, retry::again};
use crate::{
    breaker,
    store::{
        Bounds, Claim, ClaimRequest, StoreError,
        share::{Candidate, Ready, candidates_of_each, fair_share, tenant_of},
    },
};

/// Lanes that are let go with one claim; the next one follows at once.
const LANES: i64 = 100;

/// What a claim found.
#[derive(Default)]
pub struct Claimed {
    pub claims: Vec<Claim>,
    /// By how many milliseconds the database's clock is ahead of the caller's.
    pub ahead: i64,
    unreadable: Vec<(Candidate, serde_json::Error)>,
}

/// See [`crate::store::Store::claim`].
pub async fn claim(pool: &Pool, request: &ClaimRequest<'_>) -> Result<Claimed, StoreError> {
    again!(let_go(pool, request))?;
    let (tx, claimed) = again!(async {
        let mut tx = pool.begin().await?;
        let claimed = take(&mut tx, request).await?;
        Ok::<_, StoreError>((tx, claimed))
    })?;
    if let Err(error) = tx.commit().await {
        // Leased or not, nobody would work on it until the leases end.
        again!(give_back(pool, &claimed.claims))?;
        return Err(error.into());
    }
    for (leased, error) in &claimed.unreadable {
        set_aside(pool, leased, error).await?;
    }
    Ok(claimed)
}

/// Ends leases that were never told to anybody.
async fn give_back(pool: &Pool, claims: &[Claim]) -> Result<(), StoreError> {
    let (ids, fences): (Vec<i64>, Vec<i64>) =
        claims.iter().map(|claim| (claim.delivery, claim.fence)).unzip();
    sqlx::query(
        "UPDATE deliveries d SET lease_until = 0 FROM unnest($1, $2) AS c (id, fence)
         WHERE d.id = c.id AND d.fence = c.fence AND d.state IN ('leased', 'sending')",
    )
    .bind(ids)
    .bind(fences)
    .execute(pool)
    .await?;
    Ok(())
}

async fn take(tx: &mut Tx<'_>, request: &ClaimRequest<'_>) -> Result<Claimed, StoreError> {
    let their_now = request.now.as_millisecond();
    // Only what is read after this is true until the commit.
    let now: i64 = sqlx::query_scalar("SELECT take_turn($1)").bind(their_now).fetch_one(&mut **tx).await?;
    let ahead = now - their_now;
    let overdue = overdue(tx, now, request.limit).await?;
    let room = request.limit.saturating_sub(overdue.len());
    let share = fair_share(ready(tx, request, now, room).await?, room, request.reserved);
    let mut claimed = Claimed { ahead, ..Claimed::default() };
    if overdue.is_empty() && share.is_empty() {
        return Ok(claimed);
    }
    let until = request.lease_until.as_millisecond() + ahead;
    let leased = lease(tx, &overdue, &share, now, until).await?;
    count_starts(tx, request, now, &share, &leased).await?;
    let mut docs = read(tx, &leased, their_now).await?;
    for row in leased {
        let Some((doc, learned)) = docs.remove(&row.id) else { continue };
        match hand_out(tx, &row, &doc, learned.as_deref()).await {
            Ok(claim) => claimed.claims.push(claim),
            Err(StoreError::Corrupt(error)) => claimed.unreadable.push((row, error)),
            Err(error) => return Err(error),
        }
    }
    Ok(claimed)
}

async fn hand_out(
    tx: &mut Tx<'_>,
    row: &Candidate,
    doc: &str,
    learned: Option<&str>,
) -> Result<Claim, StoreError> {
    let event = match row.event {
        Some(seq) => Some(events::one(tx, seq).await?),
        None => None,
    };
    Ok(row.claim(doc, learned, event)?)
}

/// Lets go of lanes whose unknown head was held long enough: one transaction each, because a claim that waited for a
/// lane could make somebody wait who has it.
async fn let_go(pool: &Pool, request: &ClaimRequest<'_>) -> Result<(), StoreError> {
    let now = request.now.as_millisecond();
    let held: Vec<(String, i64)> = sqlx::query_as(
        "SELECT lane, due_at FROM deliveries WHERE state = 'held'
         AND due_at <= (SELECT $1 + ahead_of($1)) ORDER BY due_at LIMIT $2",
    )
    .bind(now)
    .bind(LANES)
    .fetch_all(pool)
    .await?;
    for (lane, due_at) in held {
        sqlx::query("SELECT let_go($1, NULL, $2)").bind(lane).bind(due_at).execute(pool).await?;
    }
    Ok(())
}

/// Leases that ran out, and notes that waited longer than they may, wherever in their lane.
async fn overdue(tx: &mut Tx<'_>, now: i64, limit: usize) -> Result<Vec<Candidate>, StoreError> {
    let found = sqlx::query_as(
        "(SELECT * FROM deliveries
          WHERE lease_until <= $1 AND state IN ('leased', 'sending') LIMIT $2)
         UNION ALL
         (SELECT * FROM deliveries
          WHERE state = 'queued' AND expires_at <= $1 ORDER BY expires_at LIMIT $2)
         LIMIT $2",
    )
    .bind(now)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(&mut **tx)
    .await?;
    Ok(found)
}

/// A connection with something to send.
struct Waiting {
    connection: String,
    bounds: Bounds,
    /// In a row.
    failures: i64,
}

/// For each connection that may send: its deliveries that are due, as many as it has room for.
async fn ready(
    tx: &mut Tx<'_>,
    request: &ClaimRequest<'_>,
    now: i64,
    limit: usize,
) -> Result<Vec<Ready>, StoreError> {
    let waiting: Vec<Waiting> = waiting(tx, now)
        .await?
        .into_iter()
        .map(|(connection, failures)| Waiting { bounds: (request.bounds)(&connection), connection, failures })
        .collect();
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let under_way = under_way(tx, now).await?;
    let starts_left = starts_left(tx, &waiting, now).await?;
    let mut of_each: HashMap<&str, usize> = HashMap::new();
    for Waiting { connection, .. } in &waiting {
        *of_each.entry(tenant_of(connection)).or_default() += 1;
    }
    let room = |waiting: &Waiting| {
        let connections = of_each.get(tenant_of(&waiting.connection)).copied().unwrap_or_default();
        let limit = candidates_of_each(limit, connections);
        let busy = under_way.get(&waiting.connection).copied().unwrap_or_default();
        // One attempt is enough to see whether a connection that failed works again.
        let open = breaker::is_open(waiting.failures.try_into().unwrap_or(u32::MAX));
        let concurrency = if open { 1 } else { waiting.bounds.concurrency };
        let room = concurrency.saturating_sub(busy).min(limit);
        let room = starts_left.get(&waiting.connection).map_or(room, |left| room.min(*left));
        i64::try_from(room).unwrap_or(i64::MAX)
    };
    let rooms: Vec<i64> = waiting.iter().map(room).collect();
    let names: Vec<&str> = waiting.iter().map(|waiting| waiting.connection.as_str()).collect();
    let failures: Vec<i64> = waiting.iter().map(|waiting| waiting.failures).collect();
    let due: Vec<Candidate> = sqlx::query_as(
        "SELECT d.*, c.failures FROM unnest($1, $2, $3) WITH ORDINALITY AS c (connection, room, failures, place)
         CROSS JOIN LATERAL (
            SELECT * FROM deliveries
            WHERE head = 1 AND state = 'queued' AND expires_at > $4
                AND (connection, due_at) >= (c.connection, 0) AND (connection, due_at) <= (c.connection, $4)
            ORDER BY connection, due_at, id LIMIT c.room) d
         ORDER BY c.place, d.due_at, d.id",
    )
    .bind(names)
    .bind(rooms)
    .bind(failures)
    .bind(now)
    .fetch_all(&mut **tx)
    .await?;
    let mut of_connection: HashMap<String, VecDeque<Candidate>> = HashMap::new();
    for candidate in due {
        of_connection.entry(candidate.connection.clone()).or_default().push_back(candidate);
    }
    let mut of_tenant: HashMap<&str, usize> = HashMap::new();
    for (connection, count) in &under_way {
        *of_tenant.entry(tenant_of(connection)).or_default() += count;
    }
    let ready = waiting.iter().map(|Waiting { connection, .. }| {
        let tenant = tenant_of(connection);
        Ready {
            tenant: tenant.to_owned(),
            under_way: of_tenant.get(tenant).copied().unwrap_or_default(),
            due: of_connection.remove(connection).unwrap_or_default(),
        }
    });
    Ok(ready.collect())
}

/// Connections with something to send that do not wait, and their failures in a row: one seek for each, however much
/// there is. <https://wiki.postgresql.org/wiki/Loose_indexscan>
///
/// Here and in `ready` the order is spelled out as `deliveries_ready` has it. A table that has just filled has no
/// statistics, and then any other index looks as good: this took 44 ms for 200 connections with 1,400 notes, by reading
/// all of them 200 times.
async fn waiting(tx: &mut Tx<'_>, now: i64) -> Result<Vec<(String, i64)>, StoreError> {
    let found = sqlx::query_as(
        "WITH RECURSIVE each (connection) AS (
            (SELECT connection FROM deliveries WHERE head = 1 AND state = 'queued'
             ORDER BY connection, due_at, id LIMIT 1)
            UNION ALL
            SELECT (SELECT connection FROM deliveries
                    WHERE head = 1 AND state = 'queued' AND connection > each.connection
                    ORDER BY connection, due_at, id LIMIT 1)
            FROM each WHERE each.connection IS NOT NULL)
         SELECT each.connection, COALESCE(c.failures, 0) FROM each
         LEFT JOIN connections c ON c.connection = each.connection
         WHERE each.connection IS NOT NULL AND COALESCE(GREATEST(c.paused_until, c.rate_until), 0) <= $1
         ORDER BY each.connection",
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

/// How many more attempts the rates allow now, for connections that have one. Where none, the connection waits until
/// its oldest one is out of the window.
async fn starts_left(
    tx: &mut Tx<'_>,
    waiting: &[Waiting],
    now: i64,
) -> Result<HashMap<String, usize>, StoreError> {
    let rated = waiting.iter().filter_map(|one| Some((one.connection.as_str(), one.bounds.rate?)));
    let (names, rates): (Vec<&str>, Vec<_>) = rated.unzip();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let windows: Vec<i64> =
        rates.iter().map(|rate| i64::try_from(rate.per.as_millis()).unwrap_or(i64::MAX)).collect();
    sqlx::query(
        "DELETE FROM starts USING unnest($1, $2) AS c (connection, span)
         WHERE starts.connection = c.connection AND starts.at <= $3 - c.span",
    )
    .bind(&names)
    .bind(&windows)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    let counts: Vec<(i64, Option<i64>)> = sqlx::query_as(
        "SELECT s.count, s.oldest FROM unnest($1) WITH ORDINALITY AS c (connection, place)
         CROSS JOIN LATERAL (SELECT COUNT(*), MIN(at) AS oldest FROM starts WHERE connection = c.connection) s
         ORDER BY c.place",
    )
    .bind(&names)
    .fetch_all(&mut **tx)
    .await?;
    let mut left = HashMap::new();
    for (((name, rate), window), (count, oldest)) in names.iter().zip(&rates).zip(&windows).zip(counts) {
        let more = i64::from(rate.count.get()) - count;
        left.insert((*name).to_owned(), usize::try_from(more).unwrap_or_default());
        if more <= 0 {
            sqlx::query(
                "INSERT INTO connections (connection, rate_until) VALUES ($1, $2)
                 ON CONFLICT (connection) DO UPDATE SET rate_until = excluded.rate_until",
            )
            .bind(name)
            .bind(oldest.unwrap_or(now).saturating_add(*window))
            .execute(&mut **tx)
            .await?;
        }
    }
    Ok(left)
}

/// Remembers when attempts over connections with a rate began.
async fn count_starts(
    tx: &mut Tx<'_>,
    request: &ClaimRequest<'_>,
    now: i64,
    share: &[Candidate],
    leased: &[Candidate],
) -> Result<(), StoreError> {
    let started: Vec<&str> = share
        .iter()
        .filter(|candidate| leased.iter().any(|row| row.id == candidate.id))
        .map(|candidate| candidate.connection.as_str())
        .filter(|connection| (request.bounds)(connection).rate.is_some())
        .collect();
    if !started.is_empty() {
        sqlx::query("INSERT INTO starts (connection, at) SELECT name, $2 FROM unnest($1) AS name")
            .bind(started)
            .bind(now)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Leases of the chosen ones what is still as it was found, in the order in which it became due. What somebody is
/// just changing is left to the next claim.
async fn lease(
    tx: &mut Tx<'_>,
    overdue: &[Candidate],
    share: &[Candidate],
    now: i64,
    until: i64,
) -> Result<Vec<Candidate>, StoreError> {
    let chosen: Vec<i64> = overdue.iter().chain(share).map(|candidate| candidate.id).collect();
    let mut leased: Vec<Candidate> = sqlx::query_as(
        "WITH free AS (
            SELECT id FROM deliveries
            WHERE id = ANY($1) AND (state = 'queued' AND (head = 1 OR expires_at <= $2)
                                    OR state IN ('leased', 'sending') AND lease_until <= $2)
            FOR UPDATE SKIP LOCKED)
         UPDATE deliveries d SET lease_until = $3, fence = fence + 1, tries = tries + 1,
            state = CASE d.state WHEN 'sending' THEN 'sending' ELSE 'leased' END
         FROM free WHERE d.id = free.id RETURNING d.*",
    )
    .bind(chosen)
    .bind(now)
    .bind(until)
    .fetch_all(&mut **tx)
    .await?;
    for row in &mut leased {
        // This one is not counted yet.
        row.tries -= 1;
        row.failures = share.iter().find(|found| found.id == row.id).map_or(0, |found| found.failures);
    }
    leased.sort_by_key(|row| (row.due_at, row.id));
    Ok(leased)
}

/// What is known of each leased delivery, by its id: its note's document, and what was learned. Read after the rows
/// were taken: whoever had them before may have written just then.
async fn read(
    tx: &mut Tx<'_>,
    leased: &[Candidate],
    their_now: i64,
) -> Result<HashMap<i64, (String, Option<String>)>, StoreError> {
    let ids: Vec<i64> = leased.iter().map(|row| row.id).collect();
    let rows: Vec<(i64, String, Option<String>)> = sqlx::query_as(
        "SELECT d.id, n.doc, l.value FROM deliveries d JOIN notes n ON n.id = d.note_id
         LEFT JOIN learned l ON l.lane = d.lane AND l.expires_at > $2 WHERE d.id = ANY($1)",
    )
    .bind(ids)
    .bind(their_now)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|(id, doc, learned)| (id, (doc, learned))).collect())
}

/// One note that cannot be read must not stop all others. It stays in the database for somebody to look at.
async fn set_aside(pool: &Pool, leased: &Candidate, error: &serde_json::Error) -> Result<(), StoreError> {
    let note = &leased.note_id;
    tracing::error!(note.id = note, %error, "note {note} cannot be read from the database and is set aside");
    let mut tx = pool.begin().await?;
    lanes::hold(&mut tx, &[note.clone(), leased.lane.clone()]).await?;
    sqlx::query(
        "UPDATE deliveries SET state = 'unreadable', head = 0, lease_until = NULL WHERE id = $1 AND fence = $2",
    )
    .bind(leased.id)
    .bind(leased.fence)
    .execute(&mut *tx)
    .await?;
    lanes::elect(&mut tx, &leased.lane).await?;
    tx.commit().await?;
    Ok(())
}
