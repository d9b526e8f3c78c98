//! The emulator of Discord's API: voice messages as they have to be, nonces, buckets.
use crate::common::{Server, opus};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

const GENERAL: &str = "2000000000000000001";
const NO_VOICE: &str = "2000000000000000002";
const AGENT: &str = "DiscordBot (https://bot.example, 1.0)";

fn call(server: &Server, method: &str, path: &str) -> RequestBuilder {
    let method = method.parse().unwrap();
    server
        .client
        .request(method, format!("{}/discord/{path}", server.base))
        .header("user-agent", AGENT)
        .header("authorization", "Bot sandbox-discord-token")
}

fn voice(change: Value) -> Value {
    let mut body = json!({
        "flags": 8192,
        "attachments": [{
            "id": "0", "filename": "voice.ogg", "duration_secs": 1.0,
            "waveform": BASE64_STANDARD.encode([0, 90, 255, 40]),
        }],
    });
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    body
}

async fn post(server: &Server, channel: &str, message: &Value, file: Option<(&str, &[u8])>) -> Response {
    let mut body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"payload_json\"\r\nContent-Type: application/json\r\n\r\n{message}\r\n"
    )
    .into_bytes();
    if let Some((kind, bytes)) = file {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"files[0]\"; filename=\"voice.ogg\"\r\nContent-Type: {kind}\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    call(server, "POST", &format!("channels/{channel}/messages"))
        .header("content-type", "multipart/form-data; boundary=b")
        .body(body)
        .send()
        .await
        .unwrap()
}

async fn refused(response: Response) -> (u16, u64) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["code"].as_u64().unwrap())
}

#[tokio::test]
async fn a_voice_message_is_shown_and_a_repeated_nonce_is_the_same_message() {
    let server = Server::start().await;
    let file = opus(1);
    let message = voice(json!({"nonce": "abc", "enforce_nonce": true}));
    let first: Value =
        post(&server, GENERAL, &message, Some(("audio/ogg", &file))).await.json().await.unwrap();
    assert_eq!(first["flags"], 8192, "{first}");
    assert_eq!(first["attachments"][0]["duration_secs"], 1.0);
    let second: Value =
        post(&server, GENERAL, &message, Some(("audio/ogg", &file))).await.json().await.unwrap();
    assert_eq!(second["id"], first["id"]);
    let ledger = server.sandbox.ledger();
    assert_eq!(ledger.len(), 1);
    assert_eq!((ledger[0].form, &ledger[0].problems), ("voice", &vec![]));
    let loose = voice(json!({"nonce": "abc"}));
    let third: Value = post(&server, GENERAL, &loose, Some(("audio/ogg", &file))).await.json().await.unwrap();
    assert_ne!(third["id"], first["id"], "a nonce that nobody enforces is decoration");
    let seen = serde_json::to_string(&(server.sandbox.ledger(), server.sandbox.requests())).unwrap();
    assert!(!seen.contains("sandbox-discord-token"), "{seen}");
}

