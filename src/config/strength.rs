//! Estimates from its form how hard a secret is to guess.

use std::collections::BTreeSet;

use uuid::Uuid;

/// A secret with this many random bits cannot be guessed.
pub const ENOUGH: f64 = 128.0;

/// The bits of one word of a passphrase, from a list of 7776 words. <https://www.eff.org/dice>
const WORD: f64 = 12.9;

/// A random UUID has 128 bits, of which six are not random. <https://www.rfc-editor.org/rfc/rfc9562#section-5.4>
const UUID: f64 = 122.0;

/// Whether a text of this form can have 128 random bits. Whether it really has them cannot be known.
pub fn is_strong(text: &str) -> bool {
    bits(text.strip_prefix("vg_").unwrap_or(text)) >= ENOUGH
}

/// Whether the text is the hexadecimal SHA-256 hash of a key, as `voicegate keys new` shows it after `sha256:`.
pub fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The most random bits that a text of this form can have.
fn bits(text: &str) -> f64 {
    // Without its dashes, a UUID looks like 32 hexadecimal digits, which may all be random.
    if text.contains('-') && Uuid::try_parse(text).is_ok() {
        return UUID;
    }
    let letters: Vec<char> = text.trim_end_matches('=').chars().collect();
    let letters = without_repetition(&letters);
    if let Some(bits) = of_words(letters) {
        return bits;
    }
    let distinct = letters.iter().collect::<BTreeSet<_>>().len();
    let alphabet = alphabet(letters);
    // A random text contains at least half as many different letters as it could.
    let alphabet = if distinct * 2 < alphabet.min(letters.len()) { distinct } else { alphabet };
    (alphabet.max(1) as f64).log2() * unforeseen(letters) as f64
}

/// Shortens a text that repeats one piece to that piece.
fn without_repetition(letters: &[char]) -> &[char] {
    let repeats = |length: &usize| letters.iter().skip(*length).zip(letters).all(|(one, other)| one == other);
    let length = (1..=letters.len() / 2).find(repeats).unwrap_or(letters.len());
    &letters[..length]
}

/// Counts the letters that do not continue a sequence. `abcdefgh` and `87654321` count as one letter each. Short
/// sequences are ignored.
fn unforeseen(letters: &[char]) -> usize {
    let follow = |by: i64| {
        let step = |pair: &&[char]| {
            [0, by].contains(&(i64::from(u32::from(pair[1])) - i64::from(u32::from(pair[0]))))
        };
        letters.windows(2).filter(step).count()
    };
    let most = follow(1).max(follow(-1));
    if most * 2 > letters.len() { letters.len() - most } else { letters.len() }
}

/// The size of the alphabet that the letters of the text come from.
fn alphabet(letters: &[char]) -> usize {
    let any = |kind: fn(&char) -> bool| letters.iter().any(kind);
    let (lower, upper, digit) =
        (any(char::is_ascii_lowercase), any(char::is_ascii_uppercase), any(char::is_ascii_digit));
    let others: BTreeSet<char> = letters.iter().copied().filter(|c| !c.is_ascii_alphanumeric()).collect();
    if others.is_empty() && !(lower && upper) && letters.iter().all(char::is_ascii_hexdigit) {
        return if lower || upper { 16 } else { 10 };
    }
    if lower && upper && others.iter().all(|c| "+/-_".contains(*c)) {
        return 64;
    }
    let classes = [(lower, 26), (upper, 26), (digit, 10)];
    classes.iter().map(|(there, letters)| if *there { *letters } else { 0 }).sum::<usize>() + others.len()
}

/// Words with separators: `correct-horse-battery-staple`, `my_key_2026`.
fn of_words(letters: &[char]) -> Option<f64> {
    let parts: Vec<&[char]> =
        letters.split(|c| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let is_word = |part: &[char]| {
        let rest_is_lower = part.iter().skip(1).all(char::is_ascii_lowercase);
        rest_is_lower && part.iter().all(char::is_ascii_alphabetic)
            || part.iter().all(char::is_ascii_uppercase)
    };
    let is_number = |part: &[char]| part.iter().all(char::is_ascii_digit);
    if parts.len() < 2 || !parts.iter().all(|part| is_word(part) || is_number(part)) {
        return None;
    }
    let of_part = |part: &&[char]| if is_word(part) { WORD } else { part.len() as f64 * 10_f64.log2() };
    Some(parts.iter().map(of_part).sum())
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn what_can_be_guessed_is_reported_from_what_cannot() {
        for weak in [
            "",
            "x",
            "changeme",
            "hunter2",
            "my-secret-key",
            "vg_test_key_of_tenant_a",
            "correct horse battery staple",
            "Correct-Horse-Battery-Staple-2026",
            "secret-callback-token-0123",
            "0123456789abcdef",
            "0123456789abcdef0123456789abcdef",
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "zyxwvutsrqponmlkjihgfedcba9876543210",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
            "passwordpasswordpasswordpassword",
            "6a1f3c9d2b7e4058",
            "018f3c52-7b1e-4c6a-9d2f-3b5e7a9c1d04",
            "20260101123000123456789",
            "vg_7yN0cQm2xWbT4hRk",
        ] {
            assert!(!is_strong(weak), "{weak}: {}", bits(weak));
        }
    }

    #[test]
    fn what_chance_makes_is_strong_in_every_usual_spelling() {
        let digits = |bytes: &[u8]| -> String {
            hex::encode(bytes).bytes().map(|byte| char::from(b'0' + byte % 10)).collect()
        };
        for _ in 0..2000 {
            let random: [u8; 32] = rand::random();
            for strong in [
                format!("vg_{}", BASE64_URL_SAFE_NO_PAD.encode(random)),
                BASE64_STANDARD.encode(random),
                BASE64_STANDARD.encode(&random[..24]),
                hex::encode(random),
                hex::encode(&random[..16]),
                digits(&random),
            ] {
                assert!(is_strong(&strong), "{strong}: {}", bits(&strong));
            }
        }
        assert!(is_strong("9f86d081884c7d659a2feaa0c55ad015"), "32 hexadecimal digits have 128 bits");
        assert!(is_strong("acid bagel candy dodge easel fable gecko habit igloo jelly"), "ten words");
    }

    #[test]
    fn a_hash_is_known_by_its_form() {
        assert!(is_hash(&"0aF9".repeat(16)));
        assert!(!is_hash(&"0aF9".repeat(15)) && !is_hash(&"0aG9".repeat(16)));
    }
}
