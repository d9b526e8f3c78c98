//! The kinds of value that a configuration has: durations, sizes, secrets.

use std::{any::type_name, fmt, num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

use jiff::{Span, SpanRelativeTo};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::tenants::hash_key;
use crate::store;

const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// "30s", "10m", "1h", "7d". Days have 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span24(pub Duration);

impl Span24 {
    /// # Errors
    /// Says what a duration looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no duration; write it like \"30s\", \"10m\", \"1h\" or \"7d\"");
        let span: Span = text.parse().map_err(|_| wrong())?;
        let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        let length = Duration::try_from(length).map_err(|_| wrong())?;
        // Added to any time of this century, it still gives a time.
        if length > LONGEST { Err(format!("\"{text}\" is longer than ten years")) } else { Ok(Self(length)) }
    }
}

impl<'de> Deserialize<'de> for Span24 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Ok(text) = String::deserialize(deserializer) else {
            return Err(de::Error::custom("expected a duration such as \"30s\", \"10m\", \"1h\" or \"7d\""));
        };
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// "25 MiB", or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = "expected a size such as \"25 MiB\" or a number of bytes";
        match Value::deserialize(deserializer)? {
            Value::Number(number) => number.as_u64().map(Self).ok_or_else(|| de::Error::custom(wrong)),
            Value::String(text) => text
                .parse::<bytesize::ByteSize>()
                .map(|size| Self(size.as_u64()))
                .map_err(|_| de::Error::custom(wrong)),
            _ => Err(de::Error::custom(wrong)),
        }
    }
}

/// "30/60s": so many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: NonZeroU32,
    pub per: Duration,
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let rate = text.split_once('/').and_then(|(count, per)| {
            let count = count.trim().parse().ok()?;
            let per = Span24::parse(per.trim()).ok().filter(|per| !per.0.is_zero())?;
            Some(Self { count, per: per.0 })
        });
        rate.ok_or_else(|| de::Error::custom("expected a rate such as \"30/60s\""))
    }
}

/// A rate, or "off".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateOrOff(pub Option<Rate>);

impl<'de> Deserialize<'de> for RateOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value == "off" {
            return Ok(Self(None));
        }
        let rate = Rate::deserialize(value).map(|rate| Self(Some(rate)));
        rate.map_err(|_| de::Error::custom("expected a rate such as \"600/60s\", or \"off\""))
    }
}

/// Reads a number or a boolean that may have come as text, as everything does from the environment.
///
/// # Errors
/// Says what was expected; never the value.
pub fn plain<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: DeserializeOwned + FromStr,
    D: Deserializer<'de>,
{
    let value = Value::deserialize(deserializer)?;
    let read =
        value.as_str().map_or_else(|| serde_json::from_value(value.clone()).ok(), |text| text.parse().ok());
    read.ok_or_else(|| {
        let kind = if type_name::<T>() == "bool" { "true or false" } else { "a whole number" };
        de::Error::custom(format!("expected {kind}"))
    })
}

/// A list, or its items separated by commas.
///
/// # Errors
/// Says which item is wrong.
pub fn list<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let items = match Value::deserialize(deserializer)? {
        Value::String(text) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()
        }
        Value::Array(items) => items,
        _ => return Err(de::Error::custom("expected a list")),
    };
    let read = |(index, item)| {
        serde_json::from_value(item).map_err(|error| de::Error::custom(format!("item {index}: {error}")))
    };
    items.into_iter().enumerate().map(read).collect()
}

/// Reads one secret: a literal, `{ env = "NAME" }` or `{ file = "PATH" }`.
///
/// # Errors
/// Says what is missing; never the secret.
pub fn secret(value: &Value, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let found = match value {
        Value::String(literal) => literal.clone(),
        Value::Object(map) => from_elsewhere(map, env)?,
        _ => return Err("expected a string, { env = \"NAME\" } or { file = \"PATH\" }".to_owned()),
    };
    // Files end with a line break, and so does much that comes from `$(command)` in another shell.
    let found = found.trim_end_matches(['\r', '\n']);
    if found.is_empty() { Err("the secret is empty".to_owned()) } else { Ok(found.to_owned()) }
}

