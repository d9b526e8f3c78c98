//! The HTTP clients for providers, built in one place, so that all of them take the same way.

use std::time::Duration;

use anyhow::Context as _;
use http::HeaderValue;
use jiff::Timestamp;
use voicegate_providers::{
    Context,
    dial::{DialOptions, Dialer},
    guard::GuardedClient,
    proxy::Proxy,
    trust::Trust,
};

use crate::config::Tenants;

/// Time limit for connecting to a provider whose name resolves but that does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time after which an idle connection is closed, below the limits of common servers and load balancers (Node's server:
/// 5 s), because a request on a connection that the other side is closing has to be repeated. Visible requests never
/// use an idle connection.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

const USER_AGENT: &str = concat!("voicegate/", env!("CARGO_PKG_VERSION"));

#[derive(Debug)]
pub struct ProviderClients {
    /// Client for the API of every provider. Adapters receive it and never create one.
    pub http: reqwest::Client,
    /// Opens connections for visible requests.
    dialer: Dialer,
    /// Client for addresses that a provider names.
    guarded: GuardedClient,
}

impl ProviderClients {
    /// `guarded` is the client for downloads, with the rules that also apply to addresses that providers name.
    ///
    /// # Errors
    /// TLS or the proxy cannot be set up.
    pub fn new(
        proxy: &Proxy,
        tenants: &Tenants,
        guarded: &GuardedClient,
        trust: Trust,
    ) -> anyhow::Result<Self> {
        let timeouts = tenants.iter().flat_map(|tenant| tenant.connections.values()).map(|c| c.timeout);
        // Connecting must time out before the whole request does: a failed connection proves that nothing was sent, a
        // timed-out request proves nothing.
        let connect_timeout = timeouts.min().map_or(CONNECT_TIMEOUT, |least| CONNECT_TIMEOUT.min(least / 2));
        let user_agent = HeaderValue::from_static(USER_AGENT);
        let http = proxy
            .client(&trust)
            .context("server.proxy")?
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            .user_agent(USER_AGENT)
            .build()
            .context("setting up the HTTP client")?;
        let guarded =
            guarded.through(proxy, connect_timeout, &trust).context("setting up the HTTP client")?;
        let proxy = proxy.clone();
        let options = DialOptions { connect_timeout, user_agent, proxy, ..DialOptions::new(trust) };
        Ok(Self { http, dialer: Dialer::new(options)?, guarded })
    }

    /// The context of an attempt, or of a look-up.
    pub fn context(&self, now: Timestamp, timeout: Duration) -> Context {
        Context {
            http: self.http.clone(),
            dial: self.dialer.dial(),
            guarded: self.guarded.clone(),
            now,
            timeout,
        }
    }
}
