//! MPEG audio frames: MP3 and the older layers, and AAC in ADTS.

use std::io::{self, Read};

/// The header of an MPEG-1, -2 or -2.5 audio frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Version as in the header: 3 is MPEG-1, 2 is MPEG-2, 0 is MPEG-2.5.
    pub version: u8,
    pub layer: u8,
    pub sample_rate: u32,
    pub channels: u8,
    /// Length in bytes, header included.
    pub length: usize,
    pub samples: u32,
}

const RATES: [u32; 3] = [44_100, 48_000, 32_000];
/// Bit rates in kbit/s by version and layer. Index 0 is the free format, which is not used and has no known length.
const LAYER1_V1: [u32; 15] = [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448];
const LAYER2_V1: [u32; 15] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];
const LAYER3_V1: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const LAYER1_V2: [u32; 15] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256];
const LAYER23_V2: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

impl FrameHeader {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[sync, kind, rates, mode] = bytes.first_chunk::<4>()?;
        if sync != 0xff || kind & 0xe0 != 0xe0 {
            return None;
        }
        let version = (kind >> 3) & 3;
        let layer = 4_u8.checked_sub((kind >> 1) & 3).filter(|&layer| layer < 4)?;
        let bitrate = usize::from(rates >> 4);
        let rate = *RATES.get(usize::from((rates >> 2) & 3))?;
        if version == 1 || bitrate == 0 || bitrate == 15 {
            return None;
        }
        let mpeg1 = version == 3;
        let table = match (mpeg1, layer) {
            (true, 1) => LAYER1_V1,
            (true, 2) => LAYER2_V1,
            (true, _) => LAYER3_V1,
            (false, 1) => LAYER1_V2,
            (false, _) => LAYER23_V2,
        };
        let sample_rate = match version {
            3 => rate,
            2 => rate / 2,
            _ => rate / 4,
        };
        let samples: u32 = match (layer, mpeg1) {
            (1, _) => 384,
            (3, false) => 576,
            _ => 1152,
        };
        let bits = table[bitrate] * 1000;
        let padding = u32::from((rates >> 1) & 1);
        let length = match layer {
            1 => (12 * bits / sample_rate + padding) * 4,
            _ => samples / 8 * bits / sample_rate + padding,
        };
        let channels = if mode >> 6 == 3 { 1 } else { 2 };
        Some(Self { version, layer, sample_rate, channels, length: length as usize, samples })
    }

    pub fn continues(&self, next: &Self) -> bool {
        (self.version, self.layer, self.sample_rate) == (next.version, next.layer, next.sample_rate)
    }

    /// The first header, if `count` frames of one kind follow each other from the start of `bytes`.
    pub fn run(bytes: &[u8], count: usize) -> Option<Self> {
        let first = Self::parse(bytes)?;
        let mut at = first.length;
        for _ in 1..count {
            let next = Self::parse(bytes.get(at..)?).filter(|next| first.continues(next))?;
            at += next.length;
        }
        Some(first)
    }
}

impl FrameHeader {
    /// Offset of the marker of an information frame.
    pub fn information_at(&self) -> usize {
        match (self.version == 3, self.channels) {
            (true, 2) => 36,
            (true, _) | (false, 2) => 21,
            (false, _) => 13,
        }
    }
}

/// Contents of an information frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Information {
    pub frames: u64,
    /// Bytes from this frame to the end.
    pub bytes: Option<u64>,
    /// Samples that players drop at the start, less the delay that a decoder adds.
    pub start: u64,
    /// Samples that players drop at the end, plus the delay that a decoder adds.
    pub end: u64,
}

