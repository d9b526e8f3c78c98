//! Having webhooks sent: <https://docs.linqapp.com/guides/webhooks/>.
//!
//! * The signing secret is shown once, in the answer that makes a subscription. It cannot be rotated: to get another one
//!   the subscription is deleted and made anew.
//! * An address can have one subscription per account, and must be public https.

use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{Linq, receipts::EVENTS};
use crate::{Context, Registration, SendError, SendErrorKind};

/// The form of events that is asked for. Without it Linq decides by the subscription's age.
const VERSION: (&str, &str) = ("version", "2026-02-03");

#[derive(Deserialize)]
struct Subscription {
    id: String,
    target_url: String,
    #[serde(default)]
    subscribed_events: Vec<String>,
    /// `null` or empty: all lines.
    phone_numbers: Option<Vec<String>>,
    is_active: Option<bool>,
}

impl Subscription {
    fn missing(&self) -> Vec<&'static str> {
        EVENTS.into_iter().filter(|event| !self.subscribed_events.iter().any(|has| has == event)).collect()
    }

    fn is_active(&self) -> bool {
        self.is_active != Some(false)
    }

    fn lines(&self) -> String {
        match self.phone_numbers.as_deref() {
            None | Some([]) => "all lines".to_owned(),
            Some([_]) => "one line only".to_owned(),
            Some(lines) => format!("{} lines only", lines.len()),
        }
    }
}

impl Linq {
    pub(super) async fn subscribe(&self, cx: &Context, url: &Url) -> Result<Registration, SendError> {
        match self.subscription(cx, url).await? {
            None => self.create(cx, url).await,
            Some(_) if self.signing_keys.is_empty() => Err(SendError::new(
                SendErrorKind::Misconfigured,
                "the provider sends receipts to this address already, and shows the secret only once: put it into \
                 webhook_secret, or delete the subscription at the provider and register again",
            )),
            Some(known) if known.is_active() && known.missing().is_empty() => Ok(Registration {
                summary: format!("receipts are on already, for {}; nothing was changed", known.lines()),
                secret: None,
            }),
            Some(known) => self.complete(cx, known).await,
        }
    }

    pub(super) async fn subscribed(&self, cx: &Context, url: &Url) -> Result<String, SendError> {
        let wrong = |detail: String| Err(SendError::new(SendErrorKind::Misconfigured, detail));
        let again = "register the callbacks again";
        let Some(known) = self.subscription(cx, url).await? else {
            return wrong(
                "the provider sends no receipts to this address; register the callbacks".to_owned(),
            );
        };
        if !known.is_active() {
            return wrong(format!("the provider has switched the receipts off; {again}"));
        }
        let missing = known.missing();
        if !missing.is_empty() {
            return wrong(format!("the provider does not send {}; {again}", missing.join(", ")));
        }
        if self.signing_keys.is_empty() {
            let way = "put the subscription's secret into it, or delete the subscription and register again";
            return wrong(format!("the provider sends receipts, but webhook_secret is not set: {way}"));
        }
        Ok(format!("receipts on, for {}", known.lines()))
    }

    /// The subscription for `url`, in whatever form its events are.
    async fn subscription(&self, cx: &Context, url: &Url) -> Result<Option<Subscription>, SendError> {
        #[derive(Deserialize)]
        struct Body {
            subscriptions: Vec<Subscription>,
        }
        let list = self.request(Method::GET, self.api.join(&["v3", "webhook-subscriptions"]), None);
        let body: Body = self.inquire(cx, list).await?;
        let wanted = without_version(url);
        let is_ours =
            |known: &Subscription| Url::parse(&known.target_url).is_ok_and(|u| without_version(&u) == wanted);
        let (mut ours, _): (Vec<_>, Vec<_>) = body.subscriptions.into_iter().partition(is_ours);
        // One with each version may exist. The better one counts.
        ours.sort_by_key(|known| (!known.is_active(), known.missing().len()));
        Ok(ours.into_iter().next())
    }

    async fn create(&self, cx: &Context, url: &Url) -> Result<Registration, SendError> {
        #[derive(Deserialize)]
        struct Body {
            signing_secret: SecretString,
        }
        let mut target = without_version(url);
        target.query_pairs_mut().append_pair(VERSION.0, VERSION.1);
        let body = json!({"target_url": target.as_str(), "subscribed_events": EVENTS});
        let url = self.api.join(&["v3", "webhook-subscriptions"]);
        let made: Body = self.inquire(cx, self.request(Method::POST, url, Some(&body))).await?;
        Ok(Registration {
            summary: format!("receipts are on, for all lines: {}", EVENTS.join(", ")),
            secret: Some(("webhook_secret", made.signing_secret)),
        })
    }

    /// Switches a subscription on and adds the events that it lacks; its others stay.
    async fn complete(&self, cx: &Context, known: Subscription) -> Result<Registration, SendError> {
        let lacked = known.missing();
        let events: Vec<&str> = known.subscribed_events.iter().map(String::as_str).chain(lacked).collect();
        let body = json!({"subscribed_events": events, "is_active": true});
        let url = self.api.join(&["v3", "webhook-subscriptions", &known.id]);
        let _: Subscription = self.inquire(cx, self.request(Method::PUT, url, Some(&body))).await?;
        let summary =
            format!("receipts are on again, for {}; the secret is the same as before", known.lines());
        Ok(Registration { summary, secret: None })
    }
}

fn without_version(url: &Url) -> Url {
    let mut bare = url.clone();
    bare.set_query(None);
    let rest: Vec<_> = url.query_pairs().filter(|(name, _)| name != VERSION.0).collect();
    if !rest.is_empty() {
        bare.query_pairs_mut().extend_pairs(rest);
    }
    bare
}
