//! Notes that people send in: the orders of the control API, and who may have the files.
use crate::common::{Server, opus};
use crate::receipts::ear;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

async fn order(server: &Server, body: &Value) -> (u16, Value) {
    let answer =
        server.client.post(format!("{}/sandbox/inbound", server.base)).json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn voice() -> String {
    BASE64_STANDARD.encode(opus(1))
}

/// Registers an address for messages at every emulator that people can write to, and says what comes there.
async fn registered(server: &Server) -> tokio::sync::mpsc::UnboundedReceiver<crate::receipts::Heard> {
    let (address, ear) = ear(&[]).await;
    let body = json!({ "target_url": address, "subscribed_events": ["message.received"] });
    assert_eq!(server.linq_post("/v3/webhook-subscriptions", body).send().await.unwrap().status(), 201);
    let put = async |method: reqwest::Method, path: &str, key: (&str, &str), body: Value| {
        let url = format!("{}{path}", server.base);
        let answer =
            server.client.request(method, url).header(key.0, key.1).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    };
    let hooks = json!({ "config": { "webhooks": [{ "url": address, "events": ["message"] }] } });
    put(reqwest::Method::PUT, "/waha/api/sessions/default", ("x-api-key", "sandbox-waha-key"), hooks).await;
    let hook = json!({ "instance_id": "SANDBOX00001", "access_token": "sandbox-wawp-token", "url": address,
                       "events": ["message"] });
    put(reqwest::Method::POST, "/wawp/v2/webhook/set", ("x-none", "-"), hook).await;
    let hook = json!({ "webhook": { "enabled": true, "url": address, "events": ["MESSAGES_UPSERT"] } });
    let key = ("apikey", "sandbox-evolution-key");
    put(reqwest::Method::POST, "/evolution/webhook/set/sandbox", key, hook).await;
    let hook = json!({ "url": address, "secret_token": "secret-0123456789" });
    let path = "/telegram/bot123456789:sandbox-telegram-token/setWebhook";
    put(reqwest::Method::POST, path, ("x-none", "-"), hook).await;
    ear
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_refused_with_its_reason() {
    let server = Server::start().await;
    for (body, why) in [
        (json!({ "provider": "waha", "from": "+15551234567", "audio": voice() }), "no address is registered"),
        (json!({ "provider": "discord", "from": "1", "audio": voice() }), "nobody can write"),
        (json!({ "provider": "waha", "from": "Ann", "audio": voice() }), "must be a phone number"),
        (json!({ "provider": "telegram", "from": "Ann", "audio": voice() }), "a person's number"),
        (json!({ "provider": "linq", "from": "Ann", "audio": voice() }), "an e-mail address"),
        (json!({ "provider": "waha", "from": "+15551234567" }), "either audio"),
        (json!({ "provider": "waha", "from": "+15551234567", "audio": "?" }), "base64"),
        (json!({ "provider": "waha", "from": "+15551234567", "audio": voice(), "copies": 0 }), "copies"),
        (json!({ "provider": "waha", "from": "+15551234567", "audio": voice(), "who": 1 }), "who"),
        (
            json!({ "provider": "waha", "account": "scanning", "from": "+15551234567", "audio": voice() }),
            "session",
        ),
    ] {
        let (status, answer) = order(&server, &body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{answer}");
    }
}

#[tokio::test]
async fn files_of_notes_are_handed_out_to_whoever_has_the_credentials() {
    let server = Server::start().await;
    let mut ear = registered(&server).await;
    for (provider, from) in [
        ("linq", "+15551234567"),
        ("wawp", "+15551234567"),
        ("waha", "+15551234567"),
        ("telegram", "telegram:700000001"),
    ] {
        let (status, sent) =
            order(&server, &json!({ "provider": provider, "from": from, "audio": voice() })).await;
        assert_eq!((status, &sent["answers"][0]), (201, &json!("200")), "{provider}: {sent}");
        let body = ear.recv().await.unwrap().body;
        let base = &server.base;
        let (url, right, wrong) = match provider {
            "linq" => {
                let url = body["data"]["parts"][0]["url"].as_str().unwrap().to_owned();
                (url, None, ("x-none", "-"))
            }
            "telegram" => {
                let id = &body["message"]["voice"]["file_id"];
                let get = format!("{base}/telegram/bot123456789:sandbox-telegram-token/getFile");
                let told: Value = server
                    .client
                    .post(get)
                    .json(&json!({ "file_id": id }))
                    .send()
                    .await
                    .unwrap()
                    .json()
                    .await
                    .unwrap();
                let path = told["result"]["file_path"].as_str().unwrap();
                (
                    format!("{base}/telegram/file/bot123456789:sandbox-telegram-token/{path}"),
                    None,
                    ("x-none", "-"),
                )
            }
            _ => {
                let url = body["payload"]["media"]["url"].as_str().unwrap();
                let path = &url[url.find("/api/").unwrap()..];
                let right = if provider == "waha" {
                    ("x-api-key", "sandbox-waha-key")
                } else {
                    ("access-token", "sandbox-wawp-token")
                };
                (format!("{base}/{provider}{path}"), Some(right), ("x-none", "-"))
            }
        };
        let (name, value) = right.unwrap_or(wrong);
        let file = server.client.get(&url).header(name, value).send().await.unwrap();
        assert_eq!(file.status(), 200, "{provider}");
        let file = file.bytes().await.unwrap();
        if provider == "linq" {
            assert!(file.starts_with(b"caff"), "an iPhone sends CAF");
        } else {
            assert_eq!(file, opus(1), "{provider}");
        }
        let without = match provider {
            "linq" => url.replace("signature=sandbox", "signature=other"),
            "telegram" => url.replace("sandbox-telegram-token", "other"),
            _ => url.clone(),
        };
        let refused = server.client.get(&without).header(wrong.0, wrong.1).send().await.unwrap();
        assert!(matches!(refused.status().as_u16(), 401 | 403), "{provider}: {}", refused.status());
        let audio = format!("{base}/sandbox/inbound/{}/audio", sent["id"].as_str().unwrap());
        let recorded = server.client.get(audio).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(recorded, opus(1), "{provider}: the page plays what was recorded");
    }
    let listed: Value = server
        .client
        .get(format!("{}/sandbox/inbound", server.base))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 4);
    server.sandbox.clear();
    assert!(server.sandbox.sent_in().is_empty(), "registered addresses stay, and notes do not");
    let again = json!({ "provider": "telegram", "from": "telegram:700000001", "audio": voice() });
    assert_eq!(order(&server, &again).await.0, 201);
}

#[tokio::test]
async fn deliveries_can_be_repeated_and_batches_regrouped() {
    let server = Server::start().await;
    let mut ear = registered(&server).await;
    let note = json!({ "provider": "evolution", "from": "+15551234567", "audio": voice() });
    let first = order(&server, &note).await.1["message_id"].clone();
    let mut more = note.clone();
    more["copies"] = json!(4);
    more["regroup"] = json!(true);
    let (_, sent) = order(&server, &more).await;
    assert_eq!(
        sent["answers"].as_array().unwrap().len(),
        4 + 2,
        "two of four deliveries have the other note, too"
    );
    let mut ids = Vec::new();
    for _ in 0..7 {
        let heard = ear.recv().await.unwrap().body;
        ids.push(heard["data"]["key"]["id"].clone());
    }
    assert_eq!(ids.iter().filter(|id| **id == first).count(), 3);
    assert_eq!(ids.iter().filter(|id| **id == sent["message_id"]).count(), 4);
}
