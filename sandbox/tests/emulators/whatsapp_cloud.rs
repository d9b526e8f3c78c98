//! The emulator of Meta's Cloud API: refusals by code, media ids that serve many messages, signed statuses.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Server, opus, wav};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::routing::get;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use voicegate_sandbox::ReceiptStatus;

const NUMBER: &str = "106540352242922";
const OTHER: &str = "106540352242933";
const APP: &str = "1234567890123456";
const VOICE: &str = "audio/ogg; codecs=opus";

fn post(server: &Server, path: &str) -> RequestBuilder {
    server
        .client
        .post(format!("{}/whatsapp-cloud/v23.0/{path}", server.base))
        .bearer_auth("sandbox-meta-token")
}

async fn json_of(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn form(fields: &[(&str, &str)], kind: &str, file: &[u8]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend(part.into_bytes());
    }
    let head = format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"voice.ogg\"\r\nContent-Type: {kind}\r\n\r\n"
    );
    body.extend(head.into_bytes());
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--b--\r\n");
    ("multipart/form-data; boundary=b".to_owned(), body)
}

async fn upload(server: &Server, number: &str, kind: &str, file: &[u8]) -> (u16, Value) {
    let (content_type, body) = form(&[("messaging_product", "whatsapp"), ("type", kind)], kind, file);
    json_of(post(server, &format!("{number}/media")).header("content-type", content_type).body(body)).await
}

fn message(to: &str, media: &str) -> Value {
    json!({
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": to, "type": "audio",
        "audio": {"id": media, "voice": true}, "biz_opaque_callback_data": "vn_1",
    })
}

async fn send(server: &Server, body: &Value) -> (u16, Value) {
    json_of(post(server, &format!("{NUMBER}/messages")).json(body)).await
}

#[tokio::test]
async fn one_upload_serves_many_messages_until_it_is_gone() {
    let server = Server::start().await;
    let (status, uploaded) = upload(&server, NUMBER, VOICE, &opus(1)).await;
    assert_eq!(status, 200, "{uploaded}");
    let media = uploaded["id"].as_str().unwrap();
    for to in ["+15551234567", "15550001111"] {
        let (status, sent) = send(&server, &message(to, media)).await;
        assert_eq!(status, 200, "{sent}");
        assert!(sent["messages"][0]["id"].as_str().unwrap().starts_with("wamid."));
    }
    let to_user = json!({
        "messaging_product": "whatsapp", "recipient": "US.13491208655302741918", "type": "audio",
        "audio": {"id": media}, "context": {"message_id": "wamid.x"},
    });
    assert_eq!(send(&server, &to_user).await.0, 200);
    let ledger = server.sandbox.ledger();
    let seen: Vec<_> = ledger.iter().map(|entry| (entry.conversation.as_str(), entry.form)).collect();
    assert_eq!(
        seen,
        [("+15551234567", "voice"), ("+15550001111", "voice"), ("US.13491208655302741918", "audio")]
    );
    assert_eq!((&ledger[0].problems, ledger[2].reply_to.as_deref()), (&vec![], Some("wamid.x")));
    assert!(ledger.iter().all(|entry| entry.sha256 == ledger[0].sha256));

    let gone = server
        .client
        .delete(format!("{}/whatsapp-cloud/v23.0/{media}", server.base))
        .bearer_auth("sandbox-meta-token");
    assert_eq!(json_of(gone).await.1["success"], true);
    let (status, refused) = send(&server, &message("+15551234567", media)).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!(100)));
    assert!(refused["error"]["error_data"]["details"].as_str().unwrap().contains("media attachment ID"));
    let all = serde_json::to_string(&(server.sandbox.ledger(), server.sandbox.requests())).unwrap();
    assert!(!all.contains("sandbox-meta-token"), "{all}");
}

