//! The HTTP surface. Handlers read a request, ask the inner modules, and write the answer; they hold no rules.

mod auth;
mod body;
mod connections;
mod docs;
#[cfg(debug_assertions)]
pub(crate) mod fuzzing;
mod media;
mod notes;
mod ops;
mod server;
mod uploads;
mod voice;

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::FutureExt;

use crate::{gateway::Gateway, problem::Problem};

pub use server::serve;

/// Every path there is.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/voice", post(voice::send).get(notes::list))
        .route("/voice/{id}", get(notes::show).delete(notes::remove))
        .route("/voice/{id}/audio", get(media::of_note))
        .route("/voice/{id}/cancel", post(notes::cancel))
        .route("/voice/{id}/resend", post(voice::resend))
        .route("/media", post(uploads::add))
        .route("/media/{id}", get(uploads::show).delete(uploads::remove))
        .route("/connections", get(connections::list))
        .route("/m/{token}/{filename}", get(media::by_link))
        .route("/docs", get(docs::index))
        .route("/docs/", get(docs::index))
        .route("/docs/{page}", get(docs::page))
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .fallback(async || Problem::new("not_found", "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new("method_not_allowed", "the Allow header lists the methods of this path")
        })
        .layer(DefaultBodyLimit::disable()) // each body is bounded where it is read
        .layer(middleware::from_fn(no_panic))
        .layer(middleware::from_fn(plain_answers))
        .with_state(gateway)
}

/// A mistake of ours ends one request, with a problem, and is in the log.
async fn no_panic(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a request handler panicked");
        Problem::internal().into_response()
    })
}

/// Answers are for the caller alone, and never to be guessed at by a browser.
async fn plain_answers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.http_status();
        let mut response = (status, axum::Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == "unauthorized" {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// `Idempotency-Replayed: true` marks an answer to a repeated request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
