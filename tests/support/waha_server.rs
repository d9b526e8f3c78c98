//! A WAHA server that people write to: it signs callbacks, and serves the files that they name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha512;
use tokio::net::TcpListener;

pub const API_KEY: &str = "waha-key-that-no-stranger-may-see";
pub const SECRET: &str = "6f1d5c0b8a3e4f7d9b2a1c0e5d4f3b2a6f1d5c0b8a3e4f7d9b2a1c0e5d4f3b2a";

/// Answer of a file's address.
#[derive(Clone, Debug)]
pub enum Answer {
    Audio(Bytes),
    Status(u16),
    RedirectTo(String),
    /// The head, and then nothing.
    Stall,
    /// Bytes without an end.
    Endless,
}

/// A request for a file: its name, and the key that it carried.
pub type Asked = (String, Option<String>);

#[derive(Clone, Default)]
struct Shared {
    files: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

pub struct WahaServer {
    pub url: String,
    shared: Shared,
}

impl WahaServer {
    pub async fn start() -> Self {
        let shared = Shared::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new()
            .route("/api/files/default/{name}", get(file))
            .fallback(async || (StatusCode::NOT_FOUND, "{}"))
            .with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, shared }
    }

    /// The section of a connection to it.
    pub fn connection(&self) -> String {
        format!(
            "[tenants.a.connections.waha]\nprovider = \"waha\"\nbase_url = \"{}\"\napi_key = \"{API_KEY}\"\n\
             webhook_secret = \"{SECRET}\"\n",
            self.url
        )
    }

    pub fn put(&self, name: &str, answer: Answer) {
        lock(&self.shared.files).insert(name.to_owned(), answer);
    }

    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("unpoisoned")
}

async fn file(State(shared): State<Shared>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    let key = headers.get("x-api-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    lock(&shared.asked).push((name.clone(), key));
    let answer = lock(&shared.files).get(&name).cloned();
    match answer {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(Answer::Status(status)) => StatusCode::from_u16(status).expect("a status").into_response(),
        Some(Answer::Audio(bytes)) => ([(header::CONTENT_TYPE, "audio/ogg")], bytes).into_response(),
        Some(Answer::RedirectTo(url)) => (StatusCode::FOUND, [(header::LOCATION, url)]).into_response(),
        Some(Answer::Stall) => {
            let nothing = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
            Body::from_stream(nothing).into_response()
        }
        Some(Answer::Endless) => {
            let piece = Bytes::from(vec![0; 64 << 10]);
            let pieces = futures_util::stream::unfold((), move |()| {
                let piece = piece.clone();
                async move {
                    tokio::time::sleep(Duration::from_micros(50)).await;
                    Some((Ok::<_, std::io::Error>(piece), ()))
                }
            });
            Body::from_stream(pieces).into_response()
        }
    }
}

/// The event of a voice note, with its file at this address.
pub fn voice(message: &str, url: &str) -> Value {
    json!({
        "id": format!("evt_{message}"),
        "timestamp": 1_763_719_200_000_i64,
        "event": "message",
        "session": "default",
        "payload": {
            "id": format!("false_15551234567@c.us_{message}"),
            "timestamp": 1_763_719_200,
            "from": "15551234567@c.us",
            "fromMe": false,
            "source": "app",
            "hasMedia": true,
            "media": { "url": url, "mimetype": "audio/ogg; codecs=opus", "filename": null },
            "_data": { "type": "ptt", "notifyName": "Ann" },
        },
    })
}

/// The signature of a body, in hexadecimal.
pub fn signed(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha512>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}
