//! Uploads under way: notes that send the same bytes over the same connection wait for the first of them, and then use
//! what it uploaded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::store::MediaKey;

/// The right to upload, until it is dropped.
pub type Turn = OwnedMutexGuard<()>;

#[derive(Debug, Default)]
pub struct Uploads(Mutex<HashMap<MediaKey, Weak<AsyncMutex<()>>>>);

impl Uploads {
    /// Waits until nobody in this process uploads these bytes.
    pub async fn turn(&self, key: &MediaKey) -> Turn {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(key).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::<AsyncMutex<()>>::default();
                    locks.insert(key.clone(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use voicegate_providers::Form;

    use super::*;

    #[tokio::test]
    async fn one_upload_of_the_same_bytes_at_a_time() {
        let uploads = Uploads::default();
        let key = |sha256: &str| MediaKey {
            connection: "t/c".to_owned(),
            form: Form::Voice,
            sha256: sha256.to_owned(),
        };
        let first = uploads.turn(&key("a")).await;
        assert!(uploads.turn(&key("a")).now_or_never().is_none());
        assert!(uploads.turn(&key("b")).now_or_never().is_some());
        drop(first);
        assert!(uploads.turn(&key("a")).now_or_never().is_some());
        drop(uploads.turn(&key("c")).await);
        assert_eq!(uploads.0.lock().expect("the locks").len(), 1, "what nobody holds is forgotten");
    }
}
