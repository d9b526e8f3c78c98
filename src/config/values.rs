//! The types of configuration values: durations, sizes, addresses and others.

use std::{
    any::type_name, fmt, net::SocketAddr, num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration,
};

use ipnet::IpNet;
use jiff::{Span, SpanRelativeTo};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use serde_json::Value;
use subtle::ConstantTimeEq;
use url::Url;
use voicegate_providers::proxy::Proxy;

use super::{postgres::postgres_options, secrets::secret, tenants::hash_key};
use crate::telemetry::logs::Format;

const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// "30s", "10m", "1h", "7d". Days have 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span24(pub Duration);

impl Span24 {
    /// # Errors
    /// Fails with an example of a valid duration.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{text}\" is not a duration; write it like \"30s\", \"10m\", \"1h\" or \"7d\"");
        let span: Span = text.parse().map_err(|_| wrong())?;
        let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        let length = Duration::try_from(length).map_err(|_| wrong())?;
        // Added to any time of this century, it must still be a valid time.
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

/// "30/60s": 30 in any 60 seconds.
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

/// Reads a number or a boolean that may be written as text, as all values from the environment are.
///
/// # Errors
/// Fails with a text that says what was expected, but does not repeat the value.
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

/// A list of networks, or networks separated by commas.
///
/// # Errors
/// Fails with the position of the first invalid item, as `item N`.
pub fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let items = match Value::deserialize(deserializer)? {
        Value::String(text) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()
        }
        Value::Array(items) => items,
        _ => return Err(de::Error::custom("expected a list of networks such as [\"10.0.0.0/8\"]")),
    };
    let read = |(index, item): (usize, &Value)| {
        let network = item.as_str().and_then(|text| text.trim().parse().ok());
        network.ok_or_else(|| {
            de::Error::custom(format!(
                "item {index}: expected a network such as \"10.0.0.0/8\" or \"fd00::/8\""
            ))
        })
    };
    items.iter().enumerate().map(read).collect()
}

/// An address to listen on.
///
/// # Errors
/// Fails with an example, and with the port that was probably meant.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let port = port.or_else(|| u16::try_from(value.as_u64()?).ok()).unwrap_or(8080);
        de::Error::custom(format!(
            "expected an address and a port, such as \"127.0.0.1:{port}\" for this machine alone or \"0.0.0.0:{port}\" \
             for all that reach it"
        ))
    })
}

/// The address under which others reach the gateway.
///
/// # Errors
/// Fails with an example, and with the host that was probably meant.
pub fn public_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    plain_url(deserializer, "https://voice.example.com")
}

/// The address of a collector of traces.
///
/// # Errors
/// Fails with an example, and with the host that was probably meant.
pub fn collector<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    plain_url(deserializer, "http://127.0.0.1:4318").map(Some)
}

/// An http or https URL without credentials. `example` is shown if the value has no host.
fn plain_url<'de, D: Deserializer<'de>>(deserializer: D, example: &str) -> Result<Url, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let text = value.as_str().unwrap_or_default();
    let url = text.parse::<Url>().ok().filter(|url| {
        let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.password().is_none() && is_plain
    });
    url.ok_or_else(|| {
        // Only the host of a URL is repeated, because the rest may contain a secret.
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let meant = format!("https://{rest}").parse::<Url>().ok();
        let origin = meant.filter(Url::has_host).map(|url| url.origin().ascii_serialization());
        let origin = origin.unwrap_or_else(|| example.to_owned());
        de::Error::custom(format!(
            "expected an http or https URL without user name and query, such as \"{origin}\""
        ))
    })
}

/// The way to the providers. The URL of a proxy may be kept elsewhere, like every secret.
///
/// # Errors
/// Fails with the accepted values, and never repeats the value.
pub fn proxy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Proxy, D::Error> {
    let text = secret(&Value::deserialize(deserializer)?, &|name| std::env::var(name).ok());
    Proxy::parse(&text.map_err(de::Error::custom)?).map_err(de::Error::custom)
}

/// The storage for audio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    Folder(PathBuf),
    /// A bucket. The prefix is empty, or has several parts separated by `/`.
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
        // Characters that need no escaping in a URL and cannot lead upwards in a path.
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

/// The storage for notes and queue.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    Sqlite(PathBuf),
    /// The URL, including the password.
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
            postgres_options(&url).map_err(de::Error::custom)?;
            return Ok(Self::Postgres(url));
        }
        Err(de::Error::custom(
            "expected \"sqlite://PATH\" or \"postgres://USER:PASSWORD@HOST/DATABASE\"; no other kind is supported",
        ))
    }
}

/// A secret that callers have to present; only its hash is kept.
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

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Pretty,
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Auto => Self::Auto,
            LogFormat::Pretty => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
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
    fn an_address_that_cannot_be_read_gets_an_example() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only its errors are looked at")]
        struct Addresses {
            #[serde(default = "anywhere", deserialize_with = "address")]
            listen: SocketAddr,
            #[serde(default, deserialize_with = "some_url")]
            public_url: Option<Url>,
        }
        fn anywhere() -> SocketAddr {
            ([0, 0, 0, 0], 0).into()
        }
        fn some_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
            public_url(deserializer).map(Some)
        }
        for (key, value, example) in [
            ("listen", ":8180".into(), "\"127.0.0.1:8180\""),
            ("listen", "8180".into(), "\"127.0.0.1:8180\""),
            ("listen", 8180.into(), "\"127.0.0.1:8180\""),
            ("listen", "localhost:80".into(), "\"0.0.0.0:80\""),
            ("listen", "nowhere".into(), "\"127.0.0.1:8080\""),
            ("public_url", "voice.example.com".into(), "\"https://voice.example.com\""),
            ("public_url", "voice.example.com:8443/x".into(), "\"https://voice.example.com:8443\""),
            ("public_url", "ftp://voice.example.com".into(), "\"https://voice.example.com\""),
            ("public_url", "https://me:S3CRET@voice.example.com".into(), "\"https://voice.example.com\""),
            ("public_url", "https://voice.example.com/?k=S3CRET".into(), "\"https://voice.example.com\""),
            ("public_url", "".into(), "\"https://voice.example.com\""),
            ("public_url", Value::from(7), "\"https://voice.example.com\""),
        ] {
            let table = serde_json::json!({ key: value });
            let error = serde_json::from_value::<Addresses>(table.clone()).expect_err("refused").to_string();
            assert!(error.contains(example) && !error.contains("S3CRET"), "{table}: {error}");
        }
    }
}
