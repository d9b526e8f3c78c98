//! Downloads of the links that callers provide, as the providers' servers make them.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use reqwest::Client;
use url::{Host, Url};

#[derive(Default)]
pub(crate) struct Fetcher {
    client: OnceLock<Client>,
}

pub(crate) struct Fetched {
    pub bytes: Bytes,
    pub content_type: Option<String>,
}

pub(crate) enum FetchError {
    TooLarge,
    Failed(String),
}

impl Fetcher {
    /// Makes one GET without redirects and without a proxy from the environment.
    pub async fn get(&self, url: &Url, max: usize, timeout: Duration) -> Result<Fetched, FetchError> {
        let work = self.download(url, max);
        match tokio::time::timeout(timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Failed(format!("no complete answer within {} s", timeout.as_secs()))),
        }
    }

    /// Makes one POST of JSON and ignores the body of the answer. `None`: no answer.
    pub async fn post(
        &self,
        url: &Url,
        headers: Vec<(&'static str, String)>,
        body: String,
        timeout: Duration,
    ) -> Option<u16> {
        let mut request = self.client().ok()?.post(url.clone()).timeout(timeout);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.header("content-type", "application/json").body(body).send().await.ok()?;
        Some(answer.status().as_u16())
    }

    async fn download(&self, url: &Url, max: usize) -> Result<Fetched, FetchError> {
        let failed = |error: reqwest::Error| FetchError::Failed(error.without_url().to_string());
        let response = self.client()?.get(url.clone()).send().await.map_err(failed)?;
        if response.status() != 200 {
            return Err(FetchError::Failed(format!("the link answered with status {}", response.status())));
        }
        let content_type =
            response.headers().get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut bytes = BytesMut::new();
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(failed)?);
            if bytes.len() > max {
                return Err(FetchError::TooLarge);
            }
        }
        Ok(Fetched { bytes: bytes.freeze(), content_type })
    }

    /// The client is created on first use, because that can fail (no system certificates) and most runs never fetch.
    fn client(&self) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| FetchError::Failed(error.to_string()))?;
        Ok(self.client.get_or_init(|| client))
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
