//! Detects hexadecimal text in place of base64. Its digits are base64 digits as well, so it decodes without an error,
//! to noise of 1.5 times the right length.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Number of digits below which a text may be either by chance.
const SHORTEST: u64 = 32;

/// Decides from all characters of a text whether it is hexadecimal: numerals, letters up to F in one case, and no other
/// character; `0x` may precede them. Base64 of silence consists of `A` only, and base64 of other sound has more letters
/// and both cases within its first dozen characters.
#[derive(Clone, Copy, Debug, Default)]
pub struct HexDigits {
    count: u64,
    has_numerals: bool,
    has_upper: bool,
    has_lower: bool,
    has_others: bool,
    /// The text begins with `0x`.
    has_mark: bool,
}

impl HexDigits {
    /// Takes the next characters.
    pub fn take(&mut self, text: &[u8]) {
        if self.has_others {
            return;
        }
        for &character in text {
            if self.count == 1 && self.has_numerals && !self.has_mark && character.eq_ignore_ascii_case(&b'x')
            {
                self.has_mark = true;
                continue;
            }
            if !character.is_ascii_hexdigit() {
                self.has_others = true;
                return;
            }
            self.count += 1;
            self.has_numerals |= character.is_ascii_digit();
            self.has_upper |= character.is_ascii_uppercase();
            self.has_lower |= character.is_ascii_lowercase();
        }
    }

    pub fn is_hexadecimal(&self) -> bool {
        !self.has_others && self.count >= SHORTEST && self.has_numerals && !(self.has_upper && self.has_lower)
    }
}

pub(crate) fn is_hexadecimal(text: &[u8]) -> bool {
    let mut digits = HexDigits::default();
    digits.take(text);
    digits.is_hexadecimal()
}

/// Whether these bytes result from hexadecimal text that was decoded as base64.
pub(crate) fn was_decoded_as_base64(bytes: &[u8]) -> bool {
    /// Number of bytes to check, a multiple of a base64 group. Silence at the start has few different digits.
    const LOOKED_AT: usize = 48 << 10;
    let length = bytes.len().min(LOOKED_AT) / 3 * 3;
    is_hexadecimal(BASE64_STANDARD.encode(&bytes[..length]).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_distinguished_from_base64() {
        let samples: Vec<u8> = (0..200_u32).map(|n| (n * n % 251) as u8).collect();
        let text = hex::encode(&samples);
        assert!(is_hexadecimal(text.as_bytes()));
        assert!(is_hexadecimal(text.to_uppercase().as_bytes()));
        assert!(is_hexadecimal(format!("0x{text}").as_bytes()));
        assert!(!is_hexadecimal(format!("0{text}x").as_bytes()));
        assert!(was_decoded_as_base64(&BASE64_STANDARD.decode(&text).unwrap()));
        assert!(!is_hexadecimal(BASE64_STANDARD.encode(&samples).as_bytes()));
        assert!(!was_decoded_as_base64(&samples));
    }

    /// Sound with little movement has few different bytes, and its base64 few different characters.
    #[test]
    fn quiet_sound_is_not_taken_for_hexadecimal() {
        for quiet in
            [[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0x80; 4], [0xff; 4], [0x7f; 4], [0xd5; 4], [0x55; 4]]
        {
            let samples = quiet.repeat(100);
            assert!(!is_hexadecimal(BASE64_STANDARD.encode(&samples).as_bytes()), "{quiet:?}");
            assert!(!was_decoded_as_base64(&samples), "{quiet:?}");
        }
    }
}
