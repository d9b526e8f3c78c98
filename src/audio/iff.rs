//! Whether WAV, AIFF and CAF state their true sizes. Text-to-speech services stream WAV and leave the sizes open;
//! decoders cope, phones may not.

use std::io::{self, Read, Seek, SeekFrom};

/// More chunks than this is no audio file.
const MOST_CHUNKS: usize = 1_000;

/// From here on a size means "not known yet": writers of streams put 0xFFFFFFFF, 0x7FFFFFFF or a little less.
const OPEN: u64 = 0x7fff_0000;

/// Fewer bytes behind the last chunk are padding or somebody's mark.
const TRAILER: u64 = 4_096;

/// What a header says that cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is clearly less audio than stated.
    CutOff {
        stated: u64,
        present: u64,
    },
    /// There is clearly more behind the audio than its stated size, and it is no chunk.
    Overfull {
        stated: u64,
    },
    /// Another file of this kind begins behind the first.
    Several,
    /// More or fewer than anybody reads; decoders differ in what they make of it.
    Channels(u16),
    Rate(u32),
}

/// Channels and rates, in Hz, that are read.
pub(super) const CHANNELS: std::ops::RangeInclusive<u16> = 1..=8;
pub(super) const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// One chunk of WAV or AIFF.
struct Chunk {
    kind: [u8; 4],
    /// As stated.
    size: u64,
    /// Where its content begins.
    start: u64,
}

/// Hands the chunks to `each` as far as they can be followed, until it returns false. `big_endian` is AIFF. True if
/// they fill the file as stated, one padding byte allowed.
fn walk<R: Read + Seek>(
    reader: &mut R,
    big_endian: bool,
    mut each: impl FnMut(&mut R, Chunk) -> io::Result<bool>,
) -> io::Result<bool> {
    let length = reader.seek(SeekFrom::End(0))?;
    let number = |bytes: [u8; 4]| {
        u64::from(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    if length < 12 {
        return Ok(false);
    }
    reader.seek(SeekFrom::Start(0))?;
    let mut header = [0; 8];
    reader.read_exact(&mut header)?;
    let [.., s0, s1, s2, s3] = header;
    let mut true_sizes = (number([s0, s1, s2, s3]) + 8).abs_diff(length) <= 1;
    let mut position = 12;
    for _ in 0..MOST_CHUNKS {
        if position + 8 > length {
            return Ok(true_sizes);
        }
        reader.seek(SeekFrom::Start(position))?;
        reader.read_exact(&mut header)?;
        let [kind @ .., s0, s1, s2, s3] = header;
        let (size, start) = (number([s0, s1, s2, s3]), position + 8);
        true_sizes &= start + size <= length;
        if !each(reader, Chunk { kind, size, start })? {
            break;
        }
        position = start + size + size % 2;
    }
    Ok(false)
}

fn samples(big_endian: bool) -> &'static [u8; 4] {
    if big_endian { b"SSND" } else { b"data" }
}

/// Whether all sizes are true and the header's numbers agree with each other.
pub(super) fn is_sound(reader: &mut (impl Read + Seek), big_endian: bool) -> io::Result<bool> {
    let (mut has_samples, mut consistent) = (false, true);
    let true_sizes = walk(reader, big_endian, |reader, chunk| {
        has_samples |= &chunk.kind == samples(big_endian) && chunk.size > 0;
        if &chunk.kind == b"fmt " {
            consistent = chunk.size >= 16 && content(reader, &chunk)?.is_some_and(agrees);
        }
        Ok(true)
    })?;
    Ok(true_sizes && has_samples && consistent)
}

/// The first bytes of a chunk.
fn content<const N: usize>(reader: &mut (impl Read + Seek), chunk: &Chunk) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    reader.seek(SeekFrom::Start(chunk.start))?;
    Ok(reader.read_exact(&mut bytes).is_ok().then_some(bytes))
}

/// WAVEFORMATEX: for whole-byte samples, block and byte rate follow from the rest.
/// <https://learn.microsoft.com/windows/win32/api/mmeapi/ns-mmeapi-waveformatex>
fn agrees(format: [u8; 16]) -> bool {
    let [_, _, c0, c1, r0, r1, r2, r3, b0, b1, b2, b3, a0, a1, s0, s1] = format;
    let channels = u64::from(u16::from_le_bytes([c0, c1]));
    let rate = u64::from(u32::from_le_bytes([r0, r1, r2, r3]));
    let bytes_per_second = u64::from(u32::from_le_bytes([b0, b1, b2, b3]));
    let block = u64::from(u16::from_le_bytes([a0, a1]));
    let bits = u64::from(u16::from_le_bytes([s0, s1]));
    bits % 8 == 0 && block == channels * bits / 8 && bytes_per_second == rate * block
}

