//! The ledger of received notes, in a form that tests can compare and people can read; and the removal of secrets from
//! it.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::audio::AudioInfo;
use crate::receipts::Receipt;

/// One message on the recipient's phone.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerEntry {
    pub id: Uuid,
    /// The emulator's name: `linq`, `wawp`, `telegram`, and so on.
    pub provider: &'static str,
    pub at: String,
    /// Chat: Linq chat id, WhatsApp JID or number, Telegram chat, Discord channel.
    pub conversation: String,
    /// Handles of the people who see it.
    pub to: Vec<String>,
    /// The id that the provider gave to the message.
    pub message_id: String,
    /// Form on the phone: `voice`, `audio`, `file`, `text`; `refused` for an invalid request that is worth showing on
    /// the page although nothing was delivered.
    pub form: &'static str,
    /// Linq: service of the chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<&'static str>,
    /// Description of the request that caused the entry.
    pub via: String,
    pub filename: Option<String>,
    /// Media type as declared by the sender.
    pub mime_type: Option<String>,
    pub size_bytes: usize,
    pub sha256: Option<String>,
    pub audio: Option<AudioInfo>,
    pub text: Option<String>,
    /// Defects that a recipient would notice, in plain words. Empty if there are none.
    pub problems: Vec<String>,
    pub reply_to: Option<String>,
    /// Wawp: whether the provider was asked to transcode.
    pub convert: Option<bool>,
    /// The request's JSON, secrets removed.
    pub request: Value,
    /// Receipts that the provider has sent so far.
    pub receipts: Vec<Receipt>,
}

/// One request that hit an emulator.
#[derive(Clone, Debug, Serialize)]
pub struct RequestLog {
    pub n: u64,
    pub provider: &'static str,
    pub operation: &'static str,
    pub method: String,
    pub path: String,
    /// Query string, secrets removed.
    pub query: Option<String>,
    pub at: String,
    /// Status of the answer; `null` while the request is in flight, and if the connection was closed without an answer.
    pub status: Option<u16>,
    /// Time until the answer, in milliseconds.
    pub took_ms: Option<u64>,
    /// JSON of the answer, secrets removed; `null` for other answers and for long ones.
    pub answer: Value,
    /// JSON body, secrets removed; `null` for none, for other bodies and while the body is being read.
    pub body: Value,
    /// Size of the body, once read.
    pub body_bytes: Option<usize>,
    /// Names of the headers, in lower case and in order.
    pub headers: Vec<String>,
}

const REMOVED: &str = "[removed]";

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    ["token", "secret", "signature", "password", "authorization", "api_key", "apikey"]
        .iter()
        .any(|word| name.contains(word))
}

/// Removes values under secret names, the emulators' own credentials wherever they stand, and the query of every
/// link (a presigned link's query is a credential).
pub(crate) fn redact(value: &Value, known: &[&str]) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| match value {
                // Strings only, so that a wrong type stays visible in the log.
                Value::String(_) if is_secret_name(name) => (name.clone(), Value::from(REMOVED)),
                value => (name.clone(), redact(value, known)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(|item| redact(item, known)).collect(),
        Value::String(text) => Value::from(redact_text(text, known)),
        other => other.clone(),
    }
}

fn redact_text(text: &str, known: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in known.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, REMOVED);
    }
    if text.starts_with("http")
        && let Ok(mut url) = url::Url::parse(&text)
        && url.query().is_some()
    {
        url.set_query(Some("removed"));
        return url.into();
    }
    text
}

/// Removes the credentials that some providers have in the path.
pub(crate) fn redact_path(path: &str, known: &[&str]) -> String {
    known
        .iter()
        .filter(|secret| !secret.is_empty())
        .fold(path.to_owned(), |path, secret| path.replace(secret, REMOVED))
}

pub(crate) fn redact_query(query: &str, known: &[&str]) -> String {
    let pairs = url::form_urlencoded::parse(query.as_bytes()).map(|(name, value)| {
        let value = if is_secret_name(&name) { REMOVED.into() } else { redact_text(&value, known) };
        (name.into_owned(), value)
    });
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
