//! `cargo run --package xtask` prints anew the parts of `docs/` that come from the code: between
//! `<!-- printed: NAME -->` and `<!-- end -->`. `make docs` calls it.

mod api;
mod configuration;
mod printed;

use std::{fs, path::PathBuf};

use anyhow::{Context, anyhow};

fn main() -> anyhow::Result<()> {
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
