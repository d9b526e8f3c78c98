//! Webhook delivery: events are posted to the bot, in the words of the webhook's dialect. They share the queue with
//! everything else.

mod dialects;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::{Method, StatusCode, header};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use voicegate_providers::{
    Unanswered,
    wire::{in_time, retry_after},
};

use self::dialects::{LinkedAudio, Message, Surroundings, message};
use super::{backoff, persist, traced};
use crate::{
    config::{Webhook, WebhookDialect},
    gateway::{Gateway, Live, server_slots::hung},
    media::{AudioVariant, ReceivedPart},
    model::{
        event::{Event, Subject, WEBHOOK_WINDOW},
        note::Note,
        received::Received,
    },
    store::{
        Claim, EVENTS, Health, JobEnd, JobLease, ReceivedClaim, Step, StoreError, WebhookAttempt, WebhookEnd,
        connection_key,
    },
    telemetry::{metrics, traces::TraceContext},
    view::{dialects::named_id, linq_chats::chat_id},
};
use voicegate_audio::Work;

pub use self::dialects::sign;

/// The longest wait for the answer of a bot. After it the delivery is retried.
const PATIENCE: Duration = Duration::from_secs(15);

/// The name of the audio of a received note as it came.
const NATIVE: &str = ReceivedPart::Native.as_str();

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
    // Without a dialect and headers, the text is that of earlier versions.
    if webhook.dialect != WebhookDialect::Voicegate {
        hash.update(Sha256::digest(format!("{:?}", webhook.dialect)));
        hash.update(Sha256::digest(webhook.secret.expose_secret()));
    }
    for (name, value) in &webhook.headers {
        hash.update(Sha256::digest(name));
        hash.update(Sha256::digest(value.expose_secret()));
    }
    hex::encode(hash.finalize())
}

/// The leased delivery of an event.
pub struct Telling {
    lease: JobLease,
    queued_at: Timestamp,
    tries: u32,
    expired: bool,
}

impl From<&Claim> for Telling {
    fn from(claim: &Claim) -> Self {
        let Claim { queued_at, tries, expired, .. } = *claim;
        Self { lease: claim.lease(), queued_at, tries, expired }
    }
}

impl From<&ReceivedClaim> for Telling {
    fn from(claim: &ReceivedClaim) -> Self {
        let ReceivedClaim { queued_at, tries, expired, .. } = *claim;
        Self { lease: claim.lease(), queued_at, tries, expired }
    }
}

/// Posts an event to the tenant's webhook. If that fails, schedules the next attempt.
pub async fn run(gateway: &Gateway, claim: &Telling, event: &Event) {
    let live = gateway.live();
    let tenant = event.subject.tenant();
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
    let mut surroundings = surroundings(gateway, &live, webhook, &event.subject);
    if let (WebhookDialect::Evolution, Subject::Received(received)) = (webhook.dialect, &event.subject) {
        // Small audio is in the event itself. Without it, the link is enough.
        surroundings.inline = gateway.store.received_audio(received.id, NATIVE).await.ok().flatten();
    }
    let told = match message(event, &surroundings) {
        // The product of the dialect has no such event.
        Ok(None) => return record(gateway, claim, Step::Done, None, None).await,
        told => told.ok().flatten(),
    };
    let begun = Instant::now();
    let mut span = traced::webhook(gateway, &event.subject, now);
    let context = span.context();
    let delivered = post(gateway, &live, webhook, told, context.as_ref()).await;
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
    claim: &Telling,
    step: Step,
    health: Option<(String, Health)>,
    told: Option<WebhookEnd>,
) {
    let end = JobEnd { step, health, told, now: gateway.clock.now() };
    let finish = || gateway.store.finish(&claim.lease, &end);
    let subject = claim.lease.subject.id();
    match persist::written(subject, "the webhook delivery of an event", persist::lease(gateway), finish).await
    {
        // The note was erased in the meantime, or another process has taken over the job.
        Ok(()) | Err(StoreError::LeaseLost) => {}
        Err(error) => {
            tracing::error!(%error, "a webhook delivery could not be recorded; the event is sent again");
        }
    }
}

fn surroundings<'a>(
    gateway: &Gateway,
    live: &'a Live,
    webhook: &'a Webhook,
    subject: &Subject,
) -> Surroundings<'a> {
    let (connection, person) = match subject {
        Subject::Note(note) => (&note.current().connection, &note.to),
        Subject::Received(received) => (&received.connection, &received.conversation),
    };
    let tenant = subject.tenant();
    let has_receipts = live
        .connection(tenant, connection)
        .is_some_and(|connection| !connection.provider.capabilities().receipts.is_empty());
    Surroundings {
        webhook,
        now: gateway.clock.wall(),
        public_url: &live.config.server.public_url,
        has_receipts,
        linq_chat: linq_chat(gateway, tenant, person),
        audio: match subject {
            Subject::Note(note) => linked_audio(gateway, live, note),
            Subject::Received(received) => linked_received(gateway, live, received),
        },
        inline: None,
    }
}

/// The chat with a person. A recipient that has none in this dialect gets an id of its own.
fn linq_chat(gateway: &Gateway, tenant: &str, person: &str) -> Uuid {
    chat_id(&gateway.links, tenant, person).unwrap_or_else(|| named_id(tenant, "chat", person))
}

/// The audio of a note as it was sent, with a link to it.
fn linked_audio(gateway: &Gateway, live: &Live, note: &Note) -> Option<LinkedAudio> {
    let made = note.sent.as_ref().filter(|sent| sent.work != Work::None);
    let (facts, which) = match (made, &note.probed) {
        (Some(sent), _) => (&sent.facts, AudioVariant::Sent),
        (None, Some(probed)) => (&probed.facts, AudioVariant::Source),
        (None, None) => return None,
    };
    let filename = format!("voice.{}", facts.extension());
    let server = &live.config.server;
    let now = gateway.clock.now();
    let url = gateway.links.make(&server.public_url, note.id, which, &filename, now, server.link_ttl.0);
    Some(LinkedAudio { url, filename, mime_type: facts.mime_type.clone(), size_bytes: facts.size_bytes })
}

/// The audio of a received note as it came, with a link to it.
fn linked_received(gateway: &Gateway, live: &Live, received: &Received) -> Option<LinkedAudio> {
    let facts = received.native.as_ref()?;
    let filename = format!("voice.{}", facts.extension());
    let (server, now) = (&live.config.server, gateway.clock.now());
    let note = (received.tenant.as_str(), received.id);
    let url = gateway.links.make_received(&server.public_url, note, &filename, now, server.link_ttl.0);
    Some(LinkedAudio { url, filename, mime_type: facts.mime_type.clone(), size_bytes: facts.size_bytes })
}

async fn post(
    gateway: &Gateway,
    live: &Live,
    webhook: &Webhook,
    message: Option<Message>,
    context: Option<&TraceContext>,
) -> Result<StatusCode, Undelivered> {
    let Message { body, headers } = message.ok_or_else(|| Undelivered::new("it cannot be written"))?;
    let request = live
        .fetcher
        .client()
        .request(Method::POST, webhook.url.clone())
        .map_err(|why| Undelivered::new(format!("the webhook's address is not allowed: {why}")))?
        .header(header::CONTENT_TYPE, "application/json")
        .headers(headers.into_iter().collect())
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
