//! Reads facts from the structure of a clean file without decoding: codec, rate, channels and length.
//!
//! A file qualifies only if every byte is accounted for and ffmpeg was seen to agree (`tests/audio/structure.rs`).
//! Anything else gives `None`, and is decoded.

use voicegate_providers::Container;

use crate::decoding::pcm::Samples;
use crate::formats::mp4;
use crate::formats::mpeg::{FrameHeader, Information, id3_length, information};
use crate::formats::opus::OpusDetail;
use crate::formats::wav::EXTENSIBLE;
use crate::source::{PcmEncoding, PcmFormat, SourceDetail};

/// Length in milliseconds below which decoders and rounding decide whether there is any sound.
const SHORTEST_MS: u64 = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StructureFacts {
    /// Codec by ffmpeg's name.
    pub codec: &'static str,
    pub sample_rate: u32,
    pub channels: u16,
    pub duration_ms: u64,
    /// Samples that are played, per channel: of Opus at 48 kHz, of other codecs at their own rate.
    pub played: u64,
    /// The samples themselves, if they are not encoded.
    pub samples: Option<Samples>,
}

impl StructureFacts {
    /// `None` if the audio is too short to be sure of, or has more than two channels.
    fn new(codec: &'static str, sample_rate: u32, channels: u16, samples: u64) -> Option<Self> {
        let rate = u64::from(sample_rate);
        let duration_ms = (samples.checked_mul(1000)? + rate / 2).checked_div(rate)?;
        let sure = duration_ms >= SHORTEST_MS && (1..=2).contains(&channels);
        sure.then_some(Self { codec, sample_rate, channels, duration_ms, played: samples, samples: None })
    }
}

pub(crate) fn structure_facts(
    bytes: &[u8],
    container: Container,
    detail: &SourceDetail,
) -> Option<StructureFacts> {
    if !detail.intact || detail.chained {
        return None;
    }
    match container {
        Container::Mp3 => mp3(bytes),
        Container::Adts => adts(bytes),
        Container::Mp4 => aac_in_mp4(bytes),
        Container::Ogg | Container::Webm | Container::Matroska => opus(detail.opus.as_ref()?),
        Container::Wav if detail.flavour == "RIFF" => wav(bytes),
        Container::Aiff if detail.flavour == "AIFF" => aiff(bytes),
        Container::Caf => match &detail.opus {
            Some(found) => opus(found),
            None => caf(bytes),
        },
        Container::Amr => amr(bytes, &detail.flavour),
        Container::Pcm => pcm(bytes, detail.format?),
        _ => None,
    }
}

/// Opus counts at 48 kHz, whatever the rate of the original.
fn opus(opus: &OpusDetail) -> Option<StructureFacts> {
    let played = StructureFacts::new("opus", 48_000, u16::from(opus.channels), opus.samples)?;
    Some(StructureFacts { sample_rate: opus.sane_rate(), ..played })
}

/// Accepts at most one ID3v2 tag, frames of one kind to the last byte, and at most one ID3v1 tag. The last frame may be
/// cut off, because bots cut streams anywhere and decoders complete it.
fn mp3(bytes: &[u8]) -> Option<StructureFacts> {
    /// Bytes of header and side information.
    const LEAST_OF_FRAME: usize = 40;
    /// Samples that every decoder adds at the start.
    const DECODER_DELAY: u64 = 529;
    let mut rest = bytes.get(id3_length(bytes)..)?;
    let length = rest.len() as u64;
    if let Some(before) = rest.len().checked_sub(128).filter(|&at| rest[at..].starts_with(b"TAG")) {
        rest = &rest[..before];
    }
    let first = FrameHeader::parse(rest).filter(|first| first.layer == 3)?;
    let (frame, after) = rest.split_at_checked(first.length)?;
    let information = information(frame)?;
    if information.is_some() {
        rest = after;
    }
    let (mut frames, mut is_whole) = (0, true);
    while !rest.is_empty() {
        let next = FrameHeader::parse(rest)?;
        if !first.continues(&next) || next.channels != first.channels {
            return None;
        }
        is_whole = next.length <= rest.len();
        if !is_whole && rest.len() < LEAST_OF_FRAME {
            return None;
        }
        rest = rest.get(next.length..).unwrap_or_default();
        frames += 1;
    }
    let samples = frames * u64::from(first.samples);
    let played = match information {
        None => samples,
        // ffmpeg trims the end by the stated number of frames, and only if the stated size is right as well.
        Some(Information { frames: stated, bytes, start, end }) if stated == frames && is_whole => {
            let believed = bytes.is_none_or(|bytes| is_near(bytes, length));
            samples.checked_sub(start + end).filter(|_| believed)?
        }
        // The file was cut off before the end that was to be trimmed.
        Some(Information { frames: stated, start, end, .. })
            if stated.checked_sub(frames)? * u64::from(first.samples) >= end =>
        {
            samples.checked_sub(start + DECODER_DELAY)?
        }
        Some(_) => return None,
    };
    StructureFacts::new("mp3", first.sample_rate, u16::from(first.channels), played)
}

