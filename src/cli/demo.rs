//! `voicegate demo`: gateway and emulated providers on one machine, without an account anywhere.

use std::{fmt, io, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use url::{Host, Url};
use voicegate_providers::{self as providers, guard::AddressRules};
use voicegate_sandbox::{Door, Sandbox, SandboxOptions};

use super::{
    callbacks,
    client::{self, ApiClient},
    keys,
    out::{self, OutError},
    sandbox::{self, connection_name, connections},
    send, serve,
};
use crate::{
    config::{self, Layers},
    gateway::{Gateway, Live},
    model::clock::{Clock, SystemClock},
    store::EVENTS,
};

/// Speech synthesised for this project.
const SAMPLE: &[u8] = include_bytes!("../demo/sample.mp3");

/// A number from the range that is reserved for fiction. The sandbox has a chat with it.
const RECIPIENT: &str = "+15551234567";
/// Its digits, by which a WhatsApp id of the same person is known.
const NUMBER: &str = "15551234567";

/// How long `--once` waits until the webhook has received all events.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub struct DemoArgs {
    /// Address of the gateway; a port in use is replaced by a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address of the sandbox; a port in use is replaced by a free one.
    #[arg(long, default_value = "127.0.0.1:8090")]
    sandbox: SocketAddr,
    /// URL to which events are posted, such as http://127.0.0.1:9000/hooks. An address that only this machine can reach
    /// is allowed for this run, as with --allow-local.
    #[arg(long, value_name = "URL", value_parser = client::address)]
    webhook: Option<Url>,
    /// For this run, allow addresses of this machine and http in audio.url and webhooks.
    #[arg(long)]
    allow_local: bool,
    /// Send the sample through these providers: names separated by commas, or "all".
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "linq,wawp", value_parser = provider)]
    providers: Vec<String>,
    /// Exit after the notes were sent. Without this the demo keeps running, so that you can look and listen.
    #[arg(long)]
    once: bool,
}

/// The addresses, keys and options of one run.
struct Run {
    gateway: Bound,
    sandbox: Bound,
    key: String,
    /// The address and the secret.
    webhook: Option<(Url, String)>,
    allow_local: bool,
    doors: Vec<Door>,
    /// The tables of the servers that speak and transcribe.
    speech: String,
}

/// The name of an emulated provider, or all of them.
fn provider(name: &str) -> Result<String, String> {
    if name == "all" { Ok(name.to_owned()) } else { sandbox::provider(name) }
}

pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    // Log only errors unless RUST_LOG is set: everything important is printed below.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into()),
        )
        .with_writer(std::io::stderr)
        .try_init();
    let folder = tempfile::tempdir().context("a temporary folder is needed")?;
    let (listener, gateway) = bind(args.listen).await?;
    let (sandbox_listener, sandbox) = bind(args.sandbox).await?;
    let emulators = Sandbox::new(SandboxOptions {
        only: if args.providers.iter().any(|name| name == "all") { Vec::new() } else { args.providers },
        ..SandboxOptions::default()
    });
    let run = Run {
        doors: emulators.doors(&sandbox.url),
        speech: sandbox::speech_servers(&emulators, &sandbox.url, &sandbox::DEMO_SERVERS)?,
        gateway,
        sandbox,
        key: keys::generate(),
        allow_local: args.allow_local || args.webhook.as_ref().is_some_and(is_local),
        webhook: args.webhook.map(|url| (url, keys::generate_webhook())),
    };
    let configuration = configuration(folder.path(), &run)?;
    let sandbox = tokio::spawn(emulators.serve(sandbox_listener));
    let layers = with_receipts(configuration, &run.doors).await?;
    let gateway = Gateway::open(layers, Arc::new(SystemClock::default())).await?;
    let running = serve::start(&gateway, listener, serve::Role::All);

    introduce(&run, args.once)?;
    gateway
        .audio_test
        .ended()
        .await
        .map_err(|reason| anyhow::anyhow!("the audio engine does not work: {reason}"))?;
    out::line(format_args!("sending a sample of {} KB of MP3 to {RECIPIENT}:", SAMPLE.len() / 1000))?;
    let url: Url = run.gateway.url.parse()?;
    let client = ApiClient::with_key(url, run.key.clone())?;
    for door in &run.doors {
        let to = if door.to.contains(NUMBER) { RECIPIENT } else { door.to };
        let query = [("to", to), ("via", connection_name(door.provider)), ("filename", "sample.mp3")];
        let answer = send::post(&client, &query, SAMPLE.to_vec(), 30).await?;
        out::line(format_args!("  {}", send::describe(&answer)))?;
        ensure!(answer.status == 200, "the note was not accepted");
    }
    if args.once {
        events_are_told(&gateway).await?;
        out::line(
            "\nAll notes were accepted. Without --once the demo stays, and shows a page where they can be heard.",
        )?;
    } else {
        invite(&run)?;
        tokio::signal::ctrl_c().await?;
    }
    gateway.stop.cancel();
    running.await;
    sandbox.abort();
    Ok(ExitCode::SUCCESS)
}

