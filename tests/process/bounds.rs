//! Tests of the resources that strangers and careless clients can occupy: memory, processor time, connections, file
//! descriptors.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    gateway::{KEY, Process},
    memory::peak,
};

const MB: u64 = 1_000_000;

async fn process() -> Process {
    Process::with(|config| config.replace("_timeout = \"1s\"", "_timeout = \"60s\"")).await
}

fn address(process: &Process) -> String {
    process.url.trim_start_matches("http://").to_owned()
}

/// Sends `head` and as much of `body` as the server reads. Returns the connection and the first bytes of an answer, if
/// there is one by then.
async fn send(address: &str, head: &str, body: &[u8]) -> (TcpStream, String) {
    let mut client = TcpStream::connect(address).await.expect("a connection");
    client.write_all(head.as_bytes()).await.expect("sent");
    // The body may be refused before its end.
    let _ = tokio::time::timeout(Duration::from_secs(20), client.write_all(body)).await;
    let mut answer = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(3), client.read(&mut answer)).await;
    let count = read.map_or(0, Result::unwrap_or_default);
    (client, String::from_utf8_lossy(&answer[..count]).into_owned())
}

/// Measures the rise of peak memory while `count` clients send this concurrently and stay connected.
async fn rise(process: &Process, count: usize, head: &str, body: &[u8], expected: &[&str]) -> u64 {
    let before = peak(process.pid());
    let address = address(process);
    let clients = stream::iter(0..count).map(|_| send(&address, head, body));
    let clients: Vec<_> = clients.buffer_unordered(count).collect().await;
    for (_, answer) in &clients {
        assert!(expected.iter().any(|expected| answer.starts_with(expected)), "{answer:?}");
    }
    let rise = peak(process.pid()).saturating_sub(before);
    println!("{count} clients: {} MB more", rise / MB);
    rise
}

