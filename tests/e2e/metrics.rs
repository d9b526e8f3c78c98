//! `/metrics`: valid, correct, and without personal data.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::StatusCode;
use serde_json::json;
use voicegate::{model::clock::Clock, telemetry::metrics::names::ALL};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    bot::Bot,
    harness::{KEY, PHONE, World, fixture, read},
};

/// The samples by series, in the notation `name{labels}`.
type Samples = BTreeMap<String, f64>;

async fn scrape(world: &World) -> Samples {
    let answer = world.http.get(format!("{}/metrics", world.url)).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.headers()["content-type"], kind);
    parse(&body(answer).await)
}

pub async fn body(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.expect("a chunk") {
        bytes.extend(chunk);
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// Parses OpenMetrics text strictly by its grammar.
/// <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md#abnf>
fn parse(text: &str) -> Samples {
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "the end");
    let mut samples = Samples::new();
    let mut families = BTreeSet::new();
    let mut family: Option<(&str, &str)> = None;
    let mut unit = None;
    for line in text.lines().take_while(|line| *line != "# EOF") {
        if let Some(about) = line.strip_prefix("# ") {
            let mut words = about.splitn(3, ' ');
            let (word, name, value) =
                (words.next(), words.next().expect("a name"), words.next().expect("more"));
            match word {
                Some("HELP") => {
                    assert!(families.insert(name), "{name} comes twice");
                    (family, unit) = (Some((name, "")), None);
                }
                Some("TYPE") => {
                    assert!(["counter", "gauge", "histogram"].contains(&value), "{line}");
                    family = Some((name, value));
                }
                Some("UNIT") => unit = Some((name, value)),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        // An empty set of labels may be written in two ways.
        let series = series.strip_suffix("{}").unwrap_or(series);
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let (family, kind) = family.expect("what it is comes first");
        let end = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} below {family}"));
        let ends: &[&str] = match kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => panic!("{line} has no type"),
        };
        assert!(ends.contains(&end), "{line} is no {kind}");
        if let Some((of, unit)) = unit {
            assert!(of == family && family.ends_with(&format!("_{unit}")), "{line}: {unit}");
        }
        assert!(value >= 0.0, "{line}");
        let labels = labels.strip_suffix('}').expect("the end of the labels");
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once('=').expect("a label");
            let sound = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(sound && value.len() > 1 && value.starts_with('"') && value.ends_with('"'), "{line}");
        }
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} is there twice");
    }
    buckets_rise(&samples);
    samples
}

/// Each bucket includes the ones below it, and the last one includes all samples.
fn buckets_rise(samples: &Samples) {
    let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (series, count) in samples.iter().filter(|(series, _)| series.contains("_bucket{")) {
        let (before, end) = series.split_once("le=\"").expect("an end");
        let (end, after) = end.split_once('"').expect("a quote");
        let end = if end == "+Inf" { f64::INFINITY } else { end.parse().expect("a number") };
        let series =
            format!("{before}{}", after.trim_start_matches(',')).replace(",}", "}").replace("{}", "");
        buckets.entry(series.replace("_bucket", "_count")).or_default().push((end, *count));
    }
    for (series, mut ends) in buckets {
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(ends.is_sorted_by(|a, b| a.1 <= b.1), "{series}: {ends:?}");
        assert_eq!(ends.last().map(|last| last.1), samples.get(&series).copied(), "{series}");
    }
}

fn value(samples: &Samples, series: &str) -> f64 {
    samples.get(series).copied().unwrap_or_default()
}

#[tokio::test]
async fn metrics_count_the_events_of_a_note() {
    let world = World::start().await;
    let before = scrape(&world).await;
    let limited = FaultAction::RateLimit { retry_after: 60 };
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, limited));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.to_next_attempt(&id, 1).await;
    world.until_status(&id, "accepted").await;
    let after = scrape(&world).await;
    let grown = |series: &str| value(&after, series) - value(&before, series);
    let of = |rest: &str| format!("{{tenant=\"a\",connection=\"imessage\"{rest}}}");
    for (name, rest, wanted) in [
        ("voicegate_notes_total", ",status=\"queued\"", 1.0),
        ("voicegate_notes_total", ",status=\"accepted\"", 1.0),
        ("voicegate_note_errors_total", ",code=\"rate_limited\",stage=\"dispatch\"", 0.0),
        ("voicegate_attempts_total", ",provider=\"linq\",outcome=\"deferred\"", 1.0),
        ("voicegate_attempts_total", ",provider=\"linq\",outcome=\"accepted\"", 1.0),
        ("voicegate_connection_pauses_total", "", 1.0),
        ("voicegate_note_accepted_seconds_count", "", 1.0),
    ] {
        let series = format!("{name}{}", of(rest));
        assert_eq!(grown(&series), wanted, "{series} in {after:#?}");
    }
    // The clock was advanced by at least the pause that the provider asked for.
    assert!(grown(&format!("voicegate_note_accepted_seconds_sum{}", of(""))) >= 60.0);
    assert!(grown("voicegate_audio_decoded_total{way=\"in_process\"}") >= 1.0);
    assert_eq!(grown("voicegate_http_requests_total{method=\"POST\",route=\"/voice\",status=\"2xx\"}"), 1.0);
    assert!(grown("voicegate_cache_lookups_total{cache=\"recipients\",result=\"miss\"}") >= 1.0);
    assert!(grown("voicegate_database_batch_changes_count") >= 3.0);
    assert_eq!(value(&after, "voicegate_database_up"), 1.0);
    // The series exists before the first event, so that the first event is an increase.
    assert!(
        before.contains_key(&format!(
            "voicegate_attempts_total{}",
            of(",provider=\"linq\",outcome=\"unknown\"")
        ))
    );
}

