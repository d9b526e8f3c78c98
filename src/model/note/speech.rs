//! A text that is spoken for a note.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The text and how it is to be spoken. It is a person's data, so `Debug` leaves it out.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SpokenText {
    pub text: String,
    /// The speech server, by its name in the tenant's configuration.
    pub with: String,
    /// Overrides the voice of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// How the text is to be spoken, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f64>,
}

impl fmt::Debug for SpokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpokenText").field("with", &self.with).finish_non_exhaustive()
    }
}
