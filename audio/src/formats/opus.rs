//! Parts of Opus that containers need: the two header packets (RFC 7845, section 5) and the first byte of each audio
//! packet (RFC 6716, section 3.1).

use serde::{Deserialize, Serialize};

use crate::formats::framing::{Frames, frame_samples};
use crate::formats::ogg::Damage;

/// Decoding rate of Opus, in Hz. Granules and pre-skip count samples at this rate.
pub(crate) const RATE: u64 = 48_000;
/// Upper limit of a packet: 120 ms, in samples at 48 kHz.
pub(crate) const LONGEST_PACKET: u32 = 5_760;

/// The identification header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpusHead {
    pub channels: u8,
    /// Samples at 48 kHz that the player drops at the start.
    pub pre_skip: u16,
    /// Rate of the original in Hz, for information only.
    pub input_rate: u32,
    /// Gain in 1/256 dB that the player applies.
    pub gain: i16,
    pub mapping_family: u8,
}

impl OpusHead {
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let body = packet.strip_prefix(b"OpusHead")?;
        let (&version, body) = body.split_first()?;
        // The upper half is the major version; RFC 7845 tells decoders to accept every 0.x.
        if version & 0xf0 != 0 {
            return None;
        }
        let (fixed, mapping) = body.split_at_checked(10)?;
        let head = Self {
            channels: fixed[0],
            pre_skip: u16::from_le_bytes([fixed[1], fixed[2]]),
            input_rate: u32::from_le_bytes([fixed[3], fixed[4], fixed[5], fixed[6]]),
            gain: i16::from_le_bytes([fixed[7], fixed[8]]),
            mapping_family: fixed[9],
        };
        let channels_fit = match head.mapping_family {
            0 => (1..=2).contains(&head.channels),
            _ => head.channels >= 1 && mapping.len() >= 2 + usize::from(head.channels),
        };
        channels_fit.then_some(head)
    }

    /// Serialises the header. Only mapping family 0 has no channel table, and no other family is ever written.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut packet = Vec::with_capacity(19);
        packet.extend_from_slice(b"OpusHead");
        packet.push(1);
        packet.push(self.channels);
        packet.extend_from_slice(&self.pre_skip.to_le_bytes());
        packet.extend_from_slice(&self.input_rate.to_le_bytes());
        packet.extend_from_slice(&self.gain.to_le_bytes());
        packet.push(0);
        packet
    }
}

/// The comment header: the vendor and the number of comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpusTags {
    pub vendor: String,
    pub comments: u32,
}

impl OpusTags {
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let body = packet.strip_prefix(b"OpusTags")?;
        let (vendor, body) = sized(body)?;
        let (count, mut body) = body.split_first_chunk::<4>()?;
        let comments = u32::from_le_bytes(*count);
        for _ in 0..comments {
            (_, body) = sized(body)?;
        }
        Some(Self { vendor: String::from_utf8_lossy(vendor).into_owned(), comments })
    }

    /// A comment header with this vendor and no comments.
    pub fn bare(vendor: &str) -> Vec<u8> {
        let length = u32::try_from(vendor.len()).unwrap_or(u32::MAX);
        let mut packet = b"OpusTags".to_vec();
        packet.extend_from_slice(&length.to_le_bytes());
        packet.extend_from_slice(vendor.as_bytes());
        packet.extend_from_slice(&0_u32.to_le_bytes());
        packet
    }
}

/// Splits off a string that is preceded by its length.
fn sized(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// The highest audio frequency that a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bandwidth {
    Narrow,
    Medium,
    Wide,
    SuperWide,
    Full,
}

/// Contents of the first bytes of an audio packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub bandwidth: Bandwidth,
    pub stereo: bool,
    /// Mode, bandwidth and frame length, as one number from 0 to 31.
    pub config: u8,
    /// Packing of the frames: 0 is one frame, 3 is any number with a count byte.
    pub code: u8,
    pub frames: u8,
    /// Length of one frame in samples at 48 kHz.
    pub frame_samples: u32,
}

impl Packet {
    /// Returns `None` for a malformed packet. The frames are located, not decoded.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let frames = u8::try_from(Frames::of(packet)?.all().len()).ok()?;
        let toc = *packet.first()?;
        let config = toc >> 3;
        let bandwidth = match config {
            0..=3 | 16..=19 => Bandwidth::Narrow,
            4..=7 => Bandwidth::Medium,
            8..=11 | 20..=23 => Bandwidth::Wide,
            12..=13 | 24..=27 => Bandwidth::SuperWide,
            _ => Bandwidth::Full,
        };
        let (stereo, code) = (toc & 4 != 0, toc & 3);
        Some(Self { bandwidth, stereo, config, code, frames, frame_samples: frame_samples(toc) })
    }

    pub fn samples(&self) -> u32 {
        u32::from(self.frames) * self.frame_samples
    }
}

