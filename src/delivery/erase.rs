//! Forgetting whom a note was for and what it said.

use crate::{gateway::Gateway, note::Note, problem::Problem};

/// Erases audio, recipient, text and metadata of a finished note. Doing it again is harmless.
///
/// # Errors
/// `wrong_state` while the note is under way.
pub async fn erase(gateway: &Gateway, note: Note) -> Result<(), Problem> {
    let id = note.id;
    let unfinished = || {
        let detail =
            "the note is still under way, or held because its outcome is unknown; erase it when it has ended";
        Problem::new("wrong_state", detail).of_note(id)
    };
    if !note.status.is_ended() {
        return Err(unfinished());
    }
    let made_of = note.probed.as_ref().map(|probed| (note.tenant.clone(), probed.facts.sha256.clone()));
    let lanes = if note.erased { Vec::new() } else { note.lanes() };
    if !gateway.store.erase(&note.erased(), &lanes).await? {
        return Err(unfinished());
    }
    // After the row: should this process die in between, the audio goes when its time is up.
    gateway.media.remove(id).await?;
    if let Some((tenant, sha256)) = made_of {
        gateway.engine.for_tenant(&tenant).forget(&sha256).await;
    }
    gateway.store.audio_removed(id).await?;
    tracing::info!(note.id = %id, "note {id} was erased");
    Ok(())
}
