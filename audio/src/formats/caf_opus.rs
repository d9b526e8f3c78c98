//! Opus in CAF, the format of Apple's voice messages: a strict reader and a writer.
//! <https://developer.apple.com/library/archive/documentation/MusicAudio/Reference/CAFSpec/>
//!
//! CAF counts in samples at the rate that its description states, here a rate at which Opus can decode: a packet of 20
//! ms has 480 samples at 24 kHz. Apple documents no magic cookie (`kuki`) for Opus. Files without one, as ffmpeg writes
//! them, were seen to play as voice messages (<https://github.com/openclaw/openclaw/pull/1477>), so none is written,
//! and one in a source is ignored.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::formats::ogg::Damage;
use crate::formats::ogg_opus::MALFORMED as MALFORMED_PACKET;
use crate::formats::opus::{OpusDetail, OpusHead, Packet, RATE, Tally};
use crate::formats::packets::{Item, Placed, Sink};

/// Sample rates at which Opus can decode, in Hz, and which CAF may therefore state.
const RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];
/// Upper limit of the packet table, in bytes. A day of packets needs less.
const LARGEST_INDEX: u64 = 16 << 20;
const MOST_CHUNKS: usize = 100;
const LARGEST_COOKIE: u64 = 4096;
/// Upper limit of a packet, in bytes. Only padding makes packets longer.
const LARGEST_PACKET: u64 = 1 << 16;
/// `kAudioChannelLayoutTag_Mono` and `_Stereo`.
const LAYOUTS: [u32; 2] = [(100 << 16) | 1, (101 << 16) | 2];

const MALFORMED: Damage = Damage("the file is malformed");

impl Damage {
    fn unread(_: io::Error) -> Self {
        Self("the file ends in the middle of a chunk")
    }
}

/// The audio description chunk.
#[derive(Clone, Copy)]
struct Described {
    rate: u32,
    channels: u8,
    /// Samples per packet at `rate`; `None` if the packet table states it for each packet.
    frames_per_packet: Option<u32>,
}

impl Described {
    fn parse(content: [u8; 32]) -> Result<Self, Damage> {
        let mut rest = content.as_slice();
        let rate = f64::from_be_bytes(take(&mut rest)?);
        let rate = RATES.into_iter().find(|&known| f64::from(known) == rate);
        let rate = rate.ok_or(Damage("the rate is none of Opus"))?;
        if take(&mut rest)? != *b"opus" {
            return Err(Damage("the codec is not Opus"));
        }
        let mut number = || take(&mut rest).map(u32::from_be_bytes);
        let (flags, bytes_per_packet) = (number()?, number()?);
        let (frames, channels, bits) = (number()?, number()?, number()?);
        if flags != 0 || bytes_per_packet != 0 || bits != 0 {
            return Err(Damage("the description is not that of Opus"));
        }
        let channels = u8::try_from(channels).ok().filter(|channels| (1..=2).contains(channels));
        let channels = channels.ok_or(Damage("there are neither one nor two channels"))?;
        Ok(Self { rate, channels, frames_per_packet: (frames != 0).then_some(frames) })
    }

    /// Samples at 48 kHz per sample at `rate`.
    fn scale(self) -> u64 {
        RATE / u64::from(self.rate)
    }
}

/// The packet table, with the number of samples to play.
struct Index {
    /// Bytes and samples of each packet.
    packets: Vec<(u64, u64)>,
    valid: u64,
    priming: u64,
}

impl Index {
    fn parse(content: &[u8], described: Described) -> Result<Self, Damage> {
        let mut rest = content;
        let count = u64::try_from(i64::from_be_bytes(take(&mut rest)?)).map_err(|_| MALFORMED)?;
        let valid = u64::try_from(i64::from_be_bytes(take(&mut rest)?)).map_err(|_| MALFORMED)?;
        let priming = u64::try_from(i32::from_be_bytes(take(&mut rest)?)).map_err(|_| MALFORMED)?;
        let remainder = u64::try_from(i32::from_be_bytes(take(&mut rest)?)).map_err(|_| MALFORMED)?;
        if count > rest.len() as u64 {
            return Err(MALFORMED);
        }
        let mut packets = Vec::new();
        let mut all = 0_u64;
        for _ in 0..count {
            let size = varint(&mut rest).ok_or(MALFORMED)?;
            let frames = match described.frames_per_packet {
                Some(frames) => u64::from(frames),
                None => varint(&mut rest).ok_or(MALFORMED)?,
            };
            all = all.checked_add(frames).ok_or(MALFORMED)?;
            packets.push((size, frames));
        }
        if !rest.is_empty() {
            return Err(Damage("the packet table is longer than its packets"));
        }
        if valid.checked_add(priming + remainder) != Some(all) {
            return Err(Damage("the packet table does not add up"));
        }
        Ok(Self { packets, valid, priming })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(MALFORMED)?;
    *bytes = rest;
    Ok(*taken)
}

/// Seven bits per byte, most significant first; the top bit says that more follow.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for _ in 0..5 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn push_varint(bytes: &mut Vec<u8>, value: u32) {
    let groups = (1..5).rev().filter(|group| value >> (7 * group) != 0);
    bytes.extend(groups.map(|group| 0x80 | (value >> (7 * group) & 0x7f) as u8));
    bytes.push((value & 0x7f) as u8);
}

