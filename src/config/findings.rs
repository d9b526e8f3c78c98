//! Collects the mistakes and warnings of a configuration, each with its location and key.

use std::{collections::BTreeSet, fmt::Display};

use super::{
    locations::{Location, Locations},
    path::KeyPath,
};

#[derive(Debug, Default)]
pub struct Findings {
    pub locations: Locations,
    mistakes: Vec<(Option<Location>, String)>,
    warnings: Vec<(Option<Location>, String)>,
    /// The keys of the mistakes.
    reported: BTreeSet<KeyPath>,
}

impl Findings {
    pub fn new(locations: Locations) -> Self {
        Self { locations, ..Self::default() }
    }

    /// Adds a mistake, which prevents the start.
    pub fn mistake(&mut self, path: &KeyPath, says: impl Display) {
        let location = self.locations.find(path);
        self.mistakes.push(line(location, path, &says));
        self.reported.insert(path.clone());
    }

    /// Adds a mistake about a key that may not be written anywhere, and is caused by another key.
    pub fn mistake_because_of(&mut self, reason: &KeyPath, path: &KeyPath, says: impl Display) {
        let location = self.locations.line(path).or_else(|| self.locations.find(reason));
        self.mistakes.push(line(location, path, &says));
        self.reported.insert(path.clone());
    }

    /// Adds a warning: the operator should know it, but the gateway starts.
    pub fn warning(&mut self, path: &KeyPath, says: impl Display) {
        let location = self.locations.find(path);
        self.warnings.push(line(location, path, &says));
    }

    /// Adds a warning that belongs to no key.
    pub fn remark(&mut self, says: String) {
        self.warnings.push((None, says));
    }

    /// Whether there is a mistake about exactly this key.
    pub fn is_reported(&self, path: &KeyPath) -> bool {
        self.reported.contains(path)
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

fn line(location: Option<Location>, path: &KeyPath, says: &dyn Display) -> (Option<Location>, String) {
    let text = match &location {
        Some(location) => format!("{location}: {path}: {says}"),
        None => format!("{path}: {says}"),
    };
    (location, text)
}

fn in_order(mut found: Vec<(Option<Location>, String)>) -> Vec<String> {
    found.sort_by(|(one, _), (other, _)| (one.is_none(), one).cmp(&(other.is_none(), other)));
    found.into_iter().map(|(_, text)| text).collect()
}
