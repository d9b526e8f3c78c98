//! Having Meta call: an address of the number's own, which goes before the one that the app has for all its numbers.
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/override/>

use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::Url;

use super::WhatsAppCloud;
use crate::{Context, Registration, SendError, SendErrorKind};

const FIELD: &str = "webhook_configuration";

/// Addresses for statuses of the number, in the order in which Meta looks.
const LEVELS: [&str; 3] = ["phone_number", "whatsapp_business_account", "application"];

impl WhatsAppCloud {
    /// Sets the number's own address. Another address that is set already is not replaced.
    pub(super) async fn subscribe(&self, cx: &Context, url: &Url) -> Result<Registration, SendError> {
        let token = self.verify_tokens.first().filter(|_| self.app_secrets.first().is_some());
        let token = token.ok_or_else(no_secret)?;
        let present = self.addresses(cx).await?;
        let own = present["phone_number"].as_str().filter(|own| !own.is_empty());
        if own.is_some_and(|own| own != url.as_str()) {
            return Err(elsewhere());
        }
        let body = json!({FIELD: {
            "override_callback_uri": url.as_str(),
            "verify_token": token.expose_secret(),
        }});
        let done = self.ask(cx, self.json(Method::POST, self.url(&[]), Some(&body))).await?;
        if done["success"] != true {
            let detail = "the provider did not set the callback address; try again later";
            return Err(SendError::new(SendErrorKind::Unavailable, detail));
        }
        let summary = "receipts of this number are on: sent, delivered, read, played, failed".to_owned();
        Ok(Registration { summary, secret: None })
    }

    pub(super) async fn subscribed(&self, cx: &Context, url: &Url) -> Result<String, SendError> {
        if self.app_secrets.first().is_none() || self.verify_tokens.first().is_none() {
            return Err(no_secret());
        }
        let present = self.addresses(cx).await?;
        let address = LEVELS.iter().find_map(|level| present[level].as_str().filter(|text| !text.is_empty()));
        match address {
            Some(address) if address == url.as_str() => Ok("receipts on".to_owned()),
            Some(_) => Err(elsewhere()),
            None => {
                let detail = "the provider sends no receipts of this number; register the callbacks";
                Err(SendError::new(SendErrorKind::Misconfigured, detail))
            }
        }
    }

    /// The addresses of the number, the account and the app.
    async fn addresses(&self, cx: &Context) -> Result<Value, SendError> {
        if !self.number_in_path {
            let detail = "this reseller cannot be asked; set the callback up at its dashboard";
            return Err(SendError::new(SendErrorKind::Misconfigured, detail));
        }
        let mut url = self.url(&[]);
        url.query_pairs_mut().append_pair("fields", FIELD);
        let body = self.ask(cx, self.json(Method::GET, url, None)).await?;
        // A number without any has no such field.
        if body["id"].is_null() && body[FIELD].is_null() {
            return Err(super::not_this_provider());
        }
        Ok(body[FIELD].clone())
    }
}

fn no_secret() -> SendError {
    let detail = "receipts need app_secret (App Dashboard, App settings, Basic) and verify_token, a long random text of \
                  your own";
    SendError::new(SendErrorKind::Misconfigured, detail)
}

fn elsewhere() -> SendError {
    let detail = "the provider sends the receipts of this number elsewhere, which is not replaced: remove that address \
                  there, or let its owner pass the requests on with body and X-Hub-Signature-256 as they are";
    SendError::new(SendErrorKind::Misconfigured, detail)
}
