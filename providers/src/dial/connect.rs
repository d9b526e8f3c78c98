//! Opens a connection: name, address, TLS.

use std::{io, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_rustls::TlsConnector;
use tower::ServiceExt as _;
use url::{Host, Url};

use super::{
    PROTOCOLS,
    stream::{Gate, Gated},
};
use crate::trust::Trust;

const KEEPALIVE: Duration = Duration::from_secs(15);

/// Plain TCP or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A server by what has to be known to connect to it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub origin: String,
    pub uri: Uri,
    /// `None` for plain http.
    tls: Option<ServerName<'static>>,
}

impl Target {
    /// `None` for a URL that is not of http or https.
    pub fn of(url: &Url) -> Option<Self> {
        let tls = match (url.scheme(), url.host()?) {
            ("http", _) => None,
            ("https", Host::Domain(name)) => Some(ServerName::try_from(name.to_owned()).ok()?),
            ("https", Host::Ipv4(address)) => Some(ServerName::IpAddress(address.into())),
            ("https", Host::Ipv6(address)) => Some(ServerName::IpAddress(address.into())),
            _ => return None,
        };
        Some(Self { origin: url.origin().ascii_serialization(), uri: url.as_str().parse().ok()?, tls })
    }
}

/// An open connection on which nothing was asked yet.
pub(super) struct Opened {
    pub stream: Box<dyn Stream>,
    pub gate: Gate,
    pub at: Instant,
}

#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: TlsConnector,
    timeout: Duration,
}

impl Connector {
    pub fn new(timeout: Duration, trust: &Trust) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Shared among the addresses of a name, so that one that is silent does not use up the time of the others.
        tcp.set_connect_timeout(Some(timeout));
        // An answer can take a minute, and boxes on the way forget connections without a word.
        tcp.set_keepalive(Some(KEEPALIVE));
        let tls = TlsConnector::from(Arc::new(trust.speaking(PROTOCOLS)));
        Self { tcp, tls, timeout }
    }

    pub async fn open(&self, target: &Target) -> io::Result<Opened> {
        let opening = async {
            let tcp = self.tcp.clone().oneshot(target.uri.clone()).await.map_err(io::Error::other)?;
            let gate = Gate::default();
            let stream = Gated::new(tcp.into_inner(), gate.clone());
            let stream: Box<dyn Stream> = match &target.tls {
                None => Box::new(stream),
                Some(name) => Box::new(self.tls.connect(name.clone(), stream).await?),
            };
            Ok(Opened { stream, gate, at: Instant::now() })
        };
        tokio::time::timeout(self.timeout, opening)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
