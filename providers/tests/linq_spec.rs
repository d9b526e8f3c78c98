//! Holds what the Linq adapter sends, and what its fixtures answer, against Linq's own OpenAPI file. The file
//! is not ours to publish: `PROVIDER_SPECS` names the folder that has it as `linq.openapi.yaml`
//! (<https://cdn.linqapp.com/openapi/linq-api-v3.yaml>). Without it there is nothing to compare with.

#[path = "conformance/callback.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod callback;
#[path = "conformance/checks.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod checks;
#[path = "conformance/fixture.rs"]
mod fixture;
#[path = "conformance/run.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod run;
#[path = "conformance/stub.rs"]
mod stub;

use std::{collections::BTreeSet, env, fs, path::Path};

use serde_json::{Map, Value, json};
use stub::Recorded;

const PROVIDER: &str = "linq";

/// The OpenAPI file with `fixtures/linq/spec-corrections.json` applied.
struct Spec(Value);

impl Spec {
    fn load() -> Option<Self> {
        let Some(folder) = env::var_os("PROVIDER_SPECS") else {
            println!("skipped: PROVIDER_SPECS names no folder with linq.openapi.yaml");
            return None;
        };
        let text =
            fs::read_to_string(Path::new(&folder).join("linq.openapi.yaml")).expect("linq.openapi.yaml");
        let mut spec: Value = serde_yaml_ng::from_str(&text).expect("YAML");
        let corrections =
            fs::read(fixture::folder(PROVIDER).join("spec-corrections.json")).expect("corrections");
        for correction in serde_json::from_slice::<Vec<Value>>(&corrections).expect("a list of corrections") {
            correct(&mut spec, &correction);
        }
        nullable(&mut spec);
        Some(Self(spec))
    }

    /// The operation that a request calls: method, then path with its parameters filled in.
    fn operation(&self, method: &str, target: &str) -> Option<&Value> {
        let path = target.split('?').next().unwrap_or_default();
        let templates = self.0["paths"].as_object()?;
        let (_, item) = templates.iter().find(|(template, _)| {
            let (template, path): (Vec<_>, Vec<_>) =
                (template.split('/').collect(), path.split('/').collect());
            template.len() == path.len()
                && template.iter().zip(&path).all(|(part, given)| part.starts_with('{') || part == given)
        })?;
        item.get(method.to_lowercase())
    }

    fn errors(&self, schema: &Value, value: &Value) -> Vec<String> {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": [schema],
            "components": self.0["components"],
        });
        let validator =
            jsonschema::options().should_validate_formats(true).build(&document).expect("a schema");
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }
}

fn correct(spec: &mut Value, correction: &Value) {
    let text = |key: &str| correction[key].as_str().unwrap_or_else(|| panic!("{key} in {correction}"));
    let (parent, name) = text("pointer").rsplit_once('/').expect("a pointer below the root");
    assert!(text("source").contains("http"), "a correction needs its source: {correction}");
    let parent = spec.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is not in the file"));
    let parent = parent.as_object_mut().expect("a pointer into an object");
    let before = parent.insert(name.to_owned(), correction["value"].clone());
    assert_ne!(before.as_ref(), Some(&correction["value"]), "the file says so itself by now: {correction}");
}

/// OpenAPI 3.1 has no `nullable` any more, so a validator ignores it; the file still uses it and means it.
fn nullable(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(nullable),
        Value::Object(map) => {
            map.values_mut().for_each(nullable);
            if map.remove("nullable") == Some(json!(true)) {
                let inner = Value::Object(std::mem::take(map));
                *map = Map::from_iter([("anyOf".to_owned(), json!([inner, {"type": "null"}]))]);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn every_request_fits_the_openapi_file() {
    let Some(spec) = Spec::load() else { return };
    let descriptor = voicegate_providers::find(PROVIDER).expect("a registered adapter");
    let mut checked = 0;
    let mut sent = Vec::new();
    let accepted = |fixture: &fixture::Fixture| fixture.expected.is_none();
    for fixture in fixture::load_all(PROVIDER, "send").into_iter().filter(accepted) {
        let attempt = run::attempt(descriptor, &fixture, run::LONG, run::Gone::Never).await;
        assert!(attempt.result.is_ok(), "{}: {:?}", fixture.name, attempt.result);
        sent.push((fixture, attempt.requests));
    }
    for ask in run::Ask::ALL {
        for fixture in fixture::load_all(PROVIDER, ask.folder()).into_iter().filter(accepted) {
            let checked = run::ask(ask, descriptor, &fixture, run::LONG, false).await;
            assert!(checked.result.is_ok(), "{}: {:?}", fixture.name, checked.result);
            sent.push((fixture, checked.requests));
        }
    }
    for (fixture, requests) in sent {
        // Uploads go to storage, which the file does not describe.
        for request in requests.iter().filter(|request| request.method != "PUT") {
            let errors = request_errors(&spec, request);
            assert!(
                errors.is_empty(),
                "{}: {} {}: {errors:#?}",
                fixture.name,
                request.method,
                request.target
            );
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} requests");
}

fn request_errors(spec: &Spec, request: &Recorded) -> Vec<String> {
    let Some(operation) = spec.operation(&request.method, &request.target) else {
        return vec!["no such operation".to_owned()];
    };
    let mut errors = Vec::new();
    let url = url::Url::parse("http://stub").and_then(|base| base.join(&request.target)).expect("a URL");
    for (name, value) in url.query_pairs() {
        errors.extend(parameter_errors(spec, operation, "query", &name, &value));
    }
    if let Some((name, value)) = request.headers.iter().find(|(name, _)| name == "idempotency-key") {
        errors.extend(parameter_errors(spec, operation, "header", name, value));
    }
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    match (schema, serde_json::from_slice::<Value>(&request.body)) {
        (Value::Null, Ok(_)) => errors.push("a body where none belongs".to_owned()),
        (Value::Null, Err(_)) => {}
        (_, Err(_)) => errors.push("no JSON body".to_owned()),
        (schema, Ok(body)) => {
            // Unknown fields are legal JSON Schema and would be ignored by Linq: a misspelt name must not
            // pass.
            let strict = json!({"allOf": [schema], "unevaluatedProperties": false});
            errors.extend(spec.errors(&strict, &body));
            // Overriding an opt-out is a decision that no gateway may take.
            errors.extend(body.get("override_optout").map(|_| "override_optout is sent".to_owned()));
        }
    }
    errors
}

fn parameter_errors(spec: &Spec, operation: &Value, place: &str, name: &str, value: &str) -> Vec<String> {
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is = |parameter: &&Value| {
        parameter["in"] == place && parameter["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name))
    };
    let Some(parameter) = parameters.iter().find(is) else {
        return vec![format!("no {place} parameter {name}")];
    };
    let schema = &parameter["schema"];
    let value = if schema["type"] == "integer" { json!(value.parse::<i64>().ok()) } else { json!(value) };
    spec.errors(schema, &value)
}

#[test]
fn every_successful_answer_in_the_fixtures_fits_the_openapi_file() {
    let Some(spec) = Spec::load() else { return };
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
            let schema = &operation["responses"][status]["content"]["application/json"]["schema"];
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
    let Some(spec) = Spec::load() else { return };
    let mut checked = BTreeSet::new();
    for fixture in callback::load_all(PROVIDER).into_iter().filter(callback::Fixture::is_genuine) {
        let body: Value = serde_json::from_str(&fixture.body()).expect("JSON");
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
