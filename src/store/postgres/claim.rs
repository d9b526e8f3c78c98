//! Leasing of the deliveries that are next. Every step reads an index from its start, as with SQLite. The claims of all
//! processes run one at a time, so that limits, rates and shares are counted correctly. Nothing else is blocked: rows
//! are leased with SKIP LOCKED, and accepting, writing and cancelling take other locks.

use std::collections::{HashMap, VecDeque};

use super::{Pool, Tx, dialect, events, retry::again};
use crate::{
    config::Rate,
    store::{
        ClaimRequest, Claims, Class, StoreError,
        position::Positions,
        share::{
            Candidate, ConnectionLoad, Due, ReadyConnection, closed, connections_with_slots, cut, fair_share,
            tenant_of,
        },
        types,
    },
};

/// Maximum number of lanes released at once.
const LANES: i64 = 100;

/// The result of a claim.
#[derive(Default)]
pub struct Claimed {
    pub claims: Claims,
    /// Milliseconds by which the database's clock is ahead of the caller's.
    pub ahead: i64,
    /// Milliseconds by which the database's clock was set forward or back since the last claim.
    pub jumped: i64,
    /// Whether deliveries were left out that were just being changed.
    pub is_incomplete: bool,
    /// Whether nothing was leased, because lanes have to be released first.
    held_too_long: bool,
    unreadable: Vec<(Candidate, String)>,
}

/// See [`crate::store::Store::claim`].
///
/// `ahead` is the number of milliseconds by which the database's clock was ahead of the caller's at the last claim.
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
        again!(release_held_lanes(pool, request))?;
    };
    if let Err(error) = tx.commit().await {
        // Without this, nobody would work on the deliveries until their leases end, if they were leased.
        again!(give_back(pool, &claimed.claims))?;
        return Err(error.into());
    }
    for (leased, error) in &claimed.unreadable {
        set_aside(pool, leased, request, error).await?;
    }
    Ok(claimed)
}

/// Ends leases that were never handed out.
async fn give_back(pool: &Pool, claims: &Claims) -> Result<(), StoreError> {
    let (ids, fences): (Vec<i64>, Vec<i64>) = claims.leases().unzip();
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
    // Only data read after this statement stays valid until the commit.
    let begun: Begun = sqlx::query_as("SELECT * FROM begin_claim($1, $2, $3)")
        .bind(their_now)
        .bind(ahead.map(|ahead| their_now + ahead))
        .bind(request.held)
        .fetch_one(&mut **tx)
        .await?;
    let (now, jumped) = (begun.now_ms, begun.jumped_ms);
    let ahead = now - their_now;
    if begun.held {
        return Ok(Claimed { ahead, held_too_long: true, ..Claimed::default() });
    }
    let over = if begun.leases || begun.expired { over(tx, request, now).await? } else { Vec::new() };
    let share = fair_share(ready(tx, request, begun.loads(), now).await?, &request.slots);
    let mut claimed = Claimed { ahead, jumped, ..Claimed::default() };
    if over.is_empty() && share.is_empty() {
        return Ok(claimed);
    }
    let until = request.lease_until.as_millisecond() + ahead;
    let leased = lease(tx, &over, &share, (now, until, owner, their_now)).await?;
    count_starts(tx, request, now, &share, &leased).await?;
    claimed.is_incomplete = leased.len() < over.len() + share.len();
    for Leased { row, known } in leased {
        match hand_out(tx, &row, known, positions).await {
            Ok(claim) => claimed.claims.add(claim),
            Err(StoreError::Corrupt(error)) => claimed.unreadable.push((row, error)),
            Err(error) => return Err(error),
        }
    }
    Ok(claimed)
}

/// The answer of the function `begin_claim`.
#[derive(sqlx::FromRow)]
struct Begun {
    now_ms: i64,
    jumped_ms: i64,
    held: bool,
    leases: bool,
    expired: bool,
    names: Option<Vec<String>>,
    due_since: Option<Vec<Option<i64>>>,
    in_a_row: Option<Vec<i64>>,
    ever: Option<Vec<i64>>,
    in_flight: Option<Vec<i64>>,
}

