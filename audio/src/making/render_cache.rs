//! A cache of produced files, so that a note to many people is encoded once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tempfile::TempPath;
use voicegate_providers::AudioFacts;

use crate::error::{AudioError, AudioErrorKind};
use crate::making::render::Render;
use crate::observer::Observer;
use crate::profiles::plan::{Convert, Work};
use crate::profiles::profile::Profile;
use crate::source::{Hints, PcmFormat, Probed};

/// Entries that were not requested for this long are removed.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// Unit of size: files occupy whole blocks on disk, and the facts about each count as one more.
const BLOCK: u64 = 4096;

/// Key of a render. It contains the tenant, so that the time an answer takes does not reveal what other tenants sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    tenant: Arc<str>,
    sha256: String,
    /// Format of headerless samples, because the same bytes are another sound in another format.
    format: Option<PcmFormat>,
    profile: &'static str,
    convert: Convert,
}

impl Key {
    pub fn new(
        tenant: &Arc<str>,
        sha256: String,
        hints: &Hints,
        profile: &'static Profile,
        convert: Convert,
    ) -> Self {
        Self { tenant: tenant.clone(), sha256, format: hints.format, profile: profile.name, convert }
    }
}

/// A decoded source and the file that was produced for a target.
#[derive(Debug)]
pub struct Ready {
    pub source: Probed,
    /// `None` if the target accepts the source itself.
    pub made: Option<ReadyFile>,
}

/// A produced and verified file. It is removed when this value is dropped.
#[derive(Debug)]
pub struct ReadyFile {
    path: TempPath,
    pub facts: AudioFacts,
    pub work: Work,
    /// Names of the checks that the file passed.
    pub checks: Vec<&'static str>,
}

impl Ready {
    /// Moves the produced file into `folder`.
    pub(crate) fn new(source: Probed, render: Render, folder: &Path) -> io::Result<Self> {
        let made = match render {
            Render::Untouched => None,
            Render::Made { file, facts, work, checks } => {
                std::fs::create_dir_all(folder)?;
                let path = folder.join(file.path().file_name().unwrap_or_default());
                // Only the path is kept, because an open file for each entry would use up file descriptors.
                file.persist(&path)?;
                Some(ReadyFile { path: TempPath::try_from_path(path)?, facts, work, checks })
            }
        };
        Ok(Self { source, made })
    }

    fn bytes(&self) -> u64 {
        BLOCK + self.made.as_ref().map_or(0, |made| made.facts.size_bytes.next_multiple_of(BLOCK))
    }
}

impl ReadyFile {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug)]
pub(crate) struct RenderCache {
    cache: Cache<Key, Arc<Ready>>,
    folder: PathBuf,
}

impl RenderCache {
    /// Creates a cache of `bytes`, whose entries live for at most `ttl`. `folder` is created with the first file.
    pub fn new(folder: PathBuf, bytes: u64, ttl: Duration) -> Self {
        let blocks = |ready: &Arc<Ready>| u32::try_from(ready.bytes() / BLOCK).unwrap_or(u32::MAX);
        let cache = Cache::builder()
            .weigher(move |_, ready| blocks(ready))
            .max_capacity(bytes / BLOCK)
            .time_to_live(ttl)
            .time_to_idle(IDLE.min(ttl))
            .build();
        Self { cache, folder }
    }

    /// Returns the entry for `key`, or creates it with `make`. Concurrent calls with one key wait for the same result.
    ///
    /// # Errors
    /// Errors of `make`, for every waiting call. They are not cached.
    pub async fn get(
        &self,
        key: Key,
        observer: &dyn Observer,
        make: impl Future<Output = Result<(Probed, Render), AudioError>>,
    ) -> Result<Arc<Ready>, AudioError> {
        let mut is_made = false;
        let make = async {
            is_made = true;
            let (source, render) = make.await?;
            Ready::new(source, render, &self.folder).map(Arc::new).map_err(|error| {
                tracing::error!(%error, "a produced file could not be moved into the render cache");
                AudioError::encode(AudioErrorKind::Outage, "there is no room for working files")
            })
        };
        let ready = self.cache.try_get_with(key, make).await;
        observer.looked_up(!is_made);
        ready.map_err(|error| AudioError::clone(&error))
    }

    /// Returns the entry for `key`, if there is one and a file was produced.
    pub async fn find(&self, key: &Key, observer: &dyn Observer) -> Option<Arc<Ready>> {
        let ready = self.cache.get(key).await.filter(|ready| ready.made.is_some());
        if ready.is_some() {
            observer.looked_up(true);
        }
        ready
    }

    /// Removes all renders of a tenant's source.
    pub async fn forget(&self, tenant: &str, sha256: &str) {
        let is_of = |key: &Key| &*key.tenant == tenant && key.sha256 == sha256;
        for (key, _) in self.cache.iter().filter(|(key, _)| is_of(key)) {
            self.cache.invalidate(&*key).await;
        }
    }
}
