//! Chats and attachments in Linq's dialect.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Door, answer};
use crate::harness::{KEY, OTHER_KEY, PHONE, World, fixture};

const NATIVE: &str = "f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd";

async fn post(world: &World, path: &str, body: &Value) -> Answer {
    answer(world.compat(Method::POST, path).bearer_auth(KEY).json(body)).await
}

async fn get(world: &World, path: &str) -> Answer {
    answer(world.compat(Method::GET, path).bearer_auth(KEY)).await
}

#[tokio::test]
async fn chat_stands_for_a_recipient_and_its_id_stays_valid() {
    let world = World::of_dialects().await;
    let id = world.chat(PHONE).await;
    assert_eq!(world.chat("+1 (555) 123-4567").await, id, "another spelling of the number");
    let shown = get(&world, &format!("linq/v3/chats/{id}")).await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.body);
    assert_eq!((&shown.body["id"], &shown.body["handles"][1]["handle"]), (&json!(id), &json!(PHONE)));
    assert!(!id.contains("5551234567"), "{id}");

    let created = post(&world, "linq/v3/chats", &json!({ "from": "+12052535597", "to": [PHONE] })).await;
    assert_eq!((created.status.as_u16(), &created.body["chat"]["id"]), (201, &json!(id)), "{}", created.body);
    assert_eq!(created.body["chat"]["message"]["parts"], json!([]));
    assert_eq!(world.sandbox.requests().len(), 0, "nothing was asked or sent");

    // The chat of another tenant is none here, and taken for one at Linq.
    let foreign =
        answer(world.compat(Method::GET, &format!("linq/v3/chats/{id}")).bearer_auth(OTHER_KEY)).await;
    assert_eq!(foreign.body["handles"][1]["handle"], format!("linq:{id}"), "{}", foreign.body);
    let native = get(&world, &format!("linq/v3/chats/{NATIVE}")).await;
    assert_eq!(native.body["handles"][1]["handle"], format!("linq:{NATIVE}"));

    world
        .reconfigure(|config| {
            config.replace("route = [\"imessage\"]\nroutes", "route = [\"whatsapp\"]\nroutes")
        })
        .expect("reloaded");
    let gone = get(&world, &format!("linq/v3/chats/{NATIVE}")).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "the route does not reach Linq any more");
    assert_eq!(gone.body["error"]["code"], 2001);
    assert_eq!(get(&world, "linq/v3/chats/no-uuid").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.chat(PHONE).await, id);
}

#[tokio::test]
async fn recipients_of_notes_are_listed_page_by_page() {
    let world = World::of_dialects().await;
    for to in [PHONE, "+15557654321", PHONE] {
        let body = json!({ "to": to, "via": "whatsapp", "audio": { "url": "https://example.com/a.mp3" } });
        assert_eq!(world.post_json(&body).send().await.expect("an answer").status(), StatusCode::ACCEPTED);
    }
    let all = get(&world, "linq/v3/chats").await.body;
    let handles: Vec<&Value> =
        all["chats"].as_array().expect("chats").iter().map(|chat| &chat["handles"][1]["handle"]).collect();
    assert_eq!(handles, [&json!(PHONE), &json!("+15557654321")]);
    assert_eq!(all["next_cursor"], Value::Null);
    let page = get(&world, "linq/v3/chats?limit=1").await.body;
    let next = page["next_cursor"].as_str().expect("a cursor");
    let page = get(&world, &format!("linq/v3/chats?limit=1&cursor={next}")).await.body;
    assert_eq!(page["chats"][0]["handles"][1]["handle"], "+15557654321");
    for path in
        ["linq/v3/chats?limit=0", "linq/v3/chats?limit=x", "linq/v3/chats?cursor=x", "linq/v3/chats?to=bob"]
    {
        let refused = get(&world, path).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{path}: {}", refused.body);
        Door::Linq.problem(&refused);
    }
}

