//! The Wawp emulator: lenient where the real one is, and loud about what phones would show.
use crate::common::{Server, file_server, opus, wav};
use serde_json::{Value, json};

const VOICE: &str = "audio/ogg; codecs=opus";

fn request(url: &str) -> Value {
    json!({
        "instance_id": "SANDBOX00001", "access_token": "sandbox-wawp-token", "chatId": "15551234567@c.us",
        "file[url]": url, "file[filename]": "note.ogg", "file[mimetype]": VOICE, "convert": false,
    })
}

async fn refused(server: &Server, body: Value, status: u16, code: &str) {
    let response = server.wawp(body.clone()).send().await.unwrap();
    let got = response.status().as_u16();
    let answer: Value = response.json().await.unwrap();
    assert_eq!((got, &answer["code"], &answer["status"]), (status, &json!(code), &json!(status)), "{body}");
    assert!(answer["message"].is_string() && answer["error"].is_string());
}

#[tokio::test]
async fn a_clean_note_in_both_spellings() {
    let server = Server::start().await;
    let files = file_server(opus(1), "audio/ogg; codecs=opus").await;
    let flat = request(&format!("{files}/note.ogg"));
    let mut nested = flat.clone();
    for name in ["url", "filename", "mimetype"] {
        nested["file"][name] = nested.as_object_mut().unwrap().remove(&format!("file[{name}]")).unwrap();
    }
    nested["reply_to"] = json!("false_15551234567@c.us_AAAA");
    nested.as_object_mut().unwrap().remove("access_token");
    let first = server.wawp(flat).send().await.unwrap();
    assert_eq!(first.status(), 200);
    let first: Value = first.json().await.unwrap();
    let second = server.wawp(nested).header("access-token", "sandbox-wawp-token").send().await.unwrap();
    assert_eq!(second.status(), 200);

    let id = first["id"]["_serialized"].as_str().unwrap();
    assert!(id.starts_with("true_15551234567@c.us_3EB0"), "{id}");
    assert_eq!((&first["ack"], &first["_data"]["id"]["_serialized"]), (&json!(0), &json!(id)));
    let ledger = server.sandbox.ledger();
    assert_eq!((ledger.len(), ledger[0].message_id.as_str()), (2, id));
    assert_eq!((&ledger[0].problems, ledger[0].form, ledger[0].convert), (&vec![], "voice", Some(false)));
    assert_eq!(
        (&ledger[1].problems, ledger[1].reply_to.as_deref()),
        (&vec![], Some("false_15551234567@c.us_AAAA"))
    );
    let seen = serde_json::to_string(&(ledger, server.sandbox.requests())).unwrap();
    assert!(!seen.contains("sandbox-wawp-token"));
}

