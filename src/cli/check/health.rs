//! `voicegate check --health`: asks the gateway on this machine whether it is ready, as a container's health check does.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;

use super::line::Line;

/// Timeout for the question. A container engine waits 30 s for a health check by default.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes.
const LONGEST: usize = 64 * 1024;

/// Asks the gateway that listens at `listen` for `/readyz`.
pub async fn ask(listen: SocketAddr) -> Line {
    let address = on_this_machine(listen);
    match readiness(address).await {
        Ok((200, _)) => Line::ok(format!("the gateway at {address} is ready")),
        Ok((status, body)) => {
            Line::fail(format!("the gateway at {address} answers {status}: {}", failures(&body)))
        }
        Err(error) => {
            let why = innermost(&error);
            Line::fail(format!("no gateway answers at {address} ({why}); start it, or correct server.listen"))
        }
    }
}

async fn readiness(address: SocketAddr) -> reqwest::Result<(u16, Vec<u8>)> {
    let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
    let mut answer = http.get(format!("http://{address}/readyz")).send().await?;
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        body.extend_from_slice(&piece);
        if body.len() > LONGEST {
            break;
        }
    }
    Ok((answer.status().as_u16(), body))
}

/// The checks of `/readyz` that failed, with their reasons.
fn failures(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let checks = body["checks"].as_object().into_iter().flatten();
    let failed = checks.filter(|(_, check)| check["status"] != "ok");
    let failed: Vec<String> = failed
        .map(|(name, check)| format!("{name}: {}", check["reason"].as_str().unwrap_or("no reason")))
        .collect();
    if failed.is_empty() { "this is not the readiness of a gateway".to_owned() } else { failed.join("; ") }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::ptr::addr_eq(cause, error) { "no HTTP answer".to_owned() } else { cause.to_string() }
}

/// The address at which this machine reaches a listener. One that listens on all addresses is reached by loopback.
fn on_this_machine(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_on_all_addresses_is_reached_by_loopback() {
        for (listen, reached) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:8080", "192.0.2.1:8080"),
        ] {
            let listen: SocketAddr = listen.parse().expect("an address");
            assert_eq!(on_this_machine(listen).to_string(), reached);
        }
    }

    #[test]
    fn failed_checks_are_named_with_their_reasons() {
        let body = br#"{"status":"failed","checks":{"disk":{"status":"failed","reason":"full"},"media":{"status":"ok"}}}"#;
        assert_eq!(failures(body), "disk: full");
        assert_eq!(failures(b"<html>"), "this is not the readiness of a gateway");
    }
}
