//! Tests of `voicegate check`, with and without `--online`: every line, and that a check changes nothing.

mod bucket;
mod local;
mod online;
mod postgres;

use std::{
    collections::BTreeMap, fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};

use tokio::{net::TcpListener, process::Command};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider, Sandbox, SandboxOptions};

use crate::gateway::{KEY, Process};

/// A configuration and a sandbox, but no gateway.
struct World {
    sandbox: Sandbox,
    sandbox_url: String,
    folder: tempfile::TempDir,
}

/// The end of the line about a connection without callbacks.
const NOTHING_COMES_IN: &str =
    "no voice notes come in: its callbacks are not configured, or the provider has none";

/// An address on which nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1";

struct Answer {
    ok: bool,
    lines: Vec<String>,
}

impl Answer {
    /// Returns the lines with this beginning, after the verdict, without those that no voice notes come in over a connection.
    fn about(&self, key: &str) -> Vec<&str> {
        let about = |line: &&String| line[6..].starts_with(key) && !line.ends_with(NOTHING_COMES_IN);
        self.lines.iter().filter(about).map(String::as_str).collect()
    }
}

impl World {
    async fn new() -> Self {
        let sandbox = Sandbox::new(SandboxOptions::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let sandbox_url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(sandbox.clone().serve(listener));
        let folder = tempfile::tempdir().expect("a folder");
        Self { sandbox, sandbox_url, folder }
    }

    /// Creates a configuration with both connections to the sandbox and `more` at the end, in which `{sandbox}` is its
    /// URL.
    async fn check(&self, arguments: &[&str], more: &str) -> Answer {
        self.check_with(arguments, &[], "", more).await
    }

    async fn check_with(&self, arguments: &[&str], env: &[(&str, &str)], linq: &str, more: &str) -> Answer {
        let (folder, sandbox) = (self.folder.path().display(), &self.sandbox_url);
        let config = format!(
            r#"
[server]
proxy = "none"
public_url = "{NOWHERE}"
[storage]
database = "sqlite://{folder}/data/voicegate.db"
media = "{folder}/data/media"
[tenants.a]
api_keys = ["{KEY}"]
route = ["imessage"]
[tenants.a.connections.imessage]
provider = "linq"
base_url = "{sandbox}/linq"
token = "sandbox-linq-token"
{linq}
[tenants.a.connections.whatsapp]
provider = "wawp"
base_url = "{sandbox}/wawp"
instance_id = "SANDBOX00001"
access_token = "sandbox-wawp-token"
{more}
"#
        );
        let file = self.folder.path().join("config.toml");
        std::fs::write(&file, config.replace("{sandbox}", sandbox)).expect("written");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a mode");
        let answer = check(&file, arguments, env).await;
        let lines = answer.lines.iter().map(|line| {
            let line = line.replace(&*self.folder.path().to_string_lossy(), "DIR");
            let line = line.replace(sandbox, "SANDBOX");
            // The amount of free space varies.
            match line.split_once(", ") {
                Some((start, end)) if end.ends_with("iB free") => format!("{start}, ROOM free"),
                _ => line,
            }
        });
        Answer { ok: answer.ok, lines: lines.collect() }
    }

    fn fault(&self, provider: Provider, operation: Operation, status: u16, body: Option<serde_json::Value>) {
        let action = FaultAction::Status { status, body, headers: BTreeMap::new(), retry_after: None };
        self.sandbox.add_fault(Fault::new(provider, operation, action));
    }

    /// Returns every file with its bytes, except SQLite's journal index, which any reader may write.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.folder.path().join("data")).expect("a folder");
        let paths = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
        let named = paths.map(|path| (path.display().to_string(), std::fs::read(&path).expect("read")));
        named.filter(|(name, _)| !name.ends_with("-shm")).collect()
    }
}

