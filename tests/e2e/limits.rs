//! What is too much is answered, and in time it is taken again.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{KEY, OTHER_KEY, World, fixture, read};

#[tokio::test]
async fn a_tenant_that_asks_too_often_waits_and_no_other() {
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
    // The other tenant has the server's rate, and its own bucket.
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

#[tokio::test]
async fn bodies_that_are_being_read_share_a_budget() {
    let world = World::with(|config| config.replace("[storage]", "memory = \"1 MiB\"\n[storage]")).await;
    // Sixteen forms that say nothing more hold 64 KiB each.
    let address = world.url.strip_prefix("http://").expect("http").to_owned();
    let head = format!(
        "POST /voice HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {KEY}\r\n\
         content-type: multipart/form-data; boundary=x\r\ncontent-length: 1000\r\nexpect: 100-continue\r\n\r\n"
    );
    let mut idle = Vec::new();
    for _ in 0..16 {
        let mut client = tokio::net::TcpStream::connect(&address).await.expect("a connection");
        client.write_all(head.as_bytes()).await.expect("sent");
        // The gateway asks for the body: it is reading.
        let mut line = [0; 12];
        client.read_exact(&mut line).await.expect("an answer");
        assert_eq!(&line, b"HTTP/1.1 100");
        idle.push(client);
    }
    let body = json!({ "to": "+15551234567", "audio": { "url": "https://example.com/a.mp3" } });
    let refused = world.post_json(&body).send().await.expect("an answer");
    assert!(refused.headers().contains_key("retry-after"));
    let (status, problem) = read(refused).await;
    assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("overloaded")));
    // Raw audio needs none of it.
    world.accept("", fixture("speech-24k.mp3")).await;
    drop(idle);
    let taken = async {
        while world.post_json(&body).send().await.expect("an answer").status() != StatusCode::ACCEPTED {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.expect("the budget is free again");
}

#[tokio::test]
async fn headers_are_bounded_as_configured() {
    let world = World::with(|config| config.replace("[storage]", "max_headers = \"8 KiB\"\n[storage]")).await;
    let ask = |size: usize| world.get("/connections").header("x-padding", "x".repeat(size)).send();
    assert_eq!(ask(6_000).await.expect("an answer").status(), StatusCode::OK);
    assert_eq!(ask(9_000).await.expect("an answer").status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn further_clients_wait_for_a_place() {
    let world = World::with(|config| config.replace("[storage]", "max_clients = 1\n[storage]")).await;
    let address = world.url.strip_prefix("http://").expect("http").to_owned();
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut first = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    first.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = [0; 15];
    first.read_exact(&mut answer).await.expect("an answer");
    let mut second = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    second.write_all(request.as_bytes()).await.expect("sent");
    drop(first);
    second.read_exact(&mut answer).await.expect("an answer, once the first has gone");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}
