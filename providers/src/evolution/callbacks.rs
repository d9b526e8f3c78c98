//! Evolution's webhooks: acknowledgements of messages, messages, and the registration of the webhook:
//! <https://doc.evolution-api.com/v2/en/configuration/webhooks>,
//! <https://github.com/EvolutionAPI/evolution-api/blob/3454bec/src/api/integrations/event/webhook/webhook.controller.ts>.
//!
//! * Nothing is signed. The token is part of the address; where the webhook's headers have `jwt_key`, a token signed with it
//!   comes along instead, good for ten minutes.
//! * 400, 401, 403, 404 and 422 are final for it.

use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::{Evolution, received::voice};
use crate::{
    Callback, CallbackError, CallbackRequest, Context, ProviderEvent, Receipt, ReceiptStatus, Registration,
    SendError, SendErrorKind, What, signature, whatsapp_web,
};

/// Acknowledgements, messages that were sent over the API, and messages that people write.
const EVENTS: [&str; 3] = ["MESSAGES_UPDATE", "SEND_MESSAGE", "MESSAGES_UPSERT"];

/// Events in one request that are looked at.
const MOST_EVENTS: usize = 100;

/// The webhook of an instance, as `webhook/find` shows it.
#[derive(Deserialize)]
struct Hook {
    url: String,
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default, rename = "webhookByEvents")]
    by_events: Option<bool>,
    #[serde(default, rename = "webhookBase64")]
    base64: Option<bool>,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
}

impl Hook {
    fn missing(&self) -> Vec<&'static str> {
        EVENTS.into_iter().filter(|event| !self.events.iter().any(|known| known == event)).collect()
    }
}

impl Evolution {
    /// Judges and reads an event.
    pub(super) fn read_callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.check_proof(request)?;
        let body: Value = serde_json::from_slice(&request.body).map_err(|_| CallbackError::Malformed)?;
        let event = body["event"].as_str().ok_or(CallbackError::Malformed)?;
        // A server may send the events of all its instances to one address.
        if body["instance"].as_str().is_some_and(|instance| instance != self.instance) {
            return Ok(Callback::nothing());
        }
        let data = match &body["data"] {
            Value::Array(items) => items.iter().take(MOST_EVENTS).collect(),
            one => vec![one],
        };
        let mut events = Vec::new();
        for item in data {
            // `messages.update`, `MESSAGES_UPDATE`, `messages-update`: it is spelt in every way in some place.
            let receipt = match event.to_lowercase().replace(['_', '-'], ".").as_str() {
                "messages.update" => self.receipt(item, request.now)?,
                "send.message" => sent(item, request.now)?,
                "messages.upsert" => {
                    events.extend(voice(item, request.now)?.map(ProviderEvent::of_voice));
                    None
                }
                _ => None,
            };
            let event = |receipt| ProviderEvent { id: None, account: None, what: What::Receipt(receipt) };
            events.extend(receipt.map(event));
        }
        Ok(Callback { events, answer: None })
    }

    /// Whether the request has one of the tokens, or something signed with it.
    pub(super) fn check_proof(&self, request: &CallbackRequest) -> Result<(), CallbackError> {
        let by_address = signature::verify_token(request.query("token"), &self.callback_tokens);
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match (by_address, bearer) {
            (Err(CallbackError::Forged), Some(bearer)) => {
                signature::verify_jwt(bearer, &self.callback_tokens, request.now)
            }
            (judged, _) => judged,
        }
    }

    /// Reads an acknowledgement. The time of the envelope is a local one without its zone, so the gateway's own counts.
    fn receipt(&self, data: &Value, now: Timestamp) -> Result<Option<Receipt>, CallbackError> {
        let id = data["keyId"].as_str().or_else(|| data["key"]["id"].as_str());
        let message_id = whatsapp_web::event_message_id(&json!({"id": id}))?;
        if !whatsapp_web::is_from_me(data, &message_id) {
            return Ok(None);
        }
        let told = data["status"].as_str().or_else(|| data["update"]["status"].as_str());
        let Some(status) = told.and_then(status) else { return Ok(None) };
        Ok(Some(Receipt {
            message_id,
            correlation_id: None,
            guess: None,
            status,
            at: now,
            failure: whatsapp_web::failure(status, told, &self.secrets(&[])),
            trace: None,
        }))
    }

    /// Registers the webhook. An instance has one, and a webhook with another address is not replaced.
    pub(super) async fn subscribe(&self, cx: &Context, url: &Url) -> Result<Registration, SendError> {
        let ours = self.with_token(url)?;
        let known = self.hook(cx).await?.filter(|hook| !hook.url.is_empty());
        if known.as_ref().is_some_and(|hook| !whatsapp_web::is_same_address(&hook.url, url)) {
            return Err(elsewhere());
        }
        let mut events = known.as_ref().map_or_else(Vec::new, |hook| hook.events.clone());
        let missing = known.as_ref().map_or_else(|| EVENTS.to_vec(), Hook::missing);
        events.extend(missing.into_iter().map(str::to_owned));
        let body = json!({"webhook": {
            "enabled": true,
            "url": ours.as_str(),
            "headers": known.as_ref().and_then(|hook| hook.headers.clone()).unwrap_or_default(),
            "byEvents": false,
            "base64": known.as_ref().and_then(|hook| hook.base64).unwrap_or_default(),
            "events": events,
        }});
        let request = self.request(Method::POST, &["webhook", "set", &self.instance], Some(&body));
        let answer = self.ask(cx, request).await?;
        let set: Option<Hook> = serde_json::from_slice(&answer.body).ok();
        if !set.is_some_and(|set| set.enabled && set.url == ours.as_str()) {
            return Err(not_this_provider());
        }
        Ok(Registration { summary: format!("receipts are on: {}", EVENTS.join(", ")), secret: None })
    }

    pub(super) async fn subscribed(&self, cx: &Context, url: &Url) -> Result<String, SendError> {
        let ours = self.with_token(url)?;
        let known = self.hook(cx).await?.filter(|hook| !hook.url.is_empty());
        let wrong = |detail: String| Err(SendError::new(SendErrorKind::Misconfigured, detail));
        let again = "register the callbacks again";
        let Some(hook) = known else {
            return wrong(
                "the provider sends no receipts to this address; register the callbacks".to_owned(),
            );
        };
        if !whatsapp_web::is_same_address(&hook.url, url) {
            return Err(elsewhere());
        }
        let has_key = hook.headers.as_ref().is_some_and(|headers| headers.contains_key("jwt_key"));
        if hook.url != ours.as_str() && !has_key {
            return wrong(format!(
                "the provider sends receipts with another token than callback_token; {again}"
            ));
        }
        if !hook.enabled {
            return wrong(format!("the provider has switched the receipts off; {again}"));
        }
        if hook.by_events == Some(true) {
            return wrong(format!("the provider sends each kind of event to an address of its own; {again}"));
        }
        match hook.missing().as_slice() {
            [] => Ok("receipts on".to_owned()),
            missing => wrong(format!("the provider does not send {}; {again}", missing.join(", "))),
        }
    }

    fn with_token(&self, url: &Url) -> Result<Url, SendError> {
        whatsapp_web::with_token(url, &self.callback_tokens).ok_or_else(|| {
            let detail =
                "callback_token is not set: choose a long random text, which becomes part of the address";
            SendError::new(SendErrorKind::Misconfigured, detail)
        })
    }

    /// The instance's webhook; the answer is `null` where there is none.
    async fn hook(&self, cx: &Context) -> Result<Option<Hook>, SendError> {
        let request = self.request(Method::GET, &["webhook", "find", &self.instance], None);
        let answer = self.ask(cx, request).await?;
        serde_json::from_slice(&answer.body).map_err(|_| not_this_provider())
    }
}

