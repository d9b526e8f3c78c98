//! A provider's own OpenAPI file, and what an adapter sends held against it. The files are not ours to publish:
//! `PROVIDER_SPECS` names the folder that has them. `fixtures/<provider>/spec-corrections.json` lists where a file is wrong,
//! each with its source.

use std::{env, fs, path::Path};

use serde_json::{Map, Value, json};
use voicegate_providers::Descriptor;

use crate::{fixture, run, stub::Recorded};

/// The file with its corrections applied.
pub struct Spec(pub Value);

impl Spec {
    /// `None` where there is nothing to compare with.
    pub fn load(provider: &str, file: &str) -> Option<Self> {
        let Some(folder) = env::var_os("PROVIDER_SPECS") else {
            println!("skipped: PROVIDER_SPECS names no folder with {file}");
            return None;
        };
        let text = fs::read_to_string(Path::new(&folder).join(file)).expect(file);
        // JSON is YAML, too; its own reader is faster.
        let spec = if file.ends_with(".json") {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        } else {
            serde_yaml_ng::from_str(&text).map_err(|error| error.to_string())
        };
        let mut spec: Value = spec.expect("an OpenAPI file");
        let corrections =
            fs::read(fixture::folder(provider).join("spec-corrections.json")).expect("corrections");
        for correction in serde_json::from_slice::<Vec<Value>>(&corrections).expect("a list of corrections") {
            correct(&mut spec, &correction);
        }
        nullable(&mut spec);
        Some(Self(spec))
    }

    /// Unknown fields are legal JSON Schema and would be ignored by the server: a misspelt name must not pass. For files
    /// that compose no schemas of several.
    #[allow(dead_code, reason = "each test file uses its part")]
    pub fn closed(mut self) -> Self {
        close(&mut self.0);
        self
    }

    /// The operation that a request calls: method, then path with its parameters filled in.
    pub fn operation(&self, method: &str, target: &str) -> Option<&Value> {
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

    /// Lists the faults of a value. Fields that the schema does not name are faults.
    pub fn strict_errors(&self, schema: &Value, value: &Value) -> Vec<String> {
        self.errors(&json!({"allOf": [schema], "unevaluatedProperties": false}), value)
    }

    pub fn errors(&self, schema: &Value, value: &Value) -> Vec<String> {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": [schema],
            "components": self.0["components"],
        });
        let validator =
            jsonschema::options().should_validate_formats(true).build(&document).expect("a schema");
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    #[allow(dead_code, reason = "each test file uses its part")]
    /// Differences between a request and the file: its path, its query, its body.
    pub fn request_errors(&self, request: &Recorded) -> Vec<String> {
        let Some(operation) = self.operation(&request.method, &request.target) else {
            return vec!["no such operation".to_owned()];
        };
        let mut errors = Vec::new();
        let url = url::Url::parse("http://stub").and_then(|base| base.join(&request.target)).expect("a URL");
        for (name, value) in url.query_pairs() {
            errors.extend(self.parameter_errors(operation, "query", &name, &value));
        }
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        match (schema, serde_json::from_slice::<Value>(&request.body)) {
            (Value::Null, Ok(_)) => errors.push("a body where none belongs".to_owned()),
            (Value::Null, Err(_)) => {}
            (_, Err(_)) => errors.push("no JSON body".to_owned()),
            (schema, Ok(body)) => {
                errors.extend(self.strict_errors(schema, &body));
            }
        }
        errors
    }

    #[allow(dead_code, reason = "each test file uses its part")]
    pub fn parameter_errors(&self, operation: &Value, place: &str, name: &str, value: &str) -> Vec<String> {
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is = |parameter: &&Value| {
            parameter["in"] == place
                && parameter["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name))
        };
        let Some(parameter) = parameters.iter().find(is) else {
            return vec![format!("no {place} parameter {name}")];
        };
        let schema = &parameter["schema"];
        let value = if schema["type"] == "integer" { json!(value.parse::<i64>().ok()) } else { json!(value) };
        self.errors(schema, &value)
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

/// OpenAPI 3.1 has no `nullable` any more, so a validator ignores it; files still use it and mean it.
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

fn close(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Object(map) => {
            map.values_mut().for_each(close);
            if map.get("type") == Some(&json!("object"))
                && map.get("properties").is_some_and(Value::is_object)
            {
                map.entry("additionalProperties").or_insert(json!(false));
            }
        }
        _ => {}
    }
}

/// Requests of the adapter in every fixture with a good end, with the fixture's name.
#[allow(dead_code, reason = "each test file uses its part")]
pub async fn requests(descriptor: &Descriptor) -> Vec<(String, Vec<Recorded>)> {
    let mut sent = Vec::new();
    let accepted = |fixture: &fixture::Fixture| fixture.expected.is_none();
    for fixture in fixture::load_all(descriptor.name, "send").into_iter().filter(accepted) {
        let attempt = run::attempt(descriptor, &fixture, run::LONG, run::Gone::Never).await;
        assert!(attempt.result.is_ok(), "{}: {:?}", fixture.name, attempt.result);
        sent.push((fixture.name, attempt.requests));
    }
    for ask in run::Ask::ALL {
        for fixture in fixture::load_all(descriptor.name, ask.folder()).into_iter().filter(accepted) {
            let checked = run::ask(ask, descriptor, &fixture, run::LONG, false).await;
            assert!(checked.result.is_ok(), "{}: {:?}", fixture.name, checked.result);
            sent.push((fixture.name, checked.requests));
        }
    }
    sent
}
