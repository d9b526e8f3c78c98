//! Tests of `kill -9` on the way in: a voice note whose callback was answered is announced once, whatever dies when.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::HeaderMap, routing::post};
use bytes::Bytes;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{
    gateway::{KEY, Process},
    postgres_server::Database,
    shared::on,
    waha_server::{Answer, WahaServer, signed, voice},
};

/// The events that a bot was told of: each with its `webhook-id`.
type Told = Arc<Mutex<Vec<(String, Value)>>>;

async fn bot() -> (String, Told) {
    let told = Told::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hooks", listener.local_addr().expect("an address"));
    let hook = async |State(told): State<Told>, headers: HeaderMap, Json(event): Json<Value>| {
        let id = headers["webhook-id"].to_str().expect("text").to_owned();
        told.lock().expect("unpoisoned").push((id, event));
    };
    let app = Router::new().route("/hooks", post(hook)).with_state(told.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, told)
}

/// The answer with a voice note.
pub fn ogg() -> Answer {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio/recorder-wideband.ogg");
    Answer::Audio(Bytes::from(std::fs::read(file).expect("a fixture")))
}

/// A gateway with a bot and a connection to a WAHA server.
pub struct House {
    pub process: Process,
    pub waha: WahaServer,
    told: Told,
}

impl House {
    async fn start(database: Option<&str>) -> Self {
        Self::with(database, |config| config).await
    }

    /// Starts with the usual configuration, changed by `edit`.
    pub async fn with(database: Option<&str>, edit: impl FnOnce(String) -> String) -> Self {
        let ((url, told), waha) = (bot().await, WahaServer::start().await);
        let more = format!(
            "[fetch]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n[tenants.a.webhook]\nurl = \"{url}\"\n\
             secrets = [\"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"]\n{}",
            waha.connection()
        );
        let on_database = |config: String| match database {
            Some(url) => on(url)(config) + &more,
            None => config + &more,
        };
        Self { process: Process::with(|config| edit(on_database(config))).await, waha, told }
    }

    /// Sends the callback of a message, and returns whether it was answered.
    pub async fn say(&self, message: &str) -> bool {
        let body = voice(message, &format!("{}/api/files/default/{message}.oga", self.waha.url)).to_string();
        let request = self
            .process
            .http
            .post(format!("{}/callbacks/a/waha", self.process.url))
            .header("x-webhook-hmac", signed(body.as_bytes()))
            .body(body);
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    pub async fn restart(&mut self) {
        self.process.kill();
        self.process.launch().await;
    }

    /// Waits until the bot was told of a message, and returns the statuses of all events about it.
    async fn told(&self, message: &str) -> Vec<String> {
        let told = self.told_of(message, "voice.received").await;
        told.into_iter().map(|event| event["data"]["status"].to_string()).collect()
    }

    /// Waits until the bot was told of a message by an event of this type, and returns all of them.
    pub async fn told_of(&self, message: &str, kind: &str) -> Vec<Value> {
        let of = |told: &[(String, Value)]| {
            let about = |event: &Value| {
                let id = event["data"]["provider_message_id"].as_str();
                event["type"] == kind && id.is_some_and(|id| id.ends_with(message))
            };
            // A webhook may be told of one event twice if the gateway dies before it has noted the answer. It has one id.
            let mut events: Vec<(String, Value)> =
                told.iter().filter(|(_, event)| about(event)).cloned().collect();
            events.sort_by(|a, b| a.0.cmp(&b.0));
            events.dedup_by(|a, b| a.0 == b.0);
            events.into_iter().map(|(_, event)| event).collect::<Vec<_>>()
        };
        let told = async || Some(of(&self.told.lock().expect("unpoisoned"))).filter(|told| !told.is_empty());
        self.process.eventually_long("the event", told).await
    }

    async fn listed(&self) -> usize {
        // A connection that was kept from before a kill breaks off, and the next one is new.
        let list = async || -> Option<Value> {
            let request = self.process.http.get(format!("{}/received", self.process.url)).bearer_auth(KEY);
            request.send().await.ok()?.json().await.ok()
        };
        let page = self.process.eventually("the list", list).await;
        page["items"].as_array().expect("items").len()
    }
}

#[tokio::test]
async fn note_that_was_answered_survives_a_kill_at_once() {
    let mut house = House::start(None).await;
    house.waha.put("M1.oga", ogg());
    assert!(house.say("M1").await);
    house.restart().await;
    assert_eq!(house.told("M1").await, ["\"received\""]);
    assert_eq!(house.listed().await, 1);
}

#[tokio::test]
async fn note_survives_a_kill_while_its_audio_is_fetched() {
    for database in [false, true] {
        let database = if database { Database::make().await } else { None };
        let mut house = House::start(database.as_ref().map(Database::url).as_deref()).await;
        house.waha.put("M1.oga", Answer::Stall);
        assert!(house.say("M1").await);
        house
            .process
            .eventually("the request for the file", async || (!house.waha.asked().is_empty()).then_some(()))
            .await;
        house.waha.put("M1.oga", ogg());
        house.restart().await;
        assert_eq!(house.told("M1").await, ["\"received\""]);
        assert_eq!((house.waha.asked().len(), house.listed().await), (2, 1));
    }
}

/// The provider has the audio once. The process dies at some time between its fetching and the event.
#[tokio::test]
async fn note_survives_kills_between_its_fetching_and_its_event() {
    let mut house = House::start(None).await;
    for (round, wait) in [0, 5, 15, 40, 80, 150, 300].into_iter().enumerate() {
        let message = format!("M{round}x");
        house.waha.put(&format!("{message}.oga"), ogg());
        assert!(house.say(&message).await);
        let asked =
            async || house.waha.asked().iter().any(|(name, _)| name.starts_with(&message)).then_some(());
        house.process.eventually("the request for the file", asked).await;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        house.restart().await;
        assert_eq!(house.told(&message).await, ["\"received\""], "killed after {wait} ms");
    }
    assert_eq!(house.listed().await, 7);
}

#[tokio::test]
async fn callbacks_that_are_repeated_over_kills_make_one_note() {
    let mut house = House::start(None).await;
    house.waha.put("M1.oga", ogg());
    for _ in 0..3 {
        // Killed at any moment of the request. What was not answered comes again.
        let (answered, ()) = tokio::join!(house.say("M1"), async {
            tokio::time::sleep(Duration::from_millis(3)).await;
        });
        let _ = answered;
        house.restart().await;
    }
    assert!(house.say("M1").await);
    assert_eq!(house.told("M1").await, ["\"received\""]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((house.told("M1").await.len(), house.listed().await), (1, 1));
}
