//! Checks the sizes that WAV, AIFF and CAF state. Text-to-speech services stream WAV with unknown sizes; decoders cope,
//! phones may not. More about WAV is in `wav.rs`.

use std::io::{self, Read, Seek, SeekFrom};

use crate::formats::caf_bits;
use crate::formats::patched::PatchedFile;

/// Highest number of chunks in an audio file.
pub(crate) const MOST_CHUNKS: usize = 1_000;

/// Bytes after the last chunk up to this number are padding or a foreign marker.
const TRAILER: u64 = 4_096;

/// Interpretation of the stated size of the audio, given the bytes that are present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Bytes of audio.
    Known(u64),
    /// The size was not known when the header was written, so all remaining bytes are audio.
    Open,
    /// Clearly fewer bytes are present than stated.
    CutOff,
}

/// Distinguishes a wrong size from a truncated file. `largest` is the size limit of a source, in bytes.
///
/// Writers of streams state a size that no stream reaches: the maximum of 32 or 31 bits or a little less, two billion,
/// or 0. So a size above the limit is meaningless, and so is one that is both round and far beyond the present bytes.
pub(crate) fn extent(stated: u64, present: u64, largest: u64) -> Extent {
    /// The maximum of 31 bits, less a header.
    const NO_STREAM: u64 = 0x7fff_0000;
    const FAR: u64 = 8;
    if stated == 0 && present > 0 {
        return Extent::Open;
    }
    if stated <= present {
        return Extent::Known(stated);
    }
    let never_taken = stated > largest.min(NO_STREAM);
    let is_far = stated / FAR >= present;
    if never_taken || is_far && is_round(stated) {
        Extent::Open
    } else if stated - present > stated / 20 {
        Extent::CutOff
    } else {
        Extent::Known(present)
    }
}

/// Whether a size is a whole number of millions or mebibytes, for the audio or for the whole file.
fn is_round(size: u64) -> bool {
    /// Differences between the size of the audio, less one for a maximum, and that of a file with a WAV header.
    const AROUND: [u64; 4] = [0, 1, 36, 44];
    /// Bytes before the samples that CAF and AIFF include in the size.
    const COUNTED: [u64; 2] = [4, 8];
    let is_whole = |size: u64| size.is_multiple_of(1_000_000) || size.is_multiple_of(1 << 20);
    AROUND.iter().any(|more| is_whole(size.saturating_add(*more)))
        || COUNTED.iter().any(|less| size > *less && is_whole(size - less))
}

/// Error in a header that cannot be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Clearly less audio is present than stated.
    CutOff {
        stated: u64,
        present: u64,
    },
    /// Clearly more bytes follow the audio than stated, and they are no chunk.
    Overfull {
        stated: u64,
    },
    /// A second file of this format follows the first.
    Several,
    /// The number of channels or the rate is outside the supported range, where decoders differ.
    Channels(u16),
    Rate(u32),
}

/// Supported numbers of channels and sample rates, in Hz.
pub(crate) const CHANNELS: std::ops::RangeInclusive<u16> = 1..=8;
pub(crate) const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// One chunk of WAV or AIFF.
pub(crate) struct Chunk {
    pub kind: [u8; 4],
    /// Size as stated.
    pub size: u64,
    /// Offset of its content.
    pub start: u64,
}

/// Passes the chunks to `each` until one cannot be read or `each` returns false. `big_endian` is AIFF. Returns true if
/// they fill the file as stated, with at most one byte of padding.
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

/// Whether all sizes are right and the numbers of the header are consistent.
pub(crate) fn is_sound(reader: &mut (impl Read + Seek), big_endian: bool) -> io::Result<bool> {
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
pub(crate) fn content<const N: usize>(
    reader: &mut (impl Read + Seek),
    chunk: &Chunk,
) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    reader.seek(SeekFrom::Start(chunk.start))?;
    Ok(reader.read_exact(&mut bytes).is_ok().then_some(bytes))
}

/// Checks WAVEFORMATEX: for whole-byte samples, block and byte rate follow from the other numbers.
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

/// Verdict on the sizes in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// Decoders read the file correctly.
    Usable,
    /// Decoders need a patched file with other sizes.
    Rewritten(PatchedFile),
    Faulty(Fault),
}

