//! A whole gateway in one process, with real router, database, ffmpeg and sandbox. Only the clock is controlled by the
//! test.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use voicegate::{
    config::Layers,
    delivery::Worker,
    gateway::Gateway,
    http::{App, router},
    model::clock::{Clock, TestClock},
};
use voicegate_sandbox::{LedgerEntry, Sandbox, SandboxOptions};

pub use crate::keys::{KEY, NEW_KEY, OTHER_KEY};
use crate::truth::Truth;

pub const PHONE: &str = "+15551234567";

/// The timeout of every wait, which turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub sandbox: Sandbox,
    pub clock: Arc<TestClock>,
    pub gateway: Arc<Gateway>,
    pub app: App,
    pub url: String,
    pub folder: tempfile::TempDir,
    pub http: Client,
    /// Validates every answer against the OpenAPI document.
    _truth: Truth,
    tasks: Vec<JoinHandle<()>>,
}

impl World {
    pub async fn start() -> Self {
        Self::with(|config| config).await
    }

    /// Starts with the default configuration as changed by `edit`.
    pub async fn with(edit: impl FnOnce(String) -> String) -> Self {
        Self::with_environment(BTreeMap::new(), edit).await
    }

    /// Starts the world with environment variables.
    pub async fn with_environment(
        environment: BTreeMap<String, String>,
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sandbox = Sandbox::new(SandboxOptions::default());
        let (sandbox_listener, sandbox_url) = listen().await;
        let (listener, url) = listen().await;
        let file = folder.path().join("config.toml");
        std::fs::write(&file, edit(configuration(folder.path(), &url, &sandbox_url))).expect("written");

        // The clock starts at the real time, because the sandbox has its own clock, and links and uploads expire.
        #[expect(clippy::disallowed_methods, reason = "the emulators live in real time")]
        let clock = Arc::new(TestClock::new(jiff::Timestamp::now()));
        let layers = Layers { environment, ..Layers::of_file(Some(file)) };
        let gateway = Gateway::open(layers, clock.clone()).await.expect("a gateway");
        let truth = Truth::default();
        let app = App::new(gateway.clone());
        let tasks = vec![
            tokio::spawn(sandbox.clone().serve(sandbox_listener)),
            tokio::spawn(serve(gateway.clone(), listener, truth.watch(router(app.clone())))),
            tokio::spawn(Worker::new(gateway.clone()).run()),
        ];
        let http = Client::builder().tls_certs_only([]).build().expect("a client");
        Self { sandbox, clock, gateway, app, url, folder, http, _truth: truth, tasks }
    }

