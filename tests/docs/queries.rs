//! The dashboard and the alerts in `ops` ask for metrics and labels that there are.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use voicegate::{docs, telemetry::metrics::names::ALL};

/// Added to every series by Prometheus itself.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

const FUNCTIONS: [&str; 14] = [
    "absent",
    "avg_over_time",
    "changes",
    "count",
    "deriv",
    "histogram_quantile",
    "increase",
    "label_values",
    "max",
    "min",
    "predict_linear",
    "rate",
    "sum",
    "vector",
];

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

fn alerts() -> Vec<Value> {
    let file: Value = serde_yaml_ng::from_str(&file("ops/prometheus/alerts.yml")).expect("YAML");
    let groups = file["groups"].as_array().expect("groups");
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

/// Every query of the dashboard, with its place.
fn dashboard() -> Vec<(String, String)> {
    let file: Value = serde_json::from_str(&file("ops/grafana/voicegate.json")).expect("JSON");
    let mut queries = Vec::new();
    for panel in file["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((panel["title"].to_string(), target["expr"].as_str().expect("a query").to_owned()));
        }
    }
    for variable in file["templating"]["list"].as_array().expect("variables") {
        if let Some(query) = variable["definition"].as_str() {
            queries.push((variable["name"].to_string(), query.to_owned()));
        }
    }
    for annotation in file["annotations"]["list"].as_array().expect("annotations") {
        queries
            .push((annotation["name"].to_string(), annotation["expr"].as_str().expect("a query").to_owned()));
    }
    queries
}

/// What a query names: metrics with the labels that choose among their series, and labels that group.
#[derive(Debug, Default, PartialEq)]
struct Named {
    metrics: Vec<(String, Vec<String>)>,
    grouped: Vec<String>,
}

/// Words and signs of a query; what is in quotes or brackets is left out.
fn words(query: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut letters = query.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => assert!(letters.any(|letter| letter == '"'), "{query}: an open quote"),
            '[' => assert!(letters.any(|letter| letter == ']'), "{query}: an open bracket"),
            letter if letter.is_ascii_alphanumeric() || "_:.$".contains(letter) => {
                let mut word = letter.to_string();
                while let Some(more) =
                    letters.next_if(|more| more.is_ascii_alphanumeric() || "_:.".contains(*more))
                {
                    word.push(more);
                }
                words.push(word);
            }
            letter if letter.is_whitespace() => {}
            sign => words.push(sign.to_string()),
        }
    }
    words
}

fn named(query: &str) -> Named {
    let words = words(query);
    let mut named = Named::default();
    let mut words = words.iter().map(String::as_str).peekable();
    let is_name = |word: &str| word.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    while let Some(word) = words.next() {
        match word {
            "{" => {
                let inside: Vec<_> = words.by_ref().take_while(|word| *word != "}").collect();
                let labels = inside.into_iter().filter(|word| is_name(word)).map(str::to_owned);
                named
                    .metrics
                    .last_mut()
                    .unwrap_or_else(|| panic!("{query}: labels of nothing"))
                    .1
                    .extend(labels);
            }
            "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" => {
                assert_eq!(words.next(), Some("("), "{query}: {word}");
                let inside = words.by_ref().take_while(|word| *word != ")");
                named.grouped.extend(inside.filter(|word| is_name(word)).map(str::to_owned));
            }
            "label_values" => {
                // label_values(METRIC{...}, LABEL) is Grafana's own.
                let last = words.clone().rfind(|word| is_name(word)).expect("a label").to_owned();
                let inside: Vec<&str> = words.by_ref().collect();
                let comma = inside.iter().rposition(|word| *word == ",").expect("two arguments");
                let mut of = self::named(&inside[1..comma].join(" "));
                named.metrics.append(&mut of.metrics);
                named.grouped.push(last);
            }
            "and" | "or" | "unless" | "bool" => {}
            word if !is_name(word) => {}
            word if words.peek() == Some(&"(") || FUNCTIONS.contains(&word) => {
                assert!(FUNCTIONS.contains(&word), "{query}: {word} is no function that is used here");
            }
            metric => named.metrics.push((metric.to_owned(), Vec::new())),
        }
    }
    named
}

fn check(place: &str, query: &str) {
    let named = named(query);
    assert!(!named.metrics.is_empty(), "{place}: {query} asks for nothing");
    let mut known = BTreeSet::from(OF_PROMETHEUS);
    for (metric, labels) in &named.metrics {
        let about = ALL.iter().map(|each| each.about()).find(|about| about.query_names().contains(metric));
        let about = about.unwrap_or_else(|| panic!("{place}: there is no metric {metric}"));
        let own: BTreeSet<_> = about.query_labels().chain(OF_PROMETHEUS).collect();
        for label in labels {
            assert!(own.contains(label.as_str()), "{place}: {metric} has no label {label}");
        }
        known.extend(own);
    }
    for label in &named.grouped {
        assert!(known.contains(label.as_str()), "{place}: nothing in {query} has a label {label}");
    }
    for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
        assert_eq!(query.matches(open).count(), query.matches(close).count(), "{place}: {query}");
    }
}

#[test]
fn the_alerts_ask_for_what_there_is_and_say_what_to_do() {
    let alerts = alerts();
    assert!(alerts.len() > 10);
    let operations = docs::page("operations").expect("the page");
    let mut names = BTreeSet::new();
    for alert in &alerts {
        let name = alert["alert"].as_str().expect("a name");
        assert!(names.insert(name), "{name} is there twice");
        check(name, alert["expr"].as_str().expect("a query"));
        assert!(matches!(alert["labels"]["severity"].as_str(), Some("page" | "ticket")), "{name}");
        let text = |key: &str| alert["annotations"][key].as_str().unwrap_or_else(|| panic!("{name}: {key}"));
        assert!(text("description").len() > 60 && text("summary").len() > 10, "{name}");
        let section = text("runbook").strip_prefix("docs/operations.md#").expect("a section of the page");
        assert!(operations.contains(&format!("id=\"{section}\"")), "{name}: there is no section {section}");
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let queries = dashboard();
    assert!(queries.len() > 20);
    for (place, query) in &queries {
        check(place, query);
    }
    // Nothing that can be seen is left out of sight.
    let shown: BTreeSet<String> =
        queries.iter().flat_map(|(_, query)| named(query).metrics).map(|(metric, _)| metric).collect();
    let told: String = alerts().iter().map(|alert| alert["expr"].to_string()).collect();
    for about in ALL.iter().map(|metric| metric.about()).filter(|about| about.name.starts_with("voicegate_"))
    {
        let seen = about.query_names().iter().any(|name| shown.contains(name) || told.contains(name));
        assert!(seen || about.name == "voicegate_stopping", "{} is on no panel and in no alert", about.name);
    }
}

#[test]
fn queries_are_read_as_prometheus_reads_them() {
    let query =
        "sum by (tenant, le) (rate(m_bucket{status=~\"a|b\", route!=\"/x{y}\"}[5m])) > on (job) 0.5 * n";
    let metrics = vec![
        ("m_bucket".to_owned(), vec!["status".to_owned(), "route".to_owned()]),
        ("n".to_owned(), Vec::new()),
    ];
    let grouped = ["tenant", "le", "job"].map(str::to_owned).to_vec();
    assert_eq!(named(query), Named { metrics, grouped });
    let metrics = vec![("m".to_owned(), vec!["tenant".to_owned()])];
    let query = "label_values(m{tenant=~\"$tenant\"}, connection)";
    assert_eq!(named(query), Named { metrics, grouped: vec!["connection".to_owned()] });
}
