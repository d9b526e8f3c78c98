//! Holds what the Discord adapter sends, and what its fixtures answer, against Discord's own OpenAPI file (`discord.json` in
//! the folder that `PROVIDER_SPECS` names; from <https://github.com/discord/discord-api-spec>, `specs/openapi.json`).

use crate::openapi::Spec;
use crate::stub::Recorded;
use crate::{fixture, form, run};
use serde_json::Value;

const PROVIDER: &str = "discord";
const FILE: &str = "discord.json";

#[tokio::test]
async fn every_discord_request_fits_the_openapi_file() {
    let Some(spec) = Spec::load(PROVIDER, FILE) else { return };
    let descriptor = voicegate_providers::find(PROVIDER).expect("a registered adapter");
    let accepted = |fixture: &fixture::Fixture| fixture.expected.is_none();
    let mut sent = Vec::new();
    for fixture in fixture::load_all(PROVIDER, "send").into_iter().filter(accepted) {
        let attempt = run::attempt(descriptor, &fixture, run::LONG, run::Gone::Never).await;
        assert!(attempt.result.is_ok(), "{}: {:?}", fixture.name, attempt.result);
        sent.push((fixture.name, attempt.requests));
    }
    for fixture in fixture::load_all(PROVIDER, "check").into_iter().filter(accepted) {
        let asked = run::ask(run::Ask::Check, descriptor, &fixture, run::LONG, false).await;
        assert!(asked.result.is_ok(), "{}: {:?}", fixture.name, asked.result);
        sent.push((fixture.name, asked.requests));
    }
    let mut checked = 0;
    for (name, requests) in &sent {
        for request in requests {
            let errors = request_errors(&spec, request);
            assert!(errors.is_empty(), "{name}: {} {}: {errors:#?}", request.method, request.target);
            checked += 1;
        }
    }
    assert!(checked > 8, "only {checked} requests");
}

fn request_errors(spec: &Spec, request: &Recorded) -> Vec<String> {
    let Some(operation) = spec.operation(&request.method, &request.target) else {
        return vec!["no such operation".to_owned()];
    };
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let Some(parts) = form::parts(request) else {
        return match serde_json::from_slice::<Value>(&request.body) {
            Ok(body) => spec.strict_errors(schema, &body),
            Err(_) if request.body.is_empty() => Vec::new(),
            Err(_) => vec!["no JSON body".to_owned()],
        };
    };
    // `payload_json` stands for the fields of the form: https://docs.discord.com/developers/reference#uploading-files
    let (json, files): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.name == "payload_json");
    let [json] = json.as_slice() else { return vec!["not one payload_json".to_owned()] };
    let body: Value = serde_json::from_slice(&json.body).expect("JSON");
    let mut errors = spec.strict_errors(schema, &body);
    let attachments = body["attachments"].as_array().map(Vec::as_slice).unwrap_or_default();
    if attachments.len() != files.len() {
        errors.push(format!("{} files for {} attachments", files.len(), attachments.len()));
    }
    for (file, attachment) in files.iter().zip(attachments) {
        let expected = format!("files[{}]", attachment["id"].as_str().unwrap_or_default());
        let audio = file.content_type.as_deref().is_some_and(|kind| kind.starts_with("audio/"));
        if file.name != expected || !audio || file.filename.as_deref() != attachment["filename"].as_str() {
            errors.push(format!("{file:?} is not {attachment}"));
        }
    }
    errors
}

#[test]
fn every_answer_in_the_discord_fixtures_fits_the_openapi_file() {
    let Some(spec) = Spec::load(PROVIDER, FILE) else { return };
    // Those answer what Discord would not, on purpose, or are of others on the way.
    let sound = |fixture: &fixture::Fixture| {
        !["unexpected", "outcome_unknown", "unavailable"].iter().any(|name| fixture.name.starts_with(name))
            && !fixture.name.contains("other_server")
    };
    let fixtures = ["send", "check"].into_iter().flat_map(|what| fixture::load_all(PROVIDER, what));
    let mut checked = 0;
    for fixture in fixtures.filter(sound) {
        for exchange in &fixture.script {
            let fixture::Answer::Whole { head, body } = &exchange.answer else { continue };
            let status = head[0].split(' ').nth(1).unwrap_or_default();
            let place = format!("{}: {} {}", fixture.name, exchange.method, exchange.target);
            let Ok(body) = serde_json::from_str::<Value>(body) else { continue };
            let operation = spec.operation(&exchange.method, &exchange.target).expect("an operation");
            let schema = match status {
                "200" => &operation["responses"]["200"]["content"]["application/json"]["schema"],
                "429" => &spec.0["components"]["schemas"]["RatelimitedResponse"],
                _ => &spec.0["components"]["schemas"]["ErrorResponse"],
            };
            assert!(!schema.is_null(), "{place}: the file has no {status}");
            let errors = spec.errors(schema, &body);
            assert!(errors.is_empty(), "{place}: {errors:#?}");
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} answers");
}
