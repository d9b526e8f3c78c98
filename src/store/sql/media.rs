//! Media handles that providers gave to uploaded bytes, so that equal bytes are uploaded once. This file is compiled
//! once for each database.

use jiff::Timestamp;
use voicegate_providers::{Form, MediaHandle};

use super::dialect::{Pool, Tx};
use crate::store::{MediaChange, MediaKey, StoreError};

/// Finds the provider's handle for these bytes, unless it has expired by `now`.
pub async fn find(pool: &Pool, key: &MediaKey, now: Timestamp) -> Result<Option<MediaHandle>, StoreError> {
    let row: Option<(String, Option<i64>)> = sqlx::query_as(
        "SELECT value, valid_until FROM provider_media
         WHERE connection = $1 AND form = $2 AND sha256 = $3 AND (valid_until IS NULL OR valid_until > $4)",
    )
    .bind(&key.connection)
    .bind(word(key.form))
    .bind(&key.sha256)
    .bind(now.as_millisecond())
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|(value, until)| MediaHandle {
        value,
        valid_until: until.and_then(|until| Timestamp::from_millisecond(until).ok()),
    }))
}

pub async fn change(tx: &mut Tx<'_>, change: &MediaChange, now: Timestamp) -> Result<(), StoreError> {
    match change {
        MediaChange::Keep(key, handle) => {
            sqlx::query(
                "INSERT INTO provider_media (connection, form, sha256, value, valid_until, added_at)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (connection, form, sha256) DO UPDATE SET value = excluded.value,
                    valid_until = excluded.valid_until, added_at = excluded.added_at",
            )
            .bind(&key.connection)
            .bind(word(key.form))
            .bind(&key.sha256)
            .bind(&handle.value)
            .bind(handle.valid_until.map(Timestamp::as_millisecond))
            .bind(now.as_millisecond())
            .execute(&mut **tx)
            .await?;
        }
        MediaChange::Forget(key, value) => {
            sqlx::query(
                "DELETE FROM provider_media WHERE connection = $1 AND form = $2 AND sha256 = $3 AND value = $4",
            )
            .bind(&key.connection)
            .bind(word(key.form))
            .bind(&key.sha256)
            .bind(value)
            .execute(&mut **tx)
            .await?;
        }
    }
    Ok(())
}

/// Removes handles that were stored by `before`.
pub async fn forget(tx: &mut Tx<'_>, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM provider_media WHERE added_at <= $1")
        .bind(before.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn word(form: Form) -> &'static str {
    match form {
        Form::Voice => "voice",
        Form::Audio => "audio",
        Form::File => "file",
        Form::Text => "text",
    }
}
