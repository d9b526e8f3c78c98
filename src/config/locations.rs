//! Finds where each key is written: the line of a file, or an environment variable.

use std::{collections::BTreeMap, fmt};

use toml::de::{DeTable, DeValue};

use super::path::KeyPath;

/// The location of a key. Locations are ordered as a person reads them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    Line { layer: usize, file: String, line: usize },
    Variable(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, .. } => write!(f, "{file}:{line}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// All layers, the lowest first.
#[derive(Debug, Default)]
pub struct Locations {
    files: Vec<Lines>,
    variables: BTreeMap<KeyPath, String>,
}

/// The line of each key of a file, and of each item of a list.
#[derive(Debug)]
struct Lines {
    file: String,
    lines: BTreeMap<KeyPath, usize>,
}

impl Locations {
    /// Adds a layer above the existing ones.
    ///
    /// # Errors
    /// Fails with the location and the reason if the text is not TOML. The text itself is not repeated, because it may
    /// contain a secret.
    pub fn add_file(&mut self, file: &str, text: &str) -> Result<(), String> {
        let table = DeTable::parse(text).map_err(|error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            let message: Vec<&str> = error.message().lines().map(str::trim).collect();
            format!("{file}:{line}:{column}: {}", message.join("; "))
        })?;
        let mut lines = BTreeMap::new();
        walk(text, table.get_ref(), &KeyPath::default(), &mut lines);
        self.files.push(Lines { file: file.to_owned(), lines });
        Ok(())
    }

    pub fn add_variable(&mut self, path: KeyPath, name: String) {
        self.variables.insert(path, name);
    }

    /// The location where a key is written. For a missing key, the location of the table that should contain it.
    pub fn find(&self, path: &KeyPath) -> Option<Location> {
        let mut above = Some(path.clone());
        while let Some(path) = above {
            let variable = self.variables.get(&path).cloned().map(Location::Variable);
            if let Some(location) = variable.or_else(|| self.line(&path)) {
                return Some(location);
            }
            above = path.parent();
        }
        None
    }

    /// The line on which exactly this key is written.
    pub fn line(&self, path: &KeyPath) -> Option<Location> {
        self.files.iter().enumerate().rev().find_map(|(layer, Lines { file, lines })| {
            let line = *lines.get(path)?;
            Some(Location::Line { layer, file: file.clone(), line })
        })
    }

    /// The file in which exactly this key is written.
    pub fn file_of(&self, path: &KeyPath) -> Option<&str> {
        let holds = |lines: &&Lines| lines.lines.contains_key(path);
        self.files.iter().rev().find(holds).map(|lines| lines.file.as_str())
    }

    /// The variables that set this key, or something in this table.
    pub fn variables(&self, path: &KeyPath) -> Vec<&str> {
        let below = self.variables.iter().filter(|(key, _)| key.starts_with(path));
        below.map(|(_, name)| name.as_str()).collect()
    }
}

fn walk(text: &str, table: &DeTable<'_>, at: &KeyPath, lines: &mut BTreeMap<KeyPath, usize>) {
    for (key, value) in table.iter() {
        let path = at.key(key.get_ref());
        lines.insert(path.clone(), position(text, key.span().start).0);
        walk_value(text, value.get_ref(), &path, lines);
    }
}

fn walk_value(text: &str, value: &DeValue<'_>, at: &KeyPath, lines: &mut BTreeMap<KeyPath, usize>) {
    match value {
        DeValue::Table(table) => walk(text, table, at, lines),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = at.item(index);
                lines.insert(path.clone(), position(text, item.span().start).0);
                walk_value(text, item.get_ref(), &path, lines);
            }
        }
        _ => {}
    }
}

/// Line and column, both counted from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_found_on_its_line() {
        let text = "# a comment\n[server]\nlisten = \"x\"\n\n[tenants.a]\nroute = [\n  \"one\",\n  \"two\",\n]\n\
                    routes.support = []\nwebhook = { url = \"\", secrets = [] }\n[tenants.a.connections.imessage]\n";
        let mut locations = Locations::default();
        locations.add_file("f.toml", text).expect("TOML");
        locations.add_variable(KeyPath::of("audio.workers"), "VOICEGATE__AUDIO__WORKERS".to_owned());
        let find = |path: KeyPath| locations.find(&path).map(|location| location.to_string());
        let tenant = KeyPath::of("tenants.a");
        for (path, line) in [
            (KeyPath::of("server.listen"), 3),
            (KeyPath::of("server.public_url"), 2),
            (tenant.key("route").item(1), 8),
            (tenant.key("routes").key("support").item(3), 10),
            (tenant.key("webhook").key("secrets").item(0), 11),
            (tenant.key("connections").key("imessage").key("token"), 12),
        ] {
            assert_eq!(find(path.clone()), Some(format!("f.toml:{line}")), "{path}");
        }
        assert_eq!(find(KeyPath::of("audio.workers")).as_deref(), Some("VOICEGATE__AUDIO__WORKERS"));
        assert_eq!(find(KeyPath::of("fetch.timeout")), None);
    }

    #[test]
    fn toml_error_names_the_location_without_quoting_the_text() {
        for (text, location) in [
            ("a = 1\ntoken = \"S3CRET\nb = 2", "f:2:"),
            ("[server\nlisten = 1", "f:1:"),
            ("a = 1\n\na = \"S3CRET\"\n", "f:3:"),
        ] {
            let error = Locations::default().add_file("f", text).expect_err(text);
            assert!(error.starts_with(location) && !error.contains("S3CRET"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