fn is_near(a: u64, b: u64) -> bool {
    a.abs_diff(b) <= a.min(b) / 16
}

/// Accepts frames of one kind to the last byte. Below 32 kHz only decoding shows whether the sound has a second layer
/// of twice the rate (HE-AAC).
fn adts(bytes: &[u8]) -> Option<StructureFacts> {
    let (mut rest, mut blocks) = (bytes, 0);
    while !rest.is_empty() {
        let header = rest.first_chunk::<7>()?;
        if header[0] != 0xff || header[1] != bytes[1] || (header[2] ^ bytes[2]) & !2 != 0 {
            return None;
        }
        if (header[3] ^ bytes[3]) & 0xc0 != 0 || header[1] & 0xf6 != 0xf0 {
            return None;
        }
        let length =
            usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        rest = rest.get(length.max(7)..)?;
        blocks += u64::from(header[6] & 3) + 1;
    }
    let header = bytes.first_chunk::<7>()?;
    let rate = *mp4::RATES.get(usize::from(header[2] >> 2 & 15)).filter(|&&rate| rate >= 32_000)?;
    // The field holds the object type less one: 1 is LC.
    let is_lc = header[2] >> 6 == 1;
    let channels = u16::from(header[2] & 1) << 2 | u16::from(header[3] >> 6);
    StructureFacts::new("aac", rate, channels, blocks * 1024).filter(|_| is_lc)
}

/// Accepts one track of AAC-LC, by its sample table.
fn aac_in_mp4(bytes: &[u8]) -> Option<StructureFacts> {
    let track = mp4::only_aac(bytes)?;
    let aac = track.aac;
    if aac.object != 2 || !(track.without_sbr || aac.sample_rate >= 32_000) || track.scale != aac.sample_rate
    {
        return None;
    }
    StructureFacts::new("aac", aac.sample_rate, u16::from(aac.channels), track.played)
}

/// The chunk with this name in a file without any fault. `big_endian` is AIFF.
fn chunk<'a>(bytes: &'a [u8], big_endian: bool, wanted: &[u8; 4], others: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let mut rest = bytes.get(12..)?;
    let mut found = None;
    while rest.len() > 1 {
        let (&[k0, k1, k2, k3, s0, s1, s2, s3], after) = rest.split_first_chunk::<8>()?;
        let size = [s0, s1, s2, s3];
        let size = if big_endian { u32::from_be_bytes(size) } else { u32::from_le_bytes(size) };
        let size = usize::try_from(size).ok()?;
        let kind = [k0, k1, k2, k3];
        let content = after.get(..size)?;
        if &kind == wanted {
            if found.replace(content).is_some() {
                return None;
            }
        } else if !others.contains(&&kind) {
            return None;
        }
        rest = after.get(size + size % 2..).unwrap_or_default();
    }
    found
}

