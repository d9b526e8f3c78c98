use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use super::*;

fn parsed() -> Value {
    serde_json::from_str(text()).expect("JSON")
}

/// A validator for a schema of the document.
fn validator(document: &Value, schema: &Value) -> jsonschema::Validator {
    let root = json!({ "allOf": [schema], "components": document["components"] });
    jsonschema::options().should_validate_formats(true).build(&root).expect("a schema")
}

fn each<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    visit(value);
    match value {
        Value::Object(map) => map.values().for_each(|inner| each(inner, visit)),
        Value::Array(items) => items.iter().for_each(|inner| each(inner, visit)),
        _ => {}
    }
}

#[test]
fn the_checked_in_document_is_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let checked_in = fs::read_to_string(file).unwrap_or_default();
    assert!(checked_in == text(), "docs/openapi.json is stale; run: make openapi");
}

#[test]
fn every_example_fits_its_schema() {
    let document = parsed();
    let mut seen = 0;
    each(&document, &mut |value| {
        let Some(schema) = value.get("schema") else { return };
        let examples = value.get("examples").and_then(Value::as_object);
        for (name, example) in examples.into_iter().flatten() {
            let example = match example.get("$ref").and_then(Value::as_str) {
                Some(reference) => document.pointer(&reference[1..]).expect("what is referred to"),
                None => example,
            };
            let errors: Vec<String> = validator(&document, schema)
                .iter_errors(&example["value"])
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{name}: {errors:#?}");
            seen += 1;
        }
    });
    // Descriptions of schemas, and of the parameters and headers inside them.
    each(&document, &mut |schema| {
        let Some(examples) = schema.get("examples").and_then(Value::as_array) else { return };
        for example in examples {
            assert!(validator(&document, schema).is_valid(example), "{example} in {schema}");
            seen += 1;
        }
    });
    assert!(seen > 150, "{seen}");
}

#[test]
fn every_schema_is_sound_and_every_reference_leads_somewhere() {
    let document = parsed();
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        assert!(jsonschema::meta::is_valid(schema), "{name}");
    }
    let mut used = BTreeSet::new();
    each(&document, &mut |value| {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return };
        assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        used.insert(reference.to_owned());
    });
    for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
        assert!(used.contains(&format!("#/components/schemas/{name}")), "nothing uses {name}");
    }
}

#[test]
fn every_operation_can_be_named_found_and_understood() {
    let document = parsed();
    let tags: Vec<&Value> =
        document["tags"].as_array().expect("tags").iter().map(|tag| &tag["name"]).collect();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let place = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().expect("an id")), "{place}");
            assert!(operation["summary"].is_string(), "{place}");
            assert!(tags.contains(&&operation["tags"][0]), "{place}");
            assert!(operation["security"].is_array(), "{place}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let described = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(described, "{place}: {parameter}");
            }
            for (status, response) in operation["responses"].as_object().expect("responses") {
                assert!(!response["description"].as_str().expect("text").is_empty(), "{place}: {status}");
            }
        }
    }
    assert!(ids.len() > 12);
    for (kind, item) in document["webhooks"].as_object().expect("webhooks") {
        let operation = &item["post"];
        assert!(ids.insert(operation["operationId"].as_str().expect("an id")), "{kind}");
        assert!(operation["summary"].is_string() && tags.contains(&&operation["tags"][0]), "{kind}");
    }
}

/// Every kind of event is a webhook of the document, with an example of that kind, and in the schema of its body.
#[test]
fn every_event_is_a_webhook() {
    let document = parsed();
    let kinds = document["components"]["schemas"]["EventKind"]["enum"].as_array().expect("kinds");
    let webhooks = document["webhooks"].as_object().expect("webhooks");
    let names: BTreeSet<&str> = kinds.iter().filter_map(Value::as_str).collect();
    assert_eq!(webhooks.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
    for (kind, item) in webhooks {
        let content = &item["post"]["requestBody"]["content"]["application/json"];
        assert_eq!(content["examples"]["event"]["value"]["type"], kind.as_str());
        let name =
            content["schema"]["$ref"].as_str().and_then(|name| name.rsplit('/').next()).expect("a name");
        let schemas = &document["components"]["schemas"];
        let allowed = schemas[format!("{name}Kind")]["enum"].as_array().expect("kinds");
        assert!(allowed.contains(&json!(kind)), "{kind} in {name}");
        assert_eq!(schemas[name]["required"], json!(["type", "timestamp", "data"]));
    }
}
