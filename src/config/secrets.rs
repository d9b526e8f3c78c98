//! Reads the secrets of a configuration, judges their strength, and finds those that others can read.

use std::path::Path;

use serde_json::{Map, Value};
use url::Url;
use voicegate_providers as providers;

use super::{
    path::KeyPath,
    strength::{is_hash, is_strong},
};

/// The advice about a secret that the operator chooses.
const STRONG: &str = "can be guessed: it has fewer than 128 random bits by its form";

/// Reads one secret: a literal, `{ env = "NAME" }` or `{ file = "PATH" }`.
///
/// # Errors
/// Fails with a text that says what is missing. It never contains the secret.
pub fn secret(value: &Value, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (found, from) = match value {
        Value::String(literal) => (literal.clone(), None),
        Value::Object(map) => from_elsewhere(map, env)?,
        _ => return Err("expected a string, { env = \"NAME\" } or { file = \"PATH\" }".to_owned()),
    };
    // Files often end with a line break, and so does the output of some commands.
    let found = found.trim_end_matches(['\r', '\n']);
    if found.is_empty() {
        return Err("the secret is empty".to_owned());
    }
    match (placeholder(found), from) {
        (None, _) => Ok(found.to_owned()),
        (Some(name), None) => Err(not_replaced(&name)),
        (Some(_), Some(from)) => Err(format!(
            "{from} holds the name of a variable in ${{...}} instead of a secret; put the secret itself there"
        )),
    }
}

fn from_elsewhere(
    map: &Map<String, Value>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, Option<String>), String> {
    let mut entries = map.iter();
    match (entries.next(), entries.next()) {
        (Some((key, Value::String(name))), None) if key == "env" => env(name)
            .map(|found| (found, Some(format!("the environment variable {name}"))))
            .ok_or_else(|| format!("the environment variable {name} is not set")),
        (Some((key, Value::String(path))), None) if key == "file" => std::fs::read_to_string(path)
            .map(|found| (found, Some(format!("the file {path}"))))
            .map_err(|error| format!("the file {path} cannot be read: {}", error.kind())),
        _ => Err("expected exactly one of { env = \"NAME\" } and { file = \"PATH\" }".to_owned()),
    }
}

/// Whether `value` refers to a secret that is kept elsewhere.
pub fn is_reference(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.contains_key("env") || map.contains_key("file"))
}

/// The error for a text that was meant as the name of a variable.
pub fn not_replaced(name: &str) -> String {
    format!("variables inside a text are not replaced; write {{ env = \"{name}\" }} instead")
}

