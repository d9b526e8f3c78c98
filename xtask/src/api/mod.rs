//! Prints the API reference: the OpenAPI document as Markdown, for people.

mod examples;
mod schema_text;

use std::fmt::Write as _;

use serde_json::Value;
use utoipa::openapi::{
    Content, Object, OpenApi, PathItem, RefOr, Response, Schema,
    path::{Operation, Parameter, ParameterIn},
    request_body::RequestBody,
    security::SecurityRequirement,
};

use self::{
    examples::{example_of, json, known, resolve},
    schema_text::{description, kind, kind_of_object, limits},
};

/// Prints every operation by its tag, then every type.
pub fn print(document: &OpenApi) -> String {
    let mut text = String::from("| Operation | |\n|---|---|\n");
    for (path, methods, operation) in all(document) {
        let title = operation.summary.as_deref().unwrap_or_default();
        let _ = writeln!(text, "| `{methods} {path}` | [{title}](#{}) |", anchor(title));
    }
    text.push('\n');
    for tag in document.tags.iter().flatten() {
        let about = tag.description.as_deref().unwrap_or_default();
        let _ = write!(text, "## {}\n\n{about}\n\n", tag.name);
        for (path, methods, operation) in all(document) {
            if operation.tags.iter().flatten().any(|name| *name == tag.name) {
                print_operation(&mut text, document, methods, path, operation);
            }
        }
        print_webhooks(&mut text, document, &tag.name);
    }
    text.push_str("## Types\n\nTypes that may be `null` are marked. All other fields of answers are always present, unless only some fields of the\ntype are marked as required.\n\n");
    for (name, schema) in document.components.iter().flat_map(|components| &components.schemas) {
        print_type(&mut text, name, schema);
        if let Some(value) = example_of(document, name) {
            let _ = write!(text, "```json\n{}\n```\n\n", json(document, &value, Some(schema), 0));
        }
    }
    text
}

fn all(document: &OpenApi) -> impl Iterator<Item = (&str, &'static str, &Operation)> {
    let paths = document.paths.paths.iter();
    paths.flat_map(|(path, item)| operations(item).map(move |(methods, each)| (path.as_str(), methods, each)))
}

/// The anchor that a heading gets.
fn anchor(title: &str) -> String {
    let word =
        |c: char| if c == ' ' { Some('-') } else { c.is_alphanumeric().then_some(c.to_ascii_lowercase()) };
    title.chars().filter_map(word).collect()
}

