//! The nine APIs that gateways reach by recipes: strict where their pages are.
use crate::common::{Server, file_server, opus, wav};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

const TOKEN: &str = "sandbox-http-token";

fn voice(bytes: &[u8]) -> Value {
    let media = format!("data:audio/ogg;base64,{}", BASE64_STANDARD.encode(bytes));
    json!({"to": "15551234567", "media": media, "waveform": BASE64_STANDARD.encode([127; 64])})
}

async fn whapi(server: &Server, body: &Value) -> (u16, Value) {
    let url = format!("{}/http/whapi/messages/voice", server.base);
    let response = server.client.post(url).bearer_auth(TOKEN).json(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn note_arrives_only_in_the_documented_format() {
    let server = Server::start().await;
    let good = voice(&opus(1));
    let (status, answer) = whapi(&server, &good).await;
    assert_eq!((status, &answer["sent"]), (200, &json!(true)), "{answer}");
    let entry = server.sandbox.ledger().pop().unwrap();
    assert_eq!((entry.form, entry.problems), ("voice", vec![]));
    assert_eq!(answer["message"]["id"], entry.message_id.as_str());
    for (field, value, status, words) in [
        ("to", json!("+15551234567"), 400, "/to: phone"),
        ("to", Value::Null, 400, "/to: phone"),
        ("media", json!("https://example.com/a.ogg"), 400, "no data URI"),
        ("media", json!("data:audio/mpeg;base64,AAAA"), 400, "media type"),
        ("media", json!("data:audio/ogg;base64,!"), 400, "no base64"),
        ("media", voice(&wav(100))["media"].clone(), 415, "is not taken"),
        ("waveform", json!([1, 2]), 400, "there is no field /waveform/0"),
        ("waveform", json!(BASE64_STANDARD.encode([128; 64])), 400, "above 127"),
        ("waveform", json!(BASE64_STANDARD.encode([1; 63])), 400, "64 bytes"),
        ("caption", json!("x"), 400, "there is no field /caption"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let (got, answer) = whapi(&server, &body).await;
        assert_eq!(got, status, "{field}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer} instead of {words}");
    }
    assert_eq!(server.sandbox.ledger_len(), 1);
    let seen = serde_json::to_string(&(server.sandbox.ledger(), server.sandbox.requests())).unwrap();
    assert!(!seen.contains(TOKEN), "{seen}");
}

#[tokio::test]
async fn address_method_credentials_and_body_are_checked() {
    let server = Server::start().await;
    let url = |path: &str| format!("{}/http/whapi/{path}", server.base);
    let good = voice(&opus(1));
    let send = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    let post = |path: &str| server.client.post(url(path)).bearer_auth(TOKEN);
    assert_eq!(send(post("messages/voice/").json(&good)).await, 404);
    assert_eq!(send(server.client.get(url("messages/voice")).bearer_auth(TOKEN)).await, 405);
    assert_eq!(send(post("messages/voice?token=x").json(&good)).await, 400);
    assert_eq!(send(server.client.post(url("messages/voice")).bearer_auth("x").json(&good)).await, 401);
    assert_eq!(send(server.client.post(url("messages/voice")).json(&good)).await, 401);
    assert_eq!(send(post("messages/voice").header("content-type", "text/plain").body("{}")).await, 415);
    assert_eq!(send(post("messages/voice").header("content-type", "application/json").body("{")).await, 400);
    assert_eq!(send(server.client.get(url("health")).bearer_auth(TOKEN)).await, 200);
    assert_eq!(send(server.client.post(format!("{}/http/nobody/x", server.base))).await, 404);
    assert_eq!(server.sandbox.ledger_len(), 0);
    let operations: Vec<_> = server.sandbox.requests().iter().map(|request| request.operation).collect();
    assert_eq!((operations[1], operations[7]), ("voice", "session"));
}

#[tokio::test]
async fn link_has_to_fit_length_and_extension_and_is_downloaded() {
    let server = Server::start().await;
    let files = file_server(opus(1), "audio/ogg").await;
    let url = format!("{}/http/sendblue/api/send-message", server.base);
    let send = async |link: String| {
        let request = server.client.post(&url).header("sb-api-key-id", "sandbox-key-id");
        let body = json!({"number": "+15551234567", "from_number": "+15005550006", "media_url": link});
        let response = request.header("sb-api-secret-key", TOKEN).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    for (link, status, words) in [
        (format!("{files}/voice.ogg"), 400, "has to end in .caf"),
        (format!("{files}/voice.caf?signature=x"), 400, "has to end in .caf"),
        (format!("{files}/{}.caf", "x".repeat(2000)), 400, "at most 2000"),
        ("http://127.0.0.1:9/voice.caf".to_owned(), 400, "cannot be downloaded"),
        // The name says CAF, and the bytes are Ogg.
        (format!("{files}/voice.caf"), 415, "is not taken"),
    ] {
        let (got, answer) = send(link).await;
        assert_eq!(got, status, "{answer}");
        assert!(answer["error_message"].as_str().unwrap().contains(words), "{answer} instead of {words}");
    }
    assert_eq!(server.sandbox.ledger_len(), 0);
}
