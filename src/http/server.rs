//! The accept loop. axum's own has no time limits; here neither an idle client nor one that reads nothing holds
//! anything for ever. Plain HTTP/1.1: whatever ends TLS in front of the gateway speaks that.

use std::{io, sync::Arc, time::Duration};

use hyper::server::conn::http1::Builder;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_io_timeout::TimeoutStream;

use crate::{config::Server, gateway::Gateway};

/// What idle connections need to be closed in order, however late it is.
const FAREWELL: Duration = Duration::from_millis(250);

/// Serves until the gateway stops and its worker has nothing in flight any more: until then somebody may want to know
/// that it is not ready, and a provider may have to fetch the audio of a note that is being sent. Then requests in
/// flight may finish. All of that for at most `server.shutdown_grace`.
pub async fn serve_app(gateway: &Gateway, listener: TcpListener, app: axum::Router) {
    let limits = gateway.live().config.server.clone();
    let grace = grace_of(gateway, limits.shutdown_grace.0);
    tokio::pin!(grace);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(limits.max_clients.min(Semaphore::MAX_PERMITS)));
    let deadline = loop {
        let (stream, place) = tokio::select! {
            deadline = &mut grace => break deadline,
            accepted = accept(&listener, &room) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
        };
        serve_client(stream, place, &app, &graceful, &limits);
    };
    drop(listener);
    let deadline = deadline.max(Instant::now() + FAREWELL);
    if tokio::time::timeout_at(deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!("stopping with requests in flight");
    }
}

/// Returns when no further client is to be served, with the time by which the others have to be done.
async fn grace_of(gateway: &Gateway, grace: Duration) -> Instant {
    gateway.stop.cancelled().await;
    let deadline = Instant::now() + grace;
    let _ = tokio::time::timeout_at(deadline, gateway.drained.cancelled()).await;
    deadline
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    let place = room.clone().acquire_owned().await.ok(); // an error would mean that the semaphore was closed
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

fn serve_client(
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    app: &axum::Router,
    graceful: &GracefulShutdown,
    limits: &Server,
) {
    let _ = stream.set_nodelay(true); // a socket that refuses is about to fail anyway
    let mut stream = TimeoutStream::new(stream);
    // A client that does not read: nothing could be written for so long.
    stream.set_write_timeout(Some(limits.body_timeout.0));
    let connection = Builder::new()
        .timer(TokioTimer::new())
        // From the connection's or the last answer's end on, so it bounds an idle connection, too.
        .header_read_timeout(limits.header_timeout.0)
        // hyper counts everything that it buffers of a request against this: line and headers.
        .max_buf_size(usize::try_from(limits.max_headers.0).unwrap_or(usize::MAX))
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(app.clone()));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(place);
    });
}

/// Out of file descriptors is the common case: trying again at once would only burn a core.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
