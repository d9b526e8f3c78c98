//! Linear samples in CAF with fewer bits than their bytes have, such as 24 bits in four bytes. The bits are
//! left-aligned, so all of them may be read. Some decoders derive the number of bytes from the number of bits, and read
//! noise.

/// The field with the number of bits, if some bytes are only partly used: its offset in a file whose description begins
/// at `start`, and its new value, which counts all bits.
pub(crate) fn in_use(desc: [u8; 32], start: u64) -> Option<(u64, Vec<u8>)> {
    const BITS_AT: u64 = 28;
    const IS_FLOAT: u32 = 1;
    let [_, format, flags, per_packet, frames, channels, bits] =
        std::array::from_fn(|field| number(&desc, 4 * (field + 1)));
    let samples = frames.checked_mul(channels).filter(|&samples| samples > 0)?;
    let bytes = (per_packet % samples == 0).then_some(per_packet / samples)?;
    let has_decoder = if flags & IS_FLOAT == 0 { (1..=4).contains(&bytes) } else { matches!(bytes, 4 | 8) };
    let is_linear = format == u32::from_be_bytes(*b"lpcm");
    let in_part = is_linear && has_decoder && bits > 0 && bits < 8 * bytes;
    in_part.then(|| (start + BITS_AT, (8 * bytes).to_be_bytes().to_vec()))
}

fn number(desc: &[u8; 32], at: usize) -> u32 {
    desc.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(format: &[u8; 4], flags: u32, bytes: u32, channels: u32, bits: u32) -> [u8; 32] {
        let mut desc = [0; 32];
        desc[..8].copy_from_slice(&24_000_f64.to_be_bytes());
        desc[8..12].copy_from_slice(format);
        for (field, value) in [flags, bytes * channels, 1, channels, bits].into_iter().enumerate() {
            desc[12 + 4 * field..16 + 4 * field].copy_from_slice(&value.to_be_bytes());
        }
        desc
    }

    #[test]
    fn unused_bits_are_read_as_well() {
        let read = |flags, bytes, channels, bits| {
            let found = in_use(description(b"lpcm", flags, bytes, channels, bits), 20);
            found.map(|(at, bits)| (at, u32::from_be_bytes(bits.try_into().unwrap())))
        };
        for (flags, bytes, channels, bits) in
            [(2, 4, 1, 24), (0, 4, 2, 24), (2, 3, 1, 20), (0, 2, 2, 12), (1, 4, 1, 24)]
        {
            assert_eq!(
                read(flags, bytes, channels, bits),
                Some((48, 8 * bytes)),
                "{bits} bits in {bytes} bytes"
            );
        }
        for (flags, bytes, channels, bits) in
            [(2, 4, 1, 32), (2, 3, 1, 24), (1, 4, 1, 32), (1, 8, 2, 64), (2, 4, 1, 0), (2, 5, 1, 24)]
        {
            assert_eq!(read(flags, bytes, channels, bits), None, "{bits} bits in {bytes} bytes");
        }
        assert_eq!(in_use(description(b"opus", 0, 0, 1, 0), 20), None);
        assert_eq!(in_use(description(b"alaw", 0, 4, 1, 8), 20), None);
    }
}
