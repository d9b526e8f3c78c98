//! The router, and an accept loop of our own.
//!
//! axum's services cannot fail, so `axum::serve` always answers. A provider that dies in the middle does not: a
//! response that carries [`HangUp`] becomes a service error here, upon which hyper closes the connection without
//! a byte.

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::emulator::{EMULATORS, Emulator, SPEECH_SERVERS};
use crate::{Sandbox, control, faults, idle::Busy};

/// Marks a response that must never be sent: close the connection instead.
#[derive(Clone)]
struct HangUp;

pub(crate) fn hang_up() -> Response {
    let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    response.extensions_mut().insert(HangUp);
    response
}

pub(crate) fn router(sandbox: &Sandbox) -> Router {
    let nest = |router: Router, emulator: &&dyn Emulator| {
        router.nest(&format!("/{}", emulator.name()), emulator.router(sandbox))
    };
    EMULATORS
        .iter()
        .filter(|emulator| sandbox.answers(emulator.name()))
        .chain(SPEECH_SERVERS)
        .fold(Router::new(), nest)
        .merge(control::router(sandbox))
        .layer(from_fn_with_state(sandbox.clone(), faults::guard))
        // `faults::guard` reads the bodies, with bounds of its own.
        .layer(DefaultBodyLimit::disable())
}

pub(crate) async fn serve(sandbox: Sandbox, listener: TcpListener) {
    let router = router(&sandbox);
    // The tasks are owned by this future, so that dropping it closes the connections too.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            // The process is usually out of file descriptors, so this waits for some to be freed instead of spinning.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        sandbox.inner.connections.fetch_add(1, Ordering::Relaxed);
        let (router, busy, limit) = (router.clone(), Busy::new(), sandbox.inner.idle.subscribe());
        let counted = busy.clone();
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let (router, under_way) = (router.clone(), counted.begin());
            async move {
                let answer = answer(router, request.map(Body::new)).await;
                drop(under_way);
                answer
            }
        });
        connections.spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            tokio::select! {
                // This branch comes first, so that an answer is written before its connection counts as idle.
                biased;
                ended = builder.serve_connection(TokioIo::new(stream), service) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection closed");
                    }
                }
                () = busy.idle_for_too_long(limit) => tracing::debug!("idle connection closed"),
            }
        });
    }
}

async fn answer(router: Router, request: Request<Body>) -> Result<Response, std::io::Error> {
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => {
            let never: Infallible = never;
            match never {}
        }
    };
    if response.extensions().get::<HangUp>().is_some() {
        return Err(std::io::Error::other("scripted: hang up without an answer"));
    }
    Ok(response)
}
