//! A library that delays and counts flushes, made with the system's C compiler. Linux only.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

pub struct Shim {
    library: PathBuf,
    counted: PathBuf,
}

impl Shim {
    /// `None` where there is no way to get between a program and its flushes.
    pub fn build(folder: &Path) -> anyhow::Result<Option<Self>> {
        if !cfg!(target_os = "linux") {
            return Ok(None);
        }
        let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
        std::fs::write(&source, include_str!("shim.c"))?;
        let done = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status()
            .context("a C compiler is needed (cc)")?;
        ensure!(done.success(), "the C compiler failed");
        let counted = folder.join("flushes");
        std::fs::write(&counted, 0_u64.to_ne_bytes())?;
        Ok(Some(Self { library, counted }))
    }

    /// What the environment of the gateway needs.
    pub fn environment(&self, delay_us: u32) -> Vec<(String, String)> {
        vec![
            ("LD_PRELOAD".to_owned(), self.library.display().to_string()),
            ("BENCH_FLUSH_DELAY_US".to_owned(), delay_us.to_string()),
            ("BENCH_FLUSH_COUNT".to_owned(), self.counted.display().to_string()),
        ]
    }

    /// Flushes so far, of all gateways that had it.
    pub fn flushes(&self) -> anyhow::Result<u64> {
        let bytes = std::fs::read(&self.counted)?;
        Ok(u64::from_ne_bytes(bytes.as_slice().try_into().context("the count of flushes is damaged")?))
    }
}
