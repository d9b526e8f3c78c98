//! The accept loop. axum's own has no time limits; here neither an idle client nor one that reads nothing can keep
//! anything for ever. It speaks plain HTTP/1.1, as every TLS proxy in front of the gateway does.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{Version, header::HOST, uri::Authority},
    response::{IntoResponse, Response},
};
use hyper::{
    body::Incoming,
    server::conn::http1::Builder,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::descriptors;
use super::seats::{Answer, Seat, Seats};
use crate::{config::Server, gateway::Gateway, model::problem::Problem};

/// The time that idle connections need to be closed in order. They get it even if the grace period is over.
const FAREWELL: Duration = Duration::from_millis(250);

/// Serves until the gateway stops and its worker has nothing in progress any more: until then somebody may ask whether
/// it is ready, and a provider may have to download the audio of a note that is being sent. After that, requests in
/// progress may finish. All of it takes at most `server.shutdown_grace`.
pub async fn serve_app(gateway: &Gateway, listener: TcpListener, app: axum::Router) {
    let limits = gateway.live().config.server.clone();
    let grace = grace_of(gateway, limits.shutdown_grace.0);
    tokio::pin!(grace);
    let seats = Seats::new(descriptors::most_clients(limits.max_clients));
    let (clients, leaving) = (TaskTracker::new(), CancellationToken::new());
    let deadline = loop {
        let (stream, seat) = tokio::select! {
            deadline = &mut grace => break deadline,
            accepted = accept(&listener, &seats) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error, &seats).await;
                    continue;
                }
            },
        };
        clients.spawn(serve_client(stream, seat, app.clone(), limits.clone(), leaving.clone()));
    };
    drop(listener);
    leaving.cancel();
    clients.close();
    let deadline = deadline.max(Instant::now() + FAREWELL);
    if tokio::time::timeout_at(deadline, clients.wait()).await.is_err() {
        tracing::warn!("stopping with requests in flight");
    }
}

/// Returns when no further client is to be served, with the time by which the others must have finished.
async fn grace_of(gateway: &Gateway, grace: Duration) -> Instant {
    gateway.stop.cancelled().await;
    let deadline = Instant::now() + grace;
    let _ = tokio::time::timeout_at(deadline, gateway.drained.cancelled()).await;
    deadline
}

/// Accepts a client first and then looks for a place, so that nobody has to leave before the place is needed.
async fn accept(listener: &TcpListener, seats: &Seats) -> io::Result<(TcpStream, Arc<Seat>)> {
    let (stream, peer) = listener.accept().await?;
    let peer: SocketAddr = peer;
    Ok((stream, seats.take(peer.ip().to_canonical()).await))
}

async fn serve_client(
    stream: TcpStream,
    seat: Arc<Seat>,
    app: axum::Router,
    limits: Server,
    leaving: CancellationToken,
) {
    let _ = stream.set_nodelay(true); // a socket that refuses this is about to fail anyway
    let mut stream = TimeoutStream::new(stream);
    // The time limit for a client that does not read, so that nothing can be written.
    stream.set_write_timeout(Some(limits.body_timeout.0));
    let app = TowerToHyperService::new(app);
    let service = service_fn(|request| answer(&seat, &app, request));
    let connection = Builder::new()
        .timer(TokioTimer::new())
        // This limit starts with the connection or the end of the last answer, so it also limits idle connections.
        .header_read_timeout(limits.header_timeout.0)
        // hyper counts everything that it buffers of a request: request line and headers.
        .max_buf_size(usize::try_from(limits.max_headers.0).unwrap_or(usize::MAX))
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = leaving.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = seat.asked_to_leave() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut connection => ended,
                // The client has begun a request and does not finish it, or has never begun one.
                () = still_idle(&seat) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Returns when a client that was asked to leave has no request in progress and has had time to leave.
async fn still_idle(seat: &Seat) {
    if seat.has_asked() {
        // The end of its last answer may still be in transit.
        tokio::time::sleep(FAREWELL).await;
        while !seat.is_idle() {
            tokio::time::sleep(FAREWELL).await;
        }
    }
}

async fn answer(
    seat: &Arc<Seat>,
    app: &TowerToHyperService<axum::Router>,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let visit = seat.visit();
    if let Err(problem) = host_of(&request) {
        return Ok(counted(problem.into_response(), visit));
    }
    let mut request: Request<Incoming> = request;
    request.extensions_mut().insert(seat.clone());
    Ok(counted(app.call(request).await?, visit))
}

fn counted(response: Response, visit: super::seats::Visit) -> Response {
    response.map(|body| Body::new(Answer::new(body, visit)))
}

/// A request of HTTP/1.1 names its host exactly once (RFC 9112, section 3.2). With two, a proxy might use one and the
/// gateway the other.
fn host_of(request: &hyper::Request<Incoming>) -> Result<(), Problem> {
    let wrong = |detail: &str| Err(Problem::invalid("Host", detail));
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => Ok(()),
        (None, _) => wrong("the header is missing; send one with the name of this server"),
        (Some(_), Some(_)) => wrong("the header came more than once; send it once"),
        (Some(host), None) => {
            let name = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            let is_name = name.is_some_and(|name| !name.host().is_empty() && !name.as_str().contains('@'));
            if is_name {
                Ok(())
            } else {
                wrong("the header is not the name of a host, with or without a port")
            }
        }
    }
}

/// The usual reason is that there are no file descriptors left: an immediate retry would only burn a core. An idle
/// client is disconnected to free its descriptor.
async fn pause_after(error: &io::Error, seats: &Seats) {
    let makes_room = voicegate_audio::is_exhausted(error) && seats.make_room();
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(if makes_room { 10 } else { 100 })).await;
}
