//! Real clients of the other gateways, pointed here by base URL and key alone. The programs are in `tests/dialects`, and
//! `scripts/setup.sh --test` installs what they need.

use std::path::Path;

use tokio::process::Command;

use super::{Audio, served};
use crate::harness::{KEY, PHONE, World};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Path of a program that is installed for these tests.
fn tool(path: &str) -> String {
    let tool = format!("{ROOT}/target/tools/dialects/{path}");
    assert!(Path::new(&tool).exists(), "{tool} is missing; run: scripts/setup.sh --test");
    tool
}

/// Runs a program that sends notes, and returns their ids as it printed them.
async fn run(world: &World, program: &str, arguments: &[&str]) -> Vec<String> {
    let Audio::Url(speech_url) = served().await else { unreachable!("an address") };
    let output = Command::new(program)
        .args(arguments)
        .current_dir(format!("{ROOT}/target/tools/dialects"))
        .env("VOICEGATE_URL", &world.url)
        .env("VOICEGATE_API_KEY", KEY)
        .env("INSTANCE", "support")
        .env("TO", PHONE)
        .env("SPEECH", format!("{ROOT}/tests/fixtures/audio/speech-24k.mp3"))
        .env("SPEECH_URL", speech_url)
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .output();
    let output = output.await.expect("the interpreter");
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {why}\n{said}");
    said.lines().map(str::to_owned).collect()
}

/// Runs a program twice, with an edit of the route between. `notes` is how many notes it makes each time.
async fn reaches_two_providers(program: &str, arguments: &[&str], notes: usize) {
    let world = World::of_dialects().await;
    let edit = |config: String| {
        config
            .replace("route = [\"imessage\"]\nroutes", "route = [\"whatsapp\"]\nroutes")
            .replace("routes.support = [\"imessage\"]", "routes.support = [\"whatsapp\"]")
    };
    for provider in ["linq", "wawp"] {
        let ids = run(&world, program, arguments).await;
        assert!(ids.len() >= notes, "{ids:?}");
        for id in ids {
            // Linq's ids have no prefix.
            let id = id.rfind("vn_").map_or_else(|| format!("vn_{id}"), |at| id[at..].to_owned());
            let note = world.note(&id).await;
            assert_eq!(
                (note["status"].as_str(), note["provider"].as_str()),
                (Some("accepted"), Some(provider)),
                "{note}"
            );
        }
        assert_eq!(world.delivered(provider).len(), notes, "{provider}");
        world.reconfigure(edit).expect("reloaded");
    }
}

#[tokio::test]
async fn official_sdk_of_linq_for_typescript() {
    tool("node_modules/@linqapp/sdk");
    reaches_two_providers("node", &[&tool("linq.mjs")], 2).await;
}

#[tokio::test]
async fn official_package_of_linq_for_python() {
    reaches_two_providers(&tool("venv/bin/python"), &[&tool("clients.py"), "linq"], 2).await;
}

#[tokio::test]
async fn node_of_n8n_for_evolution() {
    tool("node_modules/n8n-nodes-evolution-api");
    reaches_two_providers("node", &[&tool("n8n.mjs")], 2).await;
}

#[tokio::test]
async fn python_client_of_evolution() {
    reaches_two_providers(&tool("venv/bin/python"), &[&tool("clients.py"), "evolution"], 2).await;
}

#[tokio::test]
async fn python_client_of_waha() {
    reaches_two_providers(&tool("venv/bin/python"), &[&tool("clients.py"), "waha"], 2).await;
}
