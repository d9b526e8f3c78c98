//! Which delivery of a lane is its head: the first by the time at which it became due, unless one is under way.

use jiff::Timestamp;

use super::{Pool, Tx};
use crate::{
    model::note::NoteId,
    store::{Claim, StoreError},
};

/// Makes the right delivery of `lane` its head, after one came, went or was left.
pub async fn elect(tx: &mut Tx<'_>, lane: &str) -> Result<(), StoreError> {
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

/// Here one transaction writes at a time, so nothing has to be held.
pub async fn hold(_: &mut Tx<'_>, _names: &[String]) -> Result<(), StoreError> {
    Ok(())
}

/// The lane of a leased delivery; `None` where somebody else has it by now.
pub async fn hold_leased(
    tx: &mut Tx<'_>,
    claim: &Claim,
    _names: &[String],
) -> Result<Option<String>, StoreError> {
    let lane = sqlx::query_scalar("SELECT lane FROM deliveries WHERE id = $1 AND fence = $2")
        .bind(claim.delivery)
        .bind(claim.fence)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(lane)
}

/// Nothing, either.
pub async fn keep(_: &mut Tx<'_>, _note: NoteId) -> Result<(), StoreError> {
    Ok(())
}

/// See [`crate::store::Store::end_all_leases`].
pub async fn end_leases(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, StoreError> {
    let done = sqlx::query("UPDATE deliveries SET lease_until = $1 WHERE lease_until > $1")
        .bind(now.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}

/// There is one clock.
pub async fn ahead(_: &mut Tx<'_>, _now: Timestamp) -> Result<i64, StoreError> {
    Ok(0)
}

/// The place of a tenant's newest event.
pub async fn settled(pool: &Pool, tenant: &str) -> Result<i64, StoreError> {
    let newest = sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM events WHERE tenant = $1")
        .bind(tenant)
        .fetch_one(pool)
        .await?;
    Ok(newest)
}
