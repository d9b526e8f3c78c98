//! Webhooks that fail: what was tried, what is posted again, and the pause after five days.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    bot::Bot,
    harness::{OTHER_KEY, World, fixture, read},
    metrics::body,
};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

async fn world(bot: &Bot) -> World {
    let webhook = format!("[tenants.a.webhook]\nurl = \"{}\"\nsecrets = [\"{SECRET}\"]\n", bot.url);
    World::with(|config| config + &webhook).await
}

impl World {
    async fn attempts(&self, event: &str) -> Vec<Value> {
        let answer = self.get(&format!("/events/{event}/attempts")).send().await.expect("an answer");
        let (status, body) = read(answer).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["items"].as_array().expect("items").clone()
    }

    async fn webhook(&self) -> Value {
        let (_, body) = read(self.get("/connections").send().await.expect("an answer")).await;
        body["webhook"].clone()
    }

    /// Asks until a condition holds; what is waited for happens a moment later, without time passing.
    async fn until_webhook(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..500 {
            let webhook = self.webhook().await;
            if wanted(&webhook) {
                return webhook;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain: {:#}", self.webhook().await)
    }

    /// A note that fails at once, of which the bot is told.
    async fn fail_a_note(&self) -> String {
        let body = Some(json!({ "error": { "code": 5004, "message": "refused" } }));
        let action =
            FaultAction::Status { status: 422, body, headers: Default::default(), retry_after: None };
        self.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, action).times(1));
        let id = self.accept("", fixture("speech-24k.mp3")).await;
        self.until_status(&id, "failed").await;
        id
    }

    /// Lets the webhook fail for five days, until it is paused.
    async fn pause_webhook(&self, bot: &Bot) {
        bot.answer(&[503; 40]);
        for day in 0..6 {
            let before = bot.count().borrow().len();
            self.fail_a_note().await;
            // Five failures in a row pause every connection for a moment.
            self.pass_until_told(bot, before + 1).await;
            if day < 5 {
                self.clock.advance(Duration::from_secs(24 * 60 * 60));
            }
        }
        self.until_webhook(|webhook| webhook["paused_at"].is_string()).await;
    }
}

#[tokio::test]
async fn tries_of_an_event_are_listed_without_the_address() {
    let bot = Bot::start().await;
    let world = world(&bot).await;
    bot.answer(&[500, 404]);
    world.fail_a_note().await;
    world.pass_until_told(&bot, 3).await;
    let event = bot.told(3).await.remove(0).id;
    let mut attempts = world.attempts(&event).await;
    for _ in 0..100 {
        if attempts.len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        attempts = world.attempts(&event).await;
    }
    let short: Vec<_> = attempts.iter().map(|attempt| (&attempt["status"], &attempt["error"])).collect();
    let (first, second) = (json!("the bot answered 500"), json!("the bot answered 404"));
    assert_eq!(
        short,
        [(&json!(500), &first), (&json!(404), &second), (&json!(200), &Value::Null)],
        "{attempts:#?}"
    );
    assert!(attempts.iter().all(|attempt| attempt["at"].is_string() && attempt["took_ms"].is_u64()));
    assert!(!format!("{attempts:?}").contains("S3CRET"));
    let path = format!("{}/events/{event}", world.url);
    for request in [world.http.get(format!("{path}/attempts")), world.http.post(format!("{path}/resend"))] {
        let answer = request.bearer_auth(OTHER_KEY).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "of another tenant");
    }
    for id in ["x", "ev_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41"] {
        let answer = world.get(&format!("/events/{id}/attempts")).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{id}");
    }
}

#[tokio::test]
async fn event_is_posted_again_by_order_with_its_id() {
    let bot = Bot::start().await;
    let world = world(&bot).await;
    let note = world.fail_a_note().await;
    let first = bot.told(1).await.remove(0);
    // Days later, when the retries of an event would be over.
    world.clock.advance(Duration::from_secs(40 * 60 * 60));
    let (status, summary) = world.post(&format!("/events/{}/resend", first.id)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{summary}");
    assert_eq!(
        (&summary["id"], &summary["type"], &summary["note_id"]),
        (&json!(first.id), &json!("voice.failed"), &json!(note))
    );
    let again = bot.told(2).await.remove(1);
    assert_eq!((&again.id, &again.body), (&first.id, &first.body));
    assert!(again.is_signed_with(SECRET));
}

#[tokio::test]
async fn orders_need_a_webhook() {
    let world = World::start().await;
    let (status, problem) = world.post("/webhook/recover").await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("wrong_state")), "{problem}");
    assert_eq!(world.webhook().await, Value::Null);
}

