//! Everything that `store/sql`, which is compiled once for each database, asks of PostgreSQL: types, words of its SQL, the
//! heads of lanes, who may change what, and what time it is.

use jiff::Timestamp;
use sqlx::{PgPool, Postgres, QueryBuilder, Transaction};

use crate::{
    model::note::NoteId,
    store::{Claim, StoreError, types::Range},
};

pub type Db = Postgres;
pub type Tx<'c> = Transaction<'c, Postgres>;
pub type Pool = PgPool;

/// By which events are in order.
pub const PLACE: &str = "place";

/// Makes the right delivery of `lane` its head, after one came, went or was left. The lane is held, or its note.
pub async fn elect(tx: &mut Tx<'_>, lane: &str) -> Result<(), StoreError> {
    sqlx::query("SELECT elect($1)").bind(lane).execute(&mut **tx).await?;
    Ok(())
}

/// Keeps other transactions from these notes, lanes and messages until the commit. All at once and before anything is
/// changed, so that nobody waits in a circle.
pub async fn hold(tx: &mut Tx<'_>, names: &[String]) -> Result<(), StoreError> {
    sqlx::query("SELECT hold($1)").bind(names).execute(&mut **tx).await?;
    Ok(())
}

/// As above, with the lane of a leased delivery, which is the answer; `None` where somebody else has it by now.
pub async fn hold_leased(
    tx: &mut Tx<'_>,
    claim: &Claim,
    names: &[String],
) -> Result<Option<String>, StoreError> {
    let lane =
        sqlx::query_scalar("SELECT lane, hold($3 || lane) FROM deliveries WHERE id = $1 AND fence = $2")
            .bind(claim.delivery)
            .bind(claim.fence)
            .bind(names)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(lane)
}

/// Keeps a note from being leased until the commit. Whoever is just leasing it is waited for.
pub async fn keep(tx: &mut Tx<'_>, note: NoteId) -> Result<(), StoreError> {
    sqlx::query("SELECT 1 FROM deliveries WHERE note_id = $1 AND kind = 'send' FOR UPDATE")
        .bind(note.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// By how many milliseconds the database's clock is ahead of the caller's, where it is `now`.
pub async fn ahead(tx: &mut Tx<'_>, now: Timestamp) -> Result<i64, StoreError> {
    let ahead =
        sqlx::query_scalar("SELECT ahead_of($1)").bind(now.as_millisecond()).fetch_one(&mut **tx).await?;
    Ok(ahead)
}

/// The place of a tenant's newest event, before which there will be no other.
pub async fn settled(pool: &Pool, tenant: &str) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT settled($1)").bind(tenant).fetch_one(pool).await?)
}

/// The statement that says how another one is answered, and where it says so.
pub const EXPLAIN: (&str, &str) = ("EXPLAIN ", "QUERY PLAN");

/// Makes sorting dear until the end of the transaction. Without statistics, reading all of a range and sorting it looks
/// cheaper than reading its end in order. See the second migration.
pub async fn prepare_ranges(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let off =
        "SELECT set_config('enable_sort', 'off', TRUE), set_config('enable_incremental_sort', 'off', TRUE)";
    sqlx::query(off).execute(&mut **tx).await?;
    Ok(())
}

/// How rows are asked for by ids that a query in between finds. Not a join: that might be made by walking all of the index.
pub const BY_IDS: (&str, &str) = ("id = ANY(ARRAY(", "))");

/// Adds a query of the range's newest ids, newest first. The order names every column of the index: where columns are
/// equal to a value, the planner may as well walk another index that has the order, and pass by what it has no use for.
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
