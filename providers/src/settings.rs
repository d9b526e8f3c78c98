//! The settings of a connection, passed from the configuration to an adapter.

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Map, Value};
use url::{Origin, Url};

/// The keys of `[tenants.T.connections.C]` that belong to the adapter; secrets already resolved.
pub struct Settings(Map<String, Value>);

impl Settings {
    pub fn new(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// Returns the raw settings.
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// Parses the settings as the adapter's `Config`.
    ///
    /// # Errors
    /// Names the key and what was expected. Values are never part of the message: they may be secrets.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(Value::Object(self.0)).map_err(|error| {
            let path = error.path().to_string();
            let key = if path == "." { String::new() } else { path };
            ConfigError::new(key, without_values(&error.into_inner().to_string()))
        })
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// serde quotes the offending value (`invalid type: string "hunter2", expected ...`); a setting may be a
/// secret.
pub fn without_values(message: &str) -> String {
    for lead in ["invalid type: ", "invalid value: ", "unknown variant "] {
        if let Some(rest) = message.strip_prefix(lead) {
            let expected = rest.rsplit_once(", expected ").map_or("another value", |(_, expected)| expected);
            return format!("expected {expected}");
        }
    }
    message.to_owned()
}

/// Refuses settings that are blank.
///
/// # Errors
/// Names the first one.
pub(crate) fn require_text(settings: &[(&str, &str)]) -> Result<(), ConfigError> {
    match settings.iter().find(|(_, value)| value.trim().is_empty()) {
        Some((key, _)) => Err(ConfigError::new(*key, "expected a text that is not empty")),
        None => Ok(()),
    }
}

/// Makes a header of a secret, so that it is shown in no log.
///
/// # Errors
/// Names the setting `key`, which has characters that a header cannot have.
pub(crate) fn secret_header(key: &str, secret: &SecretString) -> Result<HeaderValue, ConfigError> {
    let mut value = HeaderValue::from_str(secret.expose_secret())
        .map_err(|_| ConfigError::new(key, "expected characters that an HTTP header takes"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Shortest `callback_token`. The token is the only proof that a receipt is the provider's.
const MIN_CALLBACK_TOKEN: usize = 16;

/// A secret, or a list during a rotation. The first one is in use.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<SecretString>);

impl Secrets {
    pub fn iter(&self) -> std::slice::Iter<'_, SecretString> {
        self.0.iter()
    }

    pub fn first(&self) -> Option<&SecretString> {
        self.0.first()
    }

    /// Refuses tokens of the setting `callback_token` that could be guessed.
    ///
    /// # Errors
    /// Names the setting.
    pub(crate) fn check_callback_token(&self) -> Result<(), ConfigError> {
        let short = |token: &SecretString| token.expose_secret().chars().count() < MIN_CALLBACK_TOKEN;
        if self.iter().any(short) {
            let expected = format!("expected at least {MIN_CALLBACK_TOKEN} characters, chosen at random");
            return Err(ConfigError::new("callback_token", expected));
        }
        Ok(())
    }
}

impl<'a> IntoIterator for &'a Secrets {
    type Item = &'a SecretString;
    type IntoIter = std::slice::Iter<'a, SecretString>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = match Value::deserialize(deserializer)? {
            Value::Array(items) => items,
            one => vec![one],
        };
        let secret =
            |item: &Value| item.as_str().map(str::trim).filter(|text| !text.is_empty()).map(Into::into);
        let secrets: Option<Vec<SecretString>> = items.iter().map(secret).collect();
        let secrets = secrets.filter(|secrets| !secrets.is_empty());
        secrets.map(Self).ok_or_else(|| D::Error::custom("expected a secret, or a list of secrets"))
    }
}

/// The error for an invalid setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct ConfigError {
    /// Relative to the connection; empty when the message names the key.
    pub key: String,
    pub message: String,
}

impl ConfigError {
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// The root URL of a provider's API: the `base_url` of every adapter. It comes from the operator and is trusted, so
/// plain HTTP and private addresses are allowed.
#[derive(Clone, Debug)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Returns the URL of a path below the base. Each segment is escaped, so an id cannot lead elsewhere.
    pub fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    pub fn origin(&self) -> Origin {
        self.0.origin()
    }

    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let url = Url::parse(&text).map_err(|_| "expected a URL like https://api.example.com")?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("expected an http or https URL");
        }
        // Both would end up in places where the rest of the URL is shown.
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err("expected a URL without user name, password and query");
        }
        Ok(Self(url))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn base_url_may_have_a_trailing_slash() {
        for base in ["https://api.example.com/partner", "https://api.example.com/partner/"] {
            let url = BaseUrl::try_from(base.to_owned()).expect("a base URL").join(&["v3", "a/b"]);
            assert_eq!(url.as_str(), "https://api.example.com/partner/v3/a%2Fb");
        }
    }

    #[test]
    fn a_base_url_is_plain_http_or_https() {
        for base in
            ["api.example.com", "ftp://api.example.com", "https://u:p@example.com", "https://e.com/?k=v"]
        {
            assert!(BaseUrl::try_from(base.to_owned()).is_err(), "{base}");
        }
    }

    #[test]
    fn secrets_are_one_or_several_and_never_empty() {
        let count =
            |value: serde_json::Value| serde_json::from_value::<Secrets>(value).map(|all| all.iter().count());
        assert_eq!(count("one".into()).ok(), Some(1));
        assert_eq!(count(serde_json::json!(["one", "two"])).ok(), Some(2));
        for wrong in [serde_json::json!([]), "".into(), 7.into(), serde_json::json!(["one", ""])] {
            assert_eq!(
                count(wrong).map_err(|e| e.to_string()),
                Err("expected a secret, or a list of secrets".into())
            );
        }
    }

    #[test]
    fn settings_error_names_the_key_and_never_the_value() {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Choice {
            One,
        }
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only its errors are looked at")]
        struct Config {
            number: u8,
            choice: Choice,
        }
        for (key, map) in [
            ("number", serde_json::json!({"number": "hunter2", "choice": "one"})),
            ("choice", serde_json::json!({"number": 1, "choice": "hunter2"})),
        ] {
            let Value::Object(map) = map else { unreachable!("an object") };
            let error = Settings::new(map).parse::<Config>().expect_err("a wrong value");
            assert_eq!(error.key, key);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
