//! Traces: spans of what is done for a note, sent to a collector by OTLP over HTTP.
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>
//!
//! A span belongs to a trace by its parent, which is stored with the note: so does one that begins after a restart.
//! Spans wait in a bounded queue for the collector. Where that is full, because the collector is slow or gone, new spans
//! are dropped; nothing waits for it.
//!
//! Attributes hold ids, names from the configuration and codes, and never a recipient, a URL or a text.

mod collector;
mod context;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider},
};
use url::Url;

use self::collector::Collector;
pub use self::context::TraceContext;

/// The most spans that wait for the collector, of about a kilobyte each. A note has about six.
const WAITING: usize = 4096;

/// The most spans in one request.
const BATCH: usize = 512;

/// How long spans wait for others before they are sent together.
const DELAY: Duration = Duration::from_secs(2);

/// How long a stopping process waits for the collector.
const LAST: Duration = Duration::from_secs(3);

tokio::task_local! {
    static CURRENT: Scope;
}

/// The work that a task is doing, as a part of a trace.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The parent of the spans that begin within it.
    pub parent: Option<TraceContext>,
    pub began: Timestamp,
    /// The code of the error with which the work ended.
    failed: Arc<OnceLock<String>>,
}

impl Scope {
    pub fn new(parent: Option<TraceContext>, began: Timestamp) -> Self {
        Self { parent, began, failed: Arc::default() }
    }

    /// Runs `work` within this scope. Returns the error code that [`failed`] recorded meanwhile, too.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> (T, Option<String>) {
        let failed = self.failed.clone();
        let done = CURRENT.scope(self, work).await;
        (done, failed.get().cloned())
    }

    /// The scope of the current task. `None` outside of a request and of the work on a note.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }
}

/// Records the code of the error with which the current work ends.
pub fn failed(code: &str) {
    let _ = CURRENT.try_with(|scope| scope.failed.set(code.to_owned()));
}

/// The part of a note's way that a span stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer to a request.
    Server,
    /// A request to somebody else's server.
    Client,
    Internal,
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Server => Self::Server,
            Kind::Client => Self::Client,
            Kind::Internal => Self::Internal,
        }
    }
}

/// Begins spans, and sends them to the collector if there is one.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Exporting>>);

struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Traces(on)" } else { "Traces(off)" })
    }
}

impl Traces {
    /// Spans go to the collector at `endpoint`; without one there are none. Must be called within a tokio runtime, which
    /// makes the requests.
    ///
    /// # Errors
    /// TLS cannot be set up, or a variable of OpenTelemetry in the environment is wrong.
    pub fn new(endpoint: Option<&Url>) -> Result<Self, String> {
        let Some(endpoint) = endpoint else { return Ok(Self::default()) };
        let collector = Collector::new().map_err(|error| error.without_url().to_string())?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(traces_at(endpoint))
            .build()
            .map_err(|error| error.to_string())?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let resource = Resource::builder_empty()
            .with_service_name("voicegate")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(config).build())
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("voicegate");
        Ok(Self(Some(Arc::new(Exporting { provider, tracer }))))
    }

    /// Begins a span. Without a parent it begins a trace of its own.
    pub fn span(
        &self,
        (name, kind): (&'static str, Kind),
        parent: Option<&TraceContext>,
        began: Timestamp,
    ) -> Span {
        let own = self.0.as_ref().map(|exporting| {
            let builder = exporting
                .tracer
                .span_builder(name)
                .with_kind(kind.into())
                .with_start_time(SystemTime::from(began));
            let parent = parent.map_or_else(Context::new, |parent| {
                Context::new().with_remote_span_context(parent.span_context())
            });
            exporting.tracer.build_with_context(builder, &parent)
        });
        Span { own, began, parent: parent.cloned() }
    }

    /// Sends what waits for the collector, within three seconds.
    pub async fn close(&self) {
        let Some(exporting) = self.0.clone() else { return };
        let closing = tokio::task::spawn_blocking(move || exporting.provider.shutdown_with_timeout(LAST));
        if let Ok(Err(error)) = closing.await {
            tracing::warn!(%error, "the last spans may not have reached the collector of telemetry.otlp");
        }
    }

    /// Sends what waits for the collector, for tests.
    #[doc(hidden)]
    pub async fn flush(&self) {
        let Some(exporting) = self.0.clone() else { return };
        let _ = tokio::task::spawn_blocking(move || exporting.provider.force_flush()).await;
    }
}

/// The address for traces below the address of a collector, which may be written with it.
fn traces_at(endpoint: &Url) -> String {
    const PATH: &str = "/v1/traces";
    let mut url = endpoint.clone();
    let path = url.path().trim_end_matches('/').to_owned();
    if path.ends_with(PATH) {
        url.set_path(&path);
    } else {
        url.set_path(&format!("{path}{PATH}"));
    }
    url.into()
}

/// A span that was begun. It ends when it is dropped, at the latest.
pub struct Span {
    own: Option<opentelemetry_sdk::trace::Span>,
    began: Timestamp,
    parent: Option<TraceContext>,
}

impl Span {
    /// The parent of spans within this one. Without a collector, the parent of this one.
    pub fn context(&self) -> Option<TraceContext> {
        self.own.as_ref().and_then(|own| TraceContext::of(own.span_context())).or_else(|| self.parent.clone())
    }

    /// Whether anybody sees the span.
    pub fn is_on(&self) -> bool {
        self.own.is_some()
    }

    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(own) = &mut self.own {
            own.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Marks the work as failed, with a code of the API if there is one.
    pub fn fail(&mut self, code: Option<String>) {
        if let Some(code) = code {
            self.set("error.type", code);
        }
        if let Some(own) = &mut self.own {
            own.set_status(Status::error(""));
        }
    }

    pub fn end(mut self, ended: Timestamp) {
        if let Some(own) = &mut self.own {
            own.end_with_timestamp(SystemTime::from(ended.max(self.began)));
        }
    }
}

/// A span that nobody ended stands for work that was broken off. After its end this changes nothing.
impl Drop for Span {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            own.set_status(Status::error("broken off"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_have_an_address_below_that_of_the_collector() {
        for (endpoint, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example/api", "https://otel.example/api/v1/traces"),
            ("https://otel.example/v1/traces", "https://otel.example/v1/traces"),
            ("https://otel.example/v1/traces/", "https://otel.example/v1/traces"),
        ] {
            assert_eq!(traces_at(&endpoint.parse().expect("a URL")), traces);
        }
    }

    #[tokio::test]
    async fn without_a_collector_the_parent_is_passed_on() {
        let traces = Traces::new(None).expect("off");
        let parent = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let span = traces.span(("accept", Kind::Server), parent.as_ref(), Timestamp::UNIX_EPOCH);
        assert_eq!(span.context(), parent);
        assert_eq!(traces.span(("accept", Kind::Server), None, Timestamp::UNIX_EPOCH).context(), None);
    }

    #[tokio::test]
    async fn scope_tells_how_its_work_ended() {
        let scope = Scope::new(None, Timestamp::UNIX_EPOCH);
        let work = async {
            failed("provider_unavailable");
            failed("internal");
            7
        };
        assert_eq!(scope.during(work).await, (7, Some("provider_unavailable".to_owned())));
        failed("internal"); // outside of any scope this does nothing
        assert!(Scope::current().is_none());
    }
}