#[tokio::test]
async fn webhook_that_fails_for_five_days_is_paused_until_it_is_resumed() {
    let bot = Bot::start().await;
    let world = world(&bot).await;
    let stream = world.get("/events").send().await.expect("a stream");
    let paused = tokio::spawn(async move {
        let (mut bytes, mut text) = (stream.bytes_stream(), String::new());
        while !text.contains("event: webhook.paused") || !text.ends_with("\n\n") {
            text.push_str(
                std::str::from_utf8(&bytes.next().await.expect("more").expect("bytes")).expect("text"),
            );
        }
        text
    });
    world.pause_webhook(&bot).await;
    let webhook = world.webhook().await;
    assert_eq!(webhook["health"], "paused", "{webhook}");
    assert!(
        webhook["health_detail"].as_str().expect("a reason").contains("POST /webhook/recover"),
        "{webhook}"
    );
    let text = tokio::time::timeout(Duration::from_secs(30), paused).await.expect("in time").expect("read");
    let block = text.split("\n\n").find(|block| block.contains("event: webhook.paused")).expect("the event");
    let data = block.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    let event: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(
        (&event["type"], &event["data"]["paused_at"]),
        (&json!("webhook.paused"), &webhook["paused_at"])
    );
    let metrics = world.http.get(format!("{}/metrics", world.url)).send().await.expect("an answer");
    assert!(body(metrics).await.contains("voicegate_webhook_paused{tenant=\"a\"} 1"));

    let before = bot.count().borrow().len();
    let note = world.fail_a_note().await;
    world.clock.advance(Duration::from_secs(3600));
    let event = bot.told(before).await.pop().expect("an event").id;
    let (status, problem) = world.post(&format!("/events/{event}/resend")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("wrong_state")), "{problem}");
    assert_eq!(bot.count().borrow().len(), before, "nothing is posted");

    // The bot works again. What it missed within the last two days is posted, in order.
    bot.forget_answers();
    let (status, task) = world.post("/webhook/recover").await;
    assert_eq!((status, &task["kind"]), (StatusCode::ACCEPTED, &json!("webhook")), "{task}");
    world.until_webhook(|webhook| webhook["health"] == "ok").await;
    let missed = |told: &crate::bot::Told| told.body["data"]["id"] == json!(note);
    for _ in 0..300 {
        if bot.count().borrow().iter().any(missed) {
            break;
        }
        world.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(bot.count().borrow().iter().any(missed), "the event from the pause");
    let path = format!("/tasks/{}", task["id"].as_str().expect("an id"));
    for _ in 0..100 {
        let (_, task) = read(world.get(&path).send().await.expect("an answer")).await;
        if task["status"] == "done" {
            // What had been waiting for its next try went out as soon as the webhook was resumed.
            let count = |name: &str| task[name].as_u64().expect("a number");
            assert!(count("total") >= 2 && count("total") == count("done") + count("skipped"), "{task}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the task does not end");
}

#[tokio::test]
async fn paused_webhook_is_resumed_by_other_settings() {
    let bot = Bot::start().await;
    let world = world(&bot).await;
    world.pause_webhook(&bot).await;
    let successor = Bot::start().await;
    world.reconfigure(|config| config.replace(&bot.url, &successor.url)).expect("reloaded");
    for _ in 0..300 {
        // The settings are compared once in a minute.
        world.clock.advance(Duration::from_secs(10));
        if world.webhook().await["paused_at"].is_null() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let note = world.fail_a_note().await;
    let told = |told: &crate::bot::Told| told.body["data"]["id"] == json!(note);
    for _ in 0..300 {
        if successor.count().borrow().iter().any(told) {
            return;
        }
        world.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the successor was told of nothing");
}
