//! A small reader of MP4 structure (ISO 14496-12 and -14), to verify produced files and to detect truncated ones.

use std::io::{Read, Seek, SeekFrom};

use crate::formats::tracks;

/// Size limit of the index, in bytes. Hours of audio need a few megabytes.
const LARGEST_INDEX: u64 = 32 << 20;
/// Limit on the number of boxes, each of which costs a disk access. Hours of one-second fragments have fewer.
const MOST_BOXES: usize = 20_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mp4 {
    /// The first brand in `ftyp`.
    pub brand: String,
    /// Whether `moov` precedes the audio; `None` if there is no `moov`.
    pub moov_first: Option<bool>,
    pub has_audio_data: bool,
    /// The file consists of `moof` fragments, as for streaming.
    pub fragmented: bool,
    /// A box is longer than the file.
    pub cut_off: bool,
    /// A second file follows the first.
    pub begins_again: bool,
    pub tracks: Vec<Track>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Track {
    /// Handler type: `soun`, `vide`, ...
    pub handler: String,
    /// Sample format: `mp4a`, `alac`, ...
    pub format: String,
    /// Playing time in milliseconds, from the edit list if there is one, else from the media header.
    pub duration_ms: Option<u64>,
    /// MPEG-4 audio object type, channels and rate, from the decoder's configuration.
    pub aac: Option<Aac>,
    /// As far as the configuration tells, every supported decoder knows the codec.
    pub mpeg4_decodes: bool,
    /// Players play the track unless another one is selected.
    pub is_enabled: bool,
    /// Number of samples in the index.
    pub samples: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aac {
    pub object: u8,
    pub channels: u8,
    pub sample_rate: u32,
}

impl Mp4 {
    pub fn read(reader: &mut (impl Read + Seek)) -> std::io::Result<Self> {
        let length = reader.seek(SeekFrom::End(0))?;
        let mut mp4 = Self::default();
        let mut position = 0_u64;
        let mut count = 0;
        // Eight bytes hold a size and a type; fewer at the end are padding.
        while position.saturating_add(8) <= length {
            count += 1;
            if count > MOST_BOXES {
                mp4.cut_off = true;
                break;
            }
            reader.seek(SeekFrom::Start(position))?;
            let mut header = [0_u8; 16];
            reader.read_exact(&mut header[..8])?;
            let [s0, s1, s2, s3, kind @ ..] = header;
            let kind = [kind[0], kind[1], kind[2], kind[3]];
            let (header_length, size) = match u32::from_be_bytes([s0, s1, s2, s3]) {
                0 => (8, length - position),
                1 if length - position >= 16 => {
                    reader.read_exact(&mut header[8..])?;
                    let [.., l0, l1, l2, l3, l4, l5, l6, l7] = header;
                    (16, u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7]))
                }
                size => (8, u64::from(size)),
            };
            if size < header_length {
                mp4.cut_off = true;
                break;
            }
            let available = length - position;
            mp4.cut_off |= size > available;
            let content = size.min(available) - header_length;
            match &kind {
                b"ftyp" => {
                    let mut brand = [0; 4];
                    if content >= 4 {
                        reader.read_exact(&mut brand)?;
                    }
                    mp4.brand = text(&brand);
                }
                b"moov" if mp4.moov_first.is_some() => mp4.begins_again = true,
                b"moof" => mp4.fragmented = true,
                b"mdat" => mp4.has_audio_data = true,
                b"moov" if content <= LARGEST_INDEX && size <= available => {
                    let mut index = Vec::new();
                    reader.take(content).read_to_end(&mut index)?;
                    mp4.moov_first = Some(!mp4.has_audio_data);
                    mp4.fragmented |= child(&index, b"mvex").is_some();
                    mp4.tracks = all_tracks(&index);
                }
                _ => {}
            }
            position = position.saturating_add(size);
        }
        Ok(mp4)
    }

    /// The selected audio track, and its index among the audio tracks.
    pub fn audio(&self) -> Option<(u32, &Track)> {
        let index = tracks::in_mp4(&self.tracks, self.fragmented);
        let track = self.tracks.iter().filter(|track| track.handler == "soun").nth(index)?;
        Some((u32::try_from(index).ok()?, track))
    }
}

