//! Checks what only a request can show: providers, the public address of the gateway, the tenants' webhooks.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use url::Url;
use voicegate_providers::{self as providers, Intake, SendError, guard::Forbidden, speech};

use super::{
    line::Line,
    reach::{Unreached, Way, origin, reach},
};
use crate::{
    config::{Connection, Webhook, way_out},
    gateway::Live,
};

/// How many requests are made at a time.
const AT_ONCE: usize = 8;

/// Time limit for each of the one or two requests to a provider; the limit of a connection is meant for uploads.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The answer of `/healthz`.
const HEALTHY: &[u8] = b"ok\n";

/// All connections of all tenants, in the order of the keys in the configuration.
pub async fn connections(live: &Live, now: Timestamp) -> Vec<Line> {
    let connections = live.tenants.iter().flat_map(|tenant| {
        tenant.connections.values().map(|connection| {
            (format!("tenants.{}.connections.{}", tenant.name, connection.name), connection)
        })
    });
    stream::iter(connections)
        .map(|(key, connection)| async move { ask(live, now, &key, connection).await })
        .buffered(AT_ONCE)
        .collect()
        .await
}

/// Says for each connection whether voice notes that people send can come in. Connections whose provider has no callbacks
/// are left out.
pub async fn inbound(live: &Live, now: Timestamp) -> Vec<Line> {
    let connections = live.tenants.iter().flat_map(|tenant| {
        tenant.connections.values().map(move |connection| (tenant.name.as_str(), connection))
    });
    stream::iter(connections)
        .map(|(tenant, connection)| async move { receives(live, now, tenant, connection).await })
        .buffered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Nothing here is a failure: notes can be sent all the same.
async fn receives(live: &Live, now: Timestamp, tenant: &str, connection: &Connection) -> Option<Line> {
    let key = format!("tenants.{tenant}.connections.{}", connection.name);
    providers::find(connection.provider_name)?.callbacks.as_ref()?;
    if !connection.provider.capabilities().inbound {
        let what = "no voice notes come in: its callbacks are not configured, or the provider has none";
        return Some(Line::note(format!("{key}: {what}")));
    }
    if !connection.inbound {
        return Some(Line::note(format!("{key}: no voice notes come in, because of inbound = false")));
    }
    let mut url = live.config.server.public_url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["callbacks", tenant, connection.name.as_str()]);
    }
    let cx = live.context(now, connection.timeout.min(TIMEOUT));
    Some(match connection.provider.callback_status(&cx, &url).await {
        Ok(status) => Line::ok(format!("{key}: voice notes can come in; {status}")),
        Err(error) => Line::note(format!("{key}: no voice notes come in: {error}{}", answered(&error))),
    })
}

async fn ask(live: &Live, now: Timestamp, key: &str, connection: &Connection) -> Line {
    let cx = live.context(now, connection.timeout.min(TIMEOUT));
    match connection.provider.check(&cx).await {
        Ok(report) => Line::ok(format!("{key}: {report}")),
        Err(error) => Line::fail(format!("{key}: {error}{}", answered(&error))),
    }
}

