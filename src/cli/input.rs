//! The audio file that was given to a command: a path, a pipe, or `-` for standard input.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use tempfile::NamedTempFile;

/// The largest input. It can be generous, because no other request waits for it.
pub const LARGEST: u64 = 1 << 30;

pub struct Input {
    path: PathBuf,
    name: Option<String>,
    /// Holds a copy of a pipe, since audio is not read strictly from beginning to end.
    _copy: Option<NamedTempFile>,
}

/// Whether the path means standard input or output.
pub fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whether what is written to the path appears on standard output: `-`, and `/dev/stdout` or the name of the file that
/// standard output was redirected to.
pub fn is_standard_output(path: &Path) -> bool {
    let (Ok(named), Ok(out)) = (std::fs::metadata(path), rustix::fs::fstat(io::stdout())) else {
        return is_standard(path);
    };
    is_standard(path) || (named.dev(), named.ino()) == (out.st_dev, out.st_ino)
}

/// Whether the file can be read only once and from its beginning: a pipe such as `<(command)`, or `/dev/stdin`.
fn is_pipe(facts: &Metadata) -> bool {
    let kind = facts.file_type();
    kind.is_fifo() || kind.is_char_device() || kind.is_socket()
}

impl Input {
    /// # Errors
    /// Fails if there is no such file. A folder has an error of its own, so that it is not reported as damaged audio.
    pub fn open(given: &Path, scratch: &Path) -> anyhow::Result<Self> {
        if is_standard(given) {
            return Self::copied(&mut io::stdin().lock(), "standard input", scratch);
        }
        let shown = given.display();
        let facts = std::fs::metadata(given).with_context(|| format!("{shown} cannot be read"))?;
        ensure!(facts.is_file() || is_pipe(&facts), "{shown} is not a file");
        let mut file = File::open(given).with_context(|| format!("{shown} cannot be read"))?;
        if is_pipe(&facts) {
            return Self::copied(&mut file, &shown.to_string(), scratch);
        }
        let name = given.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self { path: given.to_owned(), name, _copy: None })
    }

    fn copied(from: &mut impl Read, shown: &str, scratch: &Path) -> anyhow::Result<Self> {
        let mut copy = NamedTempFile::new_in(scratch).context("no scratch file could be made")?;
        copy_bounded(from, &mut copy, shown)?;
        Ok(Self { path: copy.path().to_owned(), name: None, _copy: Some(copy) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the file; `None` for a pipe.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

fn copy_bounded(from: &mut impl Read, to: &mut impl Write, shown: &str) -> anyhow::Result<()> {
    let copied =
        io::copy(&mut from.take(LARGEST + 1), to).with_context(|| format!("{shown} cannot be read"))?;
    ensure!(copied <= LARGEST, "{shown} has more than {LARGEST} bytes");
    Ok(to.flush()?)
}
