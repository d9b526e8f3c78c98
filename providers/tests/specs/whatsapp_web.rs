//! Holds what the adapters for WAHA and Evolution send, and the events in WAHA's fixtures, against the vendors' own OpenAPI
//! files: `waha.openapi.json` (<https://waha.devlike.pro/swagger/openapi.json>) and `evolution.openapi.json`
//! (<https://github.com/EvolutionAPI/docs-evolution>, `openapi/openapi-v2.json`).

use crate::{callback, openapi};
use std::collections::BTreeSet;

use crate::openapi::Spec;
use serde_json::Value;

/// The requests of every good fixture, and the key in its header with each.
async fn requests_fit(provider: &str, file: &str, header: &str, operations: &[&str]) {
    let Some(spec) = Spec::load(provider, file).map(corrected).map(Spec::closed) else { return };
    let descriptor = voicegate_providers::find(provider).expect("a registered adapter");
    let mut called = BTreeSet::new();
    for (name, requests) in openapi::requests(descriptor).await {
        for request in requests {
            let place = format!("{name}: {} {}", request.method, request.target);
            let errors = spec.request_errors(&request);
            assert!(errors.is_empty(), "{place}: {errors:#?}");
            assert!(request.headers.iter().any(|(name, _)| name == header), "{place}: no {header}");
            let operation = spec.operation(&request.method, &request.target).expect("an operation");
            called.insert(operation["operationId"].as_str().unwrap_or_default().to_owned());
        }
    }
    let called: Vec<&str> = called.iter().map(String::as_str).collect();
    assert_eq!(called, operations, "fixtures of every operation, and no other");
}

/// Adds what a vendor's file lacks. Evolution 2 reads `delay` and `presence` beside `number`, and its file knows only the
/// `options` of version 1
/// (<https://github.com/EvolutionAPI/evolution-api/blob/main/src/validate/chat.schema.ts>, `presenceSchema`).
fn corrected(mut spec: Spec) -> Spec {
    let operation = spec.0.pointer_mut("/paths/~1chat~1sendPresence~1{instance}/post");
    if let Some(operation) = operation {
        let body = &mut operation["requestBody"]["content"]["application/json"]["schema"]["properties"];
        for name in ["delay", "presence"] {
            body[name] = body["options"]["properties"][name].clone();
        }
    }
    spec
}

#[tokio::test]
async fn every_request_to_waha_fits_its_openapi_file() {
    let operations = [
        "ChattingController_sendFile",
        "ChattingController_sendText",
        "ChattingController_sendVoice",
        "ContactsController_checkExists",
        "PresenceController_setPresence",
        "ServerController_get",
        "SessionsController_get",
        "SessionsController_update",
    ];
    requests_fit("waha", "waha.openapi.json", "x-api-key", &operations).await;
}

#[tokio::test]
async fn every_request_to_evolution_fits_its_openapi_file() {
    let operations = [
        "connectionState",
        "findWebhook",
        "sendMedia",
        "sendPresence",
        "sendText",
        "sendWhatsAppAudio",
        "setWebhook",
    ];
    requests_fit("evolution", "evolution.openapi.json", "apikey", &operations).await;
}

#[test]
fn every_acknowledgement_in_the_fixtures_of_waha_fits_its_openapi_file() {
    let Some(spec) = Spec::load("waha", "waha.openapi.json") else { return };
    let mut checked = 0;
    for fixture in callback::load_all("waha").into_iter().filter(callback::Fixture::is_genuine) {
        let body: Value = serde_json::from_str(&fixture.body()).expect("JSON");
        let schema = match body["event"].as_str().expect("an event") {
            "message.ack" => "WAHAWebhookMessageAck",
            "message.ack.group" => "WAHAWebhookMessageAckGroup",
            _ => continue,
        };
        // Fixtures of events that are newer than the file are there on purpose.
        if fixture.name == "none.later_ack" {
            continue;
        }
        let errors = spec.errors(&spec.0["components"]["schemas"][schema], &body);
        assert!(errors.is_empty(), "{}: {errors:#?}", fixture.name);
        checked += 1;
    }
    assert!(checked >= 8, "only {checked}");
}
