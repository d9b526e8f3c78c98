//! A served sandbox, a client, and a few files.
#![allow(dead_code, reason = "each test file uses its part")]

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use voicegate_sandbox::{Sandbox, SandboxOptions};

pub const CHAT: &str = "f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd";

pub struct Server {
    pub sandbox: Sandbox,
    pub base: String,
    pub client: Client,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start() -> Self {
        let sandbox = Sandbox::new(SandboxOptions::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(sandbox.clone().serve(listener));
        Self { sandbox, base, client: Client::builder().no_proxy().tls_certs_only([]).build().unwrap(), task }
    }

    pub fn linq_get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}/linq{path}", self.base)).bearer_auth("sandbox-linq-token")
    }

    pub fn linq_post(&self, path: &str, body: Value) -> RequestBuilder {
        self.client.post(format!("{}/linq{path}", self.base)).bearer_auth("sandbox-linq-token").json(&body)
    }

    /// JSON under another name.
    pub fn linq_post_text(&self, path: &str, body: Value) -> RequestBuilder {
        let request = self.client.post(format!("{}/linq{path}", self.base)).bearer_auth("sandbox-linq-token");
        request.header("content-type", "text/plain").body(body.to_string())
    }

    /// Asks for an upload and returns its description.
    pub async fn ask_upload(&self, content_type: &str, size: usize) -> Value {
        let body = json!({ "filename": "note.bin", "content_type": content_type, "size_bytes": size });
        let response = self.linq_post("/v3/attachments", body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    pub async fn upload(&self, content_type: &str, bytes: Vec<u8>) -> String {
        let upload = self.ask_upload(content_type, bytes.len()).await;
        let put =
            self.client.put(upload["upload_url"].as_str().unwrap()).header("content-type", content_type);
        assert_eq!(put.body(bytes).send().await.unwrap().status(), 200);
        upload["attachment_id"].as_str().unwrap().to_owned()
    }

    pub fn memo(&self, attachment_id: &str) -> RequestBuilder {
        self.linq_post(&format!("/v3/chats/{CHAT}/voicememo"), json!({ "attachment_id": attachment_id }))
    }

    pub fn wawp(&self, body: Value) -> RequestBuilder {
        self.client.post(format!("{}/wawp/v2/send/voice", self.base)).json(&body)
    }
}

/// Checks status, code and the rest of the envelope.
#[track_caller]
pub fn linq_error(response: Response, status: u16, code: u16) -> impl Future<Output = Value> {
    let caller = std::panic::Location::caller();
    async move {
        let trace = response.headers()["x-trace-id"].to_str().unwrap().to_owned();
        let got = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        assert_eq!((got, &body["error"]["code"]), (status, &json!(code)), "{caller}: {body}");
        assert_eq!(body["success"], false);
        assert_eq!(body["error"]["status"], status);
        assert_eq!(body["trace_id"], trace);
        assert!(trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let doc = format!("https://docs.linqapp.com/error/codes/{}xxx/{code}/", code / 1000);
        assert_eq!(body["error"]["doc_url"], doc);
        body
    }
}

pub fn wav(milliseconds: u32) -> Vec<u8> {
    let data = vec![0_u8; (milliseconds * 16) as usize];
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(8000_u32.to_le_bytes());
    bytes.extend(16_000_u32.to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// One second of a phone's own kind of note.
pub fn opus(channels: u8) -> Vec<u8> {
    use ogg::writing::{PacketWriteEndInfo, PacketWriter};
    let mut head = b"OpusHead\x01".to_vec();
    head.extend([channels, 0x38, 0x01, 0x80, 0x3e, 0, 0, 0, 0, 0]);
    let mut bytes = Vec::new();
    let mut writer = PacketWriter::new(&mut bytes);
    writer.write_packet(head, 7, PacketWriteEndInfo::EndPage, 0).unwrap();
    writer
        .write_packet(&b"OpusTags\x08\0\0\0Recorder\0\0\0\0"[..], 7, PacketWriteEndInfo::EndPage, 0)
        .unwrap();
    for n in 1..=50 {
        let info = if n == 50 { PacketWriteEndInfo::EndStream } else { PacketWriteEndInfo::NormalPacket };
        writer.write_packet(vec![9 << 3; 40], 7, info, n * 960).unwrap();
    }
    bytes
}

/// Serves one file under any path, with a content type; the URL.
pub async fn file_server(bytes: Vec<u8>, content_type: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new()
        .route("/moved", axum::routing::get(async || axum::response::Redirect::temporary("/x")))
        .fallback(async move || ([("content-type", content_type)], bytes));
    tokio::spawn(async { axum::serve(listener, router).await });
    base
}
