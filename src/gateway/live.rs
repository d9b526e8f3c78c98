//! State that a reload replaces: configuration, tenants, and the clients that depend on them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use voicegate_providers::{Context, trust::Trust};

use super::{note_metrics, provider_clients::ProviderClients};
use crate::{
    config::{Config, Connection, Tenants},
    gateway::limit::RequestLimit,
    media::Fetcher,
    model::{clock::Clock, problem::Problem},
    store::{Bounds, Class},
};

/// Limit on concurrent webhook deliveries of one tenant, downloads from one group of its hosts, and look-ups at one
/// connection's provider, and received notes of one connection.
const SIDE_CONCURRENCY: usize = 8;

/// State that a reload replaces as a whole.
#[derive(Debug)]
pub struct Live {
    pub config: Config,
    pub tenants: Tenants,
    pub fetcher: Fetcher,
    pub providers: ProviderClients,
    /// Request limits by tenant; tenants without a limit have no entry.
    request_limits: BTreeMap<String, RequestLimit>,
}

impl Live {
    pub(crate) fn new(config: Config, tenants: Tenants, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        note_metrics::expect(&tenants);
        let trust = Trust::system().context("setting up TLS")?;
        let fetcher = Fetcher::new(config.fetch.rules(), config.fetch.timeout.0, &trust)
            .context("setting up the HTTP client")?;
        let providers = ProviderClients::new(&config.server.proxy, &tenants, fetcher.client(), trust)?;
        let request_limits = tenants.iter().filter_map(|tenant| {
            let rate = tenant.request_rate.unwrap_or(config.server.request_rate).0?;
            Some((tenant.name.clone(), RequestLimit::new(rate, clock.clone())?))
        });
        let request_limits = request_limits.collect();
        Ok(Self { config, tenants, fetcher, providers, request_limits })
    }

    /// The context of an attempt, or of a look-up.
    pub fn context(&self, now: Timestamp, timeout: Duration) -> Context {
        self.providers.context(now, timeout)
    }

    pub fn connection(&self, tenant: &str, connection: &str) -> Option<&Connection> {
        self.tenants.get(tenant)?.connections.get(connection)
    }

    /// Whether the tenant has a webhook for events.
    pub fn notifies(&self, tenant: &str) -> bool {
        self.tenants.get(tenant).is_some_and(|tenant| tenant.webhook.is_some())
    }

    /// Number of waiting notes that a tenant may always have: an equal share of the whole queue.
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

    /// Upper limit of the time before the visible request of an attempt, as the sum of the limits of its steps:
    /// download; probe, remux and encode; look-up, upload request and upload.
    pub fn prepare_limit(&self, connection: &Connection) -> Duration {
        self.config.fetch.timeout.0 + 3 * self.config.audio.timeout.0 + 3 * connection.timeout
    }

    /// Duration of a lease, which is longer than any attempt.
    pub fn lease(&self) -> Duration {
        let connections = self.tenants.iter().flat_map(|tenant| tenant.connections.values());
        let longest = connections.map(|connection| self.prepare_limit(connection) + connection.timeout).max();
        // A note may wait for the speech of another one before its own is made.
        let speech =
            self.tenants.iter().flat_map(|tenant| tenant.speech.values()).map(|s| 2 * s.timeout).max();
        let speech = speech.map(|most| most + 2 * self.config.audio.timeout.0);
        longest.max(speech).unwrap_or_default() + Duration::from_secs(180)
    }

    /// Limits on what is sent over `TENANT/CONNECTION`.
    pub fn bounds(&self, key: &str) -> Bounds {
        if Class::of(key) != Class::Send {
            return Bounds::of(SIDE_CONCURRENCY, None);
        }
        let connection = key
            .split_once('/')
            .and_then(|(tenant, connection)| self.tenants.get(tenant)?.connections.get(connection));
        // A removed connection keeps one slot, so that its notes are claimed and can fail with a reason.
        connection
            .map_or(Bounds::of(1, None), |connection| Bounds::of(connection.concurrency, connection.rate))
    }
}
