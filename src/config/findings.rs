//! What is wrong with a configuration, and what is worth a word: each with its place and its key.

use std::{collections::BTreeSet, fmt::Display};

use super::{
    path::KeyPath,
    places::{Place, Places},
};

#[derive(Debug, Default)]
pub struct Findings {
    pub places: Places,
    mistakes: Vec<(Option<Place>, String)>,
    warnings: Vec<(Option<Place>, String)>,
    /// The keys of the mistakes.
    told: BTreeSet<KeyPath>,
}

impl Findings {
    pub fn new(places: Places) -> Self {
        Self { places, ..Self::default() }
    }

    /// Something with which the gateway does not start.
    pub fn mistake(&mut self, path: &KeyPath, says: impl Display) {
        let place = self.places.find(path);
        self.mistakes.push(line(place, path, &says));
        self.told.insert(path.clone());
    }

    /// A mistake about a key that may be written nowhere, because of one that is.
    pub fn mistake_because_of(&mut self, reason: &KeyPath, path: &KeyPath, says: impl Display) {
        let place = self.places.line(path).or_else(|| self.places.find(reason));
        self.mistakes.push(line(place, path, &says));
        self.told.insert(path.clone());
    }

    /// Something that an operator wants to know; the gateway starts all the same.
    pub fn warning(&mut self, path: &KeyPath, says: impl Display) {
        let place = self.places.find(path);
        self.warnings.push(line(place, path, &says));
    }

    /// A warning about no key.
    pub fn remark(&mut self, says: String) {
        self.warnings.push((None, says));
    }

    /// Whether there is a mistake about exactly this key.
    pub fn is_told(&self, path: &KeyPath) -> bool {
        self.told.contains(path)
    }

    /// How many mistakes there are by now.
    pub fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// The mistakes and the warnings, in the order of the file.
    pub fn into_lines(self) -> (Vec<String>, Vec<String>) {
        (in_order(self.mistakes), in_order(self.warnings))
    }
}

fn line(place: Option<Place>, path: &KeyPath, says: &dyn Display) -> (Option<Place>, String) {
    let text = match &place {
        Some(place) => format!("{place}: {path}: {says}"),
        None => format!("{path}: {says}"),
    };
    (place, text)
}

fn in_order(mut found: Vec<(Option<Place>, String)>) -> Vec<String> {
    found.sort_by(|(one, _), (other, _)| (one.is_none(), one).cmp(&(other.is_none(), other)));
    found.into_iter().map(|(_, text)| text).collect()
}
