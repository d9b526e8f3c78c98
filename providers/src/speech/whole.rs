//! The proof that spoken audio is complete, by the lengths that the audio states about itself.
//!
//! A server that dies in the middle of a sentence, or something on the way to it, may end its answer properly. Decoders
//! are lenient about that, and half of the sentence would be sent. So audio is refused whose own structure says that
//! more should follow. Kinds that are not listed here are judged by decoding them.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::Raw;

/// Sizes from here on are placeholders of writers that did not know the size when they began. No speech is as large.
const PLACEHOLDER: u64 = 500_000_000;

/// Whether audio is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing says that something is missing.
    Whole,
    /// The reason, as the continuation of "the speech broke off: ".
    Half(&'static str),
}

/// Judges a file from its beginning. `raw` is the format if it should be headerless samples.
///
/// # Errors
/// The file cannot be read.
pub fn judge(file: &mut (impl Read + Seek), raw: Option<Raw>) -> io::Result<Verdict> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut file = Reader { file: BufReader::new(file), length };
    let head: [u8; 12] = file.at(0)?.unwrap_or_default();
    let mpeg = after_tags(&mut file)?;
    match &head {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'] => wav(&mut file),
        [b'O', b'g', b'g', b'S', ..] => ogg(&mut file),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => mp4(&mut file),
        [b'f', b'L', b'a', b'C', ..] => Ok(Verdict::Whole),
        [b'I', b'D', b'3', ..] => frames(&mut file, mpeg),
        _ => match raw {
            Some(raw) if length % raw.frame() != 0 => Ok(Verdict::Half("the last sample is incomplete")),
            Some(_) => Ok(Verdict::Whole),
            None => frames(&mut file, 0),
        },
    }
}

