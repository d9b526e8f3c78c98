//! Reads WAV by its chunks: the location of its samples, in one piece or several, and whether decoders agree on their
//! format.
//!
//! <https://learn.microsoft.com/windows/win32/api/mmreg/ns-mmreg-waveformatextensible>,
//! RF64 and BW64: <https://www.itu.int/rec/R-REC-BS.2088>

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use crate::formats::iff::{
    Chunk, Extent, Fault, MOST_CHUNKS, Sizes, behind, content, extent, find, unheard_of,
};
use crate::formats::patched::PatchedFile;

/// Size limit of the `fmt ` chunk in bytes, above that of any codec.
const LONGEST_FORMAT: u64 = 4_096;
/// Limit on the number of joined pieces.
const MOST_PIECES: usize = 1_000;
/// Bytes reserved for our own header below the maximum of a 32-bit size.
const HEADERS: u64 = 1 << 16;

/// Facts from the chunks, as far as they can be read.
#[derive(Debug, Default)]
struct Found {
    format: Option<Vec<u8>>,
    /// Ranges of the samples, in order.
    pieces: Vec<Range<u64>>,
    /// Bytes of samples, if the number does not fit the header (RF64).
    long_size: Option<u64>,
    /// Number of samples after decompression.
    fact: Option<[u8; 4]>,
    /// Decoders would miss samples, or play headers as sound.
    is_in_pieces: bool,
    is_padded: bool,
    fault: Option<Fault>,
}

/// Checks a WAV file: returns the first fault, or a patched file if decoders would differ.
pub(crate) fn wav(reader: &mut (impl Read + Seek), largest: u64) -> io::Result<Sizes> {
    let mut form = [0; 4];
    reader.seek(SeekFrom::Start(0))?;
    if reader.read_exact(&mut form).is_err() {
        return Ok(Sizes::Usable);
    }
    let mut found = follow(reader, largest)?;
    if let Some(fault) = found.fault {
        return Ok(Sizes::Faulty(fault));
    }
    let Some(format) = found.format.as_deref() else { return Ok(Sizes::Usable) };
    let aligned = whole_containers(format);
    let is_whole = found.pieces.len() <= 1 && !found.is_in_pieces;
    if found.pieces.is_empty() {
        return Ok(Sizes::Usable);
    }
    if &form == b"RIFF" && is_whole && aligned.is_none() {
        return Ok(Sizes::Usable);
    }
    if !is_whole {
        // If pieces were joined in the middle of a sample, all that follows would be noise.
        let block = u64::from(number(format, 12).unwrap_or(1).max(1));
        for piece in &mut found.pieces {
            piece.end = piece.start + (piece.end - piece.start) / block * block;
        }
    }
    found.fact = found.fact.filter(|_| is_whole && &form == b"RIFF");
    Ok(Sizes::Rewritten(plain(&aligned.unwrap_or_else(|| format.to_vec()), found.fact, &found.pieces)))
}

fn follow(reader: &mut (impl Read + Seek), largest: u64) -> io::Result<Found> {
    let length = reader.seek(SeekFrom::End(0))?;
    let mut found = Found::default();
    let mut stated = 0;
    let mut position = 12;
    for _ in 0..MOST_CHUNKS {
        let Some(chunk) = chunk_at(reader, position, length)? else { break };
        let present = length - chunk.start;
        position = chunk.start + chunk.size + chunk.size % 2;
        match &chunk.kind {
            b"fmt " => found.take_format(reader, &chunk)?,
            b"ds64" => {
                found.long_size = content(reader, &chunk)?
                    .map(|[_, _, _, _, _, _, _, _, size @ ..]: [u8; 16]| u64::from_le_bytes(size));
            }
            b"fact" => found.fact = content(reader, &chunk)?,
            // A list of pieces. Silence between them would have a chunk of its own, which no known program writes, and
            // is not supported.
            b"LIST" if content(reader, &chunk)? == Some(*b"wavl") => {
                found.is_in_pieces = true;
                position = chunk.start + 4;
            }
            b"slnt" if found.is_in_pieces => {
                found.pieces.clear();
                break;
            }
            b"data" => {
                let size =
                    found.long_size.filter(|_| chunk.size == u64::from(u32::MAX)).unwrap_or(chunk.size);
                match extent(size, present, largest) {
                    // An empty chunk with others after it is empty.
                    Extent::Open if size == 0 && are_chunks(reader, chunk.start, length)? => {
                        found.is_in_pieces = true;
                    }
                    Extent::Open => {
                        found.take_open(reader, chunk.start, length)?;
                        break;
                    }
                    Extent::CutOff => found.fault = Some(Fault::CutOff { stated: size, present }),
                    Extent::Known(size) => {
                        found.pieces.push(chunk.start..chunk.start + size);
                        position = chunk.start + size + size % 2;
                    }
                }
                stated = size;
            }
            _ if !found.pieces.is_empty() => {
                (found.fault, found.is_padded) = behind(reader, &chunk, stated, present)?;
            }
            _ => {}
        }
        if found.fault.is_some() || found.is_padded {
            break;
        }
    }
    Ok(found)
}

