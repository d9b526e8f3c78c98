//! Connections for the request that makes a note visible. Each carries that one request and no other.
//!
//! A server may close a pooled connection just while a request is written to it, and then nothing tells whether it was
//! read: the outcome is unknown although nothing was sent. A connection that was opened for the request has not been
//! idle long enough to be closed. Its stream also counts what is written, so that a failure before the first byte is
//! proof that nothing was sent, and the request may go over another connection.
//!
//! Opening takes time, so it is done while the note is prepared, where the server is known to wait for that long
//! (`patience`); elsewhere it is done right before the request.

mod connect;
mod patience;
mod stream;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::client::conn::http1;
use hyper_util::{client::proxy::matcher::Matcher, rt::TokioIo};
use reqwest::{
    Request, Response,
    header::{ACCEPT, HOST, HeaderValue, USER_AGENT},
};
use tokio::{task::JoinSet, time::Instant};
use url::{Position, Url};

pub(crate) use self::stream::Sent;
use self::{
    connect::{Connector, Opened, Target},
    patience::Patience,
};
use crate::{
    proxy::Proxy,
    trust::Trust,
    wire::{NoAnswer, no_answer},
};

/// The protocols of a connection for one request, which would gain nothing by HTTP/2.
const PROTOCOLS: &[&[u8]] = &[b"http/1.1"];

/// Connections that one request may try where the server closes each before the first byte.
const CONNECTIONS: usize = 3;

/// The way in which a [`Dialer`] connects.
#[derive(Debug)]
pub struct DialOptions {
    /// Time limit for name, address and TLS together.
    pub connect_timeout: Duration,
    /// Sent with requests that have none of their own.
    pub user_agent: HeaderValue,
    /// The time for which a server has to leave an idle connection open before connections to it are opened ahead of their
    /// request. They wait for at most three quarters of it.
    pub hold: Duration,
    pub proxy: Proxy,
    pub trust: Trust,
}

impl DialOptions {
    pub fn new(trust: Trust) -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            user_agent: HeaderValue::from_static("voicegate"),
            // Below the shortest time after which common servers close an idle connection (Node's: 5 s).
            hold: Duration::from_secs(4),
            proxy: Proxy::default(),
            trust,
        }
    }
}

/// Opens connections, and remembers what servers do with idle ones. Clones share both.
#[derive(Clone)]
pub struct Dialer {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Connector,
    proxied: Option<Matcher>,
    /// A client for servers behind a proxy: it knows every kind of proxy, and opens a connection for each request too, but does
    /// not count bytes.
    through_proxy: reqwest::Client,
    user_agent: HeaderValue,
    patience: Patience,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("patience", &self.shared.patience).finish_non_exhaustive()
    }
}

impl Dialer {
    /// # Errors
    /// The HTTP client for proxies cannot be set up.
    pub fn new(options: DialOptions) -> reqwest::Result<Self> {
        let connector = Connector::new(options.connect_timeout, &options.trust);
        let through_proxy = options
            .proxy
            .client(&options.trust)?
            .connect_timeout(options.connect_timeout)
            .pool_max_idle_per_host(0)
            .user_agent(options.user_agent.clone())
            .tls_backend_preconfigured(options.trust.speaking(PROTOCOLS))
            .build()?;
        let shared = Shared {
            connector,
            proxied: options.proxy.matcher(),
            through_proxy,
            user_agent: options.user_agent,
            patience: Patience::new(options.hold),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The connections of one try of a note.
    pub fn dial(&self) -> Dial {
        Dial { dialer: self.clone(), opening: Arc::default() }
    }

    /// Whether a proxy stands between us and the server.
    fn is_proxied(&self, target: &Target) -> bool {
        self.shared.proxied.as_ref().is_some_and(|proxied| proxied.intercept(&target.uri).is_some())
    }
}

/// The connection of one try: opened ahead of its request or with it.
#[derive(Clone)]
pub struct Dial {
    dialer: Dialer,
    opening: Arc<Mutex<Option<Opening>>>,
}

/// A connection on its way. Let go of, it is closed.
struct Opening {
    origin: String,
    task: JoinSet<Option<Opened>>,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").finish_non_exhaustive()
    }
}

impl Dial {
    /// Begins to open the connection for a request to the server of `url` that follows within seconds. Does nothing where
    /// the server is not known to wait for it.
    pub fn ahead(&self, url: &Url) {
        let Some(target) = Target::of(url).filter(|target| !self.dialer.is_proxied(target)) else { return };
        if !self.dialer.shared.patience.is_known_of(&target.origin) {
            return;
        }
        let (dialer, origin) = (self.dialer.clone(), target.origin.clone());
        let mut task = JoinSet::new();
        task.spawn(async move { dialer.shared.connector.open(&target).await.ok() });
        *self.opening.lock().unwrap_or_else(PoisonError::into_inner) = Some(Opening { origin, task });
    }

