//! WAHA's webhooks: acknowledgements of messages, messages, and the registration of the webhook:
//! <https://waha.devlike.pro/docs/how-to/events/>.
//!
//! * The signature is over the body alone. Its time is beside it and not signed, so an old request is known by its event's
//!   id, which the gateway takes in once.
//! * Webhooks are part of the session's configuration, which can only be replaced as a whole, and the session restarts with
//!   it: <https://waha.devlike.pro/docs/how-to/sessions/#update-session>. So it is read first, and nothing is written
//!   where nothing would change.

use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use url::Url;

use super::Waha;
use crate::{
    Callback, CallbackError, CallbackRequest, Context, Receipt, ReceiptStatus, Registration, SendError,
    SendErrorKind,
    signature::{Algorithm, BodyHmac, Encoding},
    whatsapp_web,
};

/// Acknowledgements, those of single members of groups, and messages: those that were sent over the API, and those that
/// people write. `message` has the second kind alone, and would come in addition.
const EVENTS: [&str; 3] = ["message.ack", "message.ack.group", "message.any"];

/// <https://waha.devlike.pro/docs/how-to/events/#hmac-authentication>
pub(super) const PROOF: BodyHmac =
    BodyHmac { header: "x-webhook-hmac", algorithm: Algorithm::Sha512, encoding: Encoding::Hex, prefix: "" };

const LONGEST_ID: usize = 255;

impl Waha {
    /// Judges and reads an event.
    pub(super) fn read_callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        PROOF.verify(request, &self.webhook_secrets)?;
        let body: Value = serde_json::from_slice(&request.body).map_err(|_| CallbackError::Malformed)?;
        let event = body["event"].as_str().ok_or(CallbackError::Malformed)?;
        // A server may send the events of all its sessions to one address.
        if body["session"].as_str().is_some_and(|session| session != self.session) {
            return Ok(Callback::nothing());
        }
        let at = whatsapp_web::time(&body["timestamp"]).unwrap_or(request.now);
        let payload = &body["payload"];
        if matches!(event, "message" | "message.any")
            && let Some(voice) = whatsapp_web::waha_voice(payload, request.now)?
        {
            return Ok(Callback::of_voice(Some(voice)));
        }
        let receipt = match event {
            "message.ack" | "message.ack.group" => {
                whatsapp_web::ack_receipt(payload, at, &self.secrets(&[]))?
            }
            "message.any" => sent(payload)?.map(|(message_id, name, status)| Receipt {
                correlation_id: Some(whatsapp_web::own_part(&message_id).to_owned()),
                guess: name,
                message_id,
                status,
                at,
                failure: None,
                trace: None,
            }),
            _ => None,
        };
        let id = body["id"].as_str().filter(|id| (1..=LONGEST_ID).contains(&id.len()));
        Ok(Callback::of_receipt(id.map(str::to_owned), receipt))
    }

    pub(super) async fn subscribe(&self, cx: &Context, url: &Url) -> Result<Registration, SendError> {
        let secret = self.webhook_secrets.first().ok_or_else(no_secret)?;
        let session = self.session(cx).await?;
        let mut config = session["config"].as_object().cloned().unwrap_or_default();
        let before = hooks(&config);
        let after = with_ours(&before, url, secret);
        let on = EVENTS.join(", ");
        if before == after {
            return Ok(Registration { summary: format!("receipts were on already: {on}"), secret: None });
        }
        config.insert("webhooks".to_owned(), Value::Array(after));
        let body = json!({"config": config});
        let request = self.request(Method::PUT, &["api", "sessions", &self.session], Some(&body));
        if !self.ask(cx, request).await?["status"].is_string() {
            let detail = "the answer is not this provider's; check base_url";
            return Err(SendError::new(SendErrorKind::Misconfigured, detail));
        }
        let summary =
            format!("receipts are on: {on}; the WhatsApp session restarts with its new configuration");
        Ok(Registration { summary, secret: None })
    }

    pub(super) async fn subscribed(&self, cx: &Context, url: &Url) -> Result<String, SendError> {
        let secret = self.webhook_secrets.first().ok_or_else(no_secret)?;
        let session = self.session(cx).await?;
        let known = hooks(session["config"].as_object().unwrap_or(&Map::new()));
        let wrong = |detail: String| Err(SendError::new(SendErrorKind::Misconfigured, detail));
        let again = "register the callbacks again";
        let Some(hook) = known.iter().find(|hook| is_ours(hook, url)) else {
            return wrong(
                "the provider sends no receipts to this address; register the callbacks".to_owned(),
            );
        };
        match hook["hmac"]["key"].as_str() {
            None => return wrong(format!("the provider does not sign its receipts; {again}")),
            Some(key) if key != secret.expose_secret() => {
                return wrong(format!("the provider signs with another secret than webhook_secret; {again}"));
            }
            Some(_) => {}
        }
        match missing(hook).as_slice() {
            [] => Ok("receipts on".to_owned()),
            missing => wrong(format!("the provider does not send {}; {again}", missing.join(", "))),
        }
    }
}

/// A message's id, the name of the note that it may be, and how far it is.
type Sent = (String, Option<String>, ReceiptStatus);

/// Reads the payload of `message.any`. It is about our own sends where its source is the API; people's phones send, too.
fn sent(payload: &Value) -> Result<Option<Sent>, CallbackError> {
    if payload["source"] != "api" {
        return Ok(None);
    }
    let id = whatsapp_web::event_message_id(payload)?;
    if !whatsapp_web::is_from_me(payload, &id) {
        return Ok(None);
    }
    let status = whatsapp_web::ack(payload).filter(|status| *status != ReceiptStatus::Failed);
    let Some(name) = whatsapp_web::sent_name(payload) else { return Ok(None) };
    Ok(Some((id, Some(name), status.unwrap_or(ReceiptStatus::Accepted))))
}

fn hooks(config: &Map<String, Value>) -> Vec<Value> {
    config.get("webhooks").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn is_ours(hook: &Value, url: &Url) -> bool {
    hook["url"].as_str().is_some_and(|known| Url::parse(known).is_ok_and(|known| known == *url))
}

fn missing(hook: &Value) -> Vec<&'static str> {
    let has = |event: &&str| {
        hook["events"]
            .as_array()
            .is_some_and(|known| known.iter().any(|known| known == event || known == "*"))
    };
    EVENTS.into_iter().filter(|event| !has(event)).collect()
}

/// The list with our entry as it has to be. Everything else stays as it is: other entries, and what somebody added to ours.
fn with_ours(known: &[Value], url: &Url, secret: &SecretString) -> Vec<Value> {
    let mut hooks = known.to_vec();
    let place = hooks.iter().position(|hook| is_ours(hook, url)).unwrap_or_else(|| {
        // Retries as in the documentation's example: after two seconds, then after longer and longer waits.
        let retries = json!({"policy": "exponential", "delaySeconds": 2, "attempts": 15});
        hooks.push(json!({"url": url.as_str(), "events": [], "retries": retries}));
        hooks.len() - 1
    });
    let missing = missing(&hooks[place]);
    let mut events = hooks[place]["events"].as_array().cloned().unwrap_or_default();
    events.extend(missing.into_iter().map(Value::from));
    hooks[place]["events"] = Value::Array(events);
    hooks[place]["hmac"] = json!({"key": secret.expose_secret()});
    hooks
}

fn no_secret() -> SendError {
    let detail = "webhook_secret is not set: choose a long random text, with which the provider signs";
    SendError::new(SendErrorKind::Misconfigured, detail)
}
