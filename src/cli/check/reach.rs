//! Sends a request that asks for nothing, to see whether a server answers.

use std::{error::Error, fmt, io, time::Duration};

use reqwest::{RequestBuilder, Response};
use url::{Host, Url};
use voicegate_providers::guard::GuardedClient;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The reason why no server answered. The texts continue a sentence that begins with the address.
#[derive(Debug)]
pub enum Unreached {
    /// The name resolves to addresses that the rules forbid.
    Forbidden,
    NoName,
    /// A server answers, but does not prove that it is the right one.
    Tls(String),
    NoConnection(String),
    NoAnswer,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden => f.write_str("is not on the public internet"),
            Self::NoName => f.write_str("cannot be resolved"),
            Self::Tls(why) => write!(f, "has faulty TLS ({why})"),
            Self::NoConnection(why) => write!(f, "does not answer ({why})"),
            Self::NoAnswer => f.write_str("gives no HTTP answer"),
        }
    }
}

/// A URL as it may be printed, without path and query, which can contain a token.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Direct,
    Proxy,
}

/// Sends the request to `url`. Any answer is a success.
///
/// # Errors
/// [`Unreached`]
pub async fn reach(url: &Url, request: RequestBuilder, way: Way) -> Result<Response, Unreached> {
    let asked = async {
        // A proxy resolves the name itself, and this machine may be unable to. Elsewhere the name is resolved separately, because an HTTP client reports "no connection" for a wrong name and a wrong
        // address alike.
        if way == Way::Direct
            && let Some(Host::Domain(name)) = url.host()
            && tokio::net::lookup_host((name, 0)).await.is_err()
        {
            return Err(Unreached::NoName);
        }
        request.send().await.map_err(|error| unreached(&error))
    };
    tokio::time::timeout(TIMEOUT, asked)
        .await
        .unwrap_or_else(|_| Err(Unreached::NoConnection(format!("nothing within {} s", TIMEOUT.as_secs()))))
}

fn unreached(error: &reqwest::Error) -> Unreached {
    if GuardedClient::refused_by_address(error) {
        return Unreached::Forbidden;
    }
    if !error.is_connect() {
        return Unreached::NoAnswer;
    }
    // A TLS error arrives as invalid data inside an I/O error, or as its end if the server hangs up. The text of
    // reqwest would contain the whole URL; the innermost cause does not.
    let (mut tls, mut innermost): (bool, Option<&(dyn Error + 'static)>) = (false, None);
    let mut next = error.source();
    while let Some(cause) = next {
        innermost = Some(cause);
        let io = cause.downcast_ref::<io::Error>();
        tls |= io
            .is_some_and(|io| matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof));
        // The source of an I/O error is the source of the error that it wraps, not that error itself.
        let wrapped = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
        next = wrapped.or_else(|| cause.source());
    }
    let why = innermost.map(ToString::to_string).unwrap_or_default();
    if tls { Unreached::Tls(why) } else { Unreached::NoConnection(why) }
}
