//! Whether WAV, AIFF and CAF state their true sizes. Text-to-speech services stream WAV and leave the sizes open;
//! decoders cope, phones may not.

use std::io::{self, Read, Seek, SeekFrom};

/// More chunks than this is no audio file.
const MOST_CHUNKS: usize = 1_000;

/// From here on a size means "not known yet": writers of streams put 0xFFFFFFFF, 0x7FFFFFFF or a little less.
const OPEN: u64 = 0x7fff_0000;

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
            let mut format = [0; 16];
            reader.seek(SeekFrom::Start(chunk.start))?;
            consistent = chunk.size >= 16 && reader.read_exact(&mut format).is_ok() && agrees(format);
        }
        Ok(true)
    })?;
    Ok(true_sizes && has_samples && consistent)
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

/// How many bytes of audio the file says it has and how many are there, if that is clearly less.
pub(super) fn shortfall(reader: &mut (impl Read + Seek), big_endian: bool) -> io::Result<Option<(u64, u64)>> {
    let length = reader.seek(SeekFrom::End(0))?;
    let mut found = None;
    walk(reader, big_endian, |_, chunk| {
        let present = length - chunk.start;
        let is_samples = &chunk.kind == samples(big_endian);
        if is_samples && chunk.size < OPEN && chunk.size.saturating_sub(present) > chunk.size / 20 {
            found = Some((chunk.size, present));
        }
        Ok(!is_samples)
    })?;
    Ok(found)
}

/// For CAF: how many bytes of audio it says it has and how many are there, if that differs. A recorder that does not
/// know yet writes -1. <https://developer.apple.com/library/archive/documentation/MusicAudio/Reference/CAFSpec/>
pub(super) fn caf_shortfall(reader: &mut (impl Read + Seek)) -> io::Result<Option<(u64, u64)>> {
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
        let Ok(size) = u64::try_from(i64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7])) else { break };
        let present = length - position - 12;
        if &kind == b"data" && size > present {
            return Ok(Some((size, present)));
        }
        position = position.saturating_add(12).saturating_add(size);
    }
    Ok(None)
}
