//! Builds all parts from the configuration, and holds them while the process runs.

mod accept_gate;
pub mod audio_test;
pub mod changes;
mod limit;
mod live;
pub mod note_metrics;
pub mod on_the_way;
mod provider_clients;
mod quota;
mod recording;
pub mod render_slots;
pub mod server_slots;
pub mod speaking;
pub mod uploads;

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Notify, broadcast, broadcast::error::RecvError};
use tokio_util::sync::CancellationToken;

pub use self::live::Live;
use self::{
    accept_gate::AcceptGate, audio_test::AudioTest, changes::Changes, on_the_way::OnTheWay,
    recording::Recording, render_slots::RenderSlots, server_slots::ServerSlots, speaking::Speaking,
    uploads::Uploads,
};

use crate::{
    config::{self, Config, Layers, Mistakes, Tenants},
    media::{AudioFile, AudioVariant, Links, MediaStore, ReceivedPart, disk::Disks, quota::Quotas},
    model::{
        clock::Clock,
        id::ReceivedId,
        note::{Note, NoteId},
        problem::Problem,
    },
    store::{self, Notice, Store, StoreError, Stored},
    telemetry::{metrics, traces::Traces},
};
use voicegate_audio::{Engine, EngineOptions, Observer};

/// Upper limit of the age of a cached render.
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
    /// Concurrency limits of servers, by how they answer.
    pub server_slots: ServerSlots,
    /// Uploads in progress.
    pub uploads: Uploads,
    /// Speech that is being made.
    pub speaking: Speaking,
    /// The notes for which a sign is shown that they are being recorded.
    pub recording: Recording,
    /// The audio of the notes that are being sent.
    pub on_the_way: OnTheWay,
    /// Bounds the conversions that requests wait for.
    pub render_slots: RenderSlots,
    /// Slows accepting while notes are being sent.
    pub accept_gate: Arc<AcceptGate>,
    /// Cancelled when the process is asked to stop: no new work begins, and long waits end.
    pub stop: CancellationToken,
    /// Cancelled when the worker has nothing in flight. Until then providers may have to fetch audio from here.
    pub drained: CancellationToken,
    layers: Layers,
    live: ArcSwap<Live>,
    work: Notify,
    tasks: Notify,
    /// Wakes those who wait for a change of a note.
    pub changes: Changes,
    pub audio_test: AudioTest,
    pub traces: Traces,
}

