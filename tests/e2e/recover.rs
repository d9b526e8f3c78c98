//! Recovery after an outage: what did not arrive is sent again, once.

use std::{collections::BTreeSet, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    harness::{KEY, OTHER_KEY, World, beside, fixture, read},
    metrics::body,
    shared,
};

fn refuse() -> Fault {
    // The provider does not take the audio. A refused account would pause its connection.
    let body = Some(json!({ "error": { "code": 5004, "message": "refused" } }));
    let action = FaultAction::Status { status: 422, body, headers: Default::default(), retry_after: None };
    Fault::new(Provider::LINQ, Operation::Voicememo, action)
}

impl World {
    async fn recover(&self, body: &Value) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}/voice/recover", self.url)).bearer_auth(KEY).json(body);
        read(request.send().await.expect("an answer")).await
    }

    /// Reads a task until it meets the condition. Time does not pass meanwhile.
    async fn until_task(&self, task: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/tasks/{}", task["id"].as_str().expect("an id"));
        for _ in 0..1500 {
            let (status, task) = read(self.get(&path).send().await.expect("an answer")).await;
            assert_eq!(status, StatusCode::OK, "{task}");
            if wanted(&task) {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "waited in vain; the task is {:#}",
            read(self.get(&path).send().await.expect("an answer")).await.1
        )
    }

    async fn until_done(&self, task: &Value) -> Value {
        self.until_task(task, |task| task["status"] == "done").await
    }

    fn now(&self) -> String {
        use voicegate::model::clock::Clock;
        self.clock.now().to_string()
    }

    /// Sends notes that the provider refuses, and returns their ids.
    async fn failed(&self, count: u32) -> Vec<String> {
        self.sandbox.add_fault(refuse().times(count));
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.accept("", fixture("speech-24k.mp3")).await);
        }
        for id in &ids {
            self.until_status(id, "failed").await;
        }
        ids
    }

    /// The notes that repeat others, by `resend_of`.
    async fn resends(&self) -> Vec<(String, String)> {
        let (_, page) = read(self.get("/voice?limit=200").send().await.expect("an answer")).await;
        let notes = page["items"].as_array().expect("notes").iter();
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        notes
            .filter(|note| !note["resend_of"].is_null())
            .map(|note| (text(&note["resend_of"]), text(&note["id"])))
            .collect()
    }
}

#[tokio::test]
async fn one_order_sends_every_failed_note_again_once() {
    let world = World::start().await;
    let ids = world.failed(5).await;
    let fine = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&fine, "accepted").await;

    let request = world.http.post(format!("{}/voice/recover", world.url)).bearer_auth(KEY);
    let response = request.send().await.expect("an answer");
    let location = response.headers()["location"].to_str().expect("text").to_owned();
    let (status, task) = read(response).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{task}");
    assert_eq!(location, format!("/tasks/{}", task["id"].as_str().expect("an id")));
    assert_eq!((&task["kind"], &task["status"]), (&json!("recover"), &json!("running")), "{task}");
    assert_eq!((&task["total"], &task["done"]), (&json!(5), &json!(0)), "{task}");

    let task = world.until_done(&task).await;
    assert_eq!((&task["total"], &task["done"], &task["failed"]), (&json!(5), &json!(5), &json!(0)), "{task}");
    assert!(task["ended_at"].is_string(), "{task}");
    let resends = world.resends().await;
    let originals: BTreeSet<&String> = resends.iter().map(|(original, _)| original).collect();
    assert_eq!((resends.len(), originals), (5, ids.iter().collect()));
    for (_, id) in &resends {
        world.until_status(id, "accepted").await;
    }
    assert_eq!(world.delivered("linq").len(), 6);

    let (_, again) = world.recover(&json!({})).await;
    assert_eq!(again["total"], 0, "a note with a resend is not found: {again}");
    world.until_done(&again).await;
    assert_eq!(world.resends().await.len(), 5);
    let metrics = world.http.get(format!("{}/metrics", world.url)).send().await.expect("an answer");
    let metrics = body(metrics).await;
    let line = |line: &&str| line.starts_with("voicegate_recovered_notes_total{") && line.contains("resent");
    assert!(metrics.lines().any(|text| line(&text)), "{metrics}");
}

#[tokio::test]
async fn notes_that_cannot_be_sent_again_do_not_use_up_the_limit() {
    let world = World::start().await;
    let ids = world.failed(3).await;
    for id in &ids[..2] {
        let request = world.http.delete(format!("{}/voice/{id}", world.url)).bearer_auth(KEY);
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    }
    let (_, task) = world.recover(&json!({ "limit": 1 })).await;
    let task = world.until_done(&task).await;
    assert_eq!((&task["total"], &task["done"], &task["failed"]), (&json!(3), &json!(1), &json!(2)), "{task}");
    assert_eq!(task["failures"], json!({ "media_expired": 2 }));
    assert_eq!(world.resends().await[0].0, ids[2]);
}