/// Chunks that do not affect the sound.
const BESIDE_WAV: [&[u8; 4]; 8] = [b"fmt ", b"data", b"LIST", b"fact", b"PEAK", b"JUNK", b"bext", b"id3 "];

fn wav(bytes: &[u8]) -> Option<StructureFacts> {
    let format = chunk(bytes, false, b"fmt ", &BESIDE_WAV)?;
    let data = chunk(bytes, false, b"data", &BESIDE_WAV)?;
    let &[t0, t1, c0, c1, r0, r1, r2, r3, _, _, _, _, a0, a1, b0, b1] = format.first_chunk::<16>()?;
    let tag = match (u16::from_le_bytes([t0, t1]), format.len()) {
        (tag, 16 | 18) => tag,
        // The extended header has the tag in the first bytes of a GUID. All bits have to be in use.
        (0xfffe, 40) if format[26..].ends_with(EXTENSIBLE) && format[18..20] == [b0, b1] => {
            u16::from_le_bytes([format[24], format[25]])
        }
        _ => return None,
    };
    let codec = match (tag, u16::from_le_bytes([b0, b1])) {
        (1, 8) => "pcm_u8",
        (1, 16) => "pcm_s16le",
        (1, 24) => "pcm_s24le",
        (1, 32) => "pcm_s32le",
        (3, 32) => "pcm_f32le",
        (3, 64) => "pcm_f64le",
        _ => return None,
    };
    let block = usize::from(u16::from_le_bytes([a0, a1]));
    // Surround sound may be stored as samples (IEC 61937), which begin with these words.
    if data.windows(4).take(64 << 10).any(|found| found == b"\x72\xf8\x1f\x4e") {
        return None;
    }
    let (rate, channels) = (u32::from_le_bytes([r0, r1, r2, r3]), u16::from_le_bytes([c0, c1]));
    samples_of(bytes, data, block, codec, rate, channels)
}

/// Accepts whole blocks of samples. `data` is a part of `bytes`.
fn samples_of(
    bytes: &[u8],
    data: &[u8],
    block: usize,
    codec: &'static str,
    rate: u32,
    channels: u16,
) -> Option<StructureFacts> {
    let whole = data.len().checked_rem(block)? == 0;
    let facts = StructureFacts::new(codec, rate, channels, (data.len() / block) as u64).filter(|_| whole)?;
    let begin = data.as_ptr().addr().checked_sub(bytes.as_ptr().addr())?;
    let (at, channels) = (begin..begin + data.len(), usize::from(channels));
    Some(StructureFacts { samples: Some(Samples { at, codec, channels, rate }), ..facts })
}

fn aiff(bytes: &[u8]) -> Option<StructureFacts> {
    const BESIDE: [&[u8; 4]; 8] = [b"COMM", b"SSND", b"NAME", b"AUTH", b"ANNO", b"(c) ", b"MARK", b"FVER"];
    let common = chunk(bytes, true, b"COMM", &BESIDE)?;
    let sound = chunk(bytes, true, b"SSND", &BESIDE)?;
    let &[c0, c1, n0, n1, n2, n3, b0, b1, ref rate @ ..] = common.first_chunk::<18>()?;
    let channels = u16::from_be_bytes([c0, c1]);
    let bits = u16::from_be_bytes([b0, b1]);
    let codec = match bits {
        8 => "pcm_s8",
        16 => "pcm_s16be",
        24 => "pcm_s24be",
        32 => "pcm_s32be",
        _ => return None,
    };
    let (beginning, data) = sound.split_first_chunk::<8>()?;
    let stated = u64::from(u32::from_be_bytes([n0, n1, n2, n3]));
    let block = usize::from(channels) * usize::from(bits / 8);
    let all = (data.len() as u64) == stated * block as u64 && *beginning == [0; 8];
    samples_of(bytes, data, block, codec, crate::formats::iff::extended(*rate), channels).filter(|_| all)
}

