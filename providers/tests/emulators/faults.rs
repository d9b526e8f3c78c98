//! Every fault of the sandbox against every adapter, at every request that a send makes: the kind of the error, what
//! follows from it, and whether the recipient has the note. `faults.toml` lists what is expected, and has to be complete:
//! a fault, a refusal, a request or an adapter that is missing from it makes the test fail.

use crate::{fixture, run};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use voicegate_providers::{
    Accepted, Container, Content, Context, Form, Memory, OutboundNote, Provider, SendError,
};
use voicegate_sandbox::{Door, Fault, FaultAction, Operation, Provider as Emulator, Sandbox, SandboxOptions};

/// Statuses without words of the provider's own. A 429 is the fault `rate_limit`.
const STATUSES: [u16; 9] = [400, 401, 403, 404, 413, 422, 500, 502, 503];

/// Long enough for a loopback on a busy machine.
const UNANSWERED: Duration = Duration::from_millis(700);

type Rows = BTreeMap<String, String>;

/// The content of `faults.toml`.
struct Table {
    /// The disposition of each kind.
    dispositions: Rows,
    /// The kind of each fault, by adapter and by the request that meets it.
    adapters: BTreeMap<String, BTreeMap<String, Rows>>,
}

fn table() -> Table {
    let text = include_str!("faults.toml");
    let mut tables: BTreeMap<String, toml::Value> = toml::from_str(text).expect("TOML");
    let dispositions = tables.remove("dispositions").expect("a table of dispositions");
    Table {
        dispositions: dispositions.try_into().expect("texts"),
        adapters: tables
            .into_iter()
            .map(|(name, table)| (name, table.try_into().expect("a table for each request")))
            .collect(),
    }
}

/// Every fault that the sandbox can script for a provider, by its name. The kinds come from the type itself.
fn faults(emulator: Emulator) -> BTreeMap<String, FaultAction> {
    let unknown = serde_json::from_value::<FaultAction>(json!({"kind": "?"})).expect_err("no such fault");
    let unknown = unknown.to_string();
    let kinds = unknown.split('`').skip(3).step_by(2).map(str::to_owned);
    let mut faults = BTreeMap::new();
    for kind in kinds {
        match kind.as_str() {
            "status" => faults.extend(STATUSES.map(|status| {
                let action =
                    FaultAction::Status { status, body: None, headers: BTreeMap::new(), retry_after: None };
                (format!("status_{status}"), action)
            })),
            "refusal" => {
                faults.extend(emulator.refusals().iter().map(|name| {
                    (format!("refusal_{name}"), FaultAction::Refusal { name: (*name).to_owned() })
                }))
            }
            _ => {
                let with = |more: Value| {
                    let mut fault = json!({"kind": kind});
                    let fields = more.as_object().cloned().unwrap_or_default();
                    fault.as_object_mut().expect("an object").extend(fields);
                    serde_json::from_value::<FaultAction>(fault).ok()
                };
                let found = with(json!({})).or_else(|| with(json!({"retry_after": 7})));
                let found = found.or_else(|| with(json!({"ms": 20})));
                faults.insert(kind.clone(), found.unwrap_or_else(|| panic!("{kind} needs other fields")));
            }
        }
    }
    faults
}

/// Whether the emulator processes the request although it meets the fault.
fn is_processed(fault: &FaultAction) -> bool {
    match fault {
        FaultAction::ResetAfter
        | FaultAction::StallAfter { .. }
        | FaultAction::Garbage
        | FaultAction::Slow { .. } => true,
        FaultAction::Status { .. }
        | FaultAction::RateLimit { .. }
        | FaultAction::NotReady
        | FaultAction::Refusal { .. }
        | FaultAction::Stall { .. }
        | FaultAction::ResetBefore => false,
    }
}

fn is_visible(operation: Operation) -> bool {
    matches!(operation, Operation::Voice | Operation::Voicememo)
}

/// A sandbox, and a server for links, which stands in for the gateway.
struct Served {
    sandbox: Sandbox,
    base: String,
    links: String,
    servers: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for Served {
    fn drop(&mut self) {
        self.servers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Served {
    async fn start() -> Self {
        let sandbox = Sandbox::new(SandboxOptions::default());
        let (listener, base) = listen().await;
        let (link_listener, links) = listen().await;
        let servers = [
            tokio::spawn(sandbox.clone().serve(listener)),
            tokio::spawn(serve_links(link_listener, file("recorder-wideband.ogg"))),
        ];
        Self { sandbox, base, links, servers }
    }

    fn door(&self, name: &str) -> Door {
        self.sandbox.doors(&self.base).into_iter().find(|door| door.provider == name).expect("an emulator")
    }

    fn connection(&self, door: &Door) -> Arc<dyn Provider> {
        let descriptor = voicegate_providers::find(door.provider).expect("an adapter");
        let settings: Map<String, Value> = door.settings.as_object().cloned().expect("settings");
        run::build(descriptor, settings)
    }

    /// A voice note with a real recording, of the kind that the provider takes.
    fn note(&self, provider: &dyn Provider, to: &str) -> OutboundNote {
        let mut fixture = fixture::parse("ok", "# made here, not from http\n").expect("a fixture");
        (fixture.form, fixture.to) = (Form::Voice, to.to_owned());
        let mut note = run::note(provider, &fixture);
        let Content::Audio { audio, .. } = &mut note.content else { panic!("a voice note has audio") };
        let name = match audio.facts.container {
            Container::Ogg => "recorder-wideband.ogg",
            Container::Mp4 => "speech-moov-first.m4a",
            other => panic!("there is no recording in {other:?}"),
        };
        let bytes = file(name);
        audio.facts.size_bytes = bytes.len() as u64;
        audio.facts.sha256 = hex::encode(Sha256::digest(&bytes));
        audio.path = path(name);
        audio.link = format!("{}/{}", self.links, audio.filename).parse().expect("a URL");
        note
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

/// Answers every request with the same file.
async fn serve_links(listener: TcpListener, bytes: Vec<u8>) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: audio/ogg\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            bytes.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), &bytes].concat()).await;
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio").join(name)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect("a recording")
}

async fn send(provider: &dyn Provider, cx: &Context, note: &OutboundNote) -> Result<Accepted, SendError> {
    let mut memory = Memory::default();
    let prepared = provider.prepare(cx, note, &mut memory).await?;
    provider.dispatch(cx, note, prepared, &mut memory).await
}

/// The requests that one send makes.
async fn operations(served: &Served, door: &Door) -> BTreeSet<String> {
    let provider = served.connection(door);
    let note = served.note(&*provider, door.to);
    let cx = run::context(run::LONG, true);
    send(&*provider, &cx, &note).await.unwrap_or_else(|error| panic!("{}: {error:?}", door.provider));
    served.sandbox.requests().iter().map(|request| request.operation.to_owned()).collect()
}

fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).expect("a word")
}

