//! A gateway of its own, as the executable that is shipped.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use voicegate_sandbox::{NewChat, Sandbox, SandboxOptions, Service};

use crate::load;

pub const KEY: &str = "vg_bench_key";

/// Of another tenant, with the same connections.
pub const OTHER_KEY: &str = "vg_bench_other_key";

/// Recipients that notes are spread over: those to one of them wait for each other.
pub const RECIPIENTS: usize = 200;

pub struct Gateway {
    pub sandbox: Sandbox,
    pub address: String,
    pub folder: tempfile::TempDir,
    child: Child,
    emulators: tokio::task::JoinHandle<()>,
}

pub fn recipient(number: usize) -> String {
    format!("+1555000{:04}", number % RECIPIENTS)
}

/// As long as many spoken messages: five seconds and 30 KB.
pub fn sample() -> Vec<u8> {
    /// Of each frame: 24 kHz and 48 kbit/s.
    const FRAME: usize = 144;
    const FRAMES: usize = 208;
    /// The first one, which says how long the whole is.
    const INFORMATION: usize = 192;
    let whole = include_bytes!("../../src/demo/sample.mp3");
    let tag = 10 + whole[6..10].iter().fold(0, |size, &byte| size << 7 | usize::from(byte));
    let start = tag + INFORMATION;
    whole[start..start + FRAMES * FRAME].to_vec()
}

impl Gateway {
    pub async fn start(binary: &Path, environment: &[(String, String)]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let sandbox = Sandbox::new(SandboxOptions::default());
        for number in 0..RECIPIENTS {
            let handles = vec![recipient(number)];
            sandbox.add_chat(NewChat { handles, service: Some(Service::IMessage), ..NewChat::default() });
        }
        let handles = vec!["+15550009999".to_owned()];
        sandbox.add_chat(NewChat { handles, service: Some(Service::IMessage), ..NewChat::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let emulated = format!("http://{}", listener.local_addr()?);
        let emulators = tokio::spawn(sandbox.clone().serve(listener));
        // Free now; nobody else on this machine takes a port that was just given out.
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string();
        let config = folder.path().join("config.toml");
        std::fs::write(&config, configuration(folder.path(), &address, &emulated))?;
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
        let gateway = Self { sandbox, address, folder, child, emulators };
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

    /// Processor time of the process so far, in seconds; `None` where that cannot be read.
    pub fn processor_time(&self) -> Option<f64> {
        /// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>: in ticks of 10 ms.
        const TICKS: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        // The name in brackets may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) / TICKS)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.emulators.abort();
    }
}

fn configuration(folder: &Path, address: &str, sandbox: &str) -> String {
    let folder = folder.display();
    let SandboxOptions { linq_token, wawp_instance_id, wawp_access_token, .. } = SandboxOptions::default();
    format!(
        r#"
[server]
listen = "{address}"
public_url = "http://{address}"
[storage]
database = "sqlite://{folder}/voicegate.db"
media = "{folder}/media"
[delivery]
max_queue = 100000000
max_queue_per_tenant = 100000000
[tenants.bench]
api_keys = ["{KEY}"]
route = ["imessage"]
[tenants.bench.connections.imessage]
provider = "linq"
base_url = "{sandbox}/linq"
token = "{linq_token}"
[tenants.bench.connections.whatsapp]
provider = "wawp"
base_url = "{sandbox}/wawp"
instance_id = "{wawp_instance_id}"
access_token = "{wawp_access_token}"
[tenants.other]
api_keys = ["{OTHER_KEY}"]
route = ["imessage"]
[tenants.other.connections.imessage]
provider = "linq"
base_url = "{sandbox}/linq"
token = "{linq_token}"
[tenants.other.connections.whatsapp]
provider = "wawp"
base_url = "{sandbox}/wawp"
instance_id = "{wawp_instance_id}"
access_token = "{wawp_access_token}"
"#
    )
}
