//! Tests of `kill -9` while a received note is written down, and while a text is spoken.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    gateway::{KEY, Process},
    inbound::{House, ogg},
};

/// Adds the sandbox's servers, which speak and write down, to the tenant.
fn with_servers(config: String) -> String {
    let sandbox = config.split("base_url = \"").find_map(|rest| rest.split_once("/linq\""));
    let server = format!(
        "kind = \"openai\"\nbase_url = \"{}/openai\"\napi_key = \"sandbox-openai-key\"\n",
        sandbox.expect("the sandbox's address").0
    );
    config
        + &format!(
            "[tenants.a.inbound]\ntranscribe = \"ears\"\n[tenants.a.transcription.ears]\n{server}\
             [tenants.a.speech.anna]\n{server}"
        )
}

/// The number of requests of a kind that the sandbox received.
fn asked(process: &Process, operation: &str) -> usize {
    process.sandbox.requests().iter().filter(|request| request.operation == operation).count()
}

async fn until_asked(process: &Process, operation: &str, times: usize) {
    let asked = async || (asked(process, operation) >= times).then_some(());
    process.eventually(&format!("request {times} of {operation}"), asked).await;
}

/// The moments at which a question to a server is cut off.
#[derive(Clone, Copy, PartialEq)]
enum Moment {
    /// The note was accepted. The question may be on its way.
    Accepted,
    /// The server has the question, and has not begun.
    Asked,
    /// The server has done its work, and its answer does not arrive.
    Done,
    /// The answer arrives at about the same time.
    Answered,
}

impl Moment {
    fn action(self) -> Option<FaultAction> {
        match self {
            Self::Accepted => Some(FaultAction::Slow { ms: 3000 }),
            Self::Asked => Some(FaultAction::Stall { ms: None }),
            Self::Done => Some(FaultAction::StallAfter { ms: None }),
            Self::Answered => None,
        }
    }

    /// Scripts the next question to be cut off.
    fn begin(self, process: &Process, operation: Operation) {
        let openai = Provider::named("openai").expect("an emulator");
        if let Some(action) = self.action() {
            process.sandbox.add_fault(Fault::new(openai, operation, action));
        }
    }

    /// Waits until it has come.
    async fn come(self, process: &Process, operation: &str, asked_before: usize) {
        if self != Self::Accepted {
            until_asked(process, operation, asked_before + 1).await;
        }
    }
}

#[tokio::test]
async fn received_note_is_written_down_once_whenever_the_gateway_dies() {
    let mut house = House::with(None, with_servers).await;
    let mut messages = Vec::new();
    let moments = [Moment::Accepted, Moment::Asked, Moment::Done, Moment::Answered];
    for (n, moment) in moments.into_iter().enumerate() {
        let message = format!("W{n}x");
        let before = asked(&house.process, "transcription");
        moment.begin(&house.process, Operation::Transcription);
        house.waha.put(&format!("{message}.oga"), ogg());
        assert!(house.say(&message).await);
        moment.come(&house.process, "transcription", before).await;
        house.restart().await;
        let told = house.told_of(&message, "voice.transcribed").await;
        let transcript = &told[0]["data"]["transcript"];
        assert!(transcript["text"].as_str().is_some_and(|words| !words.is_empty()), "{transcript}");
        let calls = asked(&house.process, "transcription") - before;
        assert!((1..=2).contains(&calls), "{message}: the server was asked {calls} times");
        messages.push(message);
    }
    // Whatever would come twice is there before the events of a later note.
    house.waha.put("last.oga", ogg());
    assert!(house.say("last").await);
    house.told_of("last", "voice.transcribed").await;
    messages.push("last".to_owned());
    for message in &messages {
        for kind in ["voice.received", "voice.transcribed"] {
            assert_eq!(house.told_of(message, kind).await.len(), 1, "{kind} of {message}");
        }
    }
    house.process.kill();
    let path = house.process.folder.path().join("voicegate.db");
    let mut database: SqliteConnection =
        SqliteConnectOptions::new().filename(&path).connect().await.expect("the database");
    let events: Vec<(String, String)> =
        sqlx::query_as("SELECT note_id, kind FROM events").fetch_all(&mut database).await.expect("events");
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in events {
        *counts.entry(event).or_default() += 1;
    }
    assert_eq!(counts.len(), 2 * messages.len(), "{counts:?}");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

/// Has a text spoken over both connections, and returns the ids of both notes.
async fn speak(process: &Process, text: &str) -> [String; 2] {
    let mut ids = [const { String::new() }; 2];
    for (id, via) in ids.iter_mut().zip(["imessage", "whatsapp"]) {
        let body = json!({ "to": "+15551234567", "via": via, "audio": { "speech": { "text": text } } });
        let request = process.http.post(format!("{}/voice", process.url)).bearer_auth(KEY).json(&body);
        let answer = request.send().await.expect("an answer");
        let (status, note) = (answer.status().as_u16(), answer.json::<Value>().await.expect("a note"));
        assert_eq!(status, 202, "{note}");
        note["id"].as_str().expect("an id").clone_into(id);
    }
    ids
}

#[tokio::test]
async fn spoken_note_is_sent_once_whenever_the_gateway_dies() {
    let mut process = Process::with(with_servers).await;
    // The speech is there, and one of its notes is about to be sent: no further call is needed.
    process.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Chats, FaultAction::Stall { ms: None }));
    let ids = speak(&process, "about to be sent").await;
    until_asked(&process, "chats", 1).await;
    process.until_status(&ids[1], "accepted").await;
    process.kill();
    process.launch().await;
    for id in &ids {
        process.until_status(id, "accepted").await;
    }
    assert_eq!((asked(&process, "speech"), process.dispatches()), (1, 2));

    // Whatever dies before that asks once more at most, for both notes together.
    for moment in [Moment::Accepted, Moment::Asked, Moment::Done] {
        let before = (asked(&process, "speech"), process.dispatches(), process.sandbox.ledger().len());
        moment.begin(&process, Operation::Speech);
        let ids = speak(&process, &format!("sentence number {}", before.1)).await;
        moment.come(&process, "speech", before.0).await;
        process.kill();
        process.launch().await;
        for id in &ids {
            let note = process.until_status(id, "accepted").await;
            assert_eq!(note["attempts"].as_array().map(Vec::len), Some(1), "{note}");
        }
        let calls = asked(&process, "speech") - before.0;
        assert!((1..=2).contains(&calls), "the server was asked {calls} times");
        let sent = (process.dispatches() - before.1, process.sandbox.ledger().len() - before.2);
        assert_eq!(sent, (2, 2));
    }
}
