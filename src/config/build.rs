//! From tenants as written to tenants ready to use, or to every mistake by its key.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::SecretSlice;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::{Host, Url};
use voicegate_providers::{
    self as providers, Capabilities, ConfigError, Degrade, Form, Intake, Provider, Settings, parse_recipient,
    without_values,
};

use super::{
    tenants::{Connection, OnUnknown, Tenant, Tenants, Webhook, hash_key},
    values::{Rate, RateOrOff, Span24, is_reference, plain, secret},
};
use crate::{
    audio::{self, Profile},
    note::ConvertChoice,
};
/// A tenant as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTenant {
    api_keys: Vec<Value>,
    #[serde(default)]
    route: Vec<String>,
    #[serde(default)]
    routes: BTreeMap<String, Vec<String>>,
    request_rate: Option<RateOrOff>,
    #[serde(default)]
    webhook: Option<RawWebhook>,
    #[serde(default)]
    aliases: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    connections: BTreeMap<String, Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    /// Read as text: the error of a URL that cannot be parsed repeats it, and it may hold a token.
    url: String,
    secrets: Vec<Value>,
}

/// The keys that every connection takes, whatever its provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Common {
    provider: String,
    convert: Option<ConvertChoice>,
    profile: Option<String>,
    rate: Option<Rate>,
    #[serde(default = "default_concurrency", deserialize_with = "plain")]
    concurrency: usize,
    #[serde(default = "default_timeout")]
    timeout: Span24,
    #[serde(default)]
    on_unknown: OnUnknown,
    #[serde(default = "default_ack_deadline")]
    ack_deadline: Span24,
    #[serde(default)]
    degrade: Degrade,
}

pub(super) const COMMON_KEYS: &[&str] = &[
    "provider",
    "convert",
    "profile",
    "rate",
    "concurrency",
    "timeout",
    "on_unknown",
    "ack_deadline",
    "degrade",
];

fn default_concurrency() -> usize {
    8
}

fn default_ack_deadline() -> Span24 {
    Span24(Duration::from_secs(600))
}

fn default_timeout() -> Span24 {
    Span24(Duration::from_secs(60))
}

/// Builds every tenant, and adds what is wrong to `mistakes`.
pub fn build(
    raw: BTreeMap<String, RawTenant>,
    public_url: &Url,
    env: &dyn Fn(&str) -> Option<String>,
    mistakes: &mut Vec<String>,
) -> Tenants {
    let mut build = Build { public_url, env, mistakes, keys: Vec::new(), without_effect: Vec::new() };
    let by_name =
        raw.into_iter().map(|(name, raw)| (name.clone(), Arc::new(build.tenant(name, raw)))).collect();
    Tenants { by_name, without_effect: build.without_effect }
}

/// Collects mistakes while tenants are built, so that an operator sees all of them at once.
struct Build<'a> {
    public_url: &'a Url,
    env: &'a dyn Fn(&str) -> Option<String>,
    mistakes: &'a mut Vec<String>,
    /// Of all tenants so far.
    keys: Vec<[u8; 32]>,
    without_effect: Vec<String>,
}

