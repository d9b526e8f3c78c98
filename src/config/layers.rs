//! The layers of a configuration: defaults, file and environment, merged in this order.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat};
use serde_json::Value;

use super::{DEFAULTS, locations::Locations, secrets, variables};

/// The sources of the layers. A reload reads them again.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The file of `--config`. `None` means `./config.toml`, if there is one.
    pub file: Option<PathBuf>,
    /// Ignores `./config.toml`, and uses only the built-in defaults and `inline`.
    pub only_defaults: bool,
    /// A layer above the file, as TOML.
    pub inline: Option<String>,
    /// Environment variables that override those of the process.
    pub environment: BTreeMap<String, String>,
}

/// All layers, merged.
pub struct Merged {
    pub value: Value,
    pub locations: Locations,
    /// Warnings about the layers themselves.
    pub remarks: Vec<String>,
}

impl Layers {
    pub fn of_file(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::default() }
    }

    /// Returns all variables whose names begin with the prefix.
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

    /// Reads and merges all layers.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is not TOML.
    pub(super) fn merge(&self) -> Result<Merged, String> {
        let mut locations = Locations::default();
        let mut builder =
            config::Config::builder().add_source(File::from_str(&defaults_as_text(), FileFormat::Toml));
        let file = self.file();
        let file_name = file.as_ref().map(|file| file.display().to_string());
        if let (Some(file), Some(name)) = (&file, &file_name) {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("{name}: the file cannot be read: {}", error.kind()))?;
            locations.add_file(name, &text)?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        if let Some(inline) = &self.inline {
            locations.add_file("inline", inline)?;
            builder = builder.add_source(File::from_str(inline, FileFormat::Toml));
        }
        let ours = self.variables(variables::OURS);
        for name in ours.keys() {
            if let Some(path) = variables::path(name) {
                locations.add_variable(path, name.clone());
            }
        }
        // All values of the environment are text. A number is parsed where it is used.
        let environment = Environment::with_prefix("VOICEGATE").prefix_separator("__").separator("__");
        let environment = environment.source(Some(ours.clone().into_iter().collect()));
        let merged = builder.add_source(environment).build().map_err(|error| error.to_string())?;
        let value: Value = merged.try_deserialize().map_err(|error| error.to_string())?;
        let mut remarks = variables::unread(&ours, &value);
        if let (Some(file), Some(name)) = (&file, &file_name) {
            remarks.extend(readable_by_others(file, name, &value, &locations));
        }
        Ok(Merged { value, locations, remarks })
    }
}

/// The warning about a file that contains secrets and can be read by other users.
fn readable_by_others(file: &Path, name: &str, merged: &Value, locations: &Locations) -> Option<String> {
    let mode = secrets::open_to_others(file)?;
    let mut written = secrets::literals(merged);
    written.retain(|path| locations.file_of(path) == Some(name));
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

/// The default file without its tenants: a tenant exists only if the operator wrote it.
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