struct Reader<R> {
    file: BufReader<R>,
    length: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// The bytes at a position. `None` if the file ends before.
    fn at<const N: usize>(&mut self, position: u64) -> io::Result<Option<[u8; N]>> {
        if position.saturating_add(N as u64) > self.length {
            return Ok(None);
        }
        let here = self.file.stream_position()?;
        self.file.seek_relative(position as i64 - here as i64)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn left(&self, position: u64) -> u64 {
        self.length.saturating_sub(position)
    }
}

fn wav(file: &mut Reader<impl Read + Seek>) -> io::Result<Verdict> {
    const CUT: Verdict = Verdict::Half("its header states more samples than there are");
    let (mut position, mut block) = (12, 0_u64);
    while let Some([a, b, c, d, s0, s1, s2, s3]) = file.at(position)? {
        let (kind, size) = ([a, b, c, d], u64::from(u32::from_le_bytes([s0, s1, s2, s3])));
        let start = position + 8;
        if &kind == b"fmt " {
            block = file.at(start + 12)?.map_or(0, |bytes| u64::from(u16::from_le_bytes(bytes)));
        }
        if &kind == b"data" {
            let left = file.left(start);
            let is_open = size == 0 || size >= PLACEHOLDER;
            return Ok(match is_open {
                true if block > 0 && !left.is_multiple_of(block) => {
                    Verdict::Half("the last sample is incomplete")
                }
                true => Verdict::Whole,
                false if size > left => CUT,
                false => Verdict::Whole,
            });
        }
        position = start + size + size % 2;
    }
    // The samples never came.
    Ok(Verdict::Half("its header is not followed by samples"))
}

/// The last page of a stream is complete and marked as the last: RFC 3533, section 6.
fn ogg(file: &mut Reader<impl Read + Seek>) -> io::Result<Verdict> {
    const LAST: u8 = 4;
    let (mut position, mut ended) = (0, false);
    while let Some(header) = file.at::<27>(position)? {
        if !header.starts_with(b"OggS") {
            break;
        }
        let mut size = 27 + u64::from(header[26]);
        for segment in 0..u64::from(header[26]) {
            match file.at::<1>(position + 27 + segment)? {
                Some([lacing]) => size += u64::from(lacing),
                None => return Ok(Verdict::Half("its last page is incomplete")),
            }
        }
        if size > file.left(position) {
            return Ok(Verdict::Half("its last page is incomplete"));
        }
        ended = header[5] & LAST != 0;
        position += size;
    }
    let rest = file.left(position);
    Ok(match ended {
        true => Verdict::Whole,
        false if rest > 0 => Verdict::Half("its last page is incomplete"),
        false => Verdict::Half("its last page is missing"),
    })
}

fn mp4(file: &mut Reader<impl Read + Seek>) -> io::Result<Verdict> {
    let mut position = 0;
    while let Some([s0, s1, s2, s3, ..]) = file.at::<8>(position)? {
        let size = match u64::from(u32::from_be_bytes([s0, s1, s2, s3])) {
            0 => return Ok(Verdict::Whole), // up to the end of the file
            1 => file.at(position + 8)?.map_or(u64::MAX, u64::from_be_bytes),
            size => size,
        };
        if size > file.left(position) {
            return Ok(Verdict::Half("one of its boxes is incomplete"));
        }
        position += size.max(8);
    }
    Ok(if file.left(position) == 0 {
        Verdict::Whole
    } else {
        Verdict::Half("one of its boxes is incomplete")
    })
}

/// The position after the ID3v2 tags at the beginning.
fn after_tags(file: &mut Reader<impl Read + Seek>) -> io::Result<u64> {
    let mut position = 0;
    while let Some([b'I', b'D', b'3', _, _, _, sizes @ ..]) = file.at::<10>(position)? {
        let size = sizes.iter().fold(0_u64, |size, byte| size << 7 | u64::from(byte & 0x7f));
        position += 10 + size;
    }
    Ok(position)
}

/// MP3 and AAC in ADTS: every frame states its length.
fn frames(file: &mut Reader<impl Read + Seek>, start: u64) -> io::Result<Verdict> {
    const CUT: Verdict = Verdict::Half("its last frame is incomplete");
    let (mut position, mut count) = (start, 0_u64);
    let mut promised = None;
    while let Some(header) = file.at::<6>(position)? {
        let Some(frame) = Frame::read(header) else { break };
        if frame.size > file.left(position) {
            return Ok(CUT);
        }
        if position == start
            && let Some(info) = frame.info
        {
            promised = promise(file, position + info)?;
        }
        count += 1;
        position += frame.size;
    }
    if count == 0 {
        // No file of this kind; or a tag without anything behind it.
        return Ok(if start > 0 {
            Verdict::Half("its tag is not followed by sound")
        } else {
            Verdict::Whole
        });
    }
    if let Some(Promise { frames, bytes }) = promised {
        // The frame with the numbers has no sound and is not counted among them.
        if frames.is_some_and(|frames| frames > count) || bytes.is_some_and(|bytes| bytes > file.left(start))
        {
            return Ok(Verdict::Half("its header states more frames than there are"));
        }
    }
    // A frame that begins within the last bytes.
    let rest = file.left(position);
    let begins = if rest < 6 {
        file.at::<2>(position)?.is_some_and(|[a, b]| a == 0xff && b & 0xe0 == 0xe0)
    } else {
        false
    };
    Ok(if begins { CUT } else { Verdict::Whole })
}

/// The numbers that an MP3 file states about itself.
struct Promise {
    frames: Option<u64>,
    bytes: Option<u64>,
}

/// Reads the header of Xing, which LAME and ffmpeg write as well. Zeros are placeholders.
fn promise(file: &mut Reader<impl Read + Seek>, position: u64) -> io::Result<Option<Promise>> {
    let Some([name @ .., _, _, _, flags]) = file.at::<8>(position)? else { return Ok(None) };
    if !matches!(&name, b"Xing" | b"Info") {
        return Ok(None);
    }
    let mut next = position + 8;
    let mut number = |flag: u8| -> io::Result<Option<u64>> {
        if flags & flag == 0 {
            return Ok(None);
        }
        let value = file.at(next)?.map(|bytes| u64::from(u32::from_be_bytes(bytes)));
        next += 4;
        Ok(value.filter(|value| (1..PLACEHOLDER).contains(value)))
    };
    Ok(Some(Promise { frames: number(1)?, bytes: number(2)? }))
}

struct Frame {
    size: u64,
    /// The offset at which an MP3 frame may have the header of Xing.
    info: Option<u64>,
}

impl Frame {
    fn read([a, b, c, d, e, f]: [u8; 6]) -> Option<Self> {
        const V1: [u64; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
        const V2: [u64; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
        if a != 0xff {
            return None;
        }
        if b & 0xf6 == 0xf0 {
            // ADTS: ISO 14496-3, 1.A.2
            let size = u64::from(d & 3) << 11 | u64::from(e) << 3 | u64::from(f >> 5);
            return (size >= 7).then_some(Self { size, info: None });
        }
        // MPEG audio, layer III: ISO 11172-3, 2.4.2.3
        let (version, layer) = (b >> 3 & 3, b >> 1 & 3);
        if b & 0xe0 != 0xe0 || version == 1 || layer != 1 {
            return None;
        }
        let is_v1 = version == 3;
        let rate = [44_100, 48_000, 32_000].get(usize::from(c >> 2 & 3))?
            >> match version {
                3 => 0,
                2 => 1,
                _ => 2,
            };
        let kbits = *(if is_v1 { V1 } else { V2 }).get(usize::from(c >> 4))?;
        if kbits == 0 {
            return None; // of any size
        }
        let size = (if is_v1 { 144_000 } else { 72_000 }) * kbits / rate + u64::from(c >> 1 & 1);
        let is_mono = d >> 6 == 3;
        let side = match (is_v1, is_mono) {
            (true, false) => 32,
            (true, true) | (false, false) => 17,
            (false, true) => 9,
        };
        Some(Self { size, info: Some(4 + side) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn judged(bytes: &[u8], raw: Option<Raw>) -> Verdict {
        judge(&mut Cursor::new(bytes), raw).expect("memory can be read")
    }

    fn is_half(bytes: &[u8]) -> bool {
        judged(bytes, None) != Verdict::Whole
    }

    fn wav(stated: u32, samples: usize) -> Vec<u8> {
        let mut file = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend(24_000_u32.to_le_bytes());
        file.extend(48_000_u32.to_le_bytes());
        file.extend(b"\x02\0\x10\0data");
        file.extend(stated.to_le_bytes());
        file.resize(file.len() + samples, 7);
        file
    }

    /// 24 kHz, 64 kbit/s, mono: 192 bytes each.
    fn mp3(frames: usize) -> Vec<u8> {
        let mut frame = vec![0xff, 0xf3, 0x84, 0xc4];
        frame.resize(192, 0);
        frame.repeat(frames)
    }

    fn ogg(pages: usize, ended: bool) -> Vec<u8> {
        (0..pages)
            .flat_map(|page| {
                let mut bytes = vec![0; 27];
                bytes[..4].copy_from_slice(b"OggS");
                bytes[5] = if ended && page + 1 == pages { 4 } else { 0 };
                bytes[26] = 2;
                bytes.extend([255, 10]);
                bytes.resize(29 + 265, 1);
                bytes
            })
            .collect()
    }

    #[test]
    fn placeholder_sizes_of_a_streamed_wav_are_no_contradiction() {
        for stated in [0, u32::MAX, u32::MAX - 36, 0x7fff_ffff, 0x7fff_0000, 2_000_000_000] {
            assert_eq!(judged(&wav(stated, 4800), None), Verdict::Whole, "{stated}");
            assert!(is_half(&wav(stated, 4801)), "half of a sample: {stated}");
        }
        assert_eq!(judged(&wav(4800, 4800), None), Verdict::Whole);
        assert!(is_half(&wav(4800, 4798)) && is_half(&wav(4800, 0)) && is_half(&wav(4800, 0)[..40]));
    }

    #[test]
    fn file_cut_anywhere_is_half_where_its_structure_tells() {
        let mut tagged = b"ID3\x04\0\0\0\0\0\x05hello".to_vec();
        tagged.extend(mp3(5));
        for whole in [wav(4800, 4800), mp3(5), tagged, ogg(3, true)] {
            assert_eq!(judged(&whole, None), Verdict::Whole);
            // A cut behind a whole frame of MP3 is the one that nothing tells.
            let half = &whole[..whole.len() * 2 / 3 + 1];
            assert!(is_half(half), "{} of {} bytes", half.len(), whole.len());
        }
        assert!(is_half(&ogg(3, false)), "its last page is missing");
    }

    #[test]
    fn frames_that_the_header_promises_have_to_be_there() {
        let mut file = mp3(6);
        // Mono of the second version: the numbers are 13 bytes into the first frame.
        file[13..21].copy_from_slice(b"Info\0\0\0\x01");
        file[21..25].copy_from_slice(&5_u32.to_be_bytes());
        assert_eq!(judged(&file, None), Verdict::Whole);
        file[21..25].copy_from_slice(&50_u32.to_be_bytes());
        assert!(is_half(&file));
        file[21..25].copy_from_slice(&0_u32.to_be_bytes());
        assert_eq!(judged(&file, None), Verdict::Whole, "a placeholder");
    }

    #[test]
    fn headerless_samples_have_a_whole_number_of_them() {
        let raw = Raw::s16le(24_000);
        assert_eq!(judged(&[7; 4800], Some(raw)), Verdict::Whole);
        assert!(judged(&[7; 4801], Some(raw)) != Verdict::Whole);
        assert!(judged(&[7; 4802], Some(Raw { channels: 2, ..raw })) != Verdict::Whole);
    }

    #[test]
    fn a_tag_behind_the_sound_is_no_frame() {
        let mut file = mp3(5);
        file.extend(b"TAG");
        file.resize(192 * 5 + 128, 0);
        assert_eq!(judged(&file, None), Verdict::Whole);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_a_verdict(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600), lead in 0_usize..6) {
            let leads: [&[u8]; 6] = [b"", b"RIFF\0\0\0\0WAVEdata", b"OggS", b"\0\0\0\x10ftyp", b"ID3\x04\0\0\0\0\0\x05", b"\xff\xfb\x90\0"];
            let file: Vec<u8> = leads[lead].iter().copied().chain(bytes).collect();
            judged(&file, None);
            judged(&file, Some(Raw::s16le(8_000)));
        }
    }
}
