//! Checks the times in the index of an MP4 file against its frames, and the cuts of its edit list.

use std::io::{self, Read, Seek, SeekFrom};

use crate::formats::clock::{Clock, Steps};
use crate::formats::mp4::{aac, be_u32, be_u64, boxes, child, descend, entries_of, times};
use crate::formats::mpeg::FrameHeader;
use crate::formats::opus::{Packet, RATE};

/// Size limit of the index, in bytes. Hours of audio need a few megabytes, and pictures in it more.
const LARGEST_INDEX: u64 = 32 << 20;
const MOST_BOXES: usize = 20_000;

/// Units of sound or milliseconds that an edit list may skip at the start, for encoder delay, and at the end, for the
/// padding of the last frame: a little more than two frames, as Apple's encoders need.
const PRIMING: u64 = 2_200;
const PRIMING_MS: u64 = 120;

/// Verdict on the times of a sound track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub clock: Clock,
    /// The edit list does more than skip encoder delay: it cuts or reorders sound.
    pub edited: bool,
    /// Offset of the name of an edit list that plays nothing. Some players ignore such a list.
    pub idle_edits: Option<u64>,
    /// Bytes of metadata: tags and pictures.
    pub tag_bytes: u64,
}

/// Checks the selected sound track. Returns `None` if there is no readable index.
pub(crate) fn timing(reader: &mut (impl Read + Seek), track: u32) -> io::Result<Option<Timing>> {
    let length = reader.seek(SeekFrom::End(0))?;
    let (mut position, mut beside) = (0_u64, 0);
    let mut index = None;
    for _ in 0..MOST_BOXES {
        if position.saturating_add(8) > length {
            break;
        }
        reader.seek(SeekFrom::Start(position))?;
        let mut header = [0; 16];
        reader.read_exact(&mut header[..8])?;
        let [s0, s1, s2, s3, k0, k1, k2, k3, ..] = header;
        let (before, size) = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => (8, length - position),
            1 if length - position >= 16 => {
                reader.read_exact(&mut header[8..])?;
                (16, be_u64(&header, 8).unwrap_or_default())
            }
            size => (8, u64::from(size)),
        };
        if size < before {
            break;
        }
        match &[k0, k1, k2, k3] {
            b"moov" if index.is_none() && size <= LARGEST_INDEX.min(length - position) => {
                let mut bytes = Vec::new();
                reader.take(size - before).read_to_end(&mut bytes)?;
                index = Some((bytes, position + before));
            }
            b"meta" | b"udta" | b"uuid" => beside += size,
            _ => {}
        }
        position = position.saturating_add(size);
    }
    let Some((index, start)) = index else { return Ok(None) };
    let first_packet = first_packet(reader, &index, track)?;
    Ok(of_index(&index, start, track, &first_packet, beside))
}

/// The first packet of the sound track. For codecs that state the frame length in each packet, it gives the length of
/// all frames.
fn first_packet(reader: &mut (impl Read + Seek), moov: &[u8], track: u32) -> io::Result<Vec<u8>> {
    const LONGEST: u64 = 1 << 12;
    let place = |table: &[u8]| -> Option<(u64, u32)> {
        let sizes = child(table, b"stsz")?;
        let size = be_u32(sizes, 4).filter(|&of_all| of_all > 0).or_else(|| be_u32(sizes, 12))?;
        let near = child(table, b"stco").and_then(|chunks| be_u32(chunks, 8)).map(u64::from);
        Some((near.or_else(|| be_u64(child(table, b"co64")?, 8))?, size))
    };
    let mut packet = Vec::new();
    if let Some((offset, size)) = sound_track(moov, track).and_then(sample_table).and_then(place) {
        reader.seek(SeekFrom::Start(offset))?;
        reader.take(LONGEST.min(size.into())).read_to_end(&mut packet)?;
    }
    Ok(packet)
}

fn sample_table(trak: &[u8]) -> Option<&[u8]> {
    descend(trak, &[b"mdia", b"minf", b"stbl"])
}

fn sound_track(moov: &[u8], track: u32) -> Option<&[u8]> {
    let tracks = boxes(moov).filter(|(kind, _)| kind == b"trak").map(|(_, trak)| trak);
    let is_sound = |trak: &&[u8]| {
        descend(trak, &[b"mdia", b"hdlr"])
            .and_then(|hdlr| hdlr.get(8..12))
            .is_some_and(|kind| kind == b"soun")
    };
    tracks.filter(is_sound).nth(usize::try_from(track).ok()?)
}

/// `moov` begins at `start` in the file.
fn of_index(moov: &[u8], start: u64, track: u32, first_packet: &[u8], beside: u64) -> Option<Timing> {
    let described = |content| {
        let tags = boxes(content).filter(|(kind, _)| matches!(kind, b"udta" | b"meta" | b"uuid"));
        tags.map(|(_, body)| body.len() as u64 + 8).sum::<u64>()
    };
    let trak = sound_track(moov, track)?;
    let (movie_scale, _) = child(moov, b"mvhd").and_then(times)?;
    let (scale, media) = descend(trak, &[b"mdia", b"mdhd"]).and_then(times)?;
    let table = sample_table(trak)?;
    let (clock, counted) = clock(table, scale, first_packet).unwrap_or((Clock::Fits, None));
    // If the table is wrong, so is the length of the media.
    let media_ms = counted.unwrap_or(media).saturating_mul(1000) / scale;
    let edited = match descend(trak, &[b"edts", b"elst"]) {
        None => false,
        Some(_) if clock == Clock::Wrong => false,
        Some(elst) => !only_skips_priming(elst, movie_scale, scale, media_ms)?,
    };
    let is_fragmented = child(moov, b"mvex").is_some();
    let idle_edits = child(trak, b"edts").filter(|edts| !is_fragmented && plays_nothing(edts));
    // The name of a box directly precedes its content.
    let idle_edits =
        idle_edits.map(|edts| start + (edts.as_ptr() as usize - moov.as_ptr() as usize) as u64 - 4);
    Some(Timing { clock, edited, idle_edits, tag_bytes: described(moov) + described(trak) + beside })
}

