//! Webhook delivery: events are posted to the bot as Standard Webhooks. They share the queue with everything else.
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, StatusCode, header};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use voicegate_providers::{
    Unanswered,
    wire::{in_time, retry_after},
};

use super::{backoff, persist, traced};
use crate::{
    config::Webhook,
    gateway::{Gateway, Live, server_slots::hung},
    model::event::{Event, WEBHOOK_WINDOW},
    store::{Claim, EVENTS, Health, JobEnd, Step, StoreError, WebhookAttempt, WebhookEnd, connection_key},
    telemetry::{metrics, traces::TraceContext},
    view::EventBody,
};

/// The longest wait for the answer of a bot. After it the delivery is retried.
const PATIENCE: Duration = Duration::from_secs(15);

/// The reason why an event was not delivered. It never contains the URL, which may hold a token.
struct Undelivered {
    why: String,
    /// The status of the bot's answer, if there was one.
    status: Option<StatusCode>,
    retry_after: Option<Duration>,
}

impl Undelivered {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), status: None, retry_after: None }
    }
}

/// A text that stands for the settings of a webhook without telling them, by which a change is noticed.
pub fn settings(webhook: &Webhook) -> String {
    let mut hash = Sha256::new();
    hash.update(webhook.url.as_str());
    for key in &webhook.keys {
        // A hash of each key, so that two keys are never taken for one.
        hash.update(Sha256::digest(key.expose_secret()));
    }
    hex::encode(hash.finalize())
}

/// Posts an event to the tenant's webhook. If that fails, schedules the next attempt.
pub async fn run(gateway: &Gateway, claim: &Claim, event: &Event) {
    let live = gateway.live();
    let tenant = &event.note.tenant;
    let now = gateway.clock.now();
    let Some(webhook) = live.tenants.get(tenant).and_then(|tenant| tenant.webhook.as_ref()) else {
        return record(gateway, claim, Step::Done, None, None).await; // the webhook was removed from the configuration
    };
    // An event that is posted again by order has its time anew.
    let given_up_at = claim.queued_at + WEBHOOK_WINDOW;
    if claim.expired || now >= given_up_at {
        tracing::error!(event.id = %event.id, tenant, "event {} was not taken for 24 h and is given up", event.id);
        metrics::event(tenant, "given_up", None);
        return record(gateway, claim, Step::Done, None, None).await;
    }
    let begun = Instant::now();
    let mut span = traced::webhook(gateway, &event.note, now);
    let context = span.context();
    let delivered = post(gateway, &live, webhook, event, context.as_ref()).await;
    span.set("event", event.kind.as_str());
    if delivered.is_err() {
        span.fail(None);
    }
    span.end(gateway.clock.now());
    gateway.server_slots.record(&connection_key(tenant, EVENTS), hung(begun.elapsed(), PATIENCE));
    let mut attempt = WebhookAttempt {
        at: now,
        status: None,
        took_ms: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        error: None,
    };
    let (step, health) = match delivered {
        Ok(status) => {
            attempt.status = Some(status.as_u16());
            let lag = gateway.clock.now().duration_since(event.at);
            metrics::event(tenant, "delivered", Some(lag.try_into().unwrap_or_default()));
            (Step::Done, Health::Works)
        }
        Err(Undelivered { why, status, retry_after }) => {
            attempt.status = status.map(|status| status.as_u16());
            attempt.error = Some(why.clone());
            tracing::warn!(event.id = %event.id, tenant, tries = claim.tries + 1, "event {} was not taken: {why}", event.id);
            metrics::event(tenant, "failed", None);
            let now = gateway.clock.now();
            let age = now.duration_since(event.at).try_into().unwrap_or_default();
            let wait = backoff::wait(claim.tries + 1, age, retry_after, rand::random());
            let at = (now + wait).min(given_up_at);
            (Step::Retry { at, pause_connection_until: None }, Health::Fails(why))
        }
    };
    let failed = attempt.error.is_some();
    let told = Some(WebhookEnd { attempt, settings: settings(webhook) });
    record(gateway, claim, step, Some((connection_key(tenant, EVENTS), health)), told).await;
    if failed {
        // The failure may have paused the webhook, which is an event.
        gateway.changes.tenant(tenant);
    }
}

async fn record(
    gateway: &Gateway,
    claim: &Claim,
    step: Step,
    health: Option<(String, Health)>,
    told: Option<WebhookEnd>,
) {
    let end = JobEnd { step, health, told, now: gateway.clock.now() };
    let finish = || gateway.store.finish(claim, &end);
    match persist::written(claim.note.id, "the webhook delivery of an event", persist::lease(gateway), finish)
        .await
    {
        // The note was erased in the meantime, or another process has taken over the job.
        Ok(()) | Err(StoreError::LeaseLost) => {}
        Err(error) => {
            tracing::error!(%error, "a webhook delivery could not be recorded; the event is sent again");
        }
    }
}

async fn post(
    gateway: &Gateway,
    live: &Live,
    webhook: &Webhook,
    event: &Event,
    context: Option<&TraceContext>,
) -> Result<StatusCode, Undelivered> {
    let body = serde_json::to_string(&EventBody::from(event))
        .map_err(|_| Undelivered::new("it cannot be written"))?;
    // Wall-clock time, because bots compare it with their own clock.
    let timestamp = gateway.clock.wall().as_second();
    let request = live
        .fetcher
        .client()
        .request(Method::POST, webhook.url.clone())
        .map_err(|why| Undelivered::new(format!("the webhook's address is not allowed: {why}")))?
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", event.id.to_string())
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signatures(webhook, &event.id.to_string(), timestamp, &body))
        .body(body);
    let request = match context {
        Some(context) => request.header("traceparent", context.to_string()),
        None => request,
    };
    let answer = in_time(PATIENCE, request.send())
        .await
        .ok_or_else(|| Undelivered::new("the bot did not answer in time"))?
        .map_err(|error| Undelivered::new(unreachable(&error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(status);
    }
    let why = match status {
        StatusCode::GONE => "the bot answered 410: nobody listens there any more".to_owned(),
        status if status.is_redirection() => {
            format!("the bot answered {}; redirects are not followed", status.as_u16())
        }
        status => format!("the bot answered {}", status.as_u16()),
    };
    Err(Undelivered {
        why,
        status: Some(status),
        retry_after: retry_after(answer.headers(), gateway.clock.wall()),
    })
}

fn unreachable(error: &reqwest::Error) -> String {
    match Unanswered::of(error) {
        Unanswered::Forbidden => "the webhook's address is not allowed; see fetch.allow_networks".to_owned(),
        why => why.about("the bot's server"),
    }
}

/// One signature for each secret, so that a bot can rotate its secret without missing an event.
fn signatures(webhook: &Webhook, id: &str, timestamp: i64, body: &str) -> String {
    let all: Vec<_> = webhook.keys.iter().map(|key| sign(key.expose_secret(), id, timestamp, body)).collect();
    all.join(" ")
}

/// The signature of a Standard Webhook. `timestamp` is in seconds since 1970.
pub fn sign(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretSlice;

    use super::*;

    /// Uses the example from the libraries of the specification.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = |text: &str| SecretSlice::from(BASE64_STANDARD.decode(text).expect("base64"));
        let webhook = Webhook {
            url: "https://bot.example/".parse().expect("a URL"),
            keys: vec![key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), key("AAAA")],
        };
        let signed =
            signatures(&webhook, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        let (first, second) = signed.split_once(' ').expect("two");
        assert_eq!(first, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(second.starts_with("v1,") && second != first);
    }
}
