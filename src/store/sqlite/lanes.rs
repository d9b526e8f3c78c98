//! Which delivery of a lane is its head: the first by the time at which it became due, unless one is under way.

use sqlx::{Sqlite, Transaction};

use crate::store::StoreError;

/// Makes the right delivery of `lane` its head, after one came, went or was left.
pub async fn elect(tx: &mut Transaction<'_, Sqlite>, lane: &str) -> Result<(), StoreError> {
    let head: Option<(i64, String)> =
        sqlx::query_as("SELECT id, state FROM deliveries WHERE lane = $1 AND head = 1")
            .bind(lane)
            .fetch_optional(&mut **tx)
            .await?;
    // What is under way or held stays where it is.
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
