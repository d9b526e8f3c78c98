//! Decides what has to be done to a source; no IO.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{AudioError, AudioErrorKind};
use crate::profiles::profile::Profile;
use crate::source::Probed;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Bytes untouched.
    None,
    /// The same codec packets in another container or with other headers.
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

/// What may be tried, least first. A remux may turn out not to hold (its result is read back), which is why there
/// can be more than one.
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
