//! Environment variables that are a layer of the configuration, and warnings about others that look like it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Audio, Delivery, Dialects, Fetch, Server, Storage, Telemetry, path::KeyPath, words::keys};
use crate::model::spelling::nearest;

/// All variables of voicegate begin like this.
pub const OURS: &str = "VOICEGATE_";

/// `VOICEGATE__SERVER__LISTEN` sets `server.listen`.
const LAYER: &str = "VOICEGATE__";

/// Variables that the commands themselves read.
const OF_COMMANDS: [&str; 3] = ["VOICEGATE_URL", "VOICEGATE_API_KEY", "VOICEGATE_CONFIG"];

/// Variables that tests and benchmarks read.
const OF_TESTS: [&str; 2] = ["VOICEGATE_TEST_", "VOICEGATE_BENCH_"];

/// The configuration key that a variable sets.
pub fn path(name: &str) -> Option<KeyPath> {
    let key = name.strip_prefix(LAYER)?;
    Some(KeyPath::of(&key.to_lowercase().replace("__", ".")))
}

/// Adds a warning for each variable that is not read although its name suggests that voicegate should. `merged` is the
/// configuration, which may name variables for its secrets.
pub fn unread(variables: &BTreeMap<String, String>, merged: &Value) -> Vec<String> {
    let mut named = Vec::new();
    collect_named(merged, &mut named);
    let unread = variables.iter().filter(|(name, value)| {
        let elsewhere = OF_COMMANDS.contains(&name.as_str())
            || OF_TESTS.iter().any(|lead| name.starts_with(lead))
            || named.contains(&name.as_str())
            || is_of_a_cluster(name, value);
        // Variables of the layer are reported where they are read.
        name.starts_with(OURS) && path(name).is_none() && !elsewhere
    });
    unread.map(|(name, _)| names_no_key(name)).collect()
}

/// The warning about such a variable, with the name that was probably meant.
pub fn names_no_key(name: &str) -> String {
    let why = format!("{name}: this variable names no key, so it has no effect");
    match meant(name) {
        Some(meant) => format!("{why}; did you mean `{meant}`?"),
        None => format!("{why}; variables that set keys are written like VOICEGATE__SERVER__LISTEN"),
    }
}

/// The variable that was probably meant: the most similar one, or the only one with this ending.
fn meant(name: &str) -> Option<String> {
    let known: Vec<String> = known();
    let listed: Vec<&str> = known.iter().map(String::as_str).collect();
    let lower: Vec<String> = known.iter().map(|name| name.to_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let end = format!("__{}", name.trim_start_matches(LAYER).trim_start_matches(OURS));
    let mut ending = listed.iter().filter(|known| known.ends_with(&end));
    match (ending.next(), ending.next()) {
        (Some(only), None) => Some((*only).to_owned()),
        _ => nearest(name, &lower).map(str::to_uppercase),
    }
}

/// All variables that set a key outside the tenants, and those that commands read.
fn known() -> Vec<String> {
    let sections = [
        ("SERVER", keys::<Server>()),
        ("STORAGE", keys::<Storage>()),
        ("AUDIO", keys::<Audio>()),
        ("FETCH", keys::<Fetch>()),
        ("DELIVERY", keys::<Delivery>()),
        ("DIALECTS", keys::<Dialects>()),
        ("TELEMETRY", keys::<Telemetry>()),
    ];
    let of_layer = sections.into_iter().flat_map(|(section, keys)| {
        keys.into_iter().map(move |key| format!("{LAYER}{section}__{}", key.to_uppercase()))
    });
    of_layer.chain(OF_COMMANDS.map(str::to_owned)).collect()
}

/// The names in all `{ env = "NAME" }`.
fn collect_named<'a>(value: &'a Value, named: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            named.extend(map.get("env").and_then(Value::as_str));
            map.values().for_each(|value| collect_named(value, named));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_named(value, named)),
        _ => {}
    }
}

/// Kubernetes sets such variables in every process if there is a service named voicegate:
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn is_of_a_cluster(name: &str, value: &str) -> bool {
    let of_port = |name: &str| name.ends_with("_PORT") || name.contains("_PORT_");
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (of_port(name) && (value.contains("://") || name.contains("_TCP_") || name.contains("_UDP_")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_variable_that_nobody_reads_is_reported_with_what_was_meant() {
        for (name, meant) in [
            ("VOICEGATE_SERVER__LISTEN", "VOICEGATE__SERVER__LISTEN"),
            ("VOICEGATE_SERVER_LISTEN", "VOICEGATE__SERVER__LISTEN"),
            ("VOICEGATE_LISTEN", "VOICEGATE__SERVER__LISTEN"),
            ("VOICEGATE_DATABASE", "VOICEGATE__STORAGE__DATABASE"),
            ("VOICEGATE__SERVER__LISTN", "VOICEGATE__SERVER__LISTEN"),
            ("VOICEGATE_APIKEY", "VOICEGATE_API_KEY"),
        ] {
            assert!(names_no_key(name).ends_with(&format!("did you mean `{meant}`?")), "{name}");
        }
        assert!(names_no_key("VOICEGATE_SOMETHING_ELSE").ends_with("written like VOICEGATE__SERVER__LISTEN"));
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let variables = [
            ("VOICEGATE_URL", "http://127.0.0.1:8080"),
            ("VOICEGATE_API_KEY", "vg_"),
            ("VOICEGATE_TEST_POSTGRES", "x"),
            ("VOICEGATE_SECRET_OF_A", "x"),
            ("VOICEGATE__SERVER__LISTEN", "x"),
            ("VOICEGATE_PORT", "tcp://10.0.0.1:80"),
            ("VOICEGATE_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("VOICEGATE_SERVICE_HOST", "10.0.0.1"),
            ("VOICEGATE_LOG", "json"),
            ("PATH", "/bin"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let merged = json!({ "tenants": { "a": { "api_keys": [{ "env": "VOICEGATE_SECRET_OF_A" }] } } });
        assert_eq!(unread(&variables, &merged), [names_no_key("VOICEGATE_LOG")]);
    }
}
