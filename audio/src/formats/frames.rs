//! Reads files that consist of consecutive frames (MP3, ADTS, AMR) to the last byte.
//!
//! Data around the frames may contradict them: the information frame of the first of several joined files, or of an
//! incomplete download, states another number of frames, and players believe it. A copy of the frames alone contains no
//! contradiction.

use std::ops::Range;

use voicegate_providers::Container;

use crate::formats::mp4::RATES;
use crate::formats::mpeg::{FrameHeader, id3_length};

/// Upper limit of tags, in bytes. A tag may contain a large cover picture, but a voice note should not.
pub(crate) const LARGEST_TAG: u64 = 64 << 10;

/// Bytes of header and side information of MP3, from which decoders complete a truncated frame.
const LEAST_OF_FRAME: usize = 40;

const AMR_NARROW: &[u8] = b"#!AMR\n";
const AMR_WIDE: &[u8] = b"#!AMR-WB\n";

/// Contents of a file of frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Byte ranges of consecutive whole frames with sound.
    pub runs: Vec<Range<usize>>,
    /// All frames have one kind, rate and number of channels.
    pub alike: bool,
    /// Around the frames there is only data that players skip.
    pub bare: bool,
    /// A header states a wrong number of frames or bytes.
    pub miscounted: bool,
    /// The information frame, which contains no sound.
    information: Option<Range<usize>>,
    /// Bytes of all tags.
    pub tags: u64,
    /// Sample rate of the first frame, in Hz.
    pub rate: u32,
    /// Samples in all frames, at that rate.
    pub samples: u64,
}

impl Stream {
    /// Whether every player reads the file in the same way.
    pub fn is_clean(&self) -> bool {
        self.alike && self.bare && !self.miscounted
    }

    /// The frames alone, with the magic number of AMR. A correct information frame is kept.
    pub fn copy(&self, bytes: &[u8]) -> Vec<u8> {
        let mark =
            [AMR_WIDE, AMR_NARROW].into_iter().find(|mark| bytes.starts_with(mark)).unwrap_or_default();
        let mut copy = mark.to_vec();
        let information = self.information.clone().filter(|_| !self.miscounted && self.alike);
        copy.extend_from_slice(information.map_or(&[], |at| &bytes[at]));
        self.runs.iter().for_each(|run| copy.extend_from_slice(&bytes[run.clone()]));
        copy
    }

    fn frame(&mut self, at: Range<usize>) {
        match self.runs.last_mut() {
            Some(last) if last.end == at.start => last.end = at.end,
            _ => self.runs.push(at),
        }
    }
}

/// Returns `None` if there are no frames, or if some bytes are neither frame nor tag.
pub(crate) fn read(bytes: &[u8], container: Container) -> Option<Stream> {
    let stream = match container {
        Container::Mp3 => mp3(bytes),
        Container::Adts => adts(bytes),
        Container::Amr => amr(bytes),
        _ => None,
    };
    stream.filter(|stream| !stream.runs.is_empty())
}

/// Length of a tag at the start of `rest`, of any kind that is written at the start or the end of a file.
fn tag_length(rest: &[u8]) -> Option<usize> {
    let length = match rest {
        [b'I', b'D', b'3', ..] => id3_length(rest),
        [b'T', b'A', b'G', ..] => 128,
        // A header of 32 bytes may precede the items, and a footer always follows; the size does not include the
        // header. <https://wiki.hydrogenaudio.org/index.php?title=APE_Tags_Header>
        [b'A', b'P', b'E', b'T', b'A', b'G', b'E', b'X', ..] => {
            let size = u32::from_le_bytes(*rest.get(12..)?.first_chunk()?);
            let flags = u32::from_le_bytes(*rest.get(20..)?.first_chunk()?);
            let is_header = flags & (1 << 29) != 0;
            if is_header { usize::try_from(size).ok()?.checked_add(32)? } else { 32 }
        }
        _ => return None,
    };
    (length > 0 && length <= rest.len()).then_some(length)
}

