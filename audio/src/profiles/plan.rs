//! Decides which conversions a source needs, without I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{AudioError, AudioErrorKind};
use crate::profiles::profile::Profile;
use crate::source::Probed;

/// Conversions that the caller permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Convert {
    /// Apply the least conversion that fits the target.
    #[default]
    Auto,
    /// Encode even if the source would fit.
    Always,
    /// Send untouched or remuxed, else refuse.
    Never,
}

/// Conversion of a source, from least to most: none; the same codec packets in another container or with other headers;
/// a new encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// The bytes are untouched.
    None,
    /// The codec packets are kept, in another container or with other headers.
    Remuxed,
    Transcoded,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Remuxed => "remuxed",
            Self::Transcoded => "transcoded",
        })
    }
}

/// Conversions to try, least first. There can be several, because a remux is read back and may fail verification.
///
/// # Errors
/// `TooLong` or `ConvertRefused`.
pub fn plan(probed: &Probed, profile: &Profile, convert: Convert) -> Result<Vec<Work>, AudioError> {
    let mut candidates = Vec::new();
    if convert != Convert::Always {
        if profile.accepts(probed) {
            return Ok(vec![Work::None]);
        }
        if profile.remuxes(probed) {
            candidates.push(Work::Remuxed);
        }
    }
    let longest = profile.max_duration.map_or(u128::MAX, |span| span.as_millis());
    let is_short = u128::from(probed.facts.duration_ms) <= longest;
    if convert != Convert::Never && is_short {
        candidates.push(Work::Transcoded);
    }
    match candidates.is_empty() {
        false => Ok(candidates),
        true if convert == Convert::Never => Err(refused(profile)),
        true => Err(AudioError::encode(
            AudioErrorKind::TooLong,
            format!("{} takes at most {} s of audio; send a shorter note", profile.name, longest / 1000),
        )),
    }
}

pub(crate) fn refused(profile: &Profile) -> AudioError {
    AudioError::encode(
        AudioErrorKind::ConvertRefused,
        format!(
            "this audio would have to be re-encoded, and `convert` forbids it; the target needs {}",
            profile.needs()
        ),
    )
}
