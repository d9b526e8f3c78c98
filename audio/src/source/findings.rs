//! Findings about a source beyond its format and length.

use serde::{Deserialize, Serialize};

/// Statements of a source that cannot all be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contradiction {
    /// The timestamps contradict the sound between them.
    Clock,
    /// A header states another number of frames or bytes than there are.
    Count,
    /// The channels cancel each other out.
    Channels,
}

impl Contradiction {
    /// Explanation for the owner of a note: the contradiction, and how it was resolved.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Clock => {
                "the times in this file do not fit the sound in it; all of the sound is sent, in the order in which it \
                 is stored"
            }
            Self::Count => {
                "the header of this file states a wrong number of frames; all frames are sent, without that header"
            }
            Self::Channels => {
                "the channels of this recording cancel each other out when they are mixed; the louder one is sent"
            }
        }
    }
}

/// Findings that affect decoding, or that the owner of a source should know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    pub contradictions: Vec<Contradiction>,
    /// The mix of the channels, if their mean as it is would not do.
    pub(crate) mix: Option<Mix>,
    /// 64 bars of the audible sound, with which produced files are compared. Empty if the source was not decoded.
    pub(crate) bars: Vec<u8>,
    /// Mean of |sample| in the loudest bar, on a scale of 32768.
    pub(crate) loudest: u32,
    /// The source was decoded in this process. ffmpeg may leave out a damaged frame that was played here, so it measures
    /// the source itself when it encodes.
    pub(crate) decoded_here: bool,
}

impl Findings {
    pub(crate) fn add(&mut self, found: Contradiction) {
        if let Err(place) = self.contradictions.binary_search(&found) {
            self.contradictions.insert(place, found);
        }
    }
}

/// Mix of the channels of a source into one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mix {
    /// The weight of each channel. Empty for their mean.
    pub(crate) weights: Vec<f32>,
    /// The constant part of the sound, on a scale of 1, which is removed before the sound is encoded. Zero if it is small.
    /// Nobody hears it, and encoders spend their bits on it: with a constant of 0.3, ffmpeg's encoder for AAC fills
    /// pauses with noise half as loud as the speech.
    pub(crate) constant: f32,
}

impl Mix {
    /// One of `count` channels alone.
    pub(crate) fn only(channel: usize, count: usize) -> Self {
        let mut weights = vec![0.0; count];
        weights[channel] = 1.0;
        Self { weights, ..Self::default() }
    }

    /// All channels, with equal weights.
    pub(crate) fn all(count: usize, weight: f32) -> Self {
        Self { weights: vec![weight; count], ..Self::default() }
    }

    /// Tests for weights, without which the channels are mixed to their mean.
    pub(crate) fn is_weighted(&self) -> bool {
        !self.weights.is_empty()
    }
}
