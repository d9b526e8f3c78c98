//! Configuration: reads the layers, and returns one validated [`Config`] and the [`Tenants`], or every mistake with its
//! location and key.

pub mod accepted;
mod build;
mod callers;
mod findings;
mod forbidden;
mod inbound;
mod layers;
mod locations;
mod path;
mod postgres;
mod repair;
mod secrets;
mod settings;
mod speech;
mod strength;
mod tenants;
mod values;
mod variables;
mod words;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use serde::Deserialize;
use url::Url;
use voicegate_providers::{guard::AddressRules, proxy::Proxy};

pub(crate) use forbidden::way_out;
pub use layers::Layers;
pub use postgres::postgres_options;
pub use speech::{AudioServer, SpeechServer, TranscriptionServer};
pub use tenants::{Connection, OnUnknown, Tenant, Tenants, Webhook, WebhookDialect, hash_key};
pub use values::{Database, LogFormat, Media, Rate, RateOrOff, Size, Span24, Token};

use build::RawTenant;
use findings::Findings;
use path::KeyPath;
use values::{address, collector, networks, plain, proxy, public_url};

/// The default file with its comments, which is also the lowest layer.
pub const DEFAULTS: &str = include_str!("../../config.toml");

/// All sections except the tenants.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub server: Server,
    pub storage: Storage,
    pub audio: Audio,
    pub fetch: Fetch,
    pub delivery: Delivery,
    pub dialects: Dialects,
    pub telemetry: Telemetry,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    #[serde(deserialize_with = "public_url")]
    pub public_url: Url,
    #[serde(deserialize_with = "proxy")]
    pub proxy: Proxy,
    pub max_body: Size,
    pub max_json_body: Size,
    pub max_headers: Size,
    #[serde(deserialize_with = "plain")]
    pub max_clients: usize,
    pub memory: Size,
    pub request_rate: RateOrOff,
    pub header_timeout: Span24,
    pub body_timeout: Span24,
    pub link_ttl: Span24,
    pub shutdown_grace: Span24,
    pub metrics_token: Option<Token>,
    pub log: LogFormat,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub database: Database,
    pub media: Media,
    pub scratch: PathBuf,
    pub retention: Span24,
    pub notes_retention: Span24,
    pub media_retention: Span24,
    pub min_free: Size,
}

impl Storage {
    /// The path of the SQLite file.
    pub fn database_folder(&self) -> Option<PathBuf> {
        let Database::Sqlite(file) = &self.database else { return None };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        Some(folder.unwrap_or(Path::new(".")).to_owned())
    }

