//! Requests of the dialects that send nothing: what a client asks before it sends, or when it is set up.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use super::{Answer, Door, answer, query, sample};
use crate::harness::{KEY, PHONE, World, read};

impl World {
    async fn ask(&self, door: Door, path: &str) -> Value {
        let Answer { status, body, .. } = answer(door.with_key(self.compat(Method::GET, path), KEY)).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }
}

#[tokio::test]
async fn document_of_the_dialects_is_served_to_everybody() {
    let world = World::start().await;
    let answer =
        world.http.get(format!("{}/openapi-compat.json", world.url)).send().await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let served: Value = read(answer).await.1;
    assert_eq!(served, serde_json::from_str::<Value>(voicegate::http::openapi_of_dialects()).expect("JSON"));
    for (path, item) in served["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let url = format!("{}{}", world.url, path.replace(['{', '}'], ""));
            let method = method.to_uppercase().parse().expect("a method");
            let status = world.http.request(method, url).send().await.expect("an answer").status();
            let is_open = operation["security"].as_array().expect("requirements").is_empty();
            assert_eq!(status == StatusCode::UNAUTHORIZED, !is_open, "{path}: {status}");
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }
}

#[tokio::test]
async fn instances_and_sessions_are_the_connections_and_routes() {
    let world = World::of_dialects().await;
    let instances = world.ask(Door::Evolution, "evolution/instance/fetchInstances").await;
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&instances), ["both", "support", "imessage", "whatsapp"]);
    assert_eq!(instances[0]["connectionStatus"], "open");
    assert_eq!(instances[0]["instance"]["instanceName"], "both");
    let one = world.ask(Door::Evolution, "evolution/instance/fetchInstances?instanceName=support").await;
    assert_eq!(names(&one), ["support"]);
    let by_id =
        format!("evolution/instance/fetchInstances?instanceId={}", one[0]["id"].as_str().expect("an id"));
    assert_eq!(world.ask(Door::Evolution, &by_id).await, one);
    let state = world.ask(Door::Evolution, "evolution/instance/connectionState/support").await;
    assert_eq!(state, json!({ "instance": { "instanceName": "support", "state": "open" } }));

    let sessions = world.ask(Door::Waha, "waha/api/sessions").await;
    assert_eq!(names(&sessions), ["default", "both", "support", "imessage", "whatsapp"]);
    let session = world.ask(Door::Waha, "waha/api/sessions/default?expand=apps").await;
    assert_eq!((&session, &session["status"]), (&sessions[0], &json!("WORKING")));
    let by_query = world.compat(Method::GET, &format!("waha/api/sessions?{}", query(&[("x-api-key", KEY)])));
    assert_eq!(answer(by_query).await.body, sessions, "the key may be in the query");

    for (door, path) in [
        (Door::Evolution, "evolution/instance/connectionState/nobody"),
        (Door::Evolution, "evolution/instance/fetchInstances?instanceName=nobody"),
        (Door::Waha, "waha/api/sessions/nobody"),
    ] {
        let refused = answer(door.with_key(world.compat(Method::GET, path), KEY)).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{path}: {}", refused.body);
        door.problem(&refused);
    }
}

#[tokio::test]
async fn account_that_is_refused_is_not_open() {
    let world = World::of_dialects().await;
    let refused =
        FaultAction::Status { status: 401, body: None, headers: Default::default(), retry_after: None };
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Any, refused).times(100));
    let refused = answer(Door::Evolution.request(&world, KEY, PHONE, &sample()).await).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
    let state = world.ask(Door::Evolution, "evolution/instance/connectionState/support").await;
    assert_eq!(state["instance"]["state"], "close");
    // Another connection of the route still works.
    let state = world.ask(Door::Evolution, "evolution/instance/connectionState/both").await;
    assert_eq!(state["instance"]["state"], "open");
    assert_eq!(world.ask(Door::Waha, "waha/api/sessions/imessage").await["status"], "FAILED");
    for (name, status) in [("imessage", "FAILED"), ("whatsapp", "WORKING"), ("anything", "FAILED")] {
        let path = format!("wawp/v2/session/info?instance_id={name}");
        assert_eq!(world.ask(Door::Wawp, &path).await["status"], status, "{name}");
    }
}

