//! Compares the start time of each fragment of an MP4 file with the sound in the fragments before it.
//!
//! ffmpeg places the samples of a fragment at its start time and discards earlier sound at that place. So if a fragment
//! begins before the previous one ended, as in recordings that were appended to each other, speech would be lost.

use std::io::{self, Read, Seek, SeekFrom};

use super::clock::{Clock, Steps};
use super::mp4::{be_u32, be_u64, boxes, child, descend, times};
use super::patched::PatchedFile;

/// Size limit of the description of a fragment, in bytes; it needs some bytes per frame.
const LARGEST_FRAGMENT: u64 = 4 << 20;
const LARGEST_INDEX: u64 = 32 << 20;
const MOST_BOXES: usize = 20_000;
/// Fraction of a second to which fragment times may be rounded.
const ROUNDED: i128 = 50;

/// A fragment of the selected track.
struct Fragment {
    /// Offset, length in bytes and value of its start time.
    time: Option<(u64, usize, u64)>,
    /// Duration of its samples.
    lasts: u64,
}

/// A patched file whose fragments begin at or after the end of the previous one. Returns `None` if they do so already.
pub(crate) fn in_order(reader: &mut (impl Read + Seek), track: u32) -> io::Result<Option<PatchedFile>> {
    let length = reader.seek(SeekFrom::End(0))?;
    let mut selected: Option<SelectedTrack> = None;
    let mut fragments = Vec::new();
    // Boxes that list the times again.
    let mut lists = Vec::new();
    let mut position = 0_u64;
    for _ in 0..MOST_BOXES {
        if position.saturating_add(8) > length {
            break;
        }
        reader.seek(SeekFrom::Start(position))?;
        let mut header = [0; 8];
        reader.read_exact(&mut header)?;
        let [s0, s1, s2, s3, kind @ ..] = header;
        let size = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => length - position,
            1 if length - position >= 16 => {
                let mut long = [0; 8];
                reader.read_exact(&mut long)?;
                u64::from_be_bytes(long)
            }
            size => u64::from(size),
        };
        if size < 8 || size > length - position {
            break;
        }
        match &kind {
            b"moov" if size <= LARGEST_INDEX => {
                selected = SelectedTrack::of(&content(reader, position, size)?, track);
            }
            b"moof" if size <= LARGEST_FRAGMENT => {
                let moof = content(reader, position, size)?;
                fragments
                    .extend(selected.as_ref().and_then(|selected| selected.fragment(&moof, position + 8)));
            }
            b"sidx" | b"mfra" => lists.push(position + 4),
            _ => {}
        }
        position += size;
    }
    let Some(selected) = selected else { return Ok(None) };
    Ok(anew(&fragments, &selected).map(|times| rewritten(times, &lists, length)))
}

