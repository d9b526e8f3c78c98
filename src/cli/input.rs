//! The audio file that was given to a command: a path, or `-` for standard input.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use tempfile::NamedTempFile;

/// The largest input. It can be generous, because no other request waits for it.
pub const LARGEST: u64 = 1 << 30;

pub struct Input {
    path: PathBuf,
    name: Option<String>,
    /// Holds a copy of standard input, since audio is not read strictly from beginning to end.
    _copy: Option<NamedTempFile>,
}

/// Whether the path means standard input or output.
pub fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

impl Input {
    /// # Errors
    /// Fails if there is no such file. A folder has an error of its own, so that it is not reported as damaged audio.
    pub fn open(given: &Path, scratch: &Path) -> anyhow::Result<Self> {
        if is_standard(given) {
            let mut copy = NamedTempFile::new_in(scratch).context("no scratch file could be made")?;
            copy_bounded(&mut io::stdin().lock(), &mut copy)?;
            return Ok(Self { path: copy.path().to_owned(), name: None, _copy: Some(copy) });
        }
        let facts =
            std::fs::metadata(given).with_context(|| format!("{} cannot be read", given.display()))?;
        ensure!(facts.is_file(), "{} is not a file", given.display());
        File::open(given).with_context(|| format!("{} cannot be read", given.display()))?;
        let name = given.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self { path: given.to_owned(), name, _copy: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the file; `None` for standard input.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

fn copy_bounded(from: &mut impl Read, to: &mut impl Write) -> anyhow::Result<()> {
    let copied = io::copy(&mut from.take(LARGEST + 1), to).context("standard input cannot be read")?;
    ensure!(copied <= LARGEST, "standard input has more than {LARGEST} bytes");
    Ok(to.flush()?)
}
