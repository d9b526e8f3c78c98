//! WebM as browsers record it: <https://www.matroska.org/technical/elements.html>.
//!
//! A recorder does not know the sizes of segments and clusters beforehand. So the elements that hold others are entered
//! whatever their size is, and everything else is taken whole.

use super::AudioInfo;
use super::recording::{Head, Recording};

const SEGMENT: u64 = 0x1853_8067;
const TRACKS: u64 = 0x1654_ae6b;
const TRACK: u64 = 0xae;
const CLUSTER: u64 = 0x1f43_b675;
const BLOCK_GROUP: u64 = 0xa0;

const CODEC: u64 = 0x86;
const CODEC_PRIVATE: u64 = 0x63a2;
const BLOCK: u64 = 0xa1;
const SIMPLE_BLOCK: u64 = 0xa3;
const DISCARD_PADDING: u64 = 0x75a2;

/// Flags of a block: several frames share it.
const LACING: u8 = 0x06;

#[derive(Default)]
struct Webm<'a> {
    /// The codec of each track.
    codecs: Vec<&'a [u8]>,
    /// The header of the last track's codec.
    header: &'a [u8],
    /// Frames of all tracks.
    frames: Vec<&'a [u8]>,
    /// Whether some of them are several frames, which browsers do not record.
    is_laced: bool,
    /// Nanoseconds that are cut off at the end.
    discarded: u64,
}

impl<'a> Webm<'a> {
    /// `None` if the file ends early.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut found = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (id, after) = number(rest, true)?;
            let (size, body) = number(after, false)?;
            if matches!(id, SEGMENT | TRACKS | TRACK | CLUSTER | BLOCK_GROUP) {
                rest = body;
                continue;
            }
            let (content, next) = body.split_at_checked(usize::try_from(size).ok()?)?;
            match id {
                CODEC => found.codecs.push(content),
                CODEC_PRIVATE => found.header = content,
                BLOCK | SIMPLE_BLOCK => {
                    let (flags, frame) = frame(content)?;
                    found.is_laced |= flags & LACING != 0;
                    found.frames.push(frame);
                }
                DISCARD_PADDING => found.discarded = found.discarded.saturating_add(unsigned(content)?),
                _ => {}
            }
            rest = next;
        }
        Some(found)
    }

    /// The packets of the only track, if it is Opus.
    fn opus(&self) -> Option<Recording> {
        if self.codecs != [b"A_OPUS"] || self.is_laced {
            return None;
        }
        let packets = self.frames.iter().map(|frame| frame.to_vec()).collect();
        let discarded = u64::try_from(u128::from(self.discarded) * 48 / 1_000_000).ok()?;
        Recording::new(Head::read(self.header)?, packets, |all| all.saturating_sub(discarded))
    }
}

/// A number of variable length; `marked` keeps the bit that tells the length, as ids do.
fn number(bytes: &[u8], marked: bool) -> Option<(u64, &[u8])> {
    let (&first, _) = bytes.split_first()?;
    let length = first.leading_zeros() as usize + 1;
    let (digits, rest) = bytes.split_at_checked(length).filter(|_| length <= 8)?;
    let value = digits.iter().fold(0_u64, |value, digit| value << 8 | u64::from(*digit));
    Some((if marked { value } else { value & !(1 << (7 * length)) }, rest))
}

fn unsigned(content: &[u8]) -> Option<u64> {
    (content.len() <= 8).then(|| content.iter().fold(0, |value, digit| value << 8 | u64::from(*digit)))
}

/// The flags and the frame of a block, behind the track's number and two bytes of time.
fn frame(block: &[u8]) -> Option<(u8, &[u8])> {
    let (_, rest) = number(block, false)?;
    let ([_, _, flags], frame) = rest.split_first_chunk::<3>()?;
    Some((*flags, frame))
}

pub(super) fn describe(bytes: &[u8], info: &mut AudioInfo) -> Option<()> {
    let file = Webm::read(bytes)?;
    let codec = file.codecs.first()?;
    let codec = String::from_utf8_lossy(codec).to_lowercase();
    info.codec = Some(codec.strip_prefix("a_").unwrap_or(&codec).to_owned());
    if let Some(opus) = file.opus() {
        info.channels = Some(opus.head.channels);
        info.sample_rate = Some(opus.head.input_rate);
        info.duration_ms = Some(opus.played() / 48);
    }
    Some(())
}

pub(super) fn recording(bytes: &[u8]) -> Option<Recording> {
    Webm::read(bytes)?.opus()
}
