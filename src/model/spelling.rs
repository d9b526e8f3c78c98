//! Suggestions for names that somebody mistyped.

/// Names longer than this are not compared, because the cost grows with the square of the length.
const LONGEST: usize = 64;

/// The known name that `word` most likely stands for, or `None` if none is similar. Case and the difference between `-`
/// and `_` are ignored. A swapped pair of letters counts as one mistake.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = plain(word);
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let distance = |name: &&'a str| strsim::osa_distance(&word, &plain(name));
    let (distance, name) = known.iter().map(|name| (distance(name), *name)).min_by_key(|(d, _)| *d)?;
    // Names that differ in more than a third of their letters are different words.
    let allowed = (word.chars().count().max(name.chars().count()) / 3).clamp(1, 3);
    (distance <= allowed && distance < name.chars().count()).then_some(name)
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 9] =
        ["to", "audio", "via", "convert", "reply_to", "text", "send_at", "expires_in", "metadata"];

    #[test]
    fn mistyped_names_are_recognised() {
        for (word, meant) in [
            ("vai", "via"),
            ("Via", "via"),
            ("viaa", "via"),
            ("audoi", "audio"),
            ("reply-to", "reply_to"),
            ("replyTo", "reply_to"),
            ("sendat", "send_at"),
            ("expire_in", "expires_in"),
            ("meta_data", "metadata"),
            ("txet", "text"),
        ] {
            assert_eq!(nearest(word, &FIELDS), Some(meant), "{word}");
        }
    }

    #[test]
    fn different_word_is_not_suggested() {
        for word in ["", "x", "tone", "voice", "speed", "caption", &"a".repeat(10_000)] {
            assert_eq!(nearest(word, &FIELDS), None, "{word:.20}");
        }
    }
}