/// <https://github.com/EvolutionAPI/evolution-api/blob/3454bec/src/utils/renderStatus.ts>; an instance of the Cloud API has
/// Meta's words in capitals.
fn status(word: &str) -> Option<ReceiptStatus> {
    match word {
        "ERROR" | "FAILED" => Some(ReceiptStatus::Failed),
        "PENDING" => Some(ReceiptStatus::Accepted),
        "SERVER_ACK" | "SENT" => Some(ReceiptStatus::Sent),
        "DELIVERY_ACK" | "DELIVERED" => Some(ReceiptStatus::Delivered),
        "READ" => Some(ReceiptStatus::Read),
        "PLAYED" => Some(ReceiptStatus::Played),
        _ => None,
    }
}

/// Reads a message that was sent over the API: what the answer to the send says, once more.
fn sent(message: &Value, now: Timestamp) -> Result<Option<Receipt>, CallbackError> {
    let message_id = whatsapp_web::event_message_id(&json!({"id": message["key"]["id"]}))?;
    let Some(name) =
        whatsapp_web::sent_name(message).filter(|_| whatsapp_web::is_from_me(message, &message_id))
    else {
        return Ok(None);
    };
    Ok(Some(Receipt {
        message_id,
        correlation_id: None,
        guess: Some(name),
        status: ReceiptStatus::Accepted,
        at: now,
        failure: None,
        trace: None,
    }))
}

fn elsewhere() -> SendError {
    let detail = "the instance's one webhook leads elsewhere and is not replaced: remove it there, or let whoever has it \
                  pass the events on to this address with the token in its query";
    SendError::new(SendErrorKind::Misconfigured, detail)
}

fn not_this_provider() -> SendError {
    SendError::new(SendErrorKind::Misconfigured, "the answer is not this provider's; check base_url")
}
