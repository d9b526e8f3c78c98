//! The engine: a bounded pool of workers in front of ffmpeg, with a scratch folder of its own.

mod fair_pool;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::engine::fair_pool::{FairPool, Worker};
use crate::error::{AudioError, AudioErrorKind, Stage};
use crate::ffmpeg::companions::Companions;
use crate::ffmpeg::job::JobContext;
use crate::ffmpeg::run::locate;
use crate::making::render;
use crate::making::render::Render;
use crate::making::render_cache::{Key, Ready, RenderCache};
use crate::observer::{Observer, Unobserved};
use crate::profiles::plan::{Convert, Work, plan};
use crate::profiles::profile::Profile;
use crate::profiles::table::PROFILES;
use crate::reading::probe::Depth;
use crate::reading::{probe, tone};
use crate::source::{Hints, Probed};

/// Limit on waiting jobs, per worker.
const WAITING_PER_WORKER: usize = 64;
/// With more waiting jobs per worker than this, Opus is encoded with lower complexity. A few jobs at a time are not enough
/// for that, because equal requests are to get equal bytes.
const LONG_PER_WORKER: usize = 8;

/// Opus complexity. The lower value saves a fifth of the time at little cost: PESQ 4.42 instead of 4.44 at 24 kbit/s.
/// One less would save no more, and has 4.38.
const COMPLEXITY: u8 = 10;
const COMPLEXITY_IN_A_HURRY: u8 = 6;

#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Path of ffmpeg. `None` looks beside our executable, then on `PATH`.
    pub ffmpeg: Option<PathBuf>,
    /// Number of concurrent runs of ffmpeg; 0 means one per core.
    pub workers: usize,
    pub max_duration: Duration,
    /// Time limit of one run of ffmpeg.
    pub timeout: Duration,
    /// Size limit of a source, in bytes. A header that states a larger size is treated as one of unknown size.
    pub max_source: u64,
    /// Size limit of a produced file, in bytes.
    pub max_output: u64,
    /// Size of the render cache, in bytes; 0 disables it.
    pub cache: u64,
    /// Maximum age of an entry of the render cache.
    pub cache_ttl: Duration,
    /// Opus complexity from 0 to 10. `None` uses 10, or less while many jobs wait.
    pub complexity: Option<u8>,
    /// Whether clean sources of common kinds are decoded in this process, where that is possible. ffmpeg decodes them
    /// otherwise, with the same results at a higher cost.
    pub decodes_in_process: bool,
    /// Receives a call for each thing that the engine does.
    pub observer: Arc<dyn Observer>,
    /// Folder for working files. It is created with mode 0700, and leftovers of crashed processes are removed from it.
    pub scratch: PathBuf,
}

/// The defaults of the built-in configuration, with a scratch folder below the system's temporary folder.
impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            ffmpeg: None,
            workers: 0,
            max_duration: Duration::from_secs(15 * 60),
            timeout: Duration::from_secs(60),
            max_source: 25 << 20,
            max_output: 25 << 20,
            cache: 256 << 20,
            cache_ttl: Duration::from_secs(60 * 60),
            complexity: None,
            decodes_in_process: true,
            observer: Arc::new(Unobserved),
            scratch: std::env::temp_dir().join("voicegate"),
        }
    }
}

/// A source file with the hints of its owner.
#[derive(Clone, Copy, Debug)]
pub struct SourceFile<'a> {
    pub path: &'a Path,
    pub hints: &'a Hints,
    /// Facts from an earlier reading of the same bytes. The waveform is empty if they were not decoded.
    pub probed: Option<&'a Probed>,
}

#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    /// Tenant of this handle: workers are shared fairly between tenants, and cached renders are not shared at all.
    tenant: Arc<str>,
    /// Other profiles for which this handle renders its source.
    companions: Option<Arc<Companions>>,
    is_self_test: bool,
}

