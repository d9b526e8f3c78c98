//! Wraps every request: assigns its id, opens its span in the log, and counts it in the metrics.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use tracing::Instrument;

use crate::{
    gateway::Gateway,
    telemetry::{
        metrics,
        request_id::RequestId,
        traces::{Scope, TraceContext},
    },
};

/// The place of a request in a trace. <https://www.w3.org/TR/trace-context/>
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub async fn observe(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request.headers().get(REQUEST_ID).and_then(|value| RequestId::given(value.as_bytes()));
    let id = id.unwrap_or_else(RequestId::make);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    // The path is left out, because a path below /m/ gives access to a file. The span has the highest level, so that no
    // filter removes it.
    let span = tracing::error_span!("request", request_id = %id, method = metrics::method(&method), route);
    let header = HeaderValue::from_str(id.as_str());
    let scope = Scope::new(traceparent(request.headers()), gateway.clock.now());
    let handled = id.during(scope.during(next.run(request)));
    let (mut response, _) = handled.instrument(span).await;
    if let Ok(header) = header {
        response.headers_mut().insert(REQUEST_ID, header);
    }
    if gateway.stop.is_cancelled() {
        // The client should open a new connection for the next request, to another process or the successor of this
        // one.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    metrics::answered(&method, route, response.status(), started.elapsed());
    response
}

/// The place of the request in the caller's trace. Like every malformed value, several of them are no value.
fn traceparent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).into_iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { TraceContext::parse(value) }
}
