//! Building a connection: its settings are held against the placeholders of its recipe.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    Http,
    capabilities::{capabilities, receipts},
    credentials::{Credentials, MIN_SECRET},
    recipe::{Kind, Recipe},
    sound,
    template::{Name, Template, Values, escaped, plain},
    words,
};
use crate::{BaseUrl, ConfigError, Form, Provider, Secrets, Settings};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    recipe: Value,
    base_url: Option<String>,
    token: Option<SecretString>,
    #[serde(default)]
    webhook_secret: Secrets,
    #[serde(default)]
    callback_token: Secrets,
    #[serde(default)]
    settings: BTreeMap<String, Value>,
}

pub(super) fn build(settings: Settings) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(connection(settings)?))
}

pub(crate) fn connection(settings: Settings) -> Result<Http, ConfigError> {
    let config: Config = settings.parse()?;
    let recipe = read_recipe(config.recipe)?;
    let used = names_used(&recipe);
    let mut fixed = Values::default();
    let mut secrets = Vec::new();
    if let Some(url) = base_url(config.base_url, &recipe, &used)? {
        fixed.insert(Name::BaseUrl, url);
    }
    if let Some(token) = token(config.token, &used)? {
        fixed.insert(Name::Token, token.expose_secret());
        secrets.push(token);
    }
    for (name, value) in &config.settings {
        let text = setting(name, value)?;
        if text.len() >= MIN_SECRET {
            secrets.push(text.into());
        }
        fixed.insert(Name::Setting(name.clone()), value.clone());
    }
    require_settings(&used, &config.settings)?;
    refuse_unused(&used, &config.settings)?;
    require_callback(&recipe, &config.webhook_secret, &config.callback_token)?;
    let mut http = Http::assemble(recipe, fixed, secrets);
    let is_wrong = |value: &str| HeaderValue::from_str(value).is_err();
    if let Some(header) = http.headers.iter().find(|header| is_wrong(&header.value)) {
        let why = format!("a credential has characters that the header {} cannot have", header.name);
        return Err(ConfigError::new("token", why));
    }
    if config.webhook_secret.first().or(config.callback_token.first()).is_some() {
        http.capabilities.receipts = receipts(&http.recipe);
    }
    (http.webhook_secrets, http.callback_tokens) = (config.webhook_secret, config.callback_token);
    Ok(http)
}

/// Reads the setting `recipe`, and refuses a recipe whose parts do not fit each other.
///
/// # Errors
/// Names the key in the recipe.
pub(super) fn read_recipe(setting: Value) -> Result<Recipe, ConfigError> {
    let wrong = |why| ConfigError::new("recipe", why);
    let recipe = Recipe::read(setting).map_err(wrong)?;
    sound::judge(&recipe).map_err(wrong)?;
    Ok(recipe)
}

fn base_url(
    setting: Option<String>,
    recipe: &Recipe,
    used: &BTreeSet<Name>,
) -> Result<Option<String>, ConfigError> {
    let url = setting.or_else(|| recipe.base_url.clone());
    if let Some(text) = &url {
        BaseUrl::try_from(text.clone()).map_err(|why| ConfigError::new("base_url", why))?;
    } else if used.contains(&Name::BaseUrl) {
        let why = "is required: the recipe has {{base_url}} and no default for it";
        return Err(ConfigError::new("base_url", why));
    }
    Ok(url)
}

fn token(setting: Option<SecretString>, used: &BTreeSet<Name>) -> Result<Option<SecretString>, ConfigError> {
    let token = setting.filter(|token| !token.expose_secret().trim().is_empty());
    if token.is_none() && used.contains(&Name::Token) {
        let why = "expected a text that is not empty: the recipe has {{token}}";
        return Err(ConfigError::new("token", why));
    }
    Ok(token)
}

/// Returns one of the further settings as a text.
fn setting(name: &str, value: &Value) -> Result<String, ConfigError> {
    match value {
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Some(plain(value)),
        _ => None,
    }
    .ok_or_else(|| {
        let why = format!("{name}: expected a text that is not empty, a number, true or false");
        ConfigError::new("settings", why)
    })
}

