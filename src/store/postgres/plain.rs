//! Writes a plain change of a note by one call of a function in the database, which is one round trip and commits by
//! itself.

use super::{Pool, write::held_names};
use crate::store::{
    StoreError,
    plain_write::{PlainWrite, SEEN_EVERY},
    used_columns,
};

/// Returns `false` if receipts for the note came before. Then nothing was changed, and they have to be applied in the
/// same transaction.
///
/// # Errors
/// [`StoreError::LeaseLost`] if another process has the lease; then nothing was changed either.
pub async fn write_alone(pool: &Pool, plain: &PlainWrite<'_>) -> Result<bool, StoreError> {
    let (claim, note) = (plain.claim, plain.note);
    let outcome: String = sqlx::query_scalar(
        "SELECT write_plain($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
            $21, $22, $23, $24, $25, $26, $27, $28, $29)",
    )
    .bind(claim.delivery)
    .bind(claim.fence)
    .bind(plain.from)
    .bind(plain.to)
    .bind(held_names(note))
    .bind(note.id.to_string())
    .bind(&note.tenant)
    .bind(note.status.as_str())
    .bind(plain.at())
    .bind(plain.doc.as_str())
    .bind(&note.current().connection)
    .bind(i64::try_from(note.kept_bytes()).unwrap_or(i64::MAX))
    .bind(plain.event.as_ref().map(|(id, _)| id.to_string()))
    .bind(plain.event.as_ref().map(|(_, kind)| kind.as_str()))
    .bind(plain.notify)
    .bind(plain.event_lane())
    .bind(plain.events_key())
    .bind(plain.event_expires_at())
    .bind(&plain.connection)
    .bind(&plain.names)
    .bind(plain.deadline)
    .bind(plain.deadline_lane())
    .bind(plain.watch_key())
    .bind(plain.deadline_expires_at())
    .bind(plain.works)
    .bind(plain.at() - SEEN_EVERY.as_millis() as i64 + 1)
    .bind(plain.sent.map(|content| &content.sha256))
    .bind(plain.sent.map(|content| &content.bytes[..]))
    .bind(used_columns(note))
    .fetch_one(pool)
    .await?;
    match outcome.as_str() {
        "written" => Ok(true),
        "early" => Ok(false),
        _ => Err(StoreError::LeaseLost),
    }
}
