//! Holds what the Linq adapter sends, and what its fixtures answer, against Linq's own OpenAPI file,
//! `linq.openapi.yaml` (<https://cdn.linqapp.com/openapi/linq-api-v3.yaml>).

use crate::{callback, fixture, openapi, run};
use std::collections::BTreeSet;

use crate::openapi::Spec;
use crate::stub::Recorded;
use serde_json::Value;

const PROVIDER: &str = "linq";

fn load() -> Option<Spec> {
    Spec::load(PROVIDER, "linq.openapi.yaml")
}

#[tokio::test]
async fn every_request_fits_the_openapi_file() {
    let Some(spec) = load() else { return };
    let descriptor = voicegate_providers::find(PROVIDER).expect("a registered adapter");
    let mut checked = 0;
    for (name, requests) in openapi::requests(descriptor).await {
        // Uploads go to storage, which the file does not describe.
        for request in requests.iter().filter(|request| request.method != "PUT") {
            let errors = request_errors(&spec, request);
            assert!(errors.is_empty(), "{name}: {} {}: {errors:#?}", request.method, request.target);
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} requests");
}

fn request_errors(spec: &Spec, request: &Recorded) -> Vec<String> {
    let mut errors = spec.request_errors(request);
    if let Some((name, value)) = request.headers.iter().find(|(name, _)| name == "idempotency-key") {
        let operation = spec.operation(&request.method, &request.target).unwrap_or(&Value::Null);
        errors.extend(spec.parameter_errors(operation, "header", name, value));
    }
    let body: Option<Value> = serde_json::from_slice(&request.body).ok();
    // Overriding an opt-out is a decision that no gateway may take.
    let overrides = body.is_some_and(|body| body.get("override_optout").is_some());
    errors.extend(overrides.then(|| "override_optout is sent".to_owned()));
    errors
}

#[test]
fn every_successful_answer_in_the_fixtures_fits_the_openapi_file() {
    let Some(spec) = load() else { return };
    // Those answer what Linq would not, on purpose.
    let sound = |fixture: &fixture::Fixture| {
        !fixture.name.starts_with("unexpected") && fixture.name != "misconfigured.other_server"
    };
    let folders = run::Ask::ALL.into_iter().map(run::Ask::folder).chain(["send"]);
    let fixtures = folders.flat_map(|what| fixture::load_all(PROVIDER, what));
    for fixture in fixtures.filter(sound) {
        for exchange in fixture.script.iter().filter(|exchange| exchange.method != "PUT") {
            let fixture::Answer::Whole { head, body } = &exchange.answer else { continue };
            let status = head[0].split(' ').nth(1).unwrap_or_default();
            if !status.starts_with('2') {
                continue;
            }
            let place = format!("{}: {} {}", fixture.name, exchange.method, exchange.target);
            let operation = spec.operation(&exchange.method, &exchange.target).expect("an operation");
            let described = &operation["responses"][status];
            if status == "204" && described.is_object() {
                assert_eq!(body, "", "{place}");
                continue;
            }
            let schema = &described["content"]["application/json"]["schema"];
            assert!(!schema.is_null(), "{place}: the file has no {status}");
            let body = body
                .replace("{{base}}", "https://uploads.example")
                .replace("{{elsewhere}}", "https://e.example");
            let errors = spec.errors(schema, &serde_json::from_str(&body).expect("JSON"));
            assert!(errors.is_empty(), "{place}: {errors:#?}");
        }
    }
}

#[test]
fn every_callback_in_the_fixtures_fits_the_openapi_file() {
    let Some(spec) = load() else { return };
    let mut checked = BTreeSet::new();
    for fixture in callback::load_all(PROVIDER).into_iter().filter(callback::Fixture::is_genuine) {
        let body: Value = serde_json::from_str(&fixture.body).expect("JSON");
        let event = body["event_type"].as_str().expect("a type");
        let version = body["webhook_version"].as_str().expect("a version");
        let described = &spec.0["webhooks"][format!("{event}.v{version}")]["post"]["requestBody"];
        let schema = &described["content"]["application/json"]["schema"];
        if schema.is_null() {
            assert_eq!(fixture.name, "none.unknown_event", "{event} of {version} is not in the file");
            continue;
        }
        let errors = spec.errors(schema, &body);
        assert!(errors.is_empty(), "{}: {errors:#?}", fixture.name);
        checked.insert((event.to_owned(), version.to_owned()));
    }
    assert!(checked.len() >= 7, "only {checked:?}");
}