/// The facts that the provider's support asks for. The provider's own words are left out, since they may contain a
/// number.
fn answered(error: &SendError) -> String {
    let upstream = error.upstream.clone().unwrap_or_default();
    let parts: Vec<String> = [
        upstream.status.map(|status| format!("status {status}")),
        upstream.code.map(|code| format!("code {code}")),
        upstream.trace.map(|trace| format!("trace {trace}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// Checks whether `server.public_url` leads to a gateway. If no provider downloads from it, a failure is only a note.
pub async fn public_url(live: &Live) -> Line {
    let base = &live.config.server.public_url;
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push("healthz");
    }
    let mut connections = live.tenants.iter().flat_map(|tenant| tenant.connections.values());
    let needed = connections.any(|connection| connection.provider.capabilities().uses(Intake::Url));
    let wrong = |what: String| {
        if needed { Line::fail(what) } else { Line::note(format!("{what} (no connection needs it now)")) }
    };
    let say = |what: &str| format!("server.public_url: {} {what}", origin(base));
    let way = if live.config.server.proxy.is_for(&url) { Way::Proxy } else { Way::Direct };
    match reach(&url, live.providers.http.get(url.clone()), way).await {
        Ok(response) => {
            let status = response.status();
            if status == StatusCode::OK && says_ok(response).await {
                Line::ok(say("leads to a running gateway"))
            } else if status.is_server_error() {
                Line::note(say(&format!("answers {status}; no gateway seems to run behind it at the moment")))
            } else if status.is_redirection() {
                wrong(say(&format!("answers {status}; name the address to which it redirects")))
            } else {
                let listen = live.config.server.listen;
                wrong(say(&format!(
                    "answers {status} at /healthz, which is not the answer of a gateway; forward it to server.listen ({listen})"
                )))
            }
        }
        // An address may work from outside although it cannot be reached from inside.
        Err(why @ (Unreached::NoConnection(_) | Unreached::NoAnswer | Unreached::Forbidden)) => {
            Line::note(say(&format!("{why}; that is right while no gateway runs")))
        }
        Err(why @ Unreached::NoName) => {
            wrong(say(&format!("{why}; create its DNS entry, or correct the name")))
        }
        Err(why @ Unreached::Tls(_)) => {
            wrong(say(&format!("{why}; replace the certificate of the proxy in front, or correct the port")))
        }
    }
}

/// Whether this is the answer of a gateway's `/healthz`.
async fn says_ok(mut response: reqwest::Response) -> bool {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > HEALTHY.len() {
            return false;
        }
    }
    body == HEALTHY
}

/// Asks every speech and transcription server whether it takes the key.
pub async fn speech(live: &Live) -> Vec<Line> {
    let mut asked = Vec::new();
    for tenant in live.tenants.iter() {
        for (name, server) in &tenant.speech {
            let key = format!("tenants.{}.speech.{name}", tenant.name);
            asked.push((key, server.adapter.server(), server.adapter.question()));
        }
        for (name, server) in &tenant.transcription {
            let key = format!("tenants.{}.transcription.{name}", tenant.name);
            asked.push((key, server.adapter.server(), server.adapter.question()));
        }
    }
    let http = &live.providers.http;
    stream::iter(asked)
        .map(|(key, server, question)| async move {
            match speech::check(server, question, http, TIMEOUT).await {
                Ok(says) => Line::ok(format!("{key}: {says}")),
                Err(why) => Line::fail(format!("{key}: {} {why}", origin(server.base_url()))),
            }
        })
        .buffered(AT_ONCE)
        .collect()
        .await
}

/// Checks the webhook of every tenant that has one.
pub async fn webhooks(live: &Live) -> Vec<Line> {
    let webhooks = live
        .tenants
        .iter()
        .filter_map(|tenant| Some((format!("tenants.{}.webhook", tenant.name), tenant.webhook.as_ref()?)));
    stream::iter(webhooks)
        .map(|(key, webhook)| async move { hook(live, &key, webhook).await })
        .buffered(AT_ONCE)
        .collect()
        .await
}

async fn hook(live: &Live, key: &str, webhook: &Webhook) -> Line {
    let url: &Url = &webhook.url;
    let say = |what: String| format!("{key}: {} {what}", origin(url));
    // HEAD asks for nothing, and every server has some answer to it.
    let request = match live.fetcher.client().request(Method::HEAD, url.clone()) {
        Ok(request) => request,
        Err(why) => return Line::fail(say(way_out(&why, &live.config.fetch.rules()))),
    };
    match reach(url, request, Way::Direct).await {
        Ok(response) => {
            let status = response.status();
            if status.is_server_error() {
                Line::note(say(format!("answers {status}; look at its log")))
            } else if status.is_redirection() {
                Line::note(say(format!(
                    "answers {status}; redirects are not followed, name the last address"
                )))
            } else {
                Line::ok(say(format!("answers {status} to HEAD")))
            }
        }
        Err(Unreached::Forbidden) => {
            Line::fail(say(way_out(&Forbidden::Address, &live.config.fetch.rules())))
        }
        Err(why @ Unreached::NoName) => {
            Line::fail(say(format!("{why}; correct the name, or create its DNS entry")))
        }
        Err(why @ Unreached::Tls(_)) => {
            Line::fail(say(format!("{why}; replace its certificate, or correct the port")))
        }
        Err(why) => Line::fail(say(format!("{why}; start the bot, or let this machine reach it"))),
    }
}
