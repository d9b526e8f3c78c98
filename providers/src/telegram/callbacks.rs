//! Telegram's updates and the registration of the webhook: <https://core.telegram.org/bots/api#setwebhook>. There are no
//! receipts; updates are messages that people write to the bot.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::Telegram;
use crate::{
    Callback, CallbackError, CallbackRequest, ConfigError, Context, Registration, Secrets, SendError,
    SendErrorKind, Stage, signature,
};

/// <https://core.telegram.org/bots/api#setwebhook>
const HEADER: &str = "x-telegram-bot-api-secret-token";

/// The kinds of update that are asked for.
const UPDATES: [&str; 2] = ["message", "channel_post"];

/// Length of a secret. It alone keeps strangers from forging updates; the server takes at most 256 characters.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=256;

/// The part of `getWebhookInfo` that is looked at.
#[derive(Deserialize)]
struct Webhook {
    #[serde(default)]
    url: String,
    last_error_date: Option<i64>,
    #[serde(default)]
    pending_update_count: u64,
}

/// Refuses secrets that Telegram does not take.
pub(super) fn check_secrets(secrets: &Secrets) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let sound = |secret: &SecretString| {
        let text = secret.expose_secret();
        LENGTH.contains(&text.len()) && text.chars().all(plain)
    };
    if secrets.iter().all(sound) {
        return Ok(());
    }
    Err(ConfigError::new(
        "webhook_secret",
        "expected 16 to 256 characters of A-Z, a-z, 0-9, _ and -, chosen at random",
    ))
}

impl Telegram {
    /// Judges and reads an update. An empty answer is right: one with a `method` would be carried out.
    pub(super) fn read_callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.check_token(request)?;
        let update: Value = serde_json::from_slice(&request.body).map_err(|_| CallbackError::Malformed)?;
        update["update_id"].as_i64().ok_or(CallbackError::Malformed)?;
        Ok(Callback::of_voice(Self::voice(&update["message"], request.now)))
    }

    /// Whether the request has one of the secrets.
    pub(super) fn check_token(&self, request: &CallbackRequest) -> Result<(), CallbackError> {
        signature::verify_token(request.header(HEADER), &self.webhook_secrets)
    }

    /// Registers the webhook. A bot has one, and a webhook with another address is not replaced.
    pub(super) async fn subscribe(&self, cx: &Context, url: &Url) -> Result<Registration, SendError> {
        let secret = self.webhook_secrets.first().ok_or_else(no_secret)?;
        let present: Webhook = self.ask(cx, "getWebhookInfo", Map::new()).await?;
        if !present.url.is_empty() && present.url != url.as_str() {
            return Err(elsewhere());
        }
        let fields = json!({
            "url": url.as_str(),
            "secret_token": secret.expose_secret(),
            "allowed_updates": UPDATES,
        });
        let done: bool = self.ask(cx, "setWebhook", fields.as_object().cloned().unwrap_or_default()).await?;
        if !done {
            let detail = "the provider did not set the webhook; try again later";
            return Err(SendError::new(SendErrorKind::Unavailable, detail).at(Stage::Check));
        }
        Ok(Registration { summary: format!("updates are on: {}", UPDATES.join(", ")), secret: None })
    }

    pub(super) async fn subscribed(&self, cx: &Context, url: &Url) -> Result<String, SendError> {
        self.webhook_secrets.first().ok_or_else(no_secret)?;
        let present: Webhook = self.ask(cx, "getWebhookInfo", Map::new()).await?;
        if present.url.is_empty() {
            let detail = "the bot has no webhook; register the callbacks";
            return Err(SendError::new(SendErrorKind::Misconfigured, detail).at(Stage::Check));
        }
        if present.url != url.as_str() {
            return Err(elsewhere());
        }
        match present.last_error_date.filter(|_| present.pending_update_count > 0) {
            None => Ok("updates on".to_owned()),
            Some(_) => {
                let waiting = present.pending_update_count;
                let detail = format!(
                    "the provider could not deliver {waiting} updates; check that server.public_url can be reached, \
                     and that webhook_secret is the one that was registered"
                );
                Err(SendError::new(SendErrorKind::Misconfigured, detail).at(Stage::Check))
            }
        }
    }
}

fn no_secret() -> SendError {
    let detail = "webhook_secret is not set: choose a long random text of letters and digits";
    SendError::new(SendErrorKind::Misconfigured, detail).at(Stage::Check)
}

fn elsewhere() -> SendError {
    let detail = "the bot's one webhook leads elsewhere and is not replaced: remove it there, or let the bot pass its \
                  updates on to this address with the header X-Telegram-Bot-Api-Secret-Token";
    SendError::new(SendErrorKind::Misconfigured, detail).at(Stage::Check)
}
