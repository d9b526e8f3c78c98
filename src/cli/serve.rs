//! `voicegate serve`

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::SystemClock,
    config::{self, Layers},
    delivery::Worker,
    gateway::{Gateway, as_mistakes},
    http, telemetry,
};

pub async fn run(layers: Layers) -> anyhow::Result<ExitCode> {
    telemetry::init();
    // The address first: a port in use is the likeliest mistake, and no file has been touched yet.
    let (config, _) = config::load(&layers)?;
    let listen = config.server.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("server.listen: {listen} cannot be listened on"))?;
    let gateway = Gateway::open(layers, Arc::new(SystemClock)).await?;
    let stop = CancellationToken::new();
    let running = start(&gateway, listener, &stop);
    tracing::info!(%listen, tenants = gateway.live().tenants.iter().count(), "listening on http://{listen}");
    listen_to_signals(&gateway, &stop).await?;
    tracing::info!("stopping");
    running.await;
    Ok(ExitCode::SUCCESS)
}

/// Starts server, worker and the test of the audio engine; the future ends when all have stopped.
pub fn start(
    gateway: &Arc<Gateway>,
    listener: TcpListener,
    stop: &CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let server = tokio::spawn(http::serve(gateway.clone(), listener, stop.clone()));
    let worker = tokio::spawn(Worker::new(gateway.clone()).run(stop.clone()));
    let tested = gateway.clone();
    tokio::spawn(async move { tested.test_audio().await });
    async move {
        let _ = tokio::join!(server, worker); // a task that panicked has said so in the log
    }
}

/// Returns at the first SIGTERM or SIGINT; SIGHUP reloads.
async fn listen_to_signals(gateway: &Gateway, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                if let Err(error) = gateway.reload() {
                    let why = as_mistakes(&error).map_or_else(|| format!("{error:#}"), ToString::to_string);
                    tracing::error!("the configuration was not reloaded, the old one stays in force: {why}");
                }
            }
        }
    }
    stop.cancel();
    Ok(())
}
