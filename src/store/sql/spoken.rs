//! Notes whose source is speech, by everything that the speech depends on, so that a sentence is spoken once. A row goes
//! with the audio of its note. This file is compiled once for each database.

use super::dialect::{Pool, Tx};
use crate::{
    model::note::{Note, NoteId},
    store::StoreError,
};

/// Records that the stored source of a note is the speech with this key.
pub async fn keep(tx: &mut Tx<'_>, note: &Note, key: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO spoken (note_id, tenant, name) VALUES ($1, $2, $3)
         ON CONFLICT (note_id) DO UPDATE SET name = excluded.name",
    )
    .bind(note.id.to_string())
    .bind(&note.tenant)
    .bind(key)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Finds the newest note with this speech, whose audio stays the longest.
pub async fn find(pool: &Pool, tenant: &str, key: &str) -> Result<Option<NoteId>, StoreError> {
    let note: Option<String> = sqlx::query_scalar(
        "SELECT note_id FROM spoken WHERE tenant = $1 AND name = $2 ORDER BY note_id DESC LIMIT 1",
    )
    .bind(tenant)
    .bind(key)
    .fetch_optional(pool)
    .await?;
    let malformed = |()| StoreError::Corrupt("spoken: the note's id is malformed".to_owned());
    note.map(|note| note.parse().map_err(malformed)).transpose()
}
