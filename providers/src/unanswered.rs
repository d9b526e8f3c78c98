//! The reasons why a request got no answer, with texts that say what to fix.

use std::{error::Error, io};

use rustls::CertificateError;

use crate::guard::{GuardedClient, NotResolved};

/// The step at which a request failed. No text contains the URL, which may hold a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The name resolves to addresses that the rules forbid.
    Forbidden,
    /// The name cannot be resolved.
    Name,
    /// No process listens at the address and port.
    Refused,
    /// There is no route to the address.
    Unreachable,
    /// No connection was made within the time limit.
    NoConnection,
    /// The server could not prove its identity, or does not speak TLS.
    Tls(&'static str),
    /// The connection was made, and no answer came in time.
    Silent,
    /// The connection was closed before an answer.
    HungUp,
    /// The answer is not HTTP.
    NotHttp,
    /// The answer ended early.
    BrokenOff,
}

impl Unanswered {
    /// Reads the reason from an error of sending a request or of reading its answer.
    pub fn of(error: &reqwest::Error) -> Self {
        if GuardedClient::refused_by_address(error) {
            return Self::Forbidden;
        }
        let causes: Vec<&(dyn Error + 'static)> = causes(error).collect();
        let found =
            |is: fn(&(dyn Error + 'static)) -> Option<Self>| causes.iter().find_map(|cause| is(*cause));
        if error.is_body() || error.is_decode() {
            return if error.is_timeout() { Self::Silent } else { Self::BrokenOff };
        }
        if !error.is_connect() {
            return match found(of_http) {
                _ if error.is_timeout() => Self::Silent,
                Some(why) => why,
                None => Self::HungUp,
            };
        }
        // Outer errors are checked first: an error of TLS is wrapped into an I/O error, and so is one of the address.
        if let Some(why) = found(of_name).or_else(|| found(of_tls)) {
            return why;
        }
        if error.is_timeout() { Self::NoConnection } else { found(of_address).unwrap_or(Self::Unreachable) }
    }

    /// Returns a sentence without its full stop. `server` names the server: "the server behind the URL".
    pub fn about(self, server: &str) -> String {
        match self {
            Self::Forbidden => format!("{server} is not on the public internet"),
            Self::Name => format!("the host name of {server} cannot be resolved"),
            Self::Refused => format!("{server} refuses connections at this address and port"),
            Self::Unreachable => format!("the address of {server} cannot be reached from here"),
            Self::NoConnection => format!("the address of {server} did not answer in time"),
            Self::Tls(why) => format!("{server} has no sound TLS: {why}"),
            Self::Silent => format!("{server} did not answer in time"),
            Self::HungUp => format!("{server} closed the connection without an answer"),
            Self::NotHttp => format!("the answer of {server} is not HTTP"),
            Self::BrokenOff => format!("the answer of {server} broke off before its end"),
        }
    }
}

/// Iterates over the error and all that it wraps. The source of an I/O error is the source of the wrapped error, and
/// not that error itself.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause: &&'a (dyn Error + 'static)| {
        let cause: &'a (dyn Error + 'static) = *cause;
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| cause.source())
    })
}

fn of_name(cause: &(dyn Error + 'static)) -> Option<Unanswered> {
    cause.is::<NotResolved>().then_some(Unanswered::Name)
}

fn of_tls(cause: &(dyn Error + 'static)) -> Option<Unanswered> {
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(Unanswered::Tls(tls(error)));
    }
    // A connection that ends while it is made ended during the handshake: a refusal by TCP is reported as such.
    let io = cause.downcast_ref::<io::Error>()?;
    let ended = matches!(
        io.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    );
    ended.then_some(Unanswered::Tls("the handshake was broken off"))
}

fn tls(error: &rustls::Error) -> &'static str {
    let rustls::Error::InvalidCertificate(why) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => "it does not speak TLS on this port",
            rustls::Error::PeerIncompatible(_) => "it speaks no version of TLS that is secure",
            rustls::Error::AlertReceived(_) => "it refused the handshake",
            _ => "the handshake failed",
        };
    };
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host name"
        }
        CertificateError::UnknownIssuer => "its certificate is signed by nobody whom this machine trusts",
        CertificateError::Revoked => "its certificate was revoked",
        _ => "its certificate is not valid",
    }
}