fn text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' })
        .collect()
}

/// Iterates over the boxes directly inside `content`, up to the first that does not fit.
pub(crate) fn boxes(mut content: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (header, rest) = content.split_first_chunk::<8>()?;
        let [s0, s1, s2, s3, k0, k1, k2, k3] = *header;
        let (size, rest, header_length) = match u32::from_be_bytes([s0, s1, s2, s3]) {
            1 => {
                let (long, rest) = rest.split_first_chunk::<8>()?;
                (usize::try_from(u64::from_be_bytes(*long)).ok()?, rest, 16)
            }
            0 => (content.len(), rest, 8),
            size => (usize::try_from(size).ok()?, rest, 8),
        };
        let (body, rest) = rest.split_at_checked(size.checked_sub(header_length)?)?;
        content = rest;
        Some(([k0, k1, k2, k3], body))
    })
}

pub(crate) fn child<'a>(content: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(content).find(|(found, _)| found == kind).map(|(_, body)| body)
}

pub(crate) fn descend<'a>(content: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(content, |content, kind| child(content, kind))
}

fn be_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn be_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Time scale and duration of `mvhd` or `mdhd`, which begin alike.
pub(crate) fn times(header: &[u8]) -> Option<(u64, u64)> {
    let (scale, duration) = match header.first()? {
        0 => (be_u32(header, 12)?, u64::from(be_u32(header, 16)?)),
        _ => (be_u32(header, 20)?, be_u64(header, 24)?),
    };
    (scale > 0).then_some((u64::from(scale), duration))
}

fn milliseconds(units: u64, scale: u64) -> Option<u64> {
    u64::try_from(u128::from(units) * 1000 / u128::from(scale)).ok()
}

fn all_tracks(moov: &[u8]) -> Vec<Track> {
    let movie_scale = child(moov, b"mvhd").and_then(times).map(|(scale, _)| scale);
    boxes(moov)
        .filter(|(kind, _)| kind == b"trak")
        .map(|(_, trak)| {
            let handler = descend(trak, &[b"mdia", b"hdlr"]).and_then(|hdlr| hdlr.get(8..12));
            let media = descend(trak, &[b"mdia", b"mdhd"])
                .and_then(times)
                .and_then(|(scale, duration)| milliseconds(duration, scale));
            let edited = descend(trak, &[b"edts", b"elst"])
                .and_then(played_units)
                .zip(movie_scale)
                .and_then(|(units, scale)| milliseconds(units, scale))
                // Fragmented files state no duration in their edit.
                .filter(|&duration| duration > 0);
            let table = descend(trak, &[b"mdia", b"minf", b"stbl"]);
            let samples = table.and_then(|table| child(table, b"stsz").or_else(|| child(table, b"stz2")));
            let entry =
                table.and_then(|table| child(table, b"stsd")).and_then(|stsd| boxes(stsd.get(8..)?).next());
            let mpeg4 = entry.filter(|(kind, _)| kind == b"mp4a").map(|(_, entry)| entry);
            let aac = mpeg4.and_then(aac);
            let indication = mpeg4.and_then(decoder).map(|(indication, _)| indication);
            Track {
                handler: handler.map(text).unwrap_or_default(),
                format: entry.map(|(kind, _)| text(&kind)).unwrap_or_default(),
                duration_ms: edited.or(media),
                mpeg4_decodes: indication.is_none_or(tracks::mpeg4_decodes)
                    && aac.is_none_or(|aac| tracks::aac_decodes(aac.object)),
                aac,
                is_enabled: child(trak, b"tkhd")
                    .and_then(|tkhd| tkhd.get(3))
                    .is_none_or(|flags| flags & 1 != 0),
                samples: samples.and_then(|sizes| be_u32(sizes, 8)),
            }
        })
        .collect()
}

