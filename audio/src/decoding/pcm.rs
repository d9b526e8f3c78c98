//! Samples that are stored as they are: linear ones of any width, and those of telephony.

use std::ops::Range;

use crate::decoding::NotDecoded;
use crate::decoding::output::Output;

/// Samples per channel that are converted at once.
const BLOCK: usize = 4_096;

/// The place and kind of samples in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Samples {
    pub at: Range<usize>,
    /// ffmpeg's name of the codec.
    pub codec: &'static str,
    pub channels: usize,
    pub rate: u32,
}

pub(crate) fn decode(bytes: &[u8], samples: &Samples, output: &mut Output<'_>) -> Result<(), NotDecoded> {
    let data = bytes.get(samples.at.clone()).ok_or(NotDecoded::Unknown)?;
    match samples.codec {
        "pcm_u8" => each(data, samples, output, |[a]: [u8; 1]| (f32::from(a) - 128.0) / 128.0),
        "pcm_s8" => each(data, samples, output, |bytes| f32::from(i8::from_le_bytes(bytes)) / 128.0),
        "pcm_s16le" => each(data, samples, output, |bytes| f32::from(i16::from_le_bytes(bytes)) / 32_768.0),
        "pcm_s16be" => each(data, samples, output, |bytes| f32::from(i16::from_be_bytes(bytes)) / 32_768.0),
        "pcm_s24le" => each(data, samples, output, |[a, b, c]| whole([0, a, b, c])),
        "pcm_s24be" => each(data, samples, output, |[a, b, c]| whole([0, c, b, a])),
        "pcm_s32le" => each(data, samples, output, whole),
        "pcm_s32be" => each(data, samples, output, |[a, b, c, d]| whole([d, c, b, a])),
        "pcm_f32le" => each(data, samples, output, f32::from_le_bytes),
        "pcm_f64le" => each(data, samples, output, |bytes| f64::from_le_bytes(bytes) as f32),
        "pcm_mulaw" => each(data, samples, output, |[a]| mulaw(a)),
        "pcm_alaw" => each(data, samples, output, |[a]| alaw(a)),
        _ => Err(NotDecoded::Unknown),
    }
}

/// Converts samples of `N` bytes.
fn each<const N: usize>(
    data: &[u8],
    samples: &Samples,
    output: &mut Output<'_>,
    convert: impl Fn([u8; N]) -> f32,
) -> Result<(), NotDecoded> {
    let Samples { channels, rate, .. } = *samples;
    if !(1..=2).contains(&channels) {
        return Err(NotDecoded::Unknown);
    }
    let mut planes = vec![Vec::with_capacity(BLOCK); channels];
    for block in data.as_chunks::<N>().0.chunks(BLOCK * channels) {
        for (channel, plane) in planes.iter_mut().enumerate() {
            plane.clear();
            plane.extend(block.iter().skip(channel).step_by(channels).map(|&bytes| convert(bytes)));
            // A filter spreads a value that is no number over its neighbours, and decoders clip what is beyond full scale
            // in different places.
            if !plane.iter().all(|sample| sample.abs() <= 1.0) {
                return Err(NotDecoded::Unknown);
            }
        }
        match planes.as_slice() {
            [left, right] => output.take(&[left, right], rate)?,
            [only, ..] => output.take(&[only], rate)?,
            [] => {}
        }
    }
    Ok(())
}

/// An integer of 32 bits, with the least significant byte first.
fn whole(bytes: [u8; 4]) -> f32 {
    (f64::from(i32::from_le_bytes(bytes)) / 2_147_483_648.0) as f32
}

/// mu-law of ITU-T G.711.
fn mulaw(byte: u8) -> f32 {
    let byte = !byte;
    let level = ((i32::from(byte & 0x0f) << 3) + 0x84) << (byte >> 4 & 7);
    let sample = level - 0x84;
    (if byte & 0x80 == 0 { sample } else { -sample }) as f32 / 32_768.0
}

/// A-law of ITU-T G.711.
fn alaw(byte: u8) -> f32 {
    let byte = byte ^ 0x55;
    let (mantissa, exponent) = (i32::from(byte & 0x0f), byte >> 4 & 7);
    let sample = match exponent {
        0 => (mantissa << 4) + 8,
        _ => ((mantissa << 4) + 0x108) << (exponent - 1),
    };
    (if byte & 0x80 == 0 { -sample } else { sample }) as f32 / 32_768.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telephony_codes_have_the_values_of_the_standard() {
        let near = |found: f32, expected: f32| (found * 32_768.0 - expected).abs() < 0.5;
        for (byte, expected) in [(0xff, 0.0), (0x7f, 0.0), (0x80, 32_124.0), (0x00, -32_124.0), (0xef, 132.0)]
        {
            assert!(near(mulaw(byte), expected), "{byte:#x}: {}", mulaw(byte) * 32_768.0);
        }
        for (byte, expected) in [(0xd5, 8.0), (0x55, -8.0), (0xaa, 32_256.0), (0x2a, -32_256.0)] {
            assert!(near(alaw(byte), expected), "{byte:#x}: {}", alaw(byte) * 32_768.0);
        }
    }

    #[test]
    fn integers_of_every_width_have_full_scale_one() {
        assert!((whole([0, 0, 0, 0x40]) - 0.5).abs() < 1e-6);
        assert!((whole([0, 0, 0, 0x80]) + 1.0).abs() < 1e-6);
    }
}