#[tokio::test]
async fn new_chat_with_audio_sends_a_note_and_one_with_text_is_refused() {
    let world = World::of_dialects().await;
    let attachment = world.attach(fixture("speech-24k.mp3")).await;
    let message = |parts: Value| json!({ "from": "+12052535597", "to": [PHONE], "message": { "parts": parts, "idempotency_key": "k" } });
    let audio = json!([{ "type": "media", "attachment_id": attachment }]);
    let first = post(&world, "linq/v3/chats", &message(audio.clone())).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
    let sent = &first.body["chat"]["message"];
    assert_eq!((&sent["parts"][0]["id"], &sent["parts"][0]["type"]), (&json!(attachment), &json!("media")));
    let again = post(&world, "linq/v3/chats", &message(audio)).await;
    assert_eq!(again.body["chat"]["message"]["id"], sent["id"], "the key of the message is honoured");
    assert_eq!(world.delivered("linq").len(), 1);

    let text = json!([{ "type": "text", "value": "Hi, this is Ann's assistant." }]);
    let refused = post(&world, "linq/v3/chats", &message(text.clone())).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
    assert!(Door::Linq.problem(&refused).contains("voice notes"), "{}", refused.body);
    world
        .reconfigure(|config| {
            let opens = "token = \"sandbox-linq-token\"\nopen_chat = \"text\"\nopening_text = \"Hi, this is Ann's assistant.\"";
            config.replacen("token = \"sandbox-linq-token\"", opens, 1)
        })
        .expect("reloaded");
    let opened = post(&world, "linq/v3/chats", &message(text)).await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.body);
    for (body, status) in [
        (json!({ "to": [] }), 400),
        (json!({ "to": ["bob"] }), 400),
        (json!({ "to": [PHONE, "+15557654321"] }), 400),
        (json!({ "to": ["ann@example.com"] }), 422),
        (message(json!([{ "type": "imessage_app" }])), 400),
        (message(json!("text")), 400),
    ] {
        let refused = post(&world, "linq/v3/chats", &body).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.body);
        Door::Linq.problem(&refused);
    }
}