/// Waits, up to a limit, until all events have been posted to the webhook.
async fn events_are_told(gateway: &Gateway) -> anyhow::Result<()> {
    let told = async {
        loop {
            let waiting = gateway.store.queue_state(gateway.clock.now()).await?;
            if !waiting.iter().any(|group| group.connection.ends_with(EVENTS)) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap_or(Ok(()))
}

/// Prints what runs. With `once` the addresses are left out, since the demo ends before anybody can use them.
fn introduce(run: &Run, once: bool) -> Result<(), OutError> {
    let names: Vec<String> =
        run.doors.iter().map(|door| format!("{} ({})", door.provider, door.app)).collect();
    let names = names.join(", ");
    if once {
        return out::line(format_args!(
            "A gateway with a tenant of its own, and a sandbox that stands in for {names}:\n"
        ));
    }
    out::line(format_args!("gateway  {}   with a tenant and a key made for this run", run.gateway))?;
    out::line(format_args!("sandbox  {}   stands in for {names}", run.sandbox))?;
    if run.allow_local {
        out::line(
            "allowed  audio.url and webhooks may lead to this machine and to http addresses in this run",
        )?;
    }
    if let Some((url, secret)) = &run.webhook {
        out::line(format_args!(
            "webhook  {}   gets the events, signed with {secret}",
            url.origin().ascii_serialization()
        ))?;
    }
    out::line("")
}

/// Prints what the user can do now.
fn invite(run: &Run) -> Result<(), OutError> {
    let (gateway, sandbox, key) = (&run.gateway.url, &run.sandbox.url, &run.key);
    out::line(format_args!(
        "
see and hear the notes:    {sandbox}/
send and watch notes:      {gateway}/console, with the key below
read the documentation:    {gateway}/docs

In a second terminal:
  export VOICEGATE_URL={gateway}
  export VOICEGATE_API_KEY={key}
send one yourself:
  curl '{gateway}/voice?to=%2B15551234567' -H 'Authorization: Bearer {key}' \\
       -H 'Content-Type: audio/mpeg' --data-binary @your.mp3

Ctrl-C stops the demo."
    ))
}

/// Whether the usual rules of `[fetch]` forbid the address of the webhook.
fn is_local(webhook: &Url) -> bool {
    let name = webhook.host_str().unwrap_or_default().trim_end_matches('.');
    AddressRules::default().check(webhook).is_err() || name == "localhost" || name.ends_with(".localhost")
}

/// Completes the configuration so that receipts arrive: registers the callback address at the providers, as `voicegate
/// callbacks register` does, and adds their secrets.
async fn with_receipts(mut configuration: String, doors: &[Door]) -> anyhow::Result<Layers> {
    let layers = |inline: String| Layers { only_defaults: true, inline: Some(inline), ..Layers::default() };
    let set = |text: &str, connection: &str, key: &str, value: &str| {
        let head = format!("[tenants.demo.connections.{connection}]");
        text.replace(&head, &format!("{head}\n{key} = \"{value}\""))
    };
    for door in doors {
        let made_up = providers::find(door.provider).map_or(&[][..], |descriptor| descriptor.made_up);
        for key in made_up.iter().filter(|key| door.settings.get(**key).is_none()) {
            configuration = set(&configuration, connection_name(door.provider), key, &keys::generate());
        }
    }
    let (config, tenants) = config::load(&layers(configuration.clone()), None)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let live = Live::new(config, tenants, &clock)?;
    let tenant = live.tenants.get("demo").context("the demo has its tenant")?;
    for connection in tenant.connections.values() {
        // Some providers cannot be asked to call, and some try the address first, which is not served yet.
        let Ok(registration) = callbacks::ask(&live, clock.now(), tenant, connection).await else { continue };
        if let Some((key, secret)) = registration.secret {
            configuration = set(&configuration, &connection.name, key, secret.expose_secret());
        }
    }
    Ok(layers(configuration))
}

/// The address at which a server listens.
struct Bound {
    url: String,
    /// The address that was requested, if another program uses it.
    instead_of: Option<SocketAddr>,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        match self.instead_of {
            Some(taken) => write!(f, "   (instead of {taken}, which is in use)"),
            None => Ok(()),
        }
    }
}

/// Listens on the requested address, or on a free port if it is in use.
async fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, Bound)> {
    let (listener, instead_of) = match TcpListener::bind(address).await {
        Ok(listener) => (listener, None),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let free = TcpListener::bind((address.ip(), 0)).await.context("no port can be listened on")?;
            (free, Some(address))
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{address} cannot be listened on"));
        }
    };
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, Bound { url, instead_of }))
}

fn configuration(folder: &std::path::Path, run: &Run) -> anyhow::Result<String> {
    let folder = folder.to_str().context("the temporary folder's name is not UTF-8")?;
    let Run { gateway, key, webhook, allow_local, doors, speech, .. } = run;
    // A webhook that was named on the command line is allowed, so its host is added to the allowed networks.
    let host = webhook.as_ref().and_then(|(url, _)| match url.host() {
        Some(Host::Ipv4(address)) => Some(format!(", \"{address}/32\"")),
        Some(Host::Ipv6(address)) => Some(format!(", \"{address}/128\"")),
        _ => None,
    });
    let fetch = allow_local.then(|| {
        let host = host.unwrap_or_default();
        format!("[fetch]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\", \"::1/128\"{host}]\n")
    });
    let webhook = webhook.as_ref().map(|(url, secret)| {
        format!("webhook = {{ url = {}, secrets = [\"{secret}\"] }}\n", toml::Value::from(url.as_str()))
    });
    Ok(format!(
        r#"
[server]
public_url = "{}"
[storage]
database = "sqlite://{folder}/voicegate.db"
media = "{folder}/media"
{}[tenants.demo]
api_keys = ["{key}"]
route = {:?}
{}{}
{speech}"#,
        gateway.url,
        fetch.unwrap_or_default(),
        doors.iter().map(|door| connection_name(door.provider)).collect::<Vec<_>>(),
        webhook.unwrap_or_default(),
        connections(doors)?
    ))
}