impl Build<'_> {
    fn mistake(&mut self, path: &str, message: impl std::fmt::Display) {
        self.mistakes.push(format!("{path}: {message}"));
    }

    fn tenant(&mut self, name: String, raw: RawTenant) -> Tenant {
        let path = format!("tenants.{name}");
        if !is_name(&name) {
            self.mistake(&path, "expected a name of 1 to 64 letters, digits, '-' and '_'");
        }
        let keys = self.keys(&format!("{path}.api_keys"), &raw.api_keys);
        let mut connections = BTreeMap::new();
        for (name, settings) in raw.connections {
            let path = format!("{path}.connections.{name}");
            if !is_name(&name) {
                self.mistake(&path, "expected a name of 1 to 64 letters, digits, '-' and '_'");
            }
            if let Some(connection) = self.connection(&path, &name, settings) {
                connections.insert(name, Some(connection));
            } else {
                // Known by name, so that a route naming it is no second mistake.
                connections.insert(name, None);
            }
        }
        let known = |name: &String| connections.contains_key(name);
        let mut wrong = Vec::new();
        let routes = std::iter::once(("route".to_owned(), &raw.route))
            .chain(raw.routes.iter().map(|(name, route)| (format!("routes.{name}"), route)));
        for (key, route) in routes {
            for (index, connection) in route.iter().enumerate() {
                let message = if !known(connection) {
                    format!("there is no connection \"{connection}\"")
                } else if route[..index].contains(connection) {
                    format!("the connection \"{connection}\" is named twice")
                } else {
                    continue;
                };
                wrong.push((format!("{path}.{key}[{index}]"), message));
            }
        }
        for (alias, targets) in &raw.aliases {
            for (connection, target) in targets {
                let provider = connections.get(connection).map(|found| found.as_ref().map(|c| &c.provider));
                if let Err(why) = alias_target(connection, target, provider) {
                    wrong.push((format!("{path}.aliases.{alias}.{connection}"), why));
                }
            }
        }
        for name in raw.routes.keys().filter(|name| known(name)) {
            wrong.push((format!("{path}.routes.{name}"), "a connection has this name already".to_owned()));
        }
        for (path, message) in wrong {
            self.mistake(&path, message);
        }
        let webhook = raw.webhook.and_then(|webhook| self.webhook(&format!("{path}.webhook"), webhook));
        Tenant {
            name,
            keys,
            request_rate: raw.request_rate,
            route: raw.route,
            routes: raw.routes,
            aliases: raw.aliases,
            connections: connections.into_iter().filter_map(|(name, c)| Some((name, c?))).collect(),
            webhook,
        }
    }

    fn webhook(&mut self, path: &str, raw: RawWebhook) -> Option<Webhook> {
        let url = raw.url.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_none() {
            self.mistake(&format!("{path}.url"), "expected an http or https URL");
        }
        if raw.secrets.is_empty() {
            self.mistake(
                &format!("{path}.secrets"),
                "expected at least one; `voicegate keys webhook` makes one",
            );
        }
        let mut keys = Vec::new();
        for (index, value) in raw.secrets.iter().enumerate() {
            match secret(value, self.env).and_then(|text| webhook_key(&text)) {
                Ok(key) => keys.push(key),
                Err(message) => self.mistake(&format!("{path}.secrets[{index}]"), message),
            }
        }
        Some(Webhook { url: url?, keys })
    }

    fn keys(&mut self, path: &str, raw: &[Value]) -> Vec<[u8; 32]> {
        if raw.is_empty() {
            self.mistake(path, "expected at least one key; `voicegate keys new` makes one");
        }
        let mut keys = Vec::new();
        for (index, value) in raw.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match secret(value, self.env).and_then(|text| key_hash(&text)) {
                Ok(hash) if self.keys.contains(&hash) => self.mistake(&path, "this key is in use already"),
                Ok(hash) => {
                    self.keys.push(hash);
                    keys.push(hash);
                }
                Err(message) => self.mistake(&path, message),
            }
        }
        keys
    }

    fn connection(&mut self, path: &str, name: &str, settings: Map<String, Value>) -> Option<Connection> {
        let before = self.mistakes.len();
        let (common, own): (Map<_, _>, Map<_, _>) =
            settings.into_iter().partition(|(key, _)| COMMON_KEYS.contains(&key.as_str()));
        let own = self.resolve(path, own);
        let common = self.common(path, common)?;
        self.remember_what_has_no_effect(path, &common);
        let base_url_is_local = own.get("base_url").and_then(Value::as_str).is_some_and(is_loopback);
        // A key whose secret could not be resolved was reported already; its absence is no second mistake.
        let told = self.mistakes.len() > before;
        let (provider_name, provider) = self.provider(path, &common.provider, own, told)?;
        let capabilities = provider.capabilities();
        if capabilities.intake == Intake::Url && self.public_url.scheme() != "https" && !base_url_is_local {
            let why =
                format!("expected an https URL, because the provider of {path} downloads the audio from it");
            self.mistake("server.public_url", why);
        }
        let profile = self.profile(path, common.profile.as_deref(), capabilities)?;
        Some(Connection {
            name: name.to_owned(),
            provider_name,
            provider,
            profile,
            convert: common.convert,
            concurrency: common.concurrency,
            rate: common.rate,
            timeout: common.timeout.0,
            on_unknown: common.on_unknown,
            ack_deadline: common.ack_deadline.0,
            degrade: common.degrade,
        })
    }

    fn common(&mut self, path: &str, settings: Map<String, Value>) -> Option<Common> {
        let common: Common = match serde_path_to_error::deserialize(Value::Object(settings)) {
            Ok(common) => common,
            Err(error) => {
                let key = error.path().to_string();
                let key = if key == "." { String::new() } else { format!(".{key}") };
                self.mistake(&format!("{path}{key}"), without_values(&error.into_inner().to_string()));
                return None;
            }
        };
        if common.concurrency == 0 {
            self.mistake(&format!("{path}.concurrency"), "expected a number above zero");
        }
        if common.timeout.0.is_zero() {
            self.mistake(&format!("{path}.timeout"), "expected a duration above zero");
        }
        Some(common)
    }

    fn remember_what_has_no_effect(&mut self, path: &str, common: &Common) {
        if common.degrade.0.iter().any(|form| matches!(form, Form::File | Form::Text)) {
            self.without_effect.push(format!("{path}.degrade: \"file\" and \"text\""));
        }
    }

    fn provider(
        &mut self,
        path: &str,
        name: &str,
        own: Map<String, Value>,
        told: bool,
    ) -> Option<(&'static str, Arc<dyn Provider>)> {
        let Some(descriptor) = providers::find(name) else {
            let names: Vec<_> = providers::PROVIDERS.iter().map(|descriptor| descriptor.name).collect();
            let message = format!("there is no provider \"{name}\"; known are {}", names.join(", "));
            self.mistake(&format!("{path}.provider"), message);
            return None;
        };
        match (descriptor.build)(Settings::new(own)) {
            Ok(provider) => return Some((descriptor.name, provider)),
            Err(_) if told => {}
            Err(ConfigError { key, message }) => {
                let key = if key.is_empty() { key } else { format!(".{key}") };
                let more = if message.starts_with("unknown field") {
                    format!("; every connection also takes {}", COMMON_KEYS.join(", "))
                } else {
                    String::new()
                };
                self.mistake(&format!("{path}{key}"), format!("{message}{more}"));
            }
        }
        None
    }

    fn profile(
        &mut self,
        path: &str,
        name: Option<&str>,
        capabilities: &Capabilities,
    ) -> Option<&'static Profile> {
        let fits = |name: &str| name.starts_with(capabilities.profile_family);
        let name = name.unwrap_or(capabilities.default_profile);
        let profile = audio::profile(name).filter(|profile| fits(profile.name));
        if profile.is_none() {
            let fitting: Vec<_> =
                audio::PROFILES.iter().map(|profile| profile.name).filter(|name| fits(name)).collect();
            let message = format!("expected a profile made for this provider: {}", fitting.join(", "));
            self.mistake(&format!("{path}.profile"), message);
        }
        profile
    }

    /// Puts the secrets that are kept elsewhere in their places, those in lists too.
    fn resolve(&mut self, path: &str, own: Map<String, Value>) -> Map<String, Value> {
        let mut resolved = Map::new();
        for (key, value) in own {
            let path = format!("{path}.{key}");
            let value = match value {
                Value::Array(items) if items.iter().any(is_reference) => {
                    let item = |(index, item)| self.resolved(&format!("{path}[{index}]"), item);
                    items.into_iter().enumerate().map(item).collect::<Option<_>>().map(Value::Array)
                }
                value => self.resolved(&path, value),
            };
            resolved.extend(value.map(|value| (key, value)));
        }
        resolved
    }

    fn resolved(&mut self, path: &str, value: Value) -> Option<Value> {
        if !is_reference(&value) {
            return Some(value);
        }
        secret(&value, self.env).map_err(|message| self.mistake(path, message)).ok().map(Value::String)
    }
}