impl Found {
    fn take_format(&mut self, reader: &mut (impl Read + Seek), chunk: &Chunk) -> io::Result<()> {
        let format = bytes(reader, chunk)?;
        match &self.format {
            None => {
                if let Some(&[_, _, c0, c1, r0, r1, r2, r3]) = format.first_chunk::<8>() {
                    self.fault =
                        unheard_of(u16::from_le_bytes([c0, c1]), u32::from_le_bytes([r0, r1, r2, r3]));
                }
                self.format = Some(format);
            }
            Some(first) if !self.pieces.is_empty() && *first != format => self.fault = Some(Fault::Several),
            Some(_) => {}
        }
        Ok(())
    }

    /// Takes samples up to the end of the file, without the headers of appended recordings. Speech streamed sentence by
    /// sentence arrives like that.
    fn take_open(&mut self, reader: &mut (impl Read + Seek), start: u64, length: u64) -> io::Result<()> {
        let mut piece = start;
        let mut from = start;
        while let Some(header) = find(reader, from, is_wav)? {
            self.pieces.push(piece..header);
            self.is_in_pieces = true;
            if self.pieces.len() > MOST_PIECES {
                self.fault = Some(Fault::Several);
                return Ok(());
            }
            let Some((format, data)) = header_at(reader, header, length)? else {
                // The header itself is truncated.
                return Ok(());
            };
            if self.format.as_deref() != Some(format.as_slice()) {
                self.fault = Some(Fault::Several);
                return Ok(());
            }
            (piece, from) = (data.start, data.start);
            // Its size may be right; then other chunks or the next recording may follow.
            let end = data.start + data.size;
            if data.size > 0 && end < length && are_chunks(reader, end + data.size % 2, length)? {
                self.pieces.push(piece..end);
                let Some(next) = find(reader, end, is_wav)? else { return Ok(()) };
                // Nothing lies between the end of these chunks and the next header.
                (piece, from) = (next, next);
            }
        }
        self.pieces.push(piece..length);
        Ok(())
    }
}

fn is_wav(head: &[u8; 12]) -> bool {
    matches!(&head[..4], b"RIFF" | b"RF64" | b"BW64") && head.ends_with(b"WAVE")
}

/// The format and the samples of the recording at this position.
fn header_at(
    reader: &mut (impl Read + Seek),
    start: u64,
    length: u64,
) -> io::Result<Option<(Vec<u8>, Chunk)>> {
    let mut format = Vec::new();
    let mut position = start + 12;
    for _ in 0..MOST_CHUNKS {
        let Some(chunk) = chunk_at(reader, position, length)? else { break };
        match &chunk.kind {
            b"fmt " => format = bytes(reader, &chunk)?,
            b"data" => return Ok(Some((format, chunk))),
            _ => {}
        }
        position = chunk.start + chunk.size + chunk.size % 2;
    }
    Ok(None)
}

/// The chunk at this position, unless its content exceeds the file.
fn chunk_at(reader: &mut (impl Read + Seek), position: u64, length: u64) -> io::Result<Option<Chunk>> {
    if position.saturating_add(8) > length {
        return Ok(None);
    }
    let mut header = [0; 8];
    reader.seek(SeekFrom::Start(position))?;
    reader.read_exact(&mut header)?;
    let [kind @ .., s0, s1, s2, s3] = header;
    Ok(Some(Chunk { kind, size: u32::from_le_bytes([s0, s1, s2, s3]).into(), start: position + 8 }))
}

/// Whether only whole chunks follow, to the end or to the header of another recording.
fn are_chunks(reader: &mut (impl Read + Seek), mut position: u64, length: u64) -> io::Result<bool> {
    for _ in 0..MOST_CHUNKS {
        let Some(chunk) = chunk_at(reader, position, length)? else {
            return Ok(position.abs_diff(length) <= 1);
        };
        if matches!(&chunk.kind, b"RIFF" | b"RF64" | b"BW64") {
            return Ok(true);
        }
        if chunk.kind.iter().any(|byte| !(0x20..0x7f).contains(byte)) {
            return Ok(false);
        }
        position = chunk.start + chunk.size + chunk.size % 2;
    }
    Ok(false)
}

fn bytes(reader: &mut (impl Read + Seek), chunk: &Chunk) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.seek(SeekFrom::Start(chunk.start))?;
    reader.take(chunk.size.min(LONGEST_FORMAT)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn number(format: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*format.get(at..)?.first_chunk()?))
}