/// Checks an AIFF file: returns the first fault, or a patched file if decoders need one.
pub(crate) fn aiff(reader: &mut (impl Read + Seek), largest: u64) -> io::Result<Sizes> {
    let length = reader.seek(SeekFrom::End(0))?;
    let mut fault = None;
    let mut samples: Option<Chunk> = None;
    let mut is_open = false;
    walk(reader, true, |reader, chunk| {
        let present = length.saturating_sub(chunk.start);
        match &samples {
            _ if &chunk.kind == b"COMM" => {
                fault = content(reader, &chunk)?.and_then(|common: [u8; 18]| {
                    let [c0, c1, _, _, _, _, _, _, rate @ ..] = common;
                    unheard_of(u16::from_be_bytes([c0, c1]), extended(rate))
                });
            }
            None if &chunk.kind == b"SSND" => {
                match extent(chunk.size, present, largest) {
                    Extent::CutOff => fault = Some(Fault::CutOff { stated: chunk.size, present }),
                    Extent::Open => is_open = true,
                    Extent::Known(_) => {}
                }
                if is_open && find(reader, chunk.start, is_aiff)?.is_some() {
                    fault = Some(Fault::Several);
                }
                samples = Some(chunk);
                // All bytes after this header are audio.
                return Ok(fault.is_none() && !is_open);
            }
            // A second sound chunk is not allowed, and no player plays it.
            Some(_) if &chunk.kind == b"SSND" => fault = Some(Fault::Several),
            Some(samples) => {
                let (behind, is_padding) = behind(reader, &chunk, samples.size, present)?;
                fault = behind;
                return Ok(fault.is_none() && !is_padding);
            }
            None => {}
        }
        Ok(fault.is_none())
    })?;
    if let Some(fault) = fault {
        return Ok(Sizes::Faulty(fault));
    }
    let Some(samples) = samples else { return Ok(Sizes::Usable) };
    // Decoders stop at the stated size of the whole file.
    reader.seek(SeekFrom::Start(4))?;
    let mut whole = [0; 4];
    reader.read_exact(&mut whole)?;
    if !is_open && u64::from(u32::from_be_bytes(whole)) + 8 >= samples.start {
        return Ok(Sizes::Usable);
    }
    let size = if is_open { length - samples.start } else { samples.size };
    let field = |size: u64| u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    let plain = PatchedFile::default()
        .source(0, 4)
        .bytes(field(length - 8))
        .source(8, samples.start - 4)
        .bytes(field(size))
        .source(samples.start, length);
    Ok(Sizes::Rewritten(plain))
}

fn is_aiff(head: &[u8; 12]) -> bool {
    head.starts_with(b"FORM") && matches!(&head[8..], b"AIFF" | b"AIFC")
}

/// Checks a chunk after samples of known size, `present` bytes before the end: a fault, or whether only padding is
/// left.
pub(crate) fn behind(
    reader: &mut (impl Read + Seek),
    chunk: &Chunk,
    stated: u64,
    present: u64,
) -> io::Result<(Option<Fault>, bool)> {
    if matches!(&chunk.kind, b"RIFF" | b"RF64" | b"BW64" | b"FORM") {
        return Ok((Some(Fault::Several), false));
    }
    let is_odd = chunk.kind.iter().any(|&byte| !(0x20..0x7f).contains(&byte));
    let more = is_odd && present > TRAILER.max(stated / 20);
    let is_padding = more && is_empty(reader, chunk.start)?;
    Ok(((more && !is_padding).then_some(Fault::Overfull { stated }), is_padding))
}

/// The first offset at or after `from` at which twelve bytes match.
pub(crate) fn find<R: Read + Seek>(
    reader: &mut R,
    from: u64,
    is_wanted: impl Fn(&[u8; 12]) -> bool,
) -> io::Result<Option<u64>> {
    const LENGTH: usize = 12;
    reader.seek(SeekFrom::Start(from))?;
    let mut position = from;
    let mut window = Vec::new();
    loop {
        let count = reader.by_ref().take(64 << 10).read_to_end(&mut window)?;
        let places = window.array_windows::<LENGTH>();
        if let Some(at) = places.into_iter().position(&is_wanted) {
            return Ok(Some(position + at as u64));
        }
        if count == 0 {
            return Ok(None);
        }
        let done = window.len().saturating_sub(LENGTH - 1);
        window.drain(..done);
        position += done as u64;
    }
}

/// Whether only zeros follow: reserved space that was not used.
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

pub(crate) fn unheard_of(channels: u16, rate: u32) -> Option<Fault> {
    if !CHANNELS.contains(&channels) {
        Some(Fault::Channels(channels))
    } else {
        (!RATES.contains(&rate)).then_some(Fault::Rate(rate))
    }
}

/// The 80-bit float in which AIFF states its rate, in whole Hz.
pub(crate) fn extended([e0, e1, mantissa @ ..]: [u8; 10]) -> u32 {
    let exponent = u32::from(u16::from_be_bytes([e0, e1]) & 0x7fff);
    let whole = match (16_383_u32 + 63).checked_sub(exponent) {
        Some(shift) => u64::from_be_bytes(mantissa).checked_shr(shift).unwrap_or(0),
        None => u64::MAX,
    };
    u32::try_from(whole).unwrap_or(u32::MAX)
}

