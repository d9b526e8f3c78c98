//! A gateway of its own, as the executable that is shipped, or several that share a database.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{net::TcpListener, task::JoinHandle};
use voicegate_sandbox::{NewChat, Sandbox, SandboxOptions, Service};

use crate::{
    load,
    proc::{self, Busy},
};

pub const KEY: &str = "vg_h5Qe2WcRz8YkN0tLxB3uJpV7aGdMiS9oF6nK1CqTyXw";

/// The key of another tenant, with the same connections.
pub const OTHER_KEY: &str = "vg_b9LrU4mVfZ7sEhC2jXgW0kNyQaT5iPdO8xJ6vB1Mz3A";

/// Recipients that notes are spread over: those to one of them wait for each other.
pub const RECIPIENTS: usize = 200;

/// Settings that differ between the parts.
#[derive(Default)]
pub struct Wanted {
    /// The URL of a PostgreSQL; without it, an SQLite file.
    pub database: Option<String>,
    /// The content of `[audio]`.
    pub audio: &'static str,
    /// How many more connections to the emulated Wawp the measured tenant has: `w0`, `w1` and so on.
    pub connections: usize,
    /// `delivery.in_flight`, where not what is built in.
    pub in_flight: Option<usize>,
}

/// The database and the emulated providers that several gateways share.
pub struct Premises {
    pub sandbox: Sandbox,
    folder: tempfile::TempDir,
    emulated: String,
    emulators: JoinHandle<()>,
    wanted: Wanted,
}

impl Premises {
    pub async fn new(wanted: Wanted) -> anyhow::Result<Arc<Self>> {
        let sandbox = Sandbox::new(SandboxOptions::default());
        for handle in (0..RECIPIENTS).map(recipient).chain(["+15550009999".to_owned()]) {
            let handles = vec![handle];
            sandbox.add_chat(NewChat { handles, service: Some(Service::IMessage), ..NewChat::default() });
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let emulated = format!("http://{}", listener.local_addr()?);
        let emulators = tokio::spawn(sandbox.clone().serve(listener));
        Ok(Arc::new(Self { sandbox, folder: tempfile::tempdir()?, emulated, emulators, wanted }))
    }

    fn configuration(&self, address: &str) -> String {
        let folder = self.folder.path().display();
        let database = match &self.wanted.database {
            Some(url) => url.clone(),
            None => format!("sqlite://{folder}/voicegate.db"),
        };
        let mut text = format!(
            r#"
[server]
listen = "{address}"
public_url = "http://{address}"
[storage]
database = "{database}"
media = "{folder}/media"
[audio]
{}
[delivery]
max_queue = 100000000
max_queue_per_tenant = 100000000
{}
"#,
            self.wanted.audio,
            self.wanted.in_flight.map_or(String::new(), |count| format!("in_flight = {count}"))
        );
        for (tenant, key) in [("bench", KEY), ("other", OTHER_KEY)] {
            let head = format!("[tenants.{tenant}]\napi_keys = [\"{key}\"]\nroute = [\"imessage\"]\n");
            text.extend([head, self.linq(tenant), self.wawp(tenant, "whatsapp")]);
        }
        text.extend((0..self.wanted.connections).map(|number| self.wawp("bench", &format!("w{number}"))));
        text
    }

    fn linq(&self, tenant: &str) -> String {
        let (sandbox, token) = (&self.emulated, SandboxOptions::default().linq_token);
        format!(
            "[tenants.{tenant}.connections.imessage]\nprovider = \"linq\"\nbase_url = \"{sandbox}/linq\"\n\
             token = \"{token}\"\n"
        )
    }

    fn wawp(&self, tenant: &str, name: &str) -> String {
        let sandbox = &self.emulated;
        let SandboxOptions { wawp_instance_id, wawp_access_token, .. } = SandboxOptions::default();
        format!(
            "[tenants.{tenant}.connections.{name}]\nprovider = \"wawp\"\nbase_url = \"{sandbox}/wawp\"\n\
             instance_id = \"{wawp_instance_id}\"\naccess_token = \"{wawp_access_token}\"\n"
        )
    }
}

impl Drop for Premises {
    fn drop(&mut self) {
        self.emulators.abort();
    }
}

pub struct Gateway {
    pub sandbox: Sandbox,
    /// Kept as long as it runs.
    _premises: Arc<Premises>,
    pub address: String,
    /// With its configuration and its log.
    folder: tempfile::TempDir,
    child: Child,
}

pub fn recipient(number: usize) -> String {
    format!("+1555000{:04}", number % RECIPIENTS)
}

/// As long as many spoken messages: five seconds and 30 KB.
pub fn sample() -> Vec<u8> {
    /// Bytes of each frame, at 24 kHz and 48 kbit/s.
    const FRAME: usize = 144;
    const FRAMES: usize = 208;
    /// The first one, which says how long the whole is.
    const INFORMATION: usize = 192;
    let whole = include_bytes!("../../src/demo/sample.mp3");
    let tag = 10 + whole[6..10].iter().fold(0, |size, &byte| size << 7 | usize::from(byte));
    let start = tag + INFORMATION;
    whole[start..start + FRAMES * FRAME].to_vec()
}

/// Always the same bytes.
pub fn same(audio: &[u8]) -> impl Fn(usize) -> Vec<u8> + Clone + Send + 'static + use<> {
    let audio = audio.to_vec();
    move |_| audio.clone()
}

/// [`sample`], each time another source.
pub fn distinct(number: usize) -> Vec<u8> {
    tagged(number, &sample())
}

/// An MP3 with a number in front, in an ID3 tag, so that nothing made of one source serves for another.
pub fn tagged(number: usize, mp3: &[u8]) -> Vec<u8> {
    // https://id3.org/id3v2.3.0: a text of the user's, with an empty description.
    let text = format!("\0\0{number:016}");
    let size = |bytes: usize| [0, 0, 0, u8::try_from(bytes).unwrap_or(u8::MAX)];
    let (tag, frame) = (size(text.len() + 10), size(text.len()));
    [b"ID3\x03\0\0".as_slice(), &tag, b"TXXX", &frame, &[0, 0], text.as_bytes(), mp3].concat()
}

impl Gateway {
    /// One that has everything for itself.
    pub async fn start(binary: &Path, environment: &[(String, String)]) -> anyhow::Result<Self> {
        Self::at(Premises::new(Wanted::default()).await?, binary, environment).await
    }

    /// One of those that share what is there.
    pub async fn at(
        premises: Arc<Premises>,
        binary: &Path,
        environment: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        // Free now; nobody else on this machine takes a port that was just given out.
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string();
        let config = folder.path().join("config.toml");
        std::fs::write(&config, premises.configuration(&address))?;
        let child = Command::new(binary)
            .args(["serve", "--config"])
            .arg(&config)
            .current_dir(folder.path())
            .env("RUST_LOG", "warn")
            .envs(environment.iter().cloned())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?)
            .spawn()
            .context("the gateway does not start")?;
        let sandbox = premises.sandbox.clone();
        let gateway = Self { sandbox, _premises: premises, address, folder, child };
        for _ in 0..600 {
            if load::get(&gateway.address, "/readyz").await.is_ok_and(|status| status == 200) {
                return Ok(gateway);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the gateway is not ready after half a minute: {}", gateway.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time so far; `None` where that cannot be read.
    pub fn busy(&self) -> Option<Busy> {
        proc::busy(self.pid())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