#[tokio::test]
async fn upload_has_to_be_what_was_agreed() {
    let world = World::of_dialects().await;
    let mp3 = fixture("speech-24k.mp3");
    let agreed = json!({ "filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": mp3.len() });
    let Answer { body, headers, .. } = post(&world, "linq/v3/attachments", &agreed).await;
    assert!(headers.contains_key("x-trace-id"));
    let (url, id) =
        (body["upload_url"].as_str().expect("an address"), body["attachment_id"].as_str().expect("an id"));
    let download = body["download_url"].as_str().expect("an address");
    assert_eq!(
        body["required_headers"],
        json!({ "Content-Type": "audio/mpeg", "Content-Length": mp3.len().to_string() })
    );
    let put =
        |kind: &str, bytes: Vec<u8>| answer(world.http.put(url).header("content-type", kind).body(bytes));
    let path = format!("linq/v3/attachments/{id}");
    let pending = get(&world, &path).await;
    assert_eq!(
        (pending.status.as_u16(), &pending.body["error"]["code"]),
        (404, &json!(2003)),
        "{}",
        pending.body
    );
    for (kind, bytes) in [
        ("audio/ogg", mp3.clone()),
        ("audio/mpeg", mp3[1..].to_vec()),
        ("audio/mpeg", [mp3.clone(), vec![0]].concat()),
    ] {
        let refused = put(kind, bytes).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{kind}: {}", refused.body);
        Door::Linq.problem(&refused);
    }
    assert_eq!(get(&world, &path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(put("audio/mpeg", mp3.clone()).await.status, StatusCode::OK);
    assert_eq!(put("audio/mpeg", mp3.clone()).await.status, StatusCode::OK, "the answer may have got lost");
    let mut other = mp3.clone();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    assert_eq!(put("audio/mpeg", other).await.status, StatusCode::BAD_REQUEST);
    let shown = get(&world, &path).await.body;
    assert_eq!(
        (&shown["filename"], &shown["content_type"], &shown["size_bytes"]),
        (&json!("a.mp3"), &json!("audio/mpeg"), &json!(mp3.len()))
    );
    for address in [download, shown["download_url"].as_str().expect("an address")] {
        let mut file = world.http.get(address).send().await.expect("an answer");
        assert_eq!(file.headers()["content-type"], "audio/mpeg");
        let mut bytes = Vec::new();
        while let Some(piece) = file.chunk().await.expect("a piece") {
            bytes.extend(piece);
        }
        assert_eq!(bytes, mp3);
    }
    // It is an upload like any other, and nobody else's.
    assert_eq!(
        world.get(&format!("/media/med_{id}")).send().await.expect("an answer").status(),
        StatusCode::OK
    );
    let foreign = answer(world.compat(Method::GET, &path).bearer_auth(OTHER_KEY)).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);

    let mut changed = url.to_owned();
    let at = url.len() - 9;
    changed.replace_range(at..=at, if &url[at..=at] == "A" { "B" } else { "A" });
    assert_eq!(
        answer(world.http.put(changed).header("content-type", "audio/mpeg").body(mp3.clone())).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        answer(world.http.get(url)).await.status,
        StatusCode::NOT_FOUND,
        "the address is for the upload"
    );
    world.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(put("audio/mpeg", mp3.clone()).await.status, StatusCode::NOT_FOUND, "the time is over");
    for wrong in [
        json!({ "filename": "a.mp3", "content_type": "audio/mpeg" }),
        json!({ "filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": 0 }),
        json!({ "filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": 200_000_000 }),
        json!({ "filename": "a.ogg", "content_type": "audio/ogg", "size_bytes": 10 }),
        json!({ "filename": "a.png", "content_type": "image/png", "size_bytes": 10 }),
        json!({ "filename": "", "content_type": "audio/mpeg", "size_bytes": 10 }),
    ] {
        let refused = post(&world, "linq/v3/attachments", &wrong).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}: {}", refused.body);
    }
}

#[tokio::test]
async fn memo_names_exactly_one_source_and_clients_are_told_not_to_repeat() {
    let world = World::of_dialects().await;
    let chat = world.chat(PHONE).await;
    let path = format!("linq/v3/chats/{chat}/voicememo");
    let absent = "01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41";
    for (body, status, code) in [
        (json!({}), 400, 1005),
        (json!({ "voice_memo_url": "https://example.com/a", "attachment_id": absent }), 400, 1005),
        (json!({ "attachment_id": "x" }), 400, 1005),
        (json!({ "attachment_id": absent }), 404, 2003),
    ] {
        let refused = post(&world, &path, &body).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.body["error"]["code"]),
            (status, &json!(code)),
            "{body}: {}",
            refused.body
        );
        assert_eq!(refused.headers["x-should-retry"], "false");
    }
    let attachment = world.attach(fixture("speech-24k.mp3")).await;
    let body = json!({ "attachment_id": attachment, "idempotency_key": "once", "force_notify": true });
    let first = post(&world, &path, &body).await;
    let again = post(&world, &path, &body).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.body);
    assert_eq!(first.body["voice_memo"]["voice_memo"]["id"], attachment);
    assert_eq!(first.body["voice_memo"]["chat"]["id"], chat);
    assert_eq!(
        again.body["voice_memo"]["id"], first.body["voice_memo"]["id"],
        "its own field is a key as well"
    );
    assert_eq!(world.delivered("linq").len(), 1);
    for key in ["k".repeat(256), "a\u{0}b".to_owned(), "clé".to_owned()] {
        let body = json!({ "attachment_id": attachment, "idempotency_key": key });
        let refused = post(&world, &path, &body).await;
        assert_eq!((refused.status.as_u16(), &refused.body["error"]["code"]), (400, &json!(1005)), "{key:?}");
    }
}
