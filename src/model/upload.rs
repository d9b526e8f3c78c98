//! Audio that is uploaded ahead of the notes that send it: read once, used by any number of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use voicegate_audio::{Hints, Probed};

use crate::model::{clock::rfc3339_millis, id::UploadId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upload {
    pub id: UploadId,
    pub tenant: String,
    pub probed: Probed,
    /// The name and the media type that the caller stated.
    #[serde(default)]
    pub hints: Hints,
    #[serde(with = "rfc3339_millis")]
    pub created_at: Timestamp,
    /// Notes that use it by then keep their audio beyond.
    #[serde(with = "rfc3339_millis")]
    pub expires_at: Timestamp,
}
