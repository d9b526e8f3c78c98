//! Unauthenticated requests: they reveal nothing and take few resources.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{KEY, World, read};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

async fn world() -> World {
    World::with(|config| {
        config.replacen("token = ", &format!("webhook_secret = \"{SECRET}\"\ntoken = "), 1).replacen(
            "instance_id",
            "callback_token = \"a-token-of-sixteen\"\ninstance_id",
            1,
        )
    })
    .await
}

/// The headers of a signature that matches no body.
fn forged(world: &World) -> [(&'static str, String); 3] {
    [
        ("webhook-id", "evt-1".to_owned()),
        ("webhook-timestamp", world.clock_seconds().to_string()),
        ("webhook-signature", "v1,ch81UIZONj/+wvI29ZD1CN23OZ9cRPwf3RNZpy6YXPE=".to_owned()),
    ]
}

#[tokio::test]
async fn callbacks_do_not_reveal_which_connections_exist() {
    let world = world().await;
    let mut answers = Vec::new();
    for (path, signed) in [
        ("nobody/imessage", false),
        ("a/nothing", false),
        ("b/imessage", false), // no secret
        ("b/imessage", true),
        ("a/imessage", false),
        ("a/imessage", true),
        ("a/whatsapp", false),
        ("a/whatsapp?token=another-of-sixteen", false),
        ("nobody/imessage", true),
        ("%ff/imessage", false),
    ] {
        for size in [0, 100, 2_000_000] {
            let url = format!("{}/callbacks/{path}", world.url);
            let request = world.http.post(&url).body(vec![b'x'; size]);
            let headers = if signed { Vec::from(forged(&world)) } else { Vec::new() };
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
            // The connection may be closed while a body is sent that is too large.
            let Ok(answer) = request.send().await else { continue };
            let mut headers: Vec<_> = answer.headers().keys().map(ToString::to_string).collect();
            headers.retain(|name| name != "connection");
            headers.sort();
            let (status, mut body) = read(answer).await;
            body.as_object_mut().expect("a problem").remove("request_id");
            answers.push((status.as_u16(), headers, body));
        }
    }
    assert_eq!((answers[0].0, &answers[0].2["code"]), (401, &Value::from("unauthorized")));
    let first = answers[0].clone();
    assert!(answers.len() >= 20 && answers.iter().all(|answer| *answer == first), "{answers:#?}");
}

#[tokio::test]
async fn unauthenticated_callback_is_refused_before_its_body_is_read() {
    let world = world().await;
    let address = world.url.trim_start_matches("http://").to_owned();
    for path in ["b/imessage", "nobody/x", "a/imessage", "a/whatsapp", "a/whatsapp?token=wrong"] {
        let mut client = TcpStream::connect(&address).await.expect("a connection");
        let head =
            format!("POST /callbacks/{path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 1000000\r\n\r\n");
        client.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = [0; 12];
        let answered = tokio::time::timeout(Duration::from_secs(10), client.read_exact(&mut answer)).await;
        answered.unwrap_or_else(|_| panic!("{path}: the body is waited for")).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 401", "{path}");
    }
}

#[tokio::test]
async fn forged_callbacks_share_one_limit() {
    let world = world().await;
    let address = world.url.trim_start_matches("http://").to_owned();
    let signed: String = forged(&world).iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "POST /callbacks/a/imessage HTTP/1.1\r\nhost: {address}\r\n{signed}content-length: 1000000\r\n\r\n"
    );
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = TcpStream::connect(&address).await.expect("a connection");
        client.write_all(head.as_bytes()).await.expect("sent");
        let _ = client.write_all(&vec![b'x'; 900_000]).await;
        clients.push(client);
    }
    let mut refused = 0;
    for client in &mut clients {
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_millis(300), client.read_exact(&mut answer)).await;
        refused += usize::from(read.is_ok());
        assert!(read.is_err() || &answer == b"HTTP/1.1 503", "{}", String::from_utf8_lossy(&answer));
    }
    assert!(refused >= 20, "{refused} of 40");
    let used = world.app.memory.used();
    assert!((1 << 20..=16 << 20).contains(&used), "{used}");
    let other = world.get("/connections").send().await.expect("an answer");
    assert!(other.status().is_success());
}

#[tokio::test]
async fn wrong_keys_slow_down_their_address_but_not_valid_keys() {
    let world = World::start().await;
    let url = format!("{}/connections", world.url);
    let try_key = |key: String| world.http.get(&url).bearer_auth(key).send();
    let metric = async || {
        #[expect(clippy::disallowed_methods, reason = "the gateway's own answers are short")]
        let text = world.get("/metrics").send().await.expect("an answer").text().await.expect("text");
        let line = text.lines().find(|line| line.starts_with("voicegate_wrong_keys_total"));
        let number = line.and_then(|line| line.rsplit(' ').next()).expect("the metric");
        number.parse::<f64>().expect("a number")
    };
    let before = metric().await;
    let mut waits = Vec::new();
    for n in 0..14 {
        let begun = std::time::Instant::now();
        assert_eq!(try_key(format!("wrong-{n}")).await.expect("an answer").status(), 401);
        waits.push(begun.elapsed());
    }
    assert!(waits[13] >= Duration::from_millis(300), "{waits:?}");
    // Many requests wait at the same time, and a valid key from the same address does not wait with them.
    let slowed: Vec<_> = (0..40).map(|n| tokio::spawn(try_key(format!("wrong-too-{n}")))).collect();
    let begun = std::time::Instant::now();
    assert_eq!(try_key(KEY.to_owned()).await.expect("an answer").status(), 200);
    let right = begun.elapsed();
    let mut slowest = Duration::ZERO;
    for slow in slowed {
        assert_eq!(slow.await.expect("ended").expect("an answer").status(), 401);
        slowest = begun.elapsed();
    }
    assert!(slowest > Duration::from_secs(2) && right < slowest / 2, "{right:?} of {slowest:?}");
    assert_eq!(metric().await - before, 54.0);
}
