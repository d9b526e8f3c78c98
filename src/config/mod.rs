//! Configuration: layers in, one validated [`Config`] and the [`Tenants`] out, or every mistake by its key.

mod build;
pub mod reference;
mod tenants;
mod values;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use config::{Environment, File, FileFormat};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use voicegate_providers::{guard::AddressRules, without_values};

pub use tenants::{Connection, OnUnknown, Tenant, Tenants, Webhook, hash_key};
pub use values::{Database, LogFormat, Media, Rate, RateOrOff, Size, Span24, Token};

use build::RawTenant;
use values::{list, plain};

/// The documented default file, which is also the lowest layer.
const DEFAULTS: &str = include_str!("../../config.toml");

/// Everything but the tenants.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub server: Server,
    pub storage: Storage,
    pub audio: Audio,
    pub fetch: Fetch,
    pub delivery: Delivery,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    pub public_url: Url,
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
    /// Where a SQLite file is.
    pub fn database_folder(&self) -> Option<PathBuf> {
        let Database::Sqlite(file) = &self.database else { return None };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        Some(folder.unwrap_or(Path::new(".")).to_owned())
    }

    /// Where files are that are being worked on, and the key that says so.
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
    #[serde(deserialize_with = "list")]
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

/// The layers as written, before anything is resolved.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    server: Server,
    storage: Storage,
    audio: Audio,
    fetch: Fetch,
    delivery: Delivery,
    #[serde(default)]
    tenants: BTreeMap<String, RawTenant>,
}

/// Every mistake found, each with the exact key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Where the layers come from. Also what a reload reads again.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// `--config`; without it `./config.toml`, when present.
    pub file: Option<PathBuf>,
    /// Leaves out `./config.toml`: the embedded defaults alone, plus `inline`.
    pub only_defaults: bool,
    /// A layer above the file, as TOML.
    pub inline: Option<String>,
    /// Environment variables above those of the process: for secrets, and for the credentials of a bucket.
    pub environment: BTreeMap<String, String>,
}

impl Layers {
    pub fn of_file(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::default() }
    }

    /// All variables whose names begin like this.
    pub fn variables(&self, prefix: &str) -> BTreeMap<String, String> {
        let texts = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let all = texts.chain(self.environment.clone());
        all.filter(|(name, _)| name.starts_with(prefix)).collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned().or_else(|| std::env::var(name).ok())
    }

    fn file(&self) -> Option<PathBuf> {
        let default = Path::new("config.toml");
        match &self.file {
            Some(file) => Some(file.clone()),
            None => (!self.only_defaults && default.is_file()).then(|| default.to_owned()),
        }
    }
}

/// Reads all layers and checks every value. At a reload `in_force` is the `[server]` that stays.
///
/// # Errors
/// [`Mistakes`]: every one that could be found, each with the key and what was expected.
pub fn load(layers: &Layers, in_force: Option<&Server>) -> Result<(Config, Tenants), Mistakes> {
    let raw = read(layers).map_err(|mistake| Mistakes(vec![mistake]))?;
    let mut mistakes = Vec::new();
    check_sections(&raw, &mut mistakes);
    let env = |name: &str| layers.variable(name);
    let public_url = &in_force.unwrap_or(&raw.server).public_url;
    let tenants = build::build(raw.tenants, public_url, &env, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes));
    }
    let Raw { server, storage, audio, fetch, delivery, .. } = raw;
    Ok((Config { server, storage, audio, fetch, delivery }, tenants))
}

fn read(layers: &Layers) -> Result<Raw, String> {
    let mut builder = config::Config::builder().add_source(File::from_str(&defaults(), FileFormat::Toml));
    if let Some(file) = layers.file() {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| format!("{}: the file cannot be read: {}", file.display(), error.kind()))?;
        // Parsed here once more than needed: this parser's message has line and column.
        if let Err(error) = text.parse::<toml::Table>() {
            return Err(format!("{}:{}", file.display(), place_and_message(&text, &error)));
        }
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
    }
    if let Some(inline) = &layers.inline {
        builder = builder.add_source(File::from_str(inline, FileFormat::Toml));
    }
    // Everything in it is text; what should be a number is read as one where it is used.
    let environment = Environment::with_prefix("VOICEGATE").prefix_separator("__").separator("__");
    let merged = builder.add_source(environment).build().map_err(|error| error.to_string())?;
    let merged: Value = merged.try_deserialize().map_err(|error| error.to_string())?;
    serde_path_to_error::deserialize(merged).map_err(|error| {
        let path = error.path().to_string();
        format!("{path}: {}", without_values(&error.into_inner().to_string()))
    })
}

