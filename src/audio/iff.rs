//! Whether WAV, AIFF and CAF state their true sizes. Text-to-speech services stream WAV and leave the sizes open;
//! decoders cope, phones may not.

use std::io::{self, Read, Seek, SeekFrom};

/// More chunks than this is no audio file.
const MOST_CHUNKS: usize = 1_000;

/// Walks the chunks; `big_endian` is AIFF. True if they fill the file as stated, one padding byte allowed.
pub(super) fn sizes_are_true(reader: &mut (impl Read + Seek), big_endian: bool) -> io::Result<bool> {
    let length = reader.seek(SeekFrom::End(0))?;
    let number = |bytes: [u8; 4]| {
        u64::from(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let samples: &[u8; 4] = if big_endian { b"SSND" } else { b"data" };

    reader.seek(SeekFrom::Start(0))?;
    let mut header = [0; 8];
    if length < 12 {
        return Ok(false);
    }
    reader.read_exact(&mut header)?;
    let [.., s0, s1, s2, s3] = header;
    let end = number([s0, s1, s2, s3]) + 8;
    if end.abs_diff(length) > 1 {
        return Ok(false);
    }
    let mut position = 12;
    let mut has_samples = false;
    for _ in 0..MOST_CHUNKS {
        if position + 8 > length {
            return Ok(has_samples);
        }
        reader.seek(SeekFrom::Start(position))?;
        reader.read_exact(&mut header)?;
        let [kind @ .., s0, s1, s2, s3] = header;
        let size = number([s0, s1, s2, s3]);
        if position + 8 + size > length {
            return Ok(false);
        }
        has_samples |= &kind == samples && size > 0;
        position += 8 + size + size % 2;
    }
    Ok(false)
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
