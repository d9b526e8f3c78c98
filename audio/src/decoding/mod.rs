//! Decodes sound in this process, with memory-safe decoders that share no code with ffmpeg.
//!
//! They serve two purposes: a clean source is measured without starting a process, and produced files are verified by
//! other code than that which produced them. Whatever these decoders do not know, refuse, or do not finish within their
//! [`limits::Budget`] is left to ffmpeg, so none of them ever gives a verdict against a source.
//!
//! | Format | Decoder |
//! |---|---|
//! | MP3; AAC-LC in MP4 and ADTS, of produced files alone | `symphonia`, which forbids `unsafe` |
//! | Opus in Ogg, WebM and CAF, if all of it is mono and uses linear prediction (SILK) alone | `opus-decoder`, which forbids `unsafe`. Its transform mode (CELT) takes hundreds of times as long |
//! | Linear samples and those of telephony, in WAV, AIFF, CAF and without a header | Ours |

mod aac;
pub(crate) mod limits;
mod mp3;
mod opus;
mod output;
pub(crate) mod pcm;
mod resample;
mod symphonia;

use voicegate_providers::Container;

use crate::decoding::limits::Budget;
use crate::decoding::output::{Each, Output};
use crate::decoding::pcm::Samples;

/// A file to decode. Its structure is known to be clean, so that only the sound itself can be at fault.
#[derive(Clone, Debug)]
pub(crate) struct Clip<'a> {
    pub bytes: &'a [u8],
    pub container: Container,
    /// Samples that are played, per channel: of Opus at 48 kHz, of other codecs at their own rate. `None` plays all.
    pub played: Option<u64>,
    /// The place of samples that need no decoder.
    pub samples: Option<Samples>,
}

/// Reason why there is no decoded sound. None is a verdict against the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotDecoded {
    /// No decoder here knows this kind, or is fast enough for it.
    Unknown,
    /// A decoder met an error, or the sound does not have the length that the structure states.
    Failed,
    /// Time or samples are used up, or nobody waits for the result.
    Limit,
}

/// Decodes a file and passes its sound to `each`, at the measuring rate: any number of samples of each channel.
pub(crate) fn decode(clip: &Clip<'_>, budget: &mut Budget, each: Each<'_>) -> Result<(), NotDecoded> {
    let mut output = Output::new(clip.played, budget, each);
    match (clip.container, &clip.samples) {
        (_, Some(samples)) => pcm::decode(clip.bytes, samples, &mut output)?,
        (Container::Mp3, _) => mp3::decode(clip.bytes, &mut output)?,
        (Container::Adts, _) => aac::in_adts(clip.bytes, &mut output)?,
        (Container::Mp4, _) => aac::in_mp4(clip.bytes, &mut output)?,
        (Container::Ogg | Container::Webm | Container::Matroska | Container::Caf, _) => {
            opus::decode(clip.bytes, clip.container, &mut output)?;
        }
        _ => return Err(NotDecoded::Unknown),
    }
    output.finish()
}
