//! Requests to untrusted URLs: audio URLs and webhooks of bots, and upload URLs in a provider's answer.
//!
//! Such a URL must not reach what only this machine can reach. Two checks are needed, because an HTTP client
//! resolves names but dials literal addresses as they are: [`AddressRules::check`] judges the URL's text, and
//! the resolver inside [`GuardedClient`] judges every address a name resolves to, at the moment it is
//! dialled, so a name that answers differently the second time gains nothing.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper_util::client::proxy::matcher::Matcher;
use ipnet::IpNet;
use reqwest::{
    Method, RequestBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use url::{Host, Url};

use crate::{
    proxy::{Proxy, intercepts},
    trust::Trust,
};

/// Special-purpose ranges that are never public (IANA IPv4 registry,
/// <https://www.iana.org/assignments/iana-ipv4-special-registry/>).
const SPECIAL_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10), // carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16), // link local, cloud metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24), // 6to4 relay
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4), // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4), // reserved and broadcast
];

/// Only 2000::/3 is handed out as global unicast; inside it these are special (IANA IPv6 registry,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry/>).
const SPECIAL_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo included
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// The reason why a URL is refused before anything is sent to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    #[error("only https URLs are allowed")]
    Scheme,
    #[error("the URL carries a user name or password; use headers instead")]
    Credentials,
    #[error("the URL names no host")]
    NoHost,
    #[error("the host is not on the public internet")]
    Address,
}

/// A host name has no address.
#[derive(Debug, thiserror::Error)]
#[error("the host name cannot be resolved")]
pub struct NotResolved;

/// The rules of `fetch.allow_http` and `fetch.allow_networks`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    pub allow_http: bool,
    /// Networks that may be dialled although they are not public.
    pub allow_networks: Vec<IpNet>,
}

impl AddressRules {
    /// Checks scheme, credentials, literal addresses and names that always mean this machine; other names are checked
    /// when they are resolved.
    ///
    /// # Errors
    /// [`Forbidden`] says which rule the URL breaks.
    pub fn check(&self, url: &Url) -> Result<(), Forbidden> {
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            _ => return Err(Forbidden::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden::Credentials);
        }
        // The url crate has already turned 2130706433, 0x7f.1 and their like into addresses.
        let address = match url.host().ok_or(Forbidden::NoHost)? {
            Host::Domain(name) if is_this_machine(name) && !self.allows_this_machine() => {
                return Err(Forbidden::Address);
            }
            Host::Domain(_) => return Ok(()),
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
        };
        if self.allows(address) { Ok(()) } else { Err(Forbidden::Address) }
    }

    fn allows_this_machine(&self) -> bool {
        self.allows(Ipv4Addr::LOCALHOST.into()) || self.allows(Ipv6Addr::LOCALHOST.into())
    }

    /// Whether `address` may be dialled: public, or in one of `allow_networks`.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = embedded_v4(address).map_or(address, IpAddr::V4);
        self.allow_networks.iter().any(|network| network.contains(&address)) || is_public(address)
    }
}

/// Names that mean the machine itself whatever a resolver says (RFC 6761 section 6.3; systemd adds the last), with or
/// without the dot at the end that makes a name absolute.
fn is_this_machine(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    ["localhost", "localhost.localdomain"]
        .iter()
        .any(|local| name.strip_suffix(local).is_some_and(|front| front.is_empty() || front.ends_with('.')))
}

/// The IPv4 address inside a mapped (`::ffff:0:0/96`), NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`) address:
/// that is where such a packet ends up.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => Some(join(g, h)),
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => Some(join(g, h)),
        (0x2002, high) => Some(join(high, c)),
        _ => None,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|(network, length)| {
            let mask = u32::MAX << (32 - u32::from(*length));
            u32::from(v4) & mask == u32::from(*network)
        }),
        IpAddr::V6(v6) => {
            v6.segments()[0] & 0xe000 == 0x2000
                && !SPECIAL_V6.iter().any(|(network, length)| {
                    let mask = u128::MAX << (128 - u32::from(*length));
                    u128::from(v6) & mask == u128::from(*network)
                })
        }
    }
}

/// An HTTP client that dials only what [`AddressRules`] allow. It follows no redirect, so that a caller that
/// follows one checks it first. It uses a proxy only where [`Self::through`] gave it one, since the proxy then does the
/// dialling.
#[derive(Clone, Debug)]
pub struct GuardedClient {
    http: reqwest::Client,
    rules: Arc<AddressRules>,
    proxied: Option<Arc<Proxied>>,
}

/// Longest look-up of a name that a proxy resolves anyway. Where only the proxy knows names, each takes this long at
/// most.
const LOOK_UP: Duration = Duration::from_secs(2);

/// The client for addresses that are reached through a proxy. It resolves only the name of the proxy, which the operator
/// chose.
#[derive(Debug)]
struct Proxied {
    matcher: Matcher,
    http: reqwest::Client,
}

impl GuardedClient {
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(
        rules: AddressRules,
        connect_timeout: Duration,
        trust: &Trust,
    ) -> Result<Self, reqwest::Error> {
        let rules = Arc::new(rules);
        let http = trust
            .client()
            .dns_resolver(Arc::new(GuardedResolver { rules: rules.clone() }))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(connect_timeout)
            .no_proxy()
            .build()?;
        Ok(Self { http, rules, proxied: None })
    }

