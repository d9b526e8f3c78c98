//! What the operator can see in numbers, at `/metrics`. One function for each thing that happens; [`names`] has the
//! metrics themselves.
//!
//! Counts belong to the process, so they are statics: whatever happens twice in it is counted twice, whoever did it.

pub mod kinds;
pub mod names;
mod process;
mod scrape;

use std::{sync::LazyLock, time::Duration};

use prometheus_client::registry::Registry;
use voicegate_providers::{Receipt, ReceiptStatus};

use crate::{
    config::Tenants,
    model::note::{Note, Outcome, Status},
    store::{Change, Step},
};
use names::*;

pub use scrape::{CONTENT_TYPE, text};

static COUNTED: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry::default();
    for metric in ALL {
        metric.register(&mut registry);
    }
    registry
});

/// Shows as zero what has not happened yet to the connections that there are.
pub fn expect(tenants: &Tenants) {
    use Status::{Accepted, Canceled, Expired, Failed, Queued, Unknown};
    WRONG_KEYS.show([]);
    for tenant in tenants.iter() {
        for connection in tenant.connections.values() {
            let (tenant, name) = (tenant.name.as_str(), connection.name.as_str());
            for status in [Queued, Accepted, Failed, Expired, Canceled, Unknown] {
                NOTES.show([tenant, name, status.as_str()]);
            }
            for outcome in [Outcome::Accepted, Outcome::Refused, Outcome::Deferred, Outcome::Unknown] {
                ATTEMPTS.show([tenant, name, connection.provider_name, word(outcome)]);
            }
            PAUSES.show([tenant, name]);
        }
    }
}

/// A note came to its present status: it was taken from a bot, it ended, or a receipt told of it.
pub fn note(note: &Note) {
    let stop = note.current();
    NOTES.inc([&note.tenant, &stop.connection, note.status.as_str()]);
    let labels = [note.tenant.as_str(), stop.connection.as_str()];
    let waited = note.updated_at.duration_since(note.due_at()).as_secs_f64().max(0.0);
    match note.status {
        Status::Accepted => NOTE_ACCEPTED.observe(labels, waited),
        Status::Delivered => NOTE_DELIVERED.observe(labels, waited),
        _ => {}
    }
    if let Some(error) = note.error.as_ref().filter(|_| !note.status.is_accepted()) {
        let stage = error.stage.as_deref().unwrap_or_default();
        NOTE_ERRORS.inc([labels[0], labels[1], &error.code, stage]);
    }
}

/// The end of a try, or of a note, is on disk.
pub fn recorded(change: &Change) {
    match change.step {
        Step::Done | Step::Hold { .. } => note(&change.note),
        Step::Retry { pause_connection_until: Some(_), .. } => {
            PAUSES.inc([&change.note.tenant, &change.note.current().connection]);
        }
        _ => {}
    }
}

/// A try at `provider` ended; it is the note's last one.
pub fn attempt(note: &Note, provider: &str) {
    let Some(attempt) = note.attempts.last() else { return };
    let (tenant, connection, outcome) = (&note.tenant, &attempt.connection, word(attempt.outcome));
    ATTEMPTS.inc([tenant, connection, provider, outcome]);
    ATTEMPT.observe([provider, outcome], Duration::from_millis(attempt.took_ms).as_secs_f64());
    if let Some(error) = &attempt.error {
        let stage = error.stage.as_deref().unwrap_or_default();
        ATTEMPT_ERRORS.inc([tenant, connection, &error.code, stage]);
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Refused => "refused",
        Outcome::Deferred => "deferred",
        Outcome::Unknown => "unknown",
    }
}

/// Something was looked up in what is remembered under the name `cache`.
pub fn looked_up(cache: &'static str, hit: bool) {
    CACHE.inc([cache, if hit { "hit" } else { "miss" }]);
}

/// A download of `audio.url` ended.
pub fn fetched(outcome: &'static str, took: Duration) {
    FETCHES.inc([outcome]);
    FETCH.observe([], took.as_secs_f64());
}

/// Receipts changed the note. Counted is the status that one of them gave it; its other times may have come before.
pub fn told(note: &Note, receipts: &[Receipt]) {
    let (status, at) = match note.status {
        Status::Accepted => (ReceiptStatus::Accepted, note.accepted_at),
        Status::Sent => (ReceiptStatus::Sent, note.sent_at),
        Status::Delivered => (ReceiptStatus::Delivered, note.delivered_at),
        Status::Read => (ReceiptStatus::Read, note.read_at),
        Status::Played => (ReceiptStatus::Played, note.played_at),
        Status::Failed => (ReceiptStatus::Failed, None),
        _ => return,
    };
    let raised = |receipt: &&Receipt| receipt.status == status && at.is_none_or(|at| at == receipt.at);
    if receipts.iter().any(|receipt| raised(&receipt)) {
        self::note(note);
    }
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

/// The table of `docs/operations.md`.
pub fn table() -> String {
    use std::fmt::Write as _;
    let mut text = "| Metric | Kind | Unit | Labels | |\n|---|---|---|---|---|\n".to_owned();
    for about in ALL.iter().map(|metric| metric.about()) {
        let labels: Vec<_> = about.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, help) = (about.name, about.kind, about.help());
        let unit = about.unit().unwrap_or_default();
        let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(", "));
    }
    text
}

#[cfg(test)]
mod tests;