#[tokio::test]
async fn refusals_have_codes() {
    let server = Server::start().await;
    let (_, uploaded) = upload(&server, NUMBER, VOICE, &opus(1)).await;
    let media = uploaded["id"].as_str().unwrap();
    let with = |change: Value| {
        let mut body = message("+15551234567", media);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    for (body, status, code) in [
        (message("+15550131047", media), 400, 131_047),
        (message("+15550131026", media), 400, 131_026),
        (message("+15550131056", media), 400, 131_056),
        (message("+15550130429", media), 429, 130_429),
        (message("bob", media), 400, 100),
        (message("+15551234567", "1"), 400, 100),
        (with(json!({"messaging_product": null})), 400, 100),
        (with(json!({"ptt": true})), 400, 100),
        (with(json!({"type": "voice"})), 400, 131_051),
        (with(json!({"audio": {"id": media, "voice": "yes"}})), 400, 100),
        (with(json!({"audio": {"id": media, "caption": "x"}})), 400, 100),
        (with(json!({"context": {"message_id": "17"}})), 400, 131_009),
        (with(json!({"biz_opaque_callback_data": "x".repeat(513)})), 400, 100),
        (with(json!({"to": null})), 400, 100),
    ] {
        let (got, answer) = send(&server, &body).await;
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{body}: {answer}");
    }
    // A file belongs to the number that it was uploaded by.
    let other =
        json_of(post(&server, &format!("{OTHER}/messages")).json(&message("+15551234567", media))).await;
    assert_eq!(other.1["error"]["code"], 100);
    assert_eq!(server.sandbox.ledger_len(), 0);
    for (kind, file) in
        [("audio/ogg", opus(1)), ("audio/opus", opus(1)), ("audio/wav", wav(10)), (VOICE, vec![])]
    {
        let (status, answer) = upload(&server, NUMBER, kind, &file).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(100)), "{kind}");
    }
    let (status, answer) = upload(&server, "1", VOICE, &opus(1)).await;
    assert_eq!((status, &answer["error"]["error_subcode"]), (400, &json!(33)));
    let me = format!("{}/whatsapp-cloud/v23.0/{NUMBER}?fields=status,health_status", server.base);
    assert_eq!(server.client.get(&me).send().await.unwrap().status(), 401);
    assert_eq!(server.client.get(&me).bearer_auth("x").send().await.unwrap().status(), 401);
    let (_, info) = json_of(server.client.get(&me).header("D360-API-KEY", "sandbox-meta-token")).await;
    assert_eq!(info["health_status"]["can_send_message"], "AVAILABLE");
}

#[tokio::test]
async fn faults_that_phones_show_are_in_the_ledger() {
    let server = Server::start().await;
    for (kind, file, words) in [
        (VOICE, wav(100), "declared as"),
        ("audio/mpeg", wav(100), "Ogg with Opus"),
        (VOICE, opus(2), "one channel"),
        (VOICE, [opus(1), vec![0; 600 * 1024]].concat(), "download arrow"),
    ] {
        let (_, uploaded) = upload(&server, NUMBER, kind, &file).await;
        let media = uploaded["id"].as_str().unwrap();
        assert_eq!(send(&server, &message("+15551234567", media)).await.0, 200);
        let problems = server.sandbox.ledger().last().unwrap().problems.join(" ");
        assert!(problems.contains(words), "{words}: {problems}");
    }
}

type Heard = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A server that knows the verify token and writes down what comes: its address.
async fn listener(heard: Heard) -> String {
    let verify = async |Query(query): Query<Vec<(String, String)>>| {
        let of = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let known = of("hub.verify_token").as_deref() == Some("let-me-in");
        if known { of("hub.challenge").unwrap_or_default() } else { "no".to_owned() }
    };
    let take = async |State(heard): State<Heard>, headers: HeaderMap, body: Bytes| {
        heard.lock().unwrap().push((headers, body));
    };
    let router = Router::new().route("/hook", get(verify).post(take)).with_state(heard);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    url
}

