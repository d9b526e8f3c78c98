//! Tests over the connections of all providers, each with its emulator. A connection has the name of its provider.

mod budget;
mod closed;
mod fan_out;
mod faults;
mod found_again;

use std::fmt::Write as _;

use reqwest::StatusCode;
use serde_json::Value;
use voicegate_sandbox::{Door, LedgerEntry, Sandbox, SandboxOptions};

use crate::harness::{KEY, World, read};

/// A world whose tenant `a` has a connection for each provider, with `more` settings for some of them, and the routes.
struct Setup<'a> {
    /// Further lines of a connection's table, by the name of the connection.
    more: &'a [(&'a str, &'a str)],
    /// Further connections, by name, provider and further lines.
    connections: &'a [(&'a str, &'a str, &'a str)],
    /// Further routes and aliases of the tenant, as TOML.
    tenant: &'a str,
    /// Tables in front of the tenants, as TOML.
    top: &'a str,
}

const USUAL: Setup<'static> = Setup { more: &[], connections: &[], tenant: "", top: "" };

impl Setup<'_> {
    async fn start(&self) -> World {
        World::with(|config| {
            let sandbox = config.split_once("base_url = \"").expect("an emulator").1;
            let sandbox = sandbox.split("/linq").next().expect("its address").to_owned();
            self.configure(&config, &sandbox)
        })
        .await
    }

    fn configure(&self, config: &str, sandbox: &str) -> String {
        let doors = Sandbox::new(SandboxOptions::default()).doors(sandbox);
        let mut added = String::new();
        for door in &doors {
            let of_door = self.more.iter().filter(|(name, _)| *name == door.provider);
            let more = of_door.map(|(_, more)| *more).collect::<Vec<_>>().join("\n");
            connection(&mut added, door.provider, door, &more);
        }
        for (name, provider, more) in self.connections {
            let door = doors.iter().find(|door| door.provider == *provider).expect("an emulator");
            connection(&mut added, name, door, more);
        }
        config
            .replace("[tenants.a]\n", &format!("{}\n[tenants.a]\n", self.top))
            .replace("routes.both = ", &format!("{}\nroutes.both = ", self.tenant))
            .replace("[tenants.b]\n", &format!("{added}\n[tenants.b]\n"))
    }
}

/// Writes the table of a connection. Settings in `more` replace those of the emulator.
fn connection(text: &mut String, name: &str, door: &Door, more: &str) {
    let own: toml::Table = more.parse().expect("TOML");
    let _ = writeln!(text, "[tenants.a.connections.{name}]\nprovider = \"{}\"\n{more}", door.provider);
    for (key, value) in door.settings.as_object().expect("settings") {
        if !own.contains_key(key) {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
}

/// Sends a note and waits until it has ended.
async fn send(world: &World, query: &str, audio: Vec<u8>) -> (StatusCode, Value) {
    let request = world.post_raw(query, audio).header("prefer", "wait=30");
    read(request.send().await.expect("an answer")).await
}

async fn plan(world: &World, query: &str, audio: Vec<u8>) -> Value {
    let request = world.http.post(format!("{}/voice/plan?{query}", world.url)).bearer_auth(KEY);
    let request = request.header("content-type", "application/octet-stream").body(audio);
    let (status, plan) = read(request.send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::OK, "{plan}");
    plan["connections"][0].clone()
}

fn codes(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|one| one["code"].as_str().expect("a code")).collect()
}

/// The number of requests of one kind that an emulator received.
fn requests(world: &World, provider: &str, operation: &str) -> usize {
    let all = world.sandbox.requests().into_iter();
    all.filter(|request| (request.provider, request.operation) == (provider, operation)).count()
}

fn only(mut entries: Vec<LedgerEntry>) -> LedgerEntry {
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

/// A connection of `GET /connections`.
async fn shown(world: &World, name: &str) -> Value {
    let (_, list) = read(world.get("/connections").send().await.expect("an answer")).await;
    let mut items = list["items"].as_array().expect("a list").iter();
    items.find(|item| item["name"] == name).cloned().unwrap_or(Value::Null)
}
