//! Turns tenants from the configuration into tenants ready for use, or reports every mistake with its key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::{Host, Url};
use voicegate_providers::{
    self as providers, Capabilities, Degrade, Intake, guard::AddressRules, parse_recipient,
};

use super::{
    callers::RawWebhook,
    findings::Findings,
    inbound::RawInbound,
    path::KeyPath,
    repair,
    secrets::{self, is_reference, secret},
    settings,
    speech::{RawSpeech, RawTranscription},
    tenants::{Connection, OnUnknown, Presence, Tenant, Tenants},
    values::{Rate, RateOrOff, Size, Span24, plain},
    words::no_such,
};
use crate::model::note::ConvertChoice;
use voicegate_audio::{self as audio, Profile};

/// A tenant as written in the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTenant {
    #[serde(default)]
    api_keys: Vec<Value>,
    #[serde(default)]
    route: Vec<String>,
    #[serde(default)]
    routes: BTreeMap<String, Vec<String>>,
    request_rate: Option<RateOrOff>,
    max_storage: Option<Size>,
    #[serde(default)]
    webhook: Option<RawWebhook>,
    #[serde(default)]
    inbound: RawInbound,
    #[serde(default)]
    aliases: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    connections: BTreeMap<String, Map<String, Value>>,
    #[serde(default)]
    speech: BTreeMap<String, RawSpeech>,
    #[serde(default)]
    transcription: BTreeMap<String, RawTranscription>,
}

/// The keys that every connection accepts, whatever its provider.
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
    inbound: Option<bool>,
    presence: Option<Presence>,
}

pub const COMMON_KEYS: &[&str] = &[
    "provider",
    "convert",
    "profile",
    "rate",
    "concurrency",
    "timeout",
    "on_unknown",
    "ack_deadline",
    "degrade",
    "inbound",
    "presence",
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

/// The settings that tenants are checked against.
pub struct Surroundings<'a> {
    pub public_url: &'a Url,
    /// The addresses that webhooks may use.
    pub rules: AddressRules,
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// Builds all tenants, and adds their mistakes to `found`.
pub fn build(
    raw: BTreeMap<String, RawTenant>,
    surroundings: &Surroundings<'_>,
    found: &mut Findings,
) -> Tenants {
    let mut build = Build { surroundings, found, keys: Vec::new() };
    let by_name =
        raw.into_iter().map(|(name, raw)| (name.clone(), Arc::new(build.tenant(name, raw)))).collect();
    Tenants { by_name, warnings: Vec::new() }
}

pub(super) struct Build<'a> {
    pub surroundings: &'a Surroundings<'a>,
    pub found: &'a mut Findings,
    /// The API keys of all tenants so far.
    pub keys: Vec<[u8; 32]>,
}