    /// Sends `request` over a connection of its own. Where `sent` says that no byte went out, nothing has happened, also
    /// where this future is dropped.
    pub(crate) async fn send(&self, request: Request, sent: &Sent) -> Result<Exchange, NoAnswer> {
        let shared = &self.dialer.shared;
        let target = Target::of(request.url()).ok_or(NoAnswer::NotSent)?;
        if self.dialer.is_proxied(&target) {
            sent.assume_something();
            let response = shared.through_proxy.execute(request).await.map_err(|error| no_answer(&error))?;
            return Ok(Exchange { response, open: None });
        }
        let mut ahead = self.opened_ahead(&target).await;
        for _ in 0..CONNECTIONS {
            let (opened, was_ahead) = match ahead.take() {
                Some(opened) => (opened, true),
                None => {
                    let opened = shared.connector.open(&target).await.map_err(|error| {
                        tracing::debug!(%error, "no connection for a note came about");
                        NoAnswer::NotSent
                    })?;
                    (opened, false)
                }
            };
            // A body that comes from a stream can be sent once only.
            let Some(copy) = request.try_clone() else { return Err(NoAnswer::NotSent) };
            match self.over(opened, target.clone(), copy, sent).await {
                Ok(exchange) => return Ok(exchange),
                Err(error) if sent.is_nothing() => {
                    tracing::debug!(%error, was_ahead, "a connection was closed before its request began");
                    if was_ahead {
                        shared.patience.learn(&target.origin, false);
                    }
                }
                Err(_) => return Err(NoAnswer::Lost),
            }
        }
        Err(NoAnswer::NotSent)
    }

    /// The connection that was opened ahead, if it is for this server and not too old.
    async fn opened_ahead(&self, target: &Target) -> Option<Opened> {
        let opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut opening = opening.filter(|opening| opening.origin == target.origin)?;
        let opened = opening.task.join_next().await?.ok()??;
        (opened.at.elapsed() <= self.dialer.shared.patience.longest_wait()).then_some(opened)
    }

    async fn over(
        &self,
        opened: Opened,
        target: Target,
        request: Request,
        sent: &Sent,
    ) -> Result<Exchange, hyper::Error> {
        let request = outgoing(request, &self.dialer.shared.user_agent);
        let (mut sender, connection) = http1::handshake(TokioIo::new(opened.stream)).await?;
        opened.gate.open(sent.clone());
        let mut driver = Box::pin(connection);
        let mut sending = std::pin::pin!(sender.send_request(request));
        // This task does it, so that no other has to be woken between the opened connection and the first byte.
        let mut drivers = JoinSet::new();
        let response = tokio::select! {
            biased;
            response = &mut sending => {
                drivers.spawn(async move { drop(driver.await) });
                response?
            }
            _ = &mut driver => sending.await?,
        };
        let response = Response::from(response.map(reqwest::Body::wrap));
        let open = Open { sender, drivers, origin: target.origin, dialer: self.dialer.clone() };
        Ok(Exchange { response, open: Some(open) })
    }
}

/// The request as HTTP/1.1 sends it to an origin server.
fn outgoing(request: Request, user_agent: &HeaderValue) -> http::Request<reqwest::Body> {
    let url = request.url();
    let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]);
    let path = url[Position::BeforePath..Position::AfterQuery].parse().unwrap_or_default();
    let (method, mut headers) = (request.method().clone(), request.headers().clone());
    if let Ok(host) = host {
        headers.entry(HOST).or_insert(host);
    }
    headers.entry(USER_AGENT).or_insert_with(|| user_agent.clone());
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    let body = http::Request::<reqwest::Body>::try_from(request).map(http::Request::into_body);
    let mut request = http::Request::new(body.unwrap_or_default());
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, path, headers);
    request
}

/// An answer whose head has come.
pub(crate) struct Exchange {
    pub response: Response,
    pub open: Option<Open>,
}

/// The connection under an answer. It has to live until the answer is read.
pub(crate) struct Open {
    /// Without it the connection closes itself after the answer.
    sender: http1::SendRequest<reqwest::Body>,
    drivers: JoinSet<()>,
    origin: String,
    dialer: Dialer,
}

impl Open {
    /// Lets go of the connection after its answer, having looked at what the server does with it where that is not known.
    pub fn done(self) {
        let Self { sender, mut drivers, origin, dialer } = self;
        if !dialer.shared.patience.is_to_be_looked_at(&origin, Instant::now()) {
            return;
        }
        tokio::spawn(async move {
            let patience = &dialer.shared.patience;
            let closed = tokio::time::timeout(patience.hold(), drivers.join_next()).await;
            patience.learn(&origin, closed.is_err());
            drop(sender);
        });
    }
}

#[cfg(test)]
mod tests;
