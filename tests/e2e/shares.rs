//! Limits of one tenant on shared resources, and rows that cannot be read.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use voicegate::delivery::housekeeping::{remove_orphans, remove_what_is_old};
use voicegate::model::clock::Clock;
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::harness::{KEY, OTHER_KEY, PHONE, World, fixture, read};
use crate::metrics::body;

/// The size of `fixture("speech-24k.mp3")` in bytes.
const SIZE: u64 = 12_429;

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let (status, body) = read(request.send().await.expect("an answer")).await;
    (status.as_u16(), body)
}

impl World {
    fn upload_for(&self, key: &str) -> RequestBuilder {
        let request = self.http.post(format!("{}/media", self.url)).bearer_auth(key);
        request.header("content-type", "audio/mpeg").body(fixture("speech-24k.mp3"))
    }

    fn note_for(&self, key: &str, query: &str) -> RequestBuilder {
        let request = self.http.post(format!("{}/voice?to=%2B15551234567{query}", self.url)).bearer_auth(key);
        request.header("content-type", "audio/mpeg").body(fixture("speech-24k.mp3"))
    }

    /// A time a number of seconds ahead, for a query.
    fn ahead(&self, seconds: u64) -> String {
        format!("&send_at={}", self.clock.now() + Duration::from_secs(seconds))
    }
}

fn nested(levels: usize) -> String {
    format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
}

#[tokio::test]
async fn depth_of_metadata_is_limited() {
    let world = World::start().await;
    let audio = format!("{{\"url\":\"{}/a.mp3\"}}", world.url);
    let json_body = |path: &str, metadata: &str| {
        let body = format!("{{\"to\":\"{PHONE}\",\"audio\":{audio},\"metadata\":{metadata}}}");
        let request = world.http.post(format!("{}{path}", world.url)).bearer_auth(KEY);
        request.header("content-type", "application/json").body(body)
    };
    let form = |metadata: &str| {
        let audio = reqwest::multipart::Part::bytes(fixture("speech-24k.mp3"));
        let form = reqwest::multipart::Form::new().text("to", PHONE).text("metadata", metadata.to_owned());
        world.http.post(format!("{}/voice", world.url)).bearer_auth(KEY).multipart(form.part("audio", audio))
    };
    let query = |metadata: &str| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("to", PHONE).append_pair("metadata", metadata);
        world.post_raw(&query.finish(), fixture("speech-24k.mp3"))
    };
    for (levels, status) in [(16, 202), (17, 400), (125, 400), (127, 400), (200, 400), (1000, 400)] {
        let metadata = nested(levels);
        for request in [json_body("/voice", &metadata), form(&metadata), query(&metadata)] {
            let (got, body) = answer(request).await;
            assert_eq!(got, status, "{levels}: {body}");
            if status == 400 {
                assert_eq!((&body["code"], &body["field"]), (&json!("invalid_request"), &json!("metadata")));
            } else {
                let id = body["id"].as_str().expect("an id");
                assert_eq!(world.note(id).await["metadata"].to_string(), metadata, "as it came");
            }
        }
    }
    let (_, problem) = answer(json_body("/voice/plan", &nested(17))).await;
    assert_eq!(problem["field"], "metadata", "{problem}");
}

#[tokio::test]
async fn stored_note_is_answered_with_202_if_its_state_cannot_be_read_while_waiting() {
    let world = World::start().await;
    world.sandbox.add_fault(Fault::new(Provider::WAWP, Operation::Voice, FaultAction::Slow { ms: 30_000 }));
    let url = format!("sqlite://{}/voicegate.db", world.folder.path().display());
    let raw = sqlx::SqlitePool::connect(&url).await.expect("the database");
    let request = world.post_raw("to=%2B15551234567&via=whatsapp", fixture("speech-24k.mp3"));
    let waiting = tokio::spawn(answer(request.header("prefer", "wait=4")));
    let (_, list) = loop {
        let listed = answer(world.get("/voice?status=sending")).await;
        if !listed.1["items"].as_array().expect("items").is_empty() {
            break listed;
        }
    };
    sqlx::query("ALTER TABLE notes RENAME TO away").execute(&raw).await.expect("renamed");
    assert!(!waiting.is_finished(), "it reads its note after this");
    let (status, note) = waiting.await.expect("an answer");
    sqlx::query("ALTER TABLE away RENAME TO notes").execute(&raw).await.expect("renamed");
    assert_eq!((status, &note["id"]), (202, &list["items"][0]["id"]), "{note}");
}