#[tokio::test]
async fn resend_that_failed_is_recovered_in_place_of_its_original() {
    let world = World::start().await;
    let ids = world.failed(1).await;
    world.sandbox.add_fault(refuse().times(1));
    let (_, task) = world.recover(&json!({})).await;
    assert_eq!(world.until_done(&task).await["done"], 1, "the task does not find its own resend");
    let first = world.resends().await.remove(0);
    world.until_status(&first.1, "failed").await;
    // Time has to pass: what a task made at the moment of an order does not count for that order.
    world.clock.advance(Duration::from_secs(1));
    let (_, task) = world.recover(&json!({})).await;
    assert_eq!(task["total"], 1, "{task}");
    world.until_done(&task).await;
    let resends = world.resends().await;
    let second = resends.iter().find(|resend| **resend != first).expect("another");
    assert_eq!((second.0.as_str(), first.0.as_str()), (first.1.as_str(), ids[0].as_str()));
    world.until_status(&second.1, "accepted").await;
}

#[tokio::test]
async fn unknown_notes_are_recovered_only_by_name() {
    let world = World::start().await;
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, FaultAction::ResetBefore));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "unknown").await;
    let (_, task) = world.recover(&json!({})).await;
    assert_eq!(task["total"], 0, "{task}");
    let (_, task) = world.recover(&json!({ "status": ["unknown"] })).await;
    assert_eq!(world.until_done(&task).await["done"], 1);
    let resends = world.resends().await;
    assert_eq!(resends[0].0, id);
    // No time passes: the original no longer holds its lane.
    world.until_status(&resends[0].1, "accepted").await;
}

#[tokio::test]
async fn order_chooses_notes_by_time_connection_and_number() {
    let world = World::start().await;
    let mut ids = world.failed(1).await;
    world.clock.advance(Duration::from_secs(60));
    let since = world.now();
    ids.extend(world.failed(1).await);
    world.clock.advance(Duration::from_secs(60));
    ids.extend(world.failed(2).await);
    let until = world.now();
    world.clock.advance(Duration::from_secs(60));
    let others = world.recover(&json!({ "via": "whatsapp" })).await.1;
    assert_eq!(others["total"], 0, "{others}");
    let body = json!({ "via": "imessage", "since": since, "until": until, "limit": 2, "status": ["failed"] });
    let (_, task) = world.recover(&body).await;
    assert_eq!(task["total"], 2, "{task}");
    let task = world.until_done(&task).await;
    assert_eq!((&task["total"], &task["done"]), (&json!(2), &json!(2)), "{task}");
    let originals: BTreeSet<String> =
        world.resends().await.into_iter().map(|(original, _)| original).collect();
    assert!(originals.contains(&ids[1]) && !originals.contains(&ids[0]), "{ids:?} {originals:?}");
}

#[tokio::test]
async fn wrong_order_is_refused_by_field() {
    let world = World::start().await;
    for (body, status, field) in [
        (json!({ "status": [] }), 400, "status"),
        (json!({ "status": ["canceled"] }), 400, "status"),
        (json!({ "status": "failed" }), 400, "status"),
        (json!({ "since": "yesterday" }), 400, "since"),
        (json!({ "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z" }), 400, "until"),
        (json!({ "via": "fax" }), 422, "via"),
        (json!({ "limit": 0 }), 400, "limit"),
        (json!({ "limit": 100_001 }), 400, "limit"),
        (json!({ "limit": "7" }), 400, "limit"),
        (json!({ "limit": 1.5 }), 400, "limit"),
        (json!({ "statuses": [] }), 400, "statuses"),
        (json!([]), 400, "body"),
    ] {
        let (answered, problem) = world.recover(&body).await;
        assert_eq!((answered.as_u16(), &problem["field"]), (status, &json!(field)), "{body}: {problem}");
    }
    let form = world.http.post(format!("{}/voice/recover", world.url)).bearer_auth(KEY).body("status=failed");
    let (status, problem) = read(form.send().await.expect("an answer")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (415, &json!("unsupported_media_type")), "{problem}");
}

