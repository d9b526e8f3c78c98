//! The notes for which a sign is shown that they are being recorded, so that it is shown once for each.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::model::note::NoteId;

#[derive(Debug, Default)]
pub struct Recording(Mutex<HashSet<NoteId>>);

impl Recording {
    /// Returns `false` if the sign is shown already.
    pub fn begin(&self, note: NoteId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(note)
    }

    pub fn end(&self, note: NoteId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&note);
    }
}
