//! Ranges of an index, as SQLite is told to read them.

use sqlx::{QueryBuilder, Sqlite};

use super::Tx;
use crate::store::{StoreError, types::Range};

/// The statement that says how another one is answered, and where it says so.
pub const EXPLAIN: (&str, &str) = ("EXPLAIN QUERY PLAN ", "detail");

/// The index is named in each query, so there is nothing to prepare.
pub async fn prepare(_: &mut Tx<'_>) -> Result<(), StoreError> {
    Ok(())
}

/// How rows are asked for by ids that a query in between finds.
pub const BY_IDS: (&str, &str) = ("id IN (", ")");

/// Adds a query of the range's newest ids, newest first.
pub fn push(query: &mut QueryBuilder<Sqlite>, range: &Range<'_>) {
    query.push("SELECT * FROM (SELECT id FROM notes INDEXED BY ").push(range.index).push(" WHERE ");
    for (column, value) in &range.equal {
        query.push(column).push(" = ").push_bind(*value).push(" AND ");
    }
    query.push("id < ").push_bind(range.before).push(" ORDER BY id DESC LIMIT ").push_bind(range.limit);
    query.push(")");
}
