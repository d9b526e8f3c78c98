//! `voicegate serve`

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    config::{self, Database, Layers},
    delivery::Worker,
    gateway::{Gateway, as_mistakes},
    http::{self, App},
    model::clock::SystemClock,
    telemetry::{logs, metrics},
};

/// How long closing the database may take after everything else has ended.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(5);

/// The part of the gateway that a process runs. All processes have the same configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Takes requests and sends notes.
    #[default]
    All,
    /// Takes requests; other processes send.
    Api,
    /// Sends notes and deletes what has expired; serves only /healthz, /readyz, /metrics and the media links.
    Worker,
}

pub async fn run(layers: Layers, role: Role) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let (config, _) = config::load(&layers, None)?;
    if role != Role::All && matches!(config.storage.database, Database::Sqlite(_)) {
        bail!(
            "--role: a SQLite file belongs to one process, which must have both roles; leave --role out, or set \
             storage.database to \"postgres://...\""
        );
    }
    logs::init(config.server.log.into());
    raise_open_files();
    // Bind the address first: a port in use is the likeliest mistake, and no file has been touched yet.
    let listen = config.server.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("server.listen: {listen} cannot be listened on"))?;
    let gateway = Gateway::open(layers, Arc::new(SystemClock::default())).await?;
    let listen = listener.local_addr()?;
    let running = start(&gateway, listener, role);
    let live = gateway.live();
    let proxy = &live.config.server.proxy;
    tracing::info!("{proxy}");
    for name in proxy.unusable_variables() {
        tracing::warn!("{name} is not the URL of an HTTP proxy, so it has no effect");
    }
    tracing::info!(%listen, tenants = gateway.live().tenants.iter().count(), "listening on http://{listen}");
    tokio::pin!(running);
    tokio::select! {
        () = signals.until_stop(&gateway) => {}
        // Neither server nor worker ends on its own. If one has panicked, the other cannot work alone, so stop.
        () = &mut running => anyhow::bail!("an inner task ended unexpectedly; the log says why"),
    }
    tracing::info!("stopping; a second signal stops at once");
    gateway.stop.cancel();
    tokio::select! {
        () = &mut running => {}
        () = signals.stop() => {
            tracing::warn!("stopping at once; notes that are being sent will be unknown");
            return Ok(ExitCode::FAILURE);
        }
    }
    gateway.traces.close().await;
    // Data that a slow disk does not write in time is recovered at the next start.
    if tokio::time::timeout(CLOSING, gateway.store.close()).await.is_err() {
        tracing::warn!("the database could not be closed in time");
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Starts the server, the worker and the test of the audio engine, as the role requires. The future ends when all of
/// them have stopped, or one has failed.
pub fn start(gateway: &Arc<Gateway>, listener: TcpListener, role: Role) -> impl Future<Output = ()> + use<> {
    let served = gateway.clone();
    let server = tokio::spawn(async move {
        let router = if role == Role::Worker { http::worker_router } else { http::router };
        http::serve_app(&served, listener, router(App::new(served.clone()))).await;
    });
    let working = gateway.clone();
    let worker = tokio::spawn(async move {
        if role == Role::Api {
            working.stop.cancelled().await;
            working.drained.cancel();
        } else {
            Worker::new(working).run().await;
        }
    });
    let tested = gateway.clone();
    tokio::spawn(async move { tested.audio_test.run_until_it_works(&tested).await });
    async move {
        if let Err(error) = tokio::try_join!(server, worker) {
            tracing::error!(%error, "an inner task failed");
        }
    }
}

/// The signals are registered before anything else is done, because a signal without a handler ends the process at
/// once.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Returns at the next SIGTERM or SIGINT.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Returns at the first SIGTERM or SIGINT; SIGHUP reloads.
    async fn until_stop(&mut self, gateway: &Gateway) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    let reloaded = gateway.reload();
                    metrics::reloaded(reloaded.is_ok());
                    if let Err(error) = reloaded {
                        let why = as_mistakes(&error).map_or_else(|| format!("{error:#}"), ToString::to_string);
                        tracing::error!("the configuration was not reloaded, the old one stays in force: {why}");
                    }
                }
            }
        }
    }
}

/// Raises the limit on open files. Each client and each attempt needs some, and the usual soft limit of 1024 is too
/// low.
fn raise_open_files() {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limits) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}