/// `provider` is `None` where there is no such connection, `Some(None)` where that has mistakes of its own.
fn alias_target(
    connection: &str,
    target: &str,
    provider: Option<Option<&Arc<dyn Provider>>>,
) -> Result<(), String> {
    let provider = provider.ok_or_else(|| format!("there is no connection \"{connection}\""))?;
    let recipient = parse_recipient(target).map_err(|error| error.to_string())?;
    provider.map_or(Ok(()), |provider| {
        provider.recipient_key(&recipient).map(drop).map_err(|error| error.to_string())
    })
}

/// The key in a secret of Standard Webhooks.
fn webhook_key(text: &str) -> Result<SecretSlice<u8>, String> {
    let key = text.strip_prefix("whsec_").and_then(|key| BASE64_STANDARD.decode(key).ok());
    // The specification wants 24 to 64 bytes; less would be weak, more does no harm.
    key.filter(|key| key.len() >= 16).map(SecretSlice::from).ok_or_else(|| {
        "expected whsec_ and base64 of at least 16 bytes; `voicegate keys webhook` makes one".to_owned()
    })
}

fn key_hash(text: &str) -> Result<[u8; 32], String> {
    let Some(hash) = text.strip_prefix("sha256:") else { return Ok(hash_key(text)) };
    let mut bytes = [0; 32];
    hex::decode_to_slice(hash, &mut bytes)
        .map_err(|_| "expected sha256: and 64 hexadecimal digits".to_owned())?;
    Ok(bytes)
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// An emulator on this machine may download over plain http.
fn is_loopback(url: &str) -> bool {
    match url.parse::<Url>().ok().as_ref().and_then(Url::host) {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
