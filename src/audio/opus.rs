//! Opus as containers carry it: the two header packets (RFC 7845, section 5) and the first byte of each audio
//! packet (RFC 6716, section 3.1).

use serde::{Deserialize, Serialize};

/// Opus always decodes at this rate; granules and pre-skip count its samples.
pub(super) const RATE: u64 = 48_000;
/// No packet is longer than 120 ms.
const LONGEST_PACKET: u32 = 5_760;

/// The identification header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpusHead {
    pub channels: u8,
    /// Samples at 48 kHz that the player drops at the start.
    pub pre_skip: u16,
    /// Rate of the original, for information only.
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

    /// The header packet. Only mapping family 0 has no table, and only that is ever written.
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

/// The comment header: who encoded it, and how many comments there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpusTags {
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

/// The highest audio frequency a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bandwidth {
    Narrow,
    Medium,
    Wide,
    SuperWide,
    Full,
}

/// What the first bytes of an audio packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub bandwidth: Bandwidth,
    pub stereo: bool,
    /// How the frames are packed: 0 is one frame, 3 is any number with a count byte.
    pub code: u8,
    pub frames: u8,
    /// Length of one frame in samples at 48 kHz.
    pub frame_samples: u32,
}

impl Packet {
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let toc = *packet.first()?;
        let config = toc >> 3;
        let (bandwidth, frame_samples) = match config {
            0..=11 => {
                let bandwidth = match config / 4 {
                    0 => Bandwidth::Narrow,
                    1 => Bandwidth::Medium,
                    _ => Bandwidth::Wide,
                };
                (bandwidth, [480, 960, 1920, 2880][usize::from(config % 4)])
            }
            12..=15 => {
                let bandwidth = if config < 14 { Bandwidth::SuperWide } else { Bandwidth::Full };
                (bandwidth, [480, 960][usize::from(config % 2)])
            }
            _ => {
                let bandwidth = match (config - 16) / 4 {
                    0 => Bandwidth::Narrow,
                    1 => Bandwidth::Wide,
                    2 => Bandwidth::SuperWide,
                    _ => Bandwidth::Full,
                };
                (bandwidth, [120, 240, 480, 960][usize::from(config % 4)])
            }
        };
        let code = toc & 3;
        let frames = match code {
            0 => 1,
            1 | 2 => 2,
            _ => *packet.get(1)? & 0x3f,
        };
        let packet = Self { bandwidth, stereo: toc & 4 != 0, code, frames, frame_samples };
        (frames > 0 && packet.samples() <= LONGEST_PACKET).then_some(packet)
    }

    pub fn samples(&self) -> u32 {
        u32::from(self.frames) * self.frame_samples
    }
}

/// An Opus stream as a whole. `None` in `frame_us` and `frames_per_packet` means that packets differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpusDetail {
    pub channels: u8,
    pub input_rate: u32,
    pub pre_skip: u16,
    pub gain: i16,
    pub mapping_family: u8,
    /// Of the comment header; Matroska has none.
    pub vendor: Option<String>,
    pub comments: u32,
    pub packets: u64,
    /// No packet is coded in stereo.
    pub mono: bool,
    pub max_bandwidth: Bandwidth,
    pub frame_us: Option<u32>,
    pub frames_per_packet: Option<u8>,
    /// Every packet is of code 0: one frame and no count byte.
    pub single_frames: bool,
    /// What a player plays, in samples at 48 kHz: pre-skip and end trim taken off.
    pub samples: u64,
}

impl OpusDetail {
    pub(super) fn new(head: &OpusHead, tags: Option<OpusTags>) -> Self {
        let (vendor, comments) = tags.map_or((None, 0), |tags| (Some(tags.vendor), tags.comments));
        Self {
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
            single_frames: true,
            samples: 0,
        }
    }

    /// Takes one more audio packet into account; `samples` is left to the container's reader.
    pub(super) fn add(&mut self, packet: &Packet) {
        let frame_us = Some(packet.frame_samples * 125 / 6);
        let frames = Some(packet.frames);
        if self.packets == 0 {
            (self.frame_us, self.frames_per_packet) = (frame_us, frames);
        }
        if self.frame_us != frame_us {
            self.frame_us = None;
        }
        if self.frames_per_packet != frames {
            self.frames_per_packet = None;
        }
        self.packets += 1;
        self.mono &= !packet.stereo;
        self.single_frames &= packet.code == 0;
        self.max_bandwidth = self.max_bandwidth.max(packet.bandwidth);
    }

    pub(super) fn head(&self) -> OpusHead {
        OpusHead {
            channels: self.channels,
            pre_skip: self.pre_skip,
            input_rate: self.input_rate,
            gain: self.gain,
            mapping_family: self.mapping_family,
        }
    }

    /// The rate of the original where the header names a sane one; Opus itself always decodes at 48 kHz.
    pub(super) fn sane_rate(&self) -> u32 {
        if (8_000..=192_000).contains(&self.input_rate) { self.input_rate } else { 48_000 }
    }
}