#[tokio::test]
async fn damaged_note_is_reported_and_can_be_erased() {
    let world = World::start().await;
    let scheduled = world.ahead(3600);
    let send = || world.note_for(KEY, &scheduled).header("idempotency-key", "once");
    let (status, note) = answer(send()).await;
    assert_eq!(status, 202, "{note}");
    let id = note["id"].as_str().expect("an id").to_owned();
    let sound = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&sound, "accepted").await;
    let url = format!("sqlite://{}/voicegate.db", world.folder.path().display());
    let raw = sqlx::SqlitePool::connect(&url).await.expect("the database");
    let damage = sqlx::query("UPDATE notes SET doc = '{\"id\":' WHERE id = $1").bind(&id);
    damage.execute(&raw).await.expect("damaged");

    let path = format!("/voice/{id}");
    for (what, request) in [
        ("read", world.get(&path)),
        ("audio", world.get(&format!("{path}/audio"))),
        ("events", world.get(&format!("{path}/events"))),
        ("cancel", world.http.post(format!("{}{path}/cancel", world.url)).bearer_auth(KEY)),
        ("resend", world.http.post(format!("{}{path}/resend", world.url)).bearer_auth(KEY)),
        ("repeat", send()),
    ] {
        let (status, problem) = answer(request).await;
        assert_eq!((status, &problem["code"]), (409, &json!("wrong_state")), "{what}: {problem}");
        assert_eq!(problem["id"], id, "{what}");
    }
    let foreign = world.http.get(format!("{}{path}", world.url)).bearer_auth(OTHER_KEY);
    assert_eq!(answer(foreign).await.0, 404);
    let (_, list) = answer(world.get("/voice")).await;
    let listed: Vec<&Value> =
        list["items"].as_array().expect("items").iter().map(|item| &item["id"]).collect();
    assert_eq!(listed, [&json!(sound)]);
    // A reply to it is sent as a message of its own.
    let (status, reply) = answer(world.note_for(KEY, &format!("&via=imessage&reply_to={id}"))).await;
    assert_eq!(status, 202, "{reply}");
    let metrics =
        body(world.http.get(format!("{}/metrics", world.url)).send().await.expect("an answer")).await;
    assert!(metrics.contains("voicegate_unreadable_rows_total{kind=\"note\"}"), "{metrics}");

    let erase = || world.http.delete(format!("{}{path}", world.url)).bearer_auth(KEY);
    for _ in 0..2 {
        assert_eq!(erase().send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    }
    let note = world.note(&id).await;
    assert_eq!((&note["status"], &note["to"]), (&json!("failed"), &Value::Null), "{note}");
    assert_eq!((&note["via"], &note["provider"]), (&json!("imessage"), &json!("linq")));
    let (status, again) = answer(send()).await;
    assert_eq!((status, &again["id"]), (202, &json!(id)), "the key still tells of it");
    world.clock.advance(Duration::from_secs(7200));
    let next = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&next, "accepted").await;
    assert_eq!(world.note(&id).await["status"], "failed", "it is not sent");
    remove_orphans(&world.gateway).await.expect("looked for");
    remove_what_is_old(&world.gateway).await.expect("looked for");
}