/// Where audio is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    Folder(PathBuf),
    /// On S3. The prefix is empty, or several parts with `/` between them.
    Bucket {
        name: String,
        prefix: String,
    },
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket { name, prefix } if prefix.is_empty() => write!(f, "s3://{name}"),
            Self::Bucket { name, prefix } => write!(f, "s3://{name}/{prefix}"),
        }
    }
}

impl<'de> Deserialize<'de> for Media {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected =
            || de::Error::custom("expected a folder, or \"s3://BUCKET\" or \"s3://BUCKET/PREFIX\"");
        let text = String::deserialize(deserializer).map_err(|_| expected())?;
        let Some(address) = text.strip_prefix("s3://") else {
            let is_folder = !text.is_empty() && !text.contains("://");
            return if is_folder { Ok(Self::Folder(text.into())) } else { Err(expected()) };
        };
        let (name, prefix) = address.split_once('/').unwrap_or((address, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        // What needs no escaping in a URL, and is no way up in a path.
        let is_part = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !is_part(name) || !(prefix.is_empty() || prefix.split('/').all(is_part)) {
            return Err(expected());
        }
        Ok(Self::Bucket { name: name.to_owned(), prefix: prefix.to_owned() })
    }
}

/// Where notes and queue are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    Sqlite(PathBuf),
    /// The URL, password and all.
    Postgres(String),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}

impl<'de> Deserialize<'de> for Database {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let url = secret(&Value::deserialize(deserializer)?, &|name| std::env::var(name).ok())
            .map_err(de::Error::custom)?;
        if let Some(path) =
            url.strip_prefix("sqlite://").filter(|path| !path.is_empty() && !path.contains('?'))
        {
            return Ok(Self::Sqlite(path.into()));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            store::check_postgres_url(&url).map_err(de::Error::custom)?;
            return Ok(Self::Postgres(url));
        }
        Err(de::Error::custom(
            "expected \"sqlite://PATH\" or \"postgres://USER:PASSWORD@HOST/DATABASE\"; there are no others",
        ))
    }
}

fn from_elsewhere(map: &Map<String, Value>, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut entries = map.iter();
    match (entries.next(), entries.next()) {
        (Some((key, Value::String(name))), None) if key == "env" => {
            env(name).ok_or_else(|| format!("the environment variable {name} is not set"))
        }
        (Some((key, Value::String(path))), None) if key == "file" => std::fs::read_to_string(path)
            .map_err(|error| format!("the file {path} cannot be read: {}", error.kind())),
        _ => Err("expected exactly one of { env = \"NAME\" } and { file = \"PATH\" }".to_owned()),
    }
}

