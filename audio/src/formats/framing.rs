//! Packs frames into Opus packets and unpacks them (RFC 6716, section 3.2).
//!
//! Frames are the encoded sound; a packet only states how many there are and how long each is. So frames of one
//! configuration can be joined or separated without changing the sound.

use crate::formats::ogg::Damage;
use crate::formats::ogg_opus::MALFORMED;
use crate::formats::opus::{LONGEST_PACKET, Packet};
use crate::formats::packets::Placed;

/// Highest number of frames in a packet: 120 ms of the shortest frames.
const MOST_FRAMES: usize = 48;
/// Upper limit of a frame in bytes (requirement R2).
pub(crate) const LONGEST_FRAME: usize = 1275;

/// The frames of a packet.
#[derive(Clone, Debug)]
pub(crate) struct Frames<'a> {
    /// The TOC byte without its two lowest bits: mode, bandwidth, frame length and stereo.
    pub configuration: u8,
    frames: [&'a [u8]; MOST_FRAMES],
    count: usize,
}

impl<'a> Frames<'a> {
    /// Returns `None` for packets that RFC 6716 calls malformed (requirements R1 to R7).
    pub fn of(packet: &'a [u8]) -> Option<Self> {
        let (&toc, rest) = packet.split_first()?;
        let mut found = Self { configuration: toc & !3, frames: [&[]; MOST_FRAMES], count: 0 };
        match toc & 3 {
            0 => found.push(rest)?,
            1 => found.push_alike(rest, 2)?,
            2 => {
                let (first, rest) = length(rest)?;
                let (first, second) = rest.split_at_checked(first)?;
                found.push(first)?;
                found.push(second)?;
            }
            _ => found.push_counted(rest)?,
        }
        let samples = u32::try_from(found.count).ok()? * frame_samples(toc);
        (found.count > 0 && samples <= LONGEST_PACKET).then_some(found)
    }

    pub fn all(&self) -> &[&'a [u8]] {
        &self.frames[..self.count]
    }

    fn push(&mut self, frame: &'a [u8]) -> Option<()> {
        *self.frames.get_mut(self.count).filter(|_| frame.len() <= LONGEST_FRAME)? = frame;
        self.count += 1;
        Some(())
    }

    fn push_alike(&mut self, all: &'a [u8], count: usize) -> Option<()> {
        let length = all.len().checked_div(count)?;
        if length * count != all.len() {
            return None;
        }
        (0..count).try_for_each(|index| self.push(&all[index * length..][..length]))
    }

    /// Parses code 3: a byte with the count, the length of the padding, the lengths of the frames, the frames, the
    /// padding.
    fn push_counted(&mut self, rest: &'a [u8]) -> Option<()> {
        let (&counted, mut rest) = rest.split_first()?;
        let count = usize::from(counted & 0x3f);
        let mut padding = 0;
        if counted & 0x40 != 0 {
            loop {
                let (&byte, after) = rest.split_first()?;
                rest = after;
                // 255 stands for 254 bytes, followed by another length byte.
                padding += usize::from(byte).min(254);
                if byte != 255 {
                    break;
                }
            }
        }
        if counted & 0x80 == 0 {
            let all = rest.get(..rest.len().checked_sub(padding)?)?;
            return self.push_alike(all, count);
        }
        let mut lengths = [0; MOST_FRAMES];
        let (_, stated) = lengths.get_mut(..count)?.split_last_mut()?;
        for stated in stated {
            (*stated, rest) = length(rest)?;
        }
        let mut all = rest.get(..rest.len().checked_sub(padding)?)?;
        for &length in &lengths[..count - 1] {
            let (frame, after) = all.split_at_checked(length)?;
            self.push(frame)?;
            all = after;
        }
        self.push(all)
    }
}

/// Samples at 48 kHz in a frame of this configuration.
pub(crate) fn frame_samples(toc: u8) -> u32 {
    match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config % 4)],
        config @ 12..=15 => [480, 960][usize::from(config % 2)],
        config => [120, 240, 480, 960][usize::from(config % 4)],
    }
}

/// The length of a frame, in one byte or two.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match *bytes {
        [first @ 0..252, ref rest @ ..] => Some((usize::from(first), rest)),
        [first, second, ref rest @ ..] => Some((usize::from(second) * 4 + usize::from(first), rest)),
        _ => None,
    }
}

fn push_length(packet: &mut Vec<u8>, length: usize) {
    let first = if length < 252 { length } else { 252 + length % 4 };
    packet.push(first as u8);
    if first >= 252 {
        packet.push(((length - first) / 4) as u8);
    }
}

/// A packet of one frame, code 0.
fn single(configuration: u8, frame: &[u8]) -> Vec<u8> {
    [&[configuration], frame].concat()
}

/// A packet of code 3 with any number of frames. Frames of equal length need no lengths, as libopus writes them.
fn counted(configuration: u8, frames: &[Vec<u8>]) -> Vec<u8> {
    let alike = frames.iter().all(|frame| frame.len() == frames[0].len());
    let content: usize = frames.iter().map(Vec::len).sum();
    let mut packet = Vec::with_capacity(2 + 2 * frames.len() + content);
    packet.extend([configuration | 3, frames.len() as u8 | if alike { 0 } else { 0x80 }]);
    if !alike {
        for frame in &frames[..frames.len() - 1] {
            push_length(&mut packet, frame.len());
        }
    }
    for frame in frames {
        packet.extend_from_slice(frame);
    }
    packet
}

/// Repacks frames into packets of a fixed number.
///
/// Packets of several frames always use code 3, also a last one with fewer frames: recorders that write several frames
/// per packet fill up the last one, so their files have no other code, and RFC 6716 allows any count from one. A
/// remainder at the end or before another configuration cannot be filled up without encoding.
#[derive(Debug)]
pub(crate) struct Reframe {
    per_packet: usize,
    configuration: u8,
    frames: Vec<Vec<u8>>,
    /// End of the last of `frames`, and of the last packet that was passed on.
    end: u64,
}

type Each<'a> = &'a mut dyn FnMut(Placed) -> Result<(), Damage>;

impl Reframe {
    pub fn new(per_packet: u8) -> Self {
        Self { per_packet: usize::from(per_packet.max(1)), configuration: 0, frames: Vec::new(), end: 0 }
    }

    pub fn push(&mut self, packet: &Placed, each: Each) -> Result<(), Damage> {
        let frames = Frames::of(&packet.data).ok_or(MALFORMED)?;
        if frames.configuration != self.configuration {
            self.finish(each)?;
            self.configuration = frames.configuration;
        }
        let samples = frame_samples(self.configuration);
        let most = self.per_packet.min((LONGEST_PACKET / samples) as usize);
        for frame in frames.all() {
            self.frames.push(frame.to_vec());
            // Only the end of the recording lies within a packet.
            self.end = packet.end.min(self.end + u64::from(samples));
            if self.frames.len() == most {
                self.finish(each)?;
            }
        }
        Ok(())
    }

    /// Passes on the remaining frames.
    pub fn finish(&mut self, each: Each) -> Result<(), Damage> {
        let data = match (self.frames.as_slice(), self.per_packet) {
            ([], _) => return Ok(()),
            ([frame], 1) => single(self.configuration, frame),
            (frames, _) => counted(self.configuration, frames),
        };
        self.frames.clear();
        let facts = Packet::parse(&data).ok_or(MALFORMED)?;
        each(Placed { data, facts, end: self.end })
    }
}
