//! Tests of `voicegate demo`, as a newcomer uses it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

pub struct Demo {
    child: Child,
    pub said: String,
}

impl Demo {
    /// Starts the demo and waits until it is running or has ended.
    pub async fn start(arguments: &'static [&'static str], more: Vec<String>) -> Self {
        let started = tokio::task::spawn_blocking(move || {
            let mut child = Command::new(env!("CARGO_BIN_EXE_voicegate"))
                .arg("demo")
                .args(arguments)
                .args(more)
                .env("NO_PROXY", "127.0.0.1,localhost")
                .stdout(Stdio::piped())
                .spawn()
                .expect("the executable");
            let mut said = String::new();
            for line in BufReader::new(child.stdout.take().expect("its output")).lines() {
                said.push_str(&line.expect("text"));
                said.push('\n');
                if said.ends_with("Ctrl-C stops the demo.\n") {
                    break;
                }
            }
            Self { child, said }
        });
        let patience = Duration::from_secs(90);
        tokio::time::timeout(patience, started).await.expect("in time").expect("started")
    }

    /// Returns the value in `export NAME=value`.
    pub fn exported(&self, name: &str) -> &str {
        let lead = format!("  export {name}=");
        let line = self.said.lines().find_map(|line| line.strip_prefix(&lead));
        line.unwrap_or_else(|| panic!("{lead} in {}", self.said))
    }
}

impl Demo {
    /// The address of the page that shows what arrived.
    pub fn inbox(&self) -> &str {
        let line = self.said.lines().find_map(|line| line.strip_prefix("see and hear the notes:"));
        line.unwrap_or_else(|| panic!("no inbox in {}", self.said)).trim()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn demo_prints_its_addresses_and_next_steps() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let taken = (taken.local_addr().expect("an address"), taken);
    let demo = Demo::start(&["--sandbox", "127.0.0.1:0", "--listen"], vec![taken.0.to_string()]).await;
    let (url, key) = (demo.exported("VOICEGATE_URL"), demo.exported("VOICEGATE_API_KEY"));
    let gateway = format!("gateway  {url}   (instead of {}, which is in use)", taken.0);
    assert!(demo.said.contains(&gateway), "{}", demo.said);
    assert!(demo.said.contains(&format!(" {url}/docs\n")), "{}", demo.said);
    assert!(demo.said.contains("see and hear the notes:    http://127.0.0.1:"), "{}", demo.said);
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let docs = http.get(format!("{url}/docs")).send().await.expect("an answer");
    assert_eq!(docs.status(), 200);
    let notes = http.get(format!("{url}/voice")).bearer_auth(key).send().await.expect("an answer");
    assert_eq!(notes.status(), 200);
    // The usual rules for URLs apply, unless the operator changes them.
    let local = serde_json::json!({ "to": "+15551234567", "audio": { "url": format!("{url}/healthz") } });
    let answer =
        http.post(format!("{url}/voice")).bearer_auth(key).json(&local).send().await.expect("an answer");
    assert_eq!(answer.status(), 422);
}

#[tokio::test]
async fn demo_with_once_prints_no_address_that_is_gone() {
    let mut demo =
        Demo::start(&["--once", "--listen", "127.0.0.1:0", "--sandbox", "127.0.0.1:0"], Vec::new()).await;
    assert!(demo.child.wait().expect("ended").success());
    assert_eq!(demo.said.matches(" via ").count(), 2, "{}", demo.said);
    for gone in ["http://", "127.0.0.1", "export", "curl", "vg_", "Ctrl-C"] {
        assert!(!demo.said.contains(gone), "{gone} in {}", demo.said);
    }
}

#[tokio::test]
async fn a_sample_goes_through_every_provider() {
    let flags = &["--once", "--providers", "all", "--listen", "127.0.0.1:0", "--sandbox", "127.0.0.1:0"];
    let mut demo = Demo::start(flags, Vec::new()).await;
    assert!(demo.child.wait().expect("ended").success(), "{}", demo.said);
    for provider in voicegate_sandbox::providers() {
        assert!(demo.said.contains(&format!("{provider} (")), "{provider}: {}", demo.said);
    }
    assert_eq!(demo.said.matches(" via ").count(), voicegate_sandbox::providers().count(), "{}", demo.said);
}

/// Answers every request with 200, and gives the first whose body has `part`.
async fn hook(listener: TcpListener, part: &'static str) -> String {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut request = Vec::new();
        // The gateway sends whole bodies; JSON ends with a brace.
        while !request.ends_with(b"}") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        let request = String::from_utf8_lossy(&request).into_owned();
        if request.contains(part) {
            return request;
        }
    }
}

#[tokio::test]
async fn demo_delivers_webhooks_to_this_machine() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hooks?token=S3CRET", listener.local_addr().expect("an address"));
    let told = tokio::spawn(hook(listener, "voice.accepted"));
    let ports = &["--once", "--listen", "127.0.0.1:0", "--sandbox", "127.0.0.1:0", "--webhook"];
    let mut demo = Demo::start(ports, vec![url]).await;
    assert!(demo.child.wait().expect("ended").success(), "{}", demo.said);
    let request = tokio::time::timeout(Duration::from_secs(30), told).await.expect("in time").expect("told");
    assert!(request.starts_with("POST /hooks?token=S3CRET ") && request.contains("webhook-signature: v1,"));
    assert!(!demo.said.contains("S3CRET"), "{}", demo.said);
}

#[tokio::test]
async fn demo_fetches_audio_from_this_machine() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let audio = format!("http://{}/speech.mp3", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let speech = include_bytes!("../fixtures/audio/speech-24k.mp3");
        loop {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", speech.len());
            let _ = stream.write_all(&[answer.as_bytes(), speech].concat()).await;
        }
    });
    let demo =
        Demo::start(&["--allow-local", "--listen", "127.0.0.1:0", "--sandbox", "127.0.0.1:0"], Vec::new())
            .await;
    let (url, key) = (demo.exported("VOICEGATE_URL"), demo.exported("VOICEGATE_API_KEY"));
    let body = serde_json::json!({ "to": "+15551234567", "audio": { "url": audio } });
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let request = http.post(format!("{url}/voice")).bearer_auth(key).header("prefer", "wait=30").json(&body);
    let note: Value = request.send().await.expect("an answer").json().await.expect("a note");
    assert!(["accepted", "sent", "delivered"].iter().any(|status| note["status"] == *status), "{note}");
}
