//! The Linq emulator is as strict as the real one.
use crate::common::{CHAT, Server, file_server, linq_error, opus, wav};
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, NewChat, Operation, Provider, Service};

#[tokio::test]
async fn a_bearer_token_is_needed_and_every_answer_has_a_trace() {
    let server = Server::start().await;
    let url = format!("{}/linq/v3/chats", server.base);
    linq_error(server.client.get(&url).send().await.unwrap(), 401, 2004).await;
    linq_error(server.client.get(&url).bearer_auth("wrong").send().await.unwrap(), 401, 2004).await;
    let good = server.linq_get("/v3/chats").send().await.unwrap();
    assert_eq!(good.headers()["x-trace-id"].len(), 32);
    linq_error(server.linq_get("/v3/nothing").send().await.unwrap(), 404, 2001).await;
}

#[tokio::test]
async fn the_lines_of_the_account_are_a_plain_question() {
    let server = Server::start().await;
    let good = server.linq_get("/v3/phone_numbers").send().await.unwrap();
    assert_eq!(good.status(), 200);
    let lines: Value = good.json().await.unwrap();
    assert_eq!(lines["phone_numbers"][0]["phone_number"], "+12052535597");
    assert_eq!(lines["phone_numbers"][0]["reputation"]["status"], "HEALTHY");
    let url = format!("{}/linq/v3/phone_numbers", server.base);
    linq_error(server.client.get(&url).send().await.unwrap(), 401, 2004).await;
    linq_error(server.linq_get("/v3/phone_numbers?limit=1").send().await.unwrap(), 400, 1005).await;
    linq_error(server.linq_post("/v3/phone_numbers", json!({})).send().await.unwrap(), 404, 2001).await;
    assert!(server.sandbox.requests().iter().all(|request| request.operation == "lines"));
    assert!(server.sandbox.ledger().is_empty());
}

#[tokio::test]
async fn chats_are_found_by_handle_and_paged() {
    let server = Server::start().await;
    let get = async |path: &str| server.linq_get(path).send().await.unwrap();
    let json = async |path: &str| get(path).await.json::<Value>().await.unwrap();

    let found = json("/v3/chats?from=%2B12052535597&to=%2B15551234567").await;
    assert_eq!(found["chats"][0]["id"], CHAT);
    assert_eq!((found["chats"].as_array().unwrap().len(), &found["next_cursor"]), (1, &Value::Null));
    assert_eq!(json("/v3/chats?to=%2B19998887777").await["chats"], json!([]));

    let page = json("/v3/chats?limit=1").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = json(&format!("/v3/chats?limit=1&cursor={cursor}")).await;
    assert_eq!(rest["chats"][0]["service"], "RCS");
    assert_eq!(rest["next_cursor"], Value::Null);

    linq_error(get("/v3/chats?limit=0").await, 400, 1005).await;
    linq_error(get("/v3/chats?limit=101").await, 400, 1005).await;
    linq_error(get("/v3/chats?limit=many").await, 400, 1005).await;
    linq_error(get("/v3/chats?cursor=x").await, 400, 1005).await;
    linq_error(get("/v3/chats?to=+15551234567").await, 400, 1002).await;

    assert_eq!(json(&format!("/v3/chats/{CHAT}")).await["handles"][1]["handle"], "+15551234567");
    linq_error(get("/v3/chats/00000000-0000-4000-8000-000000000000").await, 404, 2001).await;
    linq_error(get("/v3/chats/nonsense").await, 400, 1003).await;
}

#[tokio::test]
async fn upload_requests_are_judged_field_by_field() {
    let server = Server::start().await;
    let good = json!({ "filename": "a.wav", "content_type": "audio/x-wav", "size_bytes": 10 });
    let cases = [
        ("content_type", json!("audio/wav"), 5004),
        ("content_type", json!("audio/ogg"), 5004),
        ("content_type", json!("audio/x-wav; codecs=1"), 5004),
        ("filename", json!(""), 1003),
        ("filename", json!("x".repeat(256)), 1003),
        ("filename", Value::Null, 1001),
        ("size_bytes", json!(0), 1003),
        ("size_bytes", json!("10"), 1003),
        ("size_bytes", json!(104_857_601), 5005),
        ("surprise", json!(1), 1003),
    ];
    for (field, value, code) in cases {
        let mut body = good.clone();
        body[field] = value;
        linq_error(server.linq_post("/v3/attachments", body).send().await.unwrap(), 400, code).await;
    }
    let largest = json!({ "filename": "a.wav", "content_type": "audio/x-wav", "size_bytes": 104_857_600 });
    assert_eq!(server.linq_post("/v3/attachments", largest).send().await.unwrap().status(), 200);
    let not_json = server.linq_post_text("/v3/attachments", good);
    linq_error(not_json.send().await.unwrap(), 400, 1003).await;
}

