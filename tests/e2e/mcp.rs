//! The Model Context Protocol, as a client of the protocol's own TypeScript SDK sees it, over HTTP and over standard input
//! and output.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    harness::{KEY, PHONE, World, fixture, read},
    speech,
};

/// The SDK that scripts/setup.sh has installed from `tests/docs/package-lock.json`.
fn sdk() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let sdk = std::path::absolute(target.join("tools/node_modules/@modelcontextprotocol/sdk"));
    let sdk = sdk.expect("a path");
    assert!(sdk.is_dir(), "the client is missing; run scripts/setup.sh --test");
    sdk
}

/// Connects, makes calls one after the other, and returns what the client got.
async fn client(arguments: &[&str], calls: Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/client.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(sdk()).args(arguments);
    node.env("VOICEGATE_API_KEY", KEY).env("NO_PROXY", "127.0.0.1,localhost");
    node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = tokio::task::spawn_blocking(move || {
        let mut child = node.spawn().expect("Node");
        child.stdin.take().expect("its input").write_all(calls.to_string().as_bytes()).expect("written");
        child.wait_with_output().expect("ended")
    });
    let ended = ended.await.expect("ended");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    serde_json::from_slice(&ended.stdout).expect("JSON")
}

fn call(name: &str, arguments: Value) -> Value {
    json!({ "name": name, "arguments": arguments })
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}"))
}

fn send(data: &[u8]) -> Value {
    let audio = json!({ "data": BASE64_STANDARD.encode(data) });
    call("send_voice", json!({ "to": PHONE, "audio": audio, "via": "whatsapp", "wait_seconds": 2 }))
}

#[tokio::test]
async fn model_is_told_not_to_repeat_a_note_and_a_repetition_sends_nothing() {
    let world = World::start().await;
    world.sandbox.add_fault(Fault::new(Provider::WAWP, Operation::Voice, FaultAction::ResetAfter).times(1));
    let url = format!("{}/mcp", world.url);
    let mp3 = fixture("speech-24k.mp3");
    let seen = client(&["http", &url, KEY], json!([send(&mp3), send(&mp3)])).await;
    let names: Vec<&str> =
        seen["tools"].as_array().expect("tools").iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["send_voice", "plan_voice", "voice_status", "list_connections", "received_voices"]);
    assert_eq!(seen["server"]["name"], "voicegate");
    assert!(seen["instructions"].as_str().expect("text").contains("never call send_voice again"));
    let [first, second] = &seen["results"].as_array().expect("results")[..] else { panic!("{seen}") };
    assert!(text(first).starts_with("Do not send again."), "{first}");
    let facts = &first["structuredContent"];
    assert_eq!((&facts["status"], &facts["do_not_send_again"]), (&json!("unknown"), &json!(true)));
    assert_ne!(first["isError"], true, "an error would make a model try again");
    assert!(text(second).contains("nothing was sent now"), "{second}");
    assert_eq!(second["structuredContent"]["id"], facts["id"]);
    assert_eq!(world.dispatches(), 1);
    let (_, notes) = read(world.get("/voice").send().await.expect("an answer")).await;
    assert_eq!(notes["items"].as_array().map(Vec::len), Some(1));

    // On purpose, it may be sent once more.
    let mut again = send(&mp3);
    again["arguments"]["idempotency_key"] = "once more".into();
    let id = facts["id"].clone();
    let calls = json!([
        again,
        call("voice_status", json!({ "id": id })),
        call(
            "plan_voice",
            json!({ "to": PHONE, "audio": { "data": BASE64_STANDARD.encode(&mp3) }, "via": "both" })
        ),
        call("list_connections", json!({})),
    ]);
    world.clock.advance(std::time::Duration::from_secs(60));
    let seen = client(&["http", &url, KEY], calls).await;
    let [again, status, plan, connections] = &seen["results"].as_array().expect("results")[..] else {
        panic!("{seen}")
    };
    assert_ne!(again["structuredContent"]["id"], id);
    assert!(text(again).to_lowercase().contains("do not send it again"), "{again}");
    assert!(text(status).starts_with("Do not send again."), "{status}");
    assert!(text(plan).starts_with("Nothing was sent."), "{plan}");
    assert_eq!(plan["structuredContent"]["connections"].as_array().map(Vec::len), Some(2));
    assert_eq!(connections["structuredContent"]["connections"][0]["name"], "imessage");
    assert_eq!(world.app.memory.used(), 0);
}

