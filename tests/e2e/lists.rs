//! Lists and deletion: `GET /voice`, `DELETE /voice/{id}`, `GET /connections`.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::harness::{KEY, World, fixture, read};

impl World {
    async fn list(&self, query: &str) -> Value {
        let response = self.get(&format!("/voice{query}")).send().await.expect("an answer");
        let (status, body) = read(response).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    async fn connection(&self, name: &str) -> Value {
        let (_, list) = read(self.get("/connections").send().await.expect("an answer")).await;
        let mut items = list["items"].as_array().expect("items").iter();
        items.find(|item| item["name"] == name).expect("the connection").clone()
    }
}

fn ids(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items").iter();
    items.map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn pages_are_newest_first_and_stable_while_notes_arrive() {
    let world = World::start().await;
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(world.accept("via=whatsapp", fixture("speech-24k.mp3")).await);
    }
    sent.reverse();
    assert_eq!(ids(&world.list("").await), sent);
    let first = world.list("?limit=2").await;
    assert_eq!(ids(&first), sent[..2]);
    world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let second = world.list(&format!("?limit=2&cursor={cursor}")).await;
    assert_eq!(ids(&second), sent[2..4]);
    let cursor = second["next_cursor"].as_str().expect("a cursor");
    let last = world.list(&format!("?limit=2&cursor={cursor}")).await;
    assert_eq!((ids(&last), &last["next_cursor"]), (sent[4..].to_vec(), &Value::Null));
    // A page that is exactly full is the last one.
    assert_eq!(world.list("?limit=6").await["next_cursor"], Value::Null);
}

#[tokio::test]
async fn lists_are_filtered_by_status_connection_and_recipient() {
    let world = World::start().await;
    let imessage = world.accept("via=imessage", fixture("speech-24k.mp3")).await;
    let whatsapp = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    let response = world.post_raw("to=%2B15557654321&via=imessage", fixture("speech-24k.mp3")).send().await;
    let failed = read(response.expect("an answer")).await.1["id"].as_str().expect("an id").to_owned();
    let jid = world.post_raw("to=15551234567@c.us&via=whatsapp", fixture("speech-24k.mp3")).send().await;
    let jid = read(jid.expect("an answer")).await.1["id"].as_str().expect("an id").to_owned();
    for id in [&imessage, &whatsapp, &jid] {
        world.until_status(id, "accepted").await;
    }
    world.until_status(&failed, "failed").await;
    for (query, expected) in [
        ("?status=failed", vec![&failed]),
        ("?via=whatsapp", vec![&jid, &whatsapp]),
        ("?to=%2B1%20(555)%20123-4567", vec![&whatsapp, &imessage]),
        ("?to=15551234567@c.us", vec![&jid]),
        ("?to=%2B15551234567&via=imessage&status=accepted", vec![&imessage]),
        ("?status=queued", vec![]),
        ("?via=fax", vec![]),
    ] {
        assert_eq!(ids(&world.list(query).await).iter().collect::<Vec<_>>(), expected, "{query}");
    }
    for (query, field, code) in [
        ("?status=lost", "status", "invalid_request"),
        ("?limit=0", "limit", "invalid_request"),
        ("?limit=201", "limit", "invalid_request"),
        ("?limit=x", "limit", "invalid_request"),
        ("?cursor=x", "cursor", "invalid_request"),
        ("?colour=red", "colour", "invalid_request"),
        ("?to=bob", "to", "recipient_invalid"),
    ] {
        let (status, problem) =
            read(world.get(&format!("/voice{query}")).send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {problem}");
        assert_eq!((&problem["field"], &problem["code"]), (&json!(field), &json!(code)), "{problem}");
    }
}

#[tokio::test]
async fn erased_note_has_no_personal_data() {
    let world = World::start().await;
    let query = "metadata=%7B%22name%22%3A%22Ann%22%7D&text=secret%20words&filename=for-ann.mp3";
    let id = world.accept(query, fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
    let path = format!("/voice/{id}");
    let delete = || world.http.delete(format!("{}{path}", world.url)).bearer_auth(KEY).send();
    for _ in 0..2 {
        assert_eq!(delete().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    }
    let note = world.note(&id).await;
    assert_eq!(
        (&note["to"], &note["metadata"], &note["status"]),
        (&Value::Null, &json!({}), &json!("accepted"))
    );
    let (status, problem) = read(world.get(&format!("{path}/audio")).send().await.expect("an answer")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::GONE, &json!("media_expired")));
    assert_eq!(ids(&world.list("?to=%2B15551234567").await), [""; 0]);
    assert_eq!(ids(&world.list("").await), [id]);
    assert!(!world.folder.path().join("media/notes").join(note["id"].as_str().expect("an id")).exists());

    let folder = world.stop().await;
    let url = format!("sqlite://{}/voicegate.db", folder.path().display());
    let store = sqlx::SqlitePool::connect(&url).await.expect("the database");
    for table in ["notes", "learned"] {
        let rows: Vec<String> = match table {
            "notes" => {
                sqlx::query_scalar("SELECT doc || COALESCE(recipient, '') FROM notes").fetch_all(&store).await
            }
            _ => sqlx::query_scalar("SELECT lane || value FROM learned").fetch_all(&store).await,
        }
        .expect("rows");
        for row in rows {
            for word in ["5551234567", "Ann", "secret words", "for-ann"] {
                assert!(!row.contains(word), "{table}: {row}");
            }
        }
    }
}

#[tokio::test]
async fn note_that_has_not_ended_is_not_erased() {
    let world = World::start().await;
    let stall = Fault::new(Provider::LINQ, Operation::Voicememo, FaultAction::ResetAfter);
    world.sandbox.add_fault(stall);
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "unknown").await;
    let delete = || world.http.delete(format!("{}/voice/{id}", world.url)).bearer_auth(KEY).send();
    let (status, problem) = read(delete().await.expect("an answer")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("wrong_state")), "{problem}");
    assert_eq!(problem["id"], json!(id));
    // The note ends when its lane is released.
    world.clock.advance(Duration::from_secs(31));
    let next = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&next, "accepted").await;
    assert_eq!(delete().await.expect("an answer").status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn connections_list_their_capabilities_and_health() {
    let world = World::start().await;
    let linq = world.connection("imessage").await;
    assert_eq!((&linq["provider"], &linq["health"]), (&json!("linq"), &json!("unchecked")));
    assert_eq!(linq["capabilities"]["profile"], "linq-1");
    assert_eq!(linq["capabilities"]["max_bytes"], 10_000_000);
    let wawp = world.connection("whatsapp").await;
    assert_eq!(wawp["capabilities"]["provider_converts"], true);
    assert_eq!(wawp["capabilities"]["degrade"], json!(["audio"]));

    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
    assert_eq!(world.connection("imessage").await["health"], "ok");

    let slow = FaultAction::RateLimit { retry_after: 30 };
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, slow));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until(&id, |note| note["status"] == "queued" && note["attempts"][0]["outcome"] == "deferred").await;
    let linq = world.connection("imessage").await;
    assert_eq!(linq["health"], "paused", "{linq}");
    assert!(linq["health_detail"].as_str().expect("a reason").contains("slow down"));
    world.to_next_attempt(&id, 1).await;
    world.until_status(&id, "accepted").await;
    assert_eq!(world.connection("imessage").await["health"], "ok");

    world.reconfigure(|config| config.replace("sandbox-wawp-token", "wrong-token")).expect("reloaded");
    let id = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "failed").await;
    let wawp = world.connection("whatsapp").await;
    assert_eq!(wawp["health"], "failing", "{wawp}");
    assert!(!wawp["health_detail"].as_str().expect("a reason").contains("wrong-token"));
}
