//! What was made of a source, kept for the next who needs the same: a note to many people costs one encoding.

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

/// Nobody has needed it for so long.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// A file counts in whole blocks, as on disk, and its facts beside it.
const BLOCK: u64 = 4096;

/// By what a render is the same. The tenant is part of it, so that nobody learns from the time that an answer takes what
/// others sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    tenant: Arc<str>,
    sha256: String,
    /// Of headerless samples: the same bytes are then another sound.
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

/// A source that was decoded, and what a target gets of it.
#[derive(Debug)]
pub struct Ready {
    pub source: Probed,
    /// `None` where the source itself is what the target accepts.
    pub made: Option<ReadyFile>,
}

/// A file that was made and proved right. It is there as long as this is.
#[derive(Debug)]
pub struct ReadyFile {
    path: TempPath,
    pub facts: AudioFacts,
    pub work: Work,
    /// What was verified on it.
    pub checks: Vec<&'static str>,
}

impl Ready {
    /// Moves what was made into `folder`.
    pub(crate) fn new(source: Probed, render: Render, folder: &Path) -> io::Result<Self> {
        let made = match render {
            Render::Untouched => None,
            Render::Made { file, facts, work, checks } => {
                std::fs::create_dir_all(folder)?;
                let path = folder.join(file.path().file_name().unwrap_or_default());
                // Only the path is held on to: kept files would take up a descriptor each.
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
pub(crate) struct Kept {
    cache: Cache<Key, Arc<Ready>>,
    folder: PathBuf,
}

impl Kept {
    /// Files go into `folder`, which is made with the first one.
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

    /// What is kept under `key`, or what `make` makes of it. All who come meanwhile wait for the same.
    ///
    /// # Errors
    /// Those of `make`, for all who waited; they are not kept.
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
                tracing::error!(%error, "a made file could not be kept");
                AudioError::encode(AudioErrorKind::Outage, "there is no room for working files")
            })
        };
        let ready = self.cache.try_get_with(key, make).await;
        observer.looked_up(!is_made);
        ready.map_err(|error| AudioError::clone(&error))
    }

    /// Lets go of everything that was made of a tenant's source.
    pub async fn forget(&self, tenant: &str, sha256: &str) {
        let is_of = |key: &Key| &*key.tenant == tenant && key.sha256 == sha256;
        for (key, _) in self.cache.iter().filter(|(key, _)| is_of(key)) {
            self.cache.invalidate(&*key).await;
        }
    }
}