/// Refuses a connection without a setting that the recipe uses.
fn require_settings(used: &BTreeSet<Name>, settings: &BTreeMap<String, Value>) -> Result<(), ConfigError> {
    let known: Vec<&str> = settings.keys().map(String::as_str).collect();
    let Some(name) = settings_in(used).find(|name| !settings.contains_key(*name)) else { return Ok(()) };
    let meant = words::nearest(name, &known)
        .map_or(String::new(), |found| format!("; is `{found}` there meant to be it?"));
    let why = format!("{name}: is required: the recipe has {{{{settings.{name}}}}}{meant}");
    Err(ConfigError::new("settings", why))
}

/// Refuses a setting that the recipe does not use: it would have no effect.
fn refuse_unused(used: &BTreeSet<Name>, settings: &BTreeMap<String, Value>) -> Result<(), ConfigError> {
    let known: Vec<&str> = settings_in(used).collect();
    let Some(name) = settings.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
    let why = if known.is_empty() {
        format!("{name}: the recipe has no {{{{settings.NAME}}}}")
    } else {
        format!("{name}: the recipe has no {{{{settings.{name}}}}}, only {}", known.join(", "))
    };
    Err(ConfigError::new("settings", why))
}

/// Refuses secrets for callbacks that the recipe does not read, and tokens that could be guessed.
fn require_callback(recipe: &Recipe, secrets: &Secrets, tokens: &Secrets) -> Result<(), ConfigError> {
    let callback = recipe.callback.as_ref();
    if secrets.first().is_some() && callback.is_none_or(|callback| callback.hmac.is_none()) {
        let why = "the recipe reads no signed callbacks: it has no callback.hmac";
        return Err(ConfigError::new("webhook_secret", why));
    }
    if tokens.first().is_some() && callback.is_none_or(|callback| callback.token.is_none()) {
        let why = "the recipe reads no callbacks with a token: it has no callback.token";
        return Err(ConfigError::new("callback_token", why));
    }
    tokens.check_callback_token()
}

/// Every placeholder that the recipe has.
pub(super) fn names_used(recipe: &Recipe) -> BTreeSet<Name> {
    let mut used = BTreeSet::new();
    let mut see = |_: &str, template: &Template| used.extend(template.names().cloned());
    for sending in Form::LADDER.iter().filter_map(|form| recipe.sending(*form)) {
        see("", sending.url);
        sending.fields.each("", &mut see);
    }
    if let Some(upload) = &recipe.upload {
        see("", &upload.url);
        upload.fields.each("", &mut see);
    }
    let auth = recipe.auth.iter().flat_map(|auth| {
        let pairs = [&auth.header, &auth.query].into_iter().flatten().map(|(_, value)| value);
        let basic = auth.basic.iter().flat_map(|(user, password)| [user, password]);
        auth.bearer.iter().chain(pairs).chain(basic)
    });
    for template in auth.chain(recipe.headers.values()).chain(recipe.check.as_ref().map(|check| &check.url)) {
        see("", template);
    }
    used
}

/// The names of the further settings among placeholders.
pub(super) fn settings_in(used: &BTreeSet<Name>) -> impl Iterator<Item = &str> {
    used.iter().filter_map(|name| if let Name::Setting(name) = name { Some(name.as_str()) } else { None })
}

impl Http {
    /// `fixed` has the values that the recipe needs, or stand-ins for them.
    pub(super) fn assemble(recipe: Recipe, fixed: Values, mut secrets: Vec<SecretString>) -> Self {
        let Credentials { headers, query, secrets: parts } = Credentials::new(recipe.auth.as_ref(), &fixed);
        secrets.extend(parts);
        // An answer may repeat a secret as it stands in the URL.
        let escaped: Vec<SecretString> = secrets
            .iter()
            .map(|secret| escaped(secret.expose_secret()))
            .filter(|text| text.contains('%'))
            .map(SecretString::from)
            .collect();
        secrets.extend(escaped);
        let kinds = recipe.recipients.clone().unwrap_or_else(|| Kind::usual(recipe.recipient));
        Self {
            capabilities: capabilities(&recipe, &kinds),
            server: server(&recipe, &fixed),
            recipe,
            fixed,
            headers,
            query,
            secrets,
            webhook_secrets: Secrets::default(),
            callback_tokens: Secrets::default(),
            kinds,
        }
    }
}

/// A URL of the server to which notes are sent.
fn server(recipe: &Recipe, fixed: &Values) -> Option<Url> {
    let text = if recipe.url.begins_with_base_url() {
        Template::parse("{{base_url}}").ok()?.text(fixed)?
    } else {
        recipe.url.beginning().to_owned()
    };
    Url::parse(&text).ok()
}