fn mp3(bytes: &[u8]) -> Option<Stream> {
    let mut stream = Stream { alike: true, bare: true, ..Stream::default() };
    let mut kind: Option<FrameHeader> = None;
    let mut counted: Vec<InformationFrame> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if let Some(length) = tag_length(rest) {
            // One tag may precede the first frame, and one may follow the last.
            let is_at_end = at + length == bytes.len();
            stream.bare &= at == 0 || is_at_end;
            stream.tags += length as u64;
            at += length;
            continue;
        }
        let Some(header) = FrameHeader::parse(rest).filter(|header| header.layer == 3) else {
            // Reserved space that was not used.
            if kind.is_some() && rest.iter().all(|&byte| byte == 0) {
                stream.bare = false;
                break;
            }
            return None;
        };
        let Some(frame) = rest.get(..header.length) else {
            // A truncated last frame.
            stream.bare &= rest.len() >= LEAST_OF_FRAME;
            break;
        };
        match kind {
            None => kind = Some(header),
            Some(first) => stream.alike &= first.continues(&header) && first.channels == header.channels,
        }
        match InformationFrame::of(&header, frame) {
            Some(count) => {
                // Only the first frame of a file may be an information frame.
                stream.bare &= counted.is_empty() && stream.runs.is_empty();
                counted.push(InformationFrame { at, ..count });
            }
            None => {
                stream.rate = kind.map_or(0, |first| first.sample_rate);
                stream.samples += u64::from(header.samples);
                counted.iter_mut().for_each(|count| count.found += 1);
                stream.frame(at..at + header.length);
            }
        }
        at += header.length;
    }
    let end = stream.runs.last().map_or(0, |run| run.end);
    stream.miscounted = counted.iter().any(|count| !count.agrees(end, bytes.len()));
    if let ([only], Some(first)) = (counted.as_slice(), stream.runs.first()) {
        stream.information = Some(only.at..only.at + only.length).filter(|at| at.end == first.start);
    }
    Some(stream)
}

/// An information frame.
struct InformationFrame {
    at: usize,
    length: usize,
    frames: Option<u64>,
    bytes: Option<u64>,
    /// Number of frames after it.
    found: u64,
}

impl InformationFrame {
    /// Parses the frame. The VBRI header of Fraunhofer's encoders has a fixed offset.
    /// <http://gabriel.mp3-tech.org/mp3infotag.html>
    fn of(header: &FrameHeader, frame: &[u8]) -> Option<Self> {
        let number = |at: usize| -> Option<u64> {
            Some(u64::from(u32::from_be_bytes(*frame.get(at..)?.first_chunk()?)))
        };
        let made = |frames, bytes| Some(Self { at: 0, length: frame.len(), frames, bytes, found: 0 });
        if frame.get(36..40).is_some_and(|mark| mark == b"VBRI") {
            return made(number(50), number(46));
        }
        let mark = header.information_at();
        if !frame.get(mark..mark + 4).is_some_and(|found| found == b"Info" || found == b"Xing") {
            return None;
        }
        let flags = number(mark + 4).unwrap_or(0);
        let frames = if flags & 1 != 0 { number(mark + 8) } else { None };
        let bytes = if flags & 2 != 0 { number(mark + 8 + 4 * (flags & 1) as usize) } else { None };
        made(frames, bytes)
    }

    /// Whether the stated numbers are right. Some encoders also count the information frame, or its bytes, or the tag
    /// at the end.
    fn agrees(&self, end: usize, length: usize) -> bool {
        let frames = self.frames.is_none_or(|stated| (self.found..=self.found + 1).contains(&stated));
        // After the last frame it counts nothing.
        let (least, most) = (end.saturating_sub(self.at + self.length) as u64, (length - self.at) as u64);
        let near = self.length as u64 / 2;
        // Zero means that the length was not known.
        let bytes = self
            .bytes
            .is_none_or(|stated| stated == 0 || (least.saturating_sub(near)..=most + near).contains(&stated));
        (frames || self.frames == Some(0)) && bytes
    }
}

fn adts(bytes: &[u8]) -> Option<Stream> {
    let mut stream = Stream { alike: true, bare: true, ..Stream::default() };
    let mut kind = None;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if let Some(length) = tag_length(rest) {
            stream.bare = false;
            stream.tags += length as u64;
            at += length;
            continue;
        }
        let Some(&[sync, id, a, b, c, d, _]) = rest.first_chunk::<7>() else {
            stream.bare = false;
            break;
        };
        let length = usize::from(b & 3) << 11 | usize::from(c) << 3 | usize::from(d >> 5);
        if sync != 0xff || id & 0xf6 != 0xf0 || length < 7 {
            return None;
        }
        // Version, object type, rate and channels must not change; the presence of a checksum may.
        let found = (id & 0xfe, a & !2, b & 0xc0);
        stream.alike &= kind.replace(found).is_none_or(|last| last == found);
        if length > rest.len() {
            stream.bare = false;
            break;
        }
        stream.rate = *RATES.get(usize::from(a >> 2 & 15))?;
        stream.samples += 1024 * (u64::from(rest[6] & 3) + 1);
        stream.frame(at..at + length);
        at += length;
    }
    Some(stream)
}

