//! Builds everything from the configuration and holds it together while it runs.

pub mod audio_test;
pub mod changes;
pub mod counted;
mod limit;
mod live;
pub mod places;
mod room;
pub mod uploads;

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::{Notify, broadcast, broadcast::error::RecvError};
use tokio_util::sync::CancellationToken;

pub use self::live::Live;
use self::{audio_test::AudioTest, changes::Changes, places::Places, uploads::Uploads};

use crate::{
    config::{self, Config, Layers, Mistakes, Tenants},
    media::{AudioFile, Links, MediaStore, Which, disk::Disks, quota::Quotas},
    model::{clock::Clock, note::NoteId, problem::Problem},
    store::{self, Notice, Store, StoreError},
    telemetry::metrics,
};
use voicegate_audio::{Engine, EngineOptions, Observer};

/// How long a file that was made can serve other notes with the same audio.
const RENDERS_KEPT: Duration = Duration::from_secs(60 * 60);

#[derive(Debug)]
pub struct Gateway {
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn Store>,
    pub media: MediaStore,
    pub disks: Arc<Disks>,
    quotas: Arc<Quotas>,
    pub engine: Engine,
    pub links: Links,
    /// Which servers answer.
    pub places: Places,
    /// Uploads under way.
    pub uploads: Uploads,
    /// Cancelled when the process is to end: nothing new is begun from then on, and nobody waits for what takes long.
    pub stop: CancellationToken,
    /// Cancelled when the worker has nothing in flight any more; until then providers may have to fetch audio here.
    pub drained: CancellationToken,
    layers: Layers,
    live: ArcSwap<Live>,
    work: Notify,
    /// Whom a change concerns, waits here.
    pub changes: Changes,
    pub audio_test: AudioTest,
}

