//! Audio that was uploaded ahead of its notes. Compiled once for each database.

use jiff::Timestamp;
use sqlx::Executor;

use super::{Db, Pool};
use crate::store::StoreError;
use crate::{id::UploadId, upload::Upload};

pub async fn add(db: impl Executor<'_, Database = Db>, upload: &Upload) -> Result<(), StoreError> {
    // Harmless where it is done again, because the answer of the first time got lost.
    sqlx::query(
        "INSERT INTO uploads (id, tenant, expires_at, doc) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
    )
    .bind(upload.id.to_string())
    .bind(&upload.tenant)
    .bind(upload.expires_at.as_millisecond())
    .bind(serde_json::to_string(upload)?)
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
    Ok(doc.map(|doc| serde_json::from_str(&doc)).transpose()?)
}

pub async fn exists(pool: &Pool, id: UploadId) -> Result<bool, StoreError> {
    let found: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM uploads WHERE id = $1)")
        .bind(id.to_string())
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
    sqlx::query("UPDATE uploads SET has_audio = 0 WHERE id = $1").bind(id.to_string()).execute(db).await?;
    Ok(())
}