fn snake(debug: impl std::fmt::Debug) -> String {
    let mut text = String::new();
    for letter in format!("{debug:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// Meets one fault and returns the kind of the error, or `ok`.
async fn meet(served: &Served, door: &Door, operation: Operation, fault: &FaultAction) -> String {
    let emulator = Emulator::named(door.provider).expect("an emulator");
    served.sandbox.clear();
    served.sandbox.add_fault(Fault::new(emulator, operation, fault.clone()));
    let provider = served.connection(door);
    let note = served.note(&*provider, door.to);
    let never_answers =
        matches!(fault, FaultAction::Stall { ms: None } | FaultAction::StallAfter { ms: None });
    let cx = run::context(if never_answers { UNANSWERED } else { run::LONG }, true);
    let outcome = send(&*provider, &cx, &note).await;
    let case = format!("{} {} {fault:?}: {outcome:?}", door.provider, operation.name());

    assert_eq!(served.sandbox.pending_faults(), 0, "no request met the fault: {case}");
    let shown = served.sandbox.ledger().iter().filter(|entry| entry.form != "refused").count();
    let expected = outcome.is_ok() || (is_visible(operation) && is_processed(fault));
    assert_eq!(shown, usize::from(expected), "{case}");
    let visible = [Operation::Voice.name(), Operation::Voicememo.name()];
    let requests = served.sandbox.requests();
    let dispatched = requests.iter().filter(|request| visible.contains(&request.operation)).count();
    assert!(dispatched <= 1, "an adapter shows a note once: {case}");
    let Err(error) = outcome else { return "ok".to_owned() };
    let disposition = snake(error.kind.disposition());
    // A note that the recipient may have is never sent again.
    assert!(shown == 0 || disposition == "hold", "{case}");
    if matches!(fault, FaultAction::RateLimit { retry_after: 7 }) && word(error.kind) == "rate_limited" {
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)), "{case}");
    }
    let table = table();
    assert_eq!(table.dispositions.get(&word(error.kind)), Some(&disposition), "{case}");
    word(error.kind)
}

fn operation(name: &str) -> Operation {
    serde_json::from_value(json!(name)).unwrap_or_else(|_| panic!("{name} is no request"))
}

/// Holds one adapter against its part of the table.
async fn judge(name: &str) {
    let expected = table().adapters.remove(name).unwrap_or_default();
    let emulator = Emulator::named(name).expect("an emulator");
    let mut found: BTreeMap<String, Rows> = BTreeMap::new();
    let served = Served::start().await;
    let door = served.door(name);
    for request in operations(&served, &door).await {
        for (fault, action) in faults(emulator) {
            let kind = meet(&served, &door, operation(&request), &action).await;
            found.entry(request.clone()).or_default().insert(fault, kind);
        }
    }
    let shown = toml::to_string(&BTreeMap::from([(name, &found)])).expect("TOML");
    let mut wrong = Vec::new();
    for request in found.keys().chain(expected.keys()).collect::<BTreeSet<_>>() {
        let nothing = Rows::new();
        let (found, expected) =
            (found.get(request).unwrap_or(&nothing), expected.get(request).unwrap_or(&nothing));
        for fault in found.keys().chain(expected.keys()).collect::<BTreeSet<_>>() {
            if found.get(fault) != expected.get(fault) {
                wrong.push(format!(
                    "{request} {fault}: {:?}, and the table says {:?}",
                    found.get(fault),
                    expected.get(fault)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{name}:\n{}\n\nwhat was found:\n{shown}", wrong.join("\n"));
}

#[test]
fn table_has_every_adapter() {
    let listed: Vec<String> = table().adapters.into_keys().collect();
    let mut known: Vec<&str> = voicegate_providers::PROVIDERS.iter().map(|one| one.name).collect();
    known.sort_unstable();
    assert_eq!(listed, known);
}

macro_rules! adapters {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                judge($name).await;
            }
        )*

        #[test]
        fn every_adapter_has_a_test() {
            let mut tested = vec![$($name),*];
            tested.sort_unstable();
            assert_eq!(tested, table().adapters.into_keys().collect::<Vec<_>>());
        }
    };
}

adapters! {
    faults_of_linq: "linq",
    faults_of_wawp: "wawp",
    faults_of_waha: "waha",
    faults_of_evolution: "evolution",
    faults_of_whatsapp_cloud: "whatsapp-cloud",
    faults_of_telegram: "telegram",
    faults_of_discord: "discord",
    faults_of_http: "http",
}
