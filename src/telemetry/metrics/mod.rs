//! What the operator can see in numbers, at `/metrics`. One function for each thing that happens; [`names`] has the
//! metrics themselves.
//!
//! Counts belong to the process, so they are statics: whatever happens twice in it is counted twice, whoever did it.

pub mod kinds;
pub mod names;
mod process;

use std::{sync::LazyLock, time::Duration};

use names::*;
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    registry::Registry,
};

static COUNTED: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry::default();
    for metric in ALL {
        metric.register(&mut registry);
    }
    registry
});

/// Something was looked up in what is remembered under the name `cache`.
pub fn looked_up(cache: &'static str, hit: bool) {
    CACHE.inc([cache, if hit { "hit" } else { "miss" }]);
}

/// A download of `audio.url` ended.
pub fn fetched(outcome: &'static str, took: Duration) {
    FETCHES.inc([outcome]);
    FETCH.observe([], took.as_secs_f64());
}

/// A provider called. `verdict` is a word of the code, such as `accepted` or `forged`.
pub fn called_back(tenant: &str, connection: &str, verdict: &'static str) {
    CALLBACKS.inc([tenant, connection, verdict]);
}

/// A try to hand an event to a tenant's webhook ended: `delivered`, `failed` or `given_up`. `lag` counts from what the
/// event tells of, and only where it was handed over.
pub fn event(tenant: &str, outcome: &'static str, lag: Option<Duration>) {
    EVENTS.inc([tenant, outcome]);
    if let Some(lag) = lag {
        EVENT_LAG.observe([tenant], lag.as_secs_f64());
    }
}

/// A request came with a key or token that nobody has.
pub fn wrong_key() {
    WRONG_KEYS.inc([]);
}

/// A request was answered. `route` is a path of the router with its placeholders.
pub fn answered(method: &http::Method, route: Option<&str>, status: http::StatusCode, took: Duration) {
    let method = self::method(method);
    let route = route.unwrap_or("other");
    let class = format!("{}xx", status.as_u16() / 100);
    HTTP_REQUESTS.inc([method, route, &class]);
    HTTP.observe([method, route], took.as_secs_f64());
}

/// A method's name as a label. Anybody can send any method.
pub fn method(method: &http::Method) -> &'static str {
    ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"]
        .into_iter()
        .find(|known| method == known)
        .unwrap_or("other")
}

/// A stored row was read and is damaged.
pub fn unreadable(kind: &'static str) {
    UNREADABLE.inc([kind]);
}

/// So many changes were committed with one flush.
pub fn flushed(changes: usize, took: Duration) {
    DATABASE_BATCH.observe([], changes as f64);
    DATABASE_WRITE.observe([], took.as_secs_f64());
}

/// The wall clock was set, forward or back.
pub fn clock_jumped(forward: bool) {
    CLOCK_JUMPS.inc([if forward { "forward" } else { "back" }]);
}

/// The database failed, in this way.
pub fn database_failed(kind: &'static str) {
    DATABASE_FAILURES.inc([kind]);
}

/// A part of the database's pages was looked through.
pub fn inspected(outcome: &'static str) {
    DATABASE_CHECKS.inc([outcome]);
}

/// The configuration was to be read again.
pub fn reloaded(ok: bool) {
    RELOADS.inc([if ok { "ok" } else { "refused" }]);
}

/// A run of ffmpeg ended. `purpose` and `outcome` are words of the code.
pub fn ffmpeg_ran(purpose: &'static str, outcome: &'static str, took: Duration) {
    FFMPEG_RUNS.inc([purpose, outcome]);
    FFMPEG.observe([purpose], took.as_secs_f64());
}

/// OpenMetrics, which every Prometheus since 2.5 reads.
/// <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything there is to see: what was counted, what `now` was read for this answer, and what the kernel says of the
/// process.
pub fn text(mut now: Registry) -> String {
    BUILD.read(&mut now, [([env!("CARGO_PKG_VERSION")], 1.0)]);
    process::read(&mut now);
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = encode_registry(&mut text, &COUNTED);
    let _ = encode_registry(&mut text, &now);
    let _ = encode_eof(&mut text);
    text
}

#[cfg(test)]
mod tests;
