//! Reading a recipe: from the configuration, from a file, or from those that come with voicegate.

use std::io::Read as _;

use serde_json::Value;

use super::{
    super::{
        bundled,
        words::{self, nearest},
    },
    Recipe,
};

/// Longest recipe, in bytes.
const MAX_FILE: u64 = 256 * 1024;

impl Recipe {
    /// Reads `recipe = ...` of a connection: the table itself, the name of a recipe that comes with voicegate, or a file.
    ///
    /// # Errors
    /// Names the key in the recipe.
    pub fn read(value: Value) -> Result<Self, String> {
        let Value::String(name) = value else {
            if value.is_object() {
                return read_table(value);
            }
            return Err(format!("expected a file's name, a table, or one of {}", names().join(", ")));
        };
        if let Some(text) = bundled::find(&name) {
            return Self::parse(text);
        }
        if name.trim().is_empty() {
            return Err(format!("expected a file's name, a table, or one of {}", names().join(", ")));
        }
        if !name.contains(['/', '\\', '.']) {
            let meant = nearest(&name, &names()).map_or_else(
                || format!("there are {}, and files end in .toml", names().join(", ")),
                |meant| format!("did you mean `{meant}`?"),
            );
            return Err(format!("no recipe of this name comes with voicegate; {meant}"));
        }
        let text = read_file(&name).map_err(|why| format!("the file {name} cannot be read: {why}"))?;
        Self::parse(&text).map_err(|why| format!("{name}: {why}"))
    }

    /// # Errors
    /// Names the key, or the line where the text is no TOML.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!("line {line}: this is no TOML: {}", error.message())
        })?;
        read_table(serde_json::to_value(table).map_err(|_| "this is no TOML table".to_owned())?)
    }
}

/// Reads the table, and knows the mistake that TOML invites: a plain key below `[fields]` is a field.
fn read_table(value: Value) -> Result<Recipe, String> {
    let tables = value.clone();
    words::read(value).map_err(|why| {
        let missing = why.strip_suffix(": is required, and missing");
        let table = missing.and_then(|key| {
            let has = |table: &Value| table.get(key).is_some();
            tables.as_object()?.iter().find(|(_, table)| has(table)).map(|(name, _)| name.clone())
        });
        match table {
            Some(table) => {
                format!("{why}; one stands below [{table}], and plain keys come before the first table")
            }
            None => why,
        }
    })
}

fn names() -> Vec<&'static str> {
    bundled::RECIPES.iter().map(|(name, _)| *name).collect()
}

fn read_file(name: &str) -> Result<String, String> {
    let file = std::fs::File::open(name).map_err(|error| error.kind().to_string())?;
    let mut text = String::new();
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| error.kind().to_string())?;
    if read as u64 > MAX_FILE {
        return Err("it is larger than a recipe can be".to_owned());
    }
    Ok(text)
}
