//! Signs to a person that a note is being recorded.

use serde::{Deserialize, Serialize};

use crate::{SendError, SendErrorKind, Stage};

/// The sign that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// A note is being recorded, or a message written where the provider knows no recording.
    Recording,
    /// Nothing is.
    Paused,
}

/// The error of a provider without such signs.
pub(crate) fn unsupported() -> SendError {
    let detail = "this connection cannot show that a note is being recorded";
    SendError::new(SendErrorKind::Rejected, detail).at(Stage::Check)
}
