//! Traces by OTLP, with a small collector that decodes what comes: which spans there are, how they hang together, and
//! that nobody waits for a collector.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, http::HeaderMap, http::StatusCode, routing};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value as AnyValue,
    trace::v1::{Span, status::StatusCode as SpanStatus},
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::gateway::{KEY, Process, sample};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector and a bot's webhook.
#[derive(Clone, Default)]
struct World {
    spans: Arc<Mutex<Vec<Span>>>,
    /// The `traceparent` and the body of each event.
    events: Arc<Mutex<Vec<(String, Value)>>>,
}

impl World {
    async fn start() -> (Self, String) {
        let world = Self::default();
        let (collector, bot) = (world.clone(), world.clone());
        let traces = async move |headers: HeaderMap, body: Bytes| {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            let request = ExportTraceServiceRequest::decode(body).expect("a request");
            for resource in request.resource_spans {
                let attributes = resource.resource.expect("a resource").attributes;
                assert!(attributes.iter().any(|each| each.key == "service.name"), "{attributes:?}");
                let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                collector.spans.lock().expect("a plain list").extend(spans);
            }
            StatusCode::OK
        };
        let hook = async move |headers: HeaderMap, body: Bytes| {
            let traceparent =
                headers.get("traceparent").map(|value| value.to_str().expect("text").to_owned());
            let body = serde_json::from_slice(&body).expect("JSON");
            bot.events.lock().expect("a plain list").push((traceparent.unwrap_or_default(), body));
            StatusCode::NO_CONTENT
        };
        let router =
            Router::new().route("/v1/traces", routing::post(traces)).route("/hook", routing::post(hook));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (world, url)
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("a plain list").clone()
    }

    /// Waits until there are this many spans of a name.
    async fn until(&self, process: &Process, name: &str, times: usize) -> Vec<Span> {
        process
            .eventually(name, async || {
                let spans: Vec<Span> = self.spans().into_iter().filter(|span| span.name == name).collect();
                (spans.len() >= times).then_some(spans)
            })
            .await
    }
}

fn configure(config: String, url: &str, collector: &str) -> String {
    let hook = format!(
        "[tenants.a]\nwebhook = {{ url = \"{url}/hook\", secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"] }}"
    );
    let config = config.replace("[tenants.a]", &hook);
    let fetch = "[fetch]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]";
    format!("[telemetry]\notlp = \"{collector}\"\n{fetch}\n{config}")
}

async fn send(process: &Process, query: &str, traceparent: &str) -> String {
    let request = process
        .http
        .post(format!("{}/voice?to=%2B15551234567&{query}", process.url))
        .bearer_auth(KEY)
        .header("traceparent", traceparent)
        .header("content-type", "audio/mpeg")
        .body(sample());
    let note: Value = request.send().await.expect("an answer").json().await.expect("a note");
    note["id"].as_str().expect("an id").to_owned()
}