fn content(reader: &mut (impl Read + Seek), position: u64, size: u64) -> io::Result<Vec<u8>> {
    reader.seek(SeekFrom::Start(position + 8))?;
    let mut bytes = Vec::new();
    reader.take(size - 8).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The selected track.
struct SelectedTrack {
    id: u32,
    /// Units of its time per second.
    scale: u64,
    /// Duration of a sample if the fragment does not state it.
    lasts: u64,
}

impl SelectedTrack {
    fn of(moov: &[u8], track: u32) -> Option<Self> {
        let is_sound = |trak: &&[u8]| {
            let handler = descend(trak, &[b"mdia", b"hdlr"]).and_then(|hdlr| hdlr.get(8..12));
            handler.is_some_and(|kind| kind == b"soun")
        };
        let tracks = boxes(moov).filter(|(kind, _)| kind == b"trak").map(|(_, trak)| trak);
        let trak = tracks.filter(is_sound).nth(usize::try_from(track).ok()?)?;
        let header = child(trak, b"tkhd")?;
        let id = be_u32(header, if header.first()? == &0 { 12 } else { 20 })?;
        let (scale, _) = descend(trak, &[b"mdia", b"mdhd"]).and_then(times)?;
        let defaults = child(moov, b"mvex")?;
        let own = boxes(defaults).find(|(kind, trex)| kind == b"trex" && be_u32(trex, 4) == Some(id));
        let lasts = own.and_then(|(_, trex)| be_u32(trex, 12)).unwrap_or(0).into();
        Some(Self { id, scale, lasts })
    }

    /// The part of the track in a fragment at offset `start`.
    fn fragment(&self, moof: &[u8], start: u64) -> Option<Fragment> {
        const DURATION: u32 = 0x8;
        let is_own = |traf: &[u8]| child(traf, b"tfhd").and_then(|tfhd| be_u32(tfhd, 4)) == Some(self.id);
        let (_, traf) = boxes(moof).find(|(kind, traf)| kind == b"traf" && is_own(traf))?;
        let tfhd = child(traf, b"tfhd")?;
        let flags = be_u32(tfhd, 0)? & 0xff_ffff;
        // A base data offset of eight bytes and a description index of four may precede it.
        let before = 8 + if flags & 1 != 0 { 8 } else { 0 } + if flags & 2 != 0 { 4 } else { 0 };
        let lasts = if flags & DURATION != 0 { be_u32(tfhd, before)?.into() } else { self.lasts };
        let time = child(traf, b"tfdt").and_then(|tfdt| {
            let at = start + (tfdt.as_ptr() as usize - moof.as_ptr() as usize) as u64 + 4;
            match tfdt.first()? {
                0 => Some((at, 4, be_u32(tfdt, 4)?.into())),
                _ => Some((at, 8, be_u64(tfdt, 4)?)),
            }
        });
        let runs = boxes(traf).filter(|(kind, _)| kind == b"trun");
        let lasts = runs.map(|(_, trun)| run(trun, lasts)).sum::<Option<u64>>()?;
        Some(Fragment { time, lasts })
    }
}

/// Duration of the samples of a run. A sample without a stated duration lasts `each`.
fn run(trun: &[u8], each: u64) -> Option<u64> {
    const DURATION: u32 = 0x100;
    let flags = be_u32(trun, 0)? & 0xff_ffff;
    let count = u64::from(be_u32(trun, 4)?);
    if flags & DURATION == 0 {
        return count.checked_mul(each);
    }
    let before = 8 + 4 * (flags & 1) + (flags & 4);
    // Duration, size, flags and composition offset of a sample, as far as they are present.
    let length = 4 * (flags >> 8 & 0xf).count_ones();
    let samples = trun.get(usize::try_from(before).ok()?..)?.chunks_exact(usize::try_from(length).ok()?);
    let samples = samples.take(usize::try_from(count).ok()?);
    samples.map(|sample| be_u32(sample, 0).map(u64::from)).sum()
}

/// New start times for all fragments, as offset and bytes, if one begins before the previous one ended. Pauses are
/// kept.
fn anew(fragments: &[Fragment], selected: &SelectedTrack) -> Option<Vec<(u64, Vec<u8>)>> {
    let rounded = (i128::from(selected.scale) / ROUNDED).max(1);
    let mut steps = Steps::of(selected.scale);
    let mut overlaps = false;
    let mut last: Option<(u64, u64)> = None;
    for fragment in fragments {
        let (.., begins) = fragment.time?;
        if let Some((before, lasted)) = last {
            let (stated, lasted) = (i128::from(begins) - i128::from(before), i128::from(lasted));
            steps.add(1, stated, lasted, rounded);
            overlaps |= stated < lasted - rounded;
        }
        last = Some((begins, fragment.lasts));
    }
    if !overlaps {
        return None;
    }
    let keeps_pauses = steps.verdict() != Clock::Wrong;
    let mut times = Vec::new();
    // End of the previous fragment by its own time, and by its new time.
    let mut ended: Option<(u64, u64)> = None;
    for fragment in fragments {
        let (at, length, begins) = fragment.time?;
        let begins_now = ended.map_or(begins, |(stated, now)| {
            let pause = begins.saturating_sub(stated);
            if keeps_pauses && i128::from(pause) > rounded { now + pause } else { now }
        });
        ended = Some((begins + fragment.lasts, begins_now + fragment.lasts));
        times.push((at, begins_now.to_be_bytes()[8 - length..].to_vec()));
    }
    Some(times)
}

/// A patched file with these fields, and without the boxes that list the old times.
fn rewritten(mut fields: Vec<(u64, Vec<u8>)>, lists: &[u64], length: u64) -> PatchedFile {
    fields.extend(lists.iter().map(|&at| (at, b"free".to_vec())));
    fields.sort_unstable();
    PatchedFile::default().with_fields(fields, length)
}
