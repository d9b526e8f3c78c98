//! The accept loop. axum's own has no time limit for headers; here an idle client holds nothing for ever.

use std::{io, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::router;
use crate::gateway::Gateway;

/// Largest set of request headers, in bytes.
const MAX_HEADERS: usize = 16 * 1024;

/// Serves until `stop`, then lets requests in flight finish for at most `server.shutdown_grace`.
pub async fn serve(gateway: Arc<Gateway>, listener: TcpListener, stop: CancellationToken) {
    let server = gateway.live().config.server.clone();
    let app = router(gateway);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Also bounds how long a kept-alive connection may stay idle.
        .header_read_timeout(server.header_timeout.0)
        .max_buf_size(MAX_HEADERS.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEADERS).unwrap_or(u32::MAX))
        .keep_alive_interval(server.header_timeout.0)
        .keep_alive_timeout(server.header_timeout.0);
    let builder = Arc::new(builder);
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
        };
        serve_connection(stream, &app, &builder, &graceful, server.header_timeout.0);
    }
    drop(listener);
    if tokio::time::timeout(server.shutdown_grace.0, graceful.shutdown()).await.is_err() {
        tracing::warn!("stopping with requests in flight");
    }
}

fn serve_connection(
    stream: TcpStream,
    app: &axum::Router,
    builder: &Arc<Builder<TokioExecutor>>,
    graceful: &GracefulShutdown,
    first_bytes: Duration,
) {
    let service = TowerToHyperService::new(app.clone());
    let (builder, watcher) = (builder.clone(), graceful.watcher());
    tokio::spawn(async move {
        let _ = stream.set_nodelay(true); // a socket that refuses is about to fail anyway
        // The protocol is told apart by the first bytes, before any of hyper's time limits begins.
        let mut first = [0; 1];
        if !matches!(tokio::time::timeout(first_bytes, stream.peek(&mut first)).await, Ok(Ok(1..))) {
            return;
        }
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(error, "a connection ended early");
        }
    });
}

/// Out of file descriptors is the common case: trying again at once would only burn a core.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
