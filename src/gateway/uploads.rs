//! Uploads in progress. Notes that send the same bytes over the same connection wait for the first of them, and then
//! use its upload.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::store::MediaKey;

/// The right to upload, released when this value is dropped.
pub type UploadPermit = OwnedMutexGuard<()>;

#[derive(Debug, Default)]
pub struct Uploads(Mutex<HashMap<MediaKey, Weak<AsyncMutex<()>>>>);

impl Uploads {
    /// Waits until no other task of this process uploads these bytes.
    pub async fn acquire(&self, key: &MediaKey) -> UploadPermit {
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
    async fn equal_bytes_are_uploaded_once_at_a_time() {
        let uploads = Uploads::default();
        let key = |sha256: &str| MediaKey {
            connection: "t/c".to_owned(),
            form: Form::Voice,
            sha256: sha256.to_owned(),
        };
        let first = uploads.acquire(&key("a")).await;
        assert!(uploads.acquire(&key("a")).now_or_never().is_none());
        assert!(uploads.acquire(&key("b")).now_or_never().is_some());
        drop(first);
        assert!(uploads.acquire(&key("a")).now_or_never().is_some());
        drop(uploads.acquire(&key("c")).await);
        assert_eq!(uploads.0.lock().expect("the locks").len(), 1, "unused keys are removed");
    }
}
