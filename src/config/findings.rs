//! Collects the mistakes and warnings of a configuration, each with its place and key.

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

    /// Adds a mistake, which prevents the start.
    pub fn mistake(&mut self, path: &KeyPath, says: impl Display) {
        let place = self.places.find(path);
        self.mistakes.push(line(place, path, &says));
        self.told.insert(path.clone());
    }

    /// Adds a mistake about a key that may not be written anywhere, and is caused by another key.
    pub fn mistake_because_of(&mut self, reason: &KeyPath, path: &KeyPath, says: impl Display) {
        let place = self.places.line(path).or_else(|| self.places.find(reason));
        self.mistakes.push(line(place, path, &says));
        self.told.insert(path.clone());
    }

    /// Adds a warning: the operator should know it, but the gateway starts.
    pub fn warning(&mut self, path: &KeyPath, says: impl Display) {
        let place = self.places.find(path);
        self.warnings.push(line(place, path, &says));
    }

    /// Adds a warning that belongs to no key.
    pub fn remark(&mut self, says: String) {
        self.warnings.push((None, says));
    }

    /// Whether there is a mistake about exactly this key.
    pub fn is_told(&self, path: &KeyPath) -> bool {
        self.told.contains(path)
    }

    /// The number of mistakes so far.
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