/// The chunks of a file. All must be known, and each may occur once.
struct Chunks {
    described: Described,
    index: Index,
    /// Offset of the first packet, and bytes of all packets.
    data: (u64, u64),
}

impl Chunks {
    fn read(reader: &mut (impl Read + Seek)) -> Result<Self, Damage> {
        let length = reader.seek(SeekFrom::End(0)).map_err(Damage::unread)?;
        reader.seek(SeekFrom::Start(0)).map_err(Damage::unread)?;
        // Version 1, no flags.
        if array(reader)? != *b"caff\0\x01\0\0" {
            return Err(Damage("the file does not begin as CAF"));
        }
        let (mut described, mut index, mut data) = (None, None, None);
        let (mut layout, mut cookie) = (false, false);
        let mut position = 8;
        for _ in 0..MOST_CHUNKS {
            if position == length {
                return Ok(Self {
                    described: described.ok_or(Damage("the description is missing"))?,
                    index: index.ok_or(Damage("the packet table is missing"))?,
                    data: data.ok_or(Damage("there is no audio"))?,
                });
            }
            reader.seek(SeekFrom::Start(position)).map_err(Damage::unread)?;
            let [kind @ .., s0, s1, s2, s3, s4, s5, s6, s7] = array::<12>(reader)?;
            let size = i64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
            let start = position + 12;
            // A recorder that does not know the length yet writes -1.
            let size = u64::try_from(size).map_err(|_| Damage("the length of a chunk is not known"))?;
            position =
                start.checked_add(size).filter(|&end| end <= length).ok_or(Damage("a chunk is cut off"))?;
            match (&kind, described) {
                (b"desc", None) if size == 32 => described = Some(Described::parse(array(reader)?)?),
                (_, None) => return Err(Damage("the description is not the first chunk")),
                (b"pakt", Some(described)) if index.is_none() && size <= LARGEST_INDEX => {
                    let mut content = Vec::new();
                    reader.by_ref().take(size).read_to_end(&mut content).map_err(Damage::unread)?;
                    index = Some(Index::parse(&content, described)?);
                }
                // The edit count takes four bytes.
                (b"data", _) if data.is_none() && size >= 4 => data = Some((start + 4, size - 4)),
                (b"chan", Some(described)) if !layout && size >= 12 => {
                    layout = true;
                    if u32::from_be_bytes(array(reader)?) != LAYOUTS[usize::from(described.channels) - 1] {
                        return Err(Damage("the channel layout is not that of its channels"));
                    }
                }
                (b"kuki", _) if !cookie && size <= LARGEST_COOKIE => cookie = true,
                (b"free" | b"info", _) => {}
                _ => return Err(Damage("there is a chunk that does not belong there")),
            }
        }
        Err(Damage("there are too many chunks"))
    }
}

fn array<const N: usize>(reader: &mut impl Read) -> Result<[u8; N], Damage> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(Damage::unread)?;
    Ok(bytes)
}

/// Reads a whole file and passes its header and every packet to `each`.
pub(crate) fn read(reader: &mut (impl Read + Seek), each: Sink) -> Result<OpusDetail, Damage> {
    let Chunks { described, index, data: (start, bytes) } = Chunks::read(reader)?;
    let scale = described.scale();
    let head = OpusHead {
        channels: described.channels,
        pre_skip: u16::try_from(index.priming * scale).map_err(|_| Damage("the start is cut off too far"))?,
        input_rate: described.rate,
        gain: 0,
        mapping_family: 0,
    };
    if index.packets.iter().try_fold(0_u64, |sum, (size, _)| sum.checked_add(*size)) != Some(bytes) {
        return Err(Damage("the packets do not fill the audio"));
    }
    let mut tally = Tally::new(&head, None);
    each(Item::Head(head))?;
    let end = (index.priming + index.valid).checked_mul(scale).ok_or(MALFORMED)?;
    reader.seek(SeekFrom::Start(start)).map_err(Damage::unread)?;
    let mut position = 0;
    for (size, frames) in index.packets {
        if size > LARGEST_PACKET {
            return Err(MALFORMED_PACKET);
        }
        let mut data = vec![0; size as usize];
        reader.read_exact(&mut data).map_err(Damage::unread)?;
        let facts = Packet::parse(&data).ok_or(MALFORMED_PACKET)?;
        if u64::from(facts.samples()) != frames * scale {
            return Err(Damage("a packet does not last as long as the packet table says"));
        }
        tally.add(&facts);
        position += frames * scale;
        each(Item::Packet(Placed { data, facts, end: position.min(end) }))?;
    }
    tally.close(end)
}

