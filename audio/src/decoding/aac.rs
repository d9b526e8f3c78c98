//! AAC-LC in MP4 and in ADTS.

use crate::decoding::NotDecoded;
use crate::decoding::output::Output;
use crate::decoding::symphonia::Decoder;
use crate::formats::mp4::{Aac, RATES, aac, be_u32, child, descend, entries_of, runs};

/// Size limit of the frame of one or two channels, in bytes: 6144 bits for each (ISO/IEC 14496-3, 4.5.3.2), doubled.
const LONGEST_FRAME: usize = 4 * 768;

/// Decodes the only track.
pub(crate) fn in_mp4(bytes: &[u8], output: &mut Output<'_>) -> Result<(), NotDecoded> {
    let trak = descend(bytes, &[b"moov", b"trak"]).ok_or(NotDecoded::Unknown)?;
    let table = descend(trak, &[b"mdia", b"minf", b"stbl"]).ok_or(NotDecoded::Unknown)?;
    let configuration = configuration(table).ok_or(NotDecoded::Unknown)?;
    // The edit list says how many samples are dropped at the start.
    let skipped = descend(trak, &[b"edts", b"elst"]).and_then(|elst| be_u32(elst, 12)).unwrap_or(0);
    output.skip(u64::from(skipped));
    let mut decoder = Decoder::aac(configuration.sample_rate, configuration.channels)?;
    each_frame(bytes, table, |frame| decoder.decode(frame, output))
}

fn configuration(table: &[u8]) -> Option<Aac> {
    aac(child(child(table, b"stsd")?.get(8..)?, b"mp4a")?)
}

/// Passes on the frames one by one, because a table may state billions of them.
fn each_frame(
    bytes: &[u8],
    table: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), NotDecoded>,
) -> Result<(), NotDecoded> {
    let stsz = child(table, b"stsz").ok_or(NotDecoded::Unknown)?;
    let alike = be_u32(stsz, 4).ok_or(NotDecoded::Unknown)?;
    let listed = if alike == 0 { stsz.get(4..).and_then(entries_of::<1>) } else { Some(Vec::new()) };
    let mut listed = listed.ok_or(NotDecoded::Unknown)?.into_iter().map(|[size]| size);
    let (chunks, _) = runs(table).ok_or(NotDecoded::Unknown)?;
    for (begin, length) in chunks {
        let chunk = usize::try_from(begin).ok().zip(usize::try_from(length).ok());
        let chunk = chunk.and_then(|(begin, length)| bytes.get(begin..begin.checked_add(length)?));
        let mut rest = chunk.ok_or(NotDecoded::Failed)?;
        while !rest.is_empty() {
            let size = if alike == 0 { listed.next() } else { Some(alike) };
            let size = size.and_then(|size| usize::try_from(size).ok());
            let size = size.filter(|size| (1..=LONGEST_FRAME).contains(size)).ok_or(NotDecoded::Failed)?;
            let (frame, after) = rest.split_at_checked(size).ok_or(NotDecoded::Failed)?;
            each(frame)?;
            rest = after;
        }
    }
    Ok(())
}

pub(crate) fn in_adts(bytes: &[u8], output: &mut Output<'_>) -> Result<(), NotDecoded> {
    let &[_, id, a, b, ..] = bytes.first_chunk::<7>().ok_or(NotDecoded::Unknown)?;
    let rate = *RATES.get(usize::from(a >> 2 & 15)).ok_or(NotDecoded::Unknown)?;
    let mut decoder = Decoder::aac(rate, (a & 1) << 2 | b >> 6)?;
    let before = if id & 1 == 0 { 9 } else { 7 };
    let mut rest = bytes;
    while let Some(&[_, _, _, b, c, d, blocks]) = rest.first_chunk::<7>() {
        let length = usize::from(b & 3) << 11 | usize::from(c) << 3 | usize::from(d >> 5);
        // Several blocks in a frame are allowed, and nobody writes them.
        let frame = rest.split_at_checked(length).filter(|_| length > before && blocks & 3 == 0);
        let (frame, after) = frame.ok_or(NotDecoded::Failed)?;
        decoder.decode(&frame[before..], output)?;
        rest = after;
    }
    Ok(())
}
