use std::time::Duration;

use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use self::little_proxy::{LOGIN, LittleProxy};
use super::*;
use crate::{
    Context,
    dial::{DialOptions, Dialer},
    guard::{AddressRules, Forbidden, GuardedClient},
    test_tls::{acceptor, roots},
    trust::Trust,
    wire::{self, NoAnswer},
};

#[path = "../../../tests/support/proxy.rs"]
mod little_proxy;

/// A server that answers every request with "ok", over TLS if `tls`. Returns its address.
async fn server(tls: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let acceptor = acceptor("sound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if tls {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream).await;
                    }
                } else {
                    answer(stream).await;
                }
            });
        }
    });
    address
}

async fn answer(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
}

fn trust() -> Trust {
    Trust::only(roots("sound")).expect("TLS settings")
}

fn context(proxy: &Proxy) -> Context {
    let patience = Duration::from_secs(10);
    let trust = trust();
    let options = DialOptions { proxy: proxy.clone(), ..DialOptions::new(trust.clone()) };
    let rules =
        AddressRules { allow_http: true, allow_networks: vec!["127.0.0.0/8".parse().expect("a network")] };
    let guarded = GuardedClient::new(rules, patience, &trust)
        .and_then(|client| client.through(proxy, patience, &trust));
    Context {
        http: proxy.client(&trust).and_then(ClientBuilder::build).expect("a client"),
        dial: Dialer::new(options).expect("a dialer").dial(),
        guarded: guarded.expect("a client"),
        now: jiff::Timestamp::UNIX_EPOCH,
        timeout: Duration::from_secs(20),
    }
}

fn parsed(text: &str) -> Proxy {
    Proxy::parse(text).expect(text)
}

async fn dispatch(cx: &Context, url: &str) -> Result<u16, NoAnswer> {
    let request = wire::json_request(Method::GET, url.parse().expect("a URL"), None);
    wire::dispatch(cx, request).await.map(|answer| answer.status.as_u16())
}

#[tokio::test]
async fn every_request_to_a_provider_goes_through_the_proxy() {
    let (proxy, plain, tls) = (LittleProxy::start().await, server(false).await, server(true).await);
    let cx = context(&parsed(&proxy.url()));
    assert_eq!(dispatch(&cx, &format!("http://{plain}/visible")).await, Ok(200));
    assert_eq!(proxy.take_lines(), [format!("GET http://{plain}/visible HTTP/1.1")]);

    assert_eq!(dispatch(&cx, &format!("https://{tls}/visible")).await, Ok(200));
    assert_eq!(proxy.take_lines(), [format!("CONNECT {tls} HTTP/1.1")]);

    let request =
        wire::json_request(Method::GET, format!("http://{plain}/api").parse().expect("a URL"), None);
    assert_eq!(wire::call(&cx, request).await.expect("an answer").status, 200);
    assert_eq!(proxy.take_lines(), [format!("GET http://{plain}/api HTTP/1.1")]);

    // An address for an upload, which the provider named.
    let upload: Url = format!("http://{plain}/upload").parse().expect("a URL");
    let request = cx.guarded.request(Method::PUT, upload).expect("allowed");
    assert_eq!(wire::call_guarded(&cx, request).await.expect("an answer").status, 200);
    assert_eq!(proxy.take_lines(), [format!("PUT http://{plain}/upload HTTP/1.1")]);
    let metadata = "http://169.254.169.254/".parse().expect("a URL");
    assert!(matches!(cx.guarded.request(Method::PUT, metadata), Err(Forbidden::Address)));
    // A name whose addresses are known here is judged before the proxy is asked.
    let rules = AddressRules { allow_http: true, ..AddressRules::default() };
    let strict = GuardedClient::new(rules, cx.timeout, &trust()).expect("a client");
    let strict = strict.through(&parsed(&proxy.url()), cx.timeout, &trust()).expect("a client");
    let local: Url = format!("http://{plain}/").replace("127.0.0.1", "ip6-localhost").parse().expect("a URL");
    if tokio::net::lookup_host("ip6-localhost:0").await.is_ok() {
        assert_eq!(strict.judge_proxied(&local).await, Err(Forbidden::Address));
    }
    let unknown = "https://storage.invalid/".parse().expect("a URL");
    assert_eq!(strict.judge_proxied(&unknown).await, Ok(()));
}

#[tokio::test]
async fn no_request_goes_through_a_proxy_that_is_not_set() {
    let (proxy, plain) = (LittleProxy::start().await, server(false).await);
    let cx = context(&Proxy::None);
    assert_eq!(dispatch(&cx, &format!("http://{plain}/")).await, Ok(200));
    assert!(proxy.lines().is_empty());
}

#[tokio::test]
async fn a_proxy_that_lets_nothing_through_proves_that_nothing_was_sent() {
    let (proxy, plain, tls) = (LittleProxy::start().await, server(false).await, server(true).await);
    let stranger = context(&parsed(&format!("http://me:wrong@{}", proxy.address)));
    assert_eq!(dispatch(&stranger, &format!("https://{tls}/")).await, Err(NoAnswer::NotSent));
    // A plain request is answered by the proxy, with a status that a provider never uses.
    let refused = dispatch(&stranger, &format!("http://{plain}/")).await;
    assert_eq!(refused, Err(NoAnswer::Proxy));
    let error = NoAnswer::Proxy.in_dispatch();
    assert_eq!(error.kind, crate::SendErrorKind::Misconfigured);
    assert!(error.to_string().contains("server.proxy"), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone = listener.local_addr().expect("an address");
    drop(listener);
    let cx = context(&parsed(&format!("http://{gone}")));
    for url in [format!("http://{plain}/"), format!("https://{tls}/")] {
        assert_eq!(dispatch(&cx, &url).await, Err(NoAnswer::NotSent), "{url}");
    }
    assert!(proxy.lines().is_empty());
}

#[test]
fn only_words_and_urls_of_proxies_are_read() {
    assert_eq!(Proxy::parse("environment"), Ok(Proxy::Environment));
    assert_eq!(Proxy::parse("none"), Ok(Proxy::None));
    for text in ["http://proxy:3128", "https://proxy.example", "http://me:S3CRET@[::1]:3128/"] {
        assert!(matches!(Proxy::parse(text), Ok(Proxy::Url(_))), "{text}");
    }
    for text in [
        "",
        "off",
        "Environment",
        "proxy:3128",
        "proxy.example",
        "ftp://proxy:21",
        "socks5://proxy:1080",
        "http://",
        "http://proxy:3128/path",
        "http://proxy:3128/?k=S3CRET",
        "http://me:S3CRET@:3128",
        "http://me:S3CRET@proxy:99999",
    ] {
        let error = Proxy::parse(text).expect_err(text).to_string();
        assert!(error.contains("\"environment\", \"none\"") && !error.contains("S3CRET"), "{error}");
    }
}

#[test]
fn the_credentials_of_a_proxy_are_never_shown() {
    let proxy = parsed(&format!("http://{LOGIN}@proxy.example:3128"));
    let cx = context(&proxy);
    for shown in [format!("{proxy:?}"), format!("{proxy:#?}"), format!("{cx:?}")] {
        assert!(!shown.contains("S3CRET"), "{shown}");
    }
    assert_eq!(proxy.to_string(), "providers are reached through http://proxy.example:3128");
}
