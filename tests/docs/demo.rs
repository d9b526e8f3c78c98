//! `voicegate demo`, as a process of its own.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub struct Demo {
    child: Child,
    pub url: String,
    key: String,
    /// Where the examples run.
    folder: tempfile::TempDir,
}

impl Demo {
    /// Starts the demo on free ports and waits until it has sent its samples.
    pub fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_voicegate"))
            .args(["demo", "--listen", "127.0.0.1:0", "--sandbox", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the executable");
        let mut said = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        while !said.contains("Ctrl-C stops the demo") {
            let line = lines.next().unwrap_or_else(|| panic!("the demo ended early:\n{said}"));
            said.push_str(&line.expect("text"));
            said.push('\n');
        }
        let exported = |name: &str| {
            let lead = format!("export {name}=");
            let line = said.lines().find_map(|line| line.trim().strip_prefix(&lead));
            line.unwrap_or_else(|| panic!("no {lead:?} in:\n{said}")).to_owned()
        };
        let (url, key) = (exported("VOICEGATE_URL"), exported("VOICEGATE_API_KEY"));
        let folder = tempfile::tempdir().expect("a folder");
        let demo = Self { child, url, key, folder };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (from, to) in
            [("src/demo/sample.mp3", "speech.mp3"), ("tests/fixtures/audio/speech.s16le", "speech.pcm")]
        {
            std::fs::copy(root.join(from), demo.folder.path().join(to)).expect("the recording");
        }
        demo
    }

    /// Writes a file into the folder of the examples.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Links to a folder from the folder of the examples, as `npm install FOLDER` does.
    pub fn link(&self, name: &str, folder: &str) {
        let link = self.folder.path().join(name);
        std::fs::create_dir_all(link.parent().expect("a folder")).expect("created");
        std::os::unix::fs::symlink(folder, link).expect("linked");
    }

    /// A command that finds recording, address and key.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env("VOICEGATE_URL", &self.url)
            .env("VOICEGATE_API_KEY", &self.key)
            // A proxy that the environment names must not get in between.
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Demo {
    /// As Ctrl-C does, so that it clears up after itself.
    fn drop(&mut self) {
        let asked = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