impl Gateway {
    /// Opens the database and the media folder, and recovers the work of an earlier process.
    ///
    /// # Errors
    /// A sentence that says what the operator has to change.
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
        let traces = Traces::new(config.telemetry.otlp.as_ref());
        let traces = traces.map_err(|why| anyhow::anyhow!("telemetry.otlp: {why}"))?;
        let live = ArcSwap::from_pointee(Live::new(config, tenants, &clock)?);
        let gateway = Arc::new(Self {
            clock,
            store,
            media,
            disks,
            quotas,
            engine,
            links,
            server_slots: ServerSlots::default(),
            uploads: Uploads::default(),
            speaking: Speaking::default(),
            recording: Recording::default(),
            on_the_way: OnTheWay::default(),
            render_slots: RenderSlots::new(live.load().config.audio.workers),
            accept_gate: Arc::default(),
            stop: CancellationToken::new(),
            drained: CancellationToken::new(),
            layers,
            live,
            work: Notify::new(),
            tasks: Notify::new(),
            changes: Changes::default(),
            audio_test: AudioTest::default(),
            traces,
        });
        if let Some(notices) = gateway.store.notices() {
            tokio::spawn(pass_on(Arc::downgrade(&gateway), notices));
        }
        Ok(gateway)
    }

    /// The configuration in force. Hold it for one request or one attempt, not longer.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Reads the configuration again and puts it in force.
    ///
    /// # Errors
    /// The mistakes in the configuration; the former one then stays in force.
    pub fn reload(&self) -> anyhow::Result<()> {
        let old = self.live();
        let (mut config, tenants) = config::load(&self.layers, Some(&old.config.server))?;
        warn(&tenants);
        for (section, changed) in [
            ("server", config.server != old.config.server),
            ("storage", config.storage != old.config.storage),
            ("audio", config.audio != old.config.audio),
            ("telemetry", config.telemetry != old.config.telemetry),
        ] {
            if changed {
                tracing::warn!(section, "the change in [{section}] takes effect at the next start");
            }
        }
        config.server = old.config.server.clone();
        config.storage = old.config.storage.clone();
        config.audio = old.config.audio.clone();
        config.telemetry = old.config.telemetry.clone();
        self.live.store(Arc::new(Live::new(config, tenants, &self.clock)?));
        self.wake_worker();
        tracing::info!("the configuration was reloaded");
        Ok(())
    }

    /// Checks whether new notes and uploads are accepted.
    ///
    /// # Errors
    /// `overloaded` if the process is stopping or the database is out of order.
    pub fn open_for_work(&self) -> Result<(), Problem> {
        if self.stop.is_cancelled() {
            return Err(Problem::overloaded("the gateway is about to stop; try again shortly"));
        }
        // This check comes before anything is read or stored.
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

    /// Wakes whoever takes the steps of tasks, after a task was stored.
    pub fn wake_tasks(&self) {
        self.tasks.notify_one();
    }

    pub async fn tasks_woken(&self) {
        self.tasks.notified().await;
    }

    /// Notifies those who wait for this note or for any note of its tenant. Call it after each commit that changes a
    /// note, because event streams read only when they are notified.
    pub fn changed(&self, tenant: &str, note: NoteId) {
        self.changes.note(note);
        self.changes.tenant(tenant);
    }

    /// As `changed`, for a note that was just given to the store in this form. Those who wait for it read it only if it
    /// is not stored as it was given.
    pub fn changed_to(&self, note: Note, stored: Stored) {
        if stored == Stored::WithReceipts {
            return self.changed(&note.tenant, note.id);
        }
        let note = Arc::new(note);
        self.changes.note_is(note.clone());
        self.changes.tenant(&note.tenant);
    }

    /// Subscribes to the ids of all notes that change.
    pub fn changes(&self) -> broadcast::Receiver<NoteId> {
        self.changes.all()
    }

    /// A file of a note: the stored file, or a temporary one with the bytes that are kept in the database. Returns
    /// `None` if there is none.
    ///
    /// # Errors
    /// The database, the disk or the bucket failed.
    pub async fn audio(&self, note: NoteId, variant: AudioVariant) -> Result<Option<AudioFile>, Problem> {
        match self.small_audio(note, variant).await? {
            Some(bytes) => Ok(Some(AudioFile::Temporary(self.media.lend(bytes).await?))),
            None => Ok(self.media.get(note, variant).await?),
        }
    }

    /// A part of the audio of a received note: the stored file, or a temporary one with the bytes that are kept in the
    /// database. Returns `None` if there is none.
    ///
    /// # Errors
    /// The database, the disk or the bucket failed.
    pub async fn received_audio(
        &self,
        received: ReceivedId,
        part: ReceivedPart,
    ) -> Result<Option<AudioFile>, Problem> {
        match self.store.received_audio(received, part.as_str()).await? {
            Some(bytes) => Ok(Some(AudioFile::Temporary(self.media.lend(bytes).await?))),
            None => Ok(self.media.get_received(received, part).await?),
        }
    }

    /// The audio of a note that is kept in the database.
    ///
    /// # Errors
    /// The database failed.
    pub async fn small_audio(
        &self,
        note: NoteId,
        variant: AudioVariant,
    ) -> Result<Option<Bytes>, StoreError> {
        match variant {
            AudioVariant::Source => self.store.source(note).await,
            AudioVariant::Sent => self.store.sent(note).await,
        }
    }
}

/// Passes notices from other processes to the worker and to those who wait, for the life of the gateway.
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
            gateway.wake_tasks();
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

/// Logs warnings about the configuration.
fn warn(tenants: &Tenants) {
    for warning in &tenants.warnings {
        tracing::warn!("{warning}");
    }
}

/// Reports the work of the audio engine as metrics.
#[derive(Debug)]
struct EngineMetrics;

impl Observer for EngineMetrics {
    fn ran(&self, purpose: &'static str, outcome: &'static str, took: Duration) {
        metrics::ffmpeg_ran(purpose, outcome, took);
    }

    fn decoded(&self, way: &'static str) {
        metrics::audio_decoded(way);
    }

    fn looked_up(&self, hit: bool) {
        metrics::looked_up("renders", hit);
    }
}

/// Engine options from the `[audio]` section, with a scratch folder beside that for arriving files.
pub fn engine_options(config: &Config) -> EngineOptions {
    let audio = &config.audio;
    EngineOptions {
        ffmpeg: (audio.ffmpeg != "auto").then(|| PathBuf::from(&audio.ffmpeg)),
        decodes_in_process: audio.decode_in_process,
        workers: audio.workers,
        max_duration: audio.max_duration.0,
        timeout: audio.timeout.0,
        max_source: audio.max_bytes.0,
        // No profile produces more than a small part of this from the longest source.
        max_output: audio.max_bytes.0,
        cache: audio.cache.0,
        // A render must not outlive the audio from which it was produced.
        cache_ttl: config.storage.retention.0.min(RENDERS_KEPT),
        complexity: None,
        observer: Arc::new(EngineMetrics),
        scratch: config.storage.work_folder().1.join("scratch"),
    }
}

/// The [`Mistakes`] in an error, which are shown to the operator as they are. Other errors are ours.
pub fn as_mistakes(error: &anyhow::Error) -> Option<&Mistakes> {
    error.downcast_ref()
}
