//! The Evolution emulator: refusals nested as the real one nests them, and answers that repeat the file.
use crate::common::{Server, file_server, opus, wav};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

fn post(server: &Server, path: &str, body: &Value) -> RequestBuilder {
    let url = format!("{}/evolution/{path}", server.base);
    server.client.post(url).header("apikey", "sandbox-evolution-key").json(body)
}

fn voice() -> Value {
    json!({ "number": "15551234567", "audio": BASE64_STANDARD.encode(opus(1)), "encoding": false })
}

async fn answered(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn every_form_is_taken() {
    let server = Server::start().await;
    let (status, answer) = answered(post(&server, "message/sendWhatsAppAudio/sandbox", &voice())).await;
    assert_eq!(
        (status, &answer["key"]["remoteJid"]),
        (201, &json!("15551234567@s.whatsapp.net")),
        "{answer}"
    );
    assert_eq!(answer["message"]["audioMessage"]["ptt"], true);
    let files = file_server(opus(1), "audio/ogg").await;
    let linked =
        json!({ "number": "120363000000000000@g.us", "audio": format!("{files}/v.ogg"), "encoding": false });
    assert_eq!(answered(post(&server, "message/sendWhatsAppAudio/sandbox", &linked)).await.0, 201);
    for (kind, form) in [("audio", "audio"), ("document", "file")] {
        let body = json!({ "number": "15551234567", "mediatype": kind, "mimetype": "audio/wav",
                           "media": BASE64_STANDARD.encode(wav(100)), "fileName": "a.wav" });
        assert_eq!(answered(post(&server, "message/sendMedia/sandbox", &body)).await.0, 201, "{kind}");
        assert_eq!(server.sandbox.ledger().last().unwrap().form, form);
    }
    let text = json!({ "number": "99887766@lid", "text": "Hello" });
    assert_eq!(answered(post(&server, "message/sendText/sandbox", &text)).await.0, 201);
    assert!(server.sandbox.ledger().iter().all(|entry| entry.problems.is_empty()));
    let seen = serde_json::to_string(&(server.sandbox.ledger(), server.sandbox.requests())).unwrap();
    assert!(!seen.contains("sandbox-evolution-key"));
}

#[tokio::test]
async fn refusals_are_nested_in_lists() {
    let server = Server::start().await;
    for (field, value, status, place, words) in [
        ("number", Value::Null, 400, "/response/message/0/0", "requires property"),
        ("number", json!(15_551_234_567_u64), 400, "/response/message/0/0", "not of a type"),
        ("number", json!("120363000000000000"), 400, "/response/message/0/0", "somebody else"),
        ("number", json!("120363000000000000@newsletter"), 400, "/response/message/0/0", "somebody else"),
        ("number", json!("15550000404"), 400, "/response/message/0/jid", "15550000404"),
        ("audio", json!("data:audio/ogg;base64,AAAA"), 400, "/response/message/0", "Owned media"),
        ("audio", json!("http://localhost:1/v.ogg"), 400, "/response/message/0", "Owned media"),
        ("encoding", json!("false"), 400, "/response/message/0/0", "boolean"),
        ("surprise", json!(1), 400, "/response/message/0/0", "surprise"),
    ] {
        let mut body = voice();
        body[field] = value.clone();
        let (got, answer) = answered(post(&server, "message/sendWhatsAppAudio/sandbox", &body)).await;
        let told = answer.pointer(place).and_then(Value::as_str).unwrap_or_default();
        assert!(got == status && told.contains(words), "{field} {value}: {got} {answer}");
    }
    let (status, closed) = answered(post(&server, "message/sendWhatsAppAudio/closed", &voice())).await;
    assert_eq!((status, &closed["response"]["message"]), (400, &json!(["Error: Connection Closed"])));
    assert_eq!(answered(post(&server, "message/sendWhatsAppAudio/other", &voice())).await.0, 404);
    let url = format!("{}/evolution/message/sendWhatsAppAudio/sandbox", server.base);
    assert_eq!(server.client.post(url).json(&voice()).send().await.unwrap().status(), 401);
    assert_eq!(server.sandbox.ledger_len(), 0);
}

#[tokio::test]
async fn second_encoding_is_reported_in_the_ledger() {
    let server = Server::start().await;
    let mut body = voice();
    body.as_object_mut().unwrap().remove("encoding");
    assert_eq!(answered(post(&server, "message/sendWhatsAppAudio/sandbox", &body)).await.0, 201);
    assert!(server.sandbox.ledger()[0].problems[0].contains("second time"));
    body["audio"] = json!(BASE64_STANDARD.encode(b"hello"));
    assert_eq!(answered(post(&server, "message/sendWhatsAppAudio/sandbox", &body)).await.0, 500);
}

#[tokio::test]
async fn an_instance_with_base64_repeats_the_whole_file() {
    let server = Server::start().await;
    let hook = json!({ "enabled": true, "url": "https://gateway.example/x", "base64": true, "events": ["SEND_MESSAGE"] });
    let find = format!("{}/evolution/webhook/find/sandbox", server.base);
    let find = || server.client.get(&find).header("apikey", "sandbox-evolution-key");
    assert_eq!(answered(find()).await, (200, Value::Null));
    let set = |hook: &Value| post(&server, "webhook/set/sandbox", &json!({ "webhook": hook }));
    assert_eq!(answered(set(&hook)).await.0, 201);
    let (_, answer) = answered(post(&server, "message/sendWhatsAppAudio/sandbox", &voice())).await;
    assert_eq!(answer["message"]["base64"], voice()["audio"]);
    server.sandbox.clear();
    assert_eq!(answered(find()).await.1["webhookBase64"], true, "it outlives clearing");
    for (field, value) in
        [("events", json!(["DREAM"])), ("url", json!("http://gateway.example/")), ("surprise", json!(1))]
    {
        let mut wrong = hook.clone();
        wrong[field] = value;
        assert_eq!(answered(set(&wrong)).await.0, 400, "{field}");
    }
    let flat = server.client.post(format!("{}/evolution/webhook/set/sandbox", server.base));
    assert_eq!(
        answered(flat.header("apikey", "sandbox-evolution-key").json(&hook)).await.0,
        400,
        "not nested"
    );
}