impl Gateway {
    /// Opens database and media folder, and takes up what an earlier process left.
    ///
    /// # Errors
    /// What the operator has to change.
    pub async fn open(layers: Layers, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<Self>> {
        let (config, tenants) = config::load(&layers, None)?;
        warn(&tenants);
        let store = store::open(&config.storage.database, &*clock).await?;
        let links = Links::new(store.secret("links", rand::random()).await?);
        let media = MediaStore::of(&config.storage, &layers.variables("AWS_"))
            .with_context(|| format!("storage.media: {} cannot be used", config.storage.media))?;
        let disks = Arc::new(Disks::new(&config.storage));
        let media = media.watching(disks.clone());
        let quotas = Arc::new(Quotas::new(&config.storage));
        let engine = Engine::new(engine_options(&config)).context("audio")?;
        let live = ArcSwap::from_pointee(Live::new(config, tenants, &clock)?);
        let gateway = Arc::new(Self {
            clock,
            store,
            media,
            disks,
            quotas,
            engine,
            links,
            places: Places::default(),
            uploads: Uploads::default(),
            stop: CancellationToken::new(),
            drained: CancellationToken::new(),
            layers,
            live,
            work: Notify::new(),
            changes: Changes::default(),
            audio_test: AudioTest::default(),
        });
        if let Some(notices) = gateway.store.notices() {
            tokio::spawn(pass_on(Arc::downgrade(&gateway), notices));
        }
        Ok(gateway)
    }

    /// The configuration as it is now. Hold it for one request or one try, not longer.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Reads the configuration again and puts it in force.
    ///
    /// # Errors
    /// The mistakes; then everything stays as it was.
    pub fn reload(&self) -> anyhow::Result<()> {
        let old = self.live();
        let (mut config, tenants) = config::load(&self.layers, Some(&old.config.server))?;
        warn(&tenants);
        for (section, changed) in [
            ("server", config.server != old.config.server),
            ("storage", config.storage != old.config.storage),
            ("audio", config.audio != old.config.audio),
        ] {
            if changed {
                tracing::warn!(section, "the change in [{section}] takes effect at the next start");
            }
        }
        config.server = old.config.server.clone();
        config.storage = old.config.storage.clone();
        config.audio = old.config.audio.clone();
        self.live.store(Arc::new(Live::new(config, tenants, &self.clock)?));
        self.wake_worker();
        tracing::info!("the configuration was reloaded");
        Ok(())
    }

    /// Whether new notes and uploads are taken.
    ///
    /// # Errors
    /// `overloaded`, once the process is to end or the database is out of order.
    pub fn open_for_work(&self) -> Result<(), Problem> {
        if self.stop.is_cancelled() {
            return Err(Problem::overloaded("the gateway is about to stop; try again shortly"));
        }
        // Before anything is read or stored.
        match self.store.out_of_order() {
            Some(why) => Err(StoreError::OutOfOrder(why).into()),
            None => Ok(()),
        }
    }

    pub fn wake_worker(&self) {
        self.work.notify_one();
    }

    pub async fn woken(&self) {
        self.work.notified().await;
    }

    /// Tells whoever waits for this note, or for any of its tenant, that it has changed. To be called after each commit
    /// that changes a note: event streams read when they are told and not by themselves.
    pub fn changed(&self, tenant: &str, note: NoteId) {
        self.changes.note(note);
        self.changes.tenant(tenant);
    }

    /// Every note that changes.
    pub fn changes(&self) -> broadcast::Receiver<NoteId> {
        self.changes.all()
    }

    /// A note's file: in its place, or made for one use of the bytes that are kept beside the note. `None` where there is
    /// none.
    ///
    /// # Errors
    /// Where database, disk or bucket does not answer.
    pub async fn audio(&self, note: NoteId, which: Which) -> Result<Option<AudioFile>, Problem> {
        if which == Which::Source
            && let Some(bytes) = self.store.source(note).await?
        {
            return Ok(Some(AudioFile::Lent(self.media.lend(bytes).await?)));
        }
        Ok(self.media.get(note, which).await?)
    }
}

/// Tells worker and waiters what other processes changed, for as long as there is a gateway.
async fn pass_on(gateway: Weak<Gateway>, mut notices: broadcast::Receiver<Notice>) {
    loop {
        let notice = match notices.recv().await {
            Ok(notice) => notice,
            Err(RecvError::Lagged(_)) => Notice::of_anything(),
            Err(RecvError::Closed) => return,
        };
        let Some(gateway) = gateway.upgrade() else { return };
        if notice.due {
            gateway.wake_worker();
        }
        for note in notice.notes {
            gateway.changes.note(note);
        }
        for tenant in &notice.tenants {
            gateway.changes.tenant(tenant);
        }
        if notice.anything {
            gateway.changes.anything();
        }
    }
}

/// Logs what an operator should know about the configuration.
fn warn(tenants: &Tenants) {
    for warning in &tenants.warnings {
        tracing::warn!("{warning}");
    }
}

/// Counts in the metrics what the audio engine does.
#[derive(Debug)]
struct Counted;

impl Observer for Counted {
    fn ran(&self, purpose: &'static str, outcome: &'static str, took: Duration) {
        metrics::ffmpeg_ran(purpose, outcome, took);
    }

    fn looked_up(&self, hit: bool) {
        metrics::looked_up("renders", hit);
    }
}

/// What `[audio]` says, with a folder for scratch files beside those that arrive.
pub fn engine_options(config: &Config) -> EngineOptions {
    let audio = &config.audio;
    EngineOptions {
        ffmpeg: (audio.ffmpeg != "auto").then(|| PathBuf::from(&audio.ffmpeg)),
        workers: audio.workers,
        max_duration: audio.max_duration.0,
        timeout: audio.timeout.0,
        max_source: audio.max_bytes.0,
        // The most that any profile makes of the longest source is far below the largest source.
        max_output: audio.max_bytes.0,
        cache: audio.cache.0,
        // No longer than the audio that it was made of.
        cache_ttl: config.storage.retention.0.min(RENDERS_KEPT),
        complexity: None,
        observer: Arc::new(Counted),
        scratch: config.storage.work_folder().1.join("scratch"),
    }
}

/// Only [`Mistakes`] are the operator's; they are shown as they are.
pub fn as_mistakes(error: &anyhow::Error) -> Option<&Mistakes> {
    error.downcast_ref()
}
