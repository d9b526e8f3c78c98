//! Metrics at `/metrics`: one function for each event. The metrics themselves are in [`names`].
//!
//! Metrics are static, because they belong to the process: an event counts wherever in the process it happens.

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

/// A look-up in the cache named `cache`.
pub fn looked_up(cache: &'static str, hit: bool) {
    CACHE.inc([cache, if hit { "hit" } else { "miss" }]);
}

/// A download of `audio.url` ended.
pub fn fetched(outcome: &'static str, took: Duration) {
    FETCHES.inc([outcome]);
    FETCH.observe([], took.as_secs_f64());
}

/// A download of a received note from `provider` ended.
pub fn fetched_received(provider: &'static str, outcome: &'static str, took: Duration) {
    RECEIVED_FETCHES.inc([provider, outcome]);
    RECEIVED_FETCH.observe([provider], took.as_secs_f64());
}

/// A provider was asked to show that a note is being recorded: `shown` or `failed`.
pub fn presence(tenant: &str, connection: &str, outcome: &'static str) {
    PRESENCE.inc([tenant, connection, outcome]);
}

/// A transcription server was asked for the words of a received note.
pub fn transcribed(tenant: &str, server: &str, outcome: &'static str, took: Duration) {
    TRANSCRIPTIONS.inc([tenant, server, outcome]);
    TRANSCRIPTION.observe([tenant, server], took.as_secs_f64());
}

/// A speech server was asked to speak.
pub fn spoke(tenant: &str, server: &str, outcome: &'static str, took: Duration) {
    SPEECHES.inc([tenant, server, outcome]);
    SPEECH.observe([tenant, server], took.as_secs_f64());
}

/// A provider sent a callback. `verdict` is a constant such as `accepted` or `forged`.
pub fn called_back(tenant: &str, connection: &str, verdict: &'static str) {
    CALLBACKS.inc([tenant, connection, verdict]);
}

/// An attempt to deliver an event to a tenant's webhook ended: `delivered`, `failed` or `given_up`. `lag` is the time
/// since the event, and is given for deliveries only.
pub fn event(tenant: &str, outcome: &'static str, lag: Option<Duration>) {
    EVENTS.inc([tenant, outcome]);
    if let Some(lag) = lag {
        EVENT_LAG.observe([tenant], lag.as_secs_f64());
    }
}

/// A recovery sent a note again (`resent`), or could not (`failed`).
pub fn recovered(tenant: &str, outcome: &'static str) {
    RECOVERED.inc([tenant, outcome]);
}

/// A request had an unknown API key or token.
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

/// A request in the API of another gateway was answered. `dialect` is a constant.
pub fn dialect(dialect: &'static str, status: http::StatusCode) {
    DIALECT_REQUESTS.inc([dialect, &format!("{}xx", status.as_u16() / 100)]);
}

/// Label for a method. Callers can send any method, so unknown ones share a label.
pub fn method(method: &http::Method) -> &'static str {
    ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"]
        .into_iter()
        .find(|known| method == known)
        .unwrap_or("other")
}

/// A damaged row was read from the database.
pub fn unreadable(kind: &'static str) {
    UNREADABLE.inc([kind]);
}

/// `changes` changes were committed with one flush.
pub fn flushed(changes: usize, took: Duration) {
    DATABASE_BATCH.observe([], changes as f64);
    DATABASE_WRITE.observe([], took.as_secs_f64());
}

/// The wall clock was set, forward or back.
pub fn clock_jumped(forward: bool) {
    CLOCK_JUMPS.inc([if forward { "forward" } else { "back" }]);
}

/// An operation of the database failed. `kind` is the class of the error.
pub fn database_failed(kind: &'static str) {
    DATABASE_FAILURES.inc([kind]);
}

/// A check of the database's pages ended.
pub fn inspected(outcome: &'static str) {
    DATABASE_CHECKS.inc([outcome]);
}

/// The configuration was reloaded, or the reload was refused.
pub fn reloaded(ok: bool) {
    RELOADS.inc([if ok { "ok" } else { "refused" }]);
}

/// A run of ffmpeg ended. `purpose` and `outcome` are constants.
pub fn ffmpeg_ran(purpose: &'static str, outcome: &'static str, took: Duration) {
    FFMPEG_RUNS.inc([purpose, outcome]);
    FFMPEG.observe([purpose], took.as_secs_f64());
}

/// A source was decoded. `way` is a constant.
pub fn audio_decoded(way: &'static str) {
    AUDIO_DECODED.inc([way]);
}

/// OpenMetrics, which every Prometheus since 2.5 reads.
/// <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The answer to a scrape: counted metrics, the values in `now` that were read for it, and those of the process.
pub fn text(mut now: Registry) -> String {
    BUILD.read(&mut now, [([env!("CARGO_PKG_VERSION")], 1.0)]);
    process::read(&mut now);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode_registry(&mut text, &COUNTED);
    let _ = encode_registry(&mut text, &now);
    let _ = encode_eof(&mut text);
    text
}

#[cfg(test)]
mod tests;
