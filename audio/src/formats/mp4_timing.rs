//! The times in the index of an MP4 file: whether they fit its frames, and what the edit list leaves out.

use std::io::{self, Read, Seek, SeekFrom};

use crate::formats::clock::{Clock, Steps};
use crate::formats::mp4::{aac, be_u32, be_u64, boxes, child, descend, entries_of, times};

/// The index of hours of audio takes a few megabytes; pictures in it take more.
const LARGEST_INDEX: u64 = 32 << 20;
const MOST_BOXES: usize = 20_000;

/// An edit list may skip this much at the start, where the encoder gets going, and leave out as much at the end, where
/// its last frame was filled up: two frames and a little, as Apple's encoders do, or so many milliseconds.
const PRIMING: u64 = 2_200;
const PRIMING_MS: u64 = 120;

/// What the first sound track's times are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub clock: Clock,
    /// The edit list does more than skip the priming: parts of the sound are not to be heard, or not in their order.
    pub edited: bool,
    /// Bytes of what describes the recording: tags, and pictures in them.
    pub tag_bytes: u64,
}

/// The times of the sound track that is heard, the first being 0. `None` where there is no index that can be read.
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
                index = Some(bytes);
            }
            b"meta" | b"udta" | b"uuid" => beside += size,
            _ => {}
        }
        position = position.saturating_add(size);
    }
    Ok(index.and_then(|index| of_index(&index, track, beside)))
}

fn of_index(moov: &[u8], track: u32, beside: u64) -> Option<Timing> {
    let described = |content| {
        let tags = boxes(content).filter(|(kind, _)| matches!(kind, b"udta" | b"meta" | b"uuid"));
        tags.map(|(_, body)| body.len() as u64 + 8).sum::<u64>()
    };
    let tracks = boxes(moov).filter(|(kind, _)| kind == b"trak").map(|(_, trak)| trak);
    let is_sound = |trak: &&[u8]| {
        descend(trak, &[b"mdia", b"hdlr"])
            .and_then(|hdlr| hdlr.get(8..12))
            .is_some_and(|kind| kind == b"soun")
    };
    let trak = tracks.filter(is_sound).nth(usize::try_from(track).ok()?)?;
    let (movie_scale, _) = child(moov, b"mvhd").and_then(times)?;
    let (scale, media) = descend(trak, &[b"mdia", b"mdhd"]).and_then(times)?;
    let table = descend(trak, &[b"mdia", b"minf", b"stbl"])?;
    let (clock, counted) = clock(table, scale).unwrap_or((Clock::Fits, None));
    // Where the table is wrong, the length of the media is, too.
    let media_ms = counted.unwrap_or(media).saturating_mul(1000) / scale;
    let edited = match descend(trak, &[b"edts", b"elst"]) {
        None => false,
        Some(_) if clock == Clock::Wrong => false,
        Some(elst) => !only_skips_priming(elst, movie_scale, scale, media_ms)?,
    };
    Some(Timing { clock, edited, tag_bytes: described(moov) + described(trak) + beside })
}

/// The time table of AAC frames, and how long they are in its units. Of other codecs, nothing is known here.
fn clock(table: &[u8], scale: u64) -> Option<(Clock, Option<u64>)> {
    const FRAME: u64 = 1024;
    let (kind, entry) = boxes(child(table, b"stsd")?.get(8..)?).next()?;
    let aac = (&kind == b"mp4a").then(|| aac(entry)).flatten()?;
    // The rate of the decoder's first layer, in whose frames the second one is counted, too.
    let sounds = i128::from(FRAME * scale / u64::from(aac.sample_rate.max(1)));
    let runs = entries_of::<2>(child(table, b"stts")?)?;
    let frames: u64 = runs.iter().map(|[count, _]| u64::from(*count)).sum();
    let mut steps = Steps::of(scale);
    for (place, [count, lasting]) in runs.iter().enumerate() {
        let is_last = place + 1 == runs.len();
        let stated = i128::from(*lasting);
        // The last frame may be shorter: what fills it up is not heard.
        let cut = u64::from(is_last && stated < sounds && (*count == 1 || frames == 1));
        // Frames of 960 samples exist, and times in whole milliseconds.
        steps.add(u64::from(*count) - cut, stated, sounds, sounds / 8);
    }
    let verdict = steps.verdict();
    Some((verdict, (verdict == Clock::Fits).then_some(frames.saturating_mul(u64::try_from(sounds).ok()?))))
}

/// Whether one edit plays the media at its own speed, but for the frames that the codec needs at both ends.
fn only_skips_priming(elst: &[u8], movie_scale: u64, scale: u64, media_ms: u64) -> Option<bool> {
    let count = be_u32(elst, 4)?;
    let (lasting, from, rate) = match elst.first()? {
        0 => (u64::from(be_u32(elst, 8)?), i64::from(be_u32(elst, 12)?.cast_signed()), be_u32(elst, 16)?),
        _ => (be_u64(elst, 8)?, be_u64(elst, 16)?.cast_signed(), be_u32(elst, 24)?),
    };
    let Ok(from) = u64::try_from(from) else { return Some(false) };
    let from_ms = from.saturating_mul(1000) / scale;
    let played_ms = lasting.saturating_mul(1000) / movie_scale;
    // Units of more than a few thousand a second are samples.
    let priming_ms = PRIMING_MS.max(if scale < 4_000 { 0 } else { PRIMING * 1000 / scale });
    // A length of 0 is that of a recording which goes on.
    let to_end = lasting == 0 || from_ms + played_ms + priming_ms >= media_ms;
    Some(count == 1 && rate == 1 << 16 && from_ms <= priming_ms && to_end)
}
