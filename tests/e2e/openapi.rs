//! The OpenAPI document is served and correct. See also `truth`, which validates every answer of every test against it.

use axum::http::Method;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    harness::{PHONE, World, fixture, read},
    truth::verdict,
};

#[tokio::test]
async fn the_document_is_served_to_everybody() {
    let world = World::start().await;
    let answer = world.http.get(format!("{}/openapi.json", world.url)).send().await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let served: Value = answer.json().await.expect("JSON");
    assert_eq!(served, serde_json::from_str::<Value>(voicegate::http::openapi()).expect("JSON"));
}

/// The document has the same paths as the router: no more, and (by `truth`) no fewer.
#[tokio::test]
async fn every_documented_operation_is_there() {
    let world = World::start().await;
    let document: Value = serde_json::from_str(voicegate::http::openapi()).expect("JSON");
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let url = format!("{}{}", world.url, path.replace(['{', '}'], ""));
            let method = method.to_uppercase().parse().expect("a method");
            // The list is empty, or contains an empty requirement.
            let needed = operation["security"].as_array().expect("requirements");
            let open = needed.is_empty() || needed.contains(&json!({}));
            let status = world.http.request(method, url).send().await.expect("an answer").status();
            // Callbacks are authenticated by the content of the request, which is missing here.
            let open = open && !path.starts_with("/callbacks/");
            assert_eq!(status == StatusCode::UNAUTHORIZED, !open, "{path}: {status}");
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }
}

#[tokio::test]
async fn undocumented_answer_is_detected() {
    let world = World::start().await;
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    let mut note = world.until_status(&id, "accepted").await;
    let (path, json_type) = (format!("/voice/{id}"), "application/json");
    let see = |status: u16, kind: &str, body: &Value| {
        verdict(&Method::GET, &path, StatusCode::from_u16(status).expect("a status"), kind, body)
    };
    assert_eq!(see(200, json_type, &note), Ok(()));
    assert!(see(201, json_type, &note).is_err(), "a status");
    assert!(see(200, "text/plain", &note).is_err(), "a content type");
    note["audio"]["sent"]["bitrate"] = json!(1);
    assert!(see(200, json_type, &note).is_err(), "a field deep inside");
    note["audio"]["sent"] = Value::Null;
    assert_eq!(see(200, json_type, &note), Ok(()));
    note["accepted_at"] = json!("yesterday");
    assert!(see(200, json_type, &note).is_err(), "a time");
    note.as_object_mut().expect("an object").remove("accepted_at");
    assert!(see(200, json_type, &note).is_err(), "a field that is missing");
    let mut problem = json!({ "type": "x", "title": "x", "status": 404, "detail": "x", "code": "not_found" });
    assert_eq!(see(404, "application/problem+json", &problem), Ok(()));
    problem["code"] = json!("media_expired");
    assert!(see(404, "application/problem+json", &problem).is_err(), "a code");
    assert!(verdict(&Method::GET, "/nowhere", StatusCode::OK, json_type, &json!({})).is_err(), "a path");
}

/// `null` counts as absent exactly for the fields for which the document allows it.
#[tokio::test]
async fn null_is_accepted_where_documented() {
    let world = World::start().await;
    let document: Value = serde_json::from_str(voicegate::http::openapi()).expect("JSON");
    let schemas = &document["components"]["schemas"];
    let nullable = |schema: &Value| schema.to_string().contains("\"null\"");
    for (name, schema) in schemas["VoiceRequest"]["properties"].as_object().expect("fields") {
        let mut body = json!({ "to": PHONE, "audio": { "url": format!("{}/a", world.url) } });
        body[name] = Value::Null;
        let (status, answer) = read(world.post_json(&body).send().await.expect("an answer")).await;
        assert_eq!(status == StatusCode::ACCEPTED, nullable(schema), "{name}: {answer}");
    }
    for (name, schema) in schemas["AudioByUrl"]["properties"].as_object().expect("fields") {
        let mut body = json!({ "to": PHONE, "audio": { "url": format!("{}/a", world.url) } });
        if name == "url" {
            continue; // the one that is there
        }
        body["audio"][name] = Value::Null;
        let (status, answer) = read(world.post_json(&body).send().await.expect("an answer")).await;
        assert_eq!(status == StatusCode::ACCEPTED, nullable(schema), "{name}: {answer}");
    }
}
