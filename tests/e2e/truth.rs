//! Validates every answer of the gateway against its OpenAPI document. An undocumented answer fails the test.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Method, Response, StatusCode, header::CONTENT_TYPE, response::Parts},
    middleware::{self, Next},
};
use jsonschema::Validator;
use serde_json::{Value, json};

/// The document, made strict: an answer may contain no undocumented fields.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document: Value = serde_json::from_str(voicegate::http::openapi()).expect("JSON");
    let dialects: Value = serde_json::from_str(voicegate::http::openapi_of_dialects()).expect("JSON");
    for part in ["/paths", "/components/schemas"] {
        let all = document.pointer_mut(part).and_then(Value::as_object_mut).expect("an object");
        all.extend(dialects.pointer(part).and_then(Value::as_object).expect("an object").clone());
    }
    for schema in document["components"]["schemas"].as_object_mut().expect("schemas").values_mut() {
        if schema.get("properties").is_some() {
            schema["additionalProperties"] = json!(false);
        }
    }
    document
});

/// Headers of HTTP itself, or of the connection.
const EVERYWHERE: [&str; 5] = ["content-type", "content-length", "transfer-encoding", "date", "connection"];

/// The findings, which are checked when the test ends.
#[derive(Default)]
pub struct Truth(Arc<Mutex<Vec<String>>>);

impl Truth {
    /// Wraps `app` in the check.
    pub fn watch(&self, app: Router) -> Router {
        let lies = self.0.clone();
        app.layer(middleware::from_fn(move |request: Request, next: Next| check(request, next, lies.clone())))
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        // A test that has already failed reports more.
        if !std::thread::panicking() {
            let lies = self.0.lock().expect("unpoisoned");
            assert!(lies.is_empty(), "the OpenAPI document does not know this:\n{}", lies.join("\n"));
        }
    }
}

async fn check(request: Request, next: Next, lies: Arc<Mutex<Vec<String>>>) -> Response<Body> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    if uri.path() == "/mcp" {
        // The Model Context Protocol has documents of its own.
        return next.run(request).await;
    }
    let (parts, body) = next.run(request).await.into_parts();
    // Files and pages may be long, so only their type is checked.
    let is_json = essence(&parts.headers).is_some_and(|kind| kind.ends_with("json"));
    let (bytes, body) = if is_json {
        let bytes = to_bytes(body, usize::MAX).await.expect("a body");
        (bytes.to_vec(), Body::from(bytes))
    } else {
        (Vec::new(), body)
    };
    let query = uri.query().unwrap_or_default();
    if let Err(lie) = judge(&method, uri.path(), query, &parts, &bytes) {
        let place = format!("{method} {} answered {}: ", uri.path(), parts.status);
        lies.lock().expect("unpoisoned").push(place + &lie);
    }
    Response::from_parts(parts, body)
}

fn judge(method: &Method, path: &str, query: &str, answer: &Parts, body: &[u8]) -> Result<(), String> {
    let Some(operation) = operation(method, path) else {
        if path.starts_with("/compat/") && matches!(answer.status.as_u16(), 404 | 405) {
            return Ok(()); // in the words of the dialect
        }
        let code = read(body)?["code"].clone();
        let plain = [(404, json!("not_found")), (405, json!("method_not_allowed"))];
        let known = plain.contains(&(answer.status.as_u16(), code));
        return if known { Ok(()) } else { Err("there is no such operation".to_owned()) };
    };
    let status = answer.status.as_str();
    let response = operation["responses"].get(status).ok_or("the operation does not have this status")?;
    for name in answer.headers.keys().filter(|name| !EVERYWHERE.contains(&name.as_str())) {
        let headers = response["headers"].as_object().into_iter().flatten();
        if !headers.into_iter().any(|(known, _)| known.eq_ignore_ascii_case(name.as_str())) {
            return Err(format!("the header {name}"));
        }
    }
    if answer.status.is_success() {
        for (name, _) in url::form_urlencoded::parse(query.as_bytes()) {
            let mut parameters = operation["parameters"].as_array().into_iter().flatten();
            if !parameters.any(|known| known["in"] == "query" && known["name"] == *name) {
                return Err(format!("the query parameter {name}"));
            }
        }
    }
    let content = response["content"].as_object().filter(|_| method != Method::HEAD);
    let Some(content) = content else {
        // The body is removed for HEAD later.
        return if body.is_empty() || method == Method::HEAD {
            Ok(())
        } else {
            Err("there should be no body".to_owned())
        };
    };
    let kind = essence(&answer.headers).unwrap_or_default();
    let fits =
        |known: &str| known == kind || known.strip_suffix('*').is_some_and(|lead| kind.starts_with(lead));
    let (known, content) =
        content.iter().find(|(known, _)| fits(known)).ok_or_else(|| format!("the content type {kind}"))?;
    if !known.ends_with("json") {
        return Ok(());
    }
    let body = read(body)?;
    let errors: Vec<String> = with_validator(&content["schema"], |validator| {
        let errors = validator.iter_errors(&body);
        errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
    });
    if !errors.is_empty() {
        return Err(errors.join("; "));
    }
    if known == "application/problem+json" && content["examples"].get(text(&body["code"])).is_none() {
        return Err(format!("the code {}", body["code"]));
    }
    Ok(())
}

fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let same = |template: &str| {
        let (mut ours, mut theirs) = (template.split('/'), path.split('/'));
        ours.by_ref().zip(theirs.by_ref()).all(|(ours, theirs)| ours == theirs || ours.starts_with('{'))
            && template.matches('/').count() == path.matches('/').count()
    };
    let item = paths
        .get(path)
        .or_else(|| paths.iter().find(|(template, _)| same(template)).map(|(_, item)| item))?;
    let method = method.as_str().to_ascii_lowercase();
    // HEAD is allowed wherever GET is, even without an entry of its own.
    item.get(&method).or_else(|| item.get("get").filter(|_| method == "head"))
}

/// The validators are cached, because creating one takes longer than using it.
fn with_validator<T>(schema: &Value, run: impl FnOnce(&Validator) -> T) -> T {
    static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let mut validators = VALIDATORS.lock().expect("unpoisoned");
    let validator = validators.entry(schema.to_string()).or_insert_with(|| {
        let root = json!({ "allOf": [schema], "components": DOCUMENT["components"] });
        Arc::new(jsonschema::options().should_validate_formats(true).build(&root).expect("a schema"))
    });
    let validator = validator.clone();
    drop(validators);
    run(&validator)
}

fn essence(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn read(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The findings of the check for an answer that the gateway never gives.
pub fn verdict(
    method: &Method,
    path: &str,
    status: StatusCode,
    kind: &str,
    body: &Value,
) -> Result<(), String> {
    let answer = Response::builder().status(status).header(CONTENT_TYPE, kind).body(()).expect("an answer");
    judge(method, path, "", &answer.into_parts().0, body.to_string().as_bytes())
}
