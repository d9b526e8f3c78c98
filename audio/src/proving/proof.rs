//! Strict checks of produced files, to the last byte. Sources may deviate and still be read; produced files may not.

use std::ops::Range;

use crate::formats::iff::{CHANNELS, RATES};
use crate::formats::mp4::{child, descend, runs};

type Proof<T> = Result<T, &'static str>;

/// Checks for one `ftyp`, then one `moov`, then one `mdat` that the samples of the only track fill without a gap. Free
/// space may lie between.
pub(crate) fn mp4(bytes: &[u8]) -> Proof<()> {
    let mut position = 0;
    let (mut index, mut samples): (Option<&[u8]>, Option<Range<u64>>) = (None, None);
    while position < bytes.len() {
        let rest = &bytes[position..];
        let Some((&[s0, s1, s2, s3, ref kind @ ..], _)) = rest.split_first_chunk::<8>() else {
            return Err("ends in the middle of a box");
        };
        // Longer boxes store their size elsewhere; no produced file comes near that.
        let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        let content = rest.get(8..size).ok_or("has a box that does not fit into the file")?;
        match kind {
            b"ftyp" if position == 0 => {}
            _ if position == 0 => return Err("does not begin with its type"),
            b"moov" if index.is_none() && samples.is_none() => index = Some(content),
            b"moov" => return Err("has its index behind the audio"),
            b"mdat" if samples.is_none() => {
                samples = Some(position as u64 + 8..(position + size) as u64);
            }
            b"free" => {}
            _ => return Err("has a box that does not belong there"),
        }
        position += size;
    }
    let (Some(index), Some(samples)) = (index, samples) else { return Err("has no index, or no audio") };
    let table = child(index, b"trak").and_then(|trak| descend(trak, &[b"mdia", b"minf", b"stbl"]));
    let (runs, _) = table.and_then(runs).ok_or("has tables that cannot be followed")?;
    let mut end = samples.start;
    for (offset, size) in runs {
        if offset != end {
            return Err("has samples that do not follow each other");
        }
        end += size;
    }
    if end == samples.end { Ok(()) } else { Err("has samples that do not fill the audio") }
}

/// Contents of a produced WAV file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wav {
    pub sample_rate: u32,
    pub channels: u16,
    /// Number of samples per channel.
    pub samples: u64,
}

/// Checks for linear 16-bit PCM with a canonical header and samples up to the end.
pub(crate) fn wav(bytes: &[u8]) -> Proof<Wav> {
    let (header, samples) = bytes.split_first_chunk::<44>().ok_or("ends in the middle of its header")?;
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    if !header.starts_with(b"RIFF") || header[8..16] != *b"WAVEfmt " || header[36..40] != *b"data" {
        return Err("has other chunks than those of plain WAV");
    }
    if u64::from(number(4)) + 8 != bytes.len() as u64 || u64::from(number(40)) != samples.len() as u64 {
        return Err("has sizes that are not true");
    }
    let (channels, sample_rate, block) = (short(22), number(24), u32::from(short(32)));
    let plain = number(16) == 16 && short(20) == 1 && short(34) == 16;
    if !CHANNELS.contains(&channels) || !RATES.contains(&sample_rate) {
        return Err("has a rate or a number of channels that nobody reads");
    }
    if !plain || block != 2 * u32::from(channels) || number(28) != sample_rate * block {
        return Err("is not PCM of 16 bits");
    }
    let block = u64::from(block);
    if samples.is_empty() || !(samples.len() as u64).is_multiple_of(block) {
        return Err("has no whole samples");
    }
    Ok(Wav { sample_rate, channels, samples: samples.len() as u64 / block })
}
