//! An engine with a scratch folder of its own, the table, and the tools that judge.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use voicegate_audio::{Engine, EngineOptions, Hints, PcmFormat, Probed};

pub struct Bench {
    pub engine: Engine,
    pub scratch: TempDir,
}

/// `VOICEGATE_TEST_DECODING=ffmpeg` leaves all decoding of sources to ffmpeg. `VOICEGATE_TEST_FFMPEG` names an ffmpeg to test the engine with. What makes sources and judges results is that of the
/// system all the same.
pub fn options(scratch: &Path) -> EngineOptions {
    EngineOptions {
        scratch: scratch.join("engine"),
        ffmpeg: std::env::var_os("VOICEGATE_TEST_FFMPEG").map(PathBuf::from),
        decodes_in_process: std::env::var("VOICEGATE_TEST_DECODING").as_deref() != Ok("ffmpeg"),
        workers: 2,
        max_duration: Duration::from_secs(15 * 60),
        timeout: Duration::from_secs(60),
        max_output: 50_000_000,
        ..EngineOptions::default()
    }
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut EngineOptions)) -> Self {
        let scratch = TempDir::new().unwrap();
        let mut options = options(scratch.path());
        change(&mut options);
        Self { engine: Engine::new(options).unwrap(), scratch }
    }

    pub async fn probe(&self, name: &str, format: Option<PcmFormat>) -> Probed {
        let hints = Hints { filename: Some(name.to_owned()), format, ..Hints::default() };
        let probed = self.engine.probe(&fixture(name), &hints).await;
        probed.unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    /// Working files that are still there; the lock that marks the folder as in use is none.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.scratch.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().unwrap() != "lock" {
                    found.push(path);
                }
            }
        }
        found
    }
}

pub fn fixture(name: &str) -> PathBuf {
    // The tests of the whole gateway include this file too, and their package is one folder up.
    let folders =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|root| root.join("tests/fixtures/audio"));
    let folder = folders.into_iter().find(|folder| folder.is_dir()).expect("the folder of fixtures");
    folder.join(name)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub made: std::collections::BTreeMap<String, Made>,
    pub input: Vec<Input>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    pub container: String,
    pub codec: String,
    pub channels: u16,
    pub input_rate: Option<u32>,
    pub vendor: Option<String>,
    pub comments: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub file: String,
    pub container: String,
    pub codec: String,
    pub mime_type: String,
    pub sample_rate: u32,
    pub channels: u16,
    pub format: Option<PcmFormat>,
    pub work: std::collections::BTreeMap<String, String>,
    pub linq_rate: Option<u32>,
}

pub fn table() -> Table {
    toml::from_str(&std::fs::read_to_string(fixture("matrix.toml")).unwrap()).unwrap()
}

/// What ffprobe finds.
pub fn ffprobe(path: &Path) -> serde_json::Value {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_format", "-show_streams"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What opusinfo prints; it warns about whatever RFC 7845 does not like. That nothing is dropped at the start is how some
/// recorders write it, and kept packets keep it.
pub fn opusinfo(path: &Path) -> String {
    let output = Command::new("opusinfo").arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let warnings: Vec<&str> = said.lines().filter(|line| line.to_lowercase().contains("warning")).collect();
    let expected = match warnings.as_slice() {
        [] => output.status.success(),
        [only] => only.contains("Implausibly low preskip"),
        _ => false,
    };
    assert!(expected, "{said}");
    said
}

/// Decodes to the end with ffmpeg and returns what it prints for these output options.
pub fn decode(path: &Path, options: &[&str]) -> String {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-i"])
        .arg(path)
        .args(["-map", "0:a:0"])
        .args(options)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// A digest of the decoded samples.
pub fn decoded_md5(path: &Path) -> String {
    let said = decode(path, &["-c:a", "pcm_s16le", "-f", "md5", "-"]);
    said.lines().find(|line| line.starts_with("MD5=")).unwrap().to_owned()
}

/// Mean level in dB, of all channels together.
pub fn level(path: &Path) -> f64 {
    let said = decode(path, &["-af", "volumedetect", "-f", "null", "-"]);
    let (_, after) = said.split_once("mean_volume: ").unwrap();
    after.split_whitespace().next().unwrap().parse().unwrap()
}

/// Processes that are our children, dead or alive.
#[cfg(target_os = "linux")]
pub fn children() -> Vec<u32> {
    with_field(1, std::process::id())
}

#[cfg(not(target_os = "linux"))]
pub fn children() -> Vec<u32> {
    Vec::new()
}

/// The processes of a group.
#[cfg(target_os = "linux")]
pub fn group_of(leader: u32) -> Vec<u32> {
    with_field(2, leader)
}

/// Processes by a field of their state, counted from behind the command: the parent is 1, the group 2.
#[cfg(target_os = "linux")]
fn with_field(index: usize, value: u32) -> Vec<u32> {
    let value = value.to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The command in brackets may hold anything.
        let Some((_, after)) = stat.rsplit_once(')') else { continue };
        if after.split_whitespace().nth(index) == Some(value.as_str()) {
            found.push(pid);
        }
    }
    found
}
