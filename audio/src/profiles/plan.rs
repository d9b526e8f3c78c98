//! Decides which conversions a source needs, without I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{AudioError, AudioErrorKind};
use crate::profiles::profile::{Foreseen, Loss, Profile};
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

/// A conversion that may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The result may exceed the budget of the profile, as far as the target takes it.
    pub over_budget: bool,
    pub work: Work,
}

/// Conversions to try, best first: a result within the budget of the profile comes before a larger one, and less work
/// before more. There can be several, because a remux is read back and may fail verification.
///
/// # Errors
/// `TooLong` or `ConvertRefused`.
pub fn plan(probed: &Probed, profile: &Profile, convert: Convert) -> Result<Vec<Candidate>, AudioError> {
    let mut found = candidates(probed, profile, convert, false);
    // A remux may turn out to be too large, so it is not the last candidate.
    let is_sure = found.iter().any(|candidate| candidate.work != Work::Remuxed);
    if profile.over_budget.is_some() && !is_sure {
        found.extend(candidates(probed, profile, convert, true));
    }
    if found.is_empty() { Err(misfit(profile, convert)) } else { Ok(found) }
}

fn candidates(probed: &Probed, profile: &Profile, convert: Convert, over_budget: bool) -> Vec<Candidate> {
    let candidate = |work| Candidate { over_budget, work };
    let limit = profile.limit(over_budget);
    let mut found = Vec::new();
    if convert != Convert::Always {
        if profile.accepts(probed, limit) {
            return vec![candidate(Work::None)];
        }
        if profile.remuxes(probed, limit) {
            found.push(candidate(Work::Remuxed));
        }
    }
    if convert != Convert::Never && (over_budget || profile.is_short(probed.facts.duration_ms)) {
        found.push(candidate(Work::Transcoded));
    }
    found
}

/// The expected conversion of a source for a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    pub work: Work,
    pub audio: Foreseen,
    /// The loss to the recipient, if the result exceeds the budget of the profile.
    pub loss: Option<Loss>,
}

/// Predicts the conversion that [`plan`] leads to.
///
/// # Errors
/// Those of [`plan`].
pub fn expect(probed: &Probed, profile: &Profile, convert: Convert) -> Result<Expected, AudioError> {
    let candidates = plan(probed, profile, convert)?;
    let &Candidate { over_budget, work } = candidates.first().ok_or_else(|| misfit(profile, convert))?;
    let audio = profile.foresee(probed, work);
    let loss = profile.loss(audio.size_bytes).filter(|_| over_budget);
    Ok(Expected { work, audio, loss })
}

/// Checks that a source can be sent within the budget of a profile.
///
/// # Errors
/// `TooLong` or `ConvertRefused`.
pub fn keep_budget(probed: &Probed, profile: &Profile, convert: Convert) -> Result<(), AudioError> {
    match expect(probed, profile, convert)?.loss {
        Some(_) => Err(misfit(profile, convert)),
        None => Ok(()),
    }
}

/// The error for a source that does not fit the limits of a profile.
fn misfit(profile: &Profile, convert: Convert) -> AudioError {
    if convert == Convert::Never {
        return refused(profile);
    }
    let longest = profile.max_duration.unwrap_or_default().as_secs();
    AudioError::encode(
        AudioErrorKind::TooLong,
        format!("{} takes at most {longest} s of audio; send a shorter note", profile.name),
    )
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
