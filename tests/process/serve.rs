//! Tests of an operator's actions on a running gateway.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::gateway::{KEY, Process, sample};

#[tokio::test]
async fn sighup_reload_moves_the_tenant_to_the_other_provider() {
    let process = Process::start().await;
    let first = process.accept("").await;
    assert_eq!(process.until_status(&first, "accepted").await["provider"], "linq");
    let file = process.folder.path().join("config.toml");
    let config = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, config.replace("route = [\"imessage\"]", "route = [\"whatsapp\"]"))
        .expect("written");
    process.signal("-HUP");
    process.eventually("the reload", async || process.logged().contains("was reloaded").then_some(())).await;
    let second = process.accept("").await;
    assert_eq!(process.until_status(&second, "accepted").await["provider"], "wawp");
    let providers: Vec<_> = process.sandbox.ledger().into_iter().map(|entry| entry.provider).collect();
    assert_eq!(providers, ["linq", "wawp"]);
}

#[tokio::test]
async fn sigterm_stops_cleanly() {
    let mut process = Process::start().await;
    process.signal("-TERM");
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn idle_client_is_disconnected() {
    let process = Process::start().await;
    let address = process.url.trim_start_matches("http://").to_owned();
    for sent in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM", "POST /voice HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        stream.write_all(sent.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        ended.unwrap_or_else(|_| panic!("still open after {sent:?}")).ok();
    }
    // A body that stops coming.
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    let head = format!(
        "POST /voice?to=%2B15551234567 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: audio/mpeg\r\nContent-Length: 1000\r\n\r\nabc"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    ended.expect("ended").ok();
    assert!(
        String::from_utf8_lossy(&answer).contains("invalid_request"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn client_that_never_reads_is_disconnected() {
    let process = Process::start().await;
    // Two minutes of silence as WAV exceed the socket buffers.
    let bytes = 16_000_u32 * 2 * 600;
    let mut wav =
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data".to_vec();
    wav[4..8].copy_from_slice(&(36 + bytes).to_le_bytes());
    wav.extend(bytes.to_le_bytes());
    wav.resize(44 + bytes as usize, 0);
    let (status, note) = process.send("via=whatsapp", wav).await;
    assert_eq!(status, 202, "{note}");
    let id = note["id"].as_str().expect("an id");

    let address = process.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    let request =
        format!("GET /voice/{id}/audio?source=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    process
        .eventually("the connection is gone", async || {
            let sockets = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).ok()?.flatten();
            let open = sockets.filter(|fd| {
                std::fs::read_link(fd.path())
                    .is_ok_and(|target| target.to_string_lossy().ends_with("/source"))
            });
            (open.count() == 0 && process.logged().contains("a connection ended early")).then_some(())
        })
        .await;
    drop(stream);
}

#[tokio::test]
async fn log_contains_no_secret_and_no_phone_number() {
    let process = Process::with(|config| config.replace("[server]", "[server]\nlog = \"json\"")).await;
    let url = format!("{}/voice?to=%2B15551234567&via=imessage", process.url);
    let request = process.http.post(url).bearer_auth(KEY).header("content-type", "audio/mpeg").body(sample());
    let answer = request.header("x-request-id", "bot-7").send().await.expect("an answer");
    let note: Value = answer.json().await.expect("a note");
    let id = note["id"].as_str().expect("an id");
    process.until_status(id, "accepted").await;
    // The note is logged once by the request and once by the worker.
    for (message, span, n) in [
        (format!("note {id} accepted"), "request", None),
        (format!("note {id} was accepted by the provider"), "attempt", Some(1)),
    ] {
        let logged = process.logged();
        let mut lines = logged.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let line = lines.find(|line| line["fields"]["message"] == message).expect("a line");
        let outermost = &line["spans"][0];
        assert_eq!((&outermost["name"], &outermost["request_id"]), (&json!(span), &json!("bot-7")), "{line}");
        assert_eq!(outermost["n"].as_u64(), n, "{line}");
    }
    for via in ["via=imessage", "via=whatsapp"] {
        let id = process.accept(via).await;
        process.until_status(&id, "accepted").await;
    }
    let (status, _) = process.send("via=imessage&to=x", sample()).await;
    assert_eq!(status, 400);
    let log = process.logged();
    assert!(log.contains("accepted by the provider"), "{log}");
    for secret in [KEY, "sandbox-linq-token", "sandbox-wawp-token", "15551234567", "/m/"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn invalid_configuration_stops_the_start_and_names_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[server]\nlistn = \"127.0.0.1:0\"\n").expect("written");
    for command in ["serve", "check"] {
        let output = Command::new(env!("CARGO_BIN_EXE_voicegate"))
            .args([command, "--config"])
            .arg(&file)
            .output()
            .expect("the executable");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains("listn"), "{error}");
    }
}

#[test]
fn keys_new_prints_a_key_and_its_configuration_line() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_voicegate")).args(["keys", "new"]).output().expect("the executable");
    let key = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    let line = String::from_utf8(output.stderr).expect("text");
    assert!(key.starts_with("vg_") && key.len() == 46, "{key}");
    let hash = hex::encode(voicegate::config::hash_key(&key));
    assert!(line.contains(&format!("api_keys = [\"sha256:{hash}\"]")), "{line}");
}