fn of_address(cause: &(dyn Error + 'static)) -> Option<Unanswered> {
    let io = cause.downcast_ref::<io::Error>()?;
    match io.kind() {
        io::ErrorKind::ConnectionRefused => Some(Unanswered::Refused),
        io::ErrorKind::TimedOut => Some(Unanswered::NoConnection),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => Some(Unanswered::Unreachable),
        _ => None,
    }
}

fn of_http(cause: &(dyn Error + 'static)) -> Option<Unanswered> {
    let error = cause.downcast_ref::<hyper::Error>()?;
    error.is_parse().then_some(Unanswered::NotHttp)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        guard::AddressRules,
        test_tls::{acceptor, certificate},
        trust::Trust,
    };

    /// Asks a server on loopback that does `with` each connection.
    async fn ask(scheme: &str, trusts: &str, with: impl AsyncFn(TcpStream)) -> Unanswered {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("{scheme}://{}/token", listener.local_addr().expect("an address"));
        let server = async {
            while let Ok((stream, _)) = listener.accept().await {
                with(stream).await;
            }
        };
        let root = reqwest::Certificate::from_der(&certificate(trusts)).expect("a certificate");
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([root])
            .timeout(Duration::from_secs(2))
            .build()
            .expect("a client");
        let asked = async {
            let mut response = client.get(&url).send().await?;
            while response.chunk().await?.is_some() {}
            Ok(())
        };
        let error: reqwest::Error = tokio::select! {
            answer = asked => answer.expect_err("no whole answer"),
            () = server => panic!("the server ended"),
        };
        Unanswered::of(&error)
    }

    /// Reads the head of a request, and answers with `text`.
    async fn answer(mut stream: TcpStream, text: &str) {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(text.as_bytes()).await;
    }

    async fn tls(stream: TcpStream, name: &str) {
        let _ = acceptor(name).accept(stream).await;
    }

    #[tokio::test]
    async fn each_failed_step_of_a_request_is_reported_by_name() {
        use Unanswered::*;
        assert_eq!(ask("http", "sound", async |stream| drop::<TcpStream>(stream)).await, HungUp);
        assert_eq!(ask("http", "sound", |stream| answer(stream, "")).await, HungUp);
        assert_eq!(ask("http", "sound", |stream| answer(stream, "SSH-2.0-OpenSSH_9.2\r\n")).await, NotHttp);
        let half = |stream| answer(stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        assert_eq!(ask("http", "sound", half).await, BrokenOff);
        let silent = async |_stream: TcpStream| tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(ask("http", "sound", silent).await, Silent);
    }

    #[tokio::test]
    async fn invalid_certificate_is_explained_plainly() {
        let says = |why: Unanswered| match why {
            Unanswered::Tls(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(says(ask("https", "expired", |stream| tls(stream, "expired")).await).contains("expired"));
        assert!(
            says(ask("https", "elsewhere", |stream| tls(stream, "elsewhere")).await).contains("another host")
        );
        assert!(says(ask("https", "stranger", |stream| tls(stream, "sound")).await).contains("trusts"));
        assert!(
            says(ask("https", "sound", |stream| answer(stream, "HTTP/1.1 400 Bad\r\n\r\n")).await)
                .contains("speak TLS")
        );
        assert!(says(ask("https", "sound", |stream| answer(stream, "")).await).contains("broken off"));
    }

    #[tokio::test]
    async fn host_names_and_addresses_are_distinguished() {
        let rules = || AddressRules {
            allow_http: true,
            allow_networks: vec!["127.0.0.0/8".parse().expect("a network")],
        };
        let trust = Trust::nobody().expect("TLS settings");
        let client = GuardedClient::new(rules(), Duration::from_secs(5), &trust).expect("a client");
        let ask = async |url: &str| {
            let url = url.parse().expect("a URL");
            let request = client.request(reqwest::Method::GET, url).expect("allowed by its text");
            Unanswered::of(&request.send().await.expect_err("no answer"))
        };
        assert_eq!(ask("http://no-such-host.invalid/").await, Unanswered::Name);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        assert_eq!(ask(&format!("http://127.0.0.1:{port}/")).await, Unanswered::Refused);
    }
}
