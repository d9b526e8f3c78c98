//! Requests that our dialects take, and their answers, held against the vendors' own OpenAPI files. The environment variable
//! `PROVIDER_SPECS` names their folder; without it every test says that it was skipped. `corrections.json` lists where a
//! file is wrong, each with its source.

use std::{env, fs, path::Path};

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{DOORS, Door, answer, sample, served};
use crate::harness::{KEY, PHONE, World, fixture};

/// A vendor's file with its corrections.
struct Spec(Value);

impl Spec {
    fn load(file: &str) -> Option<Self> {
        let Some(folder) = env::var_os("PROVIDER_SPECS") else {
            println!("skipped: PROVIDER_SPECS names no folder with {file}");
            return None;
        };
        let text = fs::read_to_string(Path::new(&folder).join(file)).expect(file);
        let mut spec: Value = if file.ends_with(".json") {
            serde_json::from_str(&text).expect("JSON")
        } else {
            serde_yaml_ng::from_str(&text).expect("YAML")
        };
        let corrections: Value = serde_json::from_str(include_str!("corrections.json")).expect("JSON");
        for correction in corrections[file].as_array().into_iter().flatten() {
            let text =
                |key: &str| correction[key].as_str().unwrap_or_else(|| panic!("{key} in {correction}"));
            assert!(text("source").contains("http") && text("why").len() > 10, "{correction}");
            let (parent, name) = text("pointer").rsplit_once('/').expect("a pointer below the root");
            let parent = spec.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is not in {file}"));
            let before = parent
                .as_object_mut()
                .expect("an object")
                .insert(name.to_owned(), correction["value"].clone());
            assert_ne!(
                before.as_ref(),
                Some(&correction["value"]),
                "the file says so itself by now: {correction}"
            );
        }
        nullable(&mut spec);
        Some(Self(spec))
    }

    fn operation(&self, method: &str, template: &str) -> &Value {
        let operation = &self.0["paths"][template][method];
        assert!(operation.is_object(), "{method} {template} is not in the file");
        operation
    }

    #[track_caller]
    fn fits(&self, what: &str, schema: &Value, value: &Value) {
        assert!(!schema.is_null(), "{what}: the file has no schema");
        let root = json!({ "allOf": [schema], "components": self.0["components"] });
        let validator = jsonschema::options().should_validate_formats(true).build(&root).expect("a schema");
        let errors: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
    }

    fn request(&self, method: &str, template: &str, body: &Value) {
        let schema =
            &self.operation(method, template)["requestBody"]["content"]["application/json"]["schema"];
        self.fits(&format!("request {method} {template}"), schema, body);
    }

    fn answer(&self, method: &str, template: &str, status: &str, body: &Value) {
        let response = &self.operation(method, template)["responses"][status];
        let response = match response["$ref"].as_str() {
            Some(reference) => self.0.pointer(&reference[1..]).expect("what is referred to"),
            None => response,
        };
        let schema = &response["content"]["application/json"]["schema"];
        self.fits(&format!("answer {status} of {method} {template}"), schema, body);
    }
}