/// Methods and operations of a path. HEAD is documented with its GET.
fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    let get = if item.head.is_some() { "GET, HEAD" } else { "GET" };
    let all = [("POST", &item.post), (get, &item.get), ("DELETE", &item.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn print_operation(text: &mut String, document: &OpenApi, methods: &str, path: &str, operation: &Operation) {
    let _ = write!(text, "### {}\n\n", operation.summary.as_deref().unwrap_or_default());
    // The description of such an operation says that the operator may protect it with a token.
    let open = operation
        .security
        .as_ref()
        .is_some_and(|needed| needed.is_empty() || needed.contains(&SecurityRequirement::default()));
    let _ = write!(text, "`{methods} {path}`{}\n\n", if open { " · needs no key" } else { "" });
    if let Some(about) = &operation.description {
        let _ = write!(text, "{about}\n\n");
    }
    print_parameters(text, operation);
    if let Some(RefOr::T(body)) = &operation.request_body {
        print_body(text, document, body);
    }
    text.push_str("| Answer | |\n|---|---|\n");
    for (status, response) in &operation.responses.responses {
        if let RefOr::T(response) = response {
            print_response(text, status, response);
        }
    }
    text.push('\n');
    print_headers(text, operation);
}

/// Prints the webhooks of a tag, and the headers that each of them has.
fn print_webhooks(text: &mut String, document: &OpenApi, tag: &str) {
    let all = document.webhooks.iter().flat_map(|webhooks| &webhooks.paths);
    let all = all.filter_map(|(event, item)| Some((event, item.post.as_ref()?)));
    let ours: Vec<_> =
        all.filter(|(_, webhook)| webhook.tags.iter().flatten().any(|name| name == tag)).collect();
    let Some((_, first)) = ours.first() else { return };
    text.push_str("| Event | Body | |\n|---|---|---|\n");
    for (event, webhook) in &ours {
        let body = match &webhook.request_body {
            Some(RefOr::T(body)) => body.content.get("application/json").map_or(String::new(), content_kind),
            _ => String::new(),
        };
        let about =
            [webhook.summary.as_deref(), webhook.description.as_deref()].map(Option::unwrap_or_default);
        let _ = writeln!(text, "| `{event}` | {body} | {} |", cell(about.join(". ").trim_end_matches(". ")));
    }
    text.push('\n');
    print_parameters(text, first);
}

/// Prints each header of the answers once, without the three that every answer has.
fn print_headers(text: &mut String, operation: &Operation) {
    let everywhere = ["Cache-Control", "X-Content-Type-Options", "X-Request-Id"];
    let mut found: Vec<(&String, Vec<&str>, &str)> = Vec::new();
    for (status, response) in &operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        for (name, header) in response.headers.iter().filter(|(name, _)| !everywhere.contains(&name.as_str()))
        {
            let RefOr::T(header) = header else { continue };
            let about = header.description.as_deref().unwrap_or_default();
            match found.iter_mut().find(|(known, _, text)| *known == name && *text == about) {
                Some((_, statuses, _)) => statuses.push(status),
                None => found.push((name, vec![status], about)),
            }
        }
    }
    if found.is_empty() {
        return;
    }
    text.push_str("| Header | | |\n|---|---|---|\n");
    for (name, statuses, about) in found {
        let _ = writeln!(text, "| `{name}` | {} | {} |", statuses.join(", "), cell(about));
    }
    text.push('\n');
}

fn print_parameters(text: &mut String, operation: &Operation) {
    // Query parameters of an operation with a body repeat the fields of its form.
    let is_field = |each: &Parameter| {
        operation.request_body.is_some() && matches!(each.parameter_in, ParameterIn::Query)
    };
    let parameters = operation.parameters.iter().flatten().filter_map(known);
    let parameters: Vec<&Parameter> = parameters.filter(|each| !is_field(each)).collect();
    if parameters.is_empty() {
        return;
    }
    text.push_str("| Parameter | | |\n|---|---|---|\n");
    for parameter in parameters {
        let place = match parameter.parameter_in {
            ParameterIn::Path => "path",
            ParameterIn::Header => "header",
            _ => "query",
        };
        let kind = parameter.schema.as_ref().map_or(String::new(), kind);
        let mut about = parameter.description.clone().unwrap_or_default();
        about.push_str(&parameter.schema.as_ref().map_or(String::new(), limits));
        let _ = writeln!(text, "| `{}` | {place}: {kind} | {} |", parameter.name, cell(&about));
    }
    text.push('\n');
}

/// Prints the content types of the body, and the fields of the JSON one.
fn print_body(text: &mut String, document: &OpenApi, body: &RequestBody) {
    let about = body.description.as_deref().unwrap_or_default();
    let _ = write!(text, "{about}\n\n| Body | |\n|---|---|\n");
    for (content_type, content) in &body.content {
        let raw = matches!(content_type.as_str(), "audio/*" | "application/octet-stream");
        let fields = if raw { " The other fields of the form are passed in the query." } else { "" };
        let _ = writeln!(text, "| `{content_type}` | {}{fields} |", content_kind(content));
    }
    text.push('\n');
    let Some(content) = body.content.get("application/json").and_then(known) else { return };
    let schema = content.schema.as_ref();
    if let Some(Schema::Object(object)) = schema.and_then(|schema| resolve(document, schema, &Value::Null)) {
        print_fields(text, object);
    }
    for example in content.examples.values().filter_map(known) {
        if let Some(value) = &example.value {
            let json = json(document, value, schema, 0);
            let _ = write!(text, "{}:\n\n```json\n{json}\n```\n\n", example.summary);
        }
    }
}

fn print_response(text: &mut String, status: &str, response: &Response) {
    let about = match response.content.get("application/problem+json").and_then(known) {
        Some(content) => {
            let codes = content.examples.keys().map(|code| format!("[`{code}`](errors.md#{code})"));
            let more = response.description.split_once(". ").map_or("", |(_, more)| more);
            format!("{}. {more}", codes.collect::<Vec<_>>().join(", "))
        }
        None => {
            let bodies = response.content.iter().map(|(content_type, content)| match content_type.as_str() {
                "application/json" => content_kind(content),
                other => format!("`{other}`"),
            });
            let bodies = bodies.collect::<Vec<_>>().join(", ");
            format!("{bodies}{}{}", if bodies.is_empty() { "" } else { ": " }, response.description)
        }
    };
    let _ = writeln!(text, "| {status} | {} |", cell(about.trim()));
}

fn print_type(text: &mut String, name: &str, schema: &RefOr<Schema>) {
    let _ = write!(text, "### {name}\n\n");
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            paragraph(text, object.description.as_deref());
            if object.properties.is_empty() {
                print_plain(text, object);
            } else {
                print_fields(text, object);
            }
        }
        Schema::AnyOf(choice) => {
            paragraph(text, choice.description.as_deref());
            print_choice(text, &choice.items);
        }
        Schema::OneOf(choice) => {
            paragraph(text, choice.description.as_deref());
            print_choice(text, &choice.items);
        }
        Schema::Array(array) => {
            paragraph(text, array.description.as_deref());
            let _ = write!(text, "Type: {}\n\n", kind(&RefOr::T(schema.clone())));
        }
        _ => {}
    }
}

