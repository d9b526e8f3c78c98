//! The bot's one webhook: <https://core.telegram.org/bots/api#setwebhook>.

use serde_json::{Value, json};

use super::Refusal;
use super::chats::Memory;
use super::form::Fields;
use crate::{Sandbox, hooks};

pub fn info(sandbox: &Sandbox) -> Value {
    let mut state = sandbox.inner.lock();
    let url = state.own::<Memory>().webhook.clone();
    json!({"url": url, "has_custom_certificate": false, "pending_update_count": 0, "max_connections": 40})
}

pub fn set(sandbox: &Sandbox, fields: &Fields) -> Result<Value, Refusal> {
    let url = fields.text("url").unwrap_or_default();
    if hooks::target(&url).is_none() {
        return Err(Refusal::bad("bad webhook: An HTTPS URL must be provided for webhook"));
    }
    let secret = fields.text("secret_token");
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let sound = |secret: &String| (1..=256).contains(&secret.len()) && secret.chars().all(plain);
    if secret.as_ref().is_some_and(|secret| !sound(secret)) {
        return Err(Refusal::bad("secret token contains unallowed characters"));
    }
    let mut state = sandbox.inner.lock();
    let memory = state.own::<Memory>();
    (memory.webhook, memory.webhook_secret) = (url, secret);
    Ok(json!(true))
}

pub fn delete(sandbox: &Sandbox) -> Value {
    let mut state = sandbox.inner.lock();
    let memory = state.own::<Memory>();
    (memory.webhook, memory.webhook_secret) = (String::new(), None);
    json!(true)
}
