//! The proxy through which providers are reached, and the HTTP clients that use it.
//!
//! Only what goes to a provider takes the proxy: its API, and the addresses for uploads that it names. Downloads of a
//! caller's URL and webhooks never do, because a proxy would resolve their names behind the address rules of
//! [`crate::guard`].

#[cfg(test)]
mod tests;

use std::fmt;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::ClientBuilder;
use url::Url;

use crate::trust::Trust;

/// The variables that name a proxy, with the kind of addresses that each is for.
const VARIABLES: [[&str; 2]; 3] =
    [["ALL_PROXY", "all_proxy"], ["HTTPS_PROXY", "https_proxy"], ["HTTP_PROXY", "http_proxy"]];

/// A proxy that was not understood. The text never repeats the value, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected \"environment\", \"none\", or the URL of a proxy such as \"http://proxy.example:3128\" or \
     \"http://USER:PASSWORD@proxy.example:3128\""
)]
pub struct NoSuchProxy;

/// The way to the providers.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Proxy {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, read as curl reads them.
    #[default]
    Environment,
    /// Providers are reached directly, whatever the environment says.
    None,
    /// One proxy for all providers. The URL may hold a password.
    Url(Box<Url>),
}

impl Proxy {
    /// Reads `environment`, `none` or a URL.
    ///
    /// # Errors
    /// [`NoSuchProxy`]
    pub fn parse(text: &str) -> Result<Self, NoSuchProxy> {
        match text {
            "environment" => return Ok(Self::Environment),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let url: Url = text.parse().map_err(|_| NoSuchProxy)?;
        let is_plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_proxy = matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain;
        // The same text has to name the same proxy to both clients that use it.
        let is_understood =
            || Matcher::builder().all(url.as_str()).build().intercept(&sample("https")).is_some();
        if is_proxy && is_understood() { Ok(Self::Url(Box::new(url))) } else { Err(NoSuchProxy) }
    }

    /// The rule that tells which addresses are reached through a proxy. `None` if none is.
    pub(crate) fn matcher(&self) -> Option<Matcher> {
        match self {
            Self::Environment => Some(Matcher::from_system()),
            Self::None => None,
            Self::Url(url) => Some(Matcher::builder().all(url.as_str()).build()),
        }
    }

    /// The beginning of every HTTP client for providers: it uses this proxy, follows no redirect and repeats nothing.
    ///
    /// # Errors
    /// The URL of the proxy cannot be used.
    pub fn client(&self, trust: &Trust) -> reqwest::Result<ClientBuilder> {
        let builder =
            trust.client().redirect(reqwest::redirect::Policy::none()).retry(reqwest::retry::never());
        Ok(match self {
            Self::Environment => builder,
            Self::None => builder.no_proxy(),
            Self::Url(url) => builder.proxy(reqwest::Proxy::all(url.as_str())?),
        })
    }

    /// Whether `url` is reached through a proxy.
    pub fn is_for(&self, url: &Url) -> bool {
        self.matcher().is_some_and(|matcher| intercepts(&matcher, url))
    }

    /// Variables of the environment that hold no usable proxy, and have no effect for that reason.
    pub fn unusable_variables(&self) -> Vec<&'static str> {
        if *self != Self::Environment {
            return Vec::new();
        }
        let set = VARIABLES
            .iter()
            .filter_map(|names| names.iter().find_map(|name| Some((*name, std::env::var(name).ok()?))));
        let unusable = set.filter(|(_, value)| {
            !value.is_empty()
                && !Matcher::builder()
                    .all(value.as_str())
                    .build()
                    .intercept(&sample("https"))
                    .is_some_and(|found| matches!(found.uri().scheme_str(), Some("http" | "https")))
        });
        unusable.map(|(name, _)| name).collect()
    }
}

pub(crate) fn intercepts(matcher: &Matcher, url: &Url) -> bool {
    url.as_str().parse().is_ok_and(|uri: Uri| matcher.intercept(&uri).is_some())
}

/// An address that no rule about names or networks excepts.
fn sample(scheme: &str) -> Uri {
    let mut uri = http::uri::Parts::default();
    uri.scheme = scheme.parse().ok();
    uri.authority = Some(http::uri::Authority::from_static("provider.invalid"));
    uri.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    Uri::from_parts(uri).unwrap_or_default()
}

/// The way in words, without user name and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let through = |scheme: &str| {
            let found = self.matcher()?.intercept(&sample(scheme))?;
            let (scheme, authority) = (found.uri().scheme_str()?, found.uri().authority()?);
            Some(format!("{scheme}://{authority}"))
        };
        match self {
            Self::None => f.write_str("providers are reached directly"),
            Self::Url(url) => {
                write!(f, "providers are reached through {}", url.origin().ascii_serialization())
            }
            Self::Environment => match (through("https"), through("http")) {
                (None, None) => {
                    f.write_str("providers are reached directly, because the environment names no proxy")
                }
                (Some(https), Some(http)) if https == http => {
                    write!(f, "providers are reached through {https}, which the environment names")
                }
                (https, http) => {
                    let ways = [("https", https), ("http", http)];
                    let ways = ways.map(|(scheme, proxy)| match proxy {
                        Some(proxy) => format!("{scheme} addresses through {proxy}"),
                        None => format!("{scheme} addresses directly"),
                    });
                    write!(f, "providers are reached as the environment says: {}", ways.join(", "))
                }
            },
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "Environment",
            Self::None => "None",
            Self::Url(_) => "Url(..)",
        })
    }
}
