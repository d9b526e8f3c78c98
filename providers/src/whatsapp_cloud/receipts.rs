//! Meta's reports about messages that it took:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status/>.

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;

use super::{WhatsAppCloud, errors, received, sound_id};
use crate::{
    Callback, CallbackError, CallbackRequest, ProviderEvent, Receipt, ReceiptFailure, ReceiptStatus,
    SendErrorKind, Upstream, What,
    signature::{self, Algorithm, BodyHmac, Encoding},
    wire,
};

/// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started/#validate-payloads>
pub(super) const SIGNATURE: BodyHmac = BodyHmac {
    header: "x-hub-signature-256",
    algorithm: Algorithm::Sha256,
    encoding: Encoding::Hex,
    prefix: "sha256=",
};

/// The object of callbacks about WhatsApp. An app can have other products.
const WHATSAPP: &str = "whatsapp_business_account";

impl WhatsAppCloud {
    /// Whether this is a verification of the address with our token.
    pub(super) fn check_token(&self, request: &CallbackRequest) -> Result<(), CallbackError> {
        signature::verify_token(request.query("hub.verify_token"), &self.verify_tokens)
    }

    /// Meta calls an address once before it sends anything there, and wants its challenge back:
    /// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started/#verification-requests>
    pub(super) fn handshake(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.check_token(request)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let challenge = request
            .query("hub.challenge")
            .filter(|text| (1..=256).contains(&text.len()) && text.chars().all(plain))
            .filter(|_| request.query("hub.mode") == Some("subscribe"))
            .ok_or(CallbackError::Malformed)?;
        Ok(Callback { events: Vec::new(), answer: Some(challenge.to_owned()) })
    }

    /// Judges and reads a webhook. One can be about several numbers of the app and about several messages.
    pub(super) fn read_callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        SIGNATURE.verify(request, &self.app_secrets)?;
        let body: Value = serde_json::from_slice(&request.body).map_err(|_| CallbackError::Malformed)?;
        let (Some(object), Some(entries)) = (body["object"].as_str(), body["entry"].as_array()) else {
            return Err(CallbackError::Malformed);
        };
        if object != WHATSAPP {
            return Ok(Callback::nothing());
        }
        let changes = entries.iter().filter_map(|entry| entry["changes"].as_array()).flatten();
        let values = changes.filter(|change| change["field"] == "messages").map(|change| &change["value"]);
        let events = values.flat_map(|value| {
            let account = value["metadata"]["phone_number_id"].as_str().and_then(sound_id);
            let list = |name: &str| value[name].as_array().map(Vec::as_slice).unwrap_or_default();
            let received = list("messages").iter().filter_map(|message| {
                let voice = received::voice(value, message, request.now)?;
                Some(ProviderEvent { account: account.clone(), ..ProviderEvent::of_voice(voice) })
            });
            let statuses = list("statuses").iter();
            let statuses = statuses.filter_map(|status| self.event(account.as_deref(), status, request.now));
            received.chain(statuses).collect::<Vec<_>>()
        });
        Ok(Callback { events: events.collect(), answer: None })
    }

    fn event(&self, account: Option<&str>, told: &Value, now: Timestamp) -> Option<ProviderEvent> {
        let name = told["status"].as_str()?;
        let status = match name {
            "sent" => ReceiptStatus::Sent,
            "delivered" => ReceiptStatus::Delivered,
            "read" => ReceiptStatus::Read,
            // The first time that a voice message is played.
            "played" => ReceiptStatus::Played,
            "failed" => ReceiptStatus::Failed,
            _ => return None,
        };
        let message_id = told["id"].as_str().and_then(sound_id)?;
        let receipt = Receipt {
            correlation_id: told["biz_opaque_callback_data"].as_str().and_then(sound_id),
            guess: None,
            status,
            at: time(&told["timestamp"]).unwrap_or(now),
            failure: (status == ReceiptStatus::Failed).then(|| self.failure(&told["errors"][0])),
            trace: None,
            message_id,
        };
        Some(ProviderEvent {
            // A status comes again until it was answered, and a message has each of them once.
            id: Some(format!("{}:{name}", receipt.message_id)),
            account: account.map(str::to_owned),
            what: What::Receipt(receipt),
        })
    }

    fn failure(&self, error: &Value) -> ReceiptFailure {
        let code = error["code"].as_u64();
        let (kind, detail) = match code.and_then(errors::meaning) {
            // It failed, that is certain.
            Some((SendErrorKind::OutcomeUnknown, _)) => (
                SendErrorKind::Unavailable,
                "the provider had a fault while sending the note; it can be sent again",
            ),
            Some(meaning) => meaning,
            None => (SendErrorKind::Rejected, "the provider took the note and could not deliver it"),
        };
        let secrets = self.secrets(&[]);
        let words: Vec<&str> = [&error["message"], &error["error_data"]["details"]]
            .into_iter()
            .filter_map(Value::as_str)
            .collect();
        ReceiptFailure {
            kind,
            detail: detail.to_owned(),
            upstream: upstream(code, &words.join(": "), &secrets),
        }
    }
}

fn upstream(code: Option<u64>, words: &str, secrets: &[&SecretString]) -> Upstream {
    Upstream {
        code: code.map(|code| code.to_string()),
        message: (!words.is_empty()).then(|| wire::quote(words, secrets)),
        ..Upstream::default()
    }
}

/// Seconds, as a text.
pub(super) fn time(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_i64().or_else(|| value.as_str()?.parse().ok())?;
    Timestamp::from_second(seconds).ok()
}