#[tokio::test]
async fn the_upload_link_is_as_picky_as_s3() {
    let server = Server::start().await;
    let upload = server.ask_upload("audio/x-wav", 4).await;
    assert_eq!(upload["http_method"], "PUT");
    assert_eq!(upload["required_headers"], json!({ "Content-Type": "audio/x-wav", "Content-Length": "4" }));
    let url = upload["upload_url"].as_str().unwrap();
    assert!(url.starts_with(&server.base), "where the caller found us");
    let put = |url: &str, content_type: &str, body: &'static str| {
        server.client.put(url).header("content-type", content_type).body(body)
    };
    let check = async |request: reqwest::RequestBuilder, status: u16, code: &str| {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        let body = response.text().await.unwrap();
        assert!(body.contains(&format!("<Code>{code}</Code>")), "{body}");
    };
    check(put(url, "audio/x-wav", "RIFF").bearer_auth("sandbox-linq-token"), 400, "InvalidArgument").await;
    check(put(url, "audio/wav", "RIFF"), 403, "SignatureDoesNotMatch").await;
    check(put(url, "audio/x-wav", "RIFFS"), 403, "SignatureDoesNotMatch").await;
    check(put(&format!("{url}0"), "audio/x-wav", "RIFF"), 403, "SignatureDoesNotMatch").await;
    let moved = url.replace("Expires=", "Expires=9");
    check(put(&moved, "audio/x-wav", "RIFF"), 403, "SignatureDoesNotMatch").await;
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>("RIFF")]);
    let chunked = put(url, "audio/x-wav", "").body(reqwest::Body::wrap_stream(chunks));
    check(chunked, 403, "SignatureDoesNotMatch").await;
    check(server.client.post(url).body("RIFF"), 403, "SignatureDoesNotMatch").await;

    assert_eq!(put(url, "audio/x-wav", "RIFF").send().await.unwrap().status(), 200);
    let file = server.client.get(upload["download_url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(
        (file.headers()["content-type"].to_str().unwrap(), file.content_length()),
        ("audio/x-wav", Some(4))
    );
}

#[tokio::test]
async fn a_memo_arrives_with_everything_about_it() {
    let server = Server::start().await;
    let id = server.upload("audio/x-wav", wav(1500)).await;
    let response = server.memo(&id).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let memo = &response.json::<Value>().await.unwrap()["voice_memo"];
    assert_eq!((&memo["status"], &memo["to"]), (&json!("queued"), &json!(["+15551234567"])));
    assert_eq!((&memo["voice_memo"]["id"], &memo["voice_memo"]["duration_ms"]), (&json!(id), &json!(1500)));
    assert_eq!((&memo["chat"]["id"], &memo["chat"]["is_active"]), (&json!(CHAT), &json!(true)));

    let [entry] = &server.sandbox.ledger()[..] else { panic!("one entry") };
    assert_eq!((entry.form, entry.conversation.as_str(), entry.size_bytes), ("voice", CHAT, 24_044));
    assert_eq!(json!(entry.message_id), memo["id"]);
    assert!(entry.problems.is_empty());
    assert_eq!(server.sandbox.audio(&entry.id).unwrap(), wav(1500));

    let list = server.linq_get(&format!("/v3/chats/{CHAT}/messages")).send().await.unwrap();
    assert_eq!(list.json::<Value>().await.unwrap()["messages"][0]["id"], memo["id"]);
    let names: Vec<_> = server.sandbox.requests().iter().map(|request| request.operation).collect();
    assert_eq!(names, ["attachments", "upload", "voicememo", "messages"]);
    assert!(!serde_json::to_string(&server.sandbox.requests()).unwrap().contains("sandbox-linq-token"));
}

#[tokio::test]
async fn a_memo_request_is_judged_in_full() {
    let server = Server::start().await;
    let path = format!("/v3/chats/{CHAT}/voicememo");
    let send = async |path: &str, body: Value| server.linq_post(path, body).send().await.unwrap();
    let never = server.ask_upload("audio/x-wav", 4).await["attachment_id"].clone();
    linq_error(send(&path, json!({})).await, 400, 1001).await;
    let both = json!({ "attachment_id": never, "voice_memo_url": "https://example.com/a.mp3" });
    linq_error(send(&path, both).await, 400, 1003).await;
    linq_error(send(&path, json!({ "attachment_id": never, "from": "+12052535597" })).await, 400, 1003).await;
    linq_error(send(&path, json!({ "attachment_id": "nonsense" })).await, 400, 1003).await;
    linq_error(send(&path, json!({ "attachment_id": never })).await, 404, 2003).await;
    let unknown = "/v3/chats/00000000-0000-4000-8000-000000000000/voicememo";
    linq_error(send(unknown, json!({ "attachment_id": never })).await, 404, 2001).await;
    let text = server.linq_post_text(&path, json!({ "attachment_id": never }));
    linq_error(text.send().await.unwrap(), 400, 1003).await;
    server.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, FaultAction::NotReady));
    linq_error(send(&path, json!({ "attachment_id": never })).await, 404, 2007).await;
    assert!(server.sandbox.ledger().is_empty());
}

