//! The input and output types of an adapter.

use std::path::PathBuf;

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{AudioFacts, Recipient, SendError, SendErrorKind, Stage};

/// The form in which the recipient sees the note.
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
#[serde(from = "Vec<Substitute>")]
pub struct Degrade(pub Vec<Form>);

/// A form that may replace a voice bubble.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Substitute {
    Audio,
    File,
    Text,
}

impl From<Vec<Substitute>> for Degrade {
    fn from(forms: Vec<Substitute>) -> Self {
        let form = |form| match form {
            Substitute::Audio => Form::Audio,
            Substitute::File => Form::File,
            Substitute::Text => Form::Text,
        };
        Self(forms.into_iter().map(form).collect())
    }
}

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

/// The content for the recipient.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every note is audio, and there is one at a time")]
pub enum Content {
    Audio {
        /// Form in which the recipient sees the audio: never [`Form::Text`].
        form: Form,
        audio: OutboundAudio,
        /// Caption, no longer than [`crate::FormSupport::caption`] allows.
        caption: Option<String>,
    },
    /// The note's text, which replaces the audio.
    Text(String),
}

impl OutboundNote {
    /// Returns the rung of the ladder for this content.
    pub fn form(&self) -> Form {
        match &self.content {
            Content::Audio { form, .. } => *form,
            Content::Text(_) => Form::Text,
        }
    }

    /// Returns the audio; `None` if a text replaces it.
    pub fn audio(&self) -> Option<&OutboundAudio> {
        match &self.content {
            Content::Audio { audio, .. } => Some(audio),
            Content::Text(_) => None,
        }
    }

    /// Returns the audio, for adapters whose connections have only forms with audio.
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

    /// Returns secrets that a provider may repeat in its messages: the parts of the audio's link.
    pub(crate) fn link_secrets(&self) -> Vec<SecretString> {
        self.audio().map(OutboundAudio::link_secrets).unwrap_or_default()
    }
}

/// The bytes to send, on this machine and behind a link.
#[derive(Clone)]
pub struct OutboundAudio {
    pub facts: AudioFacts,
    /// File name that the recipient sees, chosen by the gateway: `voice.ogg`.
    pub filename: String,
    pub path: PathBuf,
    /// Signed and short-lived URL for providers that download. It grants access and must never be logged.
    pub link: Url,
    /// Whether the provider has to convert these bytes.
    pub provider_converts: bool,
    /// Waveform of 64 bars from 0 to 100. Never empty.
    pub waveform: Vec<u8>,
}

impl OutboundAudio {
    /// Reads the whole file; its size is bounded by [`crate::FormSupport::max_bytes`].
    ///
    /// # Errors
    /// [`SendErrorKind::Unavailable`], in the upload.
    pub async fn read(&self) -> Result<Bytes, SendError> {
        tokio::fs::read(&self.path).await.map(Bytes::from).map_err(|_| {
            let detail = "the audio could not be read from the gateway's storage";
            SendError::new(SendErrorKind::Unavailable, detail).at(Stage::Upload)
        })
    }

    /// Returns the media type without its parameters, which some servers do not take.
    pub(crate) fn bare_mime_type(&self) -> &str {
        self.facts.mime_type.split(';').next().unwrap_or_default().trim()
    }

    /// Returns the strings to remove from a provider's messages because they grant access: the link, and the long parts
    /// of its path, which would survive if only a part or an escaped spelling of the link is repeated.
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

/// Facts that an adapter learned for later attempts. The gateway stores them durably, however the attempt ends, and
/// hands them back; it only looks into `media`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Facts about this recipient on this connection, for every later note (kept for `delivery.learned_ttl`).
    pub recipient: Option<Value>,
    /// Facts about this note, for its later attempts.
    pub note: Option<Value>,
    /// The provider's handle for the uploaded bytes. It is given to every later note on this connection with the same
    /// bytes in the same form, in every process, until it expires or an adapter removes it.
    pub media: Option<MediaHandle>,
}

/// Media that the provider keeps: sending it again needs no upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaHandle {
    pub value: String,
    /// Expiry of the handle. `None` if the provider states none.
    pub valid_until: Option<Timestamp>,
}

/// The acceptance of a note by the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The provider's id of the visible message: unique on its connection, so where the provider counts messages per
    /// chat it is made of both (`CHAT:MESSAGE`).
    pub message_id: String,
    /// Form in which the recipient sees the note, if the answer states it; otherwise the requested form applies.
    pub form: Option<Form>,
    /// The provider's trace id, for its support.
    pub trace: Option<String>,
    /// Further ids by which receipts may refer to the message, besides its message id and
    /// [`crate::Prepared::correlation_ids`].
    pub correlation_ids: Vec<String>,
    /// Pause that a successful answer requests, for this recipient or for the whole connection.
    pub not_before: Option<(Timestamp, Scope)>,
    /// Differences from the request.
    pub warnings: Vec<SendWarning>,
}

/// A way in which an accepted note differs from what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendWarning {
    /// The message to reply to is gone, so the note is sent without a reference.
    ReplyLost,
}

/// The scope of a limit or a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Only this recipient on this connection.
    Recipient,
    /// The whole connection.
    Connection,
}
