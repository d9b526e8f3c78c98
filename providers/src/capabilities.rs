//! What a connection can do, stated as data and checked before any request is made.

use serde::{Deserialize, Serialize};

use crate::{SendError, SendErrorKind};

/// How the audio reaches the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intake {
    /// The adapter uploads the bytes.
    Upload,
    /// The provider downloads the bytes from the gateway's signed link, so that must be reachable for it.
    Url,
}

/// Whether a note can answer an earlier message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplySupport {
    /// There is no such thing; a `reply_to` is dropped with a warning.
    None,
    /// By the provider's own message id.
    MessageId,
}

/// A connection's abilities. One value per connection, since an account's settings may narrow them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// The audio profile used unless the connection's `profile` names another.
    pub default_profile: &'static str,
    /// What the names of profiles made for this provider begin with; others would arrive as dead files.
    pub profile_family: &'static str,
    /// Where the provider can convert by itself: the profile of what it takes for that. `None`: it cannot.
    pub provider_converts: Option<&'static str>,
    pub intake: Intake,
    /// Largest file that the provider takes, in bytes.
    pub max_bytes: u64,
    pub reply: ReplySupport,
    /// Whether a text can accompany the note.
    pub caption: bool,
    /// Whether repeating a dispatch with the same note can never show it twice. Where this is `false`, an
    /// unknown outcome is never repeated unless the tenant asked for it.
    pub idempotent_send: bool,
    /// Whether the provider can be asked what became of a note.
    pub look_up: bool,
    /// Whether receipts come for what is sent, as the connection is configured.
    pub receipts: bool,
    /// The kinds of recipient that the provider understands, in the words of the HTTP guide.
    pub recipients: &'static [&'static str],
}

impl Capabilities {
    /// Judges a file's size before anything is sent.
    ///
    /// # Errors
    /// [`SendErrorKind::MediaTooLarge`]
    pub fn check_size(&self, size_bytes: u64) -> Result<(), SendError> {
        if size_bytes <= self.max_bytes {
            return Ok(());
        }
        let detail =
            format!("the audio has {size_bytes} bytes; this connection takes {} at most", self.max_bytes);
        Err(SendError::new(SendErrorKind::MediaTooLarge, detail).at("upload"))
    }
}