/// End of every format GUID in the extended header, after the tag of the short header.
pub(crate) const EXTENSIBLE: &[u8] = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";

/// The format with all bits in use, if some are not.
///
/// Integers with fewer bits than their bytes have are left-aligned, so the lower bits hardly matter. Some decoders
/// derive the number of bytes from the number of bits, and read noise.
fn whole_containers(format: &[u8]) -> Option<Vec<u8>> {
    const LINEAR: u16 = 1;
    const FLOAT: u16 = 3;
    let (tag, channels, block, bits) =
        (number(format, 0)?, number(format, 2)?, number(format, 12)?, number(format, 14)?);
    let is_extensible = tag == 0xfffe && format.len() >= 40 && format[26..40] == *EXTENSIBLE;
    let (tag, valid) = if is_extensible { (number(format, 24)?, number(format, 18)?) } else { (tag, bits) };
    let used = if valid == 0 { bits } else { valid };
    let bytes = block.checked_div(channels).filter(|bytes| bytes * channels == block)?;
    let whole = bytes.checked_mul(8)?;
    // The block size is trusted if another number in the header confirms it.
    let rate = u64::from(u32::from_le_bytes(*format.get(4..)?.first_chunk()?));
    let per_second = u64::from(u32::from_le_bytes(*format.get(8..)?.first_chunk()?));
    let is_sure = bits == whole || per_second == rate * u64::from(block);
    let has_decoder = match tag {
        LINEAR => (1..=4).contains(&bytes),
        FLOAT => matches!(bytes, 4 | 8),
        _ => false,
    };
    // More bits than the bytes can hold are an error in one of three numbers.
    let is_possible = used > 0 && (used <= whole || bits == whole);
    if !is_sure || !has_decoder || !is_possible || (bits == whole && used == whole) {
        return None;
    }
    let mut rewritten = format.to_vec();
    rewritten[14..16].copy_from_slice(&whole.to_le_bytes());
    if is_extensible {
        rewritten[18..20].copy_from_slice(&whole.to_le_bytes());
    }
    Some(rewritten)
}

