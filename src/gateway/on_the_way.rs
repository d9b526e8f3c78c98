//! Small audio of the notes that are being sent, from which the links of providers are answered without the database.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use jiff::Timestamp;
use voicegate_providers::AudioFacts;

use crate::{media::AudioVariant, model::note::NoteId};

/// The audio of a note that is being sent.
#[derive(Debug)]
pub struct Sending {
    pub variant: AudioVariant,
    pub facts: AudioFacts,
    /// The time at which the note was made.
    pub created_at: Timestamp,
    pub bytes: Bytes,
}

#[derive(Clone, Debug, Default)]
pub struct OnTheWay(Arc<Mutex<HashMap<NoteId, Arc<Sending>>>>);

impl OnTheWay {
    /// Keeps the audio of a note until the value is dropped.
    pub fn add(&self, note: NoteId, sending: Sending) -> Kept {
        let sending = Arc::new(sending);
        self.lock().insert(note, sending.clone());
        Kept { note, sending, of: self.clone() }
    }

    pub fn find(&self, note: NoteId, variant: AudioVariant) -> Option<Arc<Sending>> {
        self.lock().get(&note).filter(|sending| sending.variant == variant).cloned()
    }

    /// A panic cannot leave the map half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<NoteId, Arc<Sending>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the audio of a note until it is dropped.
#[derive(Debug)]
pub struct Kept {
    note: NoteId,
    sending: Arc<Sending>,
    of: OnTheWay,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut map = self.of.lock();
        // A later form of the same note may have taken its place.
        if map.get(&self.note).is_some_and(|current| Arc::ptr_eq(current, &self.sending)) {
            map.remove(&self.note);
        }
    }
}
