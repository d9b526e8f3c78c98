//! The HTTP client for the collector.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use crate::telemetry::log_throttle::LogThrottle;

/// Limit on one request, its answer included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is kept, in bytes. It only says whether spans were refused.
const MOST: usize = 64 * 1024;

/// One message about a collector that does not work, for all that follow within this time.
static TROUBLE: LogThrottle = LogThrottle::new(Duration::from_secs(600));

/// Spans are sent by a thread of their own, which has no runtime; the requests are made on the gateway's.
#[derive(Debug)]
pub struct Collector {
    http: reqwest::Client,
    runtime: Handle,
}

impl Collector {
    pub fn new() -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(TIMEOUT)
            .user_agent(concat!("voicegate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move { send(http, request).await }).await;
        let sent: Result<_, HttpError> =
            sent.map_err(HttpError::from).and_then(|sent| sent.map_err(Into::into));
        let why = match &sent {
            Ok(answer) if answer.status().is_success() => return sent,
            Ok(answer) => format!("it answered {}", answer.status().as_u16()),
            Err(_) => "it gave no answer".to_owned(),
        };
        if let Some(times) = TROUBLE.pass() {
            tracing::warn!(
                times,
                "the collector of telemetry.otlp took no spans: {why}; they are dropped, and notes are sent as always"
            );
        }
        sent
    }
}

async fn send(
    http: reqwest::Client,
    request: http::Request<Bytes>,
) -> reqwest::Result<http::Response<Bytes>> {
    let mut answer = http.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > MOST {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = http::Response::new(body.freeze());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    Ok(response)
}
