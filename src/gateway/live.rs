//! What a reload replaces: configuration, tenants and the clients that depend on them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use http::HeaderValue;
use jiff::Timestamp;
use voicegate_providers::{
    Context,
    dial::{DialOptions, Dialer},
};

use super::counted;
use crate::{
    config::{Config, Connection, Tenants},
    gateway::limit::RequestLimit,
    media::Fetcher,
    model::{clock::Clock, problem::Problem},
    store::{Bounds, Class},
};

/// A provider whose name resolves but does not answer is found out after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Below what servers and load balancers commonly allow (Node's server: 5 s): a request on a connection that the other
/// side is just closing has to be made again. No visible request goes over a connection that was idle.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

const USER_AGENT: &str = concat!("voicegate/", env!("CARGO_PKG_VERSION"));

/// Events told at the same time for one tenant, downloads from one part of its hosts, and questions to one connection's
/// provider.
const ASIDE: usize = 8;

/// What a reload replaces, as one.
#[derive(Debug)]
pub struct Live {
    pub config: Config,
    pub tenants: Tenants,
    pub fetcher: Fetcher,
    /// For every provider; adapters are given it, they never make one.
    pub http: reqwest::Client,
    /// For visible requests.
    pub dialer: Dialer,
    /// By tenant; those without a limit are missing.
    request_limits: BTreeMap<String, RequestLimit>,
}

impl Live {
    pub(crate) fn new(config: Config, tenants: Tenants, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        counted::expect(&tenants);
        let fetcher = Fetcher::new(config.fetch.rules(), config.fetch.timeout.0).context("setting up TLS")?;
        let timeouts = tenants.iter().flat_map(|tenant| tenant.connections.values()).map(|c| c.timeout);
        // Always before the time limit of a whole request: a connection that never came about proves that
        // nothing was sent, a request that took too long proves nothing.
        let connect_timeout = timeouts.min().map_or(CONNECT_TIMEOUT, |least| CONNECT_TIMEOUT.min(least / 2));
        let user_agent = HeaderValue::from_static(USER_AGENT);
        let dialer = Dialer::new(DialOptions { connect_timeout, user_agent, ..DialOptions::default() })?;
        let http = reqwest::Client::builder()
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(USER_AGENT)
            .build()
            .context("setting up TLS")?;
        let request_limits = tenants.iter().filter_map(|tenant| {
            let rate = tenant.request_rate.unwrap_or(config.server.request_rate).0?;
            Some((tenant.name.clone(), RequestLimit::new(rate, clock.clone())?))
        });
        let request_limits = request_limits.collect();
        Ok(Self { config, tenants, fetcher, http, dialer, request_limits })
    }

    /// For one try of a note, or for a question about one.
    pub fn context(&self, now: Timestamp, timeout: Duration) -> Context {
        Context {
            http: self.http.clone(),
            dial: self.dialer.dial(),
            guarded: self.fetcher.client().clone(),
            now,
            timeout,
        }
    }

    pub fn connection(&self, tenant: &str, connection: &str) -> Option<&Connection> {
        self.tenants.get(tenant)?.connections.get(connection)
    }

    /// Whether the tenant has a webhook to be told of events.
    pub fn notifies(&self, tenant: &str) -> bool {
        self.tenants.get(tenant).is_some_and(|tenant| tenant.webhook.is_some())
    }

    /// How many notes of one tenant may wait, whatever the others have: an even share of the whole queue.
    pub fn share_of_queue(&self) -> u64 {
        let tenants = u64::try_from(self.tenants.iter().count()).unwrap_or(u64::MAX);
        (self.config.delivery.max_queue / tenants.max(1)).max(1)
    }

    /// Counts a request of the tenant.
    ///
    /// # Errors
    /// `rate_limited`, with the time to wait.
    pub fn take_request(&self, tenant: &str) -> Result<(), Problem> {
        self.request_limits.get(tenant).map_or(Ok(()), RequestLimit::take).map_err(Problem::rate_limited)
    }

    /// The longest that a try may take before its visible request, each of its steps taking its own limit:
    /// download; probe, remux and encode; look-up, upload request and upload.
    pub fn prepare_limit(&self, connection: &Connection) -> Duration {
        self.config.fetch.timeout.0 + 3 * self.config.audio.timeout.0 + 3 * connection.timeout
    }

    /// A lease outlives any try that was started under it.
    pub fn lease(&self) -> Duration {
        let connections = self.tenants.iter().flat_map(|tenant| tenant.connections.values());
        let longest = connections.map(|connection| self.prepare_limit(connection) + connection.timeout).max();
        longest.unwrap_or_default() + Duration::from_secs(180)
    }

    /// How much may go out over `TENANT/CONNECTION`.
    pub fn bounds(&self, key: &str) -> Bounds {
        if Class::of(key) != Class::Send {
            return Bounds::of(ASIDE, None);
        }
        let connection = key
            .split_once('/')
            .and_then(|(tenant, connection)| self.tenants.get(tenant)?.connections.get(connection));
        // A connection that is gone keeps one place, so that its notes come up and can say so.
        connection
            .map_or(Bounds::of(1, None), |connection| Bounds::of(connection.concurrency, connection.rate))
    }
}
