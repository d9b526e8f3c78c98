//! The engine: a bounded pool in front of ffmpeg, and a scratch folder of its own.

mod turns;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::engine::turns::{Turn, Turns};
use crate::error::{AudioError, AudioErrorKind};
use crate::ffmpeg::job::Bench;
use crate::ffmpeg::run::locate;
use crate::making::kept::{Kept, Key, Ready};
use crate::making::render;
use crate::making::render::Render;
use crate::observer::{Observer, Unobserved};
use crate::profiles::plan::{Convert, Work, plan};
use crate::profiles::profile::Profile;
use crate::profiles::table::PROFILES;
use crate::reading::probe::Depth;
use crate::reading::{probe, tone};
use crate::source::{Hints, Probed};

/// Jobs that may wait for a worker, for each worker.
const WAITING_PER_WORKER: usize = 64;
/// With more than this, a little less care is taken over each.
const LONG_PER_WORKER: usize = 8;

/// Of Opus. The lower one takes a quarter less time, and is hardly heard: PESQ 4.2 instead of 4.3 at 24 kbit/s.
const COMPLEXITY: u8 = 10;
const COMPLEXITY_IN_A_HURRY: u8 = 5;

#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// `None`: beside our executable, else on `PATH`.
    pub ffmpeg: Option<PathBuf>,
    /// How many ffmpeg run at once; 0 is one per core.
    pub workers: usize,
    pub max_duration: Duration,
    /// Of one run of ffmpeg.
    pub timeout: Duration,
    /// Bytes of the largest source that is taken. A header that states more has left its size open.
    pub max_source: u64,
    /// Bytes of one made file.
    pub max_output: u64,
    /// Bytes of made files that are kept for the next who needs the same; 0 keeps none.
    pub cache: u64,
    /// How long they are kept at most.
    pub cache_ttl: Duration,
    /// From 0 to 10, of Opus; `None` takes 10, and less while many jobs wait.
    pub complexity: Option<u8>,
    /// Is told what the engine does.
    pub observer: Arc<dyn Observer>,
    /// A folder for working files; created, readable by us alone, and swept of what crashed processes left.
    pub scratch: PathBuf,
}

/// As in the built-in configuration, with a scratch folder of the system's.
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
            observer: Arc::new(Unobserved),
            scratch: std::env::temp_dir().join("voicegate"),
        }
    }
}

/// A source, and what its owner knows of it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub path: &'a Path,
    pub hints: &'a Hints,
    /// Of these bytes; without a waveform where they were not decoded.
    pub probed: Option<&'a Probed>,
}

#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    /// By whom workers are shared fairly, and whose renders are kept apart.
    whose: Arc<str>,
    is_self_test: bool,
}

#[derive(Debug)]
struct Shared {
    options: EngineOptions,
    turns: Turns,
    /// Before the folder that its files are in.
    kept: Kept,
    run_folder: TempDir,
    /// Locked as long as we live, which tells others that the folder is in use.
    _in_use: File,
}

