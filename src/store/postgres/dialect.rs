//! The functions and SQL that `store/sql`, which is compiled once for each database, needs from PostgreSQL: types, SQL
//! fragments, heads of lanes, locks, and the clock.

use jiff::Timestamp;
use sqlx::{PgPool, Postgres, QueryBuilder, Transaction};

use crate::{
    model::note::{Note, NoteId},
    store::{SmallAudio, StoreError, types::Range},
};

pub type Db = Postgres;
pub type Tx<'c> = Transaction<'c, Postgres>;
pub type Pool = PgPool;

/// Column that defines the order of events.
pub const PLACE: &str = "place";

/// Makes the right delivery of `lane` its head, after one was added, removed or skipped. The lane is locked, or its
/// note.
pub async fn elect(tx: &mut Tx<'_>, lane: &str) -> Result<(), StoreError> {
    sqlx::query("SELECT elect($1)").bind(lane).execute(&mut **tx).await?;
    Ok(())
}

/// Refers to a content from a note, and stores it if it is not there.
pub async fn keep_audio(
    tx: &mut Tx<'_>,
    note: &Note,
    variant: i32,
    content: &SmallAudio,
) -> Result<(), StoreError> {
    sqlx::query("SELECT keep_audio($1, $2, $3, $4, $5)")
        .bind(note.id.to_string())
        .bind(&note.tenant)
        .bind(variant)
        .bind(&content.sha256)
        .bind(&content.bytes[..])
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Locks these notes, lanes and messages until the commit. All are locked at once and before anything is changed, to
/// avoid deadlocks.
pub async fn lock_names(tx: &mut Tx<'_>, names: &[String]) -> Result<(), StoreError> {
    sqlx::query("SELECT hold($1)").bind(names).execute(&mut **tx).await?;
    Ok(())
}

/// Locks these names and the lane of a leased delivery, which is returned; `None` if another process has the lease by
/// now.
pub async fn lock_leased(
    tx: &mut Tx<'_>,
    (delivery, fence): (i64, i64),
    names: &[String],
) -> Result<Option<String>, StoreError> {
    let lane =
        sqlx::query_scalar("SELECT lane, hold($3 || lane) FROM deliveries WHERE id = $1 AND fence = $2")
            .bind(delivery)
            .bind(fence)
            .bind(names)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(lane)
}

/// Keeps a note from being leased until the commit, after waiting for a lease that is just being made.
pub async fn lock_delivery(tx: &mut Tx<'_>, note: NoteId) -> Result<(), StoreError> {
    sqlx::query("SELECT 1 FROM deliveries WHERE note_id = $1 AND kind = 'send' FOR UPDATE")
        .bind(note.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Milliseconds by which the database's clock is ahead of the caller's, where it is `now`.
pub async fn ahead(tx: &mut Tx<'_>, now: Timestamp) -> Result<i64, StoreError> {
    let ahead =
        sqlx::query_scalar("SELECT ahead_of($1)").bind(now.as_millisecond()).fetch_one(&mut **tx).await?;
    Ok(ahead)
}

/// Place of a tenant's newest event, before which no other event can appear.
pub async fn settled(pool: &Pool, tenant: &str) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT settled($1)").bind(tenant).fetch_one(pool).await?)
}

/// The statement prefix that shows a query plan, and the column of the answer.
#[cfg(debug_assertions)]
pub const EXPLAIN: (&str, &str) = ("EXPLAIN ", "QUERY PLAN");

/// Discourages sorting until the end of the transaction. Without statistics, reading a whole range and sorting it looks
/// cheaper than reading its end in order. See the second migration.
pub async fn prepare_ranges(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let off =
        "SELECT set_config('enable_sort', 'off', TRUE), set_config('enable_incremental_sort', 'off', TRUE)";
    sqlx::query(off).execute(&mut **tx).await?;
    Ok(())
}

/// The condition for ids from a subquery. It is not a join, because that might walk the whole index.
pub const BY_IDS: (&str, &str) = ("id = ANY(ARRAY(", "))");

/// Adds a query for the range's newest ids, newest first. The order names every column of the index: if columns equal a
/// value, the planner may otherwise walk another index in that order and skip unwanted rows.
pub fn push_range(query: &mut QueryBuilder<Db>, range: &Range<'_>) {
    let columns: Vec<&str> = range.equal.iter().map(|(column, _)| *column).chain(["id"]).collect();
    let all = columns.join(", ");
    query.push("(SELECT id FROM notes WHERE");
    for (sign, end) in [(" >= ", ""), (" < ", range.before)] {
        query.push(format_args!(" ({all}){sign}("));
        for (_, value) in &range.equal {
            query.push_bind(*value).push(", ");
        }
        query.push_bind(end).push(if end.is_empty() { ") AND" } else { ")" });
    }
    query.push(format_args!(" ORDER BY {} DESC LIMIT ", columns.join(" DESC, ")));
    query.push_bind(range.limit).push(")");
}

/// The end of a query that selects a row to be changed: two processes never get the same one.
pub const CLAIMED_ALONE: &str = " FOR UPDATE SKIP LOCKED";

/// PostgreSQL chooses the index itself.
pub const INDEXED_BY_RECOVERY: &str = "";
