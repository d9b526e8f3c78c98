//! A library for failing disks and a moved wall clock. It is preloaded between the gateway and the system, and compiled
//! with the system's C compiler.

use std::{collections::BTreeMap, os::unix::fs::FileExt, path::PathBuf, process::Command};

/// <https://man7.org/linux/man-pages/man3/errno.3.html>
pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;
pub const EDQUOT: i32 = 122;

pub struct Faults {
    folder: tempfile::TempDir,
}

impl Faults {
    pub fn build() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/faults.c");
        let done = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(folder.path().join("faults.so"))
            .args([source, "-ldl"])
            .status();
        assert!(done.expect("a C compiler").success());
        let faults = Self { folder };
        std::fs::write(faults.clock(), 0_i64.to_ne_bytes()).expect("written");
        faults
    }

    fn clock(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// Returns the environment variables for the gateway.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let text = |path: PathBuf| path.display().to_string();
        BTreeMap::from([
            ("LD_PRELOAD".to_owned(), text(self.folder.path().join("faults.so"))),
            ("FAULT_CONTROL".to_owned(), text(self.control())),
            ("FAULT_CLOCK".to_owned(), text(self.clock())),
        ])
    }

    /// Makes every `write` or `flush` fail in this way, for files whose paths end like this.
    pub fn begin(&self, operation: &str, errno: i32, suffix: &str) {
        self.control_by(&format!("{operation} {errno} {suffix}"));
    }

    /// Makes only the next one fail.
    pub fn once(&self, operation: &str, errno: i32, suffix: &str) {
        self.control_by(&format!("{operation} {errno} {suffix} once"));
    }

    pub fn is_over(&self) -> bool {
        !self.control().exists()
    }

    /// Moves the wall clock by this many seconds, forward or back.
    pub fn set_clock(&self, seconds: i64) {
        // The file is written in place and not truncated, since processes have it mapped.
        let file = std::fs::File::options().write(true).open(self.clock()).expect("opened");
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("written");
    }

    pub fn end(&self) {
        std::fs::remove_file(self.control()).expect("it was there");
    }

    /// Ends all faults, if any were requested.
    pub fn end_any(&self) {
        let _ = std::fs::remove_file(self.control());
    }

    /// The file is replaced at once, since the library may just be reading it.
    fn control_by(&self, text: &str) {
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, text).expect("written");
        std::fs::rename(&draft, self.control()).expect("renamed");
    }
}
