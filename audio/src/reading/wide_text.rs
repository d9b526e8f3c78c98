//! Detects text with characters of two or four bytes (UTF-16, UTF-32), as Windows and its scripts write it. Half of its
//! bytes are zero, so it can be mistaken for quiet 16-bit samples.

/// Bytes per character, and whether the first is the most significant.
#[derive(Clone, Copy)]
struct Width {
    bytes: usize,
    big_endian: bool,
}

const WIDTHS: [Width; 4] = [
    // Longer marks come first, because the mark of UTF-32 begins with that of UTF-16.
    Width { bytes: 4, big_endian: false },
    Width { bytes: 4, big_endian: true },
    Width { bytes: 2, big_endian: false },
    Width { bytes: 2, big_endian: true },
];

const MARK: char = '\u{feff}';

/// Number of characters below which a match may be coincidence.
const SHORTEST: usize = 12;

/// The text in these bytes, or `None` if it is not certain. With a byte order mark, only control characters and
/// unassigned ones, which sound would contain, speak against text. Without a mark, the characters must be distributed
/// as in a written language.
pub(crate) fn wide_text(head: &[u8]) -> Option<String> {
    WIDTHS.into_iter().find_map(|width| {
        let text = decoded(head, width)?;
        match text.strip_prefix(MARK) {
            Some(marked) => (!marked.trim().is_empty()).then(|| marked.to_owned()),
            None => is_written(&text).then_some(text),
        }
    })
}

/// Decodes the characters, or returns `None` if one does not occur in text. A character cut off at the end is left out.
fn decoded(head: &[u8], Width { bytes, big_endian }: Width) -> Option<String> {
    let number = |unit: &[u8]| {
        let add = |sum: u32, byte: &u8| sum << 8 | u32::from(*byte);
        if big_endian { unit.iter().fold(0, add) } else { unit.iter().rev().fold(0, add) }
    };
    let units = head.chunks_exact(bytes).map(number);
    let characters: Option<String> = if bytes == 4 {
        units.map(|unit| char::from_u32(unit).filter(is_of_text)).collect()
    } else {
        let mut units: Vec<u16> = units.map(|unit| u16::try_from(unit).unwrap_or_default()).collect();
        if units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit)) {
            units.pop();
        }
        char::decode_utf16(units).map(|found| found.ok().filter(is_of_text)).collect()
    };
    characters.filter(|text| !text.is_empty())
}

/// Whether a character can occur in text: no control character, private-use character or noncharacter.
fn is_of_text(character: &char) -> bool {
    let is_private = matches!(character, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    let is_none = matches!(character, '\u{fff0}'..='\u{ffff}' | '\u{fdd0}'..='\u{fdef}');
    !is_private && !is_none && (!character.is_control() || matches!(character, '\t' | '\n' | '\r'))
}

/// Whether these are words in Latin letters. The codes of blanks, digits and most punctuation lie below those of
/// capital letters, and small letters above: two common groups with a rare one between. Samples of quiet sound, even
/// with an offset, come most often from the middle of their range.
fn is_written(text: &str) -> bool {
    let count = |is_meant: fn(&char) -> bool| text.chars().filter(is_meant).count();
    let all = count(|_| true);
    let foreign = count(|character| !character.is_ascii());
    let low = count(|character| *character < 'A');
    let middle = count(|character| ('G'..='`').contains(character));
    let small = count(char::is_ascii_lowercase);
    all >= SHORTEST && foreign == 0 && low * 20 >= all && small * 5 >= all * 2 && middle * 2 <= low.min(small)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, width: Width) -> Vec<u8> {
        let units: Vec<u32> = match width.bytes {
            2 => text.encode_utf16().map(u32::from).collect(),
            _ => text.chars().map(u32::from).collect(),
        };
        let bytes = |unit: u32| match (width.bytes, width.big_endian) {
            (2, false) => (unit as u16).to_le_bytes().to_vec(),
            (2, true) => (unit as u16).to_be_bytes().to_vec(),
            (_, false) => unit.to_le_bytes().to_vec(),
            (_, true) => unit.to_be_bytes().to_vec(),
        };
        units.into_iter().flat_map(bytes).collect()
    }

    #[test]
    fn text_of_wide_characters_is_read() {
        for text in [
            "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>",
            r#"{"error":{"message":"quota","code":429}}"#,
            "upstream connect error or disconnect/reset before headers",
        ] {
            for width in WIDTHS {
                assert_eq!(wide_text(&written(text, width)).as_deref(), Some(text));
                let marked = written(&format!("{MARK}{text}"), width);
                assert_eq!(wide_text(&marked).as_deref(), Some(text));
                assert_eq!(wide_text(&marked[..marked.len() - 1]).as_deref(), Some(&text[..text.len() - 1]));
            }
        }
        for text in ["\u{feff}こんにちは", "\u{feff}Ошибка сервера 🙂", "\u{feff}no"] {
            for width in WIDTHS {
                assert!(wide_text(&written(text, width)).is_some(), "{text}");
            }
        }
    }

    /// Tests quiet sound with and without an offset, and loud sound that begins like a byte order mark.
    #[test]
    fn samples_are_not_taken_for_text() {
        let samples = |middle: f64, around: f64| -> Vec<u8> {
            let sample = |at: u32| {
                let noise = f64::from(at.wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5;
                let wave = (f64::from(at) / 9.0).sin();
                (middle + around * (wave + noise) / 1.5) as i16
            };
            (0..4_000).flat_map(|at| sample(at).to_le_bytes()).collect()
        };
        for (middle, around) in [
            (0.0, 3.0),
            (0.0, 100.0),
            (75.0, 40.0),
            (100.0, 20.0),
            (60.0, 25.0),
            (0.0, 1_000.0),
            (0.0, 30_000.0),
        ] {
            let sound = samples(middle, around);
            assert_eq!(wide_text(&sound), None, "{around} around {middle}");
            let marked = [&[0xff, 0xfe], sound.as_slice()].concat();
            assert_eq!(wide_text(&marked).is_some(), middle > around, "{around} around {middle}");
        }
        assert_eq!(wide_text(&[0; 4_000]), None);
        assert_eq!(wide_text(&[]), None);
    }
}
