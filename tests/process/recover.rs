//! Recovery after an outage, while the process is killed: each note is sent again once, the rate of the connection is
//! kept, and the progress is true.
//!
//! A longer run: `make recover NOTES=10000`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, NewChat, Operation, Provider, Service};

use crate::{
    gateway::{KEY, Process, sample},
    postgres_server::Database,
    shared::on,
};

const RECIPIENTS: usize = 40;

const KILLS: usize = 3;

/// The parts of the test that depend on the number of notes.
struct Plan {
    notes: usize,
    /// Attempts in each second.
    rate: usize,
}

impl Plan {
    fn from_env() -> Self {
        let notes = std::env::var("RECOVER_NOTES").ok();
        let notes = notes.map_or(240, |text| text.parse().expect("a number"));
        Self { notes, rate: (notes / 60).max(20) }
    }

    /// A rate for the connection, and a queue that a recovery cannot fill at once.
    fn configure(&self, config: String) -> String {
        let rate = format!("token = \"sandbox-linq-token\"\nrate = \"{}/1s\"\n", self.rate);
        let queue = format!(
            "[delivery]\nmax_queue = {0}\nmax_queue_per_tenant = {0}\nexpires_in = \"6h\"\n[tenants.a]\n",
            self.notes / 6
        );
        config
            .replace("[storage]", "request_rate = \"off\"\n[storage]")
            .replace("token = \"sandbox-linq-token\"\n", &rate)
            .replace("[tenants.a]\n", &queue)
    }
}

fn phone(number: usize) -> String {
    format!("+1555000{:04}", number % RECIPIENTS)
}

#[tokio::test]
async fn each_note_is_recovered_once_although_the_process_is_killed() {
    let plan = Plan::from_env();
    let process = Process::with(|config| plan.configure(config)).await;
    run(&plan, process, None).await;
}

/// The process that is killed may have been the one at work, and another one goes on.
#[tokio::test]
async fn each_note_is_recovered_once_although_one_of_two_processes_is_killed() {
    let Some(database) = Database::make().await else { return };
    let plan = Plan::from_env();
    let url = database.url();
    let process = Process::with(|config| plan.configure(on(&url)(config))).await;
    let other = process.beside("all").await;
    run(&plan, process, Some(other)).await;
}

async fn run(plan: &Plan, mut process: Process, mut other: Option<Process>) {
    let originals = fail_notes(plan, &process).await;
    let refused = process.dispatches();
    assert_eq!(refused, plan.notes, "each was tried once");
    // The rate counts the attempts of the last second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let begun = Instant::now();
    let task = order(&process).await;
    assert_eq!(task["total"], plan.notes, "{task}");
    let mut last = 0;
    for kill in 1..=KILLS {
        let share = plan.notes * kill / (KILLS + 1);
        let done = process
            .eventually_long("progress to strike at", async || {
                let task = read(&process, &task).await;
                let done = number(&task["done"]);
                (done >= share as u64 || task["status"] == "done").then_some(done)
            })
            .await;
        assert!(done <= resends(&process).await.len() as u64, "no more than was sent again: {done}");
        assert!(done >= last, "progress never goes back: {last}, {done}");
        let dying = match &mut other {
            Some(other) if kill % 2 == 0 => other,
            _ => &mut process,
        };
        dying.kill();
        dying.launch().await;
        last = number(&read(&process, &task).await["done"]);
        assert!(last >= done, "what was counted stays counted: {done}, {last}");
        // The same order again, while its task runs or after it, sends nothing twice.
        if last < plan.notes as u64 {
            assert_eq!(order(&process).await["id"], task["id"]);
        }
    }
    let task = process
        .eventually_long("the end of the task", async || {
            let task = read(&process, &task).await;
            (task["status"] == "done").then_some(task)
        })
        .await;
    let counts = ["total", "done", "failed", "skipped"].map(|name| number(&task[name]));
    assert_eq!(counts, [plan.notes as u64, plan.notes as u64, 0, 0], "{task}");
    let resends = resends(&process).await;
    assert_eq!(resends.keys().collect::<BTreeSet<_>>(), originals.iter().collect::<BTreeSet<_>>());
    assert!(resends.values().all(|resends| resends.len() == 1), "each is sent again once");
    let statuses = until_all_ended(&process, resends.values().flatten()).await;
    let unknown = statuses.iter().filter(|status| *status == "unknown").count();
    let accepted = statuses.iter().filter(|status| *status == "accepted").count();
    assert_eq!(accepted + unknown, plan.notes, "{statuses:?}");
    // A kill in the middle of a request leaves an unknown outcome, and no more.
    let arrived = process.sandbox.ledger().iter().filter(|entry| entry.form != "refused").count();
    assert!((accepted..=plan.notes).contains(&arrived), "{accepted} accepted, {arrived} arrived");
    let windows = plan.notes / plan.rate;
    let least = Duration::from_secs(windows.saturating_sub(2) as u64);
    assert!(begun.elapsed() >= least, "{} notes at {}/s in {:?}", plan.notes, plan.rate, begun.elapsed());
    assert_rate(plan, &process, refused);
    println!("{} notes were recovered in {:.1?}, with {KILLS} kills", plan.notes, begun.elapsed());
}

