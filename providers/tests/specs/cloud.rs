//! Holds what the WhatsApp Cloud API adapter sends, and what its fixtures answer, against Meta's own OpenAPI file
//! (`meta-cloud.openapi.yaml` in the folder that `PROVIDER_SPECS` names; from
//! <https://github.com/facebook/openapi>, `business-messaging-api_v23.0.yaml`).

use crate::openapi::Spec;
use crate::stub::Recorded;
use crate::{callback, fixture, form, run};
use serde_json::{Value, json};

const PROVIDER: &str = "whatsapp-cloud";
const FILE: &str = "meta-cloud.openapi.yaml";

/// The operation behind a path below `base_url`, which ends with the version. Both `{Phone-Number-ID}` and others fit a
/// path of one part, so the path is named as the file does.
fn operation<'a>(spec: &'a Spec, method: &str, target: &str) -> Option<&'a Value> {
    let path = target.split('?').next().unwrap_or_default();
    let rest = path.trim_start_matches('/').split_once('/').map_or("", |(_, rest)| rest);
    let template = format!("/{{Version}}/{{Phone-Number-ID}}/{rest}");
    spec.0["paths"][template.trim_end_matches('/')].get(method.to_lowercase())
}

#[tokio::test]
async fn every_cloud_request_fits_the_openapi_file() {
    let Some(spec) = Spec::load(PROVIDER, FILE) else { return };
    let descriptor = voicegate_providers::find(PROVIDER).expect("a registered adapter");
    // A reseller's paths are not in Meta's file.
    let ours = |fixture: &fixture::Fixture| {
        fixture.expected.is_none() && !fixture.settings.contains_key("number_in_path")
    };
    let mut sent = Vec::new();
    for fixture in fixture::load_all(PROVIDER, "send").into_iter().filter(ours) {
        let attempt = run::attempt(descriptor, &fixture, run::LONG, run::Gone::Never).await;
        assert!(attempt.result.is_ok(), "{}: {:?}", fixture.name, attempt.result);
        sent.push((fixture.name, attempt.requests));
    }
    for ask in run::Ask::ALL {
        for fixture in fixture::load_all(PROVIDER, ask.folder()).into_iter().filter(ours) {
            let asked = run::ask(ask, descriptor, &fixture, run::LONG, false).await;
            assert!(asked.result.is_ok(), "{}: {:?}", fixture.name, asked.result);
            sent.push((fixture.name, asked.requests));
        }
    }
    let mut checked = 0;
    for (name, requests) in &sent {
        for request in requests {
            let errors = request_errors(&spec, request);
            assert!(errors.is_empty(), "{name}: {} {}: {errors:#?}", request.method, request.target);
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} requests");
}

fn request_errors(spec: &Spec, request: &Recorded) -> Vec<String> {
    let Some(operation) = operation(spec, &request.method, &request.target) else {
        return vec!["no such operation".to_owned()];
    };
    let content = &operation["requestBody"]["content"];
    if let Some(parts) = form::parts(request) {
        let schema = &content["multipart/form-data"]["schema"];
        let body: Value = parts
            .iter()
            .map(|part| (part.name.clone(), json!(String::from_utf8_lossy(&part.body))))
            .collect();
        let mut errors = spec.strict_errors(schema, &body);
        let file = parts.iter().find(|part| part.filename.is_some());
        let named = file.and_then(|file| file.content_type.as_deref());
        if named != body["type"].as_str() {
            errors.push(format!("the file is {named:?} and not {}", body["type"]));
        }
        return errors;
    }
    match serde_json::from_slice::<Value>(&request.body) {
        Ok(body) => spec.strict_errors(&content["application/json"]["schema"], &body),
        Err(_) if request.body.is_empty() => Vec::new(),
        Err(_) => vec!["no JSON body".to_owned()],
    }
}

#[test]
fn every_successful_answer_in_the_cloud_fixtures_fits_the_openapi_file() {
    let Some(spec) = Spec::load(PROVIDER, FILE) else { return };
    // Those answer what Meta would not, on purpose.
    let sound = |fixture: &fixture::Fixture| {
        !fixture.name.starts_with("unexpected")
            && !fixture.name.contains("other_server")
            && !fixture.settings.contains_key("number_in_path")
    };
    let folders = run::Ask::ALL.into_iter().map(run::Ask::folder).chain(["send"]);
    let fixtures = folders.flat_map(|what| fixture::load_all(PROVIDER, what)).filter(sound);
    let mut checked = 0;
    for fixture in fixtures {
        for exchange in &fixture.script {
            let fixture::Answer::Whole { head, body } = &exchange.answer else { continue };
            let status = head[0].split(' ').nth(1).unwrap_or_default();
            let place = format!("{}: {} {}", fixture.name, exchange.method, exchange.target);
            let Ok(body) = serde_json::from_str::<Value>(body) else { continue };
            let operation = operation(&spec, &exchange.method, &exchange.target).expect("an operation");
            // Refusals are described where they are described at all; all have one envelope.
            let schema = if status == "200" {
                &operation["responses"][status]["content"]["application/json"]["schema"]
            } else {
                &json!({"$ref": "#/components/schemas/GraphAPIError"})
            };
            assert!(!schema.is_null(), "{place}: the file has no {status}");
            let errors = spec.errors(schema, &body);
            assert!(errors.is_empty(), "{place}: {errors:#?}");
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} answers");
}

#[test]
fn every_cloud_callback_in_the_fixtures_fits_the_openapi_file() {
    let Some(spec) = Spec::load(PROVIDER, FILE) else { return };
    let schema = &spec.0["paths"]["/whatsapp/webhooks"]["post"]["requestBody"]["content"]["application/json"]
        ["schema"];
    let mut checked = 0;
    for fixture in callback::load_all(PROVIDER).into_iter().filter(callback::Fixture::is_genuine) {
        let Ok(body) = serde_json::from_str::<Value>(&fixture.body()) else { continue };
        // Other products are not in the file, and what people send is by mistake described as what businesses send.
        if fixture.name.starts_with("none.") || body.to_string().contains("\"messages\":[") {
            continue;
        }
        let errors = spec.errors(schema, &body);
        assert!(errors.is_empty(), "{}: {errors:#?}", fixture.name);
        checked += 1;
    }
    assert!(checked >= 6, "only {checked} callbacks");
}