#[derive(Debug)]
struct Shared {
    options: EngineOptions,
    pool: FairPool,
    /// Declared before `run_folder`, so that its files are removed before their folder is.
    renders: RenderCache,
    run_folder: TempDir,
    /// A lock held for the life of the process. It tells other processes that the folder is in use.
    _in_use: File,
}

impl Engine {
    /// Prepares the scratch folder. A missing ffmpeg is reported by [`Engine::self_test`], not here.
    ///
    /// # Errors
    /// `Internal` if the scratch folder cannot be used.
    pub fn new(options: EngineOptions) -> Result<Self, AudioError> {
        let workers = match options.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let unusable = |error: io::Error| {
            tracing::error!(%error, "the scratch folder of the audio engine cannot be used");
            AudioError::probe(AudioErrorKind::Internal, format!("the scratch folder cannot be used: {error}"))
        };
        let (run_folder, in_use) = prepare(&options.scratch).map_err(unusable)?;
        let renders_folder = run_folder.path().join("renders");
        let shared = Shared {
            pool: FairPool::new(workers, workers.saturating_mul(WAITING_PER_WORKER)),
            renders: RenderCache::new(renders_folder, options.cache, options.cache_ttl),
            options,
            run_folder,
            _in_use: in_use,
        };
        Ok(Self { shared: Arc::new(shared), tenant: "".into(), companions: None, is_self_test: false })
    }

    /// A handle to this engine for the jobs of one tenant. Tenants with many jobs do not delay tenants with few.
    #[must_use]
    pub fn for_tenant(&self, tenant: &str) -> Self {
        Self { tenant: tenant.into(), ..self.clone() }
    }

    /// Reads the facts from the structure of a source, without ffmpeg. Returns `None` if only decoding can tell. The
    /// waveform is empty, and it is not proven that the audio decodes.
    pub fn recognise(&self, bytes: &[u8], sha256: &str, hints: &Hints) -> Result<Option<Probed>, AudioError> {
        let EngineOptions { max_duration, max_source, .. } = self.shared.options;
        probe::recognise(bytes, sha256, hints, max_duration, max_source)
    }

    /// Like [`Engine::recognise`], but for a file, which is decoded if its structure is not conclusive.
    pub async fn identify(&self, file: &Path, hints: &Hints) -> Result<Probed, AudioError> {
        self.read(file, hints, Depth::Structure).await
    }

    /// Reads format, length and waveform of a source, in this process or in one run of ffmpeg.
    pub async fn probe(&self, file: &Path, hints: &Hints) -> Result<Probed, AudioError> {
        self.read(file, hints, Depth::Decoded).await
    }

    async fn read(&self, file: &Path, hints: &Hints, depth: Depth) -> Result<Probed, AudioError> {
        let _worker = self.worker(Stage::Probe).await?;
        let ffmpeg = self.ffmpeg();
        let context = self.context(ffmpeg.as_deref());
        Self::or_outage(&context, probe::probe(&context, &absolute(file), hints, depth).await).await
    }

    /// Produces a file for the profile from a source that was read before, with the least conversion, and verifies it.
    pub async fn render(
        &self,
        source: &Path,
        probed: &Probed,
        profile: &'static Profile,
        convert: Convert,
    ) -> Result<Render, AudioError> {
        if plan(probed, profile, convert)?.first().is_some_and(|first| first.work == Work::None) {
            return Ok(Render::Untouched);
        }
        let _worker = self.worker(Stage::Encode).await?;
        let ffmpeg = self.ffmpeg();
        let context = self.context(ffmpeg.as_deref());
        let rendered = render::render(&context, &absolute(source), probed, profile, convert).await;
        Self::or_outage(&context, rendered).await
    }

    /// Reads the source and produces a file for the profile in one run of ffmpeg. If the source is sent untouched,
    /// ffmpeg may not run at all, and the waveform is then empty.
    pub async fn convert(
        &self,
        source: &Path,
        hints: &Hints,
        profile: &'static Profile,
        convert: Convert,
    ) -> Result<(Probed, Render), AudioError> {
        self.read_and_render(source, hints, Depth::Structure, profile, convert).await
    }

