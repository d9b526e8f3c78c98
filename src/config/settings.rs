//! Passes a connection's own settings to its adapter until all of its mistakes are found.

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

/// Builds the connection. A setting that its adapter refuses is reported, and replaced by the example of the adapter or
/// left out, so that the next mistake is found too. `reported` contains the settings that were already reported, and gets
/// the others.
///
/// Returns `None` if nothing could be built; then there is at least one mistake.
pub fn build(
    descriptor: &Descriptor,
    mut own: Map<String, Value>,
    path: &KeyPath,
    reported: &mut BTreeSet<String>,
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
            reported.extend(nearest(&name, &known).map(str::to_owned));
        } else if reported.insert(name.clone()) {
            let at = if name.is_empty() { path.clone() } else { path.key(&name) };
            match missing_field(&message) {
                Some(_) => found.mistake(&at, "is required, and missing"),
                None => found.mistake(&at, expected(&message, own.get(&name).and_then(Value::as_str))),
            }
        }
        match example.get(&name) {
            Some(value) if own.get(&name) != Some(value) => drop(own.insert(name, value.clone())),
            // There is no setting left to remove.
            _ => drop(own.remove(&name)?),
        }
    }
}
