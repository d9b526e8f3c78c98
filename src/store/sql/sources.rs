//! Small audio of notes, which is kept in the database. This file is compiled once for each database.

use bytes::Bytes;

use super::dialect::{Pool, Tx};
use crate::{model::note::NoteId, store::StoreError};

/// Reads one variant of a note's audio.
pub async fn find(pool: &Pool, note: NoteId, variant: i32) -> Result<Option<Bytes>, StoreError> {
    let bytes: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT c.bytes FROM note_audio a JOIN contents c ON c.id = a.content
         WHERE a.note_id = $1 AND a.variant = $2",
    )
    .bind(note.to_string())
    .bind(variant)
    .fetch_optional(pool)
    .await?;
    Ok(bytes.map(Bytes::from))
}

/// Removes all audio of a note. A content goes with the last note that refers to it. Speech that is gone is found by no
/// other note.
pub async fn remove(tx: &mut Tx<'_>, note: NoteId) -> Result<(), StoreError> {
    for sql in ["DELETE FROM note_audio WHERE note_id = $1", "DELETE FROM spoken WHERE note_id = $1"] {
        sqlx::query(sql).bind(note.to_string()).execute(&mut **tx).await?;
    }
    Ok(())
}
