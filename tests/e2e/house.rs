//! A gateway with a bot and a WAHA server, in which people speak to the bot.

use std::collections::BTreeMap;

use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;

use crate::{
    bot::{Bot, Told},
    harness::{World, fixture, read},
    waha_server::{Answer, WahaServer, signed, voice},
};

pub const WEBHOOK_SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A gateway with a bot and a connection to a WAHA server.
pub struct House {
    pub world: World,
    pub bot: Bot,
    pub waha: WahaServer,
}

impl House {
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// Starts with further lines of the configuration.
    pub async fn with(more: &str) -> Self {
        Self::edited(|config| config + more).await
    }

    pub async fn edited(edit: impl FnOnce(String) -> String) -> Self {
        Self::with_environment(BTreeMap::new(), edit).await
    }

    pub async fn with_environment(
        environment: BTreeMap<String, String>,
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        let (bot, waha) = (Bot::start().await, WahaServer::start().await);
        let webhook =
            format!("[tenants.a.webhook]\nurl = \"{}\"\nsecrets = [\"{WEBHOOK_SECRET}\"]\n", bot.url);
        let world =
            World::with_environment(environment, |config| edit(config + &webhook + &waha.connection())).await;
        Self { world, bot, waha }
    }

    pub fn callback(&self, event: &Value) -> RequestBuilder {
        let body = event.to_string();
        let signature = signed(body.as_bytes());
        self.world
            .http
            .post(format!("{}/callbacks/a/waha", self.world.url))
            .header("x-webhook-hmac", signature)
            .body(body)
    }

    /// Sends the callback of a voice note with this file.
    pub async fn say(&self, message: &str, answer: Answer) {
        let name = format!("{message}.oga");
        self.waha.put(&name, answer);
        let event = voice(message, &format!("{}/api/files/default/{name}", self.waha.url));
        let answer = self.callback(&event).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
    }

    /// Waits for the one event of a note, and returns its data.
    pub async fn heard(&self, message: &str, answer: Answer) -> Value {
        let before = self.bot.count().borrow().len();
        self.say(message, answer).await;
        let told = self.bot.told(before + 1).await;
        assert_eq!(told.len(), before + 1);
        received(&told[before])
    }

    pub async fn listed(&self, query: &str) -> Vec<Value> {
        let answer = self.world.get(&format!("/received{query}")).send().await.expect("an answer");
        let (status, page) = read(answer).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        page["items"].as_array().expect("items").clone()
    }
}

/// The data of an event about a received note.
pub fn received(told: &Told) -> Value {
    assert_eq!(told.kind(), "voice.received");
    told.body["data"].clone()
}

pub fn ogg() -> Answer {
    Answer::Audio(fixture("recorder-wideband.ogg").into())
}

pub fn path(value: &Value) -> &str {
    value.as_str().expect("a path")
}
