//! Opus in Matroska and WebM, as browsers record it, read without decoding.

use std::io::Cursor;

use matroska_demuxer::{Frame, MatroskaFile, TrackType};

use super::ogg_opus::{Damage, Placed};
use super::opus::{OpusDetail, OpusHead, Packet, RATE};

/// Timestamps may be this far from the sum of the packets before it counts as a hole. Browsers stamp in whole
/// milliseconds and jitter by a few; a paused or lossy recording jumps by at least a packet.
const HOLE_NS: i128 = 15_000_000;
/// One second a page, like the encoders do.
const PAGE_SAMPLES: u64 = RATE;

/// Reads a file with one Opus track and hands every packet to `each`, with granules as Ogg counts them.
pub(super) fn read(
    bytes: &[u8],
    each: &mut dyn FnMut(Placed) -> Result<(), Damage>,
) -> Result<OpusDetail, Damage> {
    let trim = survey(bytes)?.unwrap_or(0);
    let mut file = MatroskaFile::open(Cursor::new(bytes)).map_err(|_| MALFORMED)?;
    let [track] = file.tracks() else {
        return Err(Damage("there is more than one track"));
    };
    if track.track_type() != TrackType::Audio || track.codec_id() != "A_OPUS" {
        return Err(Damage("the track is not Opus"));
    }
    // Compressed or encrypted tracks exist on paper; ffmpeg knows what to do with them.
    if track.content_encodings().is_some() {
        return Err(Damage("the track is packed"));
    }
    let head = track.codec_private().and_then(OpusHead::parse).ok_or(Damage("the Opus header is missing"))?;
    let number = track.track_number().get();
    let scale = i128::from(file.info().timestamp_scale().get());

    let mut detail = OpusDetail::new(&head, None);
    let mut frame = Frame::default();
    let mut position = 0_u64;
    let mut page_start = 0_u64;
    let mut page_segments = 0_usize;
    let mut origin = None;
    let mut pending: Option<Placed> = None;
    while file.next_frame(&mut frame).map_err(|_| Damage("a block is malformed"))? {
        if frame.track != number {
            return Err(Damage("a block belongs to no track"));
        }
        let facts = Packet::parse(&frame.data).ok_or(Damage("an audio packet is malformed"))?;
        // Laced frames share one timestamp, so only the first of a block can be compared; a hole shows anyway,
        // because a timestamp that lies ahead is one.
        let stamp = i128::from(frame.timestamp) * scale;
        let expected = i128::from(position) * 1_000_000_000 / i128::from(RATE);
        let origin = *origin.get_or_insert(stamp);
        if stamp - origin > expected + HOLE_NS {
            return Err(Damage("the recording has a hole"));
        }
        detail.add(&facts);
        if let Some(mut previous) = pending.take() {
            let segments = frame.data.len() / 255 + 1;
            previous.ends_page =
                position - page_start >= PAGE_SAMPLES || page_segments + segments > usize::from(u8::MAX);
            if previous.ends_page {
                (page_start, page_segments) = (position, 0);
            }
            each(previous)?;
        }
        position += u64::from(facts.samples());
        page_segments += frame.data.len() / 255 + 1;
        pending = Some(Placed { data: std::mem::take(&mut frame.data), granule: position, ends_page: false });
    }
    let mut last = pending.ok_or(Damage("there is no audio packet"))?;
    let end = position.checked_sub(trim).ok_or(Damage("the end trim is longer than the recording"))?;
    last.granule = end;
    each(last)?;
    detail.samples = end
        .checked_sub(u64::from(head.pre_skip))
        .ok_or(Damage("the recording is shorter than its pre-skip"))?;
    Ok(detail)
}

/// Whether a second file begins behind the first.
pub(super) fn begins_again(bytes: &[u8]) -> bool {
    const START: &[u8] = &[0x1a, 0x45, 0xdf, 0xa3];
    let named = |after: &[u8]| {
        let after = &after[..after.len().min(64)];
        [b"webm".as_slice(), b"matroska"]
            .iter()
            .any(|name| after.windows(name.len()).any(|found| found == *name))
    };
    let rest = bytes.get(1..).unwrap_or_default();
    rest.windows(START.len()).enumerate().any(|(at, found)| found == START && named(&rest[at..]))
}

/// The end trim: `DiscardPadding` of the last block, in samples at 48 kHz.
///
/// matroska-demuxer does not hand it out, so this walks the elements itself: into segments, clusters and block
/// groups, past everything else. <https://www.matroska.org/technical/elements.html#DiscardPadding>
///
/// matroska-demuxer looks for the next element behind damage, and counts without checks: a block's earliest time
/// overflows. So what has damage or such a time is refused here first.
fn survey(bytes: &[u8]) -> Result<Option<u64>, Damage> {
    const SEGMENT: u64 = 0x1853_8067;
    const CLUSTER: u64 = 0x1f43_b675;
    const BLOCK_GROUP: u64 = 0xa0;
    const BLOCK: u64 = 0xa1;
    const SIMPLE_BLOCK: u64 = 0xa3;
    const TIMESTAMP: u64 = 0xe7;
    const DISCARD_PADDING: u64 = 0x75a2;

    let mut rest = bytes;
    let mut found = None;
    while !rest.is_empty() {
        let (id, after) = vint(rest, false).ok_or(MALFORMED)?;
        let (size, body) = vint(after, true).ok_or(MALFORMED)?;
        match id {
            // Entered by simply going on with what they hold; live recordings leave their sizes unknown.
            SEGMENT | CLUSTER => rest = body,
            BLOCK_GROUP => {
                found = None;
                rest = body;
            }
            _ => {
                let element = usize::try_from(size).ok().and_then(|size| body.split_at_checked(size));
                let (value, next) = element.ok_or(MALFORMED)?;
                match id {
                    SIMPLE_BLOCK | BLOCK if is_earliest(value) => return Err(NO_TIME),
                    TIMESTAMP if value.len() == 8 && value[0] & 0x80 != 0 => return Err(NO_TIME),
                    SIMPLE_BLOCK => found = None,
                    DISCARD_PADDING if value.len() <= 8 => {
                        let nanoseconds = value.iter().fold(0_u64, |sum, &byte| (sum << 8) | u64::from(byte));
                        let negative = value.first().is_some_and(|&byte| byte & 0x80 != 0);
                        found = (!negative).then_some(nanoseconds);
                    }
                    _ => {}
                }
                rest = next;
            }
        }
    }
    // Rounded, because a sample is not a whole number of nanoseconds.
    Ok(found.map(|nanoseconds| {
        let samples = (u128::from(nanoseconds) * u128::from(RATE) + 500_000_000) / 1_000_000_000;
        u64::try_from(samples).unwrap_or(u64::MAX)
    }))
}

const MALFORMED: Damage = Damage("the file is malformed");
const NO_TIME: Damage = Damage("a block has a time that no recording has");

/// A block's time is a signed 16-bit number behind the track's; the smallest one has no opposite.
fn is_earliest(block: &[u8]) -> bool {
    vint(block, true).is_some_and(|(_, rest)| rest.starts_with(&i16::MIN.to_be_bytes()))
}

/// An EBML number of variable length: an id keeps its length marker, a size loses it.
fn vint(bytes: &[u8], is_size: bool) -> Option<(u64, &[u8])> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    if length > 8 {
        return None;
    }
    let (number, rest) = bytes.split_at_checked(length)?;
    let mut value = number.iter().fold(0_u64, |sum, &byte| (sum << 8) | u64::from(byte));
    if is_size {
        value &= (1_u64 << (7 * length)) - 1;
    }
    Some((value, rest))
}
