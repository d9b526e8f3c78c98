//! `voicegate sandbox`

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use tokio::net::TcpListener;
use voicegate_sandbox::{Door, Fault, Sandbox, SandboxOptions};

use super::out;
use crate::telemetry::logs;

#[derive(clap::Args)]
pub struct SandboxArgs {
    /// The address to listen on; port 0 takes any free port.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Close connections that were idle for this many milliseconds, as providers do.
    #[arg(long, value_name = "MS")]
    close_idle_after: Option<u64>,
    /// Emulate only this provider; repeat it, or separate names by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = provider)]
    only: Vec<String>,
    /// Script the faults in this file before the first request: JSON as for POST /sandbox/faults.
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
}

/// The name of an emulated provider.
pub fn provider(name: &str) -> Result<String, String> {
    let known: Vec<&str> = voicegate_sandbox::providers().collect();
    match known.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("expected one of {}", known.join(", "))),
    }
}

/// The faults of a file: one, or a list of them.
fn faults(file: &Path) -> anyhow::Result<Vec<Fault>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("--faults: {shown} cannot be read"))?;
    let text = text.trim_start();
    let faults = match text.starts_with('[') {
        true => serde_json::from_str(text),
        false => serde_json::from_str(text).map(|fault| vec![fault]),
    };
    faults.with_context(|| format!("--faults: {shown} is no list of faults"))
}

pub async fn run(args: SandboxArgs) -> anyhow::Result<ExitCode> {
    logs::init(logs::Format::Auto);
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("{} cannot be listened on", args.listen))?;
    let url = format!("http://{}", listener.local_addr()?);
    let faults = args.faults.as_deref().map(faults).transpose()?.unwrap_or_default();
    let sandbox = Sandbox::new(SandboxOptions { only: args.only, ..SandboxOptions::default() });
    for fault in faults {
        sandbox.add_fault(fault);
    }
    out::line(format_args!("inbox    {url}/"))?;
    out::line(format_args!(
        "\nConnections for a tenant's configuration:\n\n{}",
        connections(&sandbox.doors(&url))?
    ))?;
    out::line(format_args!(
        "Servers that speak and transcribe, for the same tenant:\n\n{}",
        speech_servers(&sandbox, &url, &ALL_SERVERS)?
    ))?;
    sandbox.close_idle_after(args.close_idle_after.map(Duration::from_millis));
    tokio::select! {
        () = sandbox.serve(listener) => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of the connection to an emulator: the app where only one provider leads to it in the demo.
pub fn connection_name(provider: &str) -> &str {
    match provider {
        "linq" => "imessage",
        "wawp" => "whatsapp",
        other => other,
    }
}

/// A table of a tenant, and the emulated server that it is for.
type ServerTable = (&'static str, &'static str);

const ALL_SERVERS: [ServerTable; 3] =
    [("speech.voice", "openai"), ("speech.elevenlabs", "elevenlabs"), ("transcription.ears", "openai")];

/// The servers of the demo. With one speech server, requests need not name it.
pub const DEMO_SERVERS: [ServerTable; 2] = [("speech.voice", "openai"), ("transcription.ears", "openai")];

/// Returns emulated servers that speak and transcribe, as tables of the tenant `demo`.
pub fn speech_servers(sandbox: &Sandbox, url: &str, tables: &[ServerTable]) -> anyhow::Result<String> {
    let table = |(name, server): &ServerTable| {
        let settings = sandbox.speech_settings(url, server).context("the sandbox has this server")?;
        Ok(format!("[tenants.demo.{name}]\n{}", toml::to_string(&settings)?))
    };
    Ok(tables.iter().map(table).collect::<anyhow::Result<Vec<_>>>()?.join("\n"))
}

/// Returns connections to these emulators, as the body of a tenant's `connections`.
pub fn connections(doors: &[Door]) -> anyhow::Result<String> {
    let connection = |door: &Door| {
        let settings = toml::to_string(&door.settings)?;
        let (name, provider) = (connection_name(door.provider), door.provider);
        Ok(format!("[tenants.demo.connections.{name}]\nprovider = \"{provider}\"\n{settings}"))
    };
    Ok(doors.iter().map(connection).collect::<anyhow::Result<Vec<_>>>()?.join("\n"))
}
