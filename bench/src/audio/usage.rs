//! The resources that a command uses: user and system time, its children's included.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

/// A small program that runs others, made with the system's C compiler.
pub struct Usage {
    program: PathBuf,
    figure: PathBuf,
}

impl Usage {
    pub fn build(folder: &Path) -> anyhow::Result<Self> {
        let (source, program) = (folder.join("usage.c"), folder.join("usage"));
        std::fs::write(&source, include_str!("usage.c"))?;
        let done = Command::new("cc")
            .args(["-O2", "-o"])
            .args([&program, &source])
            .status()
            .context("a C compiler is needed (cc)")?;
        ensure!(done.success(), "the C compiler failed");
        Ok(Self { program, figure: folder.join("usage.txt") })
    }

    /// Runs a command to its end, which has to be a good one; the milliseconds that it took.
    pub fn of<S: AsRef<OsStr>>(&self, command: &[S]) -> anyhow::Result<f64> {
        let name = command.first().context("a command")?.as_ref().to_string_lossy().into_owned();
        let done = Command::new(&self.program)
            .arg(&self.figure)
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()?;
        ensure!(done.status.success(), "{name} failed: {}", String::from_utf8_lossy(&done.stderr));
        let micros: f64 = std::fs::read_to_string(&self.figure)?.trim().parse()?;
        Ok(micros / 1000.0)
    }
}
