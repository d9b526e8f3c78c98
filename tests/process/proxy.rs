//! The way to the providers, with a real proxy: `server.proxy`, the variables of the environment, and the requests that
//! never take a proxy.

#[path = "../support/proxy.rs"]
mod little_proxy;

use std::{collections::BTreeMap, process::Output};

use axum::{Router, http::StatusCode, routing};
use tokio::{net::TcpListener, process::Command, sync::mpsc};

use self::little_proxy::LittleProxy;
use crate::gateway::{KEY, Process, sample};

/// The variables of this test's own environment have no effect.
const NO_VARIABLES: [(&str, &str); 8] = [
    ("ALL_PROXY", ""),
    ("all_proxy", ""),
    ("HTTPS_PROXY", ""),
    ("https_proxy", ""),
    ("HTTP_PROXY", ""),
    ("http_proxy", ""),
    ("NO_PROXY", ""),
    ("no_proxy", ""),
];

fn environment(set: &[(&str, &str)]) -> BTreeMap<String, String> {
    let all = NO_VARIABLES.iter().chain(set);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A bot's server with a source at `/source` and a webhook at `/hook`, which reports each event.
async fn bot() -> (String, mpsc::UnboundedReceiver<()>) {
    let (told, events) = mpsc::unbounded_channel();
    let router = Router::new().route("/source", routing::get(async || sample())).route(
        "/hook",
        routing::post(async move || {
            let _ = told.send(());
            StatusCode::NO_CONTENT
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, events)
}

#[tokio::test]
async fn providers_are_reached_through_the_proxy_and_nobody_else() {
    let (proxy, (bot, mut events)) = (LittleProxy::start().await, bot().await);
    let process = Process::with_environment("all", environment(&[]), |config| {
        let hook = format!(
            "[tenants.a]\nwebhook = {{ url = \"{bot}/hook\", secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"] }}"
        );
        let config = config.replace("[tenants.a]", &hook);
        let config = config.replace("[server]", &format!("[server]\nproxy = \"{}\"", proxy.url()));
        format!("[fetch]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n{config}")
    })
    .await;
    let request = process.http.post(format!("{}/voice", process.url)).bearer_auth(KEY);
    let request = request.json(&serde_json::json!({
        "to": "+15551234567", "audio": { "url": format!("{bot}/source") }
    }));
    let note: serde_json::Value = request.send().await.expect("an answer").json().await.expect("a note");
    process.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    events.recv().await.expect("an event");

    let lines = proxy.lines();
    assert!(lines.iter().any(|line| line.contains("/voicememo ")), "the visible request: {lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("PUT ")), "the upload: {lines:?}");
    assert!(!lines.iter().any(|line| line.contains("/source") || line.contains("/hook")), "{lines:?}");
    assert_eq!(process.dispatches(), 1);
    let log = process.logged();
    let way = format!("providers are reached through http://{}", proxy.address);
    assert!(log.contains(&way), "{log}");
    assert!(!log.contains("S3CRET") && !log.contains("bWU6UzNDUkVU"), "{log}");
}

/// Runs `voicegate check --online` on the configuration of `process`, with these variables.
async fn check(process: &Process, value: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voicegate"));
    command.args(["check", "--online", "--config"]).arg(process.folder.path().join("config.toml"));
    for (name, _) in NO_VARIABLES {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).env("VOICEGATE__SERVER__PROXY", value).kill_on_drop(true);
    let Output { stdout, stderr, .. } = command.output().await.expect("the executable");
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(!said.contains("S3CRET"), "{said}");
    said
}

#[tokio::test]
async fn the_environment_counts_where_it_is_asked_for() {
    let proxy = LittleProxy::start().await;
    let process = Process::start().await;
    let (url, address) = (proxy.url(), &proxy.address);
    let through = |which: &str| format!("ok    server.proxy: providers are reached {which}");
    for (value, variables, expected, is_used) in [
        ("environment", vec![], through("directly, because the environment names no proxy"), false),
        (
            "environment",
            vec![("HTTP_PROXY", url.as_str())],
            through(&format!(
                "as the environment says: https addresses directly, http addresses through http://{address}"
            )),
            true,
        ),
        (
            "environment",
            vec![("all_proxy", url.as_str())],
            through(&format!("through http://{address}, which the environment names")),
            true,
        ),
        (
            "environment",
            vec![("ALL_PROXY", url.as_str()), ("NO_PROXY", "10.0.0.0/8, 127.0.0.1")],
            through(&format!("through http://{address}, which the environment names")),
            false,
        ),
        ("none", vec![("ALL_PROXY", url.as_str())], through("directly"), false),
        // The key says it all: no variable excepts an address from it.
        (url.as_str(), vec![("NO_PROXY", "*")], through(&format!("through http://{address}")), true),
    ] {
        let said = check(&process, value, &variables).await;
        assert!(said.lines().any(|line| line == expected), "{expected}\n{said}");
        assert!(said.contains("ok    tenants.a.connections.imessage: 1 line"), "{said}");
        let asked = proxy.take_lines().iter().filter(|line| line.contains("/linq/")).count();
        assert_eq!(asked, usize::from(is_used), "{value} {variables:?}");
    }
    let said = check(&process, "environment", &[("HTTPS_PROXY", "socks5://me:S3CRET@127.0.0.1:1")]).await;
    assert!(said.contains("note  server.proxy: HTTPS_PROXY is not the URL of an HTTP proxy"), "{said}");
    let said = check(&process, "ftp://me:S3CRET@127.0.0.1:1", &[]).await;
    assert!(
        said.contains("server.proxy: expected \"environment\", \"none\", or the URL of a proxy"),
        "{said}"
    );
}