    /// Decodes a source and produces a file for the profile. Requests of one tenant for the same source and profile
    /// share the result, while it is produced and for as long as the render cache keeps it.
    pub async fn prepare(
        &self,
        source: SourceFile<'_>,
        profile: &'static Profile,
        convert: Convert,
    ) -> Result<Arc<Ready>, AudioError> {
        let SourceFile { path, hints, probed } = source;
        let hints = &known(hints, probed);
        let sha256 = match probed {
            Some(probed) => probed.facts.sha256.clone(),
            None => probe::digest_of(path).await?,
        };
        let key = Key::new(&self.tenant, sha256, hints, profile, convert);
        let decoded = probed.filter(|probed| !probed.waveform.is_empty());
        let make = async {
            match decoded {
                Some(probed) => Ok((probed.clone(), self.render(path, probed, profile, convert).await?)),
                None => self.read_and_render(path, hints, Depth::Decoded, profile, convert).await,
            }
        };
        self.shared.renders.get(key, &*self.shared.options.observer, make).await
    }

    /// Like [`Engine::prepare`] for several profiles, whose files one run of ffmpeg encodes.
    pub async fn prepare_each(
        &self,
        source: SourceFile<'_>,
        profiles: &[&'static Profile],
        convert: Convert,
    ) -> Result<Vec<Arc<Ready>>, AudioError> {
        let engine = Self { companions: Some(Arc::new(Companions::of(profiles))), ..self.clone() };
        let mut all: Vec<Arc<Ready>> = Vec::with_capacity(profiles.len());
        for profile in profiles {
            // The first render has measured the source for the others.
            let probed = all.last().map(|ready| &ready.source).or(source.probed);
            all.push(Box::pin(engine.prepare(SourceFile { probed, ..source }, profile, convert)).await?);
        }
        Ok(all)
    }

    /// Returns what [`Engine::prepare`] returned for this source, if a file was produced and is still cached.
    pub async fn prepared(
        &self,
        probed: &Probed,
        hints: &Hints,
        profile: &'static Profile,
        convert: Convert,
    ) -> Option<Arc<Ready>> {
        let hints = known(hints, Some(probed));
        let key = Key::new(&self.tenant, probed.facts.sha256.clone(), &hints, profile, convert);
        self.shared.renders.find(&key, &*self.shared.options.observer).await
    }

    /// Removes all cached renders of a source of this tenant.
    pub async fn forget(&self, sha256: &str) {
        self.shared.renders.forget(&self.tenant, sha256).await;
    }

    async fn read_and_render(
        &self,
        source: &Path,
        hints: &Hints,
        depth: Depth,
        profile: &'static Profile,
        convert: Convert,
    ) -> Result<(Probed, Render), AudioError> {
        let _worker = self.worker(Stage::Encode).await?;
        let ffmpeg = self.ffmpeg();
        let context = self.context(ffmpeg.as_deref());
        let made = render::read_and_render(&context, &absolute(source), hints, depth, profile, convert).await;
        Self::or_outage(&context, made).await
    }

    /// Turns a crash of ffmpeg into an outage if ffmpeg fails on a test tone as well: then the source is not the cause.
    async fn or_outage<T>(context: &JobContext<'_>, result: Result<T, AudioError>) -> Result<T, AudioError> {
        let Err(error) = &result else { return result };
        if !matches!(error.kind, AudioErrorKind::Died | AudioErrorKind::Slow) || tone::decodes(context).await
        {
            return result;
        }
        Err(AudioError::outage(error.stage))
    }

    /// Looked up for each job, because ffmpeg may be installed or replaced while the process runs.
    fn ffmpeg(&self) -> Option<PathBuf> {
        locate(self.shared.options.ffmpeg.as_deref())
    }

    fn context<'a>(&'a self, ffmpeg: Option<&'a Path>) -> JobContext<'a> {
        let Shared { options, pool, run_folder, .. } = &*self.shared;
        let hurry = pool.waiting() > pool.workers().saturating_mul(LONG_PER_WORKER);
        JobContext {
            ffmpeg,
            scratch: run_folder.path(),
            timeout: options.timeout,
            max_duration: options.max_duration,
            max_source: options.max_source,
            max_output: options.max_output,
            complexity: options.complexity.unwrap_or(if hurry { COMPLEXITY_IN_A_HURRY } else { COMPLEXITY }),
            companions: self.companions.as_deref(),
            observer: &*options.observer,
            is_self_test: self.is_self_test,
            decodes_in_process: options.decodes_in_process,
        }
    }

    /// Encodes a tone for every profile and verifies the results. The error is a sentence for the operator.
    pub async fn self_test(&self) -> Result<(), String> {
        let engine = Self { is_self_test: true, ..self.clone() };
        let tone = tone::file(self.shared.run_folder.path())
            .map_err(|error| format!("no working file could be written: {error}"))?;
        let probed = engine.probe(tone.path(), &Hints::default()).await.map_err(|error| error.detail)?;
        for profile in PROFILES {
            engine
                .render(tone.path(), &probed, profile, Convert::Always)
                .await
                .map_err(|error| format!("{}: {}", profile.name, error.detail))?;
        }
        Ok(())
    }

    /// Waits for a worker. The worker is released when the value is dropped, so also if the caller goes away.
    ///
    /// The self-test needs none: it is one run at a time, and whether the engine works is not to be known only after a
    /// backlog, such as the one that a restart finds.
    async fn worker(&self, stage: Stage) -> Result<Option<Worker>, AudioError> {
        if self.is_self_test {
            return Ok(None);
        }
        let worker = self.shared.pool.take(&self.tenant).await.ok_or_else(|| AudioError {
            kind: AudioErrorKind::Overloaded,
            detail: "too much audio is waiting to be converted; try again shortly".to_owned(),
            stage,
        })?;
        Ok(Some(worker))
    }
}

/// The hints with the format of headerless samples that is known from reading them: whoever asks for a render may not have
/// been told it, and other samples of the same bytes are another sound.
fn known(hints: &Hints, probed: Option<&Probed>) -> Hints {
    let format = probed.and_then(|probed| probed.detail.format).or(hints.format);
    Hints { format, ..hints.clone() }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Creates the scratch folder, removes the folders of dead processes from it, and creates a folder for this process.
///
/// Several processes may share the scratch folder. Each holds a lock on a file in its own folder; the lock ends with
/// the process, even after a crash.
fn prepare(scratch: &Path) -> io::Result<(TempDir, File)> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(scratch)?;
    let scratch = scratch.canonicalize()?;
    // A lock makes the start of processes sequential, so that none removes a folder whose owner is about to lock it.
    let startup_lock = File::create(scratch.join("lock"))?;
    startup_lock.lock()?;
    for entry in fs::read_dir(&scratch)? {
        let path = entry?.path();
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("run-"));
        if !ours {
            continue;
        }
        let abandoned = match File::open(path.join("lock")) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(_) => true,
        };
        if abandoned && let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(%error, "an old scratch folder could not be removed");
        }
    }
    let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&scratch)?;
    let in_use = File::create(folder.path().join("lock"))?;
    in_use.lock()?;
    Ok((folder, in_use))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn self_test_does_not_wait_for_a_worker() {
        let scratch = tempfile::tempdir().expect("a folder");
        let options =
            EngineOptions { workers: 1, scratch: scratch.path().to_owned(), ..EngineOptions::default() };
        let engine = Engine::new(options).expect("an engine");
        let _busy = engine.shared.pool.take(&engine.tenant).await.expect("the only worker");
        engine.self_test().await.expect("every profile");
    }
}
