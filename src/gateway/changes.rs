//! Notifications of changes, per note and per tenant, which wake only those who wait for them.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{broadcast, watch};

use crate::model::note::{Note, NoteId};

/// The note as it was committed; `None` if it has to be read.
type Latest = Option<Arc<Note>>;

#[derive(Debug)]
pub struct Changes {
    notes: Watched<NoteId>,
    tenants: Watched<String>,
    all: broadcast::Sender<NoteId>,
}

/// Watched keys. A key without a watcher uses no memory.
#[derive(Clone, Debug)]
struct Watched<K>(Arc<Mutex<HashMap<K, watch::Sender<Latest>>>>);

/// Receives the changes of one note or one tenant since its creation.
#[derive(Debug)]
pub struct Watch<K: Eq + Hash> {
    /// `None` only while the value is being dropped.
    changes: Option<watch::Receiver<Latest>>,
    key: K,
    watched: Watched<K>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { notes: Watched::new(), tenants: Watched::new(), all: broadcast::channel(1024).0 }
    }
}

impl Changes {
    pub fn of_note(&self, note: NoteId) -> Watch<NoteId> {
        self.notes.watch(note)
    }

    /// Watches all notes of a tenant.
    pub fn of_tenant(&self, tenant: &str) -> Watch<String> {
        self.tenants.watch(tenant.to_owned())
    }

    /// Watches all notes.
    pub fn all(&self) -> broadcast::Receiver<NoteId> {
        self.all.subscribe()
    }

    pub fn note(&self, note: NoteId) {
        self.notes.wake(&note, None);
        // Sending fails only if nobody listens.
        let _ = self.all.send(note);
    }

    /// As `note`, for a note that was just committed in this form.
    pub fn note_is(&self, note: Arc<Note>) {
        let id = note.id;
        self.notes.wake(&id, Some(note));
        let _ = self.all.send(id);
    }

    pub fn tenant(&self, tenant: &str) {
        self.tenants.wake(tenant, None);
    }

    /// Wakes every watcher, because any note may have changed.
    pub fn anything(&self) {
        self.notes.wake_all();
        self.tenants.wake_all();
    }
}

impl<K: Clone + Eq + Hash> Watched<K> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn watch(&self, key: K) -> Watch<K> {
        let changes = self.lock().entry(key.clone()).or_insert_with(|| watch::channel(None).0).subscribe();
        Watch { changes: Some(changes), key, watched: self.clone() }
    }

    fn wake<Q>(&self, key: &Q, latest: Latest)
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(sender) = self.lock().get(key) {
            sender.send_replace(latest);
        }
    }

    fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_replace(None);
        }
    }
}

impl<K> Watched<K> {
    /// A panic cannot leave the senders half updated, so a poisoned lock is safe to use.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, watch::Sender<Latest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Watch<K> {
    /// Waits for the next change. Several changes since the last call count as one. Returns the note after the latest
    /// change, if it is known without reading it.
    pub async fn next(&mut self) -> Option<Arc<Note>> {
        if let Some(changes) = &mut self.changes
            && changes.changed().await.is_ok()
        {
            return changes.borrow_and_update().clone();
        }
        // The sender exists as long as its key is watched.
        std::future::pending().await
    }

    /// Ignores the changes so far.
    pub fn catch_up(&mut self) {
        if let Some(changes) = &mut self.changes {
            changes.mark_unchanged();
        }
    }
}

impl<K: Eq + Hash> Drop for Watch<K> {
    fn drop(&mut self) {
        let mut watched = self.watched.lock();
        self.changes = None;
        if watched.get(&self.key).is_some_and(|sender| sender.receiver_count() == 0) {
            watched.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_affected_watchers_are_woken() {
        let changes = Changes::default();
        let (one, other) = (NoteId::new(), NoteId::new());
        let (mut of_one, mut of_other) = (changes.of_note(one), changes.of_note(other));
        let (mut of_a, mut of_b) = (changes.of_tenant("a"), changes.of_tenant("b"));
        changes.note(one);
        changes.note(one);
        changes.tenant("a");
        of_one.next().await;
        of_a.next().await;
        assert!(of_one.next().now_or_never().is_none(), "two changes are one");
        assert!(of_other.next().now_or_never().is_none() && of_b.next().now_or_never().is_none());
        changes.anything();
        for woken in [of_one.next().now_or_never(), of_other.next().now_or_never()] {
            assert!(woken.is_some());
        }
    }

    #[tokio::test]
    async fn unwatched_keys_use_no_memory() {
        let changes = Changes::default();
        let note = NoteId::new();
        let (first, mut second) = (changes.of_note(note), changes.of_note(note));
        drop(first);
        changes.note(note);
        second.next().await;
        drop(second);
        drop(changes.of_tenant("a"));
        assert!(changes.notes.lock().is_empty() && changes.tenants.lock().is_empty());
    }
}