/// Units of the movie's time scale that the edit list plays; empty edits (media time -1) play nothing.
fn played_units(elst: &[u8]) -> Option<u64> {
    let version = *elst.first()?;
    let count = be_u32(elst, 4)?;
    let entry_length = if version == 0 { 12 } else { 20 };
    let entries = elst.get(8..)?.chunks_exact(entry_length).take(usize::try_from(count).ok()?);
    let mut sum = 0_u64;
    for entry in entries {
        let (duration, empty) = if version == 0 {
            (u64::from(be_u32(entry, 0)?), be_u32(entry, 4)? == u32::MAX)
        } else {
            (be_u64(entry, 0)?, be_u64(entry, 8)? == u64::MAX)
        };
        if !empty {
            sum = sum.checked_add(duration)?;
        }
    }
    Some(sum)
}

/// The decoder's configuration, if the codec is MPEG-4 AAC.
pub(crate) fn aac(entry: &[u8]) -> Option<Aac> {
    let (0x40, config) = decoder(entry)? else { return None };
    let (5, specific) = descriptor(config)? else { return None };
    audio_specific_config(specific)
}

/// The object type indication inside `esds`, which QuickTime may wrap in `wave`, and the descriptor of the
/// configuration.
fn decoder(entry: &[u8]) -> Option<(u8, &[u8])> {
    // An audio sample entry has 8 common bytes, then version 0 (20 bytes), 1 (36) or 2 (56).
    let extra = match be_u16(entry, 8)? {
        0 => 28,
        1 => 44,
        _ => 64,
    };
    let inner = entry.get(extra..)?;
    let esds = child(inner, b"esds").or_else(|| child(child(inner, b"wave")?, b"esds"))?;
    let (3, es) = descriptor(esds.get(4..)?)? else { return None };
    // ES_ID and flags; the optional fields they announce are not used in files.
    let (flags, rest) = (*es.get(2)?, es.get(3..)?);
    if flags & 0xe0 != 0 {
        return None;
    }
    let (4, config) = descriptor(rest)? else { return None };
    Some((*config.first()?, config.get(13..)?))
}

/// A tag, a length in 7-bit groups, and the content.
fn descriptor(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (&tag, mut rest) = bytes.split_first()?;
    let mut length = 0_usize;
    for _ in 0..4 {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        length = (length << 7) | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some((tag, rest.get(..length)?))
}

pub(crate) const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Object type (5 bits), rate index (4), channel configuration (4); ISO 14496-3, 1.6.2.1.
fn audio_specific_config(bytes: &[u8]) -> Option<Aac> {
    let mut window = [0_u8; 8];
    let length = bytes.len().min(8);
    window[..length].copy_from_slice(&bytes[..length]);
    let bits = u64::from_be_bytes(window);
    let take = |from: u32, count: u32| (bits >> (64 - from - count)) & ((1 << count) - 1);

    let (object, at) = match take(0, 5) {
        31 => (32 + take(5, 6), 11),
        object => (object, 5),
    };
    let (sample_rate, at) = match take(at, 4) {
        15 => (u32::try_from(take(at + 4, 24)).ok()?, at + 28),
        index => (*RATES.get(usize::try_from(index).ok()?)?, at + 4),
    };
    let channels = match take(at, 4) {
        7 => 8,
        channels => u8::try_from(channels).ok()?,
    };
    (length >= 2).then_some(Aac { object: u8::try_from(object).ok()?, channels, sample_rate })
}

/// The tables of a file with one audio track and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OnlyAac {
    pub aac: Aac,
    /// The configuration excludes a second layer of twice the rate (SBR).
    pub without_sbr: bool,
    /// Units of media time per second.
    pub scale: u32,
    /// Samples that ffmpeg plays: the edit list's cut at the start is applied, its cut at the end is not, because
    /// ffmpeg plays whole frames.
    pub played: u64,
}