/// Whether there are edits, all of duration zero.
fn plays_nothing(edts: &[u8]) -> bool {
    let lasts = |elst: &[u8]| -> Option<u64> {
        let count = usize::try_from(be_u32(elst, 4)?).ok()?;
        let (edits, long) = (elst.get(8..)?, *elst.first()? != 0);
        let edits = edits.chunks_exact(if long { 20 } else { 12 }).take(count);
        edits.map(|edit| if long { be_u64(edit, 0) } else { be_u32(edit, 0).map(u64::from) }).max()?
    };
    child(edts, b"elst").and_then(lasts) == Some(0)
}

/// The time table of the frames, and their total length in its units. Returns `None` for codecs with frames of
/// different lengths.
fn clock(table: &[u8], scale: u64, first_packet: &[u8]) -> Option<(Clock, Option<u64>)> {
    let (kind, entry) = boxes(child(table, b"stsd")?.get(8..)?).next()?;
    let (samples, rate) = frame(&kind, entry, first_packet)?;
    let sounds = i128::from((samples * scale).checked_div(rate).filter(|&sounds| sounds > 0)?);
    let runs = entries_of::<2>(child(table, b"stts")?)?;
    let frames: u64 = runs.iter().map(|[count, _]| u64::from(*count)).sum();
    let mut steps = Steps::of(scale);
    for (place, [count, lasting]) in runs.iter().enumerate() {
        let is_last = place + 1 == runs.len();
        let stated = i128::from(*lasting);
        // The last frame may be shorter, because its padding is not played.
        let cut = u64::from(is_last && stated < sounds && (*count == 1 || frames == 1));
        // Frames of 960 samples exist, and so do times in whole milliseconds.
        steps.add(u64::from(*count) - cut, stated, sounds, sounds / 8);
    }
    let verdict = steps.verdict();
    Some((verdict, (verdict == Clock::Fits).then_some(frames.saturating_mul(u64::try_from(sounds).ok()?))))
}

/// Samples per frame, and sample rate in Hz.
fn frame(kind: &[u8; 4], entry: &[u8], first_packet: &[u8]) -> Option<(u64, u64)> {
    let number = |content, at| be_u32(content, at).map(u64::from);
    // Codec data follows the common description. QuickTime has a longer form of it, and may wrap the data.
    let version = be_u32(entry, 8)? >> 16;
    let inner = entry.get(if version == 0 { 28 } else { 44 }..)?;
    let own = |kind| child(inner, kind).or_else(|| child(child(inner, b"wave")?, kind));
    match kind {
        b"mp4a" => match aac(entry) {
            // The rate of the first layer, in whose frames the second layer is counted as well.
            Some(aac) => Some((1024, aac.sample_rate.into())),
            None => FrameHeader::parse(first_packet).map(|mp3| (mp3.samples.into(), mp3.sample_rate.into())),
        },
        b"alac" => {
            let alac = own(b"alac")?;
            Some((number(alac, 4)?, number(alac, 24)?))
        }
        b"fLaC" => {
            let information = own(b"dfLa")?;
            // All blocks have one length if the minimum and the maximum are equal.
            let (least, most) = (number(information, 8)? >> 16, number(information, 8)? & 0xffff);
            (least == most).then_some((most, number(information, 18)? >> 12))
        }
        b"Opus" => Some((Packet::parse(first_packet)?.samples().into(), RATE)),
        _ => None,
    }
}

/// Whether one edit plays the media at normal speed, except for the frames that the codec needs at both ends.
fn only_skips_priming(elst: &[u8], movie_scale: u64, scale: u64, media_ms: u64) -> Option<bool> {
    let count = be_u32(elst, 4)?;
    let (lasting, from, rate) = match elst.first()? {
        0 => (u64::from(be_u32(elst, 8)?), i64::from(be_u32(elst, 12)?.cast_signed()), be_u32(elst, 16)?),
        _ => (be_u64(elst, 8)?, be_u64(elst, 16)?.cast_signed(), be_u32(elst, 24)?),
    };
    let Ok(from) = u64::try_from(from) else { return Some(false) };
    let from_ms = from.saturating_mul(1000) / scale;
    let played_ms = lasting.saturating_mul(1000) / movie_scale;
    // More than a few thousand units per second are samples.
    let priming_ms = PRIMING_MS.max(if scale < 4_000 { 0 } else { PRIMING * 1000 / scale });
    // A length of 0 marks a recording in progress.
    let to_end = lasting == 0 || from_ms + played_ms + priming_ms >= media_ms;
    Some(count == 1 && rate == 1 << 16 && from_ms <= priming_ms && to_end)
}