#[tokio::test]
async fn the_bytes_of_a_memo_decide() {
    let server = Server::start().await;
    let mut flac = b"fLaC".to_vec();
    flac.resize(60, 0);
    for (mime, bytes, status, code) in [
        ("audio/mpeg", opus(1), 400, 5004),
        ("audio/mpeg", flac, 400, 5004),
        ("audio/mpeg", b"hello".to_vec(), 400, 5004),
        ("audio/x-m4a", wav(100), 400, 5006),
        ("audio/x-wav", wav(625_000), 413, 5001),
    ] {
        let id = server.upload(mime, bytes).await;
        linq_error(server.memo(&id).send().await.unwrap(), status, code).await;
    }
    assert!(server.sandbox.ledger().is_empty());
}

#[tokio::test]
async fn a_link_is_fetched_and_checked() {
    let server = Server::start().await;
    let files = file_server(wav(200), "audio/wav").await;
    let path = format!("/v3/chats/{CHAT}/voicememo");
    let send =
        async |url: String| server.linq_post(&path, json!({ "voice_memo_url": url })).send().await.unwrap();
    linq_error(send("http://example.com/a.wav".into()).await, 400, 1003).await;
    linq_error(send("http://127.0.0.1:9/a.wav".into()).await, 500, 5002).await;
    linq_error(send(format!("{files}/a.mp3")).await, 400, 5006).await;
    assert_eq!(send(format!("{files}/a.wav")).await.status(), 202);
    assert_eq!(send(format!("{files}/no-extension")).await.status(), 202);
    let big = file_server(wav(625_000), "audio/wav").await;
    linq_error(send(format!("{big}/a.wav")).await, 413, 5001).await;
}

#[tokio::test]
async fn rcs_and_sms_show_an_attachment() {
    let server = Server::start().await;
    let handles = vec!["+15557770000".to_owned()];
    let chat =
        server.sandbox.add_chat(NewChat { handles, service: Some(Service::Sms), ..NewChat::default() });
    let id = server.upload("audio/x-wav", wav(100)).await;
    let path = format!("/v3/chats/{chat}/voicememo");
    server.linq_post(&path, json!({ "attachment_id": id })).send().await.unwrap();
    assert_eq!(server.sandbox.ledger()[0].form, "audio");
}

#[tokio::test]
async fn a_message_opens_a_chat_once_for_each_key() {
    let server = Server::start().await;
    let body =
        json!({ "to": ["+15559990000"], "message": { "parts": [{ "type": "text", "value": "Hello" }] } });
    let send = async |key: &str| {
        let request = server.linq_post("/v3/messages", body.clone()).header("idempotency-key", key);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 202);
        response.json::<Value>().await.unwrap()
    };
    let first = send("k1").await;
    assert_eq!(first["created_new_chat"], true);
    assert_eq!((&first["from"], &first["service"]), (&json!("+12052535597"), &json!("iMessage")));
    assert_eq!(send("k1").await, first);
    let second = send("k2").await;
    assert_eq!((&second["chat_id"], &second["created_new_chat"]), (&first["chat_id"], &json!(false)));
    let forms: Vec<_> = server.sandbox.ledger().iter().map(|entry| entry.form).collect();
    assert_eq!(forms, ["text", "text"]);

    let in_body = json!({ "to": ["a@example.com"],
        "message": { "idempotency_key": "k1", "parts": [{ "type": "text", "value": "x" }] } });
    let replay = server.linq_post("/v3/messages", in_body).send().await.unwrap();
    assert_eq!(replay.json::<Value>().await.unwrap(), first);
}

#[tokio::test]
async fn message_bodies_are_validated() {
    let server = Server::start().await;
    let text = json!({ "type": "text", "value": "x" });
    let parts = |parts: Value| json!({ "to": ["+15559990000"], "message": { "parts": parts } });
    for (body, code) in [
        (json!({ "message": { "parts": [text] } }), 1001),
        (json!({ "to": ["+15559990000"] }), 1001),
        (json!({ "to": ["5559990000"], "message": { "parts": [text] } }), 1002),
        (json!({ "to": [], "message": { "parts": [text] } }), 1003),
        (json!({ "to": ["+15559990000"], "from": "+12052535597", "message": { "parts": [text] } }), 1003),
        (parts(json!([])), 1004),
        (parts(json!([text, text])), 1004),
        (parts(json!([{ "type": "text", "value": "" }])), 1004),
        (parts(json!([{ "type": "voice" }])), 1004),
    ] {
        linq_error(server.linq_post("/v3/messages", body).send().await.unwrap(), 400, code).await;
    }
    let link = json!({ "from": "+12052535597", "to": ["+15559990000"],
        "message": { "parts": [{ "type": "text", "value": "see https://example.com" }] } });
    linq_error(server.linq_post("/v3/chats", link).send().await.unwrap(), 400, 1005).await;
    assert!(server.sandbox.ledger().is_empty());

    let id = server.upload("audio/x-wav", wav(100)).await;
    let media = json!({ "message": { "parts": [{ "type": "media", "attachment_id": id }] } });
    let sent = server.linq_post(&format!("/v3/chats/{CHAT}/messages"), media).send().await.unwrap();
    assert_eq!((sent.status().as_u16(), server.sandbox.ledger()[0].form), (202, "audio"));
}