#[tokio::test]
async fn metrics_show_the_queue_and_the_health_of_connections() {
    let world = World::start().await;
    let locked = FaultAction::Status { status: 401, body: None, headers: BTreeMap::new(), retry_after: None };
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Chats, locked));
    let later = world.clock.now() + Duration::from_secs(3600);
    world.accept(&format!("via=whatsapp&send_at={later}"), fixture("speech-24k.mp3")).await;
    let failed = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&failed, "failed").await;
    let samples = scrape(&world).await;
    let scheduled = "voicegate_queue_notes{tenant=\"a\",connection=\"whatsapp\",state=\"scheduled\"}";
    assert_eq!(value(&samples, scheduled), 1.0, "{samples:#?}");
    let oldest = "voicegate_queue_oldest_seconds{tenant=\"a\",connection=\"whatsapp\"}";
    assert!(!samples.contains_key(oldest), "what is not due is not late");
    assert_eq!(value(&samples, "voicegate_connection_failing{tenant=\"a\",connection=\"imessage\"}"), 1.0);
    let errors =
        "voicegate_note_errors_total{tenant=\"a\",connection=\"imessage\",code=\"provider_unauthorized\"";
    assert!(
        samples.iter().any(|(series, count)| series.starts_with(errors) && *count >= 1.0),
        "{samples:#?}"
    );
}

/// Every series must be in the list of metrics, and no label may identify a person.
#[tokio::test]
async fn every_series_is_documented_and_has_no_personal_data() {
    let world = World::start().await;
    for via in ["imessage", "whatsapp"] {
        let id = world.accept(&format!("via={via}"), fixture("speech-24k.mp3")).await;
        world.until_status(&id, "accepted").await;
        world.get(&format!("/voice/{id}")).send().await.expect("an answer");
    }
    let digits = PHONE.trim_start_matches('+');
    let path = format!("/voice/{digits}");
    world.get(&path).header("x-request-id", PHONE).send().await.expect("an answer");
    world.get(&format!("/nowhere/{digits}")).send().await.expect("an answer");
    let samples = scrape(&world).await;
    for series in samples.keys() {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let about = ALL
            .iter()
            .map(|metric| metric.about())
            .find(|about| about.query_names().iter().any(|n| n == name));
        let about = about.unwrap_or_else(|| panic!("{series} is not in the list"));
        for label in labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name) {
            assert!(about.query_labels().any(|known| known == label), "{series}");
        }
        for secret in [digits, "vn_", "://", KEY] {
            assert!(!series.contains(secret), "{series}");
        }
    }
    #[cfg(target_os = "linux")]
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_threads", "process_max_fds"] {
        assert!(value(&samples, name) > 0.0, "{name}");
    }
    let started = value(&samples, "process_start_time_seconds");
    #[cfg(target_os = "linux")]
    #[expect(clippy::disallowed_methods, reason = "the process lives in real time")]
    {
        let age = jiff::Timestamp::now().as_second() as f64 - started;
        assert!((-2.0..3600.0).contains(&age), "{age}");
    }
}

#[tokio::test]
async fn metrics_require_the_token_if_one_is_set() {
    let world =
        World::with(|config| config.replace("[server]", "[server]\nmetrics_token = \"S3CRET-token\"")).await;
    let url = format!("{}/metrics", world.url);
    for wrong in [None, Some("other"), Some(KEY)] {
        let request = world.http.get(&url);
        let request = wrong.iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        let (status, problem) = read(answer).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("unauthorized")));
    }
    let right = world.http.get(&url).bearer_auth("S3CRET-token").send().await.expect("an answer");
    assert_eq!(right.status(), StatusCode::OK);
    let (status, _) = read(
        world
            .http
            .get(format!("{}/connections", world.url))
            .bearer_auth("S3CRET-token")
            .send()
            .await
            .expect("an answer"),
    )
    .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "it opens nothing else");
}

#[tokio::test]
async fn callbacks_and_webhook_deliveries_are_counted() {
    let bot = Bot::start().await;
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let webhook = format!("[tenants.a.webhook]\nurl = \"{}\"\nsecrets = [\"{secret}\"]\n", bot.url);
    let world = World::with(|config| config + &webhook).await;
    let before = scrape(&world).await;
    // No callbacks are configured here.
    let url = format!("{}/callbacks/a/imessage", world.url);
    assert_eq!(world.http.post(&url).send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    let nobodys = world.http.post(format!("{url}-{}", PHONE.trim_start_matches('+'))).send().await;
    assert_eq!(nobodys.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    bot.answer(&[500]);
    world.accept("", fixture("speech-24k.mp3")).await;
    bot.told(1).await;
    // The delivery is retried only after the first one was counted.
    world.pass_until_told(&bot, 2).await;
    let after = scrape(&world).await;
    let callbacks =
        "voicegate_callbacks_total{tenant=\"a\",connection=\"imessage\",verdict=\"not_configured\"}";
    for series in [callbacks, "voicegate_event_deliveries_total{tenant=\"a\",outcome=\"failed\"}"] {
        assert_eq!(value(&after, series) - value(&before, series), 1.0, "{series} in {after:#?}");
    }
    assert!(!after.keys().any(|series| series.contains("imessage-")), "a path that anybody can make up");
}