/// Reads AMR. <https://www.rfc-editor.org/rfc/rfc4867#section-5.3>
fn amr(bytes: &[u8]) -> Option<Stream> {
    /// Frame lengths by type, in bytes: speech, comfort noise (8), and frames that were lost or not sent (14 and 15). A
    /// length of 0 marks a reserved type.
    const NARROW: [usize; 16] = [13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 1, 1];
    const WIDE: [usize; 16] = [18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1];
    let (mark, lengths, rate) = match bytes.strip_prefix(AMR_WIDE) {
        Some(_) => (AMR_WIDE, WIDE, 16_000),
        None => (AMR_NARROW, NARROW, 8_000),
    };
    let mut stream = Stream { alike: true, bare: true, rate, ..Stream::default() };
    let mut at = bytes.strip_prefix(mark).map(|_| mark.len())?;
    while at < bytes.len() {
        let rest = &bytes[at..];
        // Another recording follows with its magic number. No frame begins like that.
        if rest.starts_with(mark) {
            stream.bare = false;
            at += mark.len();
            continue;
        }
        let length = lengths[usize::from(rest[0] >> 3 & 15)];
        if length == 0 || rest[0] & 0x83 != 0 {
            return None;
        }
        if length > rest.len() {
            stream.bare = false;
            break;
        }
        stream.samples += u64::from(stream.rate) / 50;
        stream.frame(at..at + length);
        at += length;
    }
    Some(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio");
        std::fs::read(folder.join(name)).unwrap()
    }

    /// Reads a file, and reads the copy of its frames.
    fn both(bytes: &[u8], container: Container) -> (Stream, Stream) {
        let stream = read(bytes, container).unwrap();
        let again = read(&stream.copy(bytes), container).unwrap();
        (stream, again)
    }

    #[test]
    fn clean_fixtures_have_only_frames_and_tags() {
        for (name, container) in [
            ("speech-24k.mp3", Container::Mp3),
            ("speech-cover.mp3", Container::Mp3),
            ("stereo-dual-mono.mp3", Container::Mp3),
            ("speech.aac", Container::Adts),
            ("speech.amr", Container::Amr),
        ] {
            let (stream, again) = both(&fixture(name), container);
            assert!(stream.is_clean() && again.is_clean(), "{name}: {stream:?}");
        }
    }

    #[test]
    fn wrong_information_frame_is_dropped() {
        let whole = fixture("speech-24k.mp3");
        let (stream, _) = both(&whole, Container::Mp3);
        let end = stream.runs[0].end;
        let cut = &whole[..stream.runs[0].start + 96 * 40];
        for (bytes, frames) in
            [([whole.as_slice(), &whole].concat(), 2 * (end - stream.runs[0].start)), (cut.to_vec(), 96 * 40)]
        {
            let (stream, again) = both(&bytes, Container::Mp3);
            assert!(stream.miscounted && !stream.is_clean());
            assert!(again.is_clean(), "{again:?}");
            assert_eq!(again.runs.first(), Some(&(0..frames)));
        }
    }

    #[test]
    fn joined_recordings_lose_no_frame() {
        let amr = fixture("speech.amr");
        let (stream, again) = both(&[amr.as_slice(), &amr].concat(), Container::Amr);
        assert!(!stream.is_clean() && again.is_clean());
        assert_eq!(again.runs.first(), Some(&(6..2 * amr.len() - 6)));
        let aac = fixture("speech.aac");
        let (stream, _) = both(&[aac.as_slice(), &aac].concat(), Container::Adts);
        assert!(stream.is_clean());
        let mut other = aac.clone();
        other[2] ^= 0x04;
        assert!(!read(&[aac, other].concat(), Container::Adts).unwrap().alike);
    }

    #[test]
    fn bytes_between_frames_are_not_accepted() {
        let mp3 = fixture("speech-24k.mp3");
        assert_eq!(
            read(&[mp3.as_slice(), b"something that does not belong there"].concat(), Container::Mp3),
            None
        );
        let zeros = read(&[mp3.as_slice(), &[0; 300]].concat(), Container::Mp3).unwrap();
        assert!(!zeros.is_clean());
        let tag = [b"TAG".as_slice(), &[b' '; 125]].concat();
        assert!(read(&[mp3.as_slice(), &tag].concat(), Container::Mp3).unwrap().is_clean());
        assert!(!read(&[mp3.as_slice(), &tag, &mp3].concat(), Container::Mp3).unwrap().is_clean());
    }
}
