//! Reads the small JSON bodies of orders, which have no audio.

use axum::{
    extract::Request,
    http::header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use serde::de::DeserializeOwned;

use super::{MAX_FIELDS, TREE, content_type, fields::unknown_name, incoming, stated_length, tokens};
use crate::{
    http::App,
    model::{
        code::{Code, Stage},
        problem::Problem,
    },
};

/// Reads an order. A request without a body is an order without any field.
///
/// # Errors
/// Fails with the field that is wrong.
pub async fn order<T: DeserializeOwned>(app: &App, tenant: &str, request: Request) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    if let Some((name, _)) =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).next()
    {
        return Err(Problem::invalid(name, "this takes no parameters in the query; send a JSON object"));
    }
    let has_body = parts.headers.contains_key(TRANSFER_ENCODING)
        || parts.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if !has_body {
        return understand("{}");
    }
    let kind = content_type(&parts.headers)?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let detail = "send a JSON object with Content-Type: application/json";
        return Err(Problem::new(Code::UnsupportedMediaType, detail)
            .stage(Stage::Request)
            .field("Content-Type"));
    }
    let mut held = app.memory.for_request(tenant);
    let mut body = incoming(&app.gateway.live(), body, u64::MAX, stated_length(&parts.headers));
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        if bytes.len() + piece.len() > MAX_FIELDS {
            return Err(Problem::invalid("body", format!("the body may have at most {MAX_FIELDS} bytes")));
        }
        held.grow(piece.len() * TREE)?;
        bytes.extend_from_slice(&piece);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::invalid("body", "expected UTF-8"))?;
    tokens::check(text).map_err(|error| Problem::invalid("body", error.to_string()))?;
    let text = text.trim_start_matches('\u{feff}');
    // The OpenAPI document allows `null`, which generated clients send for no body.
    understand(if text.trim() == "null" { "{}" } else { text })
}

fn understand<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read: Result<T, _> = serde_path_to_error::deserialize(&mut json);
    let value = read.map_err(|error| {
        let path = error.path().to_string();
        wrong(&path, &error.into_inner())
    })?;
    json.end().map_err(|error| wrong("", &error))?;
    Ok(value)
}

/// Names the field that is wrong: in a list, the list.
fn wrong(path: &str, error: &serde_json::Error) -> Problem {
    if !error.is_data() {
        return Problem::invalid("body", "this is not valid JSON; expected a JSON object");
    }
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let named = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    if let Some((name, _)) = named {
        let meant =
            unknown_name(message, &[]).map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
        return Problem::invalid(name, format!("there is no field `{name}` here{meant}"));
    }
    if let Some((name, _)) = message.strip_prefix("duplicate field `").and_then(|rest| rest.split_once('`')) {
        return Problem::invalid(name, "the field is given twice");
    }
    let field = path.split(['[', '.']).next().unwrap_or_default();
    if field.is_empty() || field == "?" {
        return Problem::invalid("body", "expected a JSON object");
    }
    // The names of our types mean nothing to a caller.
    let message = message.replace("a sequence", "a list").replace("expected struct ", "expected an object, ");
    Problem::invalid(field, message)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[expect(dead_code, reason = "only its errors matter")]
        status: Option<Vec<crate::model::note::Status>>,
        #[expect(dead_code, reason = "only its errors matter")]
        since: Option<String>,
    }

    #[test]
    fn problem_names_the_field() {
        for (text, field) in [
            ("{", "body"),
            ("[]", "body"),
            ("7", "body"),
            ("{} {}", "body"),
            (r#"{"stauts":[]}"#, "stauts"),
            (r#"{"status":"failed"}"#, "status"),
            (r#"{"status":["failed","gone"]}"#, "status"),
            (r#"{"since":7}"#, "since"),
            (r#"{"since":"x","since":"y"}"#, "since"),
        ] {
            let problem = understand::<Wanted>(text).expect_err(text);
            assert_eq!((problem.field.as_deref(), problem.status), (Some(field), 400), "{text}: {problem}");
            assert!(!problem.detail.contains("line 1"), "{problem}");
        }
        let meant = understand::<Wanted>(r#"{"stauts":[]}"#).expect_err("unknown").detail;
        assert!(meant.contains("did you mean `status`?"), "{meant}");
        for text in ["{}", r#"{"status":null}"#, r#" {"status":["failed"],"since":"x"} "#] {
            understand::<Wanted>(text).expect(text);
        }
    }
}
