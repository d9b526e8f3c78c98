//! Ranges of an index, spelled so that PostgreSQL reads them from that index and no other.

use sqlx::{Postgres, QueryBuilder};

use super::Tx;
use crate::store::{StoreError, types::Range};

/// The statement that says how another one is answered, and where it says so.
pub const EXPLAIN: (&str, &str) = ("EXPLAIN ", "QUERY PLAN");

/// Makes sorting dear until the end of the transaction. Without statistics, reading all of a range and sorting it looks
/// cheaper than reading its end in order. See the second migration.
pub async fn prepare(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let off =
        "SELECT set_config('enable_sort', 'off', TRUE), set_config('enable_incremental_sort', 'off', TRUE)";
    sqlx::query(off).execute(&mut **tx).await?;
    Ok(())
}

/// How rows are asked for by ids that a query in between finds. Not a join: that might be made by walking all of the index.
pub const BY_IDS: (&str, &str) = ("id = ANY(ARRAY(", "))");

/// Adds a query of the range's newest ids, newest first. The order names every column of the index: where columns are
/// equal to a value, the planner may as well walk another index that has the order, and pass by what it has no use for.
pub fn push(query: &mut QueryBuilder<Postgres>, range: &Range<'_>) {
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
