//! A connection's own settings, on their way from the configuration to an adapter.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The keys of `[tenants.T.connections.C]` that belong to the adapter; secrets already resolved.
pub struct Settings(Map<String, Value>);

impl Settings {
    pub fn new(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// Reads them as the adapter's own `Config`.
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

/// serde quotes the offending value (`invalid type: string "hunter2", expected ...`); a setting may be a secret.
fn without_values(message: &str) -> String {
    for lead in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(lead) {
            let expected = rest.rsplit_once(", expected ").map_or("another value", |(_, expected)| expected);
            return format!("expected {expected}");
        }
    }
    message.to_owned()
}

/// A setting that an adapter cannot work with.
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
