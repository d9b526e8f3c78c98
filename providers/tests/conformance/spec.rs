//! A provider's own OpenAPI file, with which requests and recorded answers are compared. The files are not ours to
//! publish: `PROVIDER_SPECS` names the folder that has them.

use std::{env, fs, path::Path};

use serde_json::{Map, Value, json};

use crate::fixture;

/// The file with `fixtures/<provider>/spec-corrections.json` applied.
pub struct Spec(pub Value);

impl Spec {
    /// `None` where `PROVIDER_SPECS` names no folder: then there is nothing to compare with.
    pub fn load(provider: &str, file: &str) -> Option<Self> {
        let Some(folder) = env::var_os("PROVIDER_SPECS") else {
            println!("skipped: PROVIDER_SPECS names no folder with {file}");
            return None;
        };
        let text = fs::read_to_string(Path::new(&folder).join(file)).expect("the OpenAPI file");
        // JSON is YAML, too, but its own parser is a hundred times faster.
        let mut spec: Value = if file.ends_with(".json") {
            serde_json::from_str(&text).expect("JSON")
        } else {
            serde_yaml_ng::from_str(&text).expect("YAML")
        };
        let corrections =
            fs::read(fixture::folder(provider).join("spec-corrections.json")).expect("corrections");
        for correction in serde_json::from_slice::<Vec<Value>>(&corrections).expect("a list of corrections") {
            correct(&mut spec, &correction);
        }
        nullable(&mut spec);
        Some(Self(spec))
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

    /// What is wrong with a value. Unknown fields are legal JSON Schema, and the provider would ignore them or refuse: a
    /// misspelt name must not pass.
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