impl Begun {
    /// The connections that have deliveries due and are not paused, or have deliveries in flight.
    fn loads(self) -> Vec<ConnectionLoad> {
        let since = self.due_since.unwrap_or_default();
        let failures = self.in_a_row.unwrap_or_default().into_iter().zip(self.ever.unwrap_or_default());
        let due = since
            .into_iter()
            .zip(failures)
            .map(|(since, (in_a_row, ever))| since.map(|since| Due::of_row(since, in_a_row, ever)));
        let names = self.names.unwrap_or_default().into_iter();
        let in_flight = self.in_flight.unwrap_or_default();
        names
            .zip(due)
            .zip(in_flight)
            .map(|((connection, due), under_way)| ConnectionLoad {
                connection,
                under_way: usize::try_from(under_way).unwrap_or_default(),
                due,
            })
            .collect()
    }
}

async fn hand_out(
    tx: &mut Tx<'_>,
    row: &Candidate,
    known: Read,
    positions: &Positions,
) -> Result<types::Leased, StoreError> {
    let event = match row.event {
        Some(seq) => Some(events::one(tx, seq, tenant_of(&row.connection), positions).await?),
        None => None,
    };
    row.claim(&known.doc, known.learned.as_deref(), closed(known.closed_until, known.closed_why), event)
}

/// Releases lanes whose unknown head was held long enough. Each gets its own transaction, because a claim that waited
/// for a lane could block the transaction that holds it.
async fn release_held_lanes(pool: &Pool, request: &ClaimRequest<'_>) -> Result<(), StoreError> {
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

/// Finds deliveries whose final status has to be written: interrupted sends of dead processes, and expired notes,
/// wherever in their lane.
async fn over(tx: &mut Tx<'_>, request: &ClaimRequest<'_>, now: i64) -> Result<Vec<Candidate>, StoreError> {
    let found = sqlx::query_as(
        "(SELECT * FROM deliveries
          WHERE lease_until <= $1 AND state = 'sending' AND id <> ALL($3) LIMIT $2)
         UNION ALL
         (SELECT * FROM deliveries
          WHERE state = 'queued' AND expires_at <= $1 ORDER BY expires_at LIMIT $2)
         LIMIT $2",
    )
    .bind(now)
    .bind(i64::try_from(request.slots.of(Class::End).limit).unwrap_or(i64::MAX))
    .bind(request.held)
    .fetch_all(&mut **tx)
    .await?;
    Ok(found)
}

/// Finds the connections that can get one of the free slots, each with its first due deliveries.
async fn ready(
    tx: &mut Tx<'_>,
    request: &ClaimRequest<'_>,
    loads: Vec<ConnectionLoad>,
    now: i64,
) -> Result<Vec<ReadyConnection>, StoreError> {
    let mut ready = connections_with_slots(loads, request.bounds);
    keep_to_rates(tx, &mut ready, now).await?;
    cut(&mut ready, &request.slots);
    if ready.is_empty() {
        return Ok(ready);
    }
    let names: Vec<&str> = ready.iter().map(|entry| entry.connection.as_str()).collect();
    let slots: Vec<i64> = ready.iter().map(|entry| i64::try_from(entry.room).unwrap_or(i64::MAX)).collect();
    let due: Vec<Candidate> = sqlx::query_as(
        "SELECT d.* FROM unnest($1, $2) AS c (connection, room)
         CROSS JOIN LATERAL (
            SELECT * FROM deliveries
            WHERE head = 1 AND state = 'queued' AND expires_at > $3
                AND (connection, due_at) >= (c.connection, 0) AND (connection, due_at) <= (c.connection, $3)
            ORDER BY connection, due_at, id LIMIT c.room) d",
    )
    .bind(names)
    .bind(slots)
    .bind(now)
    .fetch_all(&mut **tx)
    .await?;
    let mut of_connection: HashMap<String, VecDeque<Candidate>> = HashMap::new();
    for candidate in due {
        of_connection.entry(candidate.connection.clone()).or_default().push_back(candidate);
    }
    for entry in &mut ready {
        entry.due = of_connection.remove(&entry.connection).unwrap_or_default();
        entry.due.iter_mut().for_each(|candidate| candidate.tally = entry.tally);
    }
    Ok(ready)
}

