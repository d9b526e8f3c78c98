//! Cancels notes that are waiting.

use crate::{
    gateway::{Gateway, note_metrics},
    model::{
        code::Code,
        note::{Note, Status},
        problem::Problem,
    },
};

/// Cancels a note that waits for its first or next attempt.
///
/// # Errors
/// `wrong_state` if it is not waiting.
pub async fn cancel(gateway: &Gateway, mut note: Note) -> Result<Note, Problem> {
    let status = note.status.as_str();
    note.status = Status::Canceled;
    note.next_attempt_at = None;
    note.memory = None;
    note.updated_at = gateway.clock.now();
    note.source.forget_secrets();
    if !gateway.store.cancel(&note, gateway.live().notifies(&note.tenant)).await? {
        let detail = format!("only a note that waits can be cancelled; this one is, or just was, {status}");
        return Err(Problem::new(Code::WrongState, detail).of_note(note.id));
    }
    tracing::info!(note.id = %note.id, "note {} was cancelled", note.id);
    note_metrics::note(&note);
    gateway.changed(&note.tenant, note.id);
    gateway.wake_worker(); // the next one in its lane
    Ok(note)
}
