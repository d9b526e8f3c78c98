//! `voicegate sandbox`

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context;
use tokio::net::TcpListener;
use voicegate_sandbox::{Sandbox, SandboxOptions};

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
}

pub async fn run(args: SandboxArgs) -> anyhow::Result<ExitCode> {
    logs::init(logs::Format::Auto);
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("{} cannot be listened on", args.listen))?;
    let url = format!("http://{}", listener.local_addr()?);
    let options = SandboxOptions::default();
    out::line(format_args!("inbox    {url}/"))?;
    out::line(format_args!(
        "\nConnections for a tenant's configuration:\n\n{}",
        connections(&url, &options)
    ))?;
    let sandbox = Sandbox::new(options);
    sandbox.close_idle_after(args.close_idle_after.map(Duration::from_millis));
    tokio::select! {
        () = sandbox.serve(listener) => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns two connections to the sandbox at `url`, as the body of a tenant's `connections`.
pub fn connections(url: &str, options: &SandboxOptions) -> String {
    format!(
        r#"[tenants.demo.connections.imessage]
provider = "linq"
base_url = "{url}/linq"
token = "{}"

[tenants.demo.connections.whatsapp]
provider = "wawp"
base_url = "{url}/wawp"
instance_id = "{}"
access_token = "{}"
"#,
        options.linq_token, options.wawp_instance_id, options.wawp_access_token
    )
}