    /// Changes the configuration file and reloads it.
    pub fn reconfigure(&self, edit: impl FnOnce(String) -> String) -> anyhow::Result<()> {
        let file = self.folder.path().join("config.toml");
        let text = std::fs::read_to_string(&file).expect("the configuration");
        std::fs::write(&file, edit(text)).expect("written");
        self.gateway.reload()
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url)).bearer_auth(KEY)
    }

    pub fn post_json(&self, body: &Value) -> RequestBuilder {
        self.http.post(format!("{}/voice", self.url)).bearer_auth(KEY).json(body)
    }

    /// A request with a raw body. `query` has no question mark.
    pub fn post_raw(&self, query: &str, audio: Vec<u8>) -> RequestBuilder {
        self.http
            .post(format!("{}/voice?{query}", self.url))
            .bearer_auth(KEY)
            .header("content-type", "application/octet-stream")
            .body(audio)
    }

    /// Sends audio to the default recipient, expects a 202, and returns the note's id.
    pub async fn accept(&self, query: &str, audio: Vec<u8>) -> String {
        let response =
            self.post_raw(&format!("to=%2B15551234567&{query}"), audio).send().await.expect("an answer");
        let (status, body) = read(response).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        body["id"].as_str().expect("an id").to_owned()
    }

    pub async fn note(&self, id: &str) -> Value {
        let (status, body) = read(self.get(&format!("/voice/{id}")).send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// Waits until the note meets the condition. It is woken by changes, not by time.
    pub async fn until(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut changes = self.gateway.changes();
        let waiting = async {
            loop {
                let note = self.note(id).await;
                if wanted(&note) {
                    return note;
                }
                let _ = changes.recv().await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(note) => note,
            Err(_) => panic!("waited in vain; the note is {:#}", self.note(id).await),
        }
    }

    pub async fn until_status(&self, id: &str, status: &str) -> Value {
        self.until(id, |note| note["status"] == status).await
    }

    /// Waits until `made` attempts were made, and advances the time to the next one.
    pub async fn to_next_attempt(&self, id: &str, made: usize) {
        let note = self.until(id, |note| attempts(note) == made && note["status"] == "queued").await;
        let at: jiff::Timestamp = note["next_attempt_at"].as_str().expect("a time").parse().expect("a time");
        let wait = at.duration_since(self.clock.now());
        self.clock.advance(Duration::try_from(wait).unwrap_or_default());
    }

    /// The Unix time on the gateway's clock.
    pub fn clock_seconds(&self) -> i64 {
        self.clock.now().as_second()
    }

    /// Advances the time in small steps until the bot has received a number of deliveries.
    pub async fn pass_until_told(&self, bot: &crate::bot::Bot, times: usize) {
        let mut changes = bot.count();
        while changes.borrow_and_update().len() < times {
            self.clock.advance(Duration::from_secs(1));
            let _ = tokio::time::timeout(Duration::from_millis(100), changes.changed()).await;
        }
    }

    /// The notes that arrived at one provider, without refused requests.
    pub fn delivered(&self, provider: &str) -> Vec<LedgerEntry> {
        let entries = self.sandbox.ledger().into_iter();
        entries.filter(|entry| entry.provider == provider && entry.form != "refused").collect()
    }

    /// The number of visible requests that the emulators received.
    pub fn dispatches(&self) -> usize {
        let requests = self.sandbox.requests().into_iter();
        requests.filter(|request| matches!(request.operation, "voicememo" | "voice")).count()
    }

    /// Temporary files of requests and renders. The render cache is not included.
    pub fn stray_files(&self) -> Vec<PathBuf> {
        let work = ["media", "scratch"].map(|folder| self.folder.path().join(folder));
        let mut folders =
            work.iter().flat_map(|work| [work.join("incoming"), work.join("scratch")]).collect::<Vec<_>>();
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.extend((entry.file_name() != "renders").then(|| entry.path()));
                } else if entry.file_name() != "lock" {
                    files.push(entry.path());
                }
            }
        }
        files
    }

    /// Stops the gateway as SIGTERM would.
    pub async fn stop(mut self) -> tempfile::TempDir {
        self.gateway.stop.cancel();
        for task in self.tasks.drain(1..) {
            task.await.expect("stopped in order");
        }
        self.tasks[0].abort();
        self.folder
    }
}

/// Starts another gateway on the database and the media folder of `world`, and returns it with its URL.
pub async fn beside(world: &World, has_worker: bool) -> (Arc<Gateway>, String) {
    let (listener, url) = listen().await;
    let text = std::fs::read_to_string(world.folder.path().join("config.toml")).expect("the configuration");
    let file = world.folder.path().join("beside.toml");
    std::fs::write(&file, text.replace(&world.url, &url)).expect("written");
    let gateway = Gateway::open(Layers::of_file(Some(file)), world.clock.clone()).await.expect("a gateway");
    // The tasks end with the test.
    tokio::spawn(serve(gateway.clone(), listener, router(App::new(gateway.clone()))));
    if has_worker {
        tokio::spawn(Worker::new(gateway.clone()).run());
    }
    (gateway, url)
}

/// The number of attempts of a note.
pub fn attempts(note: &Value) -> usize {
    note["attempts"].as_array().map_or(0, Vec::len)
}

async fn serve(gateway: Arc<Gateway>, listener: TcpListener, app: axum::Router) {
    voicegate::http::serve_app(&gateway, listener, app).await;
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

pub fn configuration(folder: &Path, url: &str, sandbox: &str) -> String {
    let folder = folder.display();
    format!(
        r#"
[server]
public_url = "{url}"
[storage]
database = "sqlite://{folder}/voicegate.db"
media = "{folder}/media"
scratch = "{folder}/scratch"
[fetch]
allow_http = true
allow_networks = ["127.0.0.0/8"]

[tenants.a]
api_keys = ["{KEY}"]
route = ["imessage"]
routes.both = ["imessage", "whatsapp"]
[tenants.a.aliases.family]
imessage = "linq:f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd"
whatsapp = "120363000000000000@g.us"
[tenants.a.connections.imessage]
provider = "linq"
base_url = "{sandbox}/linq"
token = "sandbox-linq-token"
[tenants.a.connections.whatsapp]
provider = "wawp"
base_url = "{sandbox}/wawp"
instance_id = "SANDBOX00001"
access_token = "sandbox-wawp-token"

[tenants.b]
api_keys = ["{OTHER_KEY}"]
route = ["imessage"]
[tenants.b.connections.imessage]
provider = "linq"
base_url = "{sandbox}/linq"
token = "sandbox-linq-token"
"#
    )
}

pub fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The status and the JSON body of an answer.
pub async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let body = response.json().await.unwrap_or(Value::Null);
    (status, body)
}

/// The whole body of an answer.
pub async fn whole(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.expect("a body") {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}