#[tokio::test]
async fn text_with_an_unknown_outcome_is_spoken_and_sent_once_over_http() {
    spoken_once(true).await;
}

#[tokio::test]
async fn text_with_an_unknown_outcome_is_spoken_and_sent_once_by_the_command() {
    spoken_once(false).await;
}

/// Sends a note from a text whose outcome is unknown, and repeats the call over both transports.
async fn spoken_once(begins_over_http: bool) {
    let world = World::with(|config| speech::with_speech(config, "")).await;
    world.sandbox.add_fault(Fault::new(Provider::WAWP, Operation::Voice, FaultAction::ResetAfter).times(1));
    let url = format!("{}/mcp", world.url);
    let over_http = ["http", &url, KEY];
    let command = ["stdio", env!("CARGO_BIN_EXE_voicegate"), "mcp", "--url", &world.url];
    let mut ways = [&over_http[..], &command[..]];
    if !begins_over_http {
        ways.reverse();
    }
    let say = |wait: u64| {
        let audio = json!({ "speech": { "text": "Your parcel is here." } });
        call("send_voice", json!({ "to": PHONE, "audio": audio, "via": "whatsapp", "wait_seconds": wait }))
    };
    let seen = client(ways[0], json!([say(4), say(0)])).await;
    let [first, second] = &seen["results"].as_array().expect("results")[..] else { panic!("{seen}") };
    assert!(text(first).starts_with("Do not send again."), "{first}");
    let facts = &first["structuredContent"];
    assert_eq!((&facts["status"], &facts["do_not_send_again"]), (&json!("unknown"), &json!(true)));
    assert_ne!(first["isError"], true, "an error would make a model try again");
    // A model that makes the same call all the same, over either transport, changes nothing.
    let seen = client(ways[1], json!([say(0)])).await;
    for again in [second, &seen["results"][0]] {
        assert!(text(again).contains("nothing was sent now"), "{again}");
        let repeated = &again["structuredContent"];
        assert_eq!((&repeated["id"], &repeated["do_not_send_again"]), (&facts["id"], &json!(true)));
    }
    let counts = (speech::calls(&world), world.dispatches(), world.delivered("wawp").len());
    assert_eq!(counts, (1, 1, 1), "texts that were spoken, requests to the provider, notes that arrived");
    let (_, notes) = read(world.get("/voice").send().await.expect("an answer")).await;
    let [note] = &notes["items"].as_array().expect("notes")[..] else { panic!("{notes}") };
    assert_eq!((&note["id"], &note["status"]), (&facts["id"], &json!("unknown")));
    assert_eq!(note["audio"]["speech"]["text"], "Your parcel is here.");
}

#[tokio::test]
async fn errors_of_tools_have_a_code_and_advice() {
    let world = World::start().await;
    let url = format!("{}/mcp", world.url);
    let garbage = BASE64_STANDARD.encode(b"no audio at all, and not a little of it");
    let data = json!({ "data": BASE64_STANDARD.encode(fixture("speech-24k.mp3")) });
    let calls = json!([
        call("send_voice", json!({ "to": PHONE, "audio": { "data": garbage } })),
        call("send_voice", json!({ "to": "nobody", "audio": data })),
        call("send_voice", json!({ "to": PHONE, "audio": data, "wait": 3 })),
        call("send_voice", json!({ "to": PHONE, "audio": data, "wait_seconds": 600 })),
        call("voice_status", json!({ "id": "vn_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41" })),
        call("voice_status", json!({ "id": "../connections" })),
        call("send_voice", json!({ "to": PHONE, "audio": data, "idempotency_key": "one" })),
        call("send_voice", json!({ "to": PHONE, "audio": data, "text": "x", "idempotency_key": "one" })),
        call("no_such_tool", json!({})),
    ]);
    let seen = client(&["http", &url, KEY], calls).await;
    let results = seen["results"].as_array().expect("results");
    for (result, code) in results.iter().zip([
        Some("audio_unreadable"),
        Some("recipient_invalid"),
        Some("invalid_request"),
        Some("invalid_request"),
        Some("not_found"),
        Some("not_found"),
        None,
        Some("idempotency_key_reused"),
    ]) {
        assert_eq!(result["isError"], code.is_some(), "{result}");
        assert_eq!(result["structuredContent"]["code"].as_str(), code, "{result}");
        assert!(
            result["structuredContent"]["advice"]
                .as_str()
                .is_some_and(|advice| text(result).starts_with(advice))
        );
    }
    assert!(results[8]["failed"].as_str().is_some_and(|why| why.contains("no such tool")), "{}", results[8]);
}