/// Lowers the room of rate-limited connections to the attempts that are allowed now. If there are none, the connection
/// waits until its oldest attempt is out of the window.
async fn keep_to_rates(tx: &mut Tx<'_>, ready: &mut [ReadyConnection], now: i64) -> Result<(), StoreError> {
    let mut rated: Vec<(&mut ReadyConnection, Rate)> =
        ready.iter_mut().filter_map(|entry| entry.rate.map(|rate| (entry, rate))).collect();
    if rated.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = rated.iter().map(|(entry, _)| entry.connection.clone()).collect();
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
    for ((entry, rate), (count, oldest)) in rated.iter_mut().zip(counts) {
        let left = i64::from(rate.count.get()) - count;
        entry.room = entry.room.min(usize::try_from(left).unwrap_or_default());
        if left <= 0 {
            sqlx::query(
                "INSERT INTO connections (connection, rate_until) VALUES ($1, $2)
                 ON CONFLICT (connection) DO UPDATE SET rate_until = excluded.rate_until",
            )
            .bind(&entry.connection)
            .bind(oldest.unwrap_or(now).saturating_add(window(rate)))
            .execute(&mut **tx)
            .await?;
        }
    }
    Ok(())
}

/// Records the start times of attempts over rate-limited connections.
async fn count_starts(
    tx: &mut Tx<'_>,
    request: &ClaimRequest<'_>,
    now: i64,
    share: &[Candidate],
    leased: &[Leased],
) -> Result<(), StoreError> {
    let started: Vec<&str> = share
        .iter()
        .filter(|candidate| leased.iter().any(|leased| leased.row.id == candidate.id))
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

/// The data that belongs to a leased delivery.
#[derive(sqlx::FromRow)]
struct Read {
    /// Document of the note.
    doc: String,
    /// Learned facts about the recipient.
    #[sqlx(rename = "value")]
    learned: Option<String>,
    closed_until: Option<i64>,
    closed_why: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Leased {
    #[sqlx(flatten)]
    row: Candidate,
    #[sqlx(flatten)]
    known: Read,
}

/// Leases the chosen deliveries that are still unchanged, in the order in which they became due, and reads their data.
/// Deliveries that are just being changed are left to the next claim.
async fn lease(
    tx: &mut Tx<'_>,
    over: &[Candidate],
    share: &[Candidate],
    (now, until, owner, their_now): (i64, i64, i32, i64),
) -> Result<Vec<Leased>, StoreError> {
    let chosen: Vec<i64> = over.iter().chain(share).map(|candidate| candidate.id).collect();
    let mut leased: Vec<Leased> = sqlx::query_as("SELECT * FROM lease($1, $2, $3, $4, $5)")
        .bind(chosen)
        .bind(now)
        .bind(until)
        .bind(owner)
        .bind(their_now)
        .fetch_all(&mut **tx)
        .await?;
    for Leased { row, .. } in &mut leased {
        // The current lease is not counted.
        row.tries -= 1;
        match share.iter().find(|found| found.id == row.id) {
            Some(found) => row.tally = found.tally,
            None => row.is_over = true,
        }
    }
    leased.sort_by_key(|Leased { row, .. }| (row.due_at, row.id));
    Ok(leased)
}

/// Sets an unreadable note aside, so that it does not stop the others. It stays in the database for inspection and
/// takes no slot.
async fn set_aside(
    pool: &Pool,
    leased: &Candidate,
    request: &ClaimRequest<'_>,
    error: &str,
) -> Result<(), StoreError> {
    let note = &leased.note_id;
    tracing::error!(note.id = note, error, "note {note} cannot be read from the database and is set aside");
    let mut tx = pool.begin().await?;
    dialect::lock_names(&mut tx, &[note.clone(), leased.lane.clone()]).await?;
    sqlx::query(
        "UPDATE deliveries SET state = 'unreadable', head = 0, lease_until = NULL WHERE id = $1 AND fence = $2",
    )
    .bind(leased.id)
    .bind(leased.fence)
    .execute(&mut *tx)
    .await?;
    dialect::elect(&mut tx, &leased.lane).await?;
    // The note ends with this, so its data is removed after the usual time.
    for sql in [
        "UPDATE notes SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL AND $3 = 'send'",
        "UPDATE received SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL AND $3 = 'receive'",
    ] {
        sqlx::query(sql)
            .bind(note)
            .bind(request.now.as_millisecond())
            .bind(&leased.kind)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Moves a limited number of notes that have become due within a day to the count of waiting ones. Notes that are just
/// being changed are left to the next call.
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
