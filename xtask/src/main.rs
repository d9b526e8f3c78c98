//! `cargo run --package xtask` prints anew the parts of `docs/` that come from the code: between
//! `<!-- printed: NAME -->` and `<!-- end -->`. `make docs` calls it. With `man FOLDER` it writes the manual pages, and with
//! `licences` it prints the licences of all crates in the executable; packages contain both.

mod api;
mod configuration;
mod licences;
mod man;
mod matrix;
mod printed;

use std::{fs, io::Write, path::PathBuf};

use anyhow::{Context, anyhow, bail};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    match (args.next(), args.next()) {
        (None, _) => docs(),
        (Some(command), Some(folder)) if command == "man" => man::write(folder.as_ref()),
        (Some(command), None) if command == "licences" => {
            Ok(std::io::stdout().write_all(licences::text()?.as_bytes())?)
        }
        _ => bail!("expected no argument, or `man FOLDER`, or `licences`"),
    }
}

fn docs() -> anyhow::Result<()> {
    for page in pages()? {
        let text = fs::read_to_string(&page)?;
        let filled = printed::fill(&text).map_err(|why| anyhow!("{}: {why}", page.display()))?;
        if filled != text {
            fs::write(&page, filled)?;
        }
    }
    Ok(())
}

/// Every page of the documentation.
fn pages() -> anyhow::Result<Vec<PathBuf>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).context("the folder docs")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_parts_are_fresh() {
        for page in pages().expect("the pages") {
            let text = fs::read_to_string(&page).expect("a page");
            let filled = printed::fill(&text).unwrap_or_else(|why| panic!("{}: {why}", page.display()));
            assert!(filled == text, "{} is stale; run: make docs", page.display());
        }
    }
}
