//! The table of invalid and unusual requests: each problem has its status, its code and its field.

use std::collections::BTreeMap;

use base64::Engine;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{World, fixture, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    request: Vec<Row>,
    recipients: Vec<Recipients>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    json: Option<String>,
    query: Option<String>,
    /// The bytes in hexadecimal; by default the small MP3.
    body: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    refused: Option<Refused>,
    #[serde(default)]
    accepted: bool,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    status: u16,
    code: String,
    #[serde(default = "request")]
    stage: String,
    field: Option<String>,
}

fn request() -> String {
    "request".to_owned()
}

/// Recipients that are refused with the same problem.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipients {
    code: String,
    status: u16,
    to: Vec<String>,
}

fn table() -> Table {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hostile/requests.toml");
    toml::from_str(&std::fs::read_to_string(path).expect("the table")).expect("a table")
}

fn filled(text: &str) -> String {
    let audio = base64::engine::general_purpose::STANDARD.encode(fixture("speech-24k.mp3"));
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    text.replace("{AUDIO}", &audio).replace("{DIGITS}", &"5".repeat(10_000)).replace("{DEEP}", &deep)
}

impl Row {
    fn request(&self, world: &World) -> reqwest::RequestBuilder {
        let (json, query) = (self.json.as_deref(), self.query.as_deref().unwrap_or_default());
        let usual = if json.is_some() { "application/json" } else { "application/octet-stream" };
        let body = match (json, &self.body) {
            (Some(json), _) => filled(json).into_bytes(),
            (None, Some(body)) => hex::decode(body).expect("hexadecimal"),
            (None, None) => fixture("speech-24k.mp3"),
        };
        let mut request = world
            .http
            .post(format!("{}/voice?{query}", world.url))
            .bearer_auth(crate::harness::KEY)
            .body(body);
        if !self.headers.contains_key("Content-Type") {
            request = request.header("content-type", usual);
        }
        for (name, value) in
            self.headers.iter().filter(|(name, value)| *name != "Content-Type" || !value.is_empty())
        {
            request = request.header(name, value);
        }
        request
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_request_gets_its_problem() {
    let world = World::start().await;
    let mut wrong = Vec::new();
    let mut accepted = Vec::new();
    let table = table();
    for row in &table.request {
        let (status, answer) = read(row.request(&world).send().await.expect("an answer")).await;
        match &row.refused {
            Some(refused) if fits(status.as_u16(), &answer, refused) => {}
            None if row.accepted && status == 202 => {
                accepted.push(answer["id"].as_str().expect("an id").to_owned())
            }
            _ => wrong.push(format!("{}: {status} {answer}", row.name)),
        }
    }
    for Recipients { code, status, to } in &table.recipients {
        let refused =
            Refused { status: *status, code: code.clone(), stage: request(), field: Some("to".to_owned()) };
        for to in to.iter().map(|to| filled(to)) {
            let query: String =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("to", &to).finish();
            let upload = world.post_raw(&query, fixture("speech-24k.mp3"));
            let json = world.post_json(&json!({ "to": to, "audio": { "url": "http://127.0.0.1:9/a.mp3" } }));
            for (door, request) in [("query", upload), ("JSON", json)] {
                let (status, answer) = read(request.send().await.expect("an answer")).await;
                if !fits(status.as_u16(), &answer, &refused) {
                    let start: String = to.chars().take(40).collect();
                    wrong.push(format!("{start:?} in {door}: {status} {answer}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    for id in &accepted {
        world.until_status(id, "accepted").await;
    }
    assert_eq!(world.dispatches(), accepted.len(), "nothing else went out");
    assert_eq!(world.gateway.store.queue_depth().await.expect("a number"), 0);
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
    let mut foreign = names(world.folder.path());
    foreign.retain(|name| {
        !name.starts_with("voicegate.db")
            && !["source", "sent", "lock", "config.toml"].contains(&name.as_str())
    });
    assert!(foreign.is_empty(), "no request names a file of ours: {foreign:?}");
}

fn fits(status: u16, problem: &Value, expected: &Refused) -> bool {
    let told = problem["detail"].as_str().is_some_and(|detail| !detail.is_empty() && detail.len() < 600);
    told && status == expected.status
        && problem["status"] == status
        && problem["code"] == *expected.code
        && problem["stage"] == *expected.stage
        && problem["field"].as_str() == expected.field.as_deref()
}

/// The names of all files below `folder`.
fn names(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            names.extend(self::names(&entry.path()));
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}
