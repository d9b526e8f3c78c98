//! The API keys and webhooks of tenants.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue};
use secrecy::{SecretSlice, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    build::Build,
    forbidden::way_out,
    path::KeyPath,
    secrets::{self, secret},
    tenants::{Webhook, WebhookDialect, hash_key},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebhook {
    /// Read as text, because an error of serde about a URL would repeat it, and it may contain a token.
    url: String,
    secrets: Vec<Value>,
    #[serde(default)]
    dialect: WebhookDialect,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
}

/// Headers of every event, which the gateway sets itself.
const OWN_HEADERS: [&str; 6] =
    ["host", "content-type", "content-length", "transfer-encoding", "connection", "traceparent"];

impl Build<'_> {
    pub fn webhook(&mut self, path: &KeyPath, raw: RawWebhook) -> Option<Webhook> {
        let url = self.webhook_url(&path.key("url"), &raw.url);
        let headers = self.webhook_headers(&path.key("headers"), &raw.headers);
        let path = path.key("secrets");
        if raw.secrets.is_empty() {
            self.found.mistake(&path, "expected at least one; `voicegate keys webhook` makes one");
        }
        let (mut keys, mut texts) = (Vec::new(), Vec::new());
        for (index, value) in raw.secrets.iter().enumerate() {
            let path = path.item(index);
            let read = secret(value, self.surroundings.env).and_then(|text| {
                if raw.dialect.is_standard() {
                    keys.push(webhook_key(&text)?);
                } else if let Err(why) = secrets::judge(&text) {
                    // The bot may have this secret already, so a weak one is allowed.
                    self.found.warning(&path, why);
                }
                texts.push(SecretString::from(text));
                Ok(())
            });
            if let Err(message) = read {
                self.found.mistake(&path, message);
            }
        }
        let secret = texts.into_iter().next().unwrap_or_default();
        Some(Webhook { url: url?, keys, dialect: raw.dialect, secret, headers })
    }

    fn webhook_headers(
        &mut self,
        path: &KeyPath,
        raw: &BTreeMap<String, Value>,
    ) -> Vec<(HeaderName, SecretString)> {
        let mut headers = Vec::new();
        for (name, value) in raw {
            let path = path.key(name);
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
            let Some(parsed) = parsed.filter(|name| !OWN_HEADERS.contains(&name.as_str())) else {
                self.found
                    .mistake(&path, "expected the name of a header that the gateway does not set itself");
                continue;
            };
            match secret(value, self.surroundings.env) {
                Ok(text) if HeaderValue::from_str(&text).is_err() => {
                    self.found.mistake(&path, "expected the value of a header");
                }
                Ok(text) => headers.push((parsed, text.into())),
                Err(message) => self.found.mistake(&path, message),
            }
        }
        headers
    }

    /// The address, if `[fetch]` allows events to be delivered to it.
    fn webhook_url(&mut self, path: &KeyPath, text: &str) -> Option<Url> {
        let url = text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else {
            let why = match secrets::placeholder(text) {
                Some(_) => "variables inside a text are not replaced; write the address itself",
                None => "expected an http or https URL such as \"https://bot.example/hooks\"",
            };
            self.found.mistake(path, why);
            return None;
        };
        if let Err(why) = self.surroundings.rules.check(&url) {
            let origin = url.origin().ascii_serialization();
            self.found.mistake(path, format!("{origin} {}", way_out(&why, &self.surroundings.rules)));
        }
        Some(url)
    }

    pub fn keys(&mut self, path: &KeyPath, raw: &[Value]) -> Vec<[u8; 32]> {
        if raw.is_empty() {
            self.found.mistake(path, "expected at least one key; `voicegate keys new` makes one");
        }
        let mut keys = Vec::new();
        for (index, value) in raw.iter().enumerate() {
            let path = path.item(index);
            match secret(value, self.surroundings.env).and_then(|text| self.key(&path, value, &text)) {
                Ok(hash) if self.keys.contains(&hash) => {
                    self.found.mistake(&path, "this key is in use already");
                }
                Ok(hash) => {
                    self.keys.push(hash);
                    keys.push(hash);
                }
                Err(message) => self.found.mistake(&path, message),
            }
        }
        keys
    }

    /// The hash of a key, if the key cannot be guessed. A weak key that is kept elsewhere may belong to another
    /// program, so it causes only a warning.
    fn key(&mut self, path: &KeyPath, value: &Value, text: &str) -> Result<[u8; 32], String> {
        const FORM: &str = "expected sha256: and 64 hexadecimal digits";
        let lead = text.get(..6).unwrap_or_default();
        if lead.eq_ignore_ascii_case("sha256") {
            let mut bytes = [0; 32];
            let digits = text.strip_prefix("sha256:").ok_or(FORM)?;
            hex::decode_to_slice(digits, &mut bytes).map_err(|_| FORM)?;
            return Ok(bytes);
        }
        match secrets::judge_key(text) {
            Err(why) if value.is_string() => return Err(why),
            Err(why) => self.found.warning(path, why),
            Ok(()) => {}
        }
        Ok(hash_key(text))
    }
}

/// The key in a secret of Standard Webhooks.
fn webhook_key(text: &str) -> Result<SecretSlice<u8>, String> {
    let key = text.strip_prefix("whsec_").and_then(|key| BASE64_STANDARD.decode(key).ok());
    // The specification requires 24 to 64 bytes. Fewer would be weak; more do no harm.
    key.filter(|key| key.len() >= 16).map(SecretSlice::from).ok_or_else(|| {
        "expected whsec_ and base64 of at least 16 bytes; `voicegate keys webhook` makes one".to_owned()
    })
}
