//! Capabilities of a connection, stated as data and checked before any request is made.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Content, Form, OutboundNote, ReceiptStatus, SendError, SendErrorKind, Stage};

/// The way in which the audio reaches the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intake {
    /// The adapter uploads the bytes.
    #[default]
    Upload,
    /// The provider downloads the bytes from the gateway's signed link, so that must be reachable for it.
    Url,
}

/// Whether a note can answer an earlier message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplySupport {
    /// Replies are not supported; a `reply_to` is dropped with a warning.
    None,
    /// Replies refer to the provider's own message id.
    MessageId,
}

/// The time for which a provider recognises a note that is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Idempotency {
    /// A repetition within this time, in whole seconds, shows the note only once.
    #[serde(rename = "window_seconds", serialize_with = "seconds")]
    pub window: Duration,
}

fn seconds<S: serde::Serializer>(window: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(window.as_secs())
}

/// One form in which a connection shows notes, with its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FormSupport {
    pub form: Form,
    /// Audio profile for files of this form. `None` for [`Form::Text`].
    pub profile: Option<String>,
    pub intake: Intake,
    /// Largest file, in bytes; for [`Form::Text`] the longest text.
    pub max_bytes: u64,
    pub max_duration_ms: Option<u64>,
    /// Longest caption beside the audio, in characters. `None` if captions are not supported.
    pub caption: Option<usize>,
}

impl FormSupport {
    /// A form with audio of any length, without a caption.
    pub(crate) fn audio(form: Form, profile: impl Into<String>, intake: Intake, max_bytes: u64) -> Self {
        Self { form, profile: Some(profile.into()), intake, max_bytes, max_duration_ms: None, caption: None }
    }

    /// Sets the longest caption, in characters.
    #[must_use]
    pub(crate) fn with_caption(mut self, longest: usize) -> Self {
        self.caption = Some(longest);
        self
    }

    /// The form [`Form::Text`], with texts of at most `longest` characters.
    pub(crate) fn text(longest: usize) -> Self {
        Self {
            form: Form::Text,
            profile: None,
            intake: Intake::Upload,
            // In UTF-8 a character has at most four bytes.
            max_bytes: 4 * longest as u64,
            max_duration_ms: None,
            caption: Some(longest),
        }
    }
}

/// A connection's abilities. One value per connection, since an account's settings may narrow them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Supported forms, in the order of the ladder, beginning with [`Form::Voice`] if the connection has voice bubbles.
    pub forms: Vec<FormSupport>,
    /// Prefix of the names of profiles made for this provider; audio of other profiles would not be playable.
    pub profile_family: &'static str,
    /// Profile of the audio that the provider can convert by itself. `None` if it cannot convert.
    pub provider_converts: Option<&'static str>,
    pub reply: ReplySupport,
    /// Time for which repeating a dispatch of the same note cannot show it twice. Without it, an unknown outcome is
    /// never repeated unless the tenant asked for it.
    pub idempotency: Option<Idempotency>,
    /// Whether the outcome of a note can be looked up at the provider.
    pub look_up: bool,
    /// Receipts that the provider sends, as the connection is configured. Empty if there are none.
    pub receipts: Vec<ReceiptStatus>,
    /// Whether voice notes that people send can be received, as the connection is configured.
    pub inbound: bool,
    /// Whether they come over a socket that the gateway keeps open ([`crate::Provider::listen`]), and not by callback.
    pub listens: bool,
    /// The number of seconds for which a sign is shown that a note is being recorded. `None` if there is no such sign.
    pub presence: Option<u32>,
    /// Whether a media id of the provider's is used again for the same bytes.
    pub media_reuse: bool,
    /// The kinds of recipient that the provider understands, in the words of the HTTP guide.
    pub recipients: &'static [&'static str],
}

impl Capabilities {
    /// Returns the limits of a form; `None` if the connection has no such form.
    pub fn form(&self, form: Form) -> Option<&FormSupport> {
        self.forms.iter().find(|support| support.form == form)
    }

    /// Returns how the audio of the first form reaches the provider.
    pub fn intake(&self) -> Intake {
        self.forms.first().map_or(Intake::Upload, |support| support.intake)
    }

    /// Whether the audio of any form reaches the provider in this way.
    pub fn uses(&self, intake: Intake) -> bool {
        self.forms.iter().any(|support| support.form != Form::Text && support.intake == intake)
    }

    /// Returns the profile of the first form.
    pub fn usual_profile(&self) -> Option<&str> {
        self.forms.first()?.profile.as_deref()
    }

    /// Returns the largest file of the first form, in bytes.
    pub fn max_bytes(&self) -> u64 {
        self.forms.first().map_or(0, |support| support.max_bytes)
    }

    /// Checks a size before anything is sent.
    ///
    /// # Errors
    /// [`SendErrorKind::MediaTooLarge`], or [`SendErrorKind::FormUnavailable`] where the connection has no such form.
    pub fn check_size(&self, form: Form, size: u64) -> Result<&FormSupport, SendError> {
        let support = self.form(form).ok_or_else(|| {
            SendError::new(SendErrorKind::FormUnavailable, "this connection does not show notes in this form")
        })?;
        if size <= support.max_bytes {
            return Ok(support);
        }
        let detail =
            format!("the note has {size} bytes; this connection takes {} at most", support.max_bytes);
        Err(SendError::new(SendErrorKind::MediaTooLarge, detail).at(Stage::Upload))
    }

    /// Checks a note's size before anything is sent.
    ///
    /// # Errors
    /// [`SendErrorKind::MediaTooLarge`], or [`SendErrorKind::FormUnavailable`] where the connection has no such form.
    pub fn check(&self, note: &OutboundNote) -> Result<&FormSupport, SendError> {
        let size = match &note.content {
            Content::Audio { audio, .. } => audio.facts.size_bytes,
            Content::Text(text) => text.len() as u64,
        };
        self.check_size(note.form(), size)
    }
}
