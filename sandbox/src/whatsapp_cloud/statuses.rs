//! Meta's statuses of messages:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status/>.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::messages::scripted_code;
use super::{ACCOUNT, APP, APP_SECRET, Address, Memory, NUMBERS, WhatsAppCloud, errors};
use crate::Sandbox;
use crate::emulator::Emulator;
use crate::faults::Provider;
use crate::hooks::{Outgoing, Signer};
use crate::ledger::LedgerEntry;
use crate::receipts::{ReceiptStatus, ReceiptStep};
use crate::state;

pub fn usual(entry: &LedgerEntry) -> Vec<ReceiptStep> {
    let digits = entry.conversation.trim_start_matches('+');
    match scripted_code(digits, '1') {
        Some(code) => vec![ReceiptStep { code: Some(code), ..ReceiptStep::new(ReceiptStatus::Failed, 200) }],
        None => {
            vec![ReceiptStep::new(ReceiptStatus::Sent, 0), ReceiptStep::new(ReceiptStatus::Delivered, 300)]
        }
    }
}

/// The request about one status of a message.
pub fn outgoing(sandbox: &Sandbox, entry: &LedgerEntry, step: &ReceiptStep) -> Vec<Outgoing> {
    let number = sandbox.inner.lock().own::<Memory>().sent.get(&entry.message_id).copied();
    let number = number.unwrap_or(NUMBERS[0].0);
    let event = match step.status {
        ReceiptStatus::Accepted => return Vec::new(),
        ReceiptStatus::Sent => "sent",
        ReceiptStatus::Delivered => "delivered",
        ReceiptStatus::Read => "read",
        ReceiptStatus::Played => "played",
        ReceiptStatus::Failed => "failed",
    };
    let event_id = format!("{}:{event}", entry.message_id);
    let body = envelope(number, json!({"statuses": [status(entry, event, step)]}));
    request(sandbox, number, event, &event_id, &entry.message_id, &body)
}

/// One request, to the address of the number or else of the app.
pub fn request(
    sandbox: &Sandbox,
    number: &str,
    event: &'static str,
    event_id: &str,
    message_id: &str,
    body: &Value,
) -> Vec<Outgoing> {
    let Some(provider) = Provider::named(WhatsAppCloud.name()) else { return Vec::new() };
    let mut state = sandbox.inner.lock();
    let memory = state.own::<Memory>();
    let address = memory.addresses.get(number).or_else(|| memory.addresses.get(APP)).cloned();
    drop(state);
    let request = |address: Address| Outgoing {
        provider,
        event,
        event_id: event_id.to_owned(),
        message_id: message_id.to_owned(),
        url: address.0,
        body: body.to_string(),
        signer: Some(Signer { secret: APP_SECRET.to_owned(), sign, subscription: APP.to_owned() }),
    };
    address.map(request).into_iter().collect()
}

/// The envelope around statuses or messages of one number.
pub fn envelope(number: &str, mut value: Value) -> Value {
    let shown = NUMBERS.iter().find(|(id, _)| *id == number).map_or("", |(_, shown)| shown);
    let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
    value["messaging_product"] = json!("whatsapp");
    value["metadata"] = json!({"display_phone_number": digits, "phone_number_id": number});
    json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": ACCOUNT, "changes": [{ "field": "messages", "value": value }] }],
    })
}

fn status(entry: &LedgerEntry, event: &str, step: &ReceiptStep) -> Value {
    let mut status = json!({
        "id": entry.message_id,
        "status": event,
        "timestamp": state::clock().as_second().to_string(),
        "recipient_id": entry.conversation.trim_start_matches('+'),
    });
    if let Some(opaque) = entry.request["biz_opaque_callback_data"].as_str() {
        status["biz_opaque_callback_data"] = json!(opaque);
    }
    if step.status == ReceiptStatus::Failed {
        let code = step.code.unwrap_or(131_026);
        let title = errors::words(code);
        status["errors"] = json!([{
            "code": code,
            "title": title,
            "message": title,
            "error_data": {"details": title},
            "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
        }]);
    } else {
        status["pricing"] = json!({"billable": false, "pricing_model": "PMP", "category": "service"});
    }
    status
}

/// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started/#validate-payloads>
fn sign(outgoing: &Outgoing, secret: &str) -> Vec<(&'static str, String)> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    let mac = mac.chain_update(outgoing.body.as_bytes()).finalize().into_bytes();
    vec![("x-hub-signature-256", format!("sha256={}", hex::encode(mac)))]
}
