//! `cargo run --package xtask -- man FOLDER`: the manual pages, one for each command.

use std::{fs, path::Path};

use anyhow::Context;

/// Writes `voicegate.1` and a page for each command into `folder`.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    clap_mangen::generate_to(voicegate::cli::command().name("voicegate"), folder)?;
    Ok(())
}
