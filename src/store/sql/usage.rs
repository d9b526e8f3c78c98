//! The usage of a tenant. This file is compiled once for each database.

use sqlx::FromRow;

use super::dialect::Pool;
use crate::{
    model::usage::{UsageBy, UsageGroup, Used},
    store::{StoreError, UsageQuery},
};

/// Adds up the notes that are there, from their index, and those that were removed. Both are one snapshot, so that a note
/// that is removed meanwhile counts once.
macro_rules! grouped {
    ($now:literal, $past:literal) => {
        concat!(
            "SELECT key, status, CAST(SUM(notes) AS BIGINT) AS notes, CAST(SUM(ms) AS BIGINT) AS ms,
                CAST(SUM(bytes_in) AS BIGINT) AS bytes_in, CAST(SUM(bytes_out) AS BIGINT) AS bytes_out,
                CAST(SUM(attempts) AS BIGINT) AS attempts
             FROM (
                SELECT ", $now, " AS key, status, COUNT(*) AS notes, SUM(used_ms) AS ms, SUM(used_in) AS bytes_in,
                    SUM(used_out) AS bytes_out, SUM(used_attempts) AS attempts
                FROM notes WHERE tenant = $1 AND created_at >= $2 * 86400000 AND created_at < $3 * 86400000
                GROUP BY 1, 2
                UNION ALL
                SELECT ", $past, ", status, notes, ms, bytes_in, bytes_out, attempts
                FROM past_usage WHERE tenant = $1 AND day >= $2 AND day < $3
             ) AS used
             GROUP BY key, status ORDER BY key, status"
        )
    };
}

#[derive(FromRow)]
struct Sum {
    key: String,
    status: String,
    notes: i64,
    ms: i64,
    bytes_in: i64,
    bytes_out: i64,
    attempts: i64,
}

/// See [`crate::store::Store::usage`].
pub async fn usage(pool: &Pool, wanted: &UsageQuery<'_>) -> Result<Vec<UsageGroup>, StoreError> {
    let sql = match wanted.by {
        UsageBy::Day => grouped!("CAST(created_at / 86400000 AS TEXT)", "CAST(day AS TEXT)"),
        UsageBy::Connection => grouped!("COALESCE(via, '')", "connection"),
        UsageBy::Status => grouped!("status", "status"),
    };
    let (first, end) = wanted.days.numbers();
    let sums: Vec<Sum> =
        sqlx::query_as(sql).bind(wanted.tenant).bind(first).bind(end).fetch_all(pool).await?;
    let number = |sum: i64| u64::try_from(sum).unwrap_or_default();
    let groups = sums.into_iter().map(|sum| UsageGroup {
        used: Used {
            notes: number(sum.notes),
            ms: number(sum.ms),
            bytes_in: number(sum.bytes_in),
            bytes_out: number(sum.bytes_out),
            attempts: number(sum.attempts),
        },
        key: sum.key,
        status: sum.status,
    });
    Ok(groups.collect())
}