    /// This client for addresses that a provider named, which are reached as the provider is.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn through(
        &self,
        proxy: &Proxy,
        connect_timeout: Duration,
        trust: &Trust,
    ) -> Result<Self, reqwest::Error> {
        let Some(matcher) = proxy.matcher() else { return Ok(self.clone()) };
        let http = proxy.client(trust)?.connect_timeout(connect_timeout).build()?;
        Ok(Self { proxied: Some(Arc::new(Proxied { matcher, http })), ..self.clone() })
    }

    /// Builds a request to `url`, unless the rules forbid it.
    ///
    /// # Errors
    /// [`Forbidden`] if the URL's text already breaks a rule.
    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, Forbidden> {
        self.rules.check(&url)?;
        let proxied = self.proxied.as_ref().filter(|proxied| intercepts(&proxied.matcher, &url));
        Ok(proxied.map_or(&self.http, |proxied| &proxied.http).request(method, url))
    }

    /// Judges an address that a proxy will dial: a name that this machine can resolve must not lead to forbidden
    /// addresses only. A name that only the proxy can resolve is left to the proxy.
    ///
    /// # Errors
    /// [`Forbidden::Address`]
    pub async fn judge_proxied(&self, url: &Url) -> Result<(), Forbidden> {
        let is_proxied = self.proxied.as_ref().is_some_and(|proxied| intercepts(&proxied.matcher, url));
        let Some(Host::Domain(name)) = url.host().filter(|_| is_proxied) else { return Ok(()) };
        let looked_up = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((name, 0))).await;
        let Ok(Ok(found)) = looked_up else { return Ok(()) };
        let (allowed, refused): (Vec<SocketAddr>, Vec<SocketAddr>) =
            found.partition(|address| self.rules.allows(address.ip()));
        if allowed.is_empty() && !refused.is_empty() { Err(Forbidden::Address) } else { Ok(()) }
    }

    /// Whether a request failed because its host resolved to forbidden addresses only.
    pub fn refused_by_address(error: &reqwest::Error) -> bool {
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            if error.is::<Forbidden>() {
                return true;
            }
            source = error.source();
        }
        false
    }
}

#[derive(Debug)]
struct GuardedResolver {
    rules: Arc<AddressRules>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.rules.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|error| {
                tracing::debug!(%error, "a host name could not be resolved");
                NotResolved
            })?;
            let (allowed, refused): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|address| rules.allows(address.ip()));
            if allowed.is_empty() {
                return Err(if refused.is_empty() { NotResolved.into() } else { Forbidden::Address.into() });
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str) -> Result<(), Forbidden> {
        AddressRules::default().check(&url.parse().expect("a URL"))
    }

    #[test]
    fn every_spelling_of_a_private_address_is_refused() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[fe80::1]",
            "[fc00::1]",
            "[fd12::1]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[2001::1]",
            "[::127.0.0.1]",
        ] {
            assert_eq!(check(&format!("https://{host}/a.mp3")), Err(Forbidden::Address), "{host}");
        }
    }

    #[test]
    fn public_https_is_allowed_and_nothing_else() {
        assert_eq!(check("https://93.184.215.14/a.mp3"), Ok(()));
        assert_eq!(check("https://[2606:2800:220:1::1]/a.mp3"), Ok(()));
        assert_eq!(check("https://example.com/a.mp3"), Ok(()));
        assert_eq!(check("http://example.com/a.mp3"), Err(Forbidden::Scheme));
        assert_eq!(check("file:///etc/passwd"), Err(Forbidden::Scheme));
        assert_eq!(check("https://user:pw@example.com/"), Err(Forbidden::Credentials));
    }

    #[test]
    fn allow_networks_are_exceptions_for_mapped_forms_too() {
        let rules = AddressRules {
            allow_http: true,
            allow_networks: vec!["127.0.0.0/8".parse().expect("a network")],
        };
        for url in ["http://127.0.0.1:9/a", "http://[::ffff:127.0.0.1]/a"] {
            assert_eq!(rules.check(&url.parse().expect("a URL")), Ok(()), "{url}");
        }
        assert_eq!(rules.check(&"http://10.0.0.1/".parse().expect("a URL")), Err(Forbidden::Address));
    }

    #[test]
    fn names_of_this_machine_are_checked_before_they_are_resolved() {
        let local = [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "a.b.localhost.",
            "localhost.localdomain",
        ];
        let open =
            AddressRules { allow_http: false, allow_networks: vec!["::1/128".parse().expect("a network")] };
        for host in local {
            let url = format!("https://{host}/a.mp3");
            assert_eq!(check(&url), Err(Forbidden::Address), "{host}");
            assert_eq!(open.check(&url.parse().expect("a URL")), Ok(()), "{host}");
        }
        for host in ["example.com.", "localhost.example.com", "notlocalhost", "127.0.0.1.example.com"] {
            assert_eq!(check(&format!("https://{host}/a.mp3")), Ok(()), "{host}");
        }
        for host in ["127.0.0.1.", "10.0.0.1."] {
            assert_eq!(check(&format!("https://{host}/a.mp3")), Err(Forbidden::Address), "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_not_dialled() {
        let resolver = GuardedResolver { rules: Arc::default() };
        let resolve = |name: &str| resolver.resolve(name.parse().expect("a name"));
        // The rules refuse this name already; a resolver may say the same of any other.
        let error = resolve("localhost").await.err().expect("refused");
        assert!(error.is::<Forbidden>(), "{error}");
        let error = resolve("no-such-host.invalid").await.err().expect("unknown");
        assert!(error.is::<NotResolved>(), "{error}");
    }
}