#[tokio::test]
async fn quota_of_one_tenant_does_not_affect_others() {
    let quota = 3 * SIZE + 100;
    let world = World::with(|config| {
        config.replace("[tenants.a]", &format!("[tenants.a]\nmax_storage = \"{quota}\""))
    })
    .await;
    let scheduled = world.ahead(3600);
    let keyed = || world.note_for(KEY, &scheduled).header("idempotency-key", "once");
    let (status, note) = answer(keyed()).await;
    assert_eq!(status, 202, "{note}");
    let mut uploads = Vec::new();
    for _ in 0..2 {
        let (status, upload) = answer(world.upload_for(KEY)).await;
        assert_eq!(status, 201, "{upload}");
        uploads.push(upload["id"].as_str().expect("an id").to_owned());
    }
    let by_upload = json!({ "to": PHONE, "audio": { "media_id": uploads[0] } });
    for (what, request) in [
        ("upload", world.upload_for(KEY)),
        ("raw", world.note_for(KEY, "")),
        ("a new key", world.note_for(KEY, "").header("idempotency-key", "other")),
        ("from an upload", world.post_json(&by_upload)),
    ] {
        let (status, problem) = answer(request).await;
        assert_eq!((status, &problem["code"]), (507, &json!("quota_exceeded")), "{what}: {problem}");
    }
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
    let (status, repeated) = answer(keyed()).await;
    assert_eq!((status, &repeated["id"]), (202, &note["id"]), "it was answered before");
    // The other tenants still have quota.
    assert_eq!(answer(world.upload_for(OTHER_KEY)).await.0, 201);
    assert_eq!(answer(world.note_for(OTHER_KEY, "")).await.0, 202);
    // Deletion frees quota.
    let deleted = world.http.delete(format!("{}/media/{}", world.url, uploads[1])).bearer_auth(KEY);
    assert_eq!(deleted.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    assert_eq!(answer(world.upload_for(KEY)).await.0, 201);
    assert_eq!(answer(world.upload_for(KEY)).await.0, 507);
    // The end of the retention frees quota as well.
    world.clock.advance(Duration::from_secs(8 * 24 * 3600));
    remove_what_is_old(&world.gateway).await.expect("removed");
    assert_eq!(answer(world.upload_for(KEY)).await.0, 201);
}

#[tokio::test]
async fn simultaneous_uploads_do_not_exceed_a_quota_together() {
    let quota = 4 * SIZE;
    let world = World::with(|config| {
        config.replace("[tenants.a]", &format!("[tenants.a]\nmax_storage = \"{quota}\""))
    })
    .await;
    let requests = (0..12).map(|_| answer(world.upload_for(KEY)));
    let answers = futures_util::future::join_all(requests).await;
    let kept = answers.iter().filter(|(status, _)| *status == 201).count();
    assert!((1..=4).contains(&kept), "{answers:?}");
    assert!(answers.iter().all(|(status, _)| matches!(status, 201 | 507)));
    let (_, bytes) = world.gateway.store.kept_audio().await.expect("counted").remove(0);
    assert_eq!(bytes, u64::try_from(kept).expect("few") * SIZE);
}

#[tokio::test]
async fn a_download_waits_while_its_tenant_is_at_its_quota() {
    let world = World::with(|config| {
        config.replace("[tenants.a]", &format!("[tenants.a]\nmax_storage = \"{}\"", SIZE + 10))
    })
    .await;
    let app = axum::Router::new().fallback(async || fixture("speech-24k.mp3"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/a.mp3", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let (_, upload) = answer(world.upload_for(KEY)).await;
    let body = json!({ "to": PHONE, "audio": { "url": url } });
    let (status, note) = answer(world.post_json(&body)).await;
    assert_eq!(status, 202, "it is not quite full: {note}");
    let id = note["id"].as_str().expect("an id");
    let note = world.until(id, |note| !note["attempts"][0].is_null()).await;
    assert_eq!(note["attempts"][0]["error"]["code"], "quota_exceeded", "{note}");
    let path = format!("{}/media/{}", world.url, upload["id"].as_str().expect("an id"));
    let deleted = world.http.delete(path).bearer_auth(KEY).send().await.expect("an answer");
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    world.to_next_attempt(id, 1).await;
    world.until_status(id, "accepted").await;
}

#[tokio::test]
async fn scheduled_notes_do_not_fill_the_queue() {
    let world = World::with(|config| {
        config + "\n[delivery]\nmax_queue = 4\nmax_queue_per_tenant = 3\nin_flight = 1\n"
    })
    .await;
    let (month, soon) = (world.ahead(30 * 24 * 3600), world.ahead(600));
    for key in [KEY, OTHER_KEY] {
        for status in [202, 202, 202, 503] {
            assert_eq!(answer(world.note_for(key, &month)).await.0, status, "scheduled for next month");
        }
    }
    // Two of the four slots are reserved for each tenant.
    for (key, status) in [(KEY, 202), (KEY, 202), (KEY, 202), (KEY, 503), (OTHER_KEY, 202), (OTHER_KEY, 202)]
    {
        let (got, body) = answer(world.note_for(key, &soon)).await;
        assert_eq!(got, status, "{body}");
    }
    assert_eq!(answer(world.note_for(OTHER_KEY, &soon)).await.0, 503);
}