async fn check(config: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voicegate"));
    command.arg("check").args(arguments).arg("--config").arg(config).envs(env.iter().copied());
    let output = tokio::time::timeout(Duration::from_secs(60), command.kill_on_drop(true).output());
    let output = output.await.expect("in time").expect("the executable");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(stderr, "");
    for secret in ["S3CRET", KEY, "sandbox-linq-token", "sandbox-wawp-token", "12052535597"] {
        assert!(!stdout.contains(secret), "{secret} in {stdout}");
    }
    let lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
    let failed = lines.iter().any(|line| line.starts_with("FAIL  "));
    assert_eq!(output.status.success(), !failed, "{stdout}");
    Answer { ok: output.status.success(), lines }
}

const WITHOUT_ASKING: &[&str] = &[
    "ok    configuration",
    "ok    tenant a: imessage (linq, linq-1), whatsapp (wawp, whatsapp-1)",
    "ok    server.proxy: providers are reached directly",
    "ok    storage.database: DIR/data, ROOM free",
    "ok    storage.media: DIR/data/media, ROOM free",
    "ok    storage.database: voicegate.db does not exist yet; the first start makes it",
];

#[tokio::test]
async fn working_setup_passes_every_check() {
    let world = World::new().await;
    let local = world.check(&[], "").await;
    assert_eq!(local.lines[..6], *WITHOUT_ASKING);
    let [found, reads, makes, confined] = &local.about("audio.ffmpeg: ")[..] else {
        panic!("{:?}", local.lines)
    };
    assert!(found.starts_with("ok    audio.ffmpeg: /") && found.contains("/ffmpeg, version "), "{found}");
    assert_eq!(*reads, "ok    audio.ffmpeg: every format that is promised can be read");
    assert_eq!(
        *makes,
        "ok    audio.ffmpeg: every profile can be made: linq-1, whatsapp-1, whatsapp-2, whatsapp-3, meta-1, \
         telegram-1, discord-1, imessage-caf-1, wav16k-1, mp3-1, m4a-1"
    );
    assert!(["ok", "note"].iter().any(|verdict| confined.starts_with(verdict)), "{confined}");
    assert!(confined.contains("the kernel"), "{confined}");
    assert!(local.ok && local.lines.len() == 10);
    assert!(world.sandbox.requests().is_empty());

    let online = world.check(&["--online"], "").await;
    assert!(online.ok);
    assert_eq!(online.lines[..10], local.lines[..]);
    let refused = "does not answer (Connection refused (os error 111))";
    assert_eq!(
        online.lines[10..],
        [
            format!("note  server.public_url: {NOWHERE} {refused}; that is right while no gateway runs"),
            "ok    tenants.a.connections.imessage: 1 line: +1205•••5597 HEALTHY".to_owned(),
            "ok    tenants.a.connections.whatsapp: instance WORKING".to_owned(),
            format!("note  tenants.a.connections.imessage: {NOTHING_COMES_IN}"),
            format!("note  tenants.a.connections.whatsapp: {NOTHING_COMES_IN}"),
        ]
    );
    let asked: Vec<_> = world.sandbox.requests().iter().map(|request| request.operation).collect();
    assert!(asked.len() == 2 && asked.contains(&"lines") && asked.contains(&"session"), "{asked:?}");
    // Nothing was created, not even folders.
    let made: Vec<_> = std::fs::read_dir(world.folder.path()).expect("a folder").flatten().collect();
    assert_eq!(made.len(), 1, "{made:?}");
}

#[tokio::test]
async fn check_beside_a_running_gateway_changes_nothing() {
    let process = Process::start().await;
    let before = process.sandbox.requests().len();
    let answer = check(&process.folder.path().join("config.toml"), &["--online"], &[]).await;
    assert!(answer.ok, "{:?}", answer.lines);
    let database = answer.about("storage.database: voicegate.db");
    assert_eq!(
        database,
        [
            "note  storage.database: voicegate.db is in use by another voicegate; a second one will not start on it",
            "ok    storage.database: voicegate.db is up to date",
        ]
    );
    let url = &process.url;
    let expected = format!("ok    server.public_url: {url} leads to a running gateway");
    assert_eq!(answer.about("server.public_url"), [expected]);
    assert_eq!(process.sandbox.requests().len(), before + 2);
    // The running gateway is not affected.
    let id = process.accept("").await;
    process.until_status(&id, "accepted").await;
}
