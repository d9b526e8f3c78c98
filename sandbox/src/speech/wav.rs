//! WAV as a speech server streams it, and the little of it that a transcription server has to read.

/// A WAV file of one channel with 16 bits. A server that streams does not know the sizes when it begins, so `streamed`
/// has the largest number in their place, as OpenAI's has.
pub(super) fn file(samples: &[i16], rate: u32, streamed: bool) -> Vec<u8> {
    let size = u32::try_from(samples.len() * 2).unwrap_or(u32::MAX);
    let (whole, data) = if streamed { (u32::MAX, u32::MAX) } else { (size + 36, size) };
    let mut file = Vec::with_capacity(44 + samples.len() * 2);
    file.extend(b"RIFF");
    file.extend(whole.to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(rate.to_le_bytes());
    file.extend((rate * 2).to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(data.to_le_bytes());
    file.extend(bytes(samples));
    file
}

/// Samples without a header, least significant byte first.
pub(super) fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// mu-law of telephony: ITU-T G.711.
pub(super) fn mulaw(samples: &[i16]) -> Vec<u8> {
    let encode = |sample: &i16| {
        let sign = if *sample < 0 { 0x80 } else { 0 };
        let value = i32::from(*sample).abs().min(32_635) + 132;
        let exponent = (31 - value.leading_zeros()).saturating_sub(7).min(7);
        let mantissa = (value >> (exponent + 3)) & 0x0f;
        !(sign | (exponent as u8) << 4 | mantissa as u8)
    };
    samples.iter().map(encode).collect()
}

/// The samples of a file with one channel of 16 bits, and their rate.
pub(super) fn read(file: &[u8]) -> Option<(Vec<i16>, u32)> {
    let number = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?));
    if !file.starts_with(b"RIFF") || file.get(8..12)? != b"WAVE" {
        return None;
    }
    let (mut at, mut rate) = (12, None);
    loop {
        let (kind, size) = (file.get(at..at + 4)?, number(at + 4)? as usize);
        let start = at + 8;
        match kind {
            b"fmt " => {
                let is_plain = file.get(start..start + 4)? == b"\x01\0\x01\0" && file.get(start + 14)? == &16;
                rate = Some(number(start + 4)?).filter(|_| is_plain);
            }
            b"data" => {
                let end = start.saturating_add(size).min(file.len());
                let samples = file[start..end].chunks_exact(2);
                return Some((samples.map(|two| i16::from_le_bytes([two[0], two[1]])).collect(), rate?));
            }
            _ => {}
        }
        at = start + size + size % 2;
    }
}
