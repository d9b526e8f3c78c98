//! Reads Opus in Matroska and WebM, as browsers record it, without decoding.

use std::collections::VecDeque;
use std::io::Cursor;

use matroska_demuxer::{Frame, MatroskaFile, TrackType};

use crate::formats::clock::{Clock, Steps};
use crate::formats::ogg::Damage;
use crate::formats::ogg_opus::MALFORMED as MALFORMED_PACKET;
use crate::formats::opus::{OpusDetail, OpusHead, Packet, RATE, Tally};
use crate::formats::packets::{Item, Placed, Sink};

/// Deviation of a timestamp from the sum of the packets that counts as a gap, in nanoseconds. Browsers round to whole
/// milliseconds and jitter by a few; a paused or lossy recording jumps by at least a packet.
const HOLE_NS: i128 = 15_000_000;

/// Reads a file with one Opus track and passes its header and every packet to `each`, counted as in Ogg. Times that are
/// wrong throughout, or that go back, are ignored, and packets are counted instead. [`has_wrong_clock`] reports it.
pub(crate) fn read(bytes: &[u8], each: Sink) -> Result<OpusDetail, Damage> {
    let is_counted = steps(bytes)?.verdict() == Clock::Wrong;
    let trim = survey(bytes)?;
    let mut file = MatroskaFile::open(Cursor::new(bytes)).map_err(|_| MALFORMED)?;
    let [track] = file.tracks() else {
        return Err(Damage("there is more than one track"));
    };
    if track.track_type() != TrackType::Audio || track.codec_id() != "A_OPUS" {
        return Err(Damage("the track is not Opus"));
    }
    // Compressed or encrypted tracks exist in theory; they are left to ffmpeg.
    if track.content_encodings().is_some() {
        return Err(Damage("the track is packed"));
    }
    // Decoders drop the pre-skip of the header. `CodecDelay` should state the same, but ffmpeg 5.1 writes a third of it
    // for a recording of 16 kHz.
    let head = track.codec_private().and_then(OpusHead::parse).ok_or(Damage("the Opus header is missing"))?;
    if head.mapping_family != 0 {
        return Err(Damage("the channels have a mapping of their own"));
    }
    let number = track.track_number().get();
    let scale = i128::from(file.info().timestamp_scale().get());

    let mut tally = Tally::new(&head, None);
    each(Item::Head(head))?;
    let mut frame = Frame::default();
    let mut position = 0_u64;
    let mut origin = None;
    // Packets that the end trim may reach.
    let mut pending: VecDeque<Placed> = VecDeque::new();
    while file.next_frame(&mut frame).map_err(|_| Damage("a block is malformed"))? {
        if frame.track != number {
            return Err(Damage("a block belongs to no track"));
        }
        let data = std::mem::take(&mut frame.data);
        let facts = Packet::parse(&data).ok_or(MALFORMED_PACKET)?;
        // Laced frames share one timestamp, so only the first of a block can be compared. A gap is noticed anyway,
        // because it makes a timestamp late.
        let stamp = i128::from(frame.timestamp) * scale;
        let expected = i128::from(position) * 1_000_000_000 / i128::from(RATE);
        let origin = *origin.get_or_insert(stamp);
        if stamp - origin > expected + HOLE_NS && !is_counted {
            return Err(Damage("the recording has a hole"));
        }
        tally.add(&facts);
        position += u64::from(facts.samples());
        pending.push_back(Placed { data, facts, end: position });
        while let Some(sure) = pending.pop_front_if(|first| first.end + trim <= position) {
            each(Item::Packet(sure))?;
        }
    }
    let end = position.checked_sub(trim).ok_or(Damage("the end trim is longer than the recording"))?;
    for packet in pending {
        each(Item::Packet(Placed { end: packet.end.min(end), ..packet }))?;
    }
    tally.close(end)
}

/// Whether the times of a file that [`read`] accepts contradict its packets.
pub(crate) fn has_wrong_clock(bytes: &[u8]) -> bool {
    steps(bytes).is_ok_and(|steps| steps.verdict() == Clock::Wrong)
}

/// Compares the times of consecutive blocks with the length of the packets between them. Packets with one time form a
/// group.
fn steps(bytes: &[u8]) -> Result<Steps, Damage> {
    survey(bytes)?;
    let mut file = MatroskaFile::open(Cursor::new(bytes)).map_err(|_| MALFORMED)?;
    let scale = i128::from(file.info().timestamp_scale().get());
    let mut steps = Steps::of(1_000_000_000);
    let mut frame = Frame::default();
    let mut last: Option<(i128, i128)> = None;
    while file.next_frame(&mut frame).map_err(|_| Damage("a block is malformed"))? {
        let stamp = i128::from(frame.timestamp) * scale;
        let packet = Packet::parse(&frame.data).ok_or(MALFORMED_PACKET)?;
        let lasts = i128::from(packet.samples()) * 1_000_000_000 / i128::from(RATE);
        last = match last {
            Some((before, sum)) if before == stamp => Some((before, sum + lasts)),
            Some((before, sum)) => {
                steps.add(1, stamp - before, sum, HOLE_NS.min(sum * 2 / 5));
                Some((stamp, lasts))
            }
            None => Some((stamp, lasts)),
        };
    }
    Ok(steps)
}

