//! Decides what has to be done to a source; no IO.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{AudioError, AudioErrorKind};
use super::profile::Profile;
use super::source::Probed;

/// How far the caller lets us go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Convert {
    /// The least that makes it fit.
    #[default]
    Auto,
    /// Encode even what would fit.
    Always,
    /// Never encode: untouched or remuxed, else refused.
    Never,
}

/// What was done to the source, from least to most: its bytes are untouched; the same codec packets are in another
/// container or have other headers; it was encoded anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Bytes untouched.
    None,
    /// The same codec packets in another container or with other headers.
    Remuxed,
    Transcoded,
}

/// What may be tried, least first. A remux may turn out not to hold (its result is read back), which is why there
/// can be more than one.
pub fn plan(probed: &Probed, profile: &Profile, convert: Convert) -> Result<Vec<Work>, AudioError> {
    if convert == Convert::Always {
        return Ok(vec![Work::Transcoded]);
    }
    if profile.accepts(probed) {
        return Ok(vec![Work::None]);
    }
    let mut candidates = Vec::new();
    if profile.remuxes(probed) {
        candidates.push(Work::Remuxed);
    }
    match convert {
        Convert::Never if candidates.is_empty() => Err(refused(profile)),
        Convert::Never => Ok(candidates),
        Convert::Auto | Convert::Always => {
            candidates.push(Work::Transcoded);
            Ok(candidates)
        }
    }
}

pub(super) fn refused(profile: &Profile) -> AudioError {
    AudioError::encode(
        AudioErrorKind::ConvertRefused,
        format!(
            "this audio would have to be re-encoded, and `convert` forbids it; the target needs {}",
            profile.needs
        ),
    )
}
