//! A connection's own settings, given to its adapter until everything that is wrong with them is told.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value};
use voicegate_providers::{ConfigError, Descriptor, Provider, Settings};

use super::{
    build::COMMON_KEYS,
    findings::Findings,
    path::KeyPath,
    words::{expected, missing_field, names, no_such, unknown_field},
};
use crate::model::spelling::nearest;

/// Builds the connection. A setting that its adapter refuses is told, and replaced by the adapter's example or left out, so
/// that the next one is found, too. `told` has the settings about which something was said, and gets the others.
///
/// `None` where nothing could be built; then there is at least one mistake.
pub fn build(
    descriptor: &Descriptor,
    mut own: Map<String, Value>,
    path: &KeyPath,
    told: &mut BTreeSet<String>,
    found: &mut Findings,
) -> Option<Arc<dyn Provider>> {
    let example: Map<String, Value> = serde_json::from_str(descriptor.example).unwrap_or_default();
    loop {
        let ConfigError { key, message } = match (descriptor.build)(Settings::new(own.clone())) {
            Ok(provider) => return Some(provider),
            Err(error) => error,
        };
        let name = unknown_field(&message).or_else(|| missing_field(&message)).unwrap_or(&key);
        let name = name.split(['.', '[']).next().unwrap_or_default().to_owned();
        if unknown_field(&message).is_some() {
            let known: Vec<&str> = names(&message).into_iter().chain(COMMON_KEYS.iter().copied()).collect();
            found.mistake(&path.key(&name), no_such("key", &name, &known));
            // Its absence is the same mistake.
            told.extend(nearest(&name, &known).map(str::to_owned));
        } else if told.insert(name.clone()) {
            let at = if name.is_empty() { path.clone() } else { path.key(&name) };
            match missing_field(&message) {
                Some(_) => found.mistake(&at, "is required, and missing"),
                None => found.mistake(&at, expected(&message, own.get(&name).and_then(Value::as_str))),
            }
        }
        match example.get(&name) {
            Some(value) if own.get(&name) != Some(value) => drop(own.insert(name, value.clone())),
            // Nothing is left to take away.
            _ => drop(own.remove(&name)?),
        }
    }
}