fn hex(id: &[u8]) -> String {
    hex::encode(id)
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let value = span.attributes.iter().find(|each| each.key == name)?.value.clone()?.value?;
    Some(match value {
        AnyValue::StringValue(text) => text,
        AnyValue::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

#[tokio::test]
async fn every_step_of_a_note_is_a_span_in_the_trace_of_its_request() {
    let (world, url) = World::start().await;
    let process = Process::with(|config| configure(config, &url, &url)).await;
    let id = send(&process, "", &format!("00-{TRACE}-{CALLER}-01")).await;
    process.until_status(&id, "accepted").await;
    let webhook = world.until(&process, "webhook", 1).await.remove(0);
    world.until(&process, "attempt", 1).await;
    world.until(&process, "accept", 1).await;

    let spans = world.spans();
    let mut named: BTreeMap<&str, &Span> = BTreeMap::new();
    for span in &spans {
        assert!(named.insert(&span.name, span).is_none(), "{} is there twice", span.name);
        assert_eq!(hex(&span.trace_id), TRACE, "{}", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert_eq!(attribute(span, "error.type"), None, "{span:?}");
    }
    let names: Vec<&str> = named.keys().copied().collect();
    assert_eq!(names, ["accept", "attempt", "dispatch", "prepare", "queue wait", "render", "webhook"]);
    let parent = |name: &str| hex(&named[name].parent_span_id);
    let id_of = |name: &str| hex(&named[name].span_id);
    assert_eq!(parent("accept"), CALLER);
    for child in ["queue wait", "attempt", "webhook"] {
        assert_eq!(parent(child), id_of("accept"), "{child}");
    }
    for child in ["render", "prepare", "dispatch"] {
        assert_eq!(parent(child), id_of("attempt"), "{child}");
    }
    let begun = |name: &str| named[name].start_time_unix_nano;
    for (first, second) in [
        ("accept", "queue wait"),
        ("queue wait", "attempt"),
        ("attempt", "render"),
        ("render", "prepare"),
        ("prepare", "dispatch"),
        ("dispatch", "webhook"),
    ] {
        // The time at which a note is due is stored in milliseconds.
        assert!(begun(first) <= begun(second) + 1_000_000, "{first} begins before {second}");
    }
    for name in ["accept", "queue wait", "attempt", "webhook"] {
        assert_eq!(attribute(named[name], "note.id").as_deref(), Some(&*id), "{name}");
        assert_eq!(attribute(named[name], "connection").as_deref(), Some("imessage"), "{name}");
    }

    // The event leads on to the trace, in its header and in its body.
    let (header, event) = world.events.lock().expect("a plain list").remove(0);
    assert_eq!(header, format!("00-{TRACE}-{}-01", hex(&webhook.span_id)));
    assert_eq!(event["traceparent"], json!(format!("00-{TRACE}-{}-01", id_of("accept"))));
    let all = format!("{spans:?}");
    for secret in ["15551234567", KEY, "sandbox-linq-token", "127.0.0.1"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[tokio::test]
async fn a_note_that_is_sent_after_a_crash_belongs_to_its_trace() {
    let (world, url) = World::start().await;
    let mut process = Process::with(|config| configure(config, &url, &url)).await;
    let refused =
        FaultAction::Status { status: 401, body: None, headers: BTreeMap::new(), retry_after: None };
    process.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, refused));
    #[expect(clippy::disallowed_methods, reason = "the process has the machine's time")]
    let soon = jiff::Timestamp::now() + Duration::from_secs(6);
    let id = send(&process, &format!("send_at={soon}"), &format!("00-{TRACE}-{CALLER}-01")).await;
    let accept = world.until(&process, "accept", 1).await.remove(0);
    process.kill();
    process.launch().await;
    process
        .eventually("an attempt", async || {
            let note = process.note(&id).await;
            (note["attempts"].as_array().is_some_and(|tries| !tries.is_empty())).then_some(())
        })
        .await;
    let attempt = world.until(&process, "attempt", 1).await.remove(0);
    assert_eq!((hex(&attempt.trace_id), &attempt.parent_span_id), (TRACE.to_owned(), &accept.span_id));
    // The attempt failed, and its span says why.
    assert_eq!(attempt.status.as_ref().map(|status| status.code), Some(SpanStatus::Error as i32));
    assert_eq!(attribute(&attempt, "error.type").as_deref(), Some("provider_unauthorized"));
    // The time in the queue begins when the note was due, and not when it was accepted.
    let waited = world.until(&process, "queue wait", 1).await.remove(0);
    let due = u64::try_from(soon.as_nanosecond()).expect("after 1970");
    assert!(waited.start_time_unix_nano.abs_diff(due) < 2_000_000, "{waited:?}");
}

#[tokio::test]
async fn a_caller_who_does_not_sample_gets_no_spans_and_his_traceparent_back() {
    let (world, url) = World::start().await;
    let process = Process::with(|config| configure(config, &url, &url)).await;
    let quiet = send(&process, "", &format!("00-{TRACE}-{CALLER}-00")).await;
    process.until_status(&quiet, "accepted").await;
    // A malformed value is no value: the note gets a trace of its own.
    let own = send(&process, "", "00-nonsense").await;
    process.until_status(&own, "accepted").await;
    world.until(&process, "webhook", 1).await;
    let spans = world.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE), "{spans:?}");
    let accept = spans.iter().find(|span| span.name == "accept").expect("a span");
    assert!(accept.parent_span_id.is_empty());
    let events = world.events.lock().expect("a plain list").clone();
    let (header, _) = events.iter().find(|(_, event)| event["data"]["id"] == json!(quiet)).expect("an event");
    assert!(header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-00"), "{header}");
}

#[tokio::test]
async fn a_dead_collector_costs_nothing_and_is_logged_once() {
    let (world, url) = World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let mut process = Process::with(|config| configure(config, &url, &nobody)).await;
    for _ in 0..3 {
        let id = send(&process, "", &format!("00-{TRACE}-{CALLER}-01")).await;
        process.until_status(&id, "accepted").await;
        // Spans are sent every two seconds.
        tokio::time::sleep(Duration::from_millis(2100)).await;
    }
    let told = process.logged().matches("the collector of telemetry.otlp took no spans").count();
    assert_eq!(told, 1, "{}", process.logged());
    assert!(world.spans().is_empty());
    // The end does not wait for it.
    let begun = Instant::now();
    process.signal("-TERM");
    assert_eq!(process.exit_code().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