#[tokio::test]
async fn command_serves_the_same_tools_on_standard_input_and_output() {
    let world = World::start().await;
    let command = ["stdio", env!("CARGO_BIN_EXE_voicegate"), "mcp", "--url", &world.url];
    let mp3 = fixture("speech-24k.mp3");
    let mut patient = send(&mp3);
    patient["arguments"]["wait_seconds"] = 30.into();
    let seen = client(&command, json!([patient, patient, call("list_connections", json!({}))])).await;
    assert_eq!(seen["tools"].as_array().map(Vec::len), Some(5));
    let [first, second, connections] = &seen["results"].as_array().expect("results")[..] else {
        panic!("{seen}")
    };
    assert_eq!(first["structuredContent"]["status"], "accepted", "{first}");
    assert_eq!(second["structuredContent"]["id"], first["structuredContent"]["id"]);
    assert!(text(second).contains("nothing was sent now"), "{second}");
    assert_eq!(connections["structuredContent"]["connections"].as_array().map(Vec::len), Some(2));
    assert_eq!(world.delivered("wawp").len(), 1);

    // Both ways derive the same key, so a note is not repeated over the other one.
    let url = format!("{}/mcp", world.url);
    let seen = client(&["http", &url, KEY], json!([send(&mp3)])).await;
    assert!(text(&seen["results"][0]).contains("nothing was sent now"), "{seen}");

    let gone = ["stdio", env!("CARGO_BIN_EXE_voicegate"), "mcp", "--url", "http://127.0.0.1:1"];
    let seen = client(&gone, json!([send(&mp3)])).await;
    assert_eq!(seen["results"][0]["structuredContent"]["code"], "no_answer");
    assert!(text(&seen["results"][0]).contains("exactly the same call again"), "{seen}");
}

#[tokio::test]
async fn command_answers_every_call_after_its_input_has_ended() {
    let world = World::start().await;
    // Longer than the protocol's library waits.
    world.sandbox.add_fault(Fault::new(Provider::WAWP, Operation::Voice, FaultAction::Slow { ms: 7_000 }));
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_voicegate"));
    command.args(["mcp", "--url", &world.url]).env("VOICEGATE_API_KEY", KEY);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut running = command.spawn().expect("started");
    let mut patient = send(&fixture("speech-24k.mp3"));
    patient["arguments"]["wait_seconds"] = 30.into();
    let client = json!({ "name": "script", "version": "1" });
    let begin = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    let lines = [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": begin }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": patient }),
    ];
    let mut input = running.stdin.take().expect("standard input");
    for line in lines {
        input.write_all(format!("{line}\n").as_bytes()).await.expect("written");
    }
    drop(input);
    let ended = running.wait_with_output().await.expect("an end");
    assert!(ended.status.success());
    let said = String::from_utf8(ended.stdout).expect("text");
    let answer: Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert_eq!(answer["id"], 2, "{said}");
    assert_eq!(answer["result"]["structuredContent"]["status"], "accepted", "{said}");
}

#[tokio::test]
async fn endpoint_needs_a_key_and_bounds_what_it_reads() {
    let world = World::start().await;
    let url = format!("{}/mcp", world.url);
    let post = |key: &str, body: String| {
        let request = world.http.post(&url).bearer_auth(key).header("content-type", "application/json");
        request.header("accept", "application/json, text/event-stream").body(body).send()
    };
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    let refused = post("vg_nobody", list.clone()).await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let (status, answer) = read(post(KEY, list).await.expect("an answer")).await;
    assert_eq!((status, answer["result"]["tools"].as_array().map(Vec::len)), (StatusCode::OK, Some(5)));
    for method in [reqwest::Method::GET, reqwest::Method::DELETE] {
        let answer = world.http.request(method, &url).bearer_auth(KEY).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    // A tree of values takes far more memory than its text, and is charged for it before it is read.
    let tree = "[".repeat(1 << 21) + &"]".repeat(1 << 21);
    let refused = post(KEY, tree).await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let refused = post(KEY, "{\"jsonrpc\"".to_owned()).await.expect("an answer");
    assert!(refused.status().is_client_error(), "{}", refused.status());
    assert_eq!(world.app.memory.used(), 0);
}