impl Build<'_> {
    fn tenant(&mut self, name: String, raw: RawTenant) -> Tenant {
        let path = KeyPath::of("tenants").key(&name);
        self.name(&path, &name);
        let keys = self.keys(&path.key("api_keys"), &raw.api_keys);
        let mut connections = BTreeMap::new();
        for (name, settings) in raw.connections {
            let path = path.key("connections").key(&name);
            self.name(&path, &name);
            // A connection with mistakes is known by name, so that a route that contains it is not a second mistake.
            connections.insert(name.clone(), self.connection(&path, &name, settings));
        }
        self.routes(&path, &raw.route, &raw.routes, &connections);
        self.aliases(&path.key("aliases"), &raw.aliases, &connections);
        let webhook = raw.webhook.and_then(|webhook| self.webhook(&path.key("webhook"), webhook));
        let speech = self.speech(&path.key("speech"), raw.speech);
        let known: Vec<String> = raw.transcription.keys().cloned().collect();
        let transcription = self.transcription(&path.key("transcription"), raw.transcription);
        Tenant {
            name,
            keys,
            request_rate: raw.request_rate,
            max_storage: raw.max_storage.map(|size| size.0),
            route: raw.route,
            routes: raw.routes,
            aliases: raw.aliases,
            connections: connections.into_iter().filter_map(|(name, c)| Some((name, c?))).collect(),
            webhook,
            inbound: self.inbound(&path.key("inbound"), raw.inbound, &known),
            speech,
            transcription,
        }
    }

    pub(super) fn name(&mut self, path: &KeyPath, name: &str) {
        let is_sound = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !is_sound {
            self.found.mistake(path, "expected a name of 1 to 64 letters, digits, '-' and '_'");
        }
    }

    fn routes(
        &mut self,
        path: &KeyPath,
        route: &[String],
        routes: &BTreeMap<String, Vec<String>>,
        connections: &BTreeMap<String, Option<Connection>>,
    ) {
        let named = routes.iter().map(|(name, route)| (path.key("routes").key(name), route.as_slice()));
        for (path, route) in [(path.key("route"), route)].into_iter().chain(named) {
            for (index, connection) in route.iter().enumerate() {
                if !connections.contains_key(connection) {
                    self.found.mistake(&path.item(index), no_connection(connection, connections));
                } else if route[..index].contains(connection) {
                    let why = format!("the connection \"{connection}\" is named twice");
                    self.found.mistake(&path.item(index), why);
                }
            }
        }
        for name in routes.keys().filter(|name| connections.contains_key(*name)) {
            self.found.mistake(&path.key("routes").key(name), "a connection has this name already");
        }
    }

    fn aliases(
        &mut self,
        path: &KeyPath,
        aliases: &BTreeMap<String, BTreeMap<String, String>>,
        connections: &BTreeMap<String, Option<Connection>>,
    ) {
        for (alias, targets) in aliases {
            for (connection, target) in targets {
                let judged = match connections.get(connection) {
                    Some(found) => alias_target(target, found.as_ref()),
                    None => Err(no_connection(connection, connections)),
                };
                if let Err(why) = judged {
                    self.found.mistake(&path.key(alias).key(connection), why);
                }
            }
        }
    }

    fn connection(&mut self, path: &KeyPath, name: &str, settings: Map<String, Value>) -> Option<Connection> {
        let before = self.found.count();
        let (common, own): (Map<_, _>, Map<_, _>) =
            settings.into_iter().partition(|(key, _)| COMMON_KEYS.contains(&key.as_str()));
        let mut reported = BTreeSet::new();
        let own = self.resolve(path, own, &mut reported);
        let common = self.common(path, common)?;
        let base_url = own.get("base_url").and_then(Value::as_str);
        let base_url_is_local = base_url.is_some_and(is_loopback);
        let Some(descriptor) = providers::find(&common.provider) else {
            // A missing `provider` was reported before.
            if !common.provider.is_empty() || self.found.count() == before {
                let names: Vec<_> = providers::PROVIDERS.iter().map(|descriptor| descriptor.name).collect();
                self.found.mistake(&path.key("provider"), no_such("provider", &common.provider, &names));
            }
            return None;
        };
        for key in descriptor.made_up {
            if let Some(value) = own.get(*key) {
                self.judge_made_up(&path.key(key), value);
            }
        }
        let provider = settings::build(descriptor, own, path, &mut reported, self.found)?;
        let capabilities = provider.capabilities();
        if !base_url_is_local && !reported.contains("base_url") {
            self.reached_from_outside(path, capabilities);
        }
        if common.inbound == Some(true) && !capabilities.inbound {
            let why = "no voice notes can come over this connection: its provider has none, or its callbacks are not \
                       configured";
            self.found.mistake(&path.key("inbound"), why);
        }
        let profile = self.profile(&path.key("profile"), common.profile.as_deref(), capabilities)?;
        let inbound = common.inbound.unwrap_or(capabilities.inbound);
        Some(Connection {
            name: name.to_owned(),
            provider_name: descriptor.name,
            provider,
            profile,
            convert: common.convert,
            concurrency: common.concurrency,
            rate: common.rate,
            timeout: common.timeout.0,
            on_unknown: common.on_unknown,
            ack_deadline: common.ack_deadline.0,
            degrade: common.degrade,
            inbound,
            presence: common.presence.is_some(),
        })
    }

    fn common(&mut self, path: &KeyPath, settings: Map<String, Value>) -> Option<Common> {
        let instead = json!({ "provider": "" });
        let common: Common = repair::read(Value::Object(settings), path, &instead, self.found)?;
        if common.concurrency == 0 {
            self.found.mistake(&path.key("concurrency"), "expected a number above zero");
        }
        if common.timeout.0.is_zero() {
            self.found.mistake(&path.key("timeout"), "expected a duration above zero");
        }
        Some(common)
    }

    /// Checks whether a remote provider can reach this gateway, if it has to.
    fn reached_from_outside(&mut self, path: &KeyPath, capabilities: &Capabilities) {
        let (url, key) = (self.surroundings.public_url, KeyPath::of("server.public_url"));
        if self.found.is_reported(&key) {
            return;
        }
        if capabilities.uses(Intake::Url) && url.scheme() != "https" {
            let why =
                format!("expected an https URL, because the provider of {path} downloads the audio from it");
            self.found.mistake_because_of(path, &key, why);
        } else if !capabilities.receipts.is_empty()
            && let Err(why) = self.surroundings.rules.check(url)
        {
            let origin = url.origin().ascii_serialization();
            let why = format!(
                "no receipts will come, because the provider cannot call {origin} ({why}); set server.public_url to an \
                 https address that it can reach"
            );
            self.found.warning(path, why);
        }
    }

    fn profile(
        &mut self,
        path: &KeyPath,
        name: Option<&str>,
        capabilities: &Capabilities,
    ) -> Option<&'static Profile> {
        let fits = |name: &str| name.starts_with(capabilities.profile_family);
        let name = name.or_else(|| capabilities.usual_profile()).unwrap_or_default();
        let profile = audio::profile(name).filter(|profile| fits(profile.name));
        if profile.is_none() {
            let fitting: Vec<_> =
                audio::PROFILES.iter().map(|profile| profile.name).filter(|name| fits(name)).collect();
            let message = format!("expected a profile made for this provider: {}", fitting.join(", "));
            self.found.mistake(path, message);
        }
        profile
    }

    /// Replaces references to secrets by the secrets, in lists too. `reported` gets the keys for which that failed.
    fn resolve(
        &mut self,
        path: &KeyPath,
        own: Map<String, Value>,
        reported: &mut BTreeSet<String>,
    ) -> Map<String, Value> {
        let mut resolved = Map::new();
        for (key, value) in own {
            let path = path.key(&key);
            let value = match value {
                Value::Array(items) => {
                    let item = |(index, item)| self.resolved(&path.item(index), item);
                    // Read all items, so that each failure is reported.
                    let items: Vec<Option<Value>> = items.into_iter().enumerate().map(item).collect();
                    items.into_iter().collect::<Option<_>>().map(Value::Array)
                }
                // The values that a recipe asks for. They may be secrets like every other setting.
                Value::Object(values)
                    if key == "settings" && !is_reference(&Value::Object(values.clone())) =>
                {
                    let value = |(key, value): (String, Value)| {
                        let resolved = self.resolved(&path.key(&key), value);
                        (key, resolved)
                    };
                    let values: Vec<(String, Option<Value>)> = values.into_iter().map(value).collect();
                    let resolved = values.into_iter().map(|(key, value)| Some((key, value?)));
                    resolved.collect::<Option<_>>().map(Value::Object)
                }
                value => self.resolved(&path, value),
            };
            match value {
                Some(value) => drop(resolved.insert(key, value)),
                None => drop(reported.insert(key)),
            }
        }
        resolved
    }

    fn resolved(&mut self, path: &KeyPath, value: Value) -> Option<Value> {
        let judged = match &value {
            Value::String(text) => match secrets::placeholder(text) {
                Some(name) => Err(secrets::not_replaced(&name)),
                None => return Some(value),
            },
            value if is_reference(value) => secret(value, self.surroundings.env),
            _ => return Some(value),
        };
        judged.map_err(|message| self.found.mistake(path, message)).ok().map(Value::String)
    }

    /// Warns if a secret that the operator chose can be guessed, or an item in a list of secrets.
    fn judge_made_up(&mut self, path: &KeyPath, value: &Value) {
        if let Value::Array(values) = value {
            for (index, value) in values.iter().enumerate() {
                self.judge_made_up(&path.item(index), value);
            }
        }
        if let Some(Err(why)) = value.as_str().map(secrets::judge) {
            self.found.warning(path, why);
        }
    }
}

fn no_connection(name: &str, connections: &BTreeMap<String, Option<Connection>>) -> String {
    let known: Vec<&str> = connections.keys().map(String::as_str).collect();
    no_such("connection", name, &known)
}

/// `connection` is `None` if it has mistakes of its own.
fn alias_target(target: &str, connection: Option<&Connection>) -> Result<(), String> {
    let recipient = parse_recipient(target).map_err(|error| error.to_string())?;
    connection.map_or(Ok(()), |connection| {
        connection.provider.recipient_key(&recipient).map(drop).map_err(|error| error.to_string())
    })
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