/// Converts nanoseconds to samples at 48 kHz. The result is rounded, because a sample is not a whole number of
/// nanoseconds.
fn samples(nanoseconds: u64) -> u64 {
    let samples = (u128::from(nanoseconds) * u128::from(RATE) + 500_000_000) / 1_000_000_000;
    u64::try_from(samples).unwrap_or(u64::MAX)
}

/// Whether a second file follows the first.
pub(crate) fn begins_again(bytes: &[u8]) -> bool {
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
/// matroska-demuxer does not expose it, so the elements are read here: segments, clusters and block groups are entered,
/// and all others skipped. <https://www.matroska.org/technical/elements.html#DiscardPadding>
///
/// matroska-demuxer searches for the next element after damage, and adds times without overflow checks. So damaged
/// files and such times are refused here first.
fn survey(bytes: &[u8]) -> Result<u64, Damage> {
    const SEGMENT: u64 = 0x1853_8067;
    const CLUSTER: u64 = 0x1f43_b675;
    const BLOCK_GROUP: u64 = 0xa0;
    const BLOCK: u64 = 0xa1;
    const SIMPLE_BLOCK: u64 = 0xa3;
    const TIMESTAMP: u64 = 0xe7;
    const DISCARD_PADDING: u64 = 0x75a2;

    let mut rest = bytes;
    let mut trim = 0;
    while !rest.is_empty() {
        let (id, after) = vint(rest, false).ok_or(MALFORMED)?;
        let (size, body) = vint(after, true).ok_or(MALFORMED)?;
        if matches!(id, BLOCK_GROUP | SIMPLE_BLOCK) && trim != 0 {
            return Err(Damage("something is cut out of the middle"));
        }
        // An element is entered by reading on with its content. Live recordings leave sizes unknown, which is written
        // as all ones.
        if matches!(id, SEGMENT | CLUSTER | BLOCK_GROUP) {
            let unknown = (1_u64 << (7 * (after.len() - body.len()))) - 1;
            if size != unknown && size > body.len() as u64 {
                return Err(Damage("the file is cut off"));
            }
            rest = body;
            continue;
        }
        let element = usize::try_from(size).ok().and_then(|size| body.split_at_checked(size));
        let (value, next) = element.ok_or(MALFORMED)?;
        match id {
            SIMPLE_BLOCK | BLOCK => check_block(value)?,
            TIMESTAMP if value.len() == 8 && value[0] & 0x80 != 0 => return Err(NO_TIME),
            DISCARD_PADDING if value.len() <= 8 => {
                if value.first().is_some_and(|&byte| byte & 0x80 != 0) {
                    return Err(Damage("something is cut off at the start"));
                }
                trim = samples(value.iter().fold(0_u64, |sum, &byte| (sum << 8) | u64::from(byte)));
            }
            _ => {}
        }
        rest = next;
    }
    Ok(trim)
}

const MALFORMED: Damage = Damage("the file is malformed");
const NO_TIME: Damage = Damage("a block has a time that no recording has");

/// Refuses blocks that matroska-demuxer would misread. A block's time is a signed 16-bit offset, and the smallest one
/// cannot be negated; frames of fixed size need a length that their number divides; and for one frame, EBML lacing
/// states no size. <https://www.matroska.org/technical/notes.html#block-lacing>
fn check_block(block: &[u8]) -> Result<(), Damage> {
    let (_, rest) = vint(block, true).ok_or(MALFORMED)?;
    let (time, rest) = rest.split_first_chunk::<2>().ok_or(MALFORMED)?;
    if i16::from_be_bytes(*time) == i16::MIN {
        return Err(NO_TIME);
    }
    let (flags, frames) = rest.split_first().ok_or(MALFORMED)?;
    match (flags & 0x06, frames.split_first()) {
        (0, _) | (0x02, Some(_)) | (0x06, Some((1.., _))) => Ok(()),
        (0x04, Some((&more, all))) if all.len() % (usize::from(more) + 1) == 0 => Ok(()),
        _ => Err(Damage("a block is malformed")),
    }
}

/// An EBML number of variable length. An id keeps its length marker, a size does not.
pub(crate) fn vint(bytes: &[u8], is_size: bool) -> Option<(u64, &[u8])> {
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