/// Returns `None` unless there is exactly one track of AAC about whose length players agree.
pub(crate) fn only_aac(bytes: &[u8]) -> Option<OnlyAac> {
    let moov = child(bytes, b"moov")?;
    let mut found = boxes(moov).filter(|(kind, _)| kind == b"trak");
    let (_, trak) = found.next()?;
    if found.next().is_some() {
        return None;
    }
    let (scale, _) = descend(trak, &[b"mdia", b"mdhd"]).and_then(times)?;
    let table = descend(trak, &[b"mdia", b"minf", b"stbl"])?;
    let stsd = child(table, b"stsd")?;
    let mut entries = boxes(stsd.get(8..)?);
    let (_, entry) = entries.next().filter(|(kind, _)| kind == b"mp4a")?;
    if entries.next().is_some() {
        return None;
    }
    let frames = frames(table, bytes.len())?;
    let lasting = entries_of::<2>(child(table, b"stts")?)?;
    let whole: u64 =
        lasting.iter().filter(|[_, length]| *length == FRAME).map(|[count, _]| u64::from(*count)).sum();
    let last = lasting.last().filter(|[count, length]| *count == 1 && *length < FRAME);
    if whole + u64::from(last.is_some()) != frames {
        return None;
    }
    let skipped = match descend(trak, &[b"edts", b"elst"]) {
        None => 0,
        // One edit at normal speed, to the end.
        Some(elst)
            if elst.len() == 20 && elst[0] == 0 && be_u32(elst, 4)? == 1 && be_u32(elst, 16)? == 1 << 16 =>
        {
            u64::from(be_u32(elst, 12).filter(|&at| at < 1 << 16)?)
        }
        Some(_) => return None,
    };
    Some(OnlyAac {
        aac: aac(entry)?,
        without_sbr: entry.windows(3).any(|found| found == b"\x56\xe5\x00"),
        scale: u32::try_from(scale).ok()?,
        played: (frames * u64::from(FRAME)).checked_sub(skipped)?,
    })
}

/// Samples in an AAC frame.
const FRAME: u32 = 1024;

/// Number of frames in the table, if each of them lies within the file.
fn frames(table: &[u8], length: usize) -> Option<u64> {
    let (runs, count) = runs(table)?;
    runs.iter().all(|(offset, size)| offset + size <= length as u64).then_some(count)
}

/// Contiguous ranges of frames, as offset and bytes, and the total number of frames.
pub(crate) fn runs(table: &[u8]) -> Option<(Vec<(u64, u64)>, u64)> {
    let stsz = child(table, b"stsz")?;
    // If all frames have one size, as in silence, it is stated here in place of a table.
    let one_size = u64::from(be_u32(stsz, 4)?);
    let sizes = if one_size == 0 { entries_of::<1>(stsz.get(4..)?)? } else { Vec::new() };
    let frames = u64::from(be_u32(stsz, 8)?);
    let runs = entries_of::<3>(child(table, b"stsc")?)?;
    let chunks = entries_of::<1>(child(table, b"stco")?)?;
    let mut sizes = sizes.iter();
    let mut left = frames;
    let mut found = Vec::new();
    for (number, [offset]) in (1..).zip(&chunks) {
        let [_, count, _] = runs.iter().rfind(|[first, ..]| *first <= number)?;
        let count = u64::from(*count).min(left);
        let listed = sizes.by_ref().take(usize::try_from(count).ok()?);
        let size = listed.map(|[size]| u64::from(*size)).sum::<u64>() + count * one_size;
        found.push((u64::from(*offset), size));
        left -= count;
    }
    (left == 0).then_some((found, frames))
}

/// The entries of a table that is preceded by a version and a count.
pub(crate) fn entries_of<const N: usize>(table: &[u8]) -> Option<Vec<[u32; N]>> {
    let entries = table.get(8..)?.chunks_exact(4 * N);
    let stated = usize::try_from(be_u32(table, 4)?).ok()?;
    if entries.len() != stated {
        return None;
    }
    entries
        .map(|entry| {
            let mut numbers = [0; N];
            for (index, number) in numbers.iter_mut().enumerate() {
                *number = be_u32(entry, 4 * index)?;
            }
            Some(numbers)
        })
        .collect()
}