/// Sends notes that the provider refuses, and returns their ids once all have failed.
async fn fail_notes(plan: &Plan, process: &Process) -> Vec<String> {
    for number in 0..RECIPIENTS {
        let service = Some(Service::IMessage);
        let chat = NewChat { handles: vec![phone(number)], service, is_group: false, id: None };
        process.sandbox.add_chat(chat);
    }
    // The provider does not take the audio. A refused account would pause its connection.
    let body = Some(json!({ "error": { "code": 5004, "message": "refused" } }));
    let action = FaultAction::Status { status: 422, body, headers: Default::default(), retry_after: None };
    let times = u32::try_from(plan.notes).expect("a count");
    process.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, action).times(times));
    let ids = stream::iter(0..plan.notes)
        .map(|number| accept(process, number))
        .buffer_unordered(8)
        .collect::<Vec<_>>()
        .await;
    until_all_ended(process, ids.iter()).await.iter().for_each(|status| assert_eq!(status, "failed"));
    ids
}

/// Sends a note, again and again while the queue is full or no answer comes.
async fn accept(process: &Process, number: usize) -> String {
    let to = phone(number);
    loop {
        let request = process
            .http
            .post(format!("{}/voice?to=%2B{}", process.url, &to[1..]))
            .bearer_auth(KEY)
            .header("idempotency-key", format!("note-{number}"))
            .header("content-type", "audio/mpeg");
        let Ok(answer) = request.body(sample()).send().await else {
            // A busy machine may not finish a body within a second.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.expect("JSON");
        match status {
            202 => return body["id"].as_str().expect("an id").to_owned(),
            503 => tokio::time::sleep(Duration::from_millis(200)).await,
            _ => panic!("{status}: {body}"),
        }
    }
}

async fn order(process: &Process) -> Value {
    let request = process.http.post(format!("{}/voice/recover", process.url));
    ask(request.json(&json!({ "status": ["failed"] })), 202).await
}

async fn read(process: &Process, task: &Value) -> Value {
    get(process, &format!("/tasks/{}", task["id"].as_str().expect("an id"))).await
}

async fn get(process: &Process, path: &str) -> Value {
    ask(process.http.get(format!("{}{path}", process.url)), 200).await
}

/// Sends a request that is safe to repeat. The gateway closes idle connections after a second here, and on a busy
/// machine it may do so just when the next request is written.
async fn ask(request: RequestBuilder, expected: u16) -> Value {
    for _ in 0..50 {
        let request = request.try_clone().expect("a body in memory").bearer_auth(KEY);
        if let Ok(answer) = request.send().await {
            assert_eq!(answer.status().as_u16(), expected);
            if let Ok(body) = answer.json().await {
                return body;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the gateway does not answer");
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// All notes, newest first.
async fn notes(process: &Process) -> Vec<Value> {
    let (mut notes, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(process, &format!("/voice?limit=200{cursor}")).await;
        notes.extend(page["items"].as_array().expect("notes").iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return notes,
        }
    }
}

/// The notes that repeat others, by the note that they repeat.
async fn resends(process: &Process) -> BTreeMap<String, Vec<String>> {
    let mut resends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for note in notes(process).await {
        if let Some(original) = note["resend_of"].as_str() {
            let id = note["id"].as_str().expect("an id").to_owned();
            resends.entry(original.to_owned()).or_default().push(id);
        }
    }
    resends
}

/// Waits until each of these notes has ended, and returns their statuses.
async fn until_all_ended<'a>(process: &Process, ids: impl Iterator<Item = &'a String>) -> Vec<String> {
    let ids: BTreeSet<&str> = ids.map(String::as_str).collect();
    process
        .eventually_long("the end of every note", async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            for status in ["queued", "processing", "sending"] {
                let page = get(process, &format!("/voice?limit=1&status={status}")).await;
                if page["items"].as_array().is_some_and(|notes| !notes.is_empty()) {
                    return None;
                }
            }
            let all = notes(process).await;
            let statuses = all.iter().filter(|note| ids.contains(note["id"].as_str().unwrap_or_default()));
            let statuses: Vec<String> =
                statuses.map(|note| note["status"].as_str().expect("a status").to_owned()).collect();
            let over = |status: &String| !matches!(status.as_str(), "queued" | "processing" | "sending");
            (statuses.len() == ids.len() && statuses.iter().all(over)).then_some(statuses)
        })
        .await
}

/// The gateway counts when attempts begin; between that and the visible request lies a time that differs, so two windows
/// may meet in one second.
fn assert_rate(plan: &Plan, process: &Process, before: usize) {
    let requests = process.sandbox.requests();
    let visible = requests.iter().filter(|request| request.operation == "voicememo").skip(before);
    let mut times: Vec<Timestamp> = visible.map(|request| request.at.parse().expect("a time")).collect();
    times.sort();
    for (first, last) in times.iter().zip(times.iter().skip(2 * plan.rate)) {
        let span = last.duration_since(*first).as_secs_f64();
        assert!(span > 0.9, "{} requests within {span:.2} s", 2 * plan.rate + 1);
    }
}

/// Runs a command of the executable against the process, and returns its success, output and remarks.
async fn command(process: &Process, arguments: &[&str]) -> (bool, String, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_voicegate"))
        .args(arguments)
        .env("VOICEGATE_URL", &process.url)
        .env("VOICEGATE_API_KEY", KEY)
        .output()
        .await
        .expect("the executable");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn command_prints_a_line_each_second_until_everything_was_sent_again() {
    // A queue of two notes is filled by three quarters of it, so the task waits for each note to be sent.
    let plan = Plan { notes: 12, rate: 4 };
    let process = Process::with(|config| plan.configure(config)).await;
    fail_notes(&plan, &process).await;
    let (ok, ordered, _) = command(&process, &["recover", "--limit", "1", "--no-wait", "--json"]).await;
    let ordered: Value = serde_json::from_str(&ordered).expect("JSON");
    assert!(ok && ordered["id"].as_str().is_some_and(|id| id.starts_with("task_")), "{ordered}");
    let one = async || (read(&process, &ordered).await["status"] == "done").then_some(());
    process.eventually("the first note", one).await;

    let (ok, lines, remarks) = command(&process, &["recover", "--status", "failed", "--since", "1h"]).await;
    assert!(ok, "{lines}{remarks}");
    assert!(remarks.contains("goes on in the gateway"), "{remarks}");
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines.len() >= 3, "a line each second: {lines:#?}");
    assert!(lines.iter().all(|line| line.contains(" of 11 notes sent again")), "{lines:#?}");
    assert!(lines.last().expect("a line").starts_with("11 of 11 notes"), "{lines:#?}");

    let (ok, text, _) = command(&process, &["recover", "--status", "canceled"]).await;
    assert!(!ok && text.contains("400 invalid_request"), "{text}");
    let (ok, _, remarks) = command(&process, &["recover", "--since", "yesterday"]).await;
    assert!(!ok && remarks.contains("2h"), "{remarks}");
    for arguments in [["events", "attempts"], ["events", "resend"]] {
        let id = "ev_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41";
        let (ok, text, _) = command(&process, &[arguments[0], arguments[1], id]).await;
        assert!(!ok && text.contains("404 not_found"), "{text}");
    }
    let (ok, text, _) = command(&process, &["events", "recover"]).await;
    assert!(!ok && text.contains("409 wrong_state") && text.contains("no webhook"), "{text}");
}
