//! What goes into an adapter and what comes out of it.

use std::path::PathBuf;

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{AudioFacts, Recipient, SendError, SendErrorKind};

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

impl Form {
    /// The ladder, from the form that is asked for to the last resort.
    pub const LADDER: [Self; 4] = [Self::Voice, Self::Audio, Self::File, Self::Text];
}

/// The forms that may replace a voice bubble (`degrade`): a set, because the ladder's order never changes.
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

/// One note on one rung of the ladder, ready to be sent: its content already fits what the connection states for its
/// form.
#[derive(Clone, Debug)]
pub struct OutboundNote {
    /// `vn_` and a UUID; unique for ever, so it is also the idempotency key wherever a provider takes one.
    pub id: String,
    pub to: Recipient,
    pub content: Content,
    /// The provider's own id of the message being answered.
    pub reply_to: Option<String>,
}

/// What the recipient is to get.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every note is audio, and there is one at a time")]
pub enum Content {
    Audio {
        /// How the recipient is to see it: never [`Form::Text`].
        form: Form,
        audio: OutboundAudio,
        /// A text beside it, no longer than [`crate::FormSupport::caption`] says.
        caption: Option<String>,
    },
    /// The note's text in place of the note.
    Text(String),
}

impl OutboundNote {
    /// The rung of the ladder that this is.
    pub fn form(&self) -> Form {
        match &self.content {
            Content::Audio { form, .. } => *form,
            Content::Text(_) => Form::Text,
        }
    }

    /// The audio; `None` where a text takes its place.
    pub fn audio(&self) -> Option<&OutboundAudio> {
        match &self.content {
            Content::Audio { audio, .. } => Some(audio),
            Content::Text(_) => None,
        }
    }

    /// The audio, for adapters whose connections have no form without it.
    ///
    /// # Errors
    /// [`SendErrorKind::FormUnavailable`]
    pub fn need_audio(&self) -> Result<&OutboundAudio, SendError> {
        self.audio().ok_or_else(|| {
            SendError::new(
                SendErrorKind::FormUnavailable,
                "this connection sends audio, and no text in its place",
            )
        })
    }

    /// Access that a provider may repeat in its words: the parts of the audio's link.
    pub(crate) fn link_secrets(&self) -> Vec<SecretString> {
        self.audio().map(OutboundAudio::link_secrets).unwrap_or_default()
    }
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
    /// The provider is to convert these bytes by itself.
    pub provider_converts: bool,
    /// 64 bars of 0 to 100 that show the loudness of what is sent. Never empty.
    pub waveform: Vec<u8>,
}

impl OutboundAudio {
    /// Reads the whole file; its size is bounded by [`crate::FormSupport::max_bytes`].
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
/// and hands it back; except for `media` it never looks inside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// About this recipient on this connection, for every later note (kept for `delivery.learned_ttl`).
    pub recipient: Option<Value>,
    /// About this note alone, for its later attempts.
    pub note: Option<Value>,
    /// The provider's own name for the bytes that are sent. Handed to every later note on this connection that sends
    /// the same bytes in the same form, in every process, until it expires or an adapter removes it.
    pub media: Option<MediaHandle>,
}

/// Media that the provider keeps: sending it again needs no upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaHandle {
    pub value: String,
    /// The provider forgets it then. `None`: it names no end.
    pub valid_until: Option<Timestamp>,
}

/// The provider took responsibility for the note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The provider's id of the visible message: unique on its connection, so where the provider counts messages per
    /// chat it is made of both (`CHAT:MESSAGE`).
    pub message_id: String,
    /// How the recipient sees it, where the answer says so; else the form that was asked for holds.
    pub form: Option<Form>,
    /// The provider's trace id, for its support.
    pub trace: Option<String>,
    /// Further names by which receipts may know the message, beside its id and
    /// [`crate::Prepared::correlation_ids`].
    pub correlation_ids: Vec<String>,
    /// A limit that a success announces: nothing more goes out before then, to this recipient or over the whole
    /// connection.
    pub not_before: Option<(Timestamp, Scope)>,
    /// What is different from what was asked for.
    pub warnings: Vec<SendWarning>,
}

/// A way in which an accepted note differs from what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendWarning {
    /// The message that was to be answered is gone; the note stands on its own.
    ReplyLost,
    /// The file is too large for the provider to draw a waveform.
    WaveformLost,
    /// The file is too large for a play button: the recipient downloads it first.
    PlayIconLost,
}

/// What a limit or a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This recipient on this connection.
    Recipient,
    /// Everything over this connection.
    Connection,
}
