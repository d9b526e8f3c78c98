//! Waiting for the result of a note, for requests whose answer tells it.

use std::{sync::Arc, time::Duration};

use crate::{
    gateway::{Gateway, changes::Watch},
    model::note::{Note, NoteId, Status},
    store::StoreError,
};

/// How often a waiting request reads its note without having been notified of a change.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The note was accepted by its provider, or has failed.
pub fn is_settled(note: &Note) -> bool {
    note.status.is_accepted() || note.status.is_failure()
}

/// Waits until the note is as `wanted`, at most for `wait`, and returns its latest state. A gateway that is about to stop
/// waits no longer. `changes` are those of a new note since it was accepted.
///
/// # Errors
/// The database failed. The note itself is not affected.
pub async fn wait_for(
    gateway: &Gateway,
    note: &Note,
    changes: Option<Watch<NoteId>>,
    wait: Duration,
    wanted: impl Fn(&Note) -> bool,
) -> Result<Note, StoreError> {
    let reached = gateway.stop.run_until_cancelled(reached(gateway, note, changes, wanted));
    match tokio::time::timeout(wait, reached).await {
        Ok(Some(latest)) => latest,
        _ => Ok(gateway.store.note(note.id, None).await?.unwrap_or_else(|| note.clone())),
    }
}

async fn reached(
    gateway: &Gateway,
    note: &Note,
    changes: Option<Watch<NoteId>>,
    wanted: impl Fn(&Note) -> bool,
) -> Result<Note, StoreError> {
    let mut latest = note.clone();
    // A note that is not new may have changed before the watch began.
    let mut known = changes.is_some().then(|| Arc::new(latest.clone()));
    let mut changes = changes.unwrap_or_else(|| gateway.changes.of_note(note.id));
    loop {
        latest = match known {
            Some(known) => Arc::unwrap_or_clone(known),
            None => match gateway.store.note(note.id, None).await? {
                Some(note) => note,
                None => return Ok(latest),
            },
        };
        if wanted(&latest) {
            return Ok(latest);
        }
        // A notification of another process may get lost.
        let told = tokio::time::timeout(LOOK_AGAIN, changes.next()).await.unwrap_or_default();
        // Only the worker changes a note that it sends. In any other state, somebody else may have changed it since.
        known = told.filter(|note| wanted(note) || note.status == Status::Sending);
    }
}