/// Collects packets and writes them in the end, because the packet table comes first, so that players need no seeking.
pub(crate) struct Writer {
    head: OpusHead,
    rate: Option<u32>,
    /// Bytes and samples at 48 kHz of each packet.
    packets: Vec<(u32, u32)>,
    data: Vec<u8>,
    end: u64,
}

impl Writer {
    /// `rate` is the rate at which the file counts, with lengths rounded to the nearest sample. Without it, the
    /// source's rate is used if no length has to be rounded, else 48 kHz.
    pub fn new(head: &OpusHead, rate: Option<u32>) -> Result<Self, Damage> {
        if rate.is_some_and(|rate| !RATES.contains(&rate)) {
            return Err(Damage("Opus in CAF counts at 8, 12, 16, 24 or 48 kHz"));
        }
        // CAF has no field for the gain, and without it the sound would have another level.
        if head.gain != 0 || head.mapping_family != 0 {
            return Err(Damage("CAF has no place for the gain or the channel mapping of this stream"));
        }
        Ok(Self { head: head.clone(), rate, packets: Vec::new(), data: Vec::new(), end: 0 })
    }

    pub fn push(&mut self, packet: &Placed) {
        self.packets.push((packet.data.len() as u32, packet.facts.samples()));
        self.data.extend_from_slice(&packet.data);
        self.end = packet.end;
    }

    pub fn finish<W: Write>(self, mut output: W) -> io::Result<W> {
        output.write_all(&self.headers())?;
        output.write_all(&self.data)?;
        output.flush()?;
        Ok(output)
    }

    /// All chunks before the packets.
    fn headers(&self) -> Vec<u8> {
        let pre_skip = u64::from(self.head.pre_skip);
        let exact = |&rate: &u32| {
            let scale = RATE / u64::from(rate);
            pre_skip.is_multiple_of(scale) && self.end.is_multiple_of(scale)
        };
        let source = Some(self.head.input_rate).filter(|rate| RATES.contains(rate)).filter(exact);
        let rate = self.rate.or(source).unwrap_or(48_000);
        let scale = RATE / u64::from(rate);
        let all: u64 = self.packets.iter().map(|&(_, samples)| u64::from(samples)).sum::<u64>() / scale;
        let priming = (pre_skip + scale / 2) / scale;
        let valid = ((self.end + scale / 2) / scale).min(all).saturating_sub(priming);
        let remainder = all.saturating_sub(priming + valid);
        let first = self.packets.first().map_or(0, |&(_, samples)| samples);
        let alike = self.packets.iter().all(|&(_, samples)| samples == first);
        let mut table = Vec::with_capacity(24 + 2 * self.packets.len());
        table.extend((self.packets.len() as u64).to_be_bytes());
        table.extend(valid.to_be_bytes());
        table.extend((priming as u32).to_be_bytes());
        table.extend((remainder as u32).to_be_bytes());
        for &(size, samples) in &self.packets {
            push_varint(&mut table, size);
            if !alike {
                push_varint(&mut table, samples / scale as u32);
            }
        }

        let mut file = b"caff\0\x01\0\0".to_vec();
        let chunk = |file: &mut Vec<u8>, kind: &[u8; 4], size: usize| {
            file.extend(kind);
            file.extend((size as u64).to_be_bytes());
        };
        chunk(&mut file, b"desc", 32);
        file.extend(f64::from(rate).to_be_bytes());
        file.extend(b"opus");
        let frames = if alike { first / scale as u32 } else { 0 };
        for number in [0, 0, frames, u32::from(self.head.channels), 0] {
            file.extend(number.to_be_bytes());
        }
        chunk(&mut file, b"chan", 12);
        for number in [LAYOUTS[usize::from(self.head.channels) - 1], 0, 0] {
            file.extend(number.to_be_bytes());
        }
        chunk(&mut file, b"pakt", table.len());
        file.extend(table);
        chunk(&mut file, b"data", 4 + self.data.len());
        file.extend([0; 4]);
        file
    }
}
