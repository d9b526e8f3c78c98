//! `voicegate demo`: the whole job on one machine, without an account anywhere.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::{Context, ensure};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use url::Url;
use voicegate_sandbox::{Sandbox, SandboxOptions};

use super::{callbacks, keys, sandbox::connections, send, serve};
use crate::{
    clock::{Clock, SystemClock},
    config::{self, Layers},
    gateway::{Gateway, Live},
};

/// Speech synthesised for this project.
const SAMPLE: &[u8] = include_bytes!("../demo/sample.mp3");

/// A number from the range that is reserved for fiction; the sandbox knows it.
const RECIPIENT: &str = "+15551234567";

#[derive(clap::Args)]
pub struct DemoArgs {
    /// Where the gateway listens; a port in use is replaced by a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the sandbox listens; a port in use is replaced by a free one.
    #[arg(long, default_value = "127.0.0.1:8090")]
    sandbox: SocketAddr,
    /// Stop after the notes were sent instead of staying for you to look and listen.
    #[arg(long)]
    once: bool,
}

pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    // Quiet, unless somebody asks: what matters is printed below.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into()),
        )
        .with_writer(std::io::stderr)
        .try_init();
    let folder = tempfile::tempdir().context("a temporary folder is needed")?;
    let (listener, gateway_url) = bind(args.listen).await?;
    let (sandbox_listener, sandbox_url) = bind(args.sandbox).await?;
    let options = SandboxOptions::default();
    let key = keys::generate();
    let configuration = configuration(folder.path(), &gateway_url, &sandbox_url, &key, &options)?;
    let sandbox = tokio::spawn(Sandbox::new(options).serve(sandbox_listener));
    let layers = with_receipts(configuration).await?;
    let gateway = Gateway::open(layers, Arc::new(SystemClock::default())).await?;
    let running = serve::start(&gateway, listener, serve::Role::All);

    println!("gateway  {gateway_url}   with a tenant and a key made for this run");
    println!("sandbox  {sandbox_url}   stands in for Linq (iMessage) and Wawp (WhatsApp)\n");
    gateway
        .audio_tested()
        .await
        .map_err(|reason| anyhow::anyhow!("the audio engine does not work: {reason}"))?;
    println!("sending a sample of {} KB of MP3 to {RECIPIENT}:", SAMPLE.len() / 1000);
    let url: Url = gateway_url.parse()?;
    for via in ["imessage", "whatsapp"] {
        let query = [("to", RECIPIENT), ("via", via), ("filename", "sample.mp3")];
        let answer = send::post(&url, &key, &query, SAMPLE.to_vec(), 30).await?;
        println!("  {}", send::describe(&answer));
        ensure!(answer.status == 200, "the note was not accepted");
    }
    println!("\nsee and hear both notes:   {sandbox_url}/");
    println!("send one yourself:");
    println!("  curl '{gateway_url}/voice?to=%2B15551234567' -H 'Authorization: Bearer {key}' \\");
    println!("       -H 'Content-Type: audio/mpeg' --data-binary @your.mp3");
    if !args.once {
        println!("\nCtrl-C stops the demo.");
        tokio::signal::ctrl_c().await?;
    }
    gateway.stop.cancel();
    running.await;
    sandbox.abort();
    Ok(ExitCode::SUCCESS)
}

/// The configuration with what makes receipts come: the providers are told where to call, as
/// `voicegate callbacks register` does it, and their secrets believed.
async fn with_receipts(configuration: String) -> anyhow::Result<Layers> {
    let layers = |inline: String| Layers { only_defaults: true, inline: Some(inline), ..Layers::default() };
    let set = |text: &str, connection: &str, key: &str, value: &str| {
        let head = format!("[tenants.demo.connections.{connection}]");
        text.replace(&head, &format!("{head}\n{key} = \"{value}\""))
    };
    let mut configuration = set(&configuration, "whatsapp", "callback_token", &keys::generate());
    let (config, tenants) = config::load(&layers(configuration.clone()), None)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let live = Live::new(config, tenants, &clock)?;
    let tenant = live.tenants.get("demo").context("the demo has its tenant")?;
    for connection in tenant.connections.values() {
        let registration = callbacks::ask(&live, clock.now(), tenant, connection).await?;
        if let Some((key, secret)) = registration.secret {
            configuration = set(&configuration, &connection.name, key, secret.expose_secret());
        }
    }
    Ok(layers(configuration))
}

/// The address asked for, or a free port where that is taken.
async fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, String)> {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind((address.ip(), 0)).await.context("no port can be listened on")?,
    };
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}

fn configuration(
    folder: &std::path::Path,
    gateway: &str,
    sandbox: &str,
    key: &str,
    options: &SandboxOptions,
) -> anyhow::Result<String> {
    let folder = folder.to_str().context("the temporary folder's name is not UTF-8")?;
    Ok(format!(
        r#"
[server]
public_url = "{gateway}"
[storage]
database = "sqlite://{folder}/voicegate.db"
media = "{folder}/media"
[tenants.demo]
api_keys = ["{key}"]
route = ["imessage", "whatsapp"]
{}"#,
        connections(sandbox, options)
    ))
}
