//! The WAHA emulator: strict about requests, and each engine with its own shape of answers.
use crate::common::{Server, file_server, opus, wav};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

const VOICE: &str = "audio/ogg; codecs=opus";
const CHAT: &str = "15551234567@c.us";

fn post(server: &Server, action: &str, body: &Value) -> RequestBuilder {
    let url = format!("{}/waha/api/{action}", server.base);
    server.client.post(url).header("x-api-key", "sandbox-waha-key").json(body)
}

fn voice() -> Value {
    let file = json!({ "mimetype": VOICE, "filename": "voice.ogg", "data": BASE64_STANDARD.encode(opus(1)) });
    json!({ "session": "default", "chatId": CHAT, "file": file, "convert": false })
}

async fn answered(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn each_engine_answers_in_its_own_shape() {
    let server = Server::start().await;
    for (session, place) in
        [("default", "/id/_serialized"), ("wpp", "/id"), ("gows", "/id"), ("noweb", "/key/id")]
    {
        let mut body = voice();
        body["session"] = json!(session);
        let (status, answer) = answered(post(&server, "sendVoice", &body)).await;
        assert_eq!(status, 201, "{answer}");
        let id = answer.pointer(place).and_then(Value::as_str).unwrap_or_default();
        assert!(
            !id.is_empty() && server.sandbox.ledger().last().unwrap().message_id.ends_with(id),
            "{session}: {answer}"
        );
    }
    let ledger = server.sandbox.ledger();
    assert!(ledger.iter().all(|entry| entry.problems.is_empty() && entry.form == "voice"));
    let seen = serde_json::to_string(&(&ledger, server.sandbox.requests())).unwrap();
    assert!(!seen.contains("sandbox-waha-key"));
}

#[tokio::test]
async fn a_link_a_file_and_a_text_are_taken() {
    let server = Server::start().await;
    let files = file_server(opus(1), VOICE).await;
    let mut body = voice();
    body["file"] = json!({ "mimetype": VOICE, "url": format!("{files}/voice.ogg") });
    assert_eq!(answered(post(&server, "sendVoice", &body)).await.0, 201);
    let file =
        json!({ "mimetype": "audio/wav", "filename": "a.wav", "data": BASE64_STANDARD.encode(wav(100)) });
    let document = json!({ "session": "default", "chatId": CHAT, "file": file, "caption": "Hello" });
    assert_eq!(answered(post(&server, "sendFile", &document)).await.0, 201);
    let text = json!({ "session": "default", "chatId": CHAT, "text": "Hello" });
    assert_eq!(answered(post(&server, "sendText", &text)).await.0, 201);
    let forms: Vec<_> =
        server.sandbox.ledger().iter().map(|entry| (entry.form, entry.problems.len())).collect();
    assert_eq!(forms, [("voice", 0), ("file", 0), ("text", 0)]);
}

#[tokio::test]
async fn each_violation_of_a_rule_is_refused() {
    let server = Server::start().await;
    for (field, value, status) in [
        ("session", json!("other"), 404),
        ("session", Value::Null, 400),
        ("session", json!("scanning"), 422),
        ("session", json!("starting"), 422),
        ("chatId", json!("15551234567"), 400),
        ("chatId", json!("15551234567@s.whatsapp.net"), 400),
        ("chatId", json!("15550000463@c.us"), 500),
        ("chatId", json!("15550000404@c.us"), 500),
        ("convert", json!("false"), 400),
        ("convert", Value::Null, 400),
        ("file", json!({ "mimetype": VOICE }), 400),
        ("file", json!({ "mimetype": VOICE, "data": "data:audio/ogg;base64,AAAA" }), 400),
        ("file", json!({ "mimetype": VOICE, "url": "http://127.0.0.1:9/x.ogg", "filename": "x.ogg" }), 400),
        ("file", json!({ "mimetype": VOICE, "url": "http://127.0.0.1:9/x.ogg" }), 500),
        ("file", json!({ "url": "http://127.0.0.1:9/x.ogg" }), 400),
        ("surprise", json!(1), 400),
        ("id", json!("AAAA"), 400),
    ] {
        let mut body = voice();
        body[field] = value.clone();
        let (got, answer) = answered(post(&server, "sendVoice", &body)).await;
        assert_eq!(got, status, "{field} {value}: {answer}");
    }
    let url = format!("{}/waha/api/sendVoice", server.base);
    assert_eq!(server.client.post(&url).json(&voice()).send().await.unwrap().status(), 401);
    let in_query = format!("{url}?x-api-key=sandbox-waha-key");
    assert_eq!(server.client.post(in_query).json(&voice()).send().await.unwrap().status(), 401);
    assert_eq!(server.sandbox.ledger_len(), 0);
    let mut dead = voice();
    dead["file"]["data"] = json!(BASE64_STANDARD.encode(wav(100)));
    assert_eq!(answered(post(&server, "sendVoice", &dead)).await.0, 201);
    assert!(server.sandbox.ledger()[0].problems[0].contains("not Ogg/Opus"));
}

#[tokio::test]
async fn session_shows_its_state_and_keeps_its_configuration() {
    let server = Server::start().await;
    let url = format!("{}/waha/api/sessions/default", server.base);
    let key = |request: RequestBuilder| request.header("x-api-key", "sandbox-waha-key");
    let (_, session) = answered(key(server.client.get(&url))).await;
    assert_eq!(
        (&session["status"], &session["config"]["metadata"]["owner"]),
        (&json!("WORKING"), &json!("sandbox"))
    );
    let hook =
        json!({ "url": "https://gateway.example/x", "events": ["message.ack"], "hmac": { "key": "k" } });
    let config = json!({ "metadata": { "owner": "sandbox" }, "webhooks": [hook] });
    let put = |config: Value| key(server.client.put(&url)).json(&json!({ "config": config }));
    assert_eq!(answered(put(config.clone())).await.0, 200);
    server.sandbox.clear();
    assert_eq!(answered(key(server.client.get(&url))).await.1["config"], config, "it outlives clearing");
    for (place, value) in [
        ("url", json!("http://gateway.example/")),
        ("events", json!(["message.dreamt"])),
        ("surprise", json!(1)),
    ] {
        let mut wrong = config.clone();
        wrong["webhooks"][0][place] = value;
        assert_eq!(answered(put(wrong)).await.0, 400, "{place}");
    }
    let lock = answered(key(server.client.get(format!("{url}/timelock")))).await.1;
    assert_eq!(lock["isActive"], true);
    let version =
        answered(key(server.client.get(format!("{}/waha/api/server/version", server.base)))).await.1;
    assert_eq!(version["tier"], "CORE");
}

#[tokio::test]
async fn its_own_refusals_can_be_scripted_by_name() {
    let server = Server::start().await;
    let faults = format!("{}/sandbox/faults", server.base);
    let fault = |name: &str| json!({ "provider": "waha", "operation": "voice", "action": { "kind": "refusal", "name": name } });
    for (name, status) in
        [("time_lock", 500), ("not_working", 422), ("plus_only", 422), ("not_implemented", 422)]
    {
        let added = server.client.post(&faults).json(&fault(name)).send().await.unwrap();
        assert_eq!(added.status(), 201);
        assert_eq!(answered(post(&server, "sendVoice", &voice())).await.0, status, "{name}");
    }
    let (status, why) = answered(server.client.post(&faults).json(&fault("bad_mood"))).await;
    assert!(status == 400 && why["error"].as_str().unwrap().contains("time_lock"), "{why}");
    assert_eq!(server.sandbox.ledger_len(), 0);
}
