//! The spans of what is done for a note. All of them belong to the trace of the request that created it.

use jiff::Timestamp;

use crate::{
    gateway::Gateway,
    model::{event::Subject, note::Note},
    telemetry::traces::{Kind, Scope, Span, TraceContext},
};

/// Begins the span of a request that becomes this note, which began with the request itself.
pub(super) fn accept(gateway: &Gateway, note: &Note) -> Span {
    let now = gateway.clock.now();
    let scope = Scope::current().unwrap_or_else(|| Scope::new(None, now));
    let mut span = gateway.traces.span(("accept", Kind::Server), scope.parent.as_ref(), scope.began.min(now));
    describe(&mut span, note);
    span
}

/// Begins the span of a leased job of a note, and tells how long the note waited for it in the queue.
pub(super) fn begin(gateway: &Gateway, name: &'static str, note: &Note) -> Span {
    let (parent, began) = (parent(note), gateway.clock.now());
    let due = note.next_attempt_at.unwrap_or(note.updated_at).min(began);
    let mut waited = gateway.traces.span(("queue wait", Kind::Internal), parent.as_ref(), due);
    describe(&mut waited, note);
    waited.end(began);
    let mut span = gateway.traces.span((name, Kind::Internal), parent.as_ref(), began);
    describe(&mut span, note);
    span.set("attempt", note.attempts.last().map_or(1, |last| i64::from(last.n) + 1));
    span
}

/// Does the work of a job within its span.
pub(super) async fn run<T>(gateway: &Gateway, mut span: Span, work: impl Future<Output = T>) -> T {
    let (done, code) = Scope::new(span.context(), gateway.clock.now()).during(work).await;
    if code.is_some() {
        span.fail(code);
    }
    span.end(gateway.clock.now());
    done
}

/// Runs one step of a job as a span below the job's. A step that is broken off ends there.
pub(super) async fn step<T, E>(
    gateway: &Gateway,
    (name, kind): (&'static str, Kind),
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let parent = Scope::current().and_then(|scope| scope.parent);
    let mut span = gateway.traces.span((name, kind), parent.as_ref(), gateway.clock.now());
    let done = work.await;
    if done.is_err() {
        span.fail(None);
    }
    span.end(gateway.clock.now());
    done
}

/// Tells of a step whose result was there already, from an earlier note.
pub(super) fn cached(gateway: &Gateway, name: &'static str, began: Timestamp) {
    let parent = Scope::current().and_then(|scope| scope.parent);
    let mut span = gateway.traces.span((name, Kind::Internal), parent.as_ref(), began);
    span.set("cached", true);
    span.end(gateway.clock.now());
}

/// Begins the span of the delivery of an event. One about a received note is a trace of its own.
pub(super) fn webhook(gateway: &Gateway, subject: &Subject, began: Timestamp) -> Span {
    let parent = subject.note().and_then(parent);
    let mut span = gateway.traces.span(("webhook", Kind::Client), parent.as_ref(), began);
    match subject {
        Subject::Note(note) => describe(&mut span, note),
        Subject::Received(received) if span.is_on() => {
            span.set("received.id", received.id.to_string());
            span.set("tenant", received.tenant.clone());
            span.set("connection", received.connection.clone());
            span.set("provider", received.provider.clone());
        }
        Subject::Received(_) => {}
    }
    span
}

fn parent(note: &Note) -> Option<TraceContext> {
    TraceContext::parse(note.traceparent.as_deref()?)
}

/// Names from the configuration alone: a recipient or a text is in no span.
fn describe(span: &mut Span, note: &Note) {
    if !span.is_on() {
        return;
    }
    let entry = note.current();
    span.set("note.id", note.id.to_string());
    span.set("tenant", note.tenant.clone());
    span.set("connection", entry.connection.clone());
    span.set("provider", entry.provider.clone());
}
