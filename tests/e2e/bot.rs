//! A bot's own server, which receives webhook deliveries.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

const PATIENCE: Duration = Duration::from_secs(30);

/// One event as received.
#[derive(Clone, Debug)]
pub struct Told {
    pub id: String,
    pub timestamp: String,
    pub signatures: Vec<String>,
    pub raw: String,
    pub body: Value,
}

impl Told {
    /// Whether one of the signatures was made with the secret, as Standard Webhooks specifies.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
        mac.update(format!("{}.{}.{}", self.id, self.timestamp, self.raw).as_bytes());
        let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        self.signatures.contains(&expected)
    }

    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }
}

#[derive(Clone)]
struct Shared {
    told: watch::Sender<Vec<Told>>,
    /// The next answers; 200 when empty.
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
}

pub struct Bot {
    pub url: String,
    shared: Shared,
    task: JoinHandle<()>,
}

impl Bot {
    pub async fn start() -> Self {
        let shared = Shared { told: watch::channel(Vec::new()).0, answers: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hooks?token=S3CRET", listener.local_addr().expect("an address"));
        let app = Router::new().route("/hooks", post(hook)).with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
        Self { url, shared, task }
    }

    /// Sets the answers to the next events. Later ones get 200.
    pub fn answer(&self, answers: &[u16]) {
        let answers = answers.iter().map(|status| StatusCode::from_u16(*status).expect("a status"));
        self.shared.answers.lock().expect("unpoisoned").extend(answers);
    }

    /// Answers 200 from now on.
    pub fn forget_answers(&self) {
        self.shared.answers.lock().expect("unpoisoned").clear();
    }

    /// The number of deliveries, as a channel.
    pub fn count(&self) -> watch::Receiver<Vec<Told>> {
        self.shared.told.subscribe()
    }

    /// Waits for a number of deliveries, and returns all of them.
    pub async fn told(&self, times: usize) -> Vec<Told> {
        let mut told = self.shared.told.subscribe();
        let waiting = told.wait_for(|told| told.len() >= times);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(told) => told.expect("open").clone(),
            Err(_) => panic!("waited in vain; the bot was told {:#?}", *self.shared.told.borrow()),
        }
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hook(State(shared): State<Shared>, headers: HeaderMap, raw: Bytes) -> StatusCode {
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    let raw = String::from_utf8(raw.to_vec()).expect("text");
    let told = Told {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signatures: header("webhook-signature").split(' ').map(ToOwned::to_owned).collect(),
        body: serde_json::from_str(&raw).expect("JSON"),
        raw,
    };
    let answer = shared.answers.lock().expect("unpoisoned").pop_front().unwrap_or(StatusCode::OK);
    shared.told.send_modify(|all| all.push(told));
    answer
}
