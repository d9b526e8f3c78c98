//! The accept loop. axum's own has no time limits; here neither an idle client nor one that reads nothing holds
//! anything for ever. Plain HTTP/1.1: whatever ends TLS in front of the gateway speaks that.

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

/// What idle connections need to be closed in order, however late it is.
const FAREWELL: Duration = Duration::from_millis(250);

/// Serves until the gateway stops and its worker has nothing in flight any more: until then somebody may want to know
/// that it is not ready, and a provider may have to fetch the audio of a note that is being sent. Then requests in
/// flight may finish. All of that for at most `server.shutdown_grace`.
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

/// Returns when no further client is to be served, with the time by which the others have to be done.
async fn grace_of(gateway: &Gateway, grace: Duration) -> Instant {
    gateway.stop.cancelled().await;
    let deadline = Instant::now() + grace;
    let _ = tokio::time::timeout_at(deadline, gateway.drained.cancelled()).await;
    deadline
}

/// Accepts first and looks for a place then: nobody has to leave before somebody is there who needs the place.
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
    let _ = stream.set_nodelay(true); // a socket that refuses is about to fail anyway
    let mut stream = TimeoutStream::new(stream);
    // A client that does not read: nothing could be written for so long.
    stream.set_write_timeout(Some(limits.body_timeout.0));
    let app = TowerToHyperService::new(app);
    let service = service_fn(|request| answer(&seat, &app, request));
    let connection = Builder::new()
        .timer(TokioTimer::new())
        // From the connection's or the last answer's end on, so it bounds an idle connection, too.
        .header_read_timeout(limits.header_timeout.0)
        // hyper counts everything that it buffers of a request against this: line and headers.
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
                // It has begun a request and does not end it, or has never begun one.
                () = still_idle(&seat) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Returns when a client that was asked to leave could have gone and has no request under way.
async fn still_idle(seat: &Seat) {
    if seat.has_asked() {
        // The end of its last answer may still be on its way.
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

/// A request of HTTP/1.1 names its host once: RFC 9112, section 3.2. Whoever passes requests on may go by one of two, and
/// the gateway by the other.
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

/// Out of file descriptors is the common case: trying again at once would only burn a core. A client that is idle gives
/// its own.
async fn pause_after(error: &io::Error, seats: &Seats) {
    let makes_room = voicegate_audio::is_exhausted(error) && seats.make_room();
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(if makes_room { 10 } else { 100 })).await;
}
