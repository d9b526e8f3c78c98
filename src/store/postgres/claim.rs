//! Leasing: which deliveries are next, and for whom. Every step reads an index from its start, as with SQLite. Claims
//! of all processes take turns, so that room, rates and shares are counted by one at a time. Beside them nothing
//! stands still: rows are leased with SKIP LOCKED, and whoever adds, writes or cancels takes other locks.

use std::collections::{HashMap, VecDeque};

use super::{Pool, Tx, dialect, events, retry::again};
use crate::{
    config::Rate,
    store::{
        Claim, ClaimRequest, Class, StoreError,
        position::Positions,
        share::{Candidate, Due, Standing, Turn, closed, cut, fair_share, tenant_of, turns},
    },
};

/// Lanes that are let go of at once.
const LANES: i64 = 100;

/// What a claim found.
#[derive(Default)]
pub struct Claimed {
    pub claims: Vec<Claim>,
    /// By how many milliseconds the database's clock is ahead of the caller's.
    pub ahead: i64,
    /// By how many milliseconds the database's clock was set, forward or back, since the claim before.
    pub jumped: i64,
    /// Nothing was leased, because lanes have to be let go of first.
    held_too_long: bool,
    unreadable: Vec<(Candidate, String)>,
}

/// See [`crate::store::Store::claim`].
///
/// `ahead`: by how many milliseconds the database's clock was ahead of the caller's at its last claim.
pub async fn claim(
    pool: &Pool,
    request: &ClaimRequest<'_>,
    positions: &Positions,
    (ahead, owner): (Option<i64>, i32),
) -> Result<Claimed, StoreError> {
    let (tx, claimed) = loop {
        let (tx, claimed) = again!(async {
            let mut tx = pool.begin().await?;
            let claimed = take(&mut tx, request, positions, (ahead, owner)).await?;
            Ok::<_, StoreError>((tx, claimed))
        })?;
        if !claimed.held_too_long {
            break (tx, claimed);
        }
        tx.rollback().await?;
        again!(let_go(pool, request))?;
    };
    if let Err(error) = tx.commit().await {
        // Leased or not, nobody would work on it until the leases end.
        again!(give_back(pool, &claimed.claims))?;
        return Err(error.into());
    }
    for (leased, error) in &claimed.unreadable {
        set_aside(pool, leased, request, error).await?;
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

async fn take(
    tx: &mut Tx<'_>,
    request: &ClaimRequest<'_>,
    positions: &Positions,
    (ahead, owner): (Option<i64>, i32),
) -> Result<Claimed, StoreError> {
    let their_now = request.now.as_millisecond();
    // Only what is read after this is true until the commit.
    let (now, jumped, held_too_long): (i64, i64, bool) = sqlx::query_as(
        "SELECT now_ms, jumped_ms, EXISTS (SELECT 1 FROM deliveries WHERE state = 'held' AND due_at <= now_ms)
         FROM take_turn_at($1, $2)",
    )
    .bind(their_now)
    .bind(ahead.map(|ahead| their_now + ahead))
    .fetch_one(&mut **tx)
    .await?;
    let ahead = now - their_now;
    if held_too_long {
        return Ok(Claimed { ahead, held_too_long, ..Claimed::default() });
    }
    let over = over(tx, request, now).await?;
    let share = fair_share(ready(tx, request, now).await?, &request.rooms);
    let mut claimed = Claimed { ahead, jumped, ..Claimed::default() };
    if over.is_empty() && share.is_empty() {
        return Ok(claimed);
    }
    let until = request.lease_until.as_millisecond() + ahead;
    let leased = lease(tx, &over, &share, (now, until, owner)).await?;
    count_starts(tx, request, now, &share, &leased).await?;
    let mut docs = read(tx, &leased, their_now).await?;
    for row in leased {
        let Some(known) = docs.remove(&row.id) else { continue };
        match hand_out(tx, &row, known, positions).await {
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
    known: Read,
    positions: &Positions,
) -> Result<Claim, StoreError> {
    let event = match row.event {
        Some(seq) => Some(events::one(tx, seq, tenant_of(&row.connection), positions).await?),
        None => None,
    };
    row.claim(&known.doc, known.learned.as_deref(), closed(known.closed_until, known.closed_why), event)
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

/// What only needs its end written: visible requests of a process that is gone, and notes that waited longer than they
/// may, wherever in their lane. What a process that is gone had only leased is put back, and waits for its turn again.
async fn over(tx: &mut Tx<'_>, request: &ClaimRequest<'_>, now: i64) -> Result<Vec<Candidate>, StoreError> {
    let found = sqlx::query_as(
        "WITH put_back AS (
            UPDATE deliveries SET state = 'queued', lease_until = NULL WHERE id IN (
                SELECT id FROM deliveries WHERE lease_until <= $1 AND state = 'leased' AND id <> ALL($3)
                FOR UPDATE SKIP LOCKED))
         (SELECT * FROM deliveries
          WHERE lease_until <= $1 AND state = 'sending' AND id <> ALL($3) LIMIT $2)
         UNION ALL
         (SELECT * FROM deliveries
          WHERE state = 'queued' AND expires_at <= $1 ORDER BY expires_at LIMIT $2)
         LIMIT $2",
    )
    .bind(now)
    .bind(i64::try_from(request.rooms.of(Class::End).limit).unwrap_or(i64::MAX))
    .bind(request.held)
    .fetch_all(&mut **tx)
    .await?;
    Ok(found)
}

/// For each connection that can get one of the free places: the first of its deliveries that are due.
async fn ready(tx: &mut Tx<'_>, request: &ClaimRequest<'_>, now: i64) -> Result<Vec<Turn>, StoreError> {
    let mut turns = turns(standings(tx, now).await?, request.bounds);
    keep_to_rates(tx, &mut turns, now).await?;
    cut(&mut turns, &request.rooms);
    if turns.is_empty() {
        return Ok(turns);
    }
    let names: Vec<&str> = turns.iter().map(|turn| turn.connection.as_str()).collect();
    let rooms: Vec<i64> = turns.iter().map(|turn| i64::try_from(turn.room).unwrap_or(i64::MAX)).collect();
    let due: Vec<Candidate> = sqlx::query_as(
        "SELECT d.* FROM unnest($1, $2) AS c (connection, room)
         CROSS JOIN LATERAL (
            SELECT * FROM deliveries
            WHERE head = 1 AND state = 'queued' AND expires_at > $3
                AND (connection, due_at) >= (c.connection, 0) AND (connection, due_at) <= (c.connection, $3)
            ORDER BY connection, due_at, id LIMIT c.room) d",
    )
    .bind(names)
    .bind(rooms)
    .bind(now)
    .fetch_all(&mut **tx)
    .await?;
    let mut of_connection: HashMap<String, VecDeque<Candidate>> = HashMap::new();
    for candidate in due {
        of_connection.entry(candidate.connection.clone()).or_default().push_back(candidate);
    }
    for turn in &mut turns {
        turn.due = of_connection.remove(&turn.connection).unwrap_or_default();
        turn.due.iter_mut().for_each(|candidate| candidate.tally = turn.tally);
    }
    Ok(turns)
}

/// Connections with something due and no pause in its way, or with something under way: one seek for each, however much
/// there is. <https://wiki.postgresql.org/wiki/Loose_indexscan>
///
/// Here and in `ready` the order is spelled out as `deliveries_ready` has it, and a claim sorts nothing (see the second
/// migration): otherwise a table that has just filled, which has no statistics yet, is read whole for each connection.
async fn standings(tx: &mut Tx<'_>, now: i64) -> Result<Vec<Standing>, StoreError> {
    let found: Vec<(String, Option<i64>, i64, i64, i64)> = sqlx::query_as(
        "WITH RECURSIVE each (connection, since) AS (
            (SELECT connection, due_at FROM deliveries WHERE head = 1 AND state = 'queued'
             ORDER BY connection, due_at, id LIMIT 1)
            UNION ALL
            SELECT next.connection, next.due_at FROM each CROSS JOIN LATERAL (
                SELECT connection, due_at FROM deliveries
                WHERE head = 1 AND state = 'queued' AND connection > each.connection
                ORDER BY connection, due_at, id LIMIT 1) next),
         waiting AS (
            SELECT each.connection, since, COALESCE(c.failures, 0) AS failures,
                COALESCE(c.failures_ever, 0) AS failures_ever FROM each
            LEFT JOIN connections c ON c.connection = each.connection
            WHERE since <= $1 AND COALESCE(GREATEST(c.paused_until, c.broken_until, c.rate_until), 0) <= $1),
         under_way AS (
            SELECT connection, COUNT(*) AS count FROM deliveries
            WHERE lease_until >= 0 AND state IN ('leased', 'sending') GROUP BY connection)
         SELECT connection, since, COALESCE(failures, 0), COALESCE(failures_ever, 0), COALESCE(count, 0)
         FROM waiting FULL JOIN under_way USING (connection)",
    )
    .bind(now)
    .fetch_all(&mut **tx)
    .await?;
    let standings = found.into_iter().map(|(connection, since, failures, ever, under_way)| Standing {
        connection,
        under_way: usize::try_from(under_way).unwrap_or_default(),
        due: since.map(|since| Due::of_row(since, failures, ever)),
    });
    Ok(standings.collect())
}

/// Lowers the room of connections that have a rate to the attempts that it allows now. Where that is none, the
/// connection waits until its oldest one is out of the window.
async fn keep_to_rates(tx: &mut Tx<'_>, turns: &mut [Turn], now: i64) -> Result<(), StoreError> {
    let mut rated: Vec<(&mut Turn, Rate)> =
        turns.iter_mut().filter_map(|turn| turn.rate.map(|rate| (turn, rate))).collect();
    if rated.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = rated.iter().map(|(turn, _)| turn.connection.clone()).collect();
    let window = |rate: &Rate| i64::try_from(rate.per.as_millis()).unwrap_or(i64::MAX);
    let windows: Vec<i64> = rated.iter().map(|(_, rate)| window(rate)).collect();
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
    for ((turn, rate), (count, oldest)) in rated.iter_mut().zip(counts) {
        let left = i64::from(rate.count.get()) - count;
        turn.room = turn.room.min(usize::try_from(left).unwrap_or_default());
        if left <= 0 {
            sqlx::query(
                "INSERT INTO connections (connection, rate_until) VALUES ($1, $2)
                 ON CONFLICT (connection) DO UPDATE SET rate_until = excluded.rate_until",
            )
            .bind(&turn.connection)
            .bind(oldest.unwrap_or(now).saturating_add(window(rate)))
            .execute(&mut **tx)
            .await?;
        }
    }
    Ok(())
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
    over: &[Candidate],
    share: &[Candidate],
    (now, until, owner): (i64, i64, i32),
) -> Result<Vec<Candidate>, StoreError> {
    let chosen: Vec<i64> = over.iter().chain(share).map(|candidate| candidate.id).collect();
    let mut leased: Vec<Candidate> = sqlx::query_as(
        "WITH free AS (
            SELECT id FROM deliveries
            WHERE id = ANY($1) AND (state = 'queued' AND (head = 1 OR expires_at <= $2)
                                    OR state = 'sending' AND lease_until <= $2)
            FOR UPDATE SKIP LOCKED)
         UPDATE deliveries d SET lease_until = $3, owner = $4, fence = fence + 1, tries = tries + 1,
            state = CASE d.state WHEN 'sending' THEN 'sending' ELSE 'leased' END
         FROM free WHERE d.id = free.id RETURNING d.*",
    )
    .bind(chosen)
    .bind(now)
    .bind(until)
    .bind(owner)
    .fetch_all(&mut **tx)
    .await?;
    for row in &mut leased {
        // This one is not counted yet.
        row.tries -= 1;
        match share.iter().find(|found| found.id == row.id) {
            Some(found) => row.tally = found.tally,
            None => row.is_over = true,
        }
    }
    leased.sort_by_key(|row| (row.due_at, row.id));
    Ok(leased)
}

/// What belongs to a leased delivery.
#[derive(sqlx::FromRow)]
struct Read {
    id: i64,
    /// Of its note.
    doc: String,
    /// About the recipient.
    #[sqlx(rename = "value")]
    learned: Option<String>,
    closed_until: Option<i64>,
    closed_why: Option<String>,
}

/// What is known of each leased delivery, by its id. Read after the rows were taken: whoever had them before may have
/// written just then.
async fn read(
    tx: &mut Tx<'_>,
    leased: &[Candidate],
    their_now: i64,
) -> Result<HashMap<i64, Read>, StoreError> {
    let ids: Vec<i64> = leased.iter().map(|row| row.id).collect();
    let rows: Vec<Read> = sqlx::query_as(
        "SELECT d.id, n.doc, l.value, c.closed_until, c.closed_why FROM deliveries d
         JOIN notes n ON n.id = d.note_id
         LEFT JOIN learned l ON l.lane = d.lane AND l.expires_at > $2
         LEFT JOIN connections c ON c.connection = d.connection WHERE d.id = ANY($1)",
    )
    .bind(ids)
    .bind(their_now)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// One note that cannot be read must not stop all others. It stays in the database for somebody to look at, and holds no
/// place.
async fn set_aside(
    pool: &Pool,
    leased: &Candidate,
    request: &ClaimRequest<'_>,
    error: &str,
) -> Result<(), StoreError> {
    let note = &leased.note_id;
    tracing::error!(note.id = note, error, "note {note} cannot be read from the database and is set aside");
    let mut tx = pool.begin().await?;
    dialect::hold(&mut tx, &[note.clone(), leased.lane.clone()]).await?;
    sqlx::query(
        "UPDATE deliveries SET state = 'unreadable', head = 0, lease_until = NULL WHERE id = $1 AND fence = $2",
    )
    .bind(leased.id)
    .bind(leased.fence)
    .execute(&mut *tx)
    .await?;
    dialect::elect(&mut tx, &leased.lane).await?;
    // It will not be sent, so what is kept of it goes in its time.
    sqlx::query("UPDATE notes SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL AND $3 = 'send'")
        .bind(note)
        .bind(request.now.as_millisecond())
        .bind(&leased.kind)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Counts notes that have come within a day among those that wait, so many at once. What somebody is just changing is
/// left to the next time.
pub async fn count_near(pool: &Pool, now: i64, before: i64, limit: i64) -> Result<u64, StoreError> {
    let counted = sqlx::query(
        "UPDATE deliveries SET far = 0 WHERE id IN (
            SELECT id FROM deliveries WHERE far = 1 AND due_at <= (SELECT $2 + ahead_of($1))
            ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)",
    )
    .bind(now)
    .bind(before)
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(counted.rows_affected())
}
