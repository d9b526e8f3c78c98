//! Prints the reference of all keys in `docs/configuration.md` from `config.toml` and from the code that reads it.
//!
//! The sample file has keys, defaults and meanings. The code says which keys it accepts, and tests compare the two, so that
//! neither can have a key that the other lacks.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Map, Value, json};
use voicegate::config::{
    RateOrOff, Span24,
    accepted::{COMMON_KEYS, DEFAULTS, Table, names},
};
use voicegate_providers::{self as providers, Descriptor, Settings};

/// Sections in which a change takes effect only at the next start.
const AT_THE_START: [&str; 4] = ["server", "storage", "audio", "telemetry"];

/// A comment in the sample that begins like this belongs to a key whose value there is an example, not a default.
const NO_DEFAULT: &str = "no default: ";

/// One key of the sample.
#[derive(Debug, PartialEq)]
struct Key {
    /// The table that contains it: `server`, `tenants.demo.connections.imessage`.
    table: String,
    name: String,
    value: String,
    /// Whether the key is commented out.
    optional: bool,
    meaning: String,
}

/// A section of the page, with one table of keys.
struct Part {
    title: String,
    lead: String,
    keys: Vec<Key>,
    /// The error text of the code for a table of this kind that it refuses.
    refusal: Box<dyn Fn(Value) -> String>,
    /// The keys that must be present.
    required: Vec<String>,
}

/// Returns the whole reference as Markdown.
pub fn print() -> String {
    parts().iter().map(print_part).collect()
}

fn parts() -> Vec<Part> {
    let mut keys = read(DEFAULTS);
    let mut take = |belongs: &dyn Fn(&Key) -> bool| {
        let (taken, rest) = std::mem::take(&mut keys).into_iter().partition(|key| belongs(key));
        keys = rest;
        taken
    };
    let mut parts = vec![
        section(Table::Server, "server", &mut take),
        section(Table::Storage, "storage", &mut take),
        section(Table::Audio, "audio", &mut take),
        section(Table::Fetch, "fetch", &mut take),
        section(Table::Delivery, "delivery", &mut take),
        section(Table::Dialects, "dialects", &mut take),
        section(Table::Telemetry, "telemetry", &mut take),
    ];
    let common = |key: &Key| is_connection(&key.table) && COMMON_KEYS.contains(&key.name.as_str());
    let common = Part {
        title: "Every connection".to_owned(),
        lead: "`[tenants.TENANT.connections.CONNECTION]`, whatever its provider. A change takes effect at the next \
               reload."
            .to_owned(),
        keys: once(take(&common)),
        refusal: Box::new(|value| Table::Connection.refusal(value)),
        required: vec!["provider".to_owned()],
    };
    let own = providers::PROVIDERS.iter().map(|descriptor| connection(descriptor));
    let servers = [
        audio_servers(
            (Table::Speech, "speech", "A speech server"),
            "speaks the texts of `audio.speech`: one table for each server. Everything besides `kind` has a default.",
            &mut take,
        ),
        audio_servers(
            (Table::Transcription, "transcription", "A transcription server"),
            "writes down what received voice notes say: one table for each server.",
            &mut take,
        ),
    ];
    parts.push(Part {
        title: "A tenant".to_owned(),
        lead: "`[tenants.TENANT]` has the API keys of a tenant and the providers that its notes go through. Without a \
               tenant, nobody can call. A change takes effect at the next reload; notes accepted before it keep their \
               route."
            .to_owned(),
        keys: tenant(take(&|_| true)),
        refusal: Box::new(|value| Table::Tenant.refusal(value)),
        required: vec!["api_keys".to_owned()],
    });
    parts.push(common);
    parts.extend(own);
    parts.extend(servers);
    parts
}

type Take<'a> = dyn FnMut(&dyn Fn(&Key) -> bool) -> Vec<Key> + 'a;

fn section(table: Table, name: &'static str, take: &mut Take<'_>) -> Part {
    let when = if AT_THE_START.contains(&name) { "start" } else { "reload" };
    Part {
        title: format!("`[{name}]`"),
        lead: format!("A change takes effect at the next {when}."),
        keys: take(&|key| key.table == name),
        refusal: Box::new(move |value| table.refusal(value)),
        required: Vec::new(),
    }
}

