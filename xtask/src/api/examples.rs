//! Examples from the document, with their fields in the order of the schema.

use serde_json::Value;
use utoipa::openapi::{OpenApi, RefOr, Schema, schema::ArrayItems};

use super::{
    operations,
    schema_text::{kind, link_to},
};

/// The first example of an answer of this type, or of a list of it.
pub fn example_of(document: &OpenApi, name: &str) -> Option<Value> {
    let all = document.paths.paths.values().flat_map(operations).map(|(_, operation)| operation);
    let answers = all.flat_map(|operation| operation.responses.responses.values()).filter_map(known);
    for content in answers.filter_map(|answer| known(answer.content.get("application/json")?)) {
        let (Some(schema), Some(example)) = (&content.schema, content.examples.values().find_map(known))
        else {
            continue;
        };
        let value = example.value.as_ref()?;
        let of = kind(schema);
        if of == link_to(name) {
            // The items of a list are documented with their own type.
            return Some(value).filter(|value| value.get("items").is_none()).cloned();
        }
        if of == link_to(&format!("{name}List")) {
            return value["items"].get(0).cloned();
        }
    }
    None
}

pub fn known<T>(value: &RefOr<T>) -> Option<&T> {
    match value {
        RefOr::T(value) => Some(value),
        RefOr::Ref(_) => None,
    }
}

/// JSON with its fields in the order of the schema.
pub fn json(document: &OpenApi, value: &Value, schema: Option<&RefOr<Schema>>, depth: usize) -> String {
    let indent = "  ".repeat(depth + 1);
    let end = "  ".repeat(depth);
    let schema = schema.and_then(|schema| resolve(document, schema, value));
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let object = match schema {
                Some(Schema::Object(object)) => Some(object),
                _ => None,
            };
            let place = |name: &str| object.and_then(|object| object.properties.get_index_of(name));
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| place(name).unwrap_or(usize::MAX));
            let lines = fields.into_iter().map(|(name, value)| {
                let inner = object.and_then(|object| object.properties.get(name));
                format!("{indent}\"{name}\": {}", json(document, value, inner, depth + 1))
            });
            format!("{{\n{}\n{end}}}", lines.collect::<Vec<_>>().join(",\n"))
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let of = match schema {
                Some(Schema::Array(array)) => match &array.items {
                    ArrayItems::RefOrSchema(items) => Some(&**items),
                    ArrayItems::False => None,
                },
                _ => None,
            };
            let lines = items.iter().map(|item| format!("{indent}{}", json(document, item, of, depth + 1)));
            format!("[\n{}\n{end}]", lines.collect::<Vec<_>>().join(",\n"))
        }
        Value::Array(items) => {
            let items = items.iter().map(|item| json(document, item, None, depth));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// The schema that a value has, with references and alternatives resolved.
pub fn resolve<'a>(document: &'a OpenApi, schema: &'a RefOr<Schema>, value: &Value) -> Option<&'a Schema> {
    match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next()?;
            resolve(document, document.components.as_ref()?.schemas.get(name)?, value)
        }
        RefOr::T(Schema::OneOf(choice)) => {
            let mut all = choice.items.iter().filter_map(|item| resolve(document, item, value));
            all.find(|schema| match schema {
                Schema::Object(object) => object.required.iter().all(|name| value.get(name).is_some()),
                _ => true,
            })
        }
        RefOr::T(schema) => Some(schema),
    }
}

#[cfg(test)]
mod tests {
    use utoipa::openapi::Ref;

    use super::*;

    #[test]
    fn examples_have_their_fields_in_the_order_of_the_schema() {
        let document = voicegate::http::document();
        let value = serde_json::json!({ "audio": { "format": "openai-pcm", "url": "https://bot.example/a" }, "to": "bob" });
        let schema = RefOr::Ref(Ref::from_schema_name("VoiceRequest"));
        let text = json(&document, &value, Some(&schema), 0);
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
        let place = |name: &str| text.find(&format!("\"{name}\"")).expect("the field");
        assert!(place("to") < place("audio") && place("url") < place("format"), "{text}");
    }
}