/// Parses an information frame. Returns `Some(None)` for a frame with sound, and `None` if players differ about the
/// frame. <http://gabriel.mp3-tech.org/mp3infotag.html>
pub(crate) fn information(frame: &[u8]) -> Option<Option<Information>> {
    /// Samples that every decoder adds at the start. A shorter end cannot be trimmed.
    const DECODER_DELAY: u64 = 529;
    let header = FrameHeader::parse(frame)?;
    if frame.get(36..40).is_some_and(|mark| mark == b"VBRI") {
        return None;
    }
    let Some(rest) = frame.get(header.information_at()..) else { return Some(None) };
    let Some(rest) = rest.strip_prefix(b"Info").or_else(|| rest.strip_prefix(b"Xing")) else {
        return Some(None);
    };
    let (flags, mut rest) = rest.split_first_chunk::<4>()?;
    let flags = u32::from_be_bytes(*flags);
    let (mut frames, mut bytes) = (None, None);
    for (bit, length) in [(1, 4), (2, 4), (4, 100), (8, 4)] {
        if flags & bit != 0 {
            let (field, after) = rest.split_at_checked(length)?;
            match bit {
                1 => frames = Some(u32::from_be_bytes(*field.first_chunk()?)),
                2 => bytes = Some(u64::from(u32::from_be_bytes(*field.first_chunk()?))),
                _ => {}
            }
            rest = after;
        }
    }
    // Only these encoders write the following fields correctly.
    let known = [b"LAME", b"Lavf", b"Lavc"].iter().any(|name| rest.starts_with(*name));
    let &[a, b, c] = rest.get(21..24)?.first_chunk()?;
    let start = (u64::from(a) << 4) | u64::from(b >> 4);
    let end = (u64::from(b & 15) << 8) | u64::from(c);
    let frames = u64::from(frames.filter(|_| known && end >= DECODER_DELAY)?);
    Some(Some(Information { frames, bytes, start, end }))
}

/// Whether `count` ADTS frames of one kind follow each other from the start of `bytes`.
pub(crate) fn is_adts(mut bytes: &[u8], count: usize) -> bool {
    let Some((_, first)) = adts(bytes) else { return false };
    for _ in 0..count {
        match adts(bytes) {
            Some((length, fixed)) if fixed == first => bytes = bytes.get(length..).unwrap_or_default(),
            _ => return false,
        }
    }
    true
}

/// Whether MPEG audio frames without a stated bit rate follow each other from the start of `bytes`. Their length
/// follows only from the start of the next frame, which few decoders search for.
pub(crate) fn is_free_format(bytes: &[u8]) -> bool {
    /// Upper limit of a frame in bytes, for the highest bit rate in use at the lowest sample rate.
    const LONGEST: usize = 12 << 10;
    let Some(&[0xff, kind, rates, _]) = bytes.first_chunk::<4>() else { return false };
    // The bit rate is 0; version, layer and sample rate are not reserved values.
    if kind & 0xe0 != 0xe0
        || kind & 0x18 == 0x08
        || kind & 0x06 == 0
        || rates & 0xf0 != 0
        || rates & 0x0c == 0x0c
    {
        return false;
    }
    // A frame may have one byte of padding, in layer I four.
    let is_next = |at: usize| {
        bytes
            .get(at..at + 3)
            .is_some_and(|next| next[0] == 0xff && next[1] == kind && (next[2] ^ rates) & !2 == 0)
    };
    (24..LONGEST.min(bytes.len())).filter(|&length| is_next(length)).any(|length| {
        let mut at = length;
        (0..3).all(|_| {
            let steps = [length, length + 1, length - 1, length + 4, length - 4];
            let next = steps.into_iter().find(|step| is_next(at + step));
            at += next.unwrap_or_default();
            next.is_some()
        })
    })
}

/// Length of the ADTS frame, with the values that must not change in the next one: profile, rate and channels.
fn adts(bytes: &[u8]) -> Option<(usize, [u8; 3])> {
    let &[sync, kind, a, b, c, d, _] = bytes.first_chunk::<7>()?;
    let rate_index = (a >> 2) & 15;
    if sync != 0xff || kind & 0xf6 != 0xf0 || rate_index > 12 {
        return None;
    }
    let length = (usize::from(b & 3) << 11) | (usize::from(c) << 3) | usize::from(d >> 5);
    (length >= 7).then_some((length, [kind, a & !2, b & 0xc0]))
}

