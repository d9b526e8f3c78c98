//! The commands that use a running gateway: `voicegate notes` and `voicegate listen`.

use std::process::{Output, Stdio};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    process::Command,
};

use crate::gateway::{KEY, Process};

fn voicegate(process: &Process, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voicegate"));
    command.args(arguments).env("VOICEGATE_URL", &process.url).env("VOICEGATE_API_KEY", KEY);
    command.kill_on_drop(true);
    command
}

async fn run(process: &Process, arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } =
        voicegate(process, arguments).output().await.expect("the executable");
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.success(), said)
}

#[tokio::test]
async fn notes_are_listed_shown_canceled_and_sent_again() {
    let process = Process::start().await;
    let sent = process.accept("").await;
    let note = process.until_status(&sent, "accepted").await;
    let created: jiff::Timestamp = note["created_at"].as_str().expect("a time").parse().expect("a time");
    let tomorrow = created + jiff::SignedDuration::from_hours(24);
    let later = process.accept(&format!("send_at={tomorrow}")).await;

    let (succeeded, list) = run(&process, &["notes", "list"]).await;
    assert!(succeeded && list.lines().count() == 2, "{list}");
    assert!(list.lines().next().is_some_and(|first| first.contains(&later)), "newest first: {list}");
    let (_, list) = run(&process, &["notes", "list", "--status", "queued", "--json"]).await;
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["items"][0]["id"], later);
    let (_, one) = run(&process, &["notes", "list", "--limit", "1"]).await;
    assert_eq!(one.lines().count(), 1, "{one}");

    let (succeeded, shown) = run(&process, &["notes", "show", &sent]).await;
    assert!(succeeded && shown.contains("attempt 1 over imessage: accepted"), "{shown}");
    let (succeeded, canceled) = run(&process, &["notes", "cancel", &later]).await;
    assert!(succeeded && canceled.contains("canceled"), "{canceled}");
    let (succeeded, refused) = run(&process, &["notes", "cancel", &sent]).await;
    assert!(!succeeded && refused.starts_with("409 "), "{refused}");
    let (succeeded, again) = run(&process, &["notes", "resend", &later]).await;
    assert!(succeeded && !again.contains(&later) && again.starts_with("vn_"), "{again}");
    let (succeeded, used) = run(&process, &["usage", "--by", "connection"]).await;
    assert!(succeeded && used.lines().any(|line| line.starts_with("imessage ")), "{used}");
    let (_, used) = run(&process, &["usage", "--by", "status", "--json"]).await;
    let used: serde_json::Value = serde_json::from_str(&used).expect("JSON");
    let notes = |status: &str| {
        let items = used["items"].as_array().into_iter().flatten();
        items.filter(|item| item["key"] == status).filter_map(|item| item["notes"].as_u64()).sum::<u64>()
    };
    assert_eq!(notes("canceled"), 1, "{used}");
    let (succeeded, refused) = run(&process, &["usage", "--from", "soon"]).await;
    assert!(!succeeded && refused.starts_with("400 ") && refused.contains("(--from)"), "{refused}");

    let (succeeded, absent) = run(&process, &["notes", "show", "vn_0"]).await;
    assert!(!succeeded && absent.contains("not_found"), "{absent}");
}

#[tokio::test]
async fn events_are_printed_and_posted_with_a_signature() {
    let process = Process::start().await;
    let bot = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hooks = format!("http://{}/hooks", bot.local_addr().expect("an address"));
    let key = [7_u8; 32];
    let mut listening = voicegate(&process, &["listen", "--forward", &hooks])
        .env("WEBHOOK_SECRET", format!("whsec_{}", BASE64_STANDARD.encode(key)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the executable");
    let mut remarks = BufReader::new(listening.stderr.take().expect("its remarks")).lines();
    assert_eq!(
        remarks.next_line().await.expect("text").as_deref(),
        Some("listening for events; Ctrl-C stops")
    );
    let id = process.accept("").await;

    let (mut socket, _) = bot.accept().await.expect("a post");
    let mut request = Vec::new();
    let (head, body) = loop {
        let mut piece = [0; 4096];
        let count = socket.read(&mut piece).await.expect("bytes");
        assert!(count > 0, "the post ended early");
        request.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
            break (head.to_owned(), body.to_owned());
        }
    };
    socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("an answer");
    let header = |name: &str| {
        let lead = format!("{name}: ");
        head.lines().find_map(|line| line.strip_prefix(&lead)).unwrap_or_else(|| panic!("{name} in {head}"))
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
    mac.update(format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp")).as_bytes());
    let signature = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(header("webhook-signature"), signature);
    assert!(body.contains(&id) && body.contains(r#""type":"voice.accepted""#), "{body}");

    let mut printed = BufReader::new(listening.stdout.take().expect("its output")).lines();
    let line = printed.next_line().await.expect("text").expect("an event");
    assert!(line.contains("voice.accepted") && line.contains(&id), "{line}");
    assert_eq!(
        remarks.next_line().await.expect("text").as_deref(),
        Some("  the bot answered 204 No Content")
    );
}

#[tokio::test]
async fn listen_with_a_wrong_key_ends_with_a_reason() {
    let process = Process::start().await;
    let output = voicegate(&process, &["listen"])
        .env("VOICEGATE_API_KEY", "vg_nobody-has-this-key-0000000000000000000000")
        .output()
        .await
        .expect("the executable");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("401"), "{said}");
}
