//! `cargo run --package xtask -- licences`: the licences of all crates that are part of the executable, for its packages.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::Value;

/// The names that licence files begin with, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// Lists the crates with their licences, then each text once with the crates that it belongs to.
pub fn text() -> anyhow::Result<String> {
    let metadata = metadata()?;
    let mut packages: HashMap<&str, &Value> = HashMap::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        packages.insert(package["id"].as_str().context("a package without an id")?, package);
    }
    let mut crates = BTreeSet::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for id in linked(&metadata)? {
        let package = packages.get(id.as_str()).with_context(|| format!("{id} is unknown"))?;
        if package["source"].is_null() {
            continue; // a member of the workspace
        }
        let name = format!("{} {}", word(package, "name"), word(package, "version"));
        let folder =
            Path::new(word(package, "manifest_path")).parent().context("a manifest without a folder")?;
        let found = licence_files(folder)?;
        ensure!(
            !found.is_empty() || package["license"].is_string(),
            "{name} names no licence and contains no licence file"
        );
        crates.insert(format!("{name}: {}", package["license"].as_str().unwrap_or("see below")));
        for text in found {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    let mut out = String::from("voicegate contains these crates:\n\n");
    for line in crates {
        writeln!(out, "  {line}")?;
    }
    for (text, names) in texts {
        let names: Vec<String> = names.into_iter().collect();
        writeln!(out, "\n{}\n{}\n\n{}", "-".repeat(78), names.join(", "), text.trim_end())?;
    }
    Ok(out)
}

fn metadata() -> anyhow::Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let rustc = Command::new("rustc").arg("-vV").output().context("rustc cannot be run")?;
    let rustc = String::from_utf8(rustc.stdout)?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let run = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .args(["--manifest-path", manifest])
        .output()
        .context("cargo cannot be run")?;
    ensure!(run.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&run.stderr));
    Ok(serde_json::from_slice(&run.stdout)?)
}

/// The ids of the packages that the executable is made of: what `voicegate` depends on, and in turn what these do, without
/// dependencies of tests and of build scripts.
fn linked(metadata: &Value) -> anyhow::Result<BTreeSet<String>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("no graph")?;
    let nodes: HashMap<&str, &Value> =
        nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let root = metadata["resolve"]["root"].as_str().context("no root")?;
    let (mut found, mut next) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(id) = next.pop() {
        let node = nodes.get(id.as_str()).with_context(|| format!("{id} is not in the graph"))?;
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            let is_linked = kinds.into_iter().any(|kind| kind["kind"].is_null());
            if is_linked && let Some(id) = dependency["pkg"].as_str() {
                next.push(id.to_owned());
            }
        }
        if !found.insert(id) {
            continue;
        }
        next.retain(|id| !found.contains(id));
    }
    Ok(found)
}

fn licence_files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|known| name.starts_with(known)) && entry.file_type()?.is_file() {
            texts.push(String::from_utf8_lossy(&fs::read(entry.path())?).into_owned());
        }
    }
    Ok(texts)
}

fn word<'a>(package: &'a Value, name: &str) -> &'a str {
    package[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_of_the_executable_has_a_licence() {
        let text = text().expect("the licences");
        for known in ["axum ", "tokio ", "symphonia-core ", "Mozilla Public License"] {
            assert!(text.contains(known), "{known}");
        }
        for tested_only in ["proptest ", "insta "] {
            assert!(!text.contains(tested_only), "{tested_only}");
        }
    }
}