#[tokio::test]
async fn bad_requests() {
    let server = Server::start().await;
    let files = file_server(opus(1), VOICE).await;
    let good = request(&format!("{files}/note.ogg"));
    for (field, value, status, code) in [
        ("access_token", json!("wrong"), 401, "invalid_token"),
        ("access_token", Value::Null, 401, "missing_token"),
        ("instance_id", json!("OTHER0000001"), 404, "invalid_session"),
        ("instance_id", Value::Null, 400, "bad_request"),
        ("chatId", json!("+15551234567@c.us"), 400, "bad_request"),
        ("chatId", json!("15551234567"), 400, "bad_request"),
        ("chatId", json!("15551234567@s.whatsapp.net"), 400, "bad_request"),
        ("convert", json!("true"), 400, "bad_request"),
        ("convert", Value::Null, 400, "bad_request"),
        ("file[url]", json!("data:audio/ogg;base64,AAAA"), 400, "bad_request"),
        ("file[url]", json!("http://127.0.0.1:9/x.ogg"), 500, "wawp_upstream_error"),
        ("file[url]", json!(format!("{files}/moved")), 500, "wawp_upstream_error"),
        ("file[filename]", Value::Null, 400, "bad_request"),
        ("file[mimetype]", json!(1), 400, "bad_request"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        refused(&server, body, status, code).await;
    }
    for jid in
        ["120363000000000000@g.us", "15551234567-1500000000@g.us", "1203630@newsletter", "99887766@lid"]
    {
        let mut body = good.clone();
        body["chatId"] = json!(jid);
        assert_eq!(server.wawp(body).send().await.unwrap().status(), 200, "{jid}");
    }
    assert_eq!(server.sandbox.ledger().len(), 4);
}

#[tokio::test]
async fn credentials_belong_into_the_json_body() {
    let server = Server::start().await;
    let url = format!("{}/wawp/v2/send/voice", server.base);
    let form = server.client.post(&url).header("content-type", "application/x-www-form-urlencoded");
    let form = form.body("instance_id=SANDBOX00001&access_token=sandbox-wawp-token").send().await.unwrap();
    assert_eq!(form.status(), 401);
    assert_eq!(form.json::<Value>().await.unwrap()["message"], "Missing access_token");
    assert!(server.sandbox.ledger().is_empty());

    let leaked = format!("{url}?instance_id=SANDBOX00001&access_token=sandbox-wawp-token");
    let response =
        server.client.post(leaked).json(&request("https://example.com/a.ogg")).send().await.unwrap();
    assert_eq!(response.status(), 400);
    let by_get = format!("{url}?instance_id=SANDBOX00001&access_token=sandbox-wawp-token");
    assert_eq!(server.client.get(by_get).send().await.unwrap().status(), 400);
    assert_eq!(server.client.get(&url).send().await.unwrap().status(), 405);
    let ledger = server.sandbox.ledger();
    assert_eq!((ledger.len(), ledger[0].form), (2, "refused"));
    assert!(ledger[0].problems[0].contains("Treat it as leaked"));
    let seen = serde_json::to_string(&(ledger, server.sandbox.requests())).unwrap();
    assert!(!seen.contains("sandbox-wawp-token"));
}

#[tokio::test]
async fn without_convert_other_formats_show_a_bubble_that_does_not_play() {
    let server = Server::start().await;
    for (bytes, part) in [(wav(100), "wav/pcm, 16 bit, not Ogg/Opus"), (opus(2), "2 channels")] {
        let files = file_server(bytes, VOICE).await;
        let sent = server.wawp(request(&format!("{files}/note.ogg"))).send().await.unwrap();
        assert_eq!(sent.status(), 200);
        let problems = server.sandbox.ledger().pop().unwrap().problems;
        assert!(problems[0].contains(part), "{problems:?}");
    }
    let files = file_server(opus(1), "audio/ogg").await;
    let mut body = request(&format!("{files}/note.ogg"));
    body["file[mimetype]"] = json!("audio/ogg");
    body["reply_to"] = json!("vn_1");
    server.wawp(body).send().await.unwrap();
    let problems = server.sandbox.ledger().pop().unwrap().problems;
    assert!(problems.len() == 2 && problems[0].contains("MIME type") && problems[1].contains("reply_to"));
}

#[tokio::test]
async fn with_convert_wawp_takes_other_audio() {
    let server = Server::start().await;
    let files = file_server(wav(100), "audio/wav").await;
    let mut body = request(&format!("{files}/note.wav"));
    body["convert"] = json!(true);
    body["file[mimetype]"] = json!("audio/wav");
    assert_eq!(server.wawp(body.clone()).send().await.unwrap().status(), 200);
    assert_eq!(server.sandbox.ledger()[0].problems, Vec::<String>::new());

    let nonsense = file_server(b"hello".to_vec(), "audio/wav").await;
    body["file[url]"] = json!(format!("{nonsense}/note.wav"));
    refused(&server, body, 400, "bad_format").await;
}

#[tokio::test]
async fn session_state_is_shown_to_its_owner() {
    let server = Server::start().await;
    let url = format!("{}/wawp/v2/session/info", server.base);
    let ask = async |body: Value| server.client.post(&url).json(&body).send().await.unwrap();
    let good = json!({"instance_id": "SANDBOX00001", "access_token": "sandbox-wawp-token"});
    let answer = ask(good.clone()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap()["status"], "WORKING");
    for (field, value, status, code) in [
        ("access_token", json!("wrong"), 401, "invalid_token"),
        ("access_token", Value::Null, 401, "missing_token"),
        ("instance_id", json!("OTHER0000001"), 404, "invalid_session"),
        ("instance_id", Value::Null, 400, "bad_request"),
        ("chatId", json!("15551234567@c.us"), 400, "bad_request"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let answer = ask(body.clone()).await;
        let got = answer.status().as_u16();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!((got, &answer["code"]), (status, &json!(code)), "{body}");
    }
    assert_eq!(server.client.get(&url).send().await.unwrap().status(), 405);
    assert!(server.sandbox.ledger().is_empty());

    let leaked = format!("{url}?instance_id=SANDBOX00001&access_token=sandbox-wawp-token");
    for request in [server.client.get(&leaked), server.client.post(&leaked).json(&good)] {
        assert_eq!(request.send().await.unwrap().status(), 400);
    }
    let ledger = server.sandbox.ledger();
    assert_eq!((ledger.len(), ledger[0].form), (2, "refused"));
    assert_eq!(ledger[0].via, "GET /v2/session/info, refused");
    let requests = server.sandbox.requests();
    assert!(requests.iter().all(|request| request.operation == "session"));
    let seen = serde_json::to_string(&(ledger, requests)).unwrap();
    assert!(!seen.contains("sandbox-wawp-token"));
}