/// The first thing in a WAV or AIFF file that cannot be followed.
pub(super) fn fault(reader: &mut (impl Read + Seek), big_endian: bool) -> io::Result<Option<Fault>> {
    let length = reader.seek(SeekFrom::End(0))?;
    let mut fault = None;
    let mut samples_size = None;
    let mut padded = false;
    walk(reader, big_endian, |reader, chunk| {
        let present = length - chunk.start;
        fault = if &chunk.kind == b"fmt " && !big_endian {
            content(reader, &chunk)?.and_then(|[_, _, c0, c1, r0, r1, r2, r3]: [u8; 8]| {
                unheard_of(u16::from_le_bytes([c0, c1]), u32::from_le_bytes([r0, r1, r2, r3]))
            })
        } else if &chunk.kind == b"COMM" && big_endian {
            content(reader, &chunk)?.and_then(|common: [u8; 18]| {
                let [c0, c1, _, _, _, _, _, _, rate @ ..] = common;
                unheard_of(u16::from_be_bytes([c0, c1]), extended(rate))
            })
        } else if &chunk.kind == samples(big_endian) {
            samples_size = Some(chunk.size);
            let short = chunk.size < OPEN && chunk.size.saturating_sub(present) > chunk.size / 20;
            short.then_some(Fault::CutOff { stated: chunk.size, present })
        } else if let Some(stated) = samples_size.filter(|&size| size > 0) {
            let another = matches!(&chunk.kind, b"RIFF" | b"RF64" | b"FORM");
            let odd = chunk.kind.iter().any(|&byte| !(0x20..0x7f).contains(&byte));
            let more = odd && present > TRAILER.max(stated / 20);
            padded = more && is_empty(reader, chunk.start)?;
            if another {
                Some(Fault::Several)
            } else {
                (more && !padded).then_some(Fault::Overfull { stated })
            }
        } else {
            None
        };
        // Where the size of the audio was left open, everything behind it is audio.
        Ok(fault.is_none() && !padded && samples_size != Some(0))
    })?;
    Ok(fault)
}

/// Whether there is nothing but zeros from here on: room that was set aside and not used.
fn is_empty(reader: &mut (impl Read + Seek), from: u64) -> io::Result<bool> {
    reader.seek(SeekFrom::Start(from))?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(true),
            count if buffer[..count].iter().any(|&byte| byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

fn unheard_of(channels: u16, rate: u32) -> Option<Fault> {
    if !CHANNELS.contains(&channels) {
        Some(Fault::Channels(channels))
    } else {
        (!RATES.contains(&rate)).then_some(Fault::Rate(rate))
    }
}

/// The 80-bit number in which AIFF writes its rate, in whole Hz.
pub(super) fn extended([e0, e1, mantissa @ ..]: [u8; 10]) -> u32 {
    let exponent = u32::from(u16::from_be_bytes([e0, e1]) & 0x7fff);
    let whole = match (16_383_u32 + 63).checked_sub(exponent) {
        Some(shift) => u64::from_be_bytes(mantissa).checked_shr(shift).unwrap_or(0),
        None => u64::MAX,
    };
    u32::try_from(whole).unwrap_or(u32::MAX)
}

/// The first thing in a CAF file that cannot be followed. A recorder that does not know its length yet writes -1.
/// <https://developer.apple.com/library/archive/documentation/MusicAudio/Reference/CAFSpec/>
pub(super) fn caf_fault(reader: &mut (impl Read + Seek)) -> io::Result<Option<Fault>> {
    let length = reader.seek(SeekFrom::End(0))?;
    let mut position = 8;
    for _ in 0..MOST_CHUNKS {
        if length.saturating_sub(position) < 12 {
            break;
        }
        reader.seek(SeekFrom::Start(position))?;
        let mut header = [0; 12];
        reader.read_exact(&mut header)?;
        let [kind @ .., s0, s1, s2, s3, s4, s5, s6, s7] = header;
        if &kind == b"caff" {
            return Ok(Some(Fault::Several));
        }
        let Ok(size) = u64::try_from(i64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7])) else { break };
        let present = length - position - 12;
        if &kind == b"data" && size > present {
            return Ok(Some(Fault::CutOff { stated: size, present }));
        }
        position = position.saturating_add(12).saturating_add(size);
    }
    Ok(None)
}