#[tokio::test]
async fn order_is_idempotent_and_belongs_to_its_tenant() {
    let world = World::start().await;
    world.failed(1).await;
    let order = async |limit: u32| {
        let request = world.http.post(format!("{}/voice/recover", world.url)).bearer_auth(KEY);
        let request = request.header("idempotency-key", "outage").json(&json!({ "limit": limit }));
        let response = request.send().await.expect("an answer");
        let replayed = response.headers().contains_key("idempotency-replayed");
        let (status, body) = read(response).await;
        (status.as_u16(), replayed, body)
    };
    let (status, replayed, task) = order(9).await;
    assert_eq!((status, replayed), (202, false), "{task}");
    world.until_done(&task).await;
    let (status, replayed, again) = order(9).await;
    assert_eq!((status, replayed, &again["id"]), (202, true, &task["id"]), "{again}");
    assert_eq!(again["status"], "done");
    let (status, _, problem) = order(8).await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_key_reused")), "{problem}");
    let path = format!("{}/tasks/{}", world.url, task["id"].as_str().expect("an id"));
    let foreign = world.http.get(&path).bearer_auth(OTHER_KEY).send().await.expect("an answer");
    assert_eq!(foreign.status(), StatusCode::NOT_FOUND);
    for id in ["x", "task_", "vn_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41"] {
        let answer = world.get(&format!("/tasks/{id}")).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{id}");
    }
    let of_other = world.http.post(format!("{}/voice/recover", world.url)).bearer_auth(OTHER_KEY);
    let (_, task) = read(of_other.send().await.expect("an answer")).await;
    assert_eq!(task["total"], 0, "notes of another tenant are not found: {task}");
}

/// The queue takes three quarters of four notes from a recovery.
#[tokio::test]
async fn full_queue_slows_a_task_and_leaves_room_for_new_notes() {
    let world = World::with(|config| {
        let rate = "token = \"sandbox-linq-token\"\nrate = \"1/60s\"\n[tenants.a.connections.whatsapp]";
        let config = config.replace("token = \"sandbox-linq-token\"\n[tenants.a.connections.whatsapp]", rate);
        config.replace("[tenants.a]\n", "[delivery]\nmax_queue_per_tenant = 4\n[tenants.a]\n")
    })
    .await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.extend(world.failed(1).await);
        world.clock.advance(Duration::from_secs(60));
    }
    // The rate lets nothing through, once this one is on its way.
    let fine = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&fine, "accepted").await;
    let (_, task) = world.recover(&json!({})).await;
    let waiting = world.until_task(&task, |task| task["waiting"].is_object()).await;
    assert_eq!(waiting["waiting"]["code"], "overloaded", "{waiting}");
    assert_eq!((&waiting["done"], &waiting["status"]), (&json!(3), &json!("running")), "{waiting}");
    let new = world.accept("", fixture("speech-24k.mp3")).await;
    let (_, same) = world.recover(&json!({})).await;
    assert_eq!(same["id"], task["id"], "while the task runs, the same order is the same task");
    for _ in 0..200 {
        world.clock.advance(Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(30)).await;
        let resends = world.resends().await;
        if resends.len() == 6 {
            break;
        }
    }
    let task = world.until_done(&task).await;
    assert_eq!((&task["done"], &task["failed"], &task["waiting"]), (&json!(6), &json!(0), &Value::Null));
    for id in world.resends().await.into_iter().map(|(_, id)| id).chain([new]) {
        for _ in 0..100 {
            if world.note(&id).await["status"] == "accepted" {
                break;
            }
            world.clock.advance(Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        world.until_status(&id, "accepted").await;
    }
}

#[tokio::test]
async fn note_that_cannot_be_sent_again_is_counted_with_its_reason() {
    let world = World::start().await;
    let ids = world.failed(2).await;
    world.clock.advance(Duration::from_secs(90_000));
    voicegate::delivery::housekeeping::remove_what_is_old(&world.gateway).await.expect("removed");
    let (status, _) = world.post(&format!("/voice/{}/resend", ids[0])).await;
    assert_eq!(status, StatusCode::GONE);
    let (_, task) = world.recover(&json!({})).await;
    let task = world.until_done(&task).await;
    assert_eq!((&task["total"], &task["done"], &task["failed"]), (&json!(2), &json!(0), &json!(2)), "{task}");
    assert_eq!(task["failures"], json!({ "media_expired": 2 }));
}

/// Two gateways share a database. Both take steps, and each note is sent again once.
#[tokio::test]
async fn two_processes_recover_each_note_once() {
    let Some((world, _database)) = shared::world(|config| config).await else { return };
    let ids = world.failed(12).await;
    let (other, _) = beside(&world, true).await;
    let orders = [json!({}), json!({ "limit": 50.0 }), json!({ "via": "imessage" })];
    let tasks = futures_util::future::join_all(orders.iter().map(|order| world.recover(order))).await;
    let mut done = 0;
    for (_, task) in &tasks {
        done += world.until_done(task).await["done"].as_u64().expect("a number");
    }
    let resends = world.resends().await;
    let originals: BTreeSet<&String> = resends.iter().map(|(original, _)| original).collect();
    assert_eq!((resends.len(), originals.len(), done), (12, ids.len(), 12));
    drop(other);
}
