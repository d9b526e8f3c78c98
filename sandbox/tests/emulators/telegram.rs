//! The Telegram emulator: refusals in the server's own words, and files that go by their id afterwards.
use crate::common::{Server, opus, wav};
use serde_json::{Value, json};

const ANN: &str = "123456789";
const NO_VOICE: &str = "222000222";
const TOKEN: &str = "bot123456789:sandbox-telegram-token";

/// A form with one file, as clients write it.
fn form(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend(part.into_bytes());
    }
    if let Some((name, bytes)) = file {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"voice.ogg\"\r\nContent-Type: audio/ogg\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    ("multipart/form-data; boundary=b".to_owned(), body)
}

async fn post(server: &Server, method: &str, fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Value {
    let (kind, body) = form(fields, file);
    let url = format!("{}/telegram/{TOKEN}/{method}", server.base);
    server
        .client
        .post(url)
        .header("content-type", kind)
        .body(body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_note_is_shown_and_its_file_goes_by_its_id_afterwards() {
    let server = Server::start().await;
    let fields = [("chat_id", ANN), ("duration", "1"), ("caption", "Hello")];
    let first = post(&server, "sendVoice", &fields, Some(("voice", &opus(1)))).await;
    assert_eq!(first["ok"], true, "{first}");
    let id = first["result"]["voice"]["file_id"].as_str().unwrap().to_owned();
    let number = first["result"]["message_id"].to_string();
    let again = json!({"chat_id": 123_456_789, "voice": id, "duration": 1,
                       "reply_parameters": {"message_id": number.parse::<i64>().unwrap()}});
    let url = format!("{}/telegram/{TOKEN}/sendVoice", server.base);
    let second: Value = server.client.post(url).json(&again).send().await.unwrap().json().await.unwrap();
    assert_eq!(second["result"]["reply_to_message"]["message_id"], first["result"]["message_id"], "{second}");
    let ledger = server.sandbox.ledger();
    assert_eq!(ledger.len(), 2);
    assert_eq!(ledger[0].sha256, ledger[1].sha256);
    assert_eq!((ledger[0].form, &ledger[0].problems), ("voice", &vec![]));
    assert_eq!(ledger[0].text.as_deref(), Some("Hello"));
    let seen = serde_json::to_string(&(ledger, server.sandbox.requests())).unwrap();
    assert!(!seen.contains("sandbox-telegram-token"), "{seen}");
}

#[tokio::test]
async fn refusals_have_the_servers_words() {
    let server = Server::start().await;
    let voice = opus(1);
    let file = Some(("voice", voice.as_slice()));
    let long = "x".repeat(1025);
    for (fields, file, code, words) in [
        (vec![], file, 400, "chat_id is empty"),
        (vec![("chat_id", "42")], file, 400, "chat not found"),
        (vec![("chat_id", NO_VOICE)], file, 400, "VOICE_MESSAGES_FORBIDDEN"),
        (vec![("chat_id", "333000333")], file, 403, "bot was blocked by the user"),
        (vec![("chat_id", "-123456")], file, 400, "upgraded to a supergroup"),
        (vec![("chat_id", ANN), ("message_thread_id", "17")], file, 400, "message thread not found"),
        (vec![("chat_id", ANN), ("caption", &long)], file, 400, "caption is too long"),
        (vec![("chat_id", ANN)], None, 400, "there is no voice in the request"),
        (vec![("chat_id", ANN), ("voice", "AwACunknown")], None, 400, "wrong file_id"),
        (vec![("chat_id", ANN)], Some(("voice", &b""[..])), 400, "file must be non-empty"),
        (
            vec![("chat_id", ANN), ("reply_parameters", "{\"message_id\": 99}")],
            file,
            400,
            "message to be replied not found",
        ),
    ] {
        let answer = post(&server, "sendVoice", &fields, file).await;
        assert_eq!((&answer["ok"], &answer["error_code"]), (&json!(false), &json!(code)), "{answer}");
        assert!(answer["description"].as_str().unwrap().contains(words), "{answer} instead of {words}");
    }
    assert_eq!(server.sandbox.ledger_len(), 0);
    let wrong = format!("{}/telegram/bot1:other/getMe", server.base);
    assert_eq!(server.client.get(wrong).send().await.unwrap().status(), 401);
    let none = format!("{}/telegram/nonsense/getMe", server.base);
    assert_eq!(server.client.get(none).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn recipient_without_voice_messages_gets_audio_and_text() {
    let server = Server::start().await;
    let audio =
        post(&server, "sendAudio", &[("chat_id", NO_VOICE), ("duration", "1")], Some(("audio", &wav(1000))))
            .await;
    assert_eq!(audio["ok"], true, "{audio}");
    let text = post(&server, "sendMessage", &[("chat_id", NO_VOICE), ("text", "Hello")], None).await;
    assert_eq!(text["result"]["text"], "Hello");
    let forms: Vec<_> = server.sandbox.ledger().iter().map(|entry| entry.form).collect();
    assert_eq!(forms, ["audio", "text"]);
}

#[tokio::test]
async fn a_bot_has_one_webhook() {
    let server = Server::start().await;
    let set =
        post(&server, "setWebhook", &[("url", "https://bot.example/x"), ("secret_token", "abc")], None).await;
    assert_eq!(set["result"], true);
    let info = post(&server, "getWebhookInfo", &[], None).await;
    assert_eq!(info["result"]["url"], "https://bot.example/x");
    let refused = post(&server, "setWebhook", &[("url", "http://bot.example/x")], None).await;
    assert_eq!(refused["error_code"], 400);
    assert_eq!(post(&server, "deleteWebhook", &[], None).await["result"], true);
    assert_eq!(post(&server, "getWebhookInfo", &[], None).await["result"]["url"], "");
}