/// Checks a CAF file: returns the first fault, or a patched file if decoders need one, because its size is unknown or
/// some bits are unused. A recorder that does not know the length yet writes -1.
/// <https://developer.apple.com/library/archive/documentation/MusicAudio/Reference/CAFSpec/>
pub(crate) fn caf(reader: &mut (impl Read + Seek), largest: u64) -> io::Result<Sizes> {
    const UNKNOWN: i64 = -1;
    let length = reader.seek(SeekFrom::End(0))?;
    let mut position = 8;
    // Offsets of header fields, with the values that decoders need.
    let mut fields: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut has_samples = false;
    for _ in 0..MOST_CHUNKS {
        if length.saturating_sub(position) < 12 {
            break;
        }
        reader.seek(SeekFrom::Start(position))?;
        let mut header = [0; 12];
        reader.read_exact(&mut header)?;
        let [kind @ .., s0, s1, s2, s3, s4, s5, s6, s7] = header;
        if &kind == b"caff" {
            return Ok(Sizes::Faulty(Fault::Several));
        }
        let stated = i64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let (size, present) = (u64::try_from(stated), length - position - 12);
        match &kind {
            b"desc" => {
                let chunk = Chunk { kind, size: size.unwrap_or_default(), start: position + 12 };
                fields.extend(content(reader, &chunk)?.and_then(|desc| caf_bits::in_use(desc, chunk.start)));
            }
            b"data" if has_samples => return Ok(Sizes::Faulty(Fault::Several)),
            b"data" => match size.map_or(Extent::Open, |size| extent(size, present, largest)) {
                Extent::Known(_) if size.is_ok_and(|size| size <= present) => has_samples = true,
                // The packet table would point behind the end, so even a small difference counts.
                Extent::Known(_) | Extent::CutOff => {
                    return Ok(Sizes::Faulty(Fault::CutOff { stated: size.unwrap_or_default(), present }));
                }
                Extent::Open if find(reader, position + 12, is_caf)?.is_some() => {
                    return Ok(Sizes::Faulty(Fault::Several));
                }
                Extent::Open if stated == UNKNOWN => break,
                Extent::Open => {
                    fields.push((position + 4, UNKNOWN.to_be_bytes().to_vec()));
                    break;
                }
            },
            _ => {}
        }
        let Ok(size) = size else { break };
        position = position.saturating_add(12).saturating_add(size);
    }
    if fields.is_empty() {
        return Ok(Sizes::Usable);
    }
    Ok(Sizes::Rewritten(PatchedFile::default().with_fields(fields, length)))
}

fn is_caf(head: &[u8; 12]) -> bool {
    head.starts_with(b"caff\0\x01\0\0desc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_size_means_unknown() {
        const LARGEST: u64 = 25 << 20;
        let present = 144_000;
        for stated in [
            0,
            1 << 31,
            (1 << 31) - 1,
            (1 << 31) - 256,
            (1 << 31) - 1 - 36,
            (1 << 32) - 1,
            (1 << 32) - 1 - 44,
            1 << 30,
            2_000_000_000,
            1_000_000_000,
            LARGEST + 1,
            123_456_789,
            10_000_000,
            2_000_000,
            1 << 24,
            (1 << 24) - 1,
            1_000_000_004,
            1_000_000_008,
        ] {
            assert_eq!(extent(stated, present, LARGEST), Extent::Open, "{stated}");
        }
        // Some operators accept sources of any size, but no stream reaches these.
        for stated in
            [0, (1 << 31) - 1, (1 << 31) - 256, (1 << 32) - 1, 2_000_000_000, 1_000_000_008, 1 << 24]
        {
            assert_eq!(extent(stated, present, u64::MAX), Extent::Open, "{stated}");
        }
    }

    #[test]
    fn plausible_size_is_trusted() {
        const LARGEST: u64 = 25 << 20;
        for (stated, present, expected) in [
            (0, 0, Extent::Known(0)),
            (100_000, 100_000, Extent::Known(100_000)),
            (100_000, 200_000, Extent::Known(100_000)),
            (100_000, 98_000, Extent::Known(98_000)),
            (100_000, 60_000, Extent::CutOff),
            // Round, but not far beyond the present bytes.
            (1_000_000, 600_000, Extent::CutOff),
            // Far beyond the present bytes, but not round.
            (1_440_000, 100_000, Extent::CutOff),
            (LARGEST, LARGEST / 2, Extent::CutOff),
        ] {
            assert_eq!(extent(stated, present, LARGEST), expected, "{stated} of {present}");
        }
    }
}
