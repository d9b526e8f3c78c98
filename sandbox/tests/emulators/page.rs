//! The inbox page in a real browser: 500 notes, the filters, the search, and a provider's answer beside its request.
//! Without Chromium and Node the test says that it was skipped.
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Server, opus, wav};
use crate::receipts::ear;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

fn find(names: &[&str]) -> Option<String> {
    let runs = |name: &&&str| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    names.iter().find(runs).map(|name| (*name).to_owned())
}

async fn waha(server: &Server, action: &str, body: &Value) {
    let url = format!("{}/waha/api/{action}", server.base);
    let request = server.client.post(url).header("x-api-key", "sandbox-waha-key").json(body);
    assert_eq!(request.send().await.unwrap().status(), 201, "{action}");
}

async fn fill(server: &Server) {
    let voice = BASE64_STANDARD.encode(opus(1));
    for n in 0..500 {
        let file = json!({ "mimetype": "audio/ogg; codecs=opus", "filename": "voice.ogg", "data": voice });
        let chat = format!("{}@c.us", 15_551_000_000_u64 + n);
        let body = json!({ "session": "default", "chatId": chat, "file": file, "convert": false });
        waha(server, "sendVoice", &body).await;
    }
    let file =
        json!({ "mimetype": "audio/wav", "filename": "a.wav", "data": BASE64_STANDARD.encode(wav(100)) });
    waha(server, "sendFile", &json!({ "session": "default", "chatId": "15551234567@c.us", "file": file }))
        .await;

    let url = format!("{}/evolution/message/sendText/sandbox", server.base);
    let text = json!({ "number": "15551234567", "text": "Hello" });
    let text = server.client.post(url).header("apikey", "sandbox-evolution-key").json(&text);
    assert_eq!(text.send().await.unwrap().status(), 201);

    let message = json!({
        "flags": 8192,
        "attachments": [{ "id": "0", "filename": "voice.ogg", "duration_secs": 1.0, "waveform": "AFr/KA==" }],
    });
    let head = "--b\r\nContent-Disposition: form-data; name=\"payload_json\"\r\nContent-Type: application/json\r\n\r\n";
    let part = "\r\n--b\r\nContent-Disposition: form-data; name=\"files[0]\"; filename=\"voice.ogg\"\r\nContent-Type: audio/ogg\r\n\r\n";
    let mut body = format!("{head}{message}{part}").into_bytes();
    body.extend(opus(1));
    body.extend_from_slice(b"\r\n--b--\r\n");
    let url = format!("{}/discord/channels/2000000000000000001/messages", server.base);
    let voice = server
        .client
        .post(url)
        .header("user-agent", "DiscordBot (https://bot.example, 1.0)")
        .header("authorization", "Bot sandbox-discord-token")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(body);
    assert_eq!(voice.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn page_shows_and_finds_500_notes_in_a_browser() {
    let (Some(browser), Some(node)) =
        (find(&["chromium", "chromium-browser", "google-chrome"]), find(&["node"]))
    else {
        eprintln!("skipped: there is no Chromium, or no Node");
        return;
    };
    let server = Server::start().await;
    fill(&server).await;
    run(&node, &browser, "page.mjs", &server, &[]).await;
}

/// Runs a script of this folder with a browser that has a profile of its own.
async fn run(node: &str, browser: &str, script: &str, server: &Server, more: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulators").join(script);
    let profile = std::env::temp_dir().join(format!("voicegate-page-{}", uuid::Uuid::new_v4()));
    let mut command = Command::new(node);
    command.arg(script).arg(browser).arg(&profile).arg(format!("{}/", server.base)).args(more);
    // A picture of the page for people, where one is asked for.
    command.args(std::env::var_os("PAGE_PICTURE"));
    let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let _ = std::fs::remove_dir_all(profile);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test]
async fn microphone_of_a_phone_sends_a_voice_note_in() {
    let (Some(browser), Some(node)) =
        (find(&["chromium", "chromium-browser", "google-chrome"]), find(&["node"]))
    else {
        eprintln!("skipped: there is no Chromium, or no Node");
        return;
    };
    let server = Server::start().await;
    let (address, mut ear) = ear(&[]).await;
    let hook = json!({ "url": address, "events": ["message"], "hmac": { "key": "secret" } });
    let url = format!("{}/waha/api/sessions/default", server.base);
    let config = json!({ "config": { "webhooks": [hook] } });
    let put = server.client.put(url).header("x-api-key", "sandbox-waha-key").json(&config);
    assert_eq!(put.send().await.unwrap().status(), 200);

    // The bot downloads what was said, and answers it.
    let bot = async {
        let heard = tokio::time::timeout(Duration::from_secs(60), ear.recv()).await.unwrap().unwrap();
        let message = &heard.body["payload"];
        let file = message["media"]["url"].as_str().unwrap().replace("http://localhost:3000", "");
        let file =
            server.client.get(format!("{}/waha{file}", server.base)).header("x-api-key", "sandbox-waha-key");
        let bytes = file.send().await.unwrap().bytes().await.unwrap();
        assert!(bytes.len() > 1000, "{} bytes of a second and a half", bytes.len());
        let voice = BASE64_STANDARD.encode(opus(1));
        let file = json!({ "mimetype": "audio/ogg; codecs=opus", "filename": "voice.ogg", "data": voice });
        let body = json!({ "session": "default", "chatId": message["from"], "file": file, "convert": false,
                           "reply_to": message["id"] });
        waha(&server, "sendVoice", &body).await;
    };
    let page = run(&node, &browser, "microphone.mjs", &server, &["waha"]);
    tokio::join!(bot, page);
}

#[tokio::test]
async fn request_of_a_note_is_logged_with_answer_and_times() {
    let server = Server::start().await;
    let url = format!("{}/waha/api/sendText", server.base);
    let body = json!({ "session": "default", "chatId": "15551234567@c.us", "text": "Hello" });
    let request = server.client.post(url).header("x-api-key", "sandbox-waha-key").json(&body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let id = server.sandbox.ledger()[0].id;
    let get = async |path: String| server.client.get(format!("{}{path}", server.base)).send().await.unwrap();
    let log: Value = get(format!("/sandbox/ledger/{id}/request")).await.json().await.unwrap();
    assert_eq!(
        (&log["status"], &log["answer"], &log["body"]["text"]),
        (&json!(201), &answer, &json!("Hello"))
    );
    assert!(log["took_ms"].is_u64(), "{log}");
    let other = get(format!("/sandbox/ledger/{}/request", uuid::Uuid::new_v4())).await;
    assert_eq!(other.status(), 404);
}