/// The variable that a text was meant to be replaced by: `${NAME}` anywhere in it, or `$NAME`, `%NAME%`, `{{ NAME }}`
/// or `env:NAME` as the whole text. Returns the word `NAME` if the text found may be a secret.
pub fn placeholder(text: &str) -> Option<String> {
    let braced = text.split("${").skip(1).find_map(|rest| rest.split_once('}').map(|(inside, _)| inside));
    if let Some(inside) = braced {
        let inside = inside.trim().trim_start_matches("env:").trim_start_matches("env.");
        let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
        return is_name(&inside[..end]).then(|| inside[..end].to_owned());
    }
    let text = text.trim();
    let whole = text
        .strip_prefix("$env:")
        .or_else(|| text.strip_prefix("env:"))
        .or_else(|| text.strip_prefix('$'))
        .or_else(|| text.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')))
        .or_else(|| text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")))?;
    let name = whole.trim().trim_start_matches('.');
    let shouts = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    match (is_name(name), shouts) {
        (true, true) => Some(name.to_owned()),
        (true, false) => Some("NAME".to_owned()),
        (false, _) => None,
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Checks the strength of a secret that strangers may try to guess.
///
/// # Errors
/// Fails with advice on what to do instead.
pub fn judge(text: &str) -> Result<(), String> {
    if is_strong(text) { Ok(()) } else { Err(format!("{STRONG}; make one with `openssl rand -hex 32`")) }
}

/// Checks the strength of an API key that is written as a literal.
///
/// # Errors
/// Fails with advice on what to do instead.
pub fn judge_key(text: &str) -> Result<(), String> {
    if is_hash(text) {
        return Err("64 hexadecimal digits are the hash of a key and not the key: write \"sha256:HEX\"; `voicegate keys \
                    new` makes a key and its hash"
            .to_owned());
    }
    if is_strong(text) {
        return Ok(());
    }
    Err(format!("{STRONG}; `voicegate keys new` makes one, and its \"sha256:HEX\" is what belongs here"))
}

/// All secrets that are written as literals. Hashes are not secrets.
pub fn literals(merged: &Value) -> Vec<KeyPath> {
    let mut found = Vec::new();
    let at = |path: &str| merged.pointer(path);
    if at("/storage/database").and_then(Value::as_str).is_some_and(has_password) {
        found.push(KeyPath::of("storage.database"));
    }
    if at("/server/proxy").and_then(Value::as_str).is_some_and(has_password) {
        found.push(KeyPath::of("server.proxy"));
    }
    let token = KeyPath::of("server.metrics_token");
    collect(at("/server/metrics_token"), &token, &mut found);
    for (name, tenant) in merged.get("tenants").and_then(Value::as_object).into_iter().flatten() {
        let path = KeyPath::of("tenants").key(name);
        collect(tenant.get("api_keys"), &path.key("api_keys"), &mut found);
        collect(tenant.pointer("/webhook/secrets"), &path.key("webhook").key("secrets"), &mut found);
        for (name, value) in
            tenant.pointer("/webhook/headers").and_then(Value::as_object).into_iter().flatten()
        {
            collect(Some(value), &path.key("webhook").key("headers").key(name), &mut found);
        }
        for kind in ["speech", "transcription"] {
            let servers = tenant.get(kind).and_then(Value::as_object);
            for (name, server) in servers.into_iter().flatten() {
                collect(server.get("api_key"), &path.key(kind).key(name).key("api_key"), &mut found);
            }
        }
        let connections = tenant.get("connections").and_then(Value::as_object);
        for (name, connection) in connections.into_iter().flatten() {
            let path = path.key("connections").key(name);
            let provider = connection.get("provider").and_then(Value::as_str).unwrap_or_default();
            for secret in providers::find(provider).map_or(&[][..], |descriptor| descriptor.secrets) {
                collect(connection.get(secret), &path.key(secret), &mut found);
            }
        }
    }
    found
}

fn collect(value: Option<&Value>, at: &KeyPath, found: &mut Vec<KeyPath>) {
    match value {
        Some(Value::String(text)) if !text.starts_with("sha256:") => found.push(at.clone()),
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                collect(Some(item), &at.item(index), found);
            }
        }
        _ => {}
    }
}

fn has_password(url: &str) -> bool {
    url.parse::<Url>()
        .is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password"))
}

/// The permissions of a file that others can read, as in `644`.
#[cfg(unix)]
pub fn open_to_others(file: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let facts = std::fs::metadata(file).ok()?;
    if !facts.is_file() {
        return None; // a pipe from the shell: `--config <(...)`
    }
    let mode = facts.mode() & 0o777;
    // A file that belongs to root and that this user can read only through its group is as closed as possible.
    let needs_group = mode & 0o007 == 0 && facts.uid() != rustix::process::geteuid().as_raw();
    (mode & 0o077 != 0 && !needs_group).then(|| format!("{mode:o}"))
}

#[cfg(not(unix))]
pub fn open_to_others(_: &Path) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_comes_from_three_places() {
        let env = |name: &str| (name == "TOKEN").then(|| "from-env".to_owned());
        assert_eq!(secret(&"literal".into(), &env), Ok("literal".to_owned()));
        assert_eq!(secret(&json!({ "env": "TOKEN" }), &env), Ok("from-env".to_owned()));
        assert!(secret(&json!({ "env": "OTHER" }), &env).is_err_and(|e| e.contains("OTHER")));
        assert!(secret(&json!({ "env": "TOKEN", "file": "x" }), &env).is_err());
        assert!(secret(&"".into(), &env).is_err());
    }

    #[test]
    fn the_name_of_a_variable_is_no_secret() {
        let env = |_: &str| Some("${TOKEN}".to_owned());
        for (text, name) in [
            ("${LINQ_TOKEN}", "LINQ_TOKEN"),
            ("${linq_token}", "linq_token"),
            ("${LINQ_TOKEN:-none}", "LINQ_TOKEN"),
            ("${env:LINQ_TOKEN}", "LINQ_TOKEN"),
            ("Bearer ${LINQ_TOKEN}", "LINQ_TOKEN"),
            ("postgres://me:${PASSWORD}@db/x", "PASSWORD"),
            ("$LINQ_TOKEN", "LINQ_TOKEN"),
            ("$env:LINQ_TOKEN", "LINQ_TOKEN"),
            ("%LINQ_TOKEN%", "LINQ_TOKEN"),
            ("{{ LINQ_TOKEN }}", "LINQ_TOKEN"),
            ("env:LINQ_TOKEN", "LINQ_TOKEN"),
            ("$ecret", "NAME"),
        ] {
            let error = secret(&text.into(), &env).expect_err(text);
            assert!(error.ends_with(&format!("write {{ env = \"{name}\" }} instead")), "{error}");
        }
        for text in ["pa$$word", "$2b$12$abc", "100%", "a{b}", "$", "%%", "tok${en"] {
            assert_eq!(secret(&text.into(), &env), Ok(text.to_owned()));
        }
        let error = secret(&json!({ "env": "LINQ_TOKEN" }), &env).expect_err("not replaced");
        assert!(error.starts_with("the environment variable LINQ_TOKEN holds"), "{error}");
    }

    #[test]
    fn secrets_that_are_written_out_are_found() {
        let merged = json!({
            "server": { "metrics_token": "m", "proxy": "http://me:pw@proxy:3128" },
            "storage": { "database": "postgres://me:pw@db/x" },
            "tenants": { "a": {
                "api_keys": ["k", "sha256:00", { "env": "K" }],
                "webhook": { "url": "https://bot.example", "secrets": [{ "file": "f" }, "w"], "headers": { "x-key": "h" } },
                "speech": { "anna": { "api_key": "s" }, "otto": { "api_key": { "env": "S" } } },
                "transcription": { "ears": { "api_key": "t" } },
                "connections": {
                    "imessage": { "provider": "linq", "token": "t", "webhook_secret": ["one", { "env": "TWO" }] },
                    "whatsapp": { "provider": "wawp", "instance_id": "i", "access_token": { "env": "T" } },
                },
            } },
        });
        let found: Vec<String> = literals(&merged).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "storage.database",
                "server.proxy",
                "server.metrics_token",
                "tenants.a.api_keys[0]",
                "tenants.a.webhook.secrets[1]",
                "tenants.a.webhook.headers.x-key",
                "tenants.a.speech.anna.api_key",
                "tenants.a.transcription.ears.api_key",
                "tenants.a.connections.imessage.token",
                "tenants.a.connections.imessage.webhook_secret[0]",
            ]
        );
        for open in ["sqlite://data/voicegate.db", "postgres://me@db/x"] {
            assert_eq!(literals(&json!({ "storage": { "database": open } })), []);
        }
    }
}
