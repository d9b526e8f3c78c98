//! Tests of `voicegate callbacks`, by which an operator sets up receipts.

use std::process::Output;

use crate::gateway::Process;

async fn callbacks(process: &Process, command: &str, connection: &str) -> (bool, String) {
    let output: Output = tokio::process::Command::new(env!("CARGO_BIN_EXE_voicegate"))
        .args(["callbacks", "--config"])
        .arg(process.folder.path().join("config.toml"))
        .args([command, connection])
        .output()
        .await
        .expect("the executable");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn set(process: &Process, connection: &str, line: &str) {
    let file = process.folder.path().join("config.toml");
    let config = std::fs::read_to_string(&file).expect("the configuration");
    let head = format!("[tenants.a.connections.{connection}]");
    std::fs::write(&file, config.replace(&head, &format!("{head}\n{line}"))).expect("written");
}

#[tokio::test]
async fn callbacks_register_sets_up_receipts() {
    let process = Process::start().await;
    let (ok, status) = callbacks(&process, "status", "imessage").await;
    assert!(!ok && status.contains("no secret") && status.contains("none yet"), "{status}");

    let (ok, registered) = callbacks(&process, "register", "imessage").await;
    assert!(ok && registered.contains("[tenants.a.connections.imessage]"), "{registered}");
    let line =
        registered.lines().find(|line| line.starts_with("webhook_secret = ")).expect("the line to copy");
    set(&process, "imessage", line);
    process.signal("-HUP");
    process.eventually("the reload", async || process.logged().contains("was reloaded").then_some(())).await;

    let id = process.accept("").await;
    process.until_status(&id, "delivered").await;
    let (ok, status) = callbacks(&process, "status", "a/imessage").await;
    assert!(
        ok && status.contains("receipts on") && status.contains("the last genuine one at 20"),
        "{status}"
    );
    let secret = line.split('"').nth(1).expect("a secret");
    assert!(!status.contains(secret) && !process.logged().contains(secret));
}

#[tokio::test]
async fn unknown_connection_and_missing_token_are_explained() {
    let process = Process::start().await;
    let (ok, error) = callbacks(&process, "status", "sms").await;
    assert!(!ok && error.contains("there is no connection \"sms\""), "{error}");
    let (ok, error) = callbacks(&process, "register", "whatsapp").await;
    assert!(!ok && error.contains("callback_token"), "{error}");
}