fn paragraph(text: &mut String, about: Option<&str>) {
    if let Some(about) = about {
        let _ = write!(text, "{about}\n\n");
    }
}

fn print_plain(text: &mut String, object: &Object) {
    if let Some(words) = &object.enum_values {
        let words: Vec<String> =
            words.iter().filter_map(|word| Some(format!("`{}`", word.as_str()?))).collect();
        let _ = write!(text, "One of {}.\n\n", words.join(", "));
        return;
    }
    let _ = write!(text, "Type: {}", kind_of_object(object));
    if let Some(pattern) = &object.pattern {
        let _ = write!(text, ", `{pattern}`");
    }
    let examples: Vec<String> = object.examples.iter().map(|example| format!("`{example}`")).collect();
    let _ =
        write!(text, "{}{}\n\n", if examples.is_empty() { "" } else { ". Examples: " }, examples.join(", "));
}

fn print_fields(text: &mut String, object: &Object) {
    let some = object.required.len() < object.properties.len();
    text.push_str("| Field | | |\n|---|---|---|\n");
    for (name, schema) in &object.properties {
        let mut about = if some && object.required.contains(name) { "Required. " } else { "" }.to_owned();
        about.push_str(&description(schema));
        about.push_str(&limits(schema));
        let _ = writeln!(text, "| `{name}` | {} | {} |", kind(schema), cell(&about));
    }
    text.push('\n');
}

fn print_choice(text: &mut String, items: &[RefOr<Schema>]) {
    if items.iter().all(|item| matches!(item, RefOr::Ref(_))) {
        let all: Vec<String> = items.iter().map(kind).collect();
        let _ = write!(text, "One of {}.\n\n", all.join(", "));
        return;
    }
    text.push_str("| One of | | |\n|---|---|---|\n");
    for item in items {
        if let RefOr::T(Schema::Object(object)) = item {
            let title = object.title.as_deref().unwrap_or("");
            let example = object.examples.first().and_then(|example| example.as_str());
            let example = example.map_or(String::new(), |example| format!("`{example}`"));
            let about = [object.description.as_deref().unwrap_or(""), &example].concat();
            let _ = writeln!(text, "| {title} | {} | {about} |", kind(item));
        } else {
            let _ = writeln!(text, "| | {} | |", kind(item));
        }
    }
    text.push('\n');
}

fn content_kind(content: &RefOr<Content>) -> String {
    let RefOr::T(content) = content else { return String::new() };
    match &content.schema {
        Some(RefOr::T(Schema::Object(object))) if object.description.is_some() => {
            object.description.clone().unwrap_or_default()
        }
        Some(schema) => kind(schema),
        None => String::new(),
    }
}

/// Escapes text for a table cell.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_type_has_a_section() {
        let document = voicegate::http::document();
        let text = print(&document);
        for (path, item) in &document.paths.paths {
            for (methods, operation) in operations(item) {
                assert!(text.contains(&format!("`{methods} {path}`")), "{path}");
                for response in operation.responses.responses.keys() {
                    assert!(text.contains(&format!("\n| {response} | ")), "{path}: {response}");
                }
            }
        }
        for name in document.components.expect("components").schemas.keys() {
            assert!(text.contains(&format!("\n### {name}\n")), "{name}");
        }
    }
}