/// Contents of a whole MP3 file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mp3 {
    pub sample_rate: u32,
    pub channels: u8,
    pub duration_ms: u64,
}

/// Reads every frame of a produced MP3 file. Only an ID3v2 tag and frames of one kind are accepted.
pub(crate) fn walk_mp3(reader: &mut impl Read) -> io::Result<Option<Mp3>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(walk(bytes.get(id3_length(&bytes)..).unwrap_or_default()))
}

fn walk(mut bytes: &[u8]) -> Option<Mp3> {
    let first = FrameHeader::parse(bytes)?;
    let mut samples = 0_u64;
    let mut skipped = 0_u64;
    let mut index = 0_u64;
    while !bytes.is_empty() {
        let header = FrameHeader::parse(bytes).filter(|next| first.continues(next) && next.layer == 3)?;
        let (frame, rest) = bytes.split_at_checked(header.length)?;
        match encoder_padding(frame).filter(|_| index == 0) {
            // The information frame decodes to silence and is not played.
            Some(padding) => skipped = padding,
            None => samples += u64::from(header.samples),
        }
        index += 1;
        bytes = rest;
    }
    let played = samples.saturating_sub(skipped);
    let duration_ms = played * 1000 / u64::from(first.sample_rate);
    Some(Mp3 { sample_rate: first.sample_rate, channels: first.channels, duration_ms })
}

/// Samples that LAME's information frame tells players to drop at both ends; `None` for a frame with sound.
/// <http://gabriel.mp3-tech.org/mp3infotag.html>
fn encoder_padding(frame: &[u8]) -> Option<u64> {
    let at = frame.windows(4).take(64).position(|window| window == b"Info" || window == b"Xing")?;
    let flags = frame.get(at + 7)?;
    let mut lame = at + 8;
    for (bit, length) in [(1, 4), (2, 4), (4, 100), (8, 4)] {
        if flags & bit != 0 {
            lame += length;
        }
    }
    let padding = frame.get(lame + 21..)?.first_chunk::<3>().map(|&[a, b, c]| {
        let start = (u64::from(a) << 4) | u64::from(b >> 4);
        let end = (u64::from(b & 15) << 8) | u64::from(c);
        start + end
    });
    Some(padding.unwrap_or(0))
}

/// Length of an ID3v2 or APE tag at the start, in bytes; 0 if there is none.
pub(crate) fn tag_length(bytes: &[u8]) -> usize {
    match id3_length(bytes) {
        0 => ape_length(bytes),
        length => length,
    }
}

/// Length of an APE tag (version 2) at the start, in bytes, header included; 0 if there is none.
/// <https://wiki.hydrogenaudio.org/index.php?title=APE_Tags_Header>
fn ape_length(bytes: &[u8]) -> usize {
    const HEADER: usize = 32;
    let Some(rest) = bytes.get(..HEADER).and_then(|header| header.strip_prefix(b"APETAGEX")) else {
        return 0;
    };
    let &[_, _, _, _, s0, s1, s2, s3, ..] = rest else { return 0 };
    // The size includes everything but this header.
    usize::try_from(u32::from_le_bytes([s0, s1, s2, s3])).map_or(0, |size| size.saturating_add(HEADER))
}

/// Length of an ID3v2 tag at the start, in bytes, footer included; 0 if there is none.
pub(crate) fn id3_length(bytes: &[u8]) -> usize {
    let Some(&[b'I', b'D', b'3', major, _, flags, a, b, c, d]) = bytes.first_chunk::<10>() else { return 0 };
    if major == 0xff || [a, b, c, d].iter().any(|&byte| byte & 0x80 != 0) {
        return 0;
    }
    let size = [a, b, c, d].iter().fold(0, |sum, &byte| (sum << 7) | usize::from(byte));
    size + if flags & 0x10 != 0 { 20 } else { 10 }
}