/// OpenAPI 3.1 has no `nullable` any more, so a validator ignores it; files still use it and mean it.
fn nullable(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(nullable),
        Value::Object(map) => {
            map.values_mut().for_each(nullable);
            if map.remove("nullable") == Some(json!(true)) {
                let inner = Value::Object(std::mem::take(map));
                *map = Map::from_iter([("anyOf".to_owned(), json!([inner, { "type": "null" }]))]);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn evolution_fits_its_openapi_file() {
    let Some(spec) = Spec::load("evolution.openapi.json") else { return };
    let world = World::of_dialects().await;
    let send = "/message/sendWhatsAppAudio/{instance}";
    for audio in [sample(), served().await] {
        let body = Door::Evolution.body(PHONE, &audio);
        spec.request("post", send, &body);
        let sent = answer(Door::Evolution.request(&world, KEY, PHONE, &audio).await).await;
        // The file says 200 for what the code answers with 201.
        spec.answer("post", send, "200", &sent.body);
    }
    let ask = async |path: &str| {
        answer(Door::Evolution.with_key(world.compat(Method::GET, &format!("evolution{path}")), KEY))
            .await
            .body
    };
    spec.answer("get", "/instance/fetchInstances", "200", &ask("/instance/fetchInstances").await);
    let state = "/instance/connectionState/{instance}";
    spec.answer("get", state, "200", &ask("/instance/connectionState/support").await);
    spec.answer("get", state, "404", &ask("/instance/connectionState/nobody").await);
    spec.answer("get", "/", "200", &ask("/").await);
    let numbers = json!({ "numbers": ["15551234567", "12"] });
    spec.request("post", "/chat/whatsappNumbers/{instance}", &numbers);
    let asked = world.compat(Method::POST, "evolution/chat/whatsappNumbers/support").json(&numbers);
    let known = answer(Door::Evolution.with_key(asked, KEY)).await.body;
    spec.answer("post", "/chat/whatsappNumbers/{instance}", "200", &known);
}

#[tokio::test]
async fn waha_fits_its_openapi_file() {
    let Some(spec) = Spec::load("waha.openapi.json") else { return };
    let world = World::of_dialects().await;
    for audio in [sample(), served().await] {
        spec.request("post", "/api/sendVoice", &Door::Waha.body(PHONE, &audio));
        let sent = answer(Door::Waha.request(&world, KEY, PHONE, &audio).await).await;
        spec.answer("post", "/api/sendVoice", "201", &sent.body);
    }
    for (template, path) in [
        ("/api/sessions", "waha/api/sessions"),
        ("/api/sessions/{session}", "waha/api/sessions/default"),
        ("/ping", "waha/ping"),
        ("/api/server/version", "waha/api/server/version"),
    ] {
        let told = answer(Door::Waha.with_key(world.compat(Method::GET, path), KEY)).await;
        spec.answer("get", template, "200", &told.body);
    }
    let template = "/api/{session}/media/convert/voice";
    let super::Audio::Bytes(bytes) = sample() else { unreachable!("bytes") };
    let data = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes);
    let body = json!({ "data": data });
    spec.request("post", template, &body);
    let asked = world.compat(Method::POST, "waha/api/default/media/convert/voice").json(&body);
    let made = answer(Door::Waha.with_key(asked.header("accept", "application/json"), KEY)).await;
    spec.answer("post", template, "200", &made.body);
}

#[tokio::test]
async fn linq_fits_its_openapi_file() {
    let Some(spec) = Spec::load("linq.openapi.yaml") else { return };
    let world = World::of_dialects().await;
    let chat = world.chat(PHONE).await;
    let ask = async |path: &str| answer(world.compat(Method::GET, path).bearer_auth(KEY)).await;
    let post = async |path: &str, body: &Value| {
        answer(world.compat(Method::POST, path).bearer_auth(KEY).json(body)).await
    };

    let upload = json!({ "filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": 10 });
    spec.request("post", "/v3/attachments", &upload);
    spec.answer("post", "/v3/attachments", "200", &post("linq/v3/attachments", &upload).await.body);
    let attachment = world.attach(fixture("speech-24k.mp3")).await;
    let shown = ask(&format!("linq/v3/attachments/{attachment}")).await;
    spec.answer("get", "/v3/attachments/{attachmentId}", "200", &shown.body);

    let memo = "/v3/chats/{chatId}/voicememo";
    let super::Audio::Url(url) = served().await else { unreachable!("an address") };
    for body in [json!({ "attachment_id": attachment }), json!({ "voice_memo_url": url })] {
        spec.request("post", memo, &body);
        let sent = post(&format!("linq/v3/chats/{chat}/voicememo"), &body).await;
        spec.answer("post", memo, "202", &sent.body);
    }
    spec.answer("get", "/v3/chats", "200", &ask("linq/v3/chats").await.body);
    spec.answer("get", "/v3/chats/{chatId}", "200", &ask(&format!("linq/v3/chats/{chat}")).await.body);
    let parts = json!([{ "type": "media", "attachment_id": attachment }]);
    let created = json!({ "from": "+12052535597", "to": [PHONE], "message": { "parts": parts } });
    spec.request("post", "/v3/chats", &created);
    spec.answer("post", "/v3/chats", "201", &post("linq/v3/chats", &created).await.body);

    let refused = post(&format!("linq/v3/chats/{chat}/voicememo"), &json!({})).await;
    spec.answer("post", memo, "400", &refused.body);
    let unknown = answer(world.compat(Method::GET, "linq/v3/chats").bearer_auth("nobody's")).await;
    spec.answer("get", "/v3/chats", "401", &unknown.body);
}

/// Whatever the vendors' files are, what we write ourselves is the same for every door.
#[test]
fn every_door_has_a_body_of_its_own() {
    let bodies: Vec<Value> = DOORS.iter().map(|door| door.body(PHONE, &sample())).collect();
    for (index, body) in bodies.iter().enumerate() {
        assert!(!bodies[..index].contains(body), "{body}");
    }
}