/// A secret that a caller has to show; only its hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// Compares in constant time.
    pub fn is(&self, shown: &str) -> bool {
        hash_key(shown).ct_eq(&self.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = secret(&value, &|name| std::env::var(name).ok()).map_err(de::Error::custom)?;
        Ok(Self(hash_key(&text)))
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Pretty,
    Json,
}

/// Whether `value` has the shape of a secret kept elsewhere.
pub fn is_reference(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.contains_key("env") || map.contains_key("file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_sizes_and_rates_are_read() {
        let duration = |text: &str| Span24::parse(text).map(|span| span.0.as_secs());
        assert_eq!(duration("30s"), Ok(30));
        assert_eq!(duration("1h"), Ok(3600));
        assert_eq!(duration("1h 30m"), Ok(5400));
        assert_eq!(duration("30d"), Ok(2_592_000));
        for wrong in ["", "soon", "-5s", "10", "5000000d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        let size = |value: Value| serde_json::from_value::<Size>(value).map(|size| size.0).ok();
        assert_eq!(size("25 MiB".into()), Some(25 * 1024 * 1024));
        assert_eq!(size(1000.into()), Some(1000));
        assert_eq!(size("much".into()), None);
        let rate = |text: &str| serde_json::from_value::<Rate>(text.into()).ok();
        assert_eq!(
            rate("30/60s"),
            Some(Rate { count: NonZeroU32::new(30).expect("above zero"), per: Duration::from_secs(60) })
        );
        assert_eq!(rate("0/60s"), None);
        assert_eq!(rate("30"), None);
    }

    #[test]
    fn a_database_is_one_of_two_and_its_password_is_never_shown() {
        let read =
            |value: Value| serde_json::from_value::<Database>(value).map_err(|error| error.to_string());
        assert_eq!(read("sqlite://data/x.db".into()), Ok(Database::Sqlite("data/x.db".into())));
        for url in [
            "postgres://user:S3CRET@db.example/voicegate?sslmode=verify-full",
            "postgresql://user:S3CRET@[::1]:6432/voicegate",
            "postgres://user@localhost/voicegate?host=/run/postgresql",
        ] {
            let database = read(url.into()).expect(url);
            assert_eq!(format!("{database:?}"), "Postgres(..)");
        }
        for (url, expected) in [
            ("sqlite://", "expected \"sqlite://PATH\""),
            ("mysql://user:S3CRET@host/db", "expected \"sqlite://PATH\""),
            ("postgres://user:S3CRET@host", "the name of the database is missing"),
            ("postgres://user:S3CRET@host:port/db", "expected \"postgres://"),
            ("postgres://user:S3CRET@host/db?sslmode=S3CRET", "expected \"postgres://"),
            ("postgres://user:S3CRET@host/db?pool=S3CRET", "there is no parameter \"pool\""),
        ] {
            let error = read(url.into()).expect_err(url);
            assert!(error.contains(expected) && !error.contains("S3CRET"), "{error}");
        }
        let error = read(serde_json::json!({ "env": "NOT_SET_ANYWHERE" })).expect_err("missing");
        assert!(error.contains("NOT_SET_ANYWHERE"), "{error}");
    }

    #[test]
    fn media_is_a_folder_or_a_bucket() {
        let read = |text: &str| serde_json::from_value::<Media>(text.into()).ok();
        let bucket = |name: &str, prefix: &str| {
            Some(Media::Bucket { name: name.to_owned(), prefix: prefix.to_owned() })
        };
        assert_eq!(read("data/media"), Some(Media::Folder("data/media".into())));
        assert_eq!(read("s3://voice.example"), bucket("voice.example", ""));
        assert_eq!(read("s3://voice/"), bucket("voice", ""));
        assert_eq!(read("s3://voice/a/b-1/"), bucket("voice", "a/b-1"));
        for text in ["data/media", "s3://voice", "s3://voice/a/b"] {
            assert_eq!(read(text).map(|media| media.to_string()).as_deref(), Some(text));
        }
        for wrong in [
            "",
            "s3://",
            "s3:///a",
            "s3://a//b",
            "s3://a/../b",
            "s3://a/b?c",
            "s3://k:S@a",
            "gs://a",
            "https://a",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_secret_comes_from_three_places() {
        let env = |name: &str| (name == "TOKEN").then(|| "from-env".to_owned());
        assert_eq!(secret(&"literal".into(), &env), Ok("literal".to_owned()));
        assert_eq!(secret(&serde_json::json!({ "env": "TOKEN" }), &env), Ok("from-env".to_owned()));
        assert!(secret(&serde_json::json!({ "env": "OTHER" }), &env).is_err_and(|e| e.contains("OTHER")));
        assert!(secret(&serde_json::json!({ "env": "TOKEN", "file": "x" }), &env).is_err());
        assert!(secret(&"".into(), &env).is_err());
    }
}