/// The servers of a tenant of one kind.
fn audio_servers((table, name, title): (Table, &'static str, &str), does: &str, take: &mut Take<'_>) -> Part {
    let belongs = move |key: &Key| key.table.split('.').nth(2) == Some(name);
    Part {
        title: title.to_owned(),
        lead: format!("`[tenants.TENANT.{name}.NAME]` {does} A change takes effect at the next reload."),
        keys: take(&belongs),
        refusal: Box::new(move |value| table.refusal(value)),
        required: vec!["kind".to_owned()],
    }
}

/// The keys of one provider only.
fn connection(descriptor: &'static Descriptor) -> Part {
    let name = descriptor.name;
    let example: Map<String, Value> = serde_json::from_str(descriptor.example).unwrap_or_default();
    let refusal = move |table: Value| {
        let table = table.as_object().cloned().unwrap_or_default();
        (descriptor.build)(Settings::new(table)).err().map_or(String::new(), |error| error.to_string())
    };
    Part {
        title: format!("`provider = \"{name}\"`"),
        lead: "These keys add to those of every connection. A change takes effect at the next reload."
            .to_owned(),
        keys: read(descriptor.sample),
        refusal: Box::new(refusal),
        required: example.into_iter().map(|(key, _)| key).collect(),
    }
}

/// A tenant's own keys. A key with a table of its own is described by the comment at the table's head.
fn tenant(keys: Vec<Key>) -> Vec<Key> {
    let mut found: Vec<Key> = Vec::new();
    for mut key in keys {
        let table: Vec<_> = key.table.split('.').skip(2).map(str::to_owned).collect();
        if let [inner, names @ ..] = table.as_slice() {
            if inner == "connections" || found.iter().any(|known| known.name == *inner) {
                continue;
            }
            key.value = format!("{{ {} = {} }}", key.name, key.value);
            for name in names.iter().rev() {
                key.value = format!("{{ {name} = {} }}", key.value);
            }
            key.name.clone_from(inner);
            key.meaning = format!("{NO_DEFAULT}{}", key.meaning);
        }
        if let Some((first, rest)) = key.name.split_once('.') {
            (key.value, key.name) = (format!("{{ {rest} = {} }}", key.value), first.to_owned());
        }
        found.push(key);
    }
    for (name, meaning) in [
        ("connections", "the accounts at providers, by name; their keys are listed below"),
        ("speech", "the servers that speak texts, by name; their keys are listed below"),
        (
            "transcription",
            "the servers that write down received voice notes, by name; their keys are listed below",
        ),
    ] {
        found.push(Key {
            table: String::new(),
            name: name.to_owned(),
            value: "{}".to_owned(),
            optional: true,
            meaning: format!("{NO_DEFAULT}{meaning}"),
        });
    }
    found
}

/// The sample has `provider` and the like once for each connection; the first of each name is kept.
fn once(mut keys: Vec<Key>) -> Vec<Key> {
    let mut seen = BTreeSet::new();
    keys.retain(|key| seen.insert(key.name.clone()));
    keys
}

fn is_connection(table: &str) -> bool {
    table.split('.').nth(2) == Some("connections")
}

/// Reads the sample together with its comments, which a TOML parser would drop.
fn read(sample: &str) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let (mut table, mut head) = (String::new(), String::new());
    let mut previous_is_key = false;
    for line in sample.lines() {
        let continues = line.starts_with(' ').then(|| line.trim_start().strip_prefix("# ")).flatten();
        if let (Some(more), true, Some(key)) = (continues, previous_is_key, keys.last_mut()) {
            let _ = write!(key.meaning, " {}", more.trim());
            continue;
        }
        previous_is_key = false;
        let (code, comment) = split(line);
        if let Some(name) = code.trim().strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            (table, head) = (name.to_owned(), comment.to_owned());
            continue;
        }
        let optional = line.starts_with("# ");
        let (code, comment) = if optional { split(&line[2..]) } else { (code, comment) };
        let Some((name, value)) = code.split_once(" = ").filter(|(name, _)| is_name(name)) else { continue };
        let of_table = comment.is_empty() && table.split('.').count() > 2;
        let meaning = if of_table { head.clone() } else { comment.to_owned() };
        keys.push(Key {
            table: table.clone(),
            name: name.to_owned(),
            value: value.trim().to_owned(),
            optional,
            meaning,
        });
        previous_is_key = true;
    }
    keys
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte))
}

/// Splits a line into code and comment. A `#` inside a string does not begin a comment.
fn split(line: &str) -> (&str, &str) {
    let mut quoted = false;
    for (index, byte) in line.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'#' if !quoted => return (&line[..index], line[index + 1..].trim()),
            _ => {}
        }
    }
    (line, "")
}

fn print_part(part: &Part) -> String {
    let mut text = format!(
        "## {}\n\n{}\n\n| Key | Type | Default | Meaning |\n|---|---|---|---|\n",
        part.title, part.lead
    );
    for key in &part.keys {
        let meaning = key.meaning.strip_prefix(NO_DEFAULT).unwrap_or(&key.meaning);
        let (default, meaning) = if part.required.contains(&key.name) {
            ("required".to_owned(), with_example(meaning, &key.value))
        } else if key.meaning.starts_with(NO_DEFAULT) {
            ("none".to_owned(), with_example(meaning, &key.value))
        } else {
            (format!("`{}`", key.value), capital(meaning))
        };
        let row = format!("`{}` | {} | {default} | {meaning}", key.name, kind(part, key));
        let _ = writeln!(text, "| {row} |");
    }
    text.push('\n');
    text
}