async fn wait_for(heard: &Heard, count: usize) -> Vec<(HeaderMap, Bytes)> {
    for _ in 0..500 {
        let now = heard.lock().unwrap().clone();
        if now.len() >= count {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("only {} of {count} came", heard.lock().unwrap().len());
}

#[tokio::test]
async fn statuses_are_signed_and_go_to_the_address_of_the_number_or_of_the_app() {
    let server = Server::start().await;
    let (of_number, of_app) = (Heard::default(), Heard::default());
    let (number_url, app_url) = (listener(of_number.clone()).await, listener(of_app.clone()).await);
    let own = |token: &str| {
        let body =
            json!({"webhook_configuration": {"override_callback_uri": number_url, "verify_token": token}});
        post(&server, NUMBER).json(&body)
    };
    let (status, refused) = json_of(own("wrong")).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!(2200)));
    assert_eq!(json_of(own("let-me-in")).await.1["success"], true);
    let app = json!({
        "object": "whatsapp_business_account", "callback_url": app_url, "verify_token": "let-me-in", "fields": "messages",
    });
    assert_eq!(json_of(post(&server, &format!("{APP}/subscriptions")).json(&app)).await.1["success"], true);

    for number in [NUMBER, OTHER] {
        let (_, uploaded) = upload(&server, number, VOICE, &opus(1)).await;
        let media = uploaded["id"].as_str().unwrap();
        let sent = post(&server, &format!("{number}/messages")).json(&message("+15551234567", media));
        assert_eq!(json_of(sent).await.0, 200);
    }
    for (heard, number) in [(of_number, NUMBER), (of_app, OTHER)] {
        for (headers, body) in wait_for(&heard, 2).await {
            let mac = Hmac::<Sha256>::new_from_slice(b"sandbox-meta-app-secret").unwrap().chain_update(&body);
            let expected = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
            assert_eq!(headers["x-hub-signature-256"].to_str().unwrap(), expected);
            let told: Value = serde_json::from_slice(&body).unwrap();
            let value = &told["entry"][0]["changes"][0]["value"];
            assert_eq!(value["metadata"]["phone_number_id"], number);
            assert_eq!(value["statuses"][0]["biz_opaque_callback_data"], "vn_1");
        }
    }
}

#[tokio::test]
async fn a_message_can_fail_after_it_was_accepted_and_a_voice_message_is_played() {
    let server = Server::start().await;
    let heard = Heard::default();
    let url = listener(heard.clone()).await;
    let body = json!({"webhook_configuration": {"override_callback_uri": url, "verify_token": "let-me-in"}});
    assert_eq!(json_of(post(&server, NUMBER).json(&body)).await.0, 200);
    let (_, uploaded) = upload(&server, NUMBER, VOICE, &opus(1)).await;
    let media = uploaded["id"].as_str().unwrap();
    assert_eq!(send(&server, &message("+15551131047", media)).await.0, 200);
    let (_, body) = wait_for(&heard, 1).await.remove(0);
    let told: Value = serde_json::from_slice(&body).unwrap();
    let status = &told["entry"][0]["changes"][0]["value"]["statuses"][0];
    assert_eq!((&status["status"], &status["errors"][0]["code"]), (&json!("failed"), &json!(131_047)));
    let entry = server.sandbox.ledger()[0].id;
    assert!(server.sandbox.receipt(entry, ReceiptStatus::Played).await);
    assert!(!server.sandbox.receipt(entry, ReceiptStatus::Accepted).await, "Meta has no such word");
    // Addresses stay when the rest is forgotten.
    server.sandbox.clear();
    let (_, uploaded) = upload(&server, NUMBER, VOICE, &opus(1)).await;
    assert_eq!(send(&server, &message("+15551234567", uploaded["id"].as_str().unwrap())).await.0, 200);
    wait_for(&heard, 4).await;
}
