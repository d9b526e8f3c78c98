//! A client of a running gateway, for the commands that use its API.

use anyhow::{Context, ensure};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use struson::{
    reader::{JsonReader, JsonStreamReader},
    writer::{JsonStreamWriter, JsonWriter, WriterSettings},
};
use url::{Host, Url};

/// The address of the gateway, and the key for it.
#[derive(clap::Args)]
pub struct GatewayArgs {
    /// The address of the gateway; also in VOICEGATE_URL.
    #[arg(long, env = "VOICEGATE_URL", default_value = "http://127.0.0.1:8080", value_parser = address)]
    pub url: Url,
    /// The API key. Prefer VOICEGATE_API_KEY, since every user of this machine can read arguments.
    #[arg(long, env = "VOICEGATE_API_KEY", hide_env_values = true)]
    pub key: Option<String>,
}

/// A gateway as one tenant.
pub struct ApiClient {
    gateway: Url,
    key: String,
    http: reqwest::Client,
}

/// An answer of the API.
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
    /// The answer belongs to an earlier request with the same idempotency key.
    pub replayed: bool,
    /// The body as it was received.
    text: Vec<u8>,
}

/// The longest answer that is read, in bytes: a page of 200 notes, each with at most 4 KiB of metadata and 50 attempts.
const MOST: usize = 16 << 20;

/// Reads the address of a server.
///
/// # Errors
/// Fails with an example of a valid address.
pub fn address(text: &str) -> Result<Url, String> {
    let url =
        text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| "expected an http or https URL, such as http://127.0.0.1:8080".to_owned())
}

impl ApiClient {
    /// # Errors
    /// Fails if there is no key, or TLS cannot be set up.
    pub fn new(args: GatewayArgs) -> anyhow::Result<Self> {
        let key = args.key.filter(|key| !key.is_empty()).context(
            "there is no API key: set VOICEGATE_API_KEY, or give --key; the gateway is the one in VOICEGATE_URL or --url",
        )?;
        Self::with_key(args.url, key)
    }

    /// # Errors
    /// Fails if TLS cannot be set up.
    pub fn with_key(gateway: Url, key: String) -> anyhow::Result<Self> {
        let mut http = reqwest::Client::builder();
        // A proxy in the environment is never used for this machine.
        if is_loopback(&gateway) {
            http = http.no_proxy();
        }
        Ok(Self { gateway, key, http: http.build().context("setting up TLS")? })
    }

    /// A request for the path that consists of `parts`.
    ///
    /// # Errors
    /// Fails if the address of the gateway cannot have a path.
    pub fn request(
        &self,
        method: Method,
        parts: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<RequestBuilder> {
        let mut url = self.gateway.clone();
        url.path_segments_mut()
            .ok()
            .context("--url: expected an http or https URL")?
            .pop_if_empty()
            .extend(parts);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(self.http.request(method, url).bearer_auth(&self.key))
    }

    /// Sends a request and reads the answer, which is JSON.
    ///
    /// # Errors
    /// Fails if no gateway answers. A problem is an answer.
    pub async fn ask(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        let origin = self.origin();
        let mut response = self.send(request).await?;
        let status = response.status();
        let replayed = response.headers().get("idempotency-replayed").is_some_and(|value| value == "true");
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            text.extend_from_slice(&chunk);
            ensure!(
                text.len() <= MOST,
                "the answer of {origin} has more than {MOST} bytes; is that a gateway?"
            );
        }
        let body = serde_json::from_slice(&text).with_context(|| {
            format!("the answer of {origin} is not JSON; does VOICEGATE_URL or --url lead to a gateway?")
        })?;
        Ok(Answer { status, body, replayed, text })
    }

    /// Sends a request and returns the answer before its body is read.
    ///
    /// # Errors
    /// Fails if nobody answers.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<reqwest::Response> {
        request.send().await.map_err(reqwest::Error::without_url).with_context(|| {
            let origin = self.origin();
            format!("the gateway at {origin} does not answer; VOICEGATE_URL or --url says where it is")
        })
    }

    fn origin(&self) -> String {
        self.gateway.origin().ascii_serialization()
    }
}

impl Answer {
    /// The text at a JSON pointer, or "?".
    pub fn text(&self, pointer: &str) -> &str {
        text_of(&self.body, pointer)
    }

    /// The body with line breaks, in the order and with the digits of the API.
    pub fn pretty(&self) -> String {
        pretty(&self.text)
    }

    /// One line about a problem.
    pub fn problem(&self) -> String {
        format!("{} {}: {}", self.status.as_u16(), self.text("/code"), self.text("/detail"))
    }
}

/// The text at a JSON pointer, or "?".
pub fn text_of<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("?")
}

/// Formats JSON with line breaks. Members stay in their order, and numbers keep their digits.
fn pretty(json: &[u8]) -> String {
    let mut pretty = Vec::new();
    let settings = WriterSettings { pretty_print: true, ..WriterSettings::default() };
    let mut writer = JsonStreamWriter::new_custom(&mut pretty, settings);
    let written =
        JsonStreamReader::new(json).transfer_to(&mut writer).is_ok() && writer.finish_document().is_ok();
    // The formatter refuses extremely long numbers, although they are valid JSON. Print such text unchanged.
    String::from_utf8_lossy(if written { &pretty } else { json }).into_owned()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn answer_keeps_its_order_and_its_digits() {
        let text = pretty(br#"{"id":"vn_1","audio":{"b":1,"a":[12345678901234567890,1.50]},"at":null}"#);
        assert_eq!(
            text,
            "{\n  \"id\": \"vn_1\",\n  \"audio\": {\n    \"b\": 1,\n    \"a\": [\n      12345678901234567890,\n      \
             1.50\n    ]\n  },\n  \"at\": null\n}"
        );
    }
}