/// Facts about an Opus stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpusDetail {
    pub channels: u8,
    pub input_rate: u32,
    pub pre_skip: u16,
    pub gain: i16,
    pub mapping_family: u8,
    /// Vendor in the comment header; Matroska and CAF have none.
    pub vendor: Option<String>,
    pub comments: u32,
    pub packets: u64,
    /// No packet is coded in stereo.
    pub mono: bool,
    pub max_bandwidth: Bandwidth,
    /// Length of a frame in microseconds; `None` if lengths differ.
    pub frame_us: Option<u32>,
    /// `None` if packets differ. The last packet may have fewer frames, and so may a packet before a change of mode,
    /// bandwidth or channels, because the frames of a packet have one configuration.
    pub frames_per_packet: Option<u8>,
    /// Packing code of the packets, 0 to 3 (RFC 6716, section 3.1); `None` if packets differ.
    #[serde(default)]
    pub code: Option<u8>,
    /// Samples at 48 kHz that a player plays, without pre-skip and end trim.
    pub samples: u64,
}

/// Collects facts about packets while a file is read.
#[derive(Debug)]
pub(crate) struct Tally {
    detail: OpusDetail,
    last: Option<Packet>,
    most_frames: u8,
    /// Fewest frames in a packet that is followed by another of its configuration.
    least_frames: Option<u8>,
}

impl Tally {
    pub fn new(head: &OpusHead, tags: Option<OpusTags>) -> Self {
        let (vendor, comments) = tags.map_or((None, 0), |tags| (Some(tags.vendor), tags.comments));
        let detail = OpusDetail {
            channels: head.channels,
            input_rate: head.input_rate,
            pre_skip: head.pre_skip,
            gain: head.gain,
            mapping_family: head.mapping_family,
            vendor,
            comments,
            packets: 0,
            mono: true,
            max_bandwidth: Bandwidth::Narrow,
            frame_us: None,
            frames_per_packet: None,
            code: None,
            samples: 0,
        };
        Self { detail, last: None, most_frames: 0, least_frames: None }
    }

    /// Adds an audio packet.
    pub fn add(&mut self, packet: &Packet) {
        let detail = &mut self.detail;
        let frame_us = Some(packet.frame_samples * 125 / 6);
        match &self.last {
            None => (detail.frame_us, detail.code) = (frame_us, Some(packet.code)),
            Some(last) => {
                detail.frame_us = detail.frame_us.filter(|_| detail.frame_us == frame_us);
                detail.code = detail.code.filter(|&code| code == packet.code);
                if (last.config, last.stereo) == (packet.config, packet.stereo) {
                    let least = self.least_frames.unwrap_or(u8::MAX);
                    self.least_frames = Some(least.min(last.frames));
                }
            }
        }
        self.most_frames = self.most_frames.max(packet.frames);
        detail.packets += 1;
        detail.mono &= !packet.stereo;
        detail.max_bandwidth = detail.max_bandwidth.max(packet.bandwidth);
        self.last = Some(*packet);
    }

    /// Completes the facts. `end` is the granule of the end, which includes the pre-skip and excludes the end trim.
    pub fn close(self, end: u64) -> Result<OpusDetail, Damage> {
        let Self { mut detail, most_frames, least_frames, .. } = self;
        if detail.packets == 0 {
            return Err(Damage("there is no audio packet"));
        }
        let alike = least_frames.is_none_or(|least| least == most_frames);
        detail.frames_per_packet = alike.then_some(most_frames);
        let samples = end.checked_sub(u64::from(detail.pre_skip)).filter(|&samples| samples > 0);
        detail.samples = samples.ok_or(Damage("the stream is not longer than its pre-skip"))?;
        Ok(detail)
    }
}

impl OpusDetail {
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn head(&self) -> OpusHead {
        OpusHead {
            channels: self.channels,
            pre_skip: self.pre_skip,
            input_rate: self.input_rate,
            gain: self.gain,
            mapping_family: self.mapping_family,
        }
    }

    /// The rate of the original in Hz, if the header states a plausible one. Opus itself always decodes at 48 kHz.
    pub(crate) fn sane_rate(&self) -> u32 {
        if (8_000..=192_000).contains(&self.input_rate) { self.input_rate } else { 48_000 }
    }
}
