//! Which delivery of a lane is its head, who may change what, and what time it is. The functions are in the first
//! migration.

use jiff::Timestamp;

use super::{Pool, Tx};
use crate::{
    model::note::NoteId,
    store::{Claim, StoreError},
};

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
