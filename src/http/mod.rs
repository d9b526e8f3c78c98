//! The HTTP interface. Handlers read a request, call the inner modules, and write the answer; they contain no rules.

mod auth;
mod body;
mod callbacks;
mod compat;
mod connections;
mod console;
mod descriptors;
mod docs;
mod events;
#[cfg(debug_assertions)]
pub(crate) mod fuzzing;
pub mod mcp;
mod media;
pub mod memory;
mod notes;
mod observe;
mod openapi;
mod ops;
mod plan;
mod presence;
mod query;
mod readiness;
mod received;
mod recover;
mod render;
mod room;
mod scrape;
mod seats;
mod server;
mod uploads;
mod usage;
mod voice;
mod wait;
mod webhooks;
mod wrong_keys;

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, FromRef, Request},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use futures_util::FutureExt;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{events::Feeds, memory::Memory, readiness::Probe, wrong_keys::WrongKeys};
use crate::{
    gateway::Gateway,
    model::{code::Code, problem::Problem},
    telemetry::request_id,
};

pub use compat::document::text as openapi_of_dialects;
pub use openapi::{document, text as openapi};
pub use server::serve_app;

/// The state of every handler: the gateway, and what only its HTTP surface needs.
#[derive(Clone, Debug)]
pub struct App {
    pub gateway: Arc<Gateway>,
    /// `server.memory`
    pub memory: Memory,
    probe: Arc<Probe>,
}

impl App {
    pub fn new(gateway: Arc<Gateway>) -> Self {
        let memory = Memory::new(gateway.live().config.server.memory.0);
        Self { gateway, memory, probe: Arc::default() }
    }
}

impl FromRef<App> for Arc<Gateway> {
    fn from_ref(app: &App) -> Self {
        app.gateway.clone()
    }
}

/// All paths, with their documentation.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(voice::send, notes::list))
        .routes(routes!(plan::plan))
        .routes(routes!(render::audio))
        .routes(routes!(recover::notes))
        .routes(routes!(recover::task))
        .routes(routes!(webhooks::attempts))
        .routes(routes!(webhooks::resend))
        .routes(routes!(webhooks::recover))
        .routes(routes!(notes::show, notes::remove))
        .routes(routes!(media::of_note))
        .routes(routes!(notes::cancel))
        .routes(routes!(voice::resend))
        .routes(routes!(received::list))
        .routes(routes!(received::show, received::remove))
        .routes(routes!(received::download))
        .routes(routes!(uploads::add))
        .routes(routes!(uploads::show, uploads::remove))
        .routes(routes!(connections::list))
        .routes(routes!(presence::show))
        .routes(routes!(usage::show))
        .routes(routes!(events::all))
        .routes(routes!(events::of_note))
        .routes(routes!(callbacks::post, callbacks::get))
        .routes(routes!(media::by_link))
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
        .routes(routes!(ops::metrics))
        .routes(routes!(openapi::serve))
        .routes(routes!(compat::document::serve))
        .routes(routes!(docs::index))
        .route("/docs/", get(docs::index)) // the same page, for people who type the address
        .route("/", get(async || Redirect::temporary("/docs")))
        .routes(routes!(docs::page))
        .routes(routes!(console::page))
        .routes(routes!(console::part))
}

/// The paths of a process without the API: its health, and the audio that providers download.
fn worker_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(media::by_link))
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
        .routes(routes!(ops::metrics))
}

pub fn router(app: App) -> Router {
    let (api, _) = routes().split_for_parts();
    let inner = mcp::Inner(api.with_state(app.clone()));
    // This path speaks a protocol of its own, which has its own documents.
    let routes = routes().route("/mcp", post(mcp::serve).layer(Extension(inner)));
    finished(routes.merge(compat::routes()), app)
}

pub fn worker_router(app: App) -> Router {
    finished(worker_routes(), app)
}

fn finished(routes: OpenApiRouter<App>, app: App) -> Router {
    let (router, _) = routes.split_for_parts();
    router
        .fallback(async |headers: HeaderMap| {
            docs::absent(&headers, Problem::new(Code::NotFound, "there is nothing at this path"))
        })
        .method_not_allowed_fallback(async || {
            Problem::new(Code::MethodNotAllowed, "the Allow header lists the methods of this path")
        })
        .layer(Extension(Arc::new(Feeds::new(app.memory.clone()))))
        .layer(Extension(Arc::new(WrongKeys::default())))
        .layer(DefaultBodyLimit::disable()) // each body has its limit where it is read
        .layer(middleware::from_fn(no_panic))
        .layer(middleware::from_fn(compat::in_its_dialect))
        .layer(middleware::from_fn(plain_answers))
        .layer(middleware::from_fn_with_state(app.gateway.clone(), observe::observe))
        .with_state(app)
}

/// A panic ends only its own request, which gets a problem as the answer, and is logged.
async fn no_panic(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a request handler panicked");
        Problem::internal().into_response()
    })
}

/// Answers are private to the caller, and browsers must not guess their type.
async fn plain_answers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.request_id = request_id::current();
        let status = self.http_status();
        let mut response = (status, axum::Json(&self)).into_response();
        // A dialect says the same in its own words.
        response.extensions_mut().insert(Arc::new(self.clone()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// `Idempotency-Replayed: true` marks an answer to a repeated request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
