//! Verifies that a file with kept Opus packets plays the frames of its source, byte by byte, and nothing else.
//!
//! Equal frames in equal order, with equal parts dropped at both ends, are the same sound. The beginnings of
//! both files are decoded as well, which shows that their headers have the same effect.

use std::path::Path;

use sha2::{Digest, Sha256};
use voicegate_providers::Container;

use crate::decoding::limits::Budget;
use crate::decoding::{Clip, decode};
use crate::formats::framing::Frames;
use crate::formats::ogg::Damage;
use crate::formats::opus::OpusDetail;
use crate::formats::packets::{Item, Sink};
use crate::remux::rewrap::{Packets, read_packets};

/// Samples of the beginnings that are decoded, at 48 kHz: half a second.
const BEGINNING: u64 = 24_000;
/// Limits on decoding a beginning.
const TIME: std::time::Duration = std::time::Duration::from_secs(2);
const LONGEST: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Whether the beginnings sound the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    Alike,
    Differs,
    /// No decoder here knows these packets, or they are too short to tell.
    Unknown,
}

/// The played part of a file, independent of its container.
#[derive(Debug)]
struct Played {
    channels: u8,
    gain: i16,
    /// Samples at 48 kHz that are dropped at the start, and those that are played.
    pre_skip: u16,
    samples: u64,
    /// Number of frames, and how many of them are played.
    all: u64,
    heard: u64,
    /// Digest of configuration, length and bytes of the first frames.
    frames: [u8; 32],
}

impl Played {
    /// Reads the packets that `read` passes on. The digest is that of the first `most` frames.
    fn read(read: impl FnOnce(Sink) -> Result<OpusDetail, Damage>, most: u64) -> Result<Self, Damage> {
        let mut digest = Sha256::new();
        let (mut position, mut all, mut heard) = (0, 0, 0);
        let detail = read(&mut |item| {
            let Item::Packet(packet) = item else { return Ok(()) };
            let frames = Frames::of(&packet.data).ok_or(Damage("a packet has no frames"))?;
            for frame in frames.all() {
                if all < most {
                    digest.update([frames.configuration]);
                    digest.update((frame.len() as u64).to_le_bytes());
                    digest.update(frame);
                }
                all += 1;
                heard += u64::from(position < packet.end);
                position += u64::from(packet.facts.frame_samples);
            }
            Ok(())
        })?;
        let OpusDetail { channels, pre_skip, gain, samples, .. } = detail;
        Ok(Self { channels, gain, pre_skip, samples, all, heard, frames: digest.finalize().into() })
    }

    /// Whether both play the same, with this tolerance in samples at both ends.
    fn is_like(&self, source: &Self, tolerance: u16) -> bool {
        (self.channels, self.gain, self.frames) == (source.channels, source.gain, source.frames)
            && self.pre_skip.abs_diff(source.pre_skip) <= tolerance
            && self.samples.abs_diff(source.samples) <= u64::from(tolerance)
            // A writer may drop frames that are not played, and no other ones.
            && (source.heard..=source.all).contains(&self.all)
    }
}

/// Compares the frames of a source with those of the file in which they are kept.
pub(crate) fn has_same_frames(
    source: &Path,
    packets: Packets,
    made: &Path,
    container: Container,
) -> Result<(), &'static str> {
    /// CAF counts at a rate of its own, which is 8 kHz at least.
    const ROUNDED: u16 = 6;
    let tolerance = if container == Container::Caf { ROUNDED } else { 0 };
    let compared = || {
        let found = Played::read(|each| read_packets(made, produced(container), each), u64::MAX)?;
        let expected = Played::read(|each| read_packets(source, packets, each), found.all)?;
        Ok::<_, Damage>(found.is_like(&expected, tolerance))
    };
    match compared() {
        Ok(true) => Ok(()),
        Ok(false) => Err("does not play the frames of the source"),
        Err(Damage(reason)) => Err(reason),
    }
}

fn produced(container: Container) -> Packets {
    if container == Container::Caf { Packets::Caf } else { Packets::Ogg }
}

/// Decodes the beginnings of two files, which are equal sample by sample if they are decoded alike.
pub(crate) fn compare_beginnings(
    source: (&Path, Container),
    made: (&Path, Container),
    samples: u64,
) -> Beginning {
    let of = |(path, container): (&Path, Container)| {
        let bytes = std::fs::read(path).ok()?;
        let played = Some(samples.min(BEGINNING));
        let clip = Clip { bytes: &bytes, container, played, samples: None };
        let mut sound = Vec::new();
        let mut keep = |planes: &[&[i16]]| planes.iter().for_each(|plane| sound.extend_from_slice(plane));
        decode(&clip, &mut Budget::new(TIME, LONGEST), &mut keep).ok()?;
        Some(sound)
    };
    match (of(source), of(made)) {
        (Some(source), Some(made)) if source == made => Beginning::Alike,
        (Some(_), Some(_)) => Beginning::Differs,
        _ => Beginning::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio").join(name)
    }

    #[test]
    fn same_frames_in_other_packets_and_containers_are_recognised() {
        let same = |source: &str, packets, made: &str, container| {
            has_same_frames(&fixture(source), packets, &fixture(made), container).is_ok()
        };
        let (ogg, webm) = ("speech-opus-wideband.ogg", "speech-wideband.webm");
        assert!(same(ogg, Packets::Ogg, "recorder-wideband.ogg", Container::Ogg));
        assert!(!same(ogg, Packets::Ogg, "speech-opus-mono-fullband.ogg", Container::Ogg));
        assert!(!same(webm, Packets::Webm, "speech-opus-60ms.ogg", Container::Ogg));
    }

    /// The fixture as it is read, with one bit changed in a packet, and packets left out.
    fn read(flipped: usize, left_out: std::ops::Range<usize>) -> Played {
        let path = fixture("speech-opus-wideband.ogg");
        let mut number = 0;
        let changed = |each: Sink| {
            read_packets(&path, Packets::Ogg, &mut |item| match item {
                Item::Packet(mut packet) => {
                    number += 1;
                    if number == flipped {
                        *packet.data.last_mut().expect("bytes") ^= 1;
                    }
                    if left_out.contains(&number) { Ok(()) } else { each(Item::Packet(packet)) }
                }
                head => each(head),
            })
        };
        Played::read(changed, u64::MAX).expect("a whole file")
    }

    #[test]
    fn changed_and_missing_frames_are_noticed() {
        let source = read(0, 0..0);
        assert!(read(0, 0..0).is_like(&source, 0));
        for made in [read(1, 0..0), read(100, 0..0), read(0, 1..2), read(0, 70..71), read(0, 150..1_000)] {
            assert!(!made.is_like(&source, 6), "{made:?}");
        }
        let late = Played { pre_skip: source.pre_skip + 7, ..read(0, 0..0) };
        assert!(!late.is_like(&source, 6));
    }

    #[test]
    fn beginnings_are_compared_sample_by_sample() {
        let wide = fixture("speech-opus-wideband.ogg");
        let begins = |made: &str, container| {
            compare_beginnings((&wide, Container::Ogg), (&fixture(made), container), 144_000)
        };
        assert_eq!(begins("recorder-wideband.ogg", Container::Ogg), Beginning::Alike);
        assert_eq!(begins("speech-opus.caf", Container::Caf), Beginning::Unknown);
        assert_eq!(begins("speech-opus-mono-fullband.ogg", Container::Ogg), Beginning::Unknown);
    }
}
