//! Standard Webhooks, which this gateway and Linq use:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use http::HeaderName;
use secrecy::ExposeSecret;

use super::{Surroundings, sign};
use crate::{config::Webhook, model::event::Event, view::EventBody};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The event as this gateway describes it.
pub fn body(event: &Event) -> serde_json::Result<String> {
    serde_json::to_string(&EventBody::from(event))
}

pub fn headers(event: &Event, around: &Surroundings<'_>, body: &str) -> Vec<(HeaderName, String)> {
    let (id, timestamp) = (event.id.to_string(), around.now.as_second());
    let signatures = signatures(around.webhook, &id, timestamp, body);
    vec![(ID, id), (TIMESTAMP, timestamp.to_string()), (SIGNATURE, signatures)]
}

/// One signature for each secret, so that a bot can rotate its secret without missing an event.
fn signatures(webhook: &Webhook, id: &str, timestamp: i64, body: &str) -> String {
    let all: Vec<_> = webhook.keys.iter().map(|key| sign(key.expose_secret(), id, timestamp, body)).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use secrecy::SecretSlice;

    use super::*;
    use crate::config::WebhookDialect;

    /// Uses the example from the libraries of the specification.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = |text: &str| SecretSlice::from(BASE64_STANDARD.decode(text).expect("base64"));
        let webhook = Webhook {
            url: "https://bot.example/".parse().expect("a URL"),
            keys: vec![key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), key("AAAA")],
            dialect: WebhookDialect::Voicegate,
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
            headers: Vec::new(),
        };
        let signed =
            signatures(&webhook, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        let (first, second) = signed.split_once(' ').expect("two");
        assert_eq!(first, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(second.starts_with("v1,") && second != first);
    }
}
