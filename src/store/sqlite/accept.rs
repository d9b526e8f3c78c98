//! Making a note durable: the row, its delivery, and its claim on the idempotency key.

use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};

use super::{lanes::elect, write::release};
use crate::store::{Acceptance, KeyHolder, NewNote, StoreError, connection_key};

/// See [`crate::store::Store::accept`].
pub async fn accept(tx: &mut Transaction<'_, Sqlite>, new: &NewNote) -> Result<Acceptance, StoreError> {
    let note = &new.note;
    if let Some(claim) = &new.idempotency
        && let Some(holder) = key_holder(tx, &note.tenant, &claim.key, note.created_at).await?
    {
        return Ok(Acceptance::KeyTaken(holder));
    }
    let (total, of_tenant): (i64, i64) = sqlx::query_as(
        "SELECT COALESCE(SUM(depth), 0), COALESCE(SUM(depth) FILTER (WHERE tenant = $1), 0) FROM queue_depths",
    )
    .bind(&note.tenant)
    .fetch_one(&mut **tx)
    .await?;
    if total.unsigned_abs() >= new.max_queue || of_tenant.unsigned_abs() >= new.max_queue_per_tenant {
        return Ok(Acceptance::QueueFull);
    }
    if let Some(claim) = &new.idempotency {
        sqlx::query(
            "INSERT OR REPLACE INTO idempotency (tenant, key, fingerprint, note_id, expires_at)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&note.tenant)
        .bind(&claim.key)
        .bind(&claim.fingerprint)
        .bind(note.id.to_string())
        .bind(claim.expires_at.as_millisecond())
        .execute(&mut **tx)
        .await?;
    }
    sqlx::query(
        "INSERT INTO notes (id, tenant, status, created_at, doc, recipient, via)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(note.id.to_string())
    .bind(&note.tenant)
    .bind(note.status.as_str())
    .bind(note.created_at.as_millisecond())
    .bind(serde_json::to_string(note)?)
    .bind(&note.to)
    .bind(&note.current().connection)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO deliveries (note_id, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at)
         VALUES ($1, $2, $3, $4, 'queued', $7, $5, $5, $6)",
    )
    .bind(note.id.to_string())
    .bind(&note.tenant)
    .bind(connection_key(&note.tenant, &note.current().connection))
    .bind(note.lane())
    .bind(note.due_at().as_millisecond())
    .bind(note.expires_at.as_millisecond())
    .bind(note.created_at.as_millisecond())
    .execute(&mut **tx)
    .await?;
    elect(tx, &note.lane()).await?;
    if let Some(held) = new.releases {
        release(tx, held).await?;
    }
    Ok(Acceptance::Created)
}

pub async fn key_holder(
    tx: &mut Transaction<'_, Sqlite>,
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
    .fetch_optional(&mut **tx)
    .await?;
    found
        .map(|(fingerprint, note)| {
            let note =
                note.parse().map_err(|()| StoreError::Open("a stored note id is malformed".to_owned()))?;
            Ok(KeyHolder { fingerprint, note })
        })
        .transpose()
}
