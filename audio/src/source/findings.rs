//! What was noticed about a source beyond its facts.

use serde::{Deserialize, Serialize};

/// Statements of a source that cannot all be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contradiction {
    /// Times, and the sound between them.
    Clock,
    /// A header's count of frames or bytes, and what is there.
    Count,
    /// Channels that cancel each other out.
    Channels,
}

impl Contradiction {
    /// For the owner of a note: what does not fit, and what was done.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Clock => {
                "the times in this file do not fit the sound in it; all of the sound is sent, in the order in which it \
                 is stored"
            }
            Self::Count => {
                "the header of this file counts other frames than are there; what is there is sent, without that header"
            }
            Self::Channels => {
                "the channels of this recording cancel each other out when they are mixed; the louder one is sent"
            }
        }
    }
}

/// Findings that decide how a source is decoded, or that its owner should know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    pub contradictions: Vec<Contradiction>,
    /// How the channels become one, where their mean would not do.
    pub(crate) mix: Option<Mix>,
    /// 64 bars of what is heard, by which what was made is compared; empty where nothing was decoded.
    pub(crate) bars: Vec<u8>,
    /// Mean of |sample| in the loudest of them, of 32768.
    pub(crate) loudest: u32,
}

impl Findings {
    pub(crate) fn add(&mut self, found: Contradiction) {
        if let Err(place) = self.contradictions.binary_search(&found) {
            self.contradictions.insert(place, found);
        }
    }
}

/// How channels become one, where their mean would not do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// The weight of each channel.
    pub(crate) weights: Vec<f32>,
}

impl Mix {
    /// One of `count` channels, alone.
    pub(crate) fn only(channel: usize, count: usize) -> Self {
        let mut weights = vec![0.0; count];
        weights[channel] = 1.0;
        Self { weights }
    }

    /// All channels, each as loud as the others.
    pub(crate) fn all(count: usize, weight: f32) -> Self {
        Self { weights: vec![weight; count] }
    }
}
