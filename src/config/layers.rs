//! The layers of a configuration: defaults, a file, and the environment, put on top of one another.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat};
use serde_json::Value;

use super::{DEFAULTS, places::Places, secrets, variables};

/// Where the layers come from. Also what a reload reads again.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// `--config`; without it `./config.toml`, when present.
    pub file: Option<PathBuf>,
    /// Leaves out `./config.toml`: the embedded defaults alone, plus `inline`.
    pub only_defaults: bool,
    /// A layer above the file, as TOML.
    pub inline: Option<String>,
    /// Environment variables above those of the process.
    pub environment: BTreeMap<String, String>,
}

/// All layers as one.
pub struct Merged {
    pub value: Value,
    pub places: Places,
    /// Warnings about the layers themselves.
    pub remarks: Vec<String>,
}

impl Layers {
    pub fn of_file(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::default() }
    }

    /// All variables whose names begin like this.
    pub fn variables(&self, prefix: &str) -> BTreeMap<String, String> {
        let texts = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let all = texts.chain(self.environment.clone());
        all.filter(|(name, _)| name.starts_with(prefix)).collect()
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned().or_else(|| std::env::var(name).ok())
    }

    fn file(&self) -> Option<PathBuf> {
        let default = Path::new("config.toml");
        match &self.file {
            Some(file) => Some(file.clone()),
            None => (!self.only_defaults && default.is_file()).then(|| default.to_owned()),
        }
    }

    /// Reads all of them.
    ///
    /// # Errors
    /// The file cannot be read, or is no TOML.
    pub(super) fn merge(&self) -> Result<Merged, String> {
        let mut places = Places::default();
        let mut builder =
            config::Config::builder().add_source(File::from_str(&defaults_as_text(), FileFormat::Toml));
        let file = self.file();
        let file_name = file.as_ref().map(|file| file.display().to_string());
        if let (Some(file), Some(name)) = (&file, &file_name) {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("{name}: the file cannot be read: {}", error.kind()))?;
            places.add_file(name, &text)?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        if let Some(inline) = &self.inline {
            places.add_file("inline", inline)?;
            builder = builder.add_source(File::from_str(inline, FileFormat::Toml));
        }
        let ours = self.variables(variables::OURS);
        for name in ours.keys() {
            if let Some(path) = variables::path(name) {
                places.add_variable(path, name.clone());
            }
        }
        // Everything in it is text; what should be a number is read as one where it is used.
        let environment = Environment::with_prefix("VOICEGATE").prefix_separator("__").separator("__");
        let environment = environment.source(Some(ours.clone().into_iter().collect()));
        let merged = builder.add_source(environment).build().map_err(|error| error.to_string())?;
        let value: Value = merged.try_deserialize().map_err(|error| error.to_string())?;
        let mut remarks = variables::unread(&ours, &value);
        if let (Some(file), Some(name)) = (&file, &file_name) {
            remarks.extend(readable_by_others(file, name, &value, &places));
        }
        Ok(Merged { value, places, remarks })
    }
}

/// The warning about a file that has secrets and that other users can read.
fn readable_by_others(file: &Path, name: &str, merged: &Value, places: &Places) -> Option<String> {
    let mode = secrets::open_to_others(file)?;
    let mut written = secrets::literals(merged);
    written.retain(|path| places.file_of(path) == Some(name));
    let first = written.first()?;
    let more = match written.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Some(format!(
        "{name}: other users can read this file (its mode is {mode}), and it holds secrets: {first}{more}; chmod 600 it, \
         or name the secrets with {{ env = \"NAME\" }} or {{ file = \"PATH\" }}"
    ))
}

/// The default file without its tenants: no tenant exists unless the operator wrote it.
fn defaults_as_table() -> toml::Table {
    let mut table: toml::Table = DEFAULTS.parse().unwrap_or_default();
    table.remove("tenants");
    table
}

fn defaults_as_text() -> String {
    defaults_as_table().to_string()
}

/// The lowest layer.
pub fn defaults() -> Value {
    serde_json::to_value(defaults_as_table()).unwrap_or_default()
}