impl Engine {
    /// Makes the scratch folder ready. A missing ffmpeg is told by [`Engine::self_test`].
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
        let renders = run_folder.path().join("renders");
        let shared = Shared {
            turns: Turns::new(workers, workers.saturating_mul(WAITING_PER_WORKER)),
            kept: Kept::new(renders, options.cache, options.cache_ttl),
            options,
            run_folder,
            _in_use: in_use,
        };
        Ok(Self { shared: Arc::new(shared), whose: "".into(), is_self_test: false })
    }

    /// The same engine for one tenant's work: those with much to do leave workers to those with little.
    #[must_use]
    pub fn for_tenant(&self, tenant: &str) -> Self {
        Self { whose: tenant.into(), ..self.clone() }
    }

    /// The facts about a source, where its structure tells them for sure; `None` where only decoding can tell. Costs
    /// next to nothing. The waveform is left empty, and that the audio decodes is not proven.
    pub fn recognise(&self, bytes: &[u8], sha256: &str, hints: &Hints) -> Result<Option<Probed>, AudioError> {
        let EngineOptions { max_duration, max_source, .. } = self.shared.options;
        probe::recognise(bytes, sha256, hints, max_duration, max_source)
    }

    /// The same for a file; decodes it where its structure does not tell.
    pub async fn identify(&self, file: &Path, hints: &Hints) -> Result<Probed, AudioError> {
        self.read(file, hints, Depth::Structure).await
    }

    /// Reads the source: what it is, how long, and its waveform. One run of ffmpeg.
    pub async fn probe(&self, file: &Path, hints: &Hints) -> Result<Probed, AudioError> {
        self.read(file, hints, Depth::Decoded).await
    }

    async fn read(&self, file: &Path, hints: &Hints, depth: Depth) -> Result<Probed, AudioError> {
        let _place = self.place("probe").await?;
        let ffmpeg = self.ffmpeg();
        let bench = self.bench(ffmpeg.as_deref());
        Self::or_outage(&bench, probe::probe(&bench, &absolute(file), hints, depth).await).await
    }

    /// Makes what the profile asks for of a source that was read, with the least work, and verifies it.
    pub async fn render(
        &self,
        source: &Path,
        probed: &Probed,
        profile: &'static Profile,
        convert: Convert,
    ) -> Result<Render, AudioError> {
        if plan(probed, profile, convert)?.first() == Some(&Work::None) {
            return Ok(Render::Untouched);
        }
        let _place = self.place("encode").await?;
        let ffmpeg = self.ffmpeg();
        let bench = self.bench(ffmpeg.as_deref());
        let rendered = render::render(&bench, &absolute(source), probed, profile, convert).await;
        Self::or_outage(&bench, rendered).await
    }

    /// Reads the source and makes what the profile asks for, in one run of ffmpeg. Where the source goes as it is there may
    /// be none, and no waveform.
    pub async fn convert(
        &self,
        source: &Path,
        hints: &Hints,
        profile: &'static Profile,
        convert: Convert,
    ) -> Result<(Probed, Render), AudioError> {
        self.read_and_render(source, hints, Depth::Structure, profile, convert).await
    }

    /// Decodes a source, and makes what the profile asks for: once, for everybody at this tenant who needs the same at
    /// the same time or soon after.
    pub async fn prepare(
        &self,
        source: Source<'_>,
        profile: &'static Profile,
        convert: Convert,
    ) -> Result<Arc<Ready>, AudioError> {
        let Source { path, hints, probed } = source;
        let sha256 = match probed {
            Some(probed) => probed.facts.sha256.clone(),
            None => probe::digest_of(path).await?,
        };
        let key = Key::new(&self.whose, sha256, hints, profile, convert);
        let decoded = probed.filter(|probed| !probed.waveform.is_empty());
        let make = async {
            match decoded {
                Some(probed) => Ok((probed.clone(), self.render(path, probed, profile, convert).await?)),
                None => self.read_and_render(path, hints, Depth::Decoded, profile, convert).await,
            }
        };
        self.shared.kept.get(key, &*self.shared.options.observer, make).await
    }

    /// Lets go of all that was made of a source for this tenant.
    pub async fn forget(&self, sha256: &str) {
        self.shared.kept.forget(&self.whose, sha256).await;
    }

    async fn read_and_render(
        &self,
        source: &Path,
        hints: &Hints,
        depth: Depth,
        profile: &'static Profile,
        convert: Convert,
    ) -> Result<(Probed, Render), AudioError> {
        let _place = self.place("encode").await?;
        let ffmpeg = self.ffmpeg();
        let bench = self.bench(ffmpeg.as_deref());
        let made = render::read_and_render(&bench, &absolute(source), hints, depth, profile, convert).await;
        Self::or_outage(&bench, made).await
    }

    /// An ffmpeg that dies of one file and one that dies of every file look alike. A tone tells them apart.
    async fn or_outage<T>(bench: &Bench<'_>, result: Result<T, AudioError>) -> Result<T, AudioError> {
        let Err(error) = &result else { return result };
        if !matches!(error.kind, AudioErrorKind::Died | AudioErrorKind::Slow) || tone::is_heard(bench).await {
            return result;
        }
        Err(AudioError::outage(error.stage))
    }

    /// Looked for each time: it may be installed, or replaced, while we run.
    fn ffmpeg(&self) -> Option<PathBuf> {
        locate(self.shared.options.ffmpeg.as_deref())
    }

    fn bench<'a>(&'a self, ffmpeg: Option<&'a Path>) -> Bench<'a> {
        let Shared { options, turns, run_folder, .. } = &*self.shared;
        let hurry = turns.waiting() > turns.workers().saturating_mul(LONG_PER_WORKER);
        Bench {
            ffmpeg,
            scratch: run_folder.path(),
            timeout: options.timeout,
            max_duration: options.max_duration,
            max_source: options.max_source,
            max_output: options.max_output,
            complexity: options.complexity.unwrap_or(if hurry { COMPLEXITY_IN_A_HURRY } else { COMPLEXITY }),
            observer: &*options.observer,
            is_self_test: self.is_self_test,
        }
    }

    /// Encodes a tone for every profile and verifies it; `Err` is the reason, for people.
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

    /// A worker, waited for if there is room to wait. Dropped with the job, also when the caller goes away.
    async fn place(&self, stage: &'static str) -> Result<Turn, AudioError> {
        self.shared.turns.take(&self.whose).await.ok_or_else(|| AudioError {
            kind: AudioErrorKind::Overloaded,
            detail: "too much audio is waiting to be converted; try again shortly".to_owned(),
            stage,
        })
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Makes the scratch folder, removes what dead processes left in it, and takes a folder of our own inside.
///
/// Several processes may share the folder: each holds a lock on a file in its own one, and the lock ends with the
/// process, however it ends.
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
    // One at a time, so that nobody sweeps a folder whose owner is about to lock it.
    let turn = File::create(scratch.join("lock"))?;
    turn.lock()?;
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
