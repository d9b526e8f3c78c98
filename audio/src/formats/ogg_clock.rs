//! Checks the granules of Ogg files with other codecs than Opus: whether the packets of a page can hold as much sound
//! as its granule states. The actual amount needs decoding; the codec's header gives an upper limit.

use std::io::{Read, Seek};

use super::clock::{Clock, Steps};
use super::ogg::{NO_GRANULE, next_page};

/// Whether most pages state more sound than their packets can hold.
pub(crate) fn is_ahead(reader: &mut (impl Read + Seek)) -> bool {
    // If a page is damaged, the pages before it decide.
    let mut next = || next_page(reader).ok().flatten();
    let Some(first) = next().filter(|page| page.first) else { return false };
    let Some(most) = most_samples(&first.body).filter(|&most| most > 0) else { return false };
    let mut steps = Steps::of(u64::from(most));
    let mut before = None;
    let mut packets = 0_u64;
    while let Some(page) = next() {
        if page.first || page.serial != first.serial {
            return false;
        }
        packets += page.lacing.iter().filter(|&&length| length < 255).count() as u64;
        // Header pages have a granule of 0.
        if matches!(page.granule, 0 | NO_GRANULE) {
            continue;
        }
        if let Some(before) = before {
            let stated = i128::from(page.granule) - i128::from(before);
            let room = i128::from(packets) * i128::from(most);
            // A page may hold less than the maximum, and a recording may begin at any granule.
            steps.add(1, stated, stated.min(room), 0);
        }
        before = Some(page.granule);
        packets = 0;
    }
    steps.verdict() == Clock::Wrong
}

/// Upper limit of the samples per channel in a packet, from the first header of its stream.
fn most_samples(header: &[u8]) -> Option<u32> {
    let le = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?));
    if header.starts_with(b"\x01vorbis") {
        // Two half blocks overlap in each packet. <https://xiph.org/vorbis/doc/Vorbis_I_spec.html#x1-630004.2.2>
        let longest = u32::from(header.get(28)? >> 4);
        return Some(1 << longest >> 1);
    }
    if header.starts_with(b"Speex   ") {
        return le(56)?.checked_mul(le(64)?.max(1));
    }
    if header.starts_with(b"\x7fFLAC") {
        let &[b0, b1] = header.get(19..)?.first_chunk()?;
        return Some(u16::from_be_bytes([b0, b1]).into());
    }
    None
}
