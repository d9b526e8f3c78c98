//! A bot that knows no provider: one request to an alias reaches each provider in turn, as the operator edits one line.

use std::{fmt::Write as _, process::Command};

use serde_json::{Value, json};
use voicegate_sandbox::{Door, Sandbox, SandboxOptions};

use crate::gateway::{KEY, Process, sample};

/// The emulated account's own person at each provider, so that one alias means somebody everywhere.
fn doors(sandbox: &str) -> Vec<Door> {
    Sandbox::new(SandboxOptions::default()).doors(sandbox)
}

/// Adds a connection for each provider, named after it, and the alias `team`.
fn configure(config: String) -> String {
    let sandbox = config.split_once("base_url = \"").expect("an emulator").1;
    let sandbox = sandbox.split("/linq").next().expect("its address").to_owned();
    let (mut alias, mut connections) = ("[tenants.a.aliases.team]\n".to_owned(), String::new());
    for door in doors(&sandbox) {
        let _ = writeln!(alias, "{} = \"{}\"", door.provider, door.to);
        let _ = writeln!(
            connections,
            "[tenants.a.connections.{0}]\nprovider = \"{0}\"\n{1}",
            door.provider,
            toml::to_string(&door.settings).expect("TOML")
        );
    }
    format!("{config}\n{alias}\n{connections}")
}

/// The bot's script: the same request, whatever the provider is.
async fn script(process: &Process) -> Value {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let body = json!({"to": "alias:team", "audio": {"data": BASE64_STANDARD.encode(sample())}});
    let request = process.http.post(format!("{}/voice", process.url)).bearer_auth(KEY).json(&body);
    let answer = request.header("prefer", "wait=30").send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("a note")
}

/// The first stream of a file, as ffprobe reads it: codec, channels and seconds.
fn probed(bytes: &[u8]) -> (String, u64, f64) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_streams", "-show_format"])
        .arg(file.path())
        .output()
        .expect("ffprobe");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["streams"].as_array().map(Vec::len), Some(1), "{found}");
    let stream = &found["streams"][0];
    let seconds = found["format"]["duration"].as_str().expect("a duration").parse().expect("a number");
    let codec = stream["codec_name"].as_str().expect("a codec").to_owned();
    (codec, stream["channels"].as_u64().expect("a number"), seconds)
}

#[tokio::test]
async fn one_script_reaches_every_provider_by_an_edit_of_the_route() {
    let process = Process::with(configure).await;
    let file = process.folder.path().join("config.toml");
    let mut route = "imessage".to_owned();
    let providers: Vec<&str> = voicegate_sandbox::providers().collect();
    let adapters: Vec<&str> = voicegate_providers::PROVIDERS.iter().map(|one| one.name).collect();
    assert!(adapters.iter().all(|name| providers.contains(name)), "{adapters:?}");
    for (edits, provider) in providers.iter().enumerate() {
        let config = std::fs::read_to_string(&file).expect("the configuration");
        let line = |route: &str| format!("route = [\"{route}\"]");
        std::fs::write(&file, config.replace(&line(&route), &line(provider))).expect("written");
        route = (*provider).to_owned();
        process.signal("-HUP");
        let reloads = || process.logged().matches("was reloaded").count();
        process.eventually("the reload", async || (reloads() > edits).then_some(())).await;

        let note = script(&process).await;
        assert_eq!((&note["provider"], &note["form"]), (&json!(provider), &json!("voice")), "{note}");
        let ledger = process.sandbox.ledger();
        assert_eq!(ledger.len(), edits + 1, "{provider}");
        let entry = ledger.last().expect("a note");
        assert_eq!((entry.provider, entry.form, &entry.problems), (*provider, "voice", &Vec::new()));
        let (codec, channels, seconds) = probed(&process.sandbox.audio(&entry.id).expect("its bytes"));
        // Linq takes the bot's own MP3 as it is; everybody else wants Opus.
        let expected = if *provider == "linq" { "mp3" } else { "opus" };
        assert_eq!((codec.as_str(), channels), (expected, 1), "{provider}");
        assert!((seconds - 3.0).abs() < 0.1, "{provider}: {seconds} s");
    }
}
