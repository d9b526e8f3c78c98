//! Storing a new note, by one call of a function in the database, which is one round trip.

use jiff::Timestamp;

use super::Pool;
use crate::store::{Acceptance, KeyHolder, NewNote, StoreError, document::Document, queue_key};

/// See [`crate::store::Store::accept`]. Repeating it with the same note changes nothing.
pub async fn accept(pool: &Pool, new: &NewNote) -> Result<Acceptance, StoreError> {
    let note = &new.note;
    let key = new.idempotency.as_ref();
    let (outcome, holder, fingerprint): (String, Option<String>, Option<String>) = sqlx::query_as(
        "SELECT outcome, holder, holder_fingerprint
         FROM accept($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
            $20, $21, $22)",
    )
    .bind(note.id.to_string())
    .bind(&note.tenant)
    .bind(note.status.as_str())
    .bind(note.created_at.as_millisecond())
    .bind(Document::of(note)?.as_str())
    .bind(&note.to)
    .bind(&note.current().connection)
    .bind(new.source.as_ref().map(|content| &content.sha256))
    .bind(new.source.as_ref().map(|content| &content.bytes[..]))
    .bind(queue_key(note))
    .bind(note.lane())
    .bind(note.due_at().as_millisecond())
    .bind(note.expires_at.as_millisecond())
    .bind(key.map(|claim| &claim.key))
    .bind(key.map(|claim| &claim.fingerprint))
    .bind(key.map(|claim| claim.expires_at.as_millisecond()))
    .bind(new.releases.map(|held| held.to_string()))
    .bind(i64::try_from(new.max_queue).unwrap_or(i64::MAX))
    .bind(i64::try_from(new.max_queue_per_tenant).unwrap_or(i64::MAX))
    .bind(i64::try_from(new.share).unwrap_or(i64::MAX))
    .bind(i32::from(new.is_far()))
    .bind(i64::try_from(note.kept_bytes()).unwrap_or(i64::MAX))
    .fetch_one(pool)
    .await?;
    match (outcome.as_str(), holder, fingerprint) {
        ("created", ..) => Ok(Acceptance::Created),
        ("queue_full", ..) => Ok(Acceptance::QueueFull),
        (_, Some(holder), Some(fingerprint)) => {
            Ok(Acceptance::KeyTaken(KeyHolder::of_row(fingerprint, &holder)?))
        }
        _ => Err(StoreError::Open("the database holds functions of another version".to_owned())),
    }
}

pub async fn key_holder(
    pool: &Pool,
    tenant: &str,
    key: &str,
    now: Timestamp,
) -> Result<Option<KeyHolder>, StoreError> {
    let found: Option<(String, String)> = sqlx::query_as(
        "SELECT fingerprint, note_id FROM idempotency WHERE tenant = $1 AND key = $2 AND expires_at > $3",
    )
    .bind(tenant)
    .bind(key)
    .bind(now.as_millisecond())
    .fetch_optional(pool)
    .await?;
    found.map(|(fingerprint, note)| KeyHolder::of_row(fingerprint, &note)).transpose()
}
