//! Audio that was uploaded before its notes. This file is compiled once for each database.

use jiff::Timestamp;
use sqlx::Executor;

use super::dialect::{Db, Pool};
use crate::model::{id::UploadId, upload::Upload};
use crate::store::{StoreError, document};

pub async fn add(db: impl Executor<'_, Database = Db>, upload: &Upload) -> Result<(), StoreError> {
    // Repeating the statement is harmless, which happens if the first answer got lost.
    sqlx::query(
        "INSERT INTO uploads (id, tenant, expires_at, doc, bytes) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING",
    )
    .bind(upload.id.to_string())
    .bind(&upload.tenant)
    .bind(upload.expires_at.as_millisecond())
    .bind(document::Document::of(upload)?.as_str())
    .bind(i64::try_from(upload.probed.facts.size_bytes).unwrap_or(i64::MAX))
    .execute(db)
    .await?;
    Ok(())
}

pub async fn find(pool: &Pool, id: UploadId, tenant: &str) -> Result<Option<Upload>, StoreError> {
    let doc: Option<String> = sqlx::query_scalar("SELECT doc FROM uploads WHERE id = $1 AND tenant = $2")
        .bind(id.to_string())
        .bind(tenant)
        .fetch_optional(pool)
        .await?;
    doc.map(|doc| document::read("upload", &doc)).transpose()
}

pub async fn exists(pool: &Pool, id: UploadId, tenant: Option<&str>) -> Result<bool, StoreError> {
    let found: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM uploads WHERE id = $1 AND tenant = COALESCE($2, tenant))",
    )
    .bind(id.to_string())
    .bind(tenant)
    .fetch_one(pool)
    .await?;
    Ok(found)
}

pub async fn remove(db: impl Executor<'_, Database = Db>, id: UploadId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM uploads WHERE id = $1").bind(id.to_string()).execute(db).await?;
    Ok(())
}

pub async fn expired(pool: &Pool, now: Timestamp, limit: u32) -> Result<Vec<UploadId>, StoreError> {
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT id FROM uploads WHERE expires_at <= $1 AND has_audio = 1 ORDER BY expires_at LIMIT $2",
    )
    .bind(now.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
}

pub async fn audio_removed(db: impl Executor<'_, Database = Db>, id: UploadId) -> Result<(), StoreError> {
    sqlx::query("UPDATE uploads SET has_audio = 0, bytes = 0 WHERE id = $1")
        .bind(id.to_string())
        .execute(db)
        .await?;
    Ok(())
}
