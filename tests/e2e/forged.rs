//! Forged, truncated, late and replayed callbacks: each changes nothing. Also the rotation of a secret while callbacks
//! arrive.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::{World, fixture};

const OLD: &str = "b2xkIHNlY3JldCBvZiBzb21lIGxlbmd0aA==";
const NEW: &str = "bmV3IHNlY3JldCBvZiBzb21lIGxlbmd0aA==";

/// A callback of Linq, as Linq would sign it: <https://www.standardwebhooks.com>
#[derive(Clone)]
struct Callback {
    id: String,
    at: i64,
    signature: String,
    body: String,
}

impl Callback {
    fn new(world: &World, secret: &str, id: &str, note: &Value, event: &str, more: &Value) -> Self {
        let mut data = json!({
            "is_from_me": true,
            "message_id": note["provider_message_id"],
            "message": { "id": note["provider_message_id"], "parts": [] },
        });
        data.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let body = json!({
            "api_version": "v3",
            "webhook_version": "2026-02-03",
            "event_type": event,
            "event_id": id,
            "created_at": "2026-01-01T00:00:00Z",
            "data": data,
        });
        Self {
            id: id.to_owned(),
            at: world.clock_seconds(),
            signature: String::new(),
            body: body.to_string(),
        }
        .signed(secret)
    }

    fn signed(mut self, secret: &str) -> Self {
        let key = BASE64_STANDARD.decode(secret).expect("base64");
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
        mac.update(format!("{}.{}.{}", self.id, self.at, self.body).as_bytes());
        self.signature = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        self
    }

    async fn send(&self, world: &World) -> StatusCode {
        let url = format!("{}/callbacks/a/imessage?version=2026-02-03", world.url);
        let request = world.http.post(url).header("content-type", "application/json");
        let request = request
            .header("webhook-id", &self.id)
            .header("webhook-timestamp", self.at.to_string())
            .header("webhook-signature", &self.signature);
        request.body(self.body.clone()).send().await.expect("an answer").status()
    }
}

fn secrets(world: &World, secrets: &[&str]) {
    let list: Vec<String> = secrets.iter().map(|secret| format!("\"whsec_{secret}\"")).collect();
    world
        .reconfigure(|text| {
            let kept = text.lines().filter(|line| !line.starts_with("webhook_secret"));
            let text = kept.collect::<Vec<_>>().join("\n");
            let head = "[tenants.a.connections.imessage]";
            text.replace(head, &format!("{head}\nwebhook_secret = [{}]", list.join(", ")))
        })
        .expect("sound");
}

async fn accepted(world: &World) -> (String, Value) {
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    let note = world.until_status(&id, "accepted").await;
    (id, note)
}

#[tokio::test]
async fn unauthenticated_callback_changes_nothing() {
    let world = World::start().await;
    secrets(&world, &[NEW]);
    let (id, note) = accepted(&world).await;
    let none = json!({});
    let genuine = Callback::new(&world, NEW, "evt-1", &note, "message.delivered", &none);

    let forged = genuine.clone().signed(OLD);
    let unsigned = Callback { signature: String::new(), ..genuine.clone() };
    let mut cut = genuine.clone();
    cut.body.truncate(cut.body.len() / 2);
    let altered = Callback { body: genuine.body.replace("delivered", "read"), ..genuine.clone() };
    let late = Callback { at: genuine.at - 301, ..genuine.clone() }.signed(NEW);
    let early = Callback { at: genuine.at + 301, ..genuine.clone() }.signed(NEW);
    let renamed = Callback { id: "evt-2".to_owned(), ..genuine.clone() };
    for (what, callback) in
        [("forged", forged), ("unsigned", unsigned), ("cut", cut), ("altered", altered), ("late", late)]
            .into_iter()
            .chain([("early", early), ("renamed", renamed)])
    {
        let status = callback.send(&world).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{what}");
        assert_eq!(world.note(&id).await, note, "{what}");
    }
    assert!(genuine.send(&world).await.is_success());
    world.until_status(&id, "delivered").await;
}

#[tokio::test]
async fn replayed_callback_changes_nothing() {
    let world = World::start().await;
    secrets(&world, &[NEW]);
    let (id, note) = accepted(&world).await;
    let failure = json!({ "code": 3007, "reason": "not delivered", "failed_at": "2026-01-01T00:00:00Z" });
    let failed = Callback::new(&world, NEW, "evt-1", &note, "message.failed", &failure);
    let delivered = Callback::new(&world, NEW, "evt-2", &note, "message.delivered", &json!({}));
    assert!(failed.send(&world).await.is_success());
    world.until_status(&id, "failed").await;
    assert!(delivered.send(&world).await.is_success());
    let note = world.until_status(&id, "delivered").await;
    for callback in [&failed, &delivered, &failed] {
        assert!(callback.send(&world).await.is_success(), "whoever repeats it is to stop");
        assert_eq!(world.note(&id).await, note);
    }
}

#[tokio::test]
async fn secret_rotation_loses_no_receipt() {
    let world = World::start().await;
    for (configured, valid, invalid) in [
        (vec![OLD], vec![OLD], vec![NEW]),
        (vec![NEW, OLD], vec![OLD, NEW], vec![]),
        (vec![NEW], vec![NEW], vec![OLD]),
    ] {
        secrets(&world, &configured);
        for (secret, is_valid) in
            valid.into_iter().map(|one| (one, true)).chain(invalid.into_iter().map(|one| (one, false)))
        {
            let (id, note) = accepted(&world).await;
            let event = format!("evt-{id}");
            let callback = Callback::new(&world, secret, &event, &note, "message.delivered", &json!({}));
            assert_eq!(callback.send(&world).await.is_success(), is_valid);
            let expected = if is_valid { "delivered" } else { "accepted" };
            assert_eq!(world.note(&id).await["status"], expected);
        }
    }
}