#[tokio::test(flavor = "multi_thread")]
async fn unauthenticated_callbacks_take_no_memory() {
    let process = Process::with(|config| {
        let config = config.replace("_timeout = \"1s\"", "_timeout = \"60s\"");
        config + "[tenants.b]\napi_keys = [\"vg_e6HjC0rPzK9wUaM3gXvB7dYtS2oLnQf8iV5cRk1xTbE\"]\n[tenants.b.connections.imessage]\nprovider = \"linq\"\n\
                  token = \"x\"\nwebhook_secret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n"
    })
    .await;
    let host = address(&process);
    let head = |path: &str, more: &str| {
        format!("POST /callbacks/{path} HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: 1048576\r\n\r\n")
    };
    let body = vec![b'x'; 1_048_575];
    for path in ["a/imessage", "nobody/imessage", "a/whatsapp?token=wrong"] {
        let rise = rise(&process, 150, &head(path, ""), &body, &["HTTP/1.1 401"]).await;
        assert!(rise < 60 * MB, "{path}: {rise} bytes");
    }
    #[expect(clippy::disallowed_methods, reason = "the process has the machine's time")]
    let now = jiff::Timestamp::now().as_second();
    let signed = format!(
        "webhook-id: e\r\nwebhook-timestamp: {now}\r\nwebhook-signature: v1,ch81UIZONj/+wvI29ZD1CN23OZ9cRPwf3RNZpy6YXPE=\r\n"
    );
    let expected = ["", "HTTP/1.1 503"];
    let rise = rise(&process, 150, &head("b/imessage", &signed), &body, &expected).await;
    assert!(rise < 60 * MB, "with a made-up signature: {rise} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_body_parts_take_little_memory() {
    let process = process().await;
    let host = address(&process);
    let head = |kind: &str, length: usize| {
        format!(
            "POST /voice HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    let endless = vec![b'a'; 6_000_000];
    let header = head("multipart/form-data; boundary=x", 20_000_000) + "--x\r\nContent-Disposition: ";
    let preamble = head("multipart/form-data; boundary=x", 20_000_000);
    for (what, head) in [("header", header), ("preamble", preamble)] {
        let rise = rise(&process, 30, &head, &endless, &["HTTP/1.1 400", ""]).await;
        assert!(rise < 50 * MB, "{what}: {rise} bytes");
    }
    let mut name = b"{\"".to_vec();
    name.resize(8_000_000, b'a');
    name.extend(b"\":1}");
    let mut number = b"{\"to\":".to_vec();
    number.resize(8_000_000, b'7');
    number.push(b'}');
    for (what, body) in [("name", name), ("number", number)] {
        let rise = rise(&process, 12, &head("application/json", body.len()), &body, &["HTTP/1.1 400"]).await;
        assert!(rise < 50 * MB, "{what}: {rise} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_event_streams_take_little_memory() {
    let process = process().await;
    for _ in 0..40 {
        let body = json!({
            "to": "+15551234567", "text": "x".repeat(60_000),
            "audio": { "data": base64::Engine::encode(&base64::prelude::BASE64_STANDARD, crate::gateway::sample()) },
        });
        let request = process.http.post(format!("{}/voice", process.url)).bearer_auth(KEY).json(&body);
        let note: serde_json::Value = request.send().await.expect("an answer").json().await.expect("a note");
        process.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    }
    let host = address(&process);
    let head = format!(
        "GET /events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nLast-Event-ID: 0\r\n\r\n"
    );
    let rise = rise(&process, 100, &head, b"", &["HTTP/1.1 200"]).await;
    assert!(rise < 60 * MB, "{rise} bytes");
}

/// Returns the user and system time used so far.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("numbers");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("numbers").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10) // USER_HZ is 100 wherever Linux runs
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_event_streams_take_no_processor_time() {
    let process = process().await;
    let id = process.accept("").await;
    process.until_status(&id, "accepted").await;
    let host = address(&process);
    let ask =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n\r\n");
    let mut clients = Vec::new();
    for n in 0..400 {
        let path = if n % 2 == 0 { "/events".to_owned() } else { format!("/voice/{id}/events") };
        let mut client = TcpStream::connect(&host).await.expect("a connection");
        client.write_all(ask(&path).as_bytes()).await.expect("sent");
        let mut answer = [0; 15];
        client.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        clients.push(client);
    }
    let before = processor_time(process.pid());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let spent = processor_time(process.pid()) - before;
    println!("400 idle streams: {spent:?} in 5 s");
    assert!(spent < Duration::from_millis(500), "{spent:?}");
    // All streams get the events, which are read from the database once.
    let id = process.accept("").await;
    process.until_status(&id, "accepted").await;
    for client in clients.iter_mut().step_by(2) {
        let mut text = String::new();
        while !text.contains(&id) {
            let mut piece = [0; 4096];
            let read = tokio::time::timeout(Duration::from_secs(20), client.read(&mut piece)).await;
            let count = read.expect("in time").expect("bytes");
            assert!(count > 0, "the stream ended");
            text.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_clients_do_not_delay_others() {
    let process = Process::with(|config| {
        config
            .replace("_timeout = \"1s\"", "_timeout = \"60s\"")
            .replace("[storage]", "max_clients = 64\n[storage]")
    })
    .await;
    let host = address(&process);
    let mut idle = Vec::new();
    for n in 0..200 {
        let mut client = TcpStream::connect(&host).await.expect("a connection");
        if n % 3 == 0 {
            client.write_all(b"POST /voice HTTP/1.1\r\nHost: ").await.expect("sent");
        }
        idle.push(client);
    }
    for _ in 0..5 {
        let fresh = reqwest::Client::new();
        let asked = fresh.post(format!("{}/voice?to=%2B15551234567", process.url)).bearer_auth(KEY);
        let asked = asked.header("content-type", "audio/mpeg").body(crate::gateway::sample()).send();
        let answer = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("in time");
        assert_eq!(answer.expect("an answer").status(), 202);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_get_503_while_file_descriptors_are_exhausted() {
    let process = process().await;
    let pid = Pid::from_raw(process.pid().try_into().expect("a pid")).expect("a pid");
    // All descriptors from here on are new.
    let first_free = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).expect("descriptors").flatten();
        let open: std::collections::BTreeSet<u64> =
            open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        (0..).find(|number| !open.contains(number)).expect("a number")
    };
    let post = async || {
        let request = process.http.post(format!("{}/voice?to=%2B15551234567", process.url)).bearer_auth(KEY);
        // The body is larger than what is held in memory, so that it needs a file.
        let answer =
            request.header("content-type", "audio/wav").body(crate::memory::wav(400_000)).send().await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
    };
    assert_eq!(post().await, (202, false), "the connection is kept, so that it needs no new one");
    process
        .eventually("nothing is under way", async || {
            let note = process
                .http
                .get(format!("{}/voice?status=accepted", process.url))
                .bearer_auth(KEY)
                .send()
                .await;
            let notes: serde_json::Value = note.ok()?.json().await.ok()?;
            (notes["items"].as_array()?.len() == 1).then_some(())
        })
        .await;
    let whole = getrlimit(Resource::Nofile);
    let limit = |current| Rlimit { current: Some(current), maximum: whole.maximum };
    prlimit(Some(pid), Resource::Nofile, limit(first_free())).expect("allowed");
    assert_eq!(post().await, (503, true));
    prlimit(Some(pid), Resource::Nofile, limit(first_free() + 200)).expect("allowed");
    assert_eq!(post().await, (202, false));
}

#[tokio::test]
async fn request_needs_exactly_one_valid_host() {
    let process = process().await;
    let host = address(&process);
    for (lines, expected) in [
        ("HTTP/1.1\r\n", "HTTP/1.1 400"),
        ("HTTP/1.1\r\nHost: a\r\nHost: a\r\n", "HTTP/1.1 400"),
        ("HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "HTTP/1.1 400"),
        ("HTTP/1.1\r\nHost:\r\n", "HTTP/1.1 400"),
        ("HTTP/1.1\r\nHost: a b\r\n", "HTTP/1.1 400"),
        ("HTTP/1.1\r\nHost: me@a\r\n", "HTTP/1.1 400"),
        ("HTTP/1.1\r\nHost: a/b\r\n", "HTTP/1.1 400"),
        ("HTTP/1.1\r\nHost: a\r\n", "HTTP/1.1 200"),
        ("HTTP/1.1\r\nHost: [::1]:8080\r\n", "HTTP/1.1 200"),
        ("HTTP/1.1\r\nHost: a.example:80\r\n", "HTTP/1.1 200"),
        ("HTTP/1.0\r\n", "HTTP/1.0 200"),
        ("HTTP/1.0\r\nHost: a\r\nHost: b\r\n", "HTTP/1.0 400"),
    ] {
        let (_client, answer) = send(&host, &format!("GET /healthz {lines}\r\n"), b"").await;
        assert_eq!(answer, expected, "{lines:?}");
    }
}