/// One header with correct sizes, and all samples after it.
fn plain(format: &[u8], fact: Option<[u8; 4]>, pieces: &[Range<u64>]) -> PatchedFile {
    let size = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let mut header = b"WAVEfmt ".to_vec();
    header.extend(size(format.len() as u64));
    header.extend(format);
    header.resize(header.len().next_multiple_of(2), 0);
    if let Some(samples) = fact {
        header.extend(b"fact\x04\0\0\0");
        header.extend(samples);
    }
    let samples: u64 = pieces.iter().map(|piece| piece.end - piece.start).sum();
    header.extend(b"data");
    header.extend(size(samples));
    let whole =
        if samples < u64::from(u32::MAX) - HEADERS { samples + header.len() as u64 } else { u64::MAX };
    let file = PatchedFile::default().bytes(*b"RIFF").bytes(size(whole)).bytes(header);
    pieces.iter().fold(file, |file, piece| file.source(piece.start, piece.end))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A format with this number of channels, bytes per sample, stated bits and valid bits.
    fn format(channels: u16, bytes: u16, bits: u16, valid: Option<u16>) -> Vec<u8> {
        let block = channels * bytes;
        let tag: u16 = if valid.is_some() { 0xfffe } else { 1 };
        let mut format = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
        format.extend(24_000_u32.to_le_bytes());
        format.extend((24_000 * u32::from(block)).to_le_bytes());
        format.extend([block.to_le_bytes(), bits.to_le_bytes()].concat());
        if let Some(valid) = valid {
            format.extend([22, 0]);
            format.extend(valid.to_le_bytes());
            format.extend([4, 0, 0, 0, 1, 0]);
            format.extend(EXTENSIBLE);
        }
        format
    }

    fn chunk(kind: &[u8; 4], size: u32, content: &[u8]) -> Vec<u8> {
        [kind.as_slice(), &size.to_le_bytes(), content].concat()
    }

    fn file(form: &[u8; 4], chunks: &[Vec<u8>]) -> Vec<u8> {
        let chunks = chunks.concat();
        [form.as_slice(), &(chunks.len() as u32 + 4).to_le_bytes(), b"WAVE", &chunks].concat()
    }

    fn read(file: &[u8]) -> Sizes {
        wav(&mut Cursor::new(file), 25 << 20).unwrap()
    }

    /// The samples of the patched file.
    fn rewritten(file: &[u8]) -> Vec<u8> {
        let Sizes::Rewritten(plain) = read(file) else { panic!("{:?}", read(file)) };
        let mut written = Vec::new();
        plain.write(&mut Cursor::new(file), &mut written).unwrap();
        assert_eq!(read(&written), Sizes::Usable, "the patched file needs another patch");
        let data = written.windows(4).position(|found| found == b"data").unwrap();
        assert_eq!(written[data + 4..data + 8], (written.len() as u32 - data as u32 - 8).to_le_bytes());
        assert_eq!(written[4..8], (written.len() as u32 - 8).to_le_bytes());
        written.split_off(data + 8)
    }

    #[test]
    fn integers_narrower_than_their_bytes_are_left_aligned() {
        for (channels, bytes, bits, valid) in [
            (1, 4, 32, Some(24)),
            (2, 4, 32, Some(24)),
            (1, 4, 24, Some(24)),
            (1, 4, 32, Some(20)),
            (1, 3, 24, Some(20)),
            (2, 2, 16, Some(12)),
            (1, 2, 16, Some(8)),
            (1, 4, 24, None),
            (1, 3, 20, None),
        ] {
            let before = format(channels, bytes, bits, valid);
            let after =
                whole_containers(&before).unwrap_or_else(|| panic!("{bytes} bytes, {bits} bits, {valid:?}"));
            assert_eq!(number(&after, 14), Some(bytes * 8));
            assert_eq!(valid.and(number(&after, 18)), valid.map(|_| bytes * 8));
            assert_eq!(whole_containers(&after), None);
        }
    }

    #[test]
    fn unambiguous_wav_is_not_patched() {
        for (bytes, bits, valid) in
            [(1, 8, None), (2, 16, None), (3, 24, None), (4, 32, None), (2, 16, Some(16)), (4, 32, Some(32))]
        {
            assert_eq!(whole_containers(&format(1, bytes, bits, valid)), None, "{bytes} {bits} {valid:?}");
        }
        // A block size that no other number confirms is ignored.
        let mut contradictory = format(1, 2, 16, None);
        contradictory[12..14].copy_from_slice(&[8, 0]);
        assert_eq!(whole_containers(&contradictory), None);
    }

    #[test]
    fn sample_chunks_are_joined_at_whole_samples() {
        let fmt = chunk(b"fmt ", 16, &format(1, 2, 16, None));
        let first = chunk(b"data", 4, b"abcd");
        let odd = chunk(b"data", 3, b"efg\0");
        let list = chunk(b"LIST", 4, b"INFO");
        assert_eq!(read(&file(b"RIFF", &[fmt.clone(), first.clone()])), Sizes::Usable);
        assert_eq!(rewritten(&file(b"RIFF", &[fmt.clone(), first.clone(), list, odd])), b"abcdef");
        let other = chunk(b"fmt ", 16, &format(2, 2, 16, None));
        assert_eq!(read(&file(b"RIFF", &[fmt, first.clone(), other, first])), Sizes::Faulty(Fault::Several));
    }

    #[test]
    fn recordings_of_unknown_size_are_joined_if_their_formats_match() {
        let fmt = chunk(b"fmt ", 16, &format(1, 2, 16, None));
        for open in [u32::MAX, 0x7fff_ffff, 0] {
            let one = |samples: &[u8]| file(b"RIFF", &[fmt.clone(), chunk(b"data", open, samples)]);
            assert_eq!(rewritten(&[one(b"abcd"), one(b"ef"), one(b"ghi")].concat()), b"abcdefgh");
            assert_eq!(rewritten(&[one(b"abcd"), one(b"ef")[..20].to_vec()].concat()), b"abcd");
            let sized = file(b"RIFF", &[fmt.clone(), chunk(b"data", 2, b"ef"), chunk(b"LIST", 4, b"INFO")]);
            assert_eq!(rewritten(&[one(b"abcd"), sized.clone()].concat()), b"abcdef");
            assert_eq!(rewritten(&[one(b"abcd"), sized, one(b"gh")].concat()), b"abcdefgh");
            let other = [chunk(b"fmt ", 16, &format(2, 2, 16, None)), chunk(b"data", open, b"efgh")];
            assert_eq!(read(&[one(b"abcd"), file(b"RIFF", &other)].concat()), Sizes::Faulty(Fault::Several));
        }
    }

    #[test]
    fn rf64_is_read_by_its_64_bit_size() {
        let fmt = chunk(b"fmt ", 16, &format(1, 2, 16, None));
        let sizes = [60_u64.to_le_bytes(), 4_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat();
        let chunks =
            [chunk(b"ds64", 24, &sizes), fmt, chunk(b"data", u32::MAX, b"abcd"), chunk(b"axml", 4, b"more")];
        for form in [b"RF64", b"BW64"] {
            assert_eq!(rewritten(&file(form, &chunks)), b"abcd");
        }
    }
}
