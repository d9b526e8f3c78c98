use std::collections::BTreeSet;

use super::*;

#[test]
fn every_metric_has_a_unique_name_and_a_help_text() {
    let mut names = BTreeSet::new();
    for about in ALL.iter().map(|metric| metric.about()) {
        assert!(names.insert(about.name), "{} is there twice", about.name);
        assert!(about.name.starts_with("voicegate_") || about.name.starts_with("process_"), "{}", about.name);
        assert!(about.help().len() > 10, "{}", about.name);
        assert!(!about.help().contains(['|', '\n']), "{}", about.name);
        assert_eq!(about.kind == "counter", about.name.ends_with("_total"), "{}", about.name);
    }
}

/// Tests for values that could name a person or are unbounded.
#[test]
fn no_label_can_have_many_values() {
    let bounded = [
        "cache",
        "code",
        "connection",
        "dialect",
        "direction",
        "folder",
        "kind",
        "method",
        "outcome",
        "provider",
        "purpose",
        "result",
        "route",
        "server",
        "stage",
        "state",
        "status",
        "tenant",
        "verdict",
        "version",
        "way",
    ];
    for about in ALL.iter().map(|metric| metric.about()) {
        for label in about.labels {
            assert!(bounded.contains(label), "{}: {label}", about.name);
        }
    }
}

#[test]
fn arbitrary_input_creates_no_series() {
    for index in 0..100 {
        let method = http::Method::from_bytes(format!("M{index}").as_bytes()).expect("a method");
        answered(&method, None, http::StatusCode::NOT_FOUND, Duration::ZERO);
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode_registry(&mut text, &COUNTED).expect("memory");
    let lines: Vec<_> = text.lines().filter(|line| line.contains("_http_requests_total{")).collect();
    let odd: Vec<_> = lines.iter().filter(|line| line.contains("other")).collect();
    assert_eq!(odd.len(), 1, "{lines:#?}");
    assert!(odd[0].contains("method=\"other\",route=\"other\",status=\"4xx\""), "{odd:?}");
}
