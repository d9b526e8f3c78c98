//! Check of a number: <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/health-status/>.

use reqwest::Method;
use serde_json::Value;

use super::{WhatsAppCloud, not_this_provider};
use crate::{Context, SendError, SendErrorKind, masked_number};

const FIELDS: &str = "display_phone_number,quality_rating,status,health_status";

impl WhatsAppCloud {
    pub(super) async fn state(&self, cx: &Context) -> Result<String, SendError> {
        let url = if self.number_in_path {
            let mut url = self.url(&[]);
            url.query_pairs_mut().append_pair("fields", FIELDS);
            url
        } else {
            // https://docs.360dialog.com/partner/api-reference/messaging-health-status
            self.url(&["health_status"])
        };
        let body = self.ask(cx, self.json(Method::GET, url, None)).await?;
        let number = body["display_phone_number"].as_str();
        let health = word(&body["health_status"]["can_send_message"]);
        if number.is_none() && health.is_none() {
            return Err(not_this_provider());
        }
        let status = word(&body["status"]);
        if let Some(detail) = status.as_deref().and_then(cannot_send) {
            return Err(SendError::new(SendErrorKind::Misconfigured, detail));
        }
        // AVAILABLE, LIMITED, BLOCKED
        if health.as_deref() == Some("BLOCKED") {
            let detail = "the provider lets this number send no messages; WhatsApp Manager says why";
            return Err(SendError::new(SendErrorKind::Misconfigured, detail));
        }
        let quality = word(&body["quality_rating"]).map(|quality| format!("quality {quality}"));
        let health = health.map(|health| format!("messages {health}"));
        let parts = [number.map(masked_number), status, quality, health];
        Ok(parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// One of Meta's words in capitals.
fn word(value: &Value) -> Option<String> {
    let plain = |c: char| c.is_ascii_uppercase() || c == '_';
    value.as_str().filter(|text| (1..=32).contains(&text.len()) && text.chars().all(plain)).map(str::to_owned)
}

/// The states of a number that cannot send, and the way out of each. `FLAGGED` and `RATE_LIMITED` still can.
fn cannot_send(status: &str) -> Option<&'static str> {
    Some(match status {
        "PENDING" | "UNVERIFIED" | "DISCONNECTED" => {
            "the number is not connected to the Cloud API; register it in WhatsApp Manager"
        }
        "BANNED" | "RESTRICTED" => "the provider has restricted the number; WhatsApp Manager says why",
        "DELETED" | "MIGRATED" => "the number has left this account; check phone_number_id",
        _ => return None,
    })
}
