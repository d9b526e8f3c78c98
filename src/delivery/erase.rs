//! Erases the recipient and the content of notes.

use jiff::Timestamp;

use crate::{
    config::Tenant,
    gateway::Gateway,
    model::{
        code::Code,
        id::NoteId,
        note::{AudioSource, Note, RouteEntry, Status},
        problem::Problem,
    },
    store::Columns,
};

/// Erases audio, recipient, text and metadata of a finished note. Repeating it is harmless.
///
/// # Errors
/// `wrong_state` if the note has not ended.
pub async fn erase(gateway: &Gateway, note: Note) -> Result<(), Problem> {
    let id = note.id;
    if !note.status.is_ended() {
        return Err(unfinished(id));
    }
    let made_of = note.probed.as_ref().map(|probed| (note.tenant.clone(), probed.facts.sha256.clone()));
    let lanes = if note.erased { Vec::new() } else { note.lanes() };
    if !gateway.store.erase(&note.erased(), &lanes).await? {
        return Err(unfinished(id));
    }
    // The audio is removed after the row. If the process crashes in between, it is removed when its retention ends.
    gateway.media.remove(id).await?;
    if let Some((tenant, sha256)) = made_of {
        gateway.engine.for_tenant(&tenant).forget(&sha256).await;
    }
    gateway.store.audio_removed(id).await?;
    tracing::info!(note.id = %id, "note {id} was erased");
    Ok(())
}

/// Erases a note whose record cannot be read. Only the facts in the columns beside its document remain. If the note was
/// still to be sent, it has failed.
///
/// # Errors
/// `wrong_state` if the note has not ended.
pub async fn erase_unreadable(gateway: &Gateway, tenant: &Tenant, id: NoteId) -> Result<(), Problem> {
    let absent = || Problem::new(Code::NotFound, "there is no such voice note");
    let columns = gateway.store.columns(id, &tenant.name).await?.ok_or_else(absent)?;
    let left = left_of(tenant, id, columns, gateway.clock.now());
    if !gateway.store.erase_unreadable(&left).await? {
        return Err(unfinished(id));
    }
    gateway.media.remove(id).await?;
    gateway.store.audio_removed(id).await?;
    gateway.changed(&tenant.name, id);
    gateway.wake_worker(); // the next one in its lane
    tracing::info!(note.id = %id, "note {id}, which could not be read, was erased");
    Ok(())
}

fn unfinished(id: NoteId) -> Problem {
    let detail =
        "the note is still under way, or held because its outcome is unknown; erase it when it has ended";
    Problem::new(Code::WrongState, detail).of_note(id)
}

fn left_of(tenant: &Tenant, id: NoteId, columns: Columns, now: Timestamp) -> Note {
    let Columns { status, created_at, via } = columns;
    let connection = via.unwrap_or_default();
    let provider = tenant.connections.get(&connection).map(|connection| connection.provider_name);
    let damaged = || {
        let detail = "the stored record of this note was damaged before it was sent, and was erased";
        Problem::new(Code::Internal, detail).of_note(id)
    };
    let route = vec![RouteEntry {
        connection,
        provider: provider.unwrap_or_default().to_owned(),
        to: String::new(),
        recipient_key: String::new(),
    }];
    Note {
        id,
        status: if status.is_ended() { status } else { Status::Failed },
        error: (!status.is_ended()).then(damaged),
        next_attempt_at: None,
        updated_at: now,
        audio_expired: true,
        erased: true,
        ..Note::new(tenant.name.clone(), String::new(), route, AudioSource::Stored, created_at, created_at)
    }
}