/// The parser's own text shows the line, and a line of this file may hold a secret.
fn place_and_message(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text.as_bytes()[..start];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    format!("{line}:{column}: {}", error.message())
}

/// The default file without its tenants: no tenant exists unless the operator wrote it.
fn defaults() -> String {
    let mut table: toml::Table = DEFAULTS.parse().unwrap_or_default();
    table.remove("tenants");
    table.to_string()
}

fn check_sections(raw: &Raw, mistakes: &mut Vec<String>) {
    let mut expect = |sound: bool, mistake: &str| {
        if !sound {
            mistakes.push(mistake.to_owned());
        }
    };
    let url = &raw.server.public_url;
    expect(
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none(),
        "server.public_url: expected an http or https URL without a query, such as \"https://voice.example\"",
    );
    expect(!raw.storage.scratch.as_os_str().is_empty(), "storage.scratch: expected a folder");
    for (key, span) in [
        ("server.header_timeout", raw.server.header_timeout),
        ("server.body_timeout", raw.server.body_timeout),
        ("server.link_ttl", raw.server.link_ttl),
        ("audio.max_duration", raw.audio.max_duration),
        ("audio.timeout", raw.audio.timeout),
        ("fetch.timeout", raw.fetch.timeout),
        ("delivery.expires_in", raw.delivery.expires_in),
    ] {
        expect(span.0 >= Duration::from_millis(1), &format!("{key}: expected a duration above zero"));
    }
    for (key, size) in [
        ("server.max_body", raw.server.max_body),
        ("server.max_json_body", raw.server.max_json_body),
        ("audio.max_bytes", raw.audio.max_bytes),
    ] {
        expect(size.0 > 0, &format!("{key}: expected a size above zero"));
    }
    // Each may hold a file and a connection.
    expect(
        (1..=1024).contains(&raw.delivery.in_flight),
        "delivery.in_flight: expected a number from 1 to 1024",
    );
    expect(raw.server.max_clients > 0, "server.max_clients: expected a number above zero");
    // Less would not hold what a proxy adds; more than a megabyte of headers is an attack.
    expect(
        (8 * 1024..=1024 * 1024).contains(&raw.server.max_headers.0),
        "server.max_headers: expected a size from \"8 KiB\" to \"1 MiB\"",
    );
    expect(
        (1024 * 1024..=1024 * 1024 * 1024).contains(&raw.server.memory.0),
        "server.memory: expected a size from \"1 MiB\" to \"1 GiB\"",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_inline(inline: &str) -> Result<(Config, Tenants), Mistakes> {
        load(&Layers { only_defaults: true, inline: Some(inline.to_owned()), ..Layers::default() }, None)
    }

    const TENANT: &str = r#"
        [tenants.a]
        api_keys = ["key-a"]
        route = ["imessage"]
        [tenants.a.connections.imessage]
        provider = "linq"
        token = "t"
    "#;

    #[test]
    fn the_built_in_layer_has_no_tenant() {
        let (config, tenants) = load_inline("").expect("the defaults are sound");
        assert_eq!(config.server.listen.port(), 8080);
        assert_eq!(tenants.iter().count(), 0);
    }

    #[test]
    fn every_mistake_names_its_key() {
        for (inline, key) in [
            ("[server]\nlisten = \"nowhere\"", "server.listen"),
            ("[server]\nlisten_on = 1", "listen_on"),
            ("[server]\nmax_headers = \"1 KiB\"", "server.max_headers"),
            ("[server]\nmax_clients = 0", "server.max_clients"),
            ("[server]\nmemory = 5", "server.memory"),
            ("[server]\nrequest_rate = \"0/1s\"", "server.request_rate"),
            (&TENANT.replace("api_keys", "request_rate = \"lots\"\napi_keys"), "tenants.a.request_rate"),
            ("[audio]\nmax_duration = \"soon\"", "audio.max_duration"),
            ("[delivery]\nmax_queue = \"many\"", "delivery.max_queue"),
            ("[fetch]\nallow_networks = [\"10.0.0.0/99\"]", "fetch.allow_networks: item 0"),
            ("[storage]\ndatabase = \"mysql://x\"", "storage.database"),
            ("[storage]\nmedia = \"gs://x\"", "storage.media"),
            ("[storage]\nscratch = \"\"", "storage.scratch"),
            ("[servr]\nlisten = 1", "servr"),
            (&TENANT.replace("token = \"t\"", ""), "tenants.a.connections.imessage"),
            (&TENANT.replace("token", "tokn"), "tenants.a.connections.imessage"),
            (
                &TENANT.replace("token = \"t\"", "token = { env = \"NOT_SET_ANYWHERE\" }"),
                "tenants.a.connections.imessage.token",
            ),
            (&TENANT.replace("\"linq\"", "\"pigeon\""), "tenants.a.connections.imessage.provider"),
            (&TENANT.replace("[\"imessage\"]", "[\"imessage\", \"fax\"]"), "tenants.a.route[1]"),
            (&TENANT.replace("[\"key-a\"]", "[]"), "tenants.a.api_keys"),
            (
                &TENANT.replace("\"t\"", "\"t\"\nprofile = \"linq-9\""),
                "tenants.a.connections.imessage.profile",
            ),
            (
                &TENANT.replace("\"t\"", "\"t\"\nprofile = \"whatsapp-1\""),
                "tenants.a.connections.imessage.profile",
            ),
            (&TENANT.replace("[\"imessage\"]", "[\"imessage\", \"imessage\"]"), "tenants.a.route[1]"),
            (&format!("{TENANT}\n[tenants.a.aliases.x]\nimessage = \"bob\""), "tenants.a.aliases.x.imessage"),
            (
                &TENANT.replace("\"t\"", "\"t\"\nconcurrency = 0"),
                "tenants.a.connections.imessage.concurrency",
            ),
            (
                &TENANT.replace("\"t\"", "\"t\"\ndegrade = [\"smoke\"]"),
                "tenants.a.connections.imessage.degrade[0]",
            ),
        ] {
            let mistakes = load_inline(inline).expect_err(inline).to_string();
            assert!(mistakes.contains(key), "expected {key} in: {mistakes}");
        }
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_repeated() {
        for inline in [
            TENANT.replace("[\"key-a\"]", "\"S3CRET\""),
            TENANT.replace("\"t\"", "\"t\"\nconcurrency = \"S3CRET\""),
            TENANT.replace("\"t\"", "[\"S3CRET\"]"),
            TENANT.replace("\"key-a\"", "\"sha256:S3CRET\""),
        ] {
            let mistakes = load_inline(&inline).expect_err(&inline).to_string();
            assert!(!mistakes.contains("S3CRET"), "{mistakes}");
        }
        let error = "a = 1\ntoken = \"S3CRET\nb = 2".parse::<toml::Table>().expect_err("broken");
        let text = place_and_message("a = 1\ntoken = \"S3CRET\nb = 2", &error);
        assert!(text.starts_with("2:") && !text.contains("S3CRET"), "{text}");
    }

    #[test]
    fn a_webhook_is_kept_and_not_shown() {
        // A key that reads S3CRETS3CRETS3CRET.
        let key = "whsec_UzNDUkVUUzNDUkVUUzNDUkVU";
        let webhook = format!(
            "route = []\nwebhook = {{ url = \"https://bot.example/h/S3CRET?k=S3CRET\", secrets = [\"{key}\"] }}"
        );
        let inline = TENANT.replace("route = [\"imessage\"]", &webhook);
        let (_, tenants) = load_inline(&inline).expect("sound");
        let tenant = tenants.get("a").expect("the tenant");
        assert_eq!(tenant.webhook.as_ref().map(|webhook| webhook.keys.len()), Some(1));
        let shown = format!("{tenants:?}");
        assert!(shown.contains("https://bot.example") && !shown.contains("S3CRET"), "{shown}");
        assert!(!shown.contains("UzNDUkVU"), "{shown}");
        for (wrong, key) in [
            (inline.replace("https://bot", "ftp://bot"), "tenants.a.webhook.url"),
            (
                inline.replace(&format!("\"{key}\""), "{ env = \"NOT_SET_ANYWHERE\" }"),
                "tenants.a.webhook.secrets[0]",
            ),
            (inline.replace("whsec_", ""), "tenants.a.webhook.secrets[0]"),
            (inline.replace("VUUzNDUkVUUzNDUkVU", "VU"), "tenants.a.webhook.secrets[0]"),
            (inline.replace(&format!("\"{key}\""), ""), "tenants.a.webhook.secrets"),
            (inline.replace("https://bot", "//bot"), "tenants.a.webhook.url"),
        ] {
            let mistakes = load_inline(&wrong).expect_err(&wrong).to_string();
            assert!(mistakes.contains(key) && !mistakes.contains("S3CRET"), "{mistakes}");
        }
    }

    #[test]
    fn a_secret_for_callbacks_may_be_a_list_while_one_replaces_another() {
        let with = |secrets: &str| {
            let setting = format!("\"t\"\nwebhook_secret = {secrets}");
            load_inline(&TENANT.replace("\"t\"", &setting)).map(|(_, tenants)| {
                tenants.get("a").expect("the tenant").connections["imessage"].provider.capabilities().receipts
            })
        };
        let file = tempfile::NamedTempFile::new().expect("a scratch file");
        std::fs::write(file.path(), "whsec_YSBzZWNyZXQ=\n").expect("room for it");
        let list = format!("[\"whsec_YW5vdGhlcg==\", {{ file = {:?} }}]", file.path());
        for secrets in ["\"whsec_YSBzZWNyZXQ=\"", &list] {
            assert!(with(secrets).is_ok_and(|receipts| receipts), "{secrets}");
        }
        let key = "tenants.a.connections.imessage.webhook_secret";
        for (wrong, key) in [
            ("[\"YQ==\", { env = \"NOT_SET_ANYWHERE\" }]", format!("{key}[1]: ")),
            ("[]", format!("{key}: ")),
            ("\"S3CRET!\"", format!("{key}: ")),
            ("[\"YQ==\", [\"S3CRET\"]]", format!("{key}: ")),
        ] {
            let mistakes = with(wrong).expect_err(wrong).to_string();
            assert!(mistakes.contains(&key) && !mistakes.contains("S3CRET"), "{mistakes}");
        }
    }

    #[test]
    fn two_tenants_cannot_share_a_key() {
        let both = format!("{TENANT}{}", TENANT.replace("tenants.a", "tenants.b"));
        let mistakes = load_inline(&both).expect_err("refused").to_string();
        assert!(mistakes.contains("tenants.b.api_keys[0]"), "{mistakes}");
        assert!(!mistakes.contains("key-a"), "{mistakes}");
    }

    #[test]
    fn the_documented_file_is_whole() {
        // Every commented-out key of the sample is accepted when it is switched on.
        let is_key = |line: &str| {
            let key = line.split(" = ").next().unwrap_or_default();
            line.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        let sample: String = DEFAULTS
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line))
            .map(|line| line.replace("{ env = \"WEBHOOK_SECRET\" }", "\"whsec_UzNDUkVUUzNDUkVUUzNDUkVU\""))
            .map(|line| line.replace("{ env = \"", "\"").replace("\" }", "\""))
            .map(|line| line.replace("LINQ_WEBHOOK_SECRET", "whsec_YSBzZWNyZXQ="))
            .collect::<Vec<_>>()
            .join("\n");
        let sample = sample.replace("http://127.0.0.1:8080", "https://voice.example");
        let (_, tenants) = load_inline(&sample).expect("the sample is sound");
        assert_eq!(tenants.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>(), ["demo"]);
    }
}
