//! Limits: excess requests get an answer, and are accepted again later.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use voicegate::model::clock::Clock;

use crate::harness::{KEY, OTHER_KEY, World, fixture, read};

#[tokio::test]
async fn request_limit_of_one_tenant_does_not_affect_others() {
    let world = World::with(|config| {
        config
            .replace("[tenants.a]", "[tenants.a]\nrequest_rate = \"3/60s\"")
            .replace("[storage]", "request_rate = \"2/60s\"\n[storage]")
    })
    .await;
    let ask =
        |key: &'static str| world.http.get(format!("{}/connections", world.url)).bearer_auth(key).send();
    for _ in 0..3 {
        assert_eq!(ask(KEY).await.expect("an answer").status(), StatusCode::OK);
    }
    let refused = ask(KEY).await.expect("an answer");
    assert_eq!(refused.headers()["retry-after"], "20");
    let (status, problem) = read(refused).await;
    assert_eq!((status, &problem["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limited")));
    assert_eq!(problem["retry_after"], 20);
    // The other tenant has the server's rate, and a token bucket of its own.
    for _ in 0..2 {
        assert_eq!(ask(OTHER_KEY).await.expect("an answer").status(), StatusCode::OK);
    }
    assert_eq!(ask(OTHER_KEY).await.expect("an answer").status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(ask("no key of anybody").await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(ask(KEY).await.expect("an answer").status(), StatusCode::OK);
    assert_eq!(ask(KEY).await.expect("an answer").status(), StatusCode::TOO_MANY_REQUESTS);
    world.reconfigure(|config| config.replace("\"3/60s\"", "\"off\"")).expect("reloaded");
    for _ in 0..9 {
        assert_eq!(ask(KEY).await.expect("an answer").status(), StatusCode::OK);
    }
}

/// Begins a form of `bytes` and leaves it unfinished. Returns when the gateway has read everything, or refused it.
async fn unfinished_form(world: &World, key: &str, bytes: usize) -> tokio::net::TcpStream {
    let address = world.url.strip_prefix("http://").expect("http").to_owned();
    let part = "--x\r\ncontent-disposition: form-data; name=\"text\"\r\n\r\n";
    let head = format!(
        "POST /voice HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
         content-type: multipart/form-data; boundary=x\r\ncontent-length: 1000000\r\n\r\n{part}"
    );
    let mut client = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    client.write_all(head.as_bytes()).await.expect("sent");
    client.write_all(&vec![b'x'; bytes]).await.expect("sent");
    client
}

fn by_url() -> serde_json::Value {
    json!({ "to": "+15551234567", "audio": { "url": "https://example.com/a.mp3" } })
}

#[tokio::test]
async fn memory_limit_of_one_tenant_does_not_affect_others() {
    let world = World::with(|config| config.replace("[storage]", "memory = \"2 MiB\"\n[storage]")).await;
    let mut idle = Vec::new();
    for _ in 0..60 {
        idle.push(unfinished_form(&world, KEY, 40 << 10).await);
    }
    let large = {
        let mut body = by_url();
        body["text"] = json!("x".repeat(50_000));
        body
    };
    let ask = |key: &'static str| {
        world.http.post(format!("{}/voice", world.url)).bearer_auth(key).json(&large).send()
    };
    let full = async {
        loop {
            let refused = ask(KEY).await.expect("an answer");
            if refused.status() == StatusCode::SERVICE_UNAVAILABLE {
                return refused;
            }
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), full).await.expect("its share is in use");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(read(refused).await.1["code"], "overloaded");
    for _ in 0..3 {
        assert_eq!(ask(OTHER_KEY).await.expect("an answer").status(), StatusCode::ACCEPTED);
    }
    // Raw audio takes no memory from the limit.
    world.accept("", fixture("speech-24k.mp3")).await;
    drop(idle);
    let taken = async {
        while ask(KEY).await.expect("an answer").status() != StatusCode::ACCEPTED {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.expect("the budget is free again");
    assert_eq!(world.app.memory.used(), 0);
}

#[tokio::test]
async fn incomplete_forms_reserve_little_memory() {
    let world = World::with(|config| config.replace("[storage]", "memory = \"1 MiB\"\n[storage]")).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(unfinished_form(&world, KEY, 10).await);
    }
    for key in [KEY, OTHER_KEY] {
        let request = world.http.post(format!("{}/voice", world.url)).bearer_auth(key).json(&by_url());
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::ACCEPTED);
    }
    assert!(world.app.memory.used() < 200 << 10, "{}", world.app.memory.used());
}

/// Sends a form whose `endless` part never ends, and reads the answer.
async fn endless(world: &World, start: &str, endless: u8) -> (usize, String) {
    let address = world.url.strip_prefix("http://").expect("http").to_owned();
    let head = format!(
        "POST /voice HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {KEY}\r\n\
         content-type: multipart/form-data; boundary=x\r\ncontent-length: 25000000\r\n\r\n{start}"
    );
    let client = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    let (mut reads, mut writes) = client.into_split();
    writes.write_all(head.as_bytes()).await.expect("sent");
    let mut sent = 0;
    let sending = async {
        let piece = vec![endless; 1 << 10];
        while sent < 24_000_000 && writes.write_all(&piece).await.is_ok() {
            sent += piece.len();
            // The gateway has not read the bytes in the sockets yet.
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    };
    let mut answer = vec![0; 4096];
    let count = tokio::select! {
        () = sending => panic!("nobody answered"),
        count = reads.read(&mut answer) => count.expect("an answer"),
    };
    (sent, String::from_utf8_lossy(&answer[..count]).into_owned())
}

#[tokio::test]
async fn form_with_endless_headers_or_preamble_is_refused_at_once() {
    let world = World::start().await;
    for (start, byte, most, says) in [
        ("--x\r\ncontent-disposition: form-data; name=\"", b'a', 64 << 10, "16 KiB"),
        (
            "--x\r\ncontent-disposition: form-data; name=\"to\"\r\n\r\n+1\r\n--x\r\na: ",
            b'a',
            64 << 10,
            "16 KiB",
        ),
        ("", b'a', 128 << 10, "64 KiB"),
        ("", b'-', 128 << 10, "64 KiB"),
    ] {
        let (sent, answer) = endless(&world, start, byte).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(says), "{answer}");
        assert!(sent <= most, "{sent} bytes were read before {answer}");
    }
    // A preamble and headers within the limits are accepted, in any pieces.
    let mp3 = fixture("speech-24k.mp3");
    let mut form = vec![b'-'; 60 << 10];
    form.extend(format!("\r\n--x\r\nx-padding: {}\r\n", "y".repeat(15 << 10)).bytes());
    form.extend(b"content-disposition: form-data; name=\"audio\"; filename=\"a.mp3\"\r\n\r\n");
    form.extend(&mp3);
    form.extend(b"\r\n--x\r\ncontent-disposition: form-data; name=\"to\"\r\n\r\n+15551234567\r\n--x--\r\n");
    for size in [97, 5_000, form.len()] {
        let pieces: Vec<_> = form.chunks(size).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let request = world
            .http
            .post(format!("{}/voice", world.url))
            .bearer_auth(KEY)
            .header("content-type", "multipart/form-data; boundary=x")
            .body(reqwest::Body::wrap_stream(futures_util::stream::iter(pieces)));
        let (status, note) = read(request.send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "in pieces of {size}: {note}");
        assert_eq!(note["audio"]["source"]["size_bytes"], mp3.len());
    }
}

#[tokio::test]
async fn headers_are_bounded_as_configured() {
    let world = World::with(|config| config.replace("[storage]", "max_headers = \"8 KiB\"\n[storage]")).await;
    let ask = |size: usize| world.get("/connections").header("x-padding", "x".repeat(size)).send();
    assert_eq!(ask(6_000).await.expect("an answer").status(), StatusCode::OK);
    assert_eq!(ask(9_000).await.expect("an answer").status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn only_idle_client_connections_are_closed_for_new_ones() {
    let world = World::with(|config| config.replace("[storage]", "max_clients = 2\n[storage]")).await;
    let address = world.url.strip_prefix("http://").expect("http").to_owned();
    let connect = async |request: String| {
        let mut client = tokio::net::TcpStream::connect(&address).await.expect("a connection");
        client.write_all(request.as_bytes()).await.expect("sent");
        client
    };
    let answered = async |client: &mut tokio::net::TcpStream| {
        let mut answer = [0; 15];
        client.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    };
    let health = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let follow = format!("GET /events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {KEY}\r\n\r\n");
    let mut stream = connect(follow.clone()).await;
    answered(&mut stream).await;
    let mut silent = connect(String::new()).await;
    let mut used = connect(health.clone()).await;
    answered(&mut used).await;
    assert_eq!(silent.read(&mut [0]).await.expect("an end"), 0, "it never asked for anything");
    let mut second = connect(health.clone()).await;
    answered(&mut second).await;
    let mut rest = Vec::new();
    used.read_to_end(&mut rest).await.expect("an end");
    assert!(String::from_utf8_lossy(&rest).ends_with("ok\n"), "its answer arrived whole");
    // Streams hold both slots, so the next client waits until one of them ends.
    let mut other = connect(follow).await;
    answered(&mut other).await;
    let mut third = connect(health).await;
    let waits = tokio::time::timeout(Duration::from_millis(500), third.read(&mut [0])).await;
    assert!(waits.is_err(), "a request that is under way was cut off");
    drop(stream);
    answered(&mut third).await;
}

/// Audio takes processors from the deliveries, whichever request brings it.
#[tokio::test]
async fn every_request_with_audio_waits_for_its_turn_while_notes_are_being_sent() {
    const EARLIER: usize = 300;
    let world = World::start().await;
    let at = world.clock.now() + Duration::from_secs(600);
    let canceled = world.accept(&format!("send_at={at}"), fixture("speech-24k.mp3")).await;
    let post = |path: &str| world.http.post(format!("{}{path}", world.url)).bearer_auth(KEY);
    let (status, problem) =
        read(post(&format!("/voice/{canceled}/cancel")).send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::OK, "{problem}");

    let gate = world.gateway.accept_gate.clone();
    let _delivering = gate.delivering();
    while tokio::task::unconstrained(gate.pass("a")).now_or_never().is_some() {}
    let (begun, passed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..EARLIER {
        let (gate, begun, passed) = (gate.clone(), begun.clone(), passed.clone());
        tokio::spawn(async move {
            let turn = gate.pass("a");
            tokio::pin!(turn);
            let first = futures_util::poll!(turn.as_mut());
            begun.fetch_add(1, Ordering::Relaxed);
            if first.is_pending() {
                turn.await.expect("a turn");
            }
            passed.fetch_add(1, Ordering::Relaxed);
        });
    }
    while begun.load(Ordering::Relaxed) < EARLIER {
        tokio::task::yield_now().await;
    }
    let audio = |path: &str| post(path).header("content-type", "audio/mpeg").body(fixture("speech-24k.mp3"));
    let requests = [
        ("a note", audio("/voice?to=%2B15551234567"), StatusCode::ACCEPTED),
        ("a plan", audio("/voice/plan?to=%2B15551234567"), StatusCode::OK),
        ("an upload", audio("/media"), StatusCode::CREATED),
        ("a resend", post(&format!("/voice/{canceled}/resend")), StatusCode::ACCEPTED),
    ];
    let answers = requests.map(|(name, request, expected)| {
        let passed = passed.clone();
        async move {
            let (status, answer) = read(request.send().await.expect("an answer")).await;
            assert_eq!(status, expected, "{name}: {answer}");
            assert_eq!(passed.load(Ordering::Relaxed), EARLIER, "{name} came before earlier ones");
        }
    });
    futures_util::future::join_all(answers).await;
}
