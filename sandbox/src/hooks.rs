//! Webhook requests of the emulated providers to the registered addresses.

use std::time::Duration;

use serde::Serialize;
use url::Url;

use crate::faults::Provider;
use crate::{Sandbox, state};

/// <https://docs.linqapp.com/guides/webhooks/>: an answer has to come within ten seconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Pauses before retries. Real providers take minutes and hours.
const WAITS_MS: [u64; 4] = [200, 500, 1000, 2000];

/// Maximum number of concurrent requests.
pub(crate) const MOST_AT_A_TIME: usize = 64;

/// One event for one address.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub provider: Provider,
    pub event: &'static str,
    pub event_id: String,
    pub message_id: String,
    pub url: Url,
    pub body: String,
    pub signer: Option<Signer>,
}

/// Builds the headers for each try, because the time is signed, too.
#[derive(Clone)]
pub(crate) struct Signer {
    pub secret: String,
    pub sign: fn(&Outgoing, &str) -> Vec<(&'static str, String)>,
    pub subscription: String,
}

/// One event for one address, and its outcome.
#[derive(Clone, Debug, Serialize)]
pub struct CallbackLog {
    pub n: u64,
    pub provider: &'static str,
    pub event: &'static str,
    /// Id of the event, equal in every try.
    pub event_id: String,
    pub message_id: String,
    /// URL without its query, which may contain tokens.
    pub url: String,
    pub at: String,
    pub tries: Vec<Try>,
    /// Whether no further try follows.
    pub done: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Try {
    pub at: String,
    /// Status of the answer; `null` if there was none.
    pub status: Option<u16>,
}

impl Sandbox {
    /// Delivers the event with the retries of the real provider, and returns the final answer.
    pub(crate) async fn send(self, outgoing: Outgoing) -> String {
        let number = self.begin(&outgoing);
        let mut waits = WAITS_MS.iter();
        loop {
            let at = state::now();
            let status = self.attempt(&outgoing).await;
            // A receiver that does not want the event answers with a 4xx, which is not retried.
            let again = status.is_none_or(|status| status >= 500 || status == 429);
            let wait = if again { waits.next() } else { None };
            self.note_try(number, Try { at, status }, wait.is_none());
            let Some(wait) = wait else {
                return status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            };
            tokio::time::sleep(Duration::from_millis(*wait)).await;
        }
    }

    async fn attempt(&self, outgoing: &Outgoing) -> Option<u16> {
        let _place = self.inner.places.acquire().await.ok()?;
        let headers = outgoing.signer.as_ref().map(|signer| (signer.sign)(outgoing, &signer.secret));
        self.inner
            .fetcher
            .post(&outgoing.url, headers.unwrap_or_default(), outgoing.body.clone(), TIMEOUT)
            .await
    }

    fn begin(&self, outgoing: &Outgoing) -> u64 {
        let mut url = outgoing.url.clone();
        url.set_query(None);
        self.inner.lock().log_callback(CallbackLog {
            n: 0,
            provider: outgoing.provider.name(),
            event: outgoing.event,
            event_id: outgoing.event_id.clone(),
            message_id: outgoing.message_id.clone(),
            url: url.into(),
            at: state::now(),
            tries: Vec::new(),
            done: false,
        })
    }

    fn note_try(&self, number: u64, one: Try, done: bool) {
        if let Some(log) = self.inner.lock().callbacks.iter_mut().rev().find(|log| log.n == number) {
            log.tries.push(one);
            log.done = done;
        }
    }

    /// Lists every event that was sent to a registered address, in order.
    pub fn callbacks(&self) -> Vec<CallbackLog> {
        self.inner.lock().callbacks.iter().cloned().collect()
    }
}

/// Checks an address for webhooks. Real providers require public https; an address on this machine may be plain http,
/// because a gateway under test runs there.
pub(crate) fn target(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let allowed = url.scheme() == "https" || (url.scheme() == "http" && crate::fetch::is_loopback(&url));
    (allowed && url.has_host()).then_some(url)
}
