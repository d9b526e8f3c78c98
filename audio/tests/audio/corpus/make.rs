//! Produces the files of the corpus, once: they are cached under a name derived from all their inputs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use voicegate_audio::PcmFormat;

use super::table::{Content, Format, Layout, Table};
use crate::tools::fixture;

/// A source, produced or ready.
#[derive(Clone)]
pub struct Source {
    pub name: String,
    pub path: PathBuf,
    pub format: Option<PcmFormat>,
    /// Parameters of its production, if it was produced.
    pub channels: Option<u16>,
    pub length_ms: Option<u32>,
    /// Whether the start of the sound can be heard.
    pub lag: bool,
    pub level_db: Option<f64>,
    pub bar: Option<f32>,
    pub spikes: bool,
    pub clock: bool,
}

/// Parameters of a source to produce.
pub struct Recipe<'a> {
    pub format: &'a Format,
    pub content: (&'a str, &'a Content),
    pub layout: (&'a str, &'a Layout),
    pub rate: u32,
    pub length: u32,
}

impl Recipe<'_> {
    pub fn name(&self) -> String {
        let Self { format, content, layout, rate, length } = self;
        format!("{}.{}.{}.{rate}.{length}.{}", format.name, content.0, layout.0, format.extension)
    }

    fn source(&self, folder: &Path) -> Source {
        let channels = self.layout.1.channels;
        let format = self.format.pcm.map(|encoding| PcmFormat { encoding, sample_rate: self.rate, channels });
        Source {
            name: self.name(),
            path: folder.join(self.name()),
            format,
            channels: Some(channels),
            length_ms: Some(self.length),
            lag: self.content.1.lag,
            level_db: self.content.1.level_db,
            bar: self.content.1.bar,
            spikes: self.content.1.spikes,
            clock: false,
        }
    }

    /// Arguments after the input.
    fn arguments(&self, part: &Path) -> Vec<OsString> {
        let pan = format!("pan={}", self.layout.1.pan);
        let filters = self.content.1.filter.iter().chain([&pan]).cloned().collect::<Vec<_>>().join(",");
        let mut arguments: Vec<OsString> = ["-map", "0:a:0", "-af", &filters].map(Into::into).to_vec();
        arguments.extend(["-t", &format!("{:.3}", f64::from(self.length) / 1000.0)].map(Into::into));
        arguments.extend(["-ar", &self.rate.to_string()].map(Into::into));
        arguments.extend(self.format.options.split_whitespace().map(Into::into));
        arguments.push(part.join(self.name()).into());
        arguments
    }
}

/// Number of files per run of ffmpeg, because its start costs more than most of the files.
const AT_ONCE: usize = 24;

pub fn make(recipes: &[Recipe]) -> Vec<Source> {
    let folder = folder();
    let mut missing: Vec<&Recipe> =
        recipes.iter().filter(|recipe| !folder.join(recipe.name()).exists()).collect();
    missing.sort_by_key(|recipe| recipe.content.0);
    let runs: Vec<&[&Recipe]> = missing
        .chunk_by(|one, next| one.content.0 == next.content.0)
        .flat_map(|alike| alike.chunks(AT_ONCE))
        .collect();
    let (even, odd): (Vec<_>, Vec<_>) = runs.iter().enumerate().partition(|(place, _)| place % 2 == 0);
    std::thread::scope(|scope| {
        for half in [even, odd] {
            let folder = &folder;
            scope.spawn(move || half.into_iter().for_each(|(_, run)| write(run, folder)));
        }
    });
    recipes.iter().map(|recipe| recipe.source(&folder)).collect()
}

pub fn ready(table: &Table) -> impl Iterator<Item = Source> {
    table.ready.iter().map(|ready| Source {
        name: ready.file.clone(),
        path: fixture(&ready.file),
        format: None,
        channels: None,
        length_ms: None,
        lag: true,
        level_db: None,
        bar: None,
        spikes: false,
        clock: ready.clock,
    })
}

/// The folder's name depends on the table, this code, the speech, and the version of ffmpeg.
fn folder() -> PathBuf {
    let version = Command::new("ffmpeg").arg("-version").output().expect("ffmpeg").stdout;
    let made_of = [include_bytes!("make.rs").to_vec(), fs::read(fixture("corpus.toml")).unwrap(), version];
    let speech = fs::read(fixture("speech.flac")).unwrap();
    let hash = made_of.iter().fold(Sha256::new_with_prefix(speech), |hash, part| hash.chain_update(part));
    let name = hex::encode(&hash.finalize()[..8]);
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus");
    fs::create_dir_all(all.join(&name)).unwrap();
    for other in fs::read_dir(&all).unwrap().flatten().filter(|entry| entry.file_name() != name.as_str()) {
        fs::remove_dir_all(other.path()).unwrap();
    }
    all.join(name)
}

/// Produces all sources of one content, in one run.
fn write(recipes: &[&Recipe], folder: &Path) {
    let content = recipes[0].content.1;
    // Files of an interrupted run do not become part of the corpus.
    let part = tempfile::Builder::new().prefix("part-").tempdir_in(folder).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]);
    match (&content.fixture, &content.lavfi) {
        (Some(name), None) => command.args(["-stream_loop", "-1", "-i"]).arg(fixture(name)),
        (None, Some(source)) => command.args(["-f", "lavfi", "-i", source]),
        _ => panic!("a content is a fixture or a source of ffmpeg's"),
    };
    for recipe in recipes {
        command.args(recipe.arguments(part.path()));
    }
    let done = command.output().unwrap();
    let names: Vec<String> = recipes.iter().map(|recipe| recipe.name()).collect();
    assert!(done.status.success(), "{names:?}: {}", String::from_utf8_lossy(&done.stderr));
    for name in names {
        fs::rename(part.path().join(&name), folder.join(&name)).unwrap();
    }
}
