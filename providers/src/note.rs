//! What goes into an adapter and what comes out of it.

use std::path::PathBuf;

use bytes::Bytes;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{AudioFacts, Recipient};

/// How the recipient sees the note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A voice bubble.
    Voice,
    /// A playable audio attachment.
    Audio,
    /// A file to download.
    File,
    Text,
}

/// What may replace a voice bubble (the connection's `degrade`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Degrade(pub Vec<Form>);

impl Default for Degrade {
    fn default() -> Self {
        Self(vec![Form::Audio])
    }
}

impl Degrade {
    /// Whether the tenant accepts `form` where a voice note was meant.
    pub fn allows(&self, form: Form) -> bool {
        form == Form::Voice || self.0.contains(&form)
    }
}

/// One note, ready to be sent: its audio already fits the connection's capabilities.
#[derive(Clone, Debug)]
pub struct OutboundNote {
    /// `vn_` and a UUID; unique for ever, so it is also the idempotency key wherever a provider takes one.
    pub id: String,
    pub to: Recipient,
    pub audio: OutboundAudio,
    /// The provider is to convert the audio by itself.
    pub provider_converts: bool,
    /// The provider's own id of the message being answered.
    pub reply_to: Option<String>,
    pub text: Option<String>,
    pub degrade: Degrade,
}

/// The bytes to send, on this machine and behind a link.
#[derive(Clone)]
pub struct OutboundAudio {
    pub facts: AudioFacts,
    /// Name for the recipient's eyes, made by the gateway: `voice.ogg`.
    pub filename: String,
    pub path: PathBuf,
    /// Signed and short-lived; for providers that download. It grants access: never log it.
    pub link: Url,
}

impl OutboundAudio {
    /// Reads the whole file; its size is bounded by [`crate::Capabilities::max_bytes`].
    pub async fn read(&self) -> std::io::Result<Bytes> {
        tokio::fs::read(&self.path).await.map(Bytes::from)
    }

    /// What must be removed from a provider's words, because it gives access: the link, and the long parts of
    /// its path, which survive when only a part or an escaped spelling of the link is repeated.
    pub(crate) fn link_secrets(&self) -> Vec<SecretString> {
        let long = self.link.path().split('/').filter(|part| part.len() >= 16);
        std::iter::once(self.link.as_str()).chain(long).map(SecretString::from).collect()
    }
}

impl std::fmt::Debug for OutboundAudio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboundAudio").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// What an adapter wants back at its next attempt. The gateway stores it durably, whatever the attempt's end,
/// and hands it back; it never looks inside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// About this recipient on this connection, for every later note (kept for `delivery.learned_ttl`).
    pub recipient: Option<Value>,
    /// About this note alone, for its later attempts.
    pub note: Option<Value>,
}

/// The provider took responsibility for the note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The provider's id of the visible message.
    pub message_id: String,
    /// How the recipient sees it, where the answer says so; else what `prepare` announced holds.
    pub form: Option<Form>,
    /// The provider's trace id, for its support.
    pub trace: Option<String>,
    /// Further names by which receipts may know the message, beside its id and [`crate::Prepared::marks`].
    pub marks: Vec<String>,
}