#[tokio::test]
async fn numbers_are_judged_without_asking_anybody() {
    let world = World::of_dialects().await;
    let numbers = json!({ "numbers": ["15551234567", "120363000000000000@g.us", "12", 15_551_234_567_u64] });
    let request = world.compat(Method::POST, "evolution/chat/whatsappNumbers/support").json(&numbers);
    let Answer { status, body, .. } = answer(request.header("apikey", KEY)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let known = json!({ "jid": "15551234567@s.whatsapp.net", "exists": true, "number": "15551234567" });
    assert_eq!((&body[0], &body[3]), (&known, &known));
    assert_eq!(body[1]["jid"], "120363000000000000@g.us");
    assert_eq!((&body[2]["exists"], &body[2]["number"]), (&json!(false), &json!("12")));
    assert_eq!(world.sandbox.requests().len(), 0);
}

#[tokio::test]
async fn open_paths_need_no_key() {
    let world = World::start().await;
    let about = answer(world.compat(Method::GET, "evolution/")).await.body;
    assert_eq!(about["status"], 200);
    assert!(about["version"].as_str().expect("a version").starts_with("2."), "{about}");
    assert_eq!(answer(world.compat(Method::GET, "waha/ping")).await.body, json!({ "message": "pong" }));
    let version = world.ask(Door::Waha, "waha/api/server/version").await;
    assert!(version["version"].is_string() && version["engine"].is_string(), "{version}");
}

#[tokio::test]
async fn key_of_wawp_is_read_wherever_its_clients_put_it() {
    let world = World::of_dialects().await;
    let info = |method: Method| world.compat(method, "wawp/v2/session/info");
    let asked = |method: Method, pairs: &[(&str, &str)]| {
        world.compat(method, &format!("wawp/v2/session/info?{}", query(pairs)))
    };
    let in_body = json!({ "instance_id": "x", "access_token": KEY });
    for request in [
        info(Method::POST).json(&in_body),
        info(Method::POST).header("access-token", KEY).json(&json!({ "instance_id": "x" })),
        info(Method::POST).bearer_auth(KEY),
        asked(Method::GET, &[("access_token", KEY), ("instance_id", "x")]),
        asked(Method::POST, &[("access_token", KEY)]),
    ] {
        let Answer { status, body, .. } = answer(request).await;
        assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("WORKING")), "{body}");
    }
    // A client names its instance in a header.
    let named = info(Method::POST).bearer_auth(KEY).header("x-instance-id", "whatsapp");
    assert_eq!(answer(named).await.body["name"], "whatsapp");
    // A large body is not looked into before it is known whose it is.
    let mut large = Door::Wawp.body(PHONE, &sample());
    large["access_token"] = json!(KEY);
    large["padding"] = json!("x".repeat(70_000));
    let refused = answer(world.compat(Method::POST, "wawp/v2/send/voice").json(&large)).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{}", refused.body);
    assert!(Door::Wawp.problem(&refused).contains("access-token"), "{}", refused.body);
    // Every field may be in the query.
    let super::Audio::Url(url) = super::served().await else { unreachable!("an address") };
    let fields = query(&[
        ("access_token", KEY),
        ("chatId", "15551234567@c.us"),
        ("file[url]", &url),
        ("convert", "true"),
    ]);
    let sent = answer(world.compat(Method::POST, &format!("wawp/v2/send/voice?{fields}"))).await;
    assert_eq!(sent.status, StatusCode::OK, "{}", sent.body);
    assert_eq!(world.app.memory.used(), 0);
}

#[tokio::test]
async fn delay_and_quoted_message_reach_the_note_and_a_repetition_is_the_same_request() {
    let world = World::of_dialects().await;
    world.reconfigure(|config| config.replace("wait = \"20s\"", "wait = \"200ms\"")).expect("reloaded");
    let first = answer(Door::Evolution.request(&world, KEY, PHONE, &sample()).await).await;
    let first = Door::Evolution.note(&first.body);
    world.until_status(&first, "accepted").await;
    let mut body = Door::Evolution.body(PHONE, &sample());
    body["delay"] = json!(60_000);
    body["quoted"] = json!({ "key": { "id": first, "remoteJid": "15551234567@s.whatsapp.net" } });
    let ask = || {
        let request = world.compat(Method::POST, "evolution/message/sendWhatsAppAudio/whatsapp");
        answer(request.header("apikey", KEY).header("idempotency-key", "later").json(&body))
    };
    let sent = ask().await;
    assert_eq!((sent.status.as_u16(), &sent.body["status"]), (201, &json!("PENDING")), "{}", sent.body);
    let id = Door::Evolution.note(&sent.body);
    let ((again, at_once), other) = tokio::join!(async { tokio::join!(ask(), ask()) }, ask());
    for again in [again, at_once, other] {
        assert_eq!(Door::Evolution.note(&again.body), id);
    }
    let note = world.note(&id).await;
    assert_eq!((&note["status"], &note["via"]), (&json!("queued"), &json!("whatsapp")), "{note}");
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(Door::Evolution.note(&ask().await.body), id, "the same request, although it came later");
    world.clock.advance(Duration::from_secs(60));
    let note = world.until_status(&id, "accepted").await;
    // The first note has no message at this connection, which is said.
    assert_eq!(note["warnings"][0]["code"], "reply_unsupported", "{note}");
}
