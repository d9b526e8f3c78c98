//! The settings that every kind of server has.

use reqwest::{
    Method, Request,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use crate::{BaseUrl, ConfigError, require_text, secret_header, wire::json_request};

/// The settings of a server, as the configuration has them; secrets already resolved.
#[derive(Clone, Debug, Default)]
pub struct ServerSettings {
    /// The root of the API, without `/v1`.
    pub base_url: Option<String>,
    pub api_key: Option<SecretString>,
    pub model: Option<String>,
    /// The default voice of a speech server.
    pub voice: Option<String>,
    /// The format in which a speech server answers.
    pub format: Option<String>,
    /// The language of a transcription server, if it should not find it out.
    pub language: Option<String>,
}

/// The values that are used where the configuration has none.
pub(super) struct Defaults {
    pub kind: &'static str,
    pub base_url: &'static str,
    pub model: &'static str,
    pub voice: Option<&'static str>,
    pub format: &'static str,
    /// The header that carries the key. A key in `Authorization` is a bearer token.
    pub key_header: HeaderName,
}

/// A server that was configured. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Server {
    pub kind: &'static str,
    base_url: BaseUrl,
    key: Option<(HeaderName, HeaderValue)>,
    secret: Option<SecretString>,
    pub model: String,
    pub voice: Option<String>,
    pub format: String,
    pub language: Option<String>,
}

impl Server {
    pub(super) fn new(settings: ServerSettings, defaults: Defaults) -> Result<Self, ConfigError> {
        let ServerSettings { base_url, api_key, model, voice, format, language } = settings;
        let base_url = BaseUrl::try_from(base_url.unwrap_or_else(|| defaults.base_url.to_owned()))
            .map_err(|expected| ConfigError::new("base_url", expected))?;
        let last = base_url.as_url().path_segments().and_then(|mut path| path.rfind(|part| !part.is_empty()));
        if last == Some("v1") {
            let expected = "expected the address without /v1, which is added to it";
            return Err(ConfigError::new("base_url", expected));
        }
        let model = model.unwrap_or_else(|| defaults.model.to_owned());
        let voice = voice.or_else(|| defaults.voice.map(str::to_owned));
        let format = format.unwrap_or_else(|| defaults.format.to_owned());
        require_text(&[
            ("model", &model),
            ("voice", voice.as_deref().unwrap_or("-")),
            ("format", &format),
            ("language", language.as_deref().unwrap_or("-")),
            ("api_key", api_key.as_ref().map_or("-", |key| key.expose_secret())),
        ])?;
        if !format.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
            return Err(ConfigError::new(
                "format",
                "expected a format of this server, such as \"wav\" or \"mp3\"",
            ));
        }
        let header = match &api_key {
            Some(key) if defaults.key_header == AUTHORIZATION => {
                Some(secret_header("api_key", &format!("Bearer {}", key.expose_secret()).into())?)
            }
            Some(key) => Some(secret_header("api_key", key)?),
            None => None,
        };
        Ok(Self {
            kind: defaults.kind,
            base_url,
            key: header.map(|value| (defaults.key_header, value)),
            secret: api_key,
            model,
            voice,
            format,
            language,
        })
    }

    /// The root URL, which identifies the server.
    pub fn base_url(&self) -> &Url {
        self.base_url.as_url()
    }

    pub(super) fn secret(&self) -> Option<&SecretString> {
        self.secret.as_ref()
    }

    /// The voice of an utterance: its own, or that of the configuration.
    pub fn voice_of<'a>(&'a self, wanted: Option<&'a str>) -> Option<&'a str> {
        wanted.or(self.voice.as_deref())
    }

    pub(super) fn url(&self, segments: &[&str]) -> Url {
        self.base_url.join(segments)
    }

    pub(super) fn json(&self, method: Method, url: Url, body: Option<&Value>) -> Request {
        self.authorized(json_request(method, url, body))
    }

    /// Adds the key to a request.
    pub(super) fn authorized(&self, mut request: Request) -> Request {
        if let Some((name, value)) = &self.key {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        request
    }
}
