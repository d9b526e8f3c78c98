//! "Did you mean": the known word that is nearest to one that is not known.

/// The nearest of `known`, where at most a third of the letters are off.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let letters = |text: &str| text.chars().count();
    let measured = known.iter().map(|known| (strsim::damerau_levenshtein(&word, known), *known));
    let near = measured.filter(|(off, known)| off * 3 <= letters(&word).max(letters(known)));
    near.min_by_key(|(off, _)| *off).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let known = ["route", "routes", "webhook", "api_keys"];
        for (word, meant) in [
            ("rout", Some("route")),
            ("ruote", Some("route")),
            ("Route", Some("route")),
            ("api-keys", Some("api_keys")),
            ("webhoks", Some("webhook")),
            ("connection", None),
            ("to", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
    }
}