    /// The folder for temporary files, and the key that sets it.
    pub fn work_folder(&self) -> (&'static str, &Path) {
        match &self.media {
            Media::Folder(folder) => ("media", folder),
            Media::Bucket { .. } => ("scratch", &self.scratch),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audio {
    pub ffmpeg: String,
    pub decode_in_process: bool,
    #[serde(deserialize_with = "plain")]
    pub workers: usize,
    pub max_bytes: Size,
    pub max_duration: Span24,
    pub timeout: Span24,
    pub cache: Size,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    #[serde(deserialize_with = "plain")]
    pub allow_http: bool,
    #[serde(deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    pub timeout: Span24,
}

impl Fetch {
    pub fn rules(&self) -> AddressRules {
        AddressRules { allow_http: self.allow_http, allow_networks: self.allow_networks.clone() }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    #[serde(deserialize_with = "plain")]
    pub max_queue: u64,
    #[serde(deserialize_with = "plain")]
    pub max_queue_per_tenant: u64,
    #[serde(deserialize_with = "plain")]
    pub in_flight: usize,
    pub expires_in: Span24,
    pub unknown_grace: Span24,
    pub learned_ttl: Span24,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialects {
    /// The longest time that a request in a dialect waits for the provider.
    pub wait: Span24,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// The collector that gets the traces.
    #[serde(default, deserialize_with = "collector")]
    pub otlp: Option<Url>,
}

/// All layers merged, before secrets are resolved.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    server: Server,
    storage: Storage,
    audio: Audio,
    fetch: Fetch,
    delivery: Delivery,
    dialects: Dialects,
    telemetry: Telemetry,
    #[serde(default)]
    tenants: BTreeMap<String, RawTenant>,
}

/// All mistakes, one per line: location, key, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Reads all layers and checks every value. At a reload, `in_force` is the `[server]` section that stays in force.
///
/// # Errors
/// [`Mistakes`]: all mistakes that could be found.
pub fn load(layers: &Layers, in_force: Option<&Server>) -> Result<(Config, Tenants), Mistakes> {
    let layers::Merged { value, locations, remarks } =
        layers.merge().map_err(|mistake| Mistakes(vec![mistake]))?;
    let mut found = Findings::new(locations);
    remarks.into_iter().for_each(|remark| found.remark(remark));
    // The token gives access only to metrics, so a weak one is a warning and not a mistake.
    let token = value.pointer("/server/metrics_token").and_then(|token| token.as_str());
    if let Some(Err(why)) = token.map(secrets::judge) {
        found.warning(&KeyPath::of("server.metrics_token"), why);
    }
    let raw: Option<Raw> = repair::read(value, &KeyPath::default(), &layers::defaults(), &mut found);
    let loaded = raw.map(|raw| {
        check_sections(&raw, &mut found);
        let surroundings = build::Surroundings {
            public_url: &in_force.unwrap_or(&raw.server).public_url,
            rules: raw.fetch.rules(),
            env: &|name| layers.variable(name),
        };
        let tenants = build::build(raw.tenants, &surroundings, &mut found);
        let Raw { server, storage, audio, fetch, delivery, dialects, telemetry, .. } = raw;
        (Config { server, storage, audio, fetch, delivery, dialects, telemetry }, tenants)
    });
    let (mistakes, warnings) = found.into_lines();
    match loaded {
        Some((config, tenants)) if mistakes.is_empty() => Ok((config, Tenants { warnings, ..tenants })),
        _ => Err(Mistakes(mistakes)),
    }
}

fn check_sections(raw: &Raw, found: &mut Findings) {
    let mut expect = |sound: bool, key: &str, expected: &str| {
        if !sound {
            found.mistake(&KeyPath::of(key), format!("expected {expected}"));
        }
    };
    expect(!raw.storage.scratch.as_os_str().is_empty(), "storage.scratch", "a folder");
    for (key, span) in [
        ("server.header_timeout", raw.server.header_timeout),
        ("server.body_timeout", raw.server.body_timeout),
        ("server.link_ttl", raw.server.link_ttl),
        ("audio.max_duration", raw.audio.max_duration),
        ("audio.timeout", raw.audio.timeout),
        ("fetch.timeout", raw.fetch.timeout),
        ("delivery.expires_in", raw.delivery.expires_in),
    ] {
        expect(span.0 >= Duration::from_millis(1), key, "a duration above zero");
    }
    for (key, size) in [
        ("server.max_body", raw.server.max_body),
        ("server.max_json_body", raw.server.max_json_body),
        ("audio.max_bytes", raw.audio.max_bytes),
    ] {
        expect(size.0 > 0, key, "a size above zero");
    }
    // Each client may use a file and a connection.
    expect((1..=1024).contains(&raw.delivery.in_flight), "delivery.in_flight", "a number from 1 to 1024");
    expect(raw.server.max_clients > 0, "server.max_clients", "a number above zero");
    // Clients and proxies give up before, and repeat the request.
    expect(raw.dialects.wait.0 <= Duration::from_secs(60), "dialects.wait", "at most \"60s\"");
    // Less would not be enough for the headers that a proxy adds; more than a megabyte of headers is an attack.
    let headers = (8 * 1024..=1024 * 1024).contains(&raw.server.max_headers.0);
    expect(headers, "server.max_headers", "a size from \"8 KiB\" to \"1 MiB\"");
    let memory = (1024 * 1024..=1024 * 1024 * 1024).contains(&raw.server.memory.0);
    expect(memory, "server.memory", "a size from \"1 MiB\" to \"1 GiB\"");
}

#[cfg(test)]
mod tests;
