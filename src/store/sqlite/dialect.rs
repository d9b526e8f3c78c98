//! The functions and SQL that `store/sql`, which is compiled once for each database, needs from SQLite: types, SQL
//! fragments, heads of lanes, locks, and the clock.

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqlitePool, Transaction};

use crate::{
    model::note::{Note, NoteId},
    store::{SmallAudio, StoreError, types::Range},
};

pub type Db = Sqlite;
pub type Tx<'c> = Transaction<'c, Sqlite>;
pub type Pool = SqlitePool;

/// Column that defines the order of events: commits happen one after the other.
pub const PLACE: &str = "seq";

/// Makes the right delivery of `lane` its head, after one was added, removed or skipped.
pub async fn elect(tx: &mut Tx<'_>, lane: &str) -> Result<(), StoreError> {
    let head: Option<(i64, String)> =
        sqlx::query_as("SELECT id, state FROM deliveries WHERE lane = $1 AND head = 1")
            .bind(lane)
            .fetch_optional(&mut **tx)
            .await?;
    // A head that is in flight or held stays the head.
    if head.as_ref().is_some_and(|(_, state)| state != "queued") {
        return Ok(());
    }
    let first: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM deliveries WHERE lane = $1 AND state = 'queued' ORDER BY order_at, id LIMIT 1",
    )
    .bind(lane)
    .fetch_optional(&mut **tx)
    .await?;
    let head = head.map(|(id, _)| id);
    if head == first {
        return Ok(());
    }
    for (id, is_head) in [(head, 0), (first, 1)] {
        sqlx::query("UPDATE deliveries SET head = $2 WHERE id = $1")
            .bind(id)
            .bind(is_head)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Refers to a content from a note, and stores it if it is not there.
pub async fn keep_audio(
    tx: &mut Tx<'_>,
    note: &Note,
    variant: i32,
    content: &SmallAudio,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO contents (tenant, name, bytes) VALUES ($1, $2, $3) ON CONFLICT (tenant, name) DO NOTHING",
    )
    .bind(&note.tenant)
    .bind(&content.sha256)
    .bind(&content.bytes[..])
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO note_audio (note_id, variant, content)
         SELECT $1, $2, id FROM contents WHERE tenant = $3 AND name = $4
         ON CONFLICT (note_id, variant) DO UPDATE SET content = excluded.content
         WHERE note_audio.content <> excluded.content",
    )
    .bind(note.id.to_string())
    .bind(variant)
    .bind(&note.tenant)
    .bind(&content.sha256)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Locks nothing, because SQLite has one writing transaction at a time.
pub async fn lock_names(_: &mut Tx<'_>, _names: &[String]) -> Result<(), StoreError> {
    Ok(())
}

/// Reads the lane of a leased delivery; `None` if it was leased again by now.
pub async fn lock_leased(
    tx: &mut Tx<'_>,
    (delivery, fence): (i64, i64),
    _names: &[String],
) -> Result<Option<String>, StoreError> {
    let lane = sqlx::query_scalar("SELECT lane FROM deliveries WHERE id = $1 AND fence = $2")
        .bind(delivery)
        .bind(fence)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(lane)
}

/// Locks nothing, for the same reason.
pub async fn lock_delivery(_: &mut Tx<'_>, _note: NoteId) -> Result<(), StoreError> {
    Ok(())
}

/// Returns zero, because there is one clock.
pub async fn ahead(_: &mut Tx<'_>, _now: Timestamp) -> Result<i64, StoreError> {
    Ok(0)
}

/// Place of a tenant's newest event.
pub async fn settled(pool: &Pool, tenant: &str) -> Result<i64, StoreError> {
    let newest = sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM events WHERE tenant = $1")
        .bind(tenant)
        .fetch_one(pool)
        .await?;
    Ok(newest)
}

/// The statement prefix that shows a query plan, and the column of the answer.
#[cfg(debug_assertions)]
pub const EXPLAIN: (&str, &str) = ("EXPLAIN QUERY PLAN ", "detail");

/// Prepares nothing, because each query names its index.
pub async fn prepare_ranges(_: &mut Tx<'_>) -> Result<(), StoreError> {
    Ok(())
}

/// The condition for ids from a subquery.
pub const BY_IDS: (&str, &str) = ("id IN (", ")");

/// Adds a query for the range's newest ids, newest first.
pub fn push_range(query: &mut QueryBuilder<Db>, range: &Range<'_>) {
    query.push("SELECT * FROM (SELECT id FROM notes INDEXED BY ").push(range.index).push(" WHERE ");
    for (column, value) in &range.equal {
        query.push(column).push(" = ").push_bind(*value).push(" AND ");
    }
    query.push("id < ").push_bind(range.before).push(" ORDER BY id DESC LIMIT ").push_bind(range.limit);
    query.push(")");
}

/// The end of a query that selects a row to be changed: changes happen one after the other.
pub const CLAIMED_ALONE: &str = "";

/// The index of notes that may be recovered. A query that cannot use it fails.
pub const INDEXED_BY_RECOVERY: &str = " INDEXED BY notes_to_recover";