#[tokio::test]
async fn voice_messages_are_as_they_have_to_be() {
    let server = Server::start().await;
    let file = opus(1);
    let sound = Some(("audio/ogg", file.as_slice()));
    let bare = json!([{"id": "0", "filename": "voice.ogg"}]);
    let long = "x".repeat(2001);
    for (channel, message, file, expected) in [
        (NO_VOICE, voice(json!({})), sound, (403, 50_173)),
        (GENERAL, voice(json!({"content": "hello"})), sound, (400, 50_159)),
        (GENERAL, voice(json!({})), None, (400, 50_160)),
        (GENERAL, voice(json!({"attachments": bare})), sound, (400, 50_161)),
        ("2000000000000000003", voice(json!({})), sound, (403, 50_001)),
        ("2000000000000000009", voice(json!({})), sound, (404, 10_003)),
    ] {
        assert_eq!(refused(post(&server, channel, &message, file).await).await, expected, "{message}");
    }
    // The bucket of the channel is empty after five messages; another sandbox has another.
    let server = Server::start().await;
    for (message, file, expected) in [
        (voice(json!({})), Some(("application/octet-stream", file.as_slice())), (400, 50_161)),
        (voice(json!({"nonce": "x".repeat(26)})), sound, (400, 50_035)),
        (json!({"content": long}), None, (400, 50_035)),
        (json!({}), None, (400, 50_006)),
    ] {
        assert_eq!(refused(post(&server, GENERAL, &message, file).await).await, expected, "{message}");
    }
    assert_eq!(server.sandbox.ledger_len(), 0);
    let url = format!("{}/discord/users/@me", server.base);
    let bad = server.client.get(&url).header("user-agent", AGENT).header("authorization", "Bot x");
    assert_eq!(bad.send().await.unwrap().status(), 401);
    let blocked = server.client.get(&url).header("authorization", "Bot sandbox-discord-token").send();
    assert_eq!(refused(blocked.await.unwrap()).await, (403, 40_333));
    assert_eq!(call(&server, "GET", "users/@me").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_bucket_says_when_it_is_empty() {
    let server = Server::start().await;
    let text = json!({"content": "Hello"});
    let path = format!("channels/{GENERAL}/messages");
    for left in ["4", "3", "2", "1", "0"] {
        let answer = call(&server, "POST", &path).json(&text).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-ratelimit-remaining"], left);
        let after: f64 = answer.headers()["x-ratelimit-reset-after"].to_str().unwrap().parse().unwrap();
        assert!(after > 0.0 && after <= 5.0, "{after}");
    }
    let over = call(&server, "POST", &path).json(&text).send().await.unwrap();
    assert_eq!(
        (over.status().as_u16(), &over.headers()["x-ratelimit-scope"]),
        (429, &"user".parse().unwrap())
    );
    let body: Value = over.json().await.unwrap();
    assert!(body["retry_after"].as_f64().unwrap() <= 5.0 && body["global"] == false, "{body}");
    let other = call(&server, "POST", &format!("channels/{NO_VOICE}/messages"));
    assert_eq!(other.json(&text).send().await.unwrap().status(), 200, "each channel has its own");
    assert_eq!(server.sandbox.ledger_len(), 6);
}

#[tokio::test]
async fn direct_messages_are_opened_first() {
    let server = Server::start().await;
    let text = json!({"content": "Hello"});
    let ann = "channels/4000000000000000001/messages";
    let early = call(&server, "POST", ann).json(&text).send().await.unwrap();
    assert_eq!(refused(early).await, (404, 10_003));
    for (person, expected) in
        [("3000000000000000001", 200), ("3000000000000000002", 200), ("17", 400), ("bob", 400)]
    {
        let body = json!({"recipient_id": person});
        let answer = call(&server, "POST", "users/@me/channels").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{person}");
    }
    assert_eq!(call(&server, "POST", ann).json(&text).send().await.unwrap().status(), 200);
    let closed = call(&server, "POST", "channels/4000000000000000002/messages").json(&text);
    assert_eq!(refused(closed.send().await.unwrap()).await, (403, 50_007));
}

#[tokio::test]
async fn faults_that_people_notice_are_in_the_ledger() {
    let server = Server::start().await;
    let file = opus(1);
    let with = |seconds: f64, points: &[u8]| {
        voice(json!({"attachments": [{
            "id": "0", "filename": "voice.ogg", "duration_secs": seconds, "waveform": BASE64_STANDARD.encode(points),
        }]}))
    };
    for (message, words) in
        [(with(1.0, &[7; 64]), "64 points"), (with(1.0, &[7; 5]), "flat"), (with(9.0, &[1, 2, 3]), "9000 ms")]
    {
        let answer = post(&server, GENERAL, &message, Some(("audio/ogg", &file))).await;
        assert_eq!(answer.status(), 200);
        let problems = server.sandbox.ledger().last().unwrap().problems.join(" ");
        assert!(problems.contains(words), "{words}: {problems}");
    }
}