fn with_example(meaning: &str, value: &str) -> String {
    let meaning = capital(meaning);
    if value == "{}" { meaning } else { format!("{meaning}. Example: `{value}`") }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The type of the value. For a choice, the error text of the code lists the possible values.
fn kind(part: &Part, key: &Key) -> String {
    let refusal = (part.refusal)(json!({ &key.name: "?" }));
    let choices = names(&refusal);
    if !choices.is_empty() {
        return choices.iter().map(|choice| format!("`\"{choice}\"`")).collect::<Vec<_>>().join(", ");
    }
    let value = format!("value = {}", key.value).parse::<toml::Table>();
    match value.ok().and_then(|mut table| table.remove("value")) {
        Some(toml::Value::Boolean(_)) => "true or false",
        Some(toml::Value::Integer(_)) => "number",
        Some(toml::Value::Array(_)) => "list",
        Some(toml::Value::Table(table)) if table.contains_key("env") => "secret",
        Some(toml::Value::Table(_)) => "table",
        Some(toml::Value::String(text)) => kind_of_text(&text),
        _ => "?",
    }
    .to_owned()
}

fn kind_of_text(text: &str) -> &'static str {
    if Span24::parse(text).is_ok() {
        "duration"
    } else if text.ends_with('B') && text.parse::<bytesize::ByteSize>().is_ok() {
        "size"
    } else if serde_json::from_value::<RateOrOff>(text.into()).is_ok() {
        "rate"
    } else if text.parse::<std::net::SocketAddr>().is_ok() {
        "address and port"
    } else if text.starts_with("http") {
        "URL"
    } else {
        "text"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_and_the_sample_have_the_same_keys() {
        for part in parts() {
            let refusal = (part.refusal)(json!({ "?": null }));
            let accepted: BTreeSet<_> = names(&refusal).into_iter().collect();
            let documented: BTreeSet<_> = part.keys.iter().map(|key| key.name.as_str()).collect();
            assert!(!accepted.is_empty(), "{}: the code does not say what it accepts", part.title);
            assert_eq!(
                accepted, documented,
                "{}: accepted by the code, documented in config.toml",
                part.title
            );
            assert_eq!(documented.len(), part.keys.len(), "{}: a key is documented twice", part.title);
        }
    }

    /// The connections of the sample are those of their adapters' own samples.
    #[test]
    fn sample_and_adapters_say_the_same_of_a_provider() {
        let keys = read(DEFAULTS);
        let providers: Vec<&Key> = keys.iter().filter(|key| key.name == "provider").collect();
        assert!(!providers.is_empty());
        for provider in providers {
            let descriptor = providers::find(provider.value.trim_matches('"')).expect("an adapter");
            let own = read(descriptor.sample);
            let of_table = keys.iter().filter(|key| key.table == provider.table);
            for key in of_table.filter(|key| !COMMON_KEYS.contains(&key.name.as_str())) {
                let same = own.iter().find(|own| own.name == key.name).map(|own| (&own.value, &own.meaning));
                assert_eq!(same, Some((&key.value, &key.meaning)), "{}: {}", descriptor.name, key.name);
            }
        }
    }

    #[test]
    fn every_key_has_a_kind_and_a_meaning() {
        for part in parts() {
            for key in &part.keys {
                assert_ne!(kind(&part, key), "?", "{}: {}", part.title, key.name);
                assert!(
                    key.meaning.len() > 5,
                    "{}: {}: say in config.toml what it does",
                    part.title,
                    key.name
                );
            }
        }
    }

    #[test]
    fn the_adapters_and_the_sample_have_the_same_secrets() {
        for descriptor in providers::PROVIDERS {
            let title = format!("`provider = \"{}\"`", descriptor.name);
            let part = parts().into_iter().find(|part| part.title == title).expect("a part");
            let secret = |key: &&Key| kind(&part, key) == "secret";
            let documented: Vec<&str> =
                part.keys.iter().filter(secret).map(|key| key.name.as_str()).collect();
            assert_eq!(documented, descriptor.secrets, "{title}");
            assert!(descriptor.made_up.iter().all(|key| descriptor.secrets.contains(key)), "{title}");
        }
    }

    #[test]
    fn a_required_key_has_no_default() {
        for part in parts() {
            for key in part.keys.iter().filter(|key| part.required.contains(&key.name)) {
                assert!(!key.optional, "{}: {} is required but commented out", part.title, key.name);
            }
        }
    }

    #[test]
    fn comments_are_read_where_toml_drops_them() {
        let keys = read(
            "[a.b.c] # head\nx = \"#1\"  # one\n          # more\n# y = 2\nz = 3\n# Not a key: text = none.\n",
        );
        let shown: Vec<_> = keys
            .iter()
            .map(|key| (key.name.as_str(), key.value.as_str(), key.meaning.as_str(), key.optional))
            .collect();
        assert_eq!(
            shown,
            [("x", "\"#1\"", "one more", false), ("y", "2", "head", true), ("z", "3", "head", false)]
        );
        assert_eq!(keys[0].table, "a.b.c");
    }
}
