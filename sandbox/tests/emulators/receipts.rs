//! Receipts: whom the emulated providers tell, what, when and how often.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{CHAT, Server, file_server, linq_error, opus, wav};
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use voicegate_sandbox::{
    Fault, FaultAction, NewChat, Operation, Provider, ReceiptRule, ReceiptStatus, ReceiptStep, Service,
};

/// A request that came to the gateway's place.
pub struct Heard {
    pub headers: HeaderMap,
    pub query: Vec<(String, String)>,
    pub text: String,
    pub body: Value,
}

#[derive(Clone)]
struct Ear {
    heard: UnboundedSender<Heard>,
    statuses: Arc<Mutex<VecDeque<u16>>>,
}

/// Listens where a gateway would; answers with these statuses first, then with 200.
pub async fn ear(statuses: &[u16]) -> (String, UnboundedReceiver<Heard>) {
    let (sender, receiver) = unbounded_channel();
    let ear = Ear { heard: sender, statuses: Arc::new(Mutex::new(statuses.iter().copied().collect())) };
    let hear = async |State(ear): State<Ear>,
                      Query(query): Query<Vec<(String, String)>>,
                      headers: HeaderMap,
                      body: Bytes| {
        let text = String::from_utf8(body.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap();
        ear.heard.send(Heard { headers, query, text, body }).unwrap();
        let status = ear.statuses.lock().unwrap().pop_front().unwrap_or(200);
        StatusCode::from_u16(status).unwrap()
    };
    let router = axum::Router::new().fallback(hear).with_state(ear);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    (base, receiver)
}

async fn next(ear: &mut UnboundedReceiver<Heard>) -> Heard {
    tokio::time::timeout(Duration::from_secs(10), ear.recv()).await.expect("in time").expect("a request")
}

const EVENTS: [&str; 4] = ["message.sent", "message.delivered", "message.read", "message.failed"];

async fn subscribe(server: &Server, url: &str) -> Value {
    let body = json!({ "target_url": url, "subscribed_events": EVENTS });
    let answer = server.linq_post("/v3/webhook-subscriptions", body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    answer.json().await.unwrap()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[tokio::test]
async fn subscriptions_are_made_changed_and_deleted_as_documented() {
    let server = Server::start().await;
    let url = "https://gateway.example/callbacks/a/b?version=2026-02-03";
    let made = subscribe(&server, url).await;
    let path = format!("/v3/webhook-subscriptions/{}", made["id"].as_str().unwrap());
    assert!(made["signing_secret"].as_str().unwrap().starts_with("whsec_"));
    let body = json!({ "target_url": url, "subscribed_events": EVENTS });
    linq_error(server.linq_post("/v3/webhook-subscriptions", body).send().await.unwrap(), 409, 2015).await;

    let listed: Value =
        server.linq_get("/v3/webhook-subscriptions").send().await.unwrap().json().await.unwrap();
    assert_eq!(listed["subscriptions"][0]["target_url"], url);
    assert!(listed["subscriptions"][0].get("signing_secret").is_none(), "shown once");
    let put = |body: Value| {
        let url = format!("{}/linq{path}", server.base);
        server.client.put(url).bearer_auth("sandbox-linq-token").json(&body).send()
    };
    let changed: Value = put(json!({ "is_active": false, "phone_numbers": ["+12052535597"] }))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&changed["is_active"], &changed["phone_numbers"][0]),
        (&json!(false), &json!("+12052535597"))
    );
    assert_eq!(changed["subscribed_events"], json!(EVENTS));
    linq_error(put(json!({ "signing_secret": "whsec_" })).await.unwrap(), 400, 1003).await;
    for (field, value, code) in [
        ("target_url", json!("http://gateway.example/"), 1005),
        ("target_url", json!("nowhere"), 1005),
        ("target_url", json!("https://gateway.example/?version=2024-01-01"), 1005),
        ("target_url", Value::Null, 1005),
        ("subscribed_events", json!([]), 1005),
        ("subscribed_events", json!(["message.dreamt"]), 1005),
        ("phone_numbers", json!(["12052535597"]), 1002),
        ("surprise", json!(1), 1003),
    ] {
        let mut body = json!({ "target_url": "https://other.example/", "subscribed_events": EVENTS });
        body[field] = value;
        linq_error(server.linq_post("/v3/webhook-subscriptions", body).send().await.unwrap(), 400, code)
            .await;
    }
    let gone = server.client.delete(format!("{}/linq{path}", server.base)).bearer_auth("sandbox-linq-token");
    assert_eq!(gone.send().await.unwrap().status(), 204);
    linq_error(server.linq_get(&path).send().await.unwrap(), 404, 2010).await;
}

#[tokio::test]
async fn linq_signs_its_events_and_uses_the_requested_version() {
    let server = Server::start().await;
    let (base, mut new) = ear(&[]).await;
    let (old_base, mut old) = ear(&[]).await;
    let made = subscribe(&server, &format!("{base}/callbacks/a/b?version=2026-02-03")).await;
    subscribe(&server, &format!("{old_base}/?version=2025-01-01")).await;
    let id = server.upload("audio/x-wav", wav(100)).await;
    let answer: Value = server.memo(&id).send().await.unwrap().json().await.unwrap();
    let message = &answer["voice_memo"]["id"];
    for event in ["message.sent", "message.delivered"] {
        let heard = next(&mut new).await;
        assert_eq!(
            (&heard.body["event_type"], &heard.body["webhook_version"]),
            (&json!(event), &json!("2026-02-03"))
        );
        let data = &heard.body["data"];
        assert_eq!(
            (&data["id"], &data["direction"], &data["parts"][0]["id"]),
            (message, &json!("outbound"), &json!(id))
        );
        assert!(data["parts"][0].get("reactions").is_none());
        let header = |name: &str| heard.headers[name].to_str().unwrap();
        assert_eq!(heard.body["event_id"], header("webhook-id"));
        let secret = made["signing_secret"].as_str().unwrap();
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let time = header("webhook-timestamp");
        let signed = hmac(&key, &format!("{}.{time}.{}", header("webhook-id"), heard.text));
        assert_eq!(header("webhook-signature"), format!("v1,{}", BASE64_STANDARD.encode(signed)));
        let legacy = hmac(secret.as_bytes(), &format!("{time}.{}", heard.text));
        assert_eq!(header("x-webhook-signature"), hex::encode(legacy));
        assert_eq!(header("x-webhook-subscription-id"), made["id"]);

        let heard = next(&mut old).await;
        let data = &heard.body["data"];
        assert_eq!((&data["message"]["id"], &data["is_from_me"]), (message, &json!(true)));
        assert_eq!(data.get("message_id").is_some(), event == "message.delivered");
    }
    // The chat's list knows it, too, and so does the ledger.
    let listed: Value =
        server.linq_get(&format!("/v3/chats/{CHAT}/messages")).send().await.unwrap().json().await.unwrap();
    let first = &listed["messages"][0];
    assert_eq!((&first["id"], &first["delivery_status"]), (message, &json!("delivered")));
    assert_eq!((&first["is_from_me"], &first["chat_id"]), (&json!(true), &json!(CHAT)));
    let entry = &server.sandbox.ledger()[0];
    assert!(server.sandbox.receipt(entry.id, ReceiptStatus::Read).await);
    assert_eq!(next(&mut new).await.body["event_type"], "message.read");
    assert!(!server.sandbox.receipt(entry.id, ReceiptStatus::Played).await, "Linq has no such event");
    let entry = &server.sandbox.ledger()[0];
    let told: Vec<_> = entry.receipts.iter().map(|receipt| (receipt.status, receipt.answers.len())).collect();
    assert_eq!(told, [(ReceiptStatus::Sent, 2), (ReceiptStatus::Delivered, 2), (ReceiptStatus::Read, 2)]);
}

#[tokio::test]
async fn a_callback_is_tried_again_under_the_same_id_and_never_after_a_4xx() {
    let server = Server::start().await;
    let (base, mut ear) = ear(&[503, 500, 200, 401]).await;
    subscribe(&server, &base).await;
    server.sandbox.add_receipt_rule(ReceiptRule {
        provider: Some(Provider::LINQ),
        to: None,
        times: None,
        steps: vec![ReceiptStep::new(ReceiptStatus::Sent, 0)],
    });
    let id = server.upload("audio/x-wav", wav(100)).await;
    server.memo(&id).send().await.unwrap();
    let ids = [next(&mut ear).await, next(&mut ear).await, next(&mut ear).await]
        .map(|heard| heard.body["event_id"].clone());
    assert!(ids[0] == ids[1] && ids[1] == ids[2]);
    assert!(server.sandbox.receipt(server.sandbox.ledger()[0].id, ReceiptStatus::Delivered).await);
    next(&mut ear).await;
    let logs = server.client.get(format!("{}/sandbox/callbacks", server.base)).send().await.unwrap();
    let logs: Value = logs.json().await.unwrap();
    let statuses = |n: usize| -> Vec<Value> {
        logs["items"][n]["tries"].as_array().unwrap().iter().map(|one| one["status"].clone()).collect()
    };
    assert_eq!((statuses(0), statuses(1)), (vec![json!(503), json!(500), json!(200)], vec![json!(401)]));
    assert!(ear.try_recv().is_err(), "a 401 is final");
}

#[tokio::test]
async fn rules_make_receipts_late_double_contradictory_or_none() {
    let server = Server::start().await;
    let (base, mut ear) = ear(&[]).await;
    subscribe(&server, &base).await;
    let id = server.upload("audio/x-wav", wav(100)).await;
    let rules = json!([
        { "provider": "linq", "times": 1, "steps": [
            { "status": "failed", "code": 3007, "copies": 2 }, { "status": "delivered", "after_ms": 150 },
        ] },
        { "to": "+15551234567", "times": 1, "steps": [] },
    ]);
    let post = |path: &str, body: &Value| {
        server.client.post(format!("{}{path}", server.base)).body(body.to_string()).send()
    };
    assert_eq!(post("/sandbox/receipts", &rules).await.unwrap().status(), 201);
    server.memo(&id).send().await.unwrap();
    let (first, second) = (next(&mut ear).await.body, next(&mut ear).await.body);
    assert_eq!((&first["event_type"], &first["data"]["code"]), (&json!("message.failed"), &json!(3007)));
    assert_eq!(first["event_id"], second["event_id"], "the same event twice");
    assert_eq!(next(&mut ear).await.body["event_type"], "message.delivered");
    // The second note is not told of; the third is, although its answer never comes.
    server.memo(&id).send().await.unwrap();
    server.sandbox.add_fault(Fault::new(
        Provider::LINQ,
        Operation::Voicememo,
        FaultAction::StallAfter { ms: None },
    ));
    let lost = server.memo(&id).timeout(Duration::from_millis(300)).send().await;
    assert!(lost.unwrap_err().is_timeout());
    let heard = next(&mut ear).await;
    assert_eq!(heard.body["event_type"], "message.sent");
    assert_eq!(heard.body["data"]["id"], server.sandbox.ledger()[2].message_id.as_str());

    let wrong = json!({ "steps": [{ "status": "dreamt" }] });
    assert_eq!(post("/sandbox/receipts", &wrong).await.unwrap().status(), 400);
    let entry = server.sandbox.ledger()[0].id;
    let told = |status: &'static str| {
        let (post, path) = (&post, format!("/sandbox/ledger/{entry}/receipts"));
        async move { post(&path, &json!({ "status": status })).await.unwrap().status() }
    };
    assert_eq!((told("read").await, told("played").await), (StatusCode::NO_CONTENT, StatusCode::BAD_REQUEST));
}

