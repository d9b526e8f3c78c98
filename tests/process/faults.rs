//! A disk that fails when it is told to: a library between the gateway and its files, made with the system's C compiler.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

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
        Self { folder }
    }

    fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// What the gateway's environment needs.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let text = |path: PathBuf| path.display().to_string();
        BTreeMap::from([
            ("LD_PRELOAD".to_owned(), text(self.folder.path().join("faults.so"))),
            ("FAULT_CONTROL".to_owned(), text(self.control())),
        ])
    }

    /// From now on `write` or `flush` fails so, for files whose paths end like this.
    pub fn begin(&self, operation: &str, errno: i32, suffix: &str) {
        self.control_by(&format!("{operation} {errno} {suffix}"));
    }

    /// The next one fails, and no other.
    pub fn once(&self, operation: &str, errno: i32, suffix: &str) {
        self.control_by(&format!("{operation} {errno} {suffix} once"));
    }

    pub fn is_over(&self) -> bool {
        !self.control().exists()
    }

    pub fn end(&self) {
        std::fs::remove_file(self.control()).expect("it was there");
    }

    /// Whole at once, since the library may just be reading it.
    fn control_by(&self, text: &str) {
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, text).expect("written");
        std::fs::rename(&draft, self.control()).expect("renamed");
    }
}
