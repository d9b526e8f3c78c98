//! Continues reading after a mistake, so that an operator sees all mistakes at once.
//!
//! serde stops at the first mistake. That mistake is recorded, its value is replaced by its default or left out, and
//! everything is read again. The final result is only used to find further mistakes.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    findings::Findings,
    path::{KeyPath, Step},
    words::{expected, missing_field, names, no_such, unknown_field},
};
use crate::model::spelling::nearest;

/// Reads `value`, which is at the path `at`. `instead` has defaults in the form of `value`. Returns `None` if nothing
/// could be read; then there is at least one mistake.
pub fn read<T: DeserializeOwned>(
    value: Value,
    at: &KeyPath,
    instead: &Value,
    found: &mut Findings,
) -> Option<T> {
    let mut reading = Reading { value, at, instead, reported: BTreeSet::new(), taken_out: BTreeMap::new() };
    loop {
        let error = match serde_path_to_error::deserialize(&reading.value) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let path = KeyPath::default().join(error.path());
        if !reading.mend(path, &error.inner().to_string(), found) {
            return None;
        }
    }
}

struct Reading<'a> {
    value: Value,
    at: &'a KeyPath,
    instead: &'a Value,
    /// Keys that have been reported, or already have their default.
    reported: BTreeSet<KeyPath>,
    /// The items that were removed from each list, by their original index.
    taken_out: BTreeMap<KeyPath, BTreeSet<usize>>,
}

impl Reading<'_> {
    /// Records the error of serde and removes its cause. Returns `false` if that is not possible.
    fn mend(&mut self, path: KeyPath, message: &str, found: &mut Findings) -> bool {
        if let Some(name) = unknown_field(message) {
            let path = if path.name() == Some(name) { path } else { path.key(name) };
            self.unknown(&path, name, &names(message), found);
            return self.take_out(&path);
        }
        if let Some(name) = missing_field(message) {
            let table = path;
            let path = table.key(name);
            if self.reported.insert(path.clone()) {
                found.mistake(&self.written(&path), "is required, and missing");
            }
            return self.put_default(&path) || self.take_out(&table);
        }
        let (path, message) = item(path, message);
        let value = get(&self.value, &path).and_then(Value::as_str);
        found.mistake(&self.written(&path), expected(message, value));
        let fresh = self.reported.insert(path.clone());
        (fresh && self.put_default(&path)) || self.take_out(&path)
    }

    /// An environment variable may belong to another program, so it does not prevent the start.
    fn unknown(&mut self, path: &KeyPath, name: &str, known: &[&str], found: &mut Findings) {
        let written = self.written(path);
        let variables: Vec<String> =
            found.locations.variables(&written).into_iter().map(str::to_owned).collect();
        if found.locations.line(&written).is_none() && !variables.is_empty() {
            for variable in variables {
                found.remark(super::variables::names_no_key(&variable));
            }
            return;
        }
        found.mistake(&written, no_such("key", name, known));
        if let (Some(meant), Some(table)) = (nearest(name, known), path.parent()) {
            // Its absence is the same mistake.
            self.reported.insert(table.key(meant));
        }
    }

    /// The path in the file, as it was before any list item was removed.
    fn written(&self, path: &KeyPath) -> KeyPath {
        let (mut here, mut written) = (KeyPath::default(), self.at.clone());
        for step in path.steps() {
            match step {
                Step::Key(key) => (here, written) = (here.key(key), written.key(key)),
                Step::Item(index) => {
                    let first = self.taken_out.get(&here).map_or(*index, |out| first_index(*index, out));
                    (here, written) = (here.item(*index), written.item(first));
                }
            }
        }
        written
    }

    fn put_default(&mut self, path: &KeyPath) -> bool {
        let (Some(default), Some(table)) = (get(self.instead, path).cloned(), path.parent()) else {
            return false;
        };
        match (get_mut(&mut self.value, &table), path.name()) {
            (Some(Value::Object(table)), Some(name)) => {
                let before = table.insert(name.to_owned(), default.clone());
                // If the default is refused as well, it must not be inserted again and again.
                before != Some(default)
            }
            _ => false,
        }
    }

    fn take_out(&mut self, path: &KeyPath) -> bool {
        let Some(table) = path.parent() else { return false };
        match (get_mut(&mut self.value, &table), path.steps().last()) {
            (Some(Value::Object(keys)), Some(Step::Key(key))) => keys.remove(key).is_some(),
            (Some(Value::Array(items)), Some(Step::Item(index))) if *index < items.len() => {
                items.remove(*index);
                let out = self.taken_out.entry(table).or_default();
                let first = first_index(*index, out);
                out.insert(first);
                true
            }
            _ => false,
        }
    }
}

/// The index of an item before others were removed.
fn first_index(index: usize, out: &BTreeSet<usize>) -> usize {
    out.iter().fold(index, |index, gone| if *gone <= index { index + 1 } else { index })
}

/// A list that is read as a single value names its items in its message.
fn item(path: KeyPath, message: &str) -> (KeyPath, &str) {
    let named = message.strip_prefix("item ").and_then(|rest| rest.split_once(": "));
    match named.and_then(|(index, rest)| Some((index.parse().ok()?, rest))) {
        Some((index, rest)) => (path.item(index), rest),
        None => (path, message),
    }
}

fn get<'a>(value: &'a Value, path: &KeyPath) -> Option<&'a Value> {
    path.steps().iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Item(index) => value.get(index),
    })
}

fn get_mut<'a>(value: &'a mut Value, path: &KeyPath) -> Option<&'a mut Value> {
    path.steps().iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Item(index) => value.get_mut(index),
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        number: u8,
        names: Vec<String>,
        inner: Option<Inner>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        needed: bool,
        further: bool,
    }

    fn repaired(value: Value) -> (Option<Table>, Vec<String>) {
        let mut found = Findings::default();
        let read = read(value, &KeyPath::of("top"), &json!({ "number": 1, "names": [] }), &mut found);
        (read, found.into_lines().0)
    }

    #[test]
    fn every_mistake_is_reported_and_the_rest_is_read() {
        let (read, reported) = repaired(json!({
            "number": "S3CRET", "names": ["a", 1, "b", 2], "nmaes": 1, "inner": { "nedeed": true, "further": 3 },
        }));
        assert_eq!(
            reported,
            [
                "top.inner.further: expected true or false",
                "top.inner.nedeed: there is no such key; did you mean `needed`?",
                "top.names[1]: expected a string",
                "top.names[3]: expected a string",
                "top.nmaes: there is no such key; did you mean `names`?",
                "top.number: expected a whole number",
            ]
        );
        assert_eq!(read, Some(Table { number: 1, names: vec!["a".into(), "b".into()], inner: None }));
    }

    #[test]
    fn a_table_of_the_wrong_kind_is_one_mistake() {
        let (read, reported) = repaired(json!({ "inner": 7 }));
        assert_eq!(
            reported,
            [
                "top.inner: expected a table",
                "top.number: is required, and missing",
                "top.names: is required, and missing"
            ]
        );
        assert!(read.is_some());
        assert_eq!(repaired(json!([])).0, None);
    }
}
