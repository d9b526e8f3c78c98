//! Audio that is kept beside its note. This file is compiled once for each database.

use bytes::Bytes;

use super::dialect::{Pool, Tx};
use crate::{model::note::NoteId, store::StoreError};

pub async fn find(pool: &Pool, note: NoteId) -> Result<Option<Bytes>, StoreError> {
    let bytes: Option<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM sources WHERE note_id = $1")
        .bind(note.to_string())
        .fetch_optional(pool)
        .await?;
    Ok(bytes.map(Bytes::from))
}

pub async fn remove(tx: &mut Tx<'_>, note: NoteId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sources WHERE note_id = $1").bind(note.to_string()).execute(&mut **tx).await?;
    Ok(())
}