#[tokio::test]
async fn sms_gets_no_receipt_after_sent() {
    let server = Server::start().await;
    let (base, mut ear) = ear(&[]).await;
    subscribe(&server, &base).await;
    let chat =
        NewChat { handles: vec!["+15557654321".into()], service: Some(Service::Sms), ..NewChat::default() };
    let chat = server.sandbox.add_chat(chat);
    let id = server.upload("audio/x-wav", wav(100)).await;
    let memo = server.linq_post(&format!("/v3/chats/{chat}/voicememo"), json!({ "attachment_id": id }));
    assert_eq!(memo.send().await.unwrap().status(), 202);
    assert_eq!(next(&mut ear).await.body["event_type"], "message.sent");
    // The second memo's receipts are complete, and the first one still has one.
    server.memo(&id).send().await.unwrap();
    assert_eq!(next(&mut ear).await.body["event_type"], "message.sent");
    assert_eq!(next(&mut ear).await.body["event_type"], "message.delivered");
    assert_eq!(server.sandbox.ledger()[0].receipts.len(), 1);
}

#[tokio::test]
async fn wawp_sends_acks_to_the_registered_address() {
    let server = Server::start().await;
    let (base, mut ear) = ear(&[]).await;
    let credentials = json!({ "instance_id": "SANDBOX00001", "access_token": "sandbox-wawp-token" });
    let with = |more: Value| {
        let mut body = credentials.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let set = |more: Value| {
        server.client.post(format!("{}/wawp/v2/webhook/set", server.base)).json(&with(more)).send()
    };
    let url = format!("{base}/callbacks/a/b?token=a-callback-token");
    let events = ["message.ack", "message.ack.group"];
    assert_eq!(
        set(json!({ "url": url, "events": ["message"], "is_active": 0 })).await.unwrap().status(),
        200
    );
    assert_eq!(set(json!({ "url": url, "events": events, "is_active": 1 })).await.unwrap().status(), 200);
    for wrong in [
        json!({ "url": "http://gateway.example/", "events": events }),
        json!({ "url": url, "events": [] }),
        json!({ "url": url, "events": ["message.dreamt"] }),
        json!({ "url": url, "events": events, "is_active": "yes" }),
        json!({ "url": url, "events": events, "surprise": 1 }),
    ] {
        assert_eq!(set(wrong.clone()).await.unwrap().status(), 400, "{wrong}");
    }
    let list = |token: &str| {
        let url = format!("{}/wawp/v2/session/webhook?instance_id=SANDBOX00001", server.base);
        server.client.get(url).header("access-token", token).send()
    };
    assert_eq!(list("wrong").await.unwrap().status(), 401);
    let listed: Value = list("sandbox-wawp-token").await.unwrap().json().await.unwrap();
    assert_eq!(listed["webhooks"], json!([{ "url": url, "events": events, "is_active": 1 }]));

    let files = file_server(opus(1), "audio/ogg; codecs=opus").await;
    let note = |chat: &str| {
        with(json!({ "chatId": chat, "file[url]": format!("{files}/n.ogg"), "file[filename]": "n.ogg",
            "file[mimetype]": "audio/ogg; codecs=opus", "convert": false }))
    };
    let answer: Value = server.wawp(note("15551234567@c.us")).send().await.unwrap().json().await.unwrap();
    for (ack, name) in [(1, "SERVER"), (2, "DEVICE")] {
        let heard = next(&mut ear).await;
        assert_eq!(heard.query, [("token".to_owned(), "a-callback-token".to_owned())]);
        let payload = &heard.body["payload"];
        assert_eq!(
            (&heard.body["event"], &payload["ack"], &payload["ackName"]),
            (&json!("message.ack"), &json!(ack), &json!(name))
        );
        assert_eq!((&payload["id"], &payload["fromMe"]), (&answer["id"]["_serialized"], &json!(true)));
    }
    let entry = &server.sandbox.ledger()[0];
    assert!(server.sandbox.receipt(entry.id, ReceiptStatus::Played).await);
    assert_eq!(next(&mut ear).await.body["payload"]["ack"], 4);
    assert!(server.sandbox.callbacks().iter().all(|log| !log.url.contains("a-callback-token")));

    server.sandbox.add_receipt_rule(ReceiptRule { provider: None, to: None, times: None, steps: Vec::new() });
    server.wawp(note("120363000000000000@g.us")).send().await.unwrap();
    assert!(server.sandbox.receipt(server.sandbox.ledger()[1].id, ReceiptStatus::Read).await);
    let heard = next(&mut ear).await;
    assert_eq!(heard.body["event"], "message.ack.group");
    assert!(heard.body["payload"]["id"].as_str().unwrap().ends_with("_15550009999@c.us"));

    let delete = server
        .client
        .delete(format!("{}/wawp/v2/webhook/delete", server.base))
        .json(&with(json!({ "url": url })));
    assert_eq!(delete.send().await.unwrap().status(), 200);
    let listed: Value = list("sandbox-wawp-token").await.unwrap().json().await.unwrap();
    assert_eq!(listed["webhooks"], json!([]));
}