/// Accepts linear samples in the one data chunk of CAF.
/// <https://developer.apple.com/library/archive/documentation/MusicAudio/Reference/CAFSpec/>
fn caf(bytes: &[u8]) -> Option<StructureFacts> {
    let mut rest = bytes.get(8..)?;
    let (mut description, mut data) = (None, None);
    while !rest.is_empty() {
        let (kind, after) = rest.split_first_chunk::<4>()?;
        let (size, after) = after.split_first_chunk::<8>()?;
        let (content, next) = after.split_at_checked(usize::try_from(i64::from_be_bytes(*size)).ok()?)?;
        match kind {
            b"desc" if description.is_none() => description = Some(content.first_chunk::<32>()?),
            b"data" if data.is_none() => data = content.get(4..),
            b"free" | b"info" | b"chan" => {}
            _ => return None,
        }
        rest = next;
    }
    let [rate, flags, per_packet, frames, channels, bits] = {
        let (rate, numbers) = description?.split_first_chunk::<8>()?;
        let rate = f64::from_be_bytes(*rate);
        let whole = rate.fract() == 0.0 && (1_000.0..=768_000.0).contains(&rate);
        let (kind, numbers) = numbers.split_first_chunk::<4>()?;
        if !whole || kind != b"lpcm" {
            return None;
        }
        let mut found = [rate as u32, 0, 0, 0, 0, 0];
        for (place, number) in found[1..].iter_mut().zip(numbers.chunks_exact(4)) {
            *place = u32::from_be_bytes(*number.first_chunk()?);
        }
        found
    };
    let codec = match (flags, bits) {
        (0, 16) => "pcm_s16be",
        (2, 16) => "pcm_s16le",
        (0, 24) => "pcm_s24be",
        (2, 24) => "pcm_s24le",
        (2, 32) => "pcm_s32le",
        (3, 32) => "pcm_f32le",
        _ => return None,
    };
    let fits = frames == 1 && per_packet == channels.checked_mul(bits / 8)?;
    let block = usize::try_from(per_packet).ok()?;
    samples_of(bytes, data?, block, codec, rate, u16::try_from(channels).ok()?).filter(|_| fits)
}

/// Accepts frames of speech to the last byte. Omitted pauses are not accepted, because each decoder fills them in its
/// own way. <https://www.rfc-editor.org/rfc/rfc4867#section-5.3>
fn amr(bytes: &[u8], flavour: &str) -> Option<StructureFacts> {
    const NARROW: [usize; 8] = [13, 14, 16, 18, 20, 21, 27, 32];
    const WIDE: [usize; 9] = [18, 24, 33, 37, 41, 47, 51, 59, 61];
    let (mark, lengths, codec, rate, samples): (&[u8], &[usize], _, _, _) = match flavour {
        "WB" => (b"#!AMR-WB\n", &WIDE, "amr_wb", 16_000, 320),
        _ => (b"#!AMR\n", &NARROW, "amr_nb", 8_000, 160),
    };
    let mut rest = bytes.strip_prefix(mark)?;
    let mut frames = 0;
    while let Some(&head) = rest.first() {
        // The quality bit is set, and the reserved bits are zero.
        if head & 0x87 != 0x04 {
            return None;
        }
        rest = rest.get(*lengths.get(usize::from(head >> 3 & 15))?..)?;
        frames += samples;
    }
    StructureFacts::new(codec, rate, 1, frames)
}

fn pcm(bytes: &[u8], format: PcmFormat) -> Option<StructureFacts> {
    let codec = match format.encoding {
        PcmEncoding::S16le => "pcm_s16le",
        PcmEncoding::S16be => "pcm_s16be",
        PcmEncoding::S24le => "pcm_s24le",
        PcmEncoding::S32le => "pcm_s32le",
        PcmEncoding::F32le => "pcm_f32le",
        PcmEncoding::U8 => "pcm_u8",
        PcmEncoding::Mulaw => "pcm_mulaw",
        PcmEncoding::Alaw => "pcm_alaw",
    };
    let block = usize::from(format.channels) * usize::try_from(format.encoding.bytes_per_sample()).ok()?;
    samples_of(bytes, bytes, block, codec, format.sample_rate, format.channels)
}
