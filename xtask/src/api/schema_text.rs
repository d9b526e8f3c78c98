//! Describes schemas in words.

use std::fmt::Write as _;

use utoipa::openapi::{
    Object, Ref, RefOr, Schema, Type,
    schema::{AdditionalProperties, ArrayItems, SchemaType},
};

/// The type of a schema in a word or two.
pub fn kind(schema: &RefOr<Schema>) -> String {
    match schema {
        RefOr::Ref(reference) => link(reference),
        RefOr::T(Schema::Object(object)) => kind_of_object(object),
        RefOr::T(Schema::Array(array)) => match &array.items {
            ArrayItems::RefOrSchema(items) => {
                format!("list of {}", kind(items)) + &nullable(&array.schema_type)
            }
            ArrayItems::False => "list".to_owned(),
        },
        RefOr::T(Schema::OneOf(choice)) => either(&choice.items),
        RefOr::T(Schema::AnyOf(choice)) => either(&choice.items),
        RefOr::T(_) => String::new(),
    }
}

fn either(items: &[RefOr<Schema>]) -> String {
    items.iter().map(kind).collect::<Vec<_>>().join(" or ")
}

fn link(reference: &Ref) -> String {
    link_to(reference.ref_location.rsplit('/').next().unwrap_or_default())
}

pub fn link_to(name: &str) -> String {
    format!("[{name}](#{})", name.to_ascii_lowercase())
}

pub fn kind_of_object(object: &Object) -> String {
    let name = |kind: &Type| match kind {
        Type::Object => "object",
        Type::String => "text",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Boolean => "true or false",
        Type::Array => "list",
        Type::Null => "null",
    };
    let format = object.format.as_ref().and_then(|format| serde_json::to_value(format).ok());
    let word = match (&object.schema_type, format.as_ref().and_then(|format| format.as_str())) {
        (SchemaType::Type(Type::Object), _)
            if object.additional_properties.as_deref().is_some_and(is_typed) =>
        {
            "object of strings".to_owned()
        }
        (_, Some("binary")) => "file".to_owned(),
        (_, Some("date-time")) => "time".to_owned(),
        (_, Some("uri")) => "URL".to_owned(),
        (_, Some("byte")) => "base64".to_owned(),
        (SchemaType::Type(kind), _) => name(kind).to_owned(),
        (SchemaType::Array(kinds), _) => {
            kinds.iter().find(|kind| **kind != Type::Null).map_or("null", |kind| name(kind)).to_owned()
        }
        (SchemaType::AnyValue, _) => "anything".to_owned(),
    };
    if let Some(words) = &object.enum_values {
        let words: Vec<String> =
            words.iter().filter_map(|word| Some(format!("`{}`", word.as_str()?))).collect();
        return words.join(", ");
    }
    word + &nullable(&object.schema_type)
}

fn is_typed(properties: &AdditionalProperties<Schema>) -> bool {
    matches!(properties, AdditionalProperties::RefOr(_))
}

fn nullable(kind: &SchemaType) -> String {
    match kind {
        SchemaType::Array(kinds) if kinds.len() > 1 && kinds.contains(&Type::Null) => " or null".to_owned(),
        _ => String::new(),
    }
}

pub fn description(schema: &RefOr<Schema>) -> String {
    let about = match schema {
        RefOr::Ref(reference) => Some(reference.description.clone()),
        RefOr::T(Schema::Object(object)) => object.description.clone(),
        RefOr::T(Schema::Array(array)) => array.description.clone(),
        RefOr::T(Schema::OneOf(choice)) => {
            let of_item = choice.items.iter().map(description).find(|about| !about.is_empty());
            choice.description.clone().or(of_item)
        }
        RefOr::T(_) => None,
    };
    about.unwrap_or_default()
}

/// Limits and the default, as sentences.
pub fn limits(schema: &RefOr<Schema>) -> String {
    let RefOr::T(Schema::Object(object)) = schema else { return String::new() };
    let mut text = String::new();
    let number = |value| serde_json::to_value(value).map_or(String::new(), |value| value.to_string());
    match (&object.minimum, &object.maximum) {
        (Some(least), Some(most)) => {
            let _ = write!(text, " From {} to {}.", number(least), number(most));
        }
        _ if object.max_length.is_some() => {
            let _ = write!(text, " At most {} characters.", object.max_length.unwrap_or_default());
        }
        _ => {}
    }
    if let Some(default) = &object.default {
        let _ = write!(text, " Default: `{default}`.");
    }
    text
}
