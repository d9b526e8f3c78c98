//! A `voicegate serve` process for one test, with the sandbox in the test's process.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::net::TcpListener;
use voicegate_sandbox::{Sandbox, SandboxOptions};

pub use crate::keys::KEY;

const PATIENCE: Duration = Duration::from_secs(30);
/// The patience with a start. The self-test converts a tone for every profile, which takes long on a busy machine.
const START: Duration = Duration::from_secs(180);
const LONG: Duration = Duration::from_secs(3600);

pub struct Process {
    pub sandbox: Sandbox,
    pub url: String,
    pub folder: tempfile::TempDir,
    pub http: reqwest::Client,
    role: &'static str,
    /// Environment variables of the process, besides those of the test.
    environment: BTreeMap<String, String>,
    child: Option<Child>,
}

impl Process {
    pub async fn start() -> Self {
        Self::with(|config| config).await
    }

    /// Starts with the usual configuration, changed by `edit`.
    pub async fn with(edit: impl FnOnce(String) -> String) -> Self {
        Self::in_role("all", edit).await
    }

    /// Starts a process with only this role.
    pub async fn in_role(role: &'static str, edit: impl FnOnce(String) -> String) -> Self {
        Self::with_environment(role, BTreeMap::new(), edit).await
    }

    /// Starts a process with these environment variables.
    pub async fn with_environment(
        role: &'static str,
        environment: BTreeMap<String, String>,
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sandbox = Sandbox::new(SandboxOptions::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let sandbox_url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(sandbox.clone().serve(listener));
        let port = free_port().await;
        let configuration = edit(configuration(folder.path(), port, &sandbox_url));
        Self::of((role, environment), sandbox, folder, port, &configuration).await
    }

    /// Starts another process with the same database, audio folder and sandbox.
    pub async fn beside(&self, role: &'static str) -> Self {
        let text =
            std::fs::read_to_string(self.folder.path().join("config.toml")).expect("the configuration");
        let (port, own) = (free_port().await, self.url.rsplit(':').next().expect("a port"));
        let configuration = text.replace(&format!(":{own}\""), &format!(":{port}\""));
        let folder = tempfile::tempdir().expect("a folder");
        let process = (role, self.environment.clone());
        Self::of(process, self.sandbox.clone(), folder, port, &configuration).await
    }

    async fn of(
        (role, environment): (&'static str, BTreeMap<String, String>),
        sandbox: Sandbox,
        folder: tempfile::TempDir,
        port: u16,
        configuration: &str,
    ) -> Self {
        std::fs::write(folder.path().join("config.toml"), configuration).expect("written");
        let (url, http) = (
            format!("http://127.0.0.1:{port}"),
            reqwest::Client::builder().tls_certs_only([]).build().expect("a client"),
        );
        let mut process = Self { sandbox, url, folder, http, role, environment, child: None };
        process.launch().await;
        process
    }

    /// Starts the executable and waits until it is ready.
    pub async fn launch(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_voicegate"))
            .args(["serve", "--role", self.role])
            .arg("--config")
            .arg(self.folder.path().join("config.toml"))
            .envs(&self.environment)
            .current_dir(self.folder.path())
            .env("RUST_LOG", "voicegate=debug")
            .stderr(std::fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("a log"))
            .stdout(Stdio::null())
            .spawn()
            .expect("the executable");
        self.child = Some(child);
        self.within(START, "the gateway is ready", async || {
            let answer = self.http.get(format!("{}/readyz", self.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    pub fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill").success());
    }

    /// Kills the process by SIGKILL, without any cleanup.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    /// Waits for the process to end and returns its exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("running");
        let waited = tokio::task::spawn_blocking(move || child.wait());
        tokio::time::timeout(PATIENCE, waited)
            .await
            .expect("in time")
            .expect("waited")
            .expect("waited")
            .code()
    }

    pub async fn send(&self, query: &str, audio: Vec<u8>) -> (u16, Value) {
        let request = self
            .http
            .post(format!("{}/voice?to=%2B15551234567&{query}", self.url))
            .bearer_auth(KEY)
            .header("content-type", "audio/mpeg")
            .body(audio);
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    pub async fn accept(&self, query: &str) -> String {
        let (status, note) = self.send(query, sample()).await;
        assert_eq!(status, 202, "{note}");
        note["id"].as_str().expect("an id").to_owned()
    }

    pub async fn note(&self, id: &str) -> Value {
        let request = self.http.get(format!("{}/voice/{id}", self.url)).bearer_auth(KEY);
        request.send().await.expect("an answer").json().await.expect("a note")
    }

    pub async fn until_status(&self, id: &str, status: &str) -> Value {
        self.eventually(status, async || {
            let note = self.note(id).await;
            (note["status"] == status).then_some(note)
        })
        .await
    }

    /// Waits for an attempt whose outcome is unknown. A look-up may have found the note by the time it is asked for.
    pub async fn until_unknown(&self, id: &str) -> Value {
        self.eventually("an unknown outcome", async || {
            let note = self.note(id).await;
            (note["attempts"][0]["outcome"] == "unknown").then_some(note)
        })
        .await
    }

    /// Waits for a condition in another process by polling.
    pub async fn eventually<T>(&self, what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
        self.within(PATIENCE, what, condition).await
    }

    async fn within<T>(&self, patience: Duration, what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(found) = condition().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for: {what}\n{}", self.logged()),
        }
    }

    /// Waits as [`Self::eventually`] does, with the timeout of a long test.
    pub async fn eventually_long<T>(&self, what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
        self.within(LONG, what, condition).await
    }

    /// Counts the requests to an emulator that make a note visible.
    pub fn dispatches(&self) -> usize {
        let requests = self.sandbox.requests().into_iter();
        requests.filter(|request| matches!(request.operation, "voicememo" | "voice")).count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Finds a free port. The system does not hand out the same port again soon.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").port()
}

pub fn sample() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio/speech-24k.mp3");
    std::fs::read(path).expect("the sample")
}

fn configuration(folder: &Path, port: u16, sandbox: &str) -> String {
    let folder = folder.display();
    format!(
        r#"
[server]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
header_timeout = "1s"
body_timeout = "1s"
[storage]
database = "sqlite://{folder}/voicegate.db"
media = "{folder}/media"
[tenants.a]
api_keys = ["{KEY}"]
route = ["imessage"]
[tenants.a.connections.imessage]
provider = "linq"
base_url = "{sandbox}/linq"
token = "sandbox-linq-token"
[tenants.a.connections.whatsapp]
provider = "wawp"
base_url = "{sandbox}/wawp"
instance_id = "SANDBOX00001"
access_token = "sandbox-wawp-token"
"#
    )
}
