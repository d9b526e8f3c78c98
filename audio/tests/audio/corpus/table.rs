//! Reads `corpus.toml` and `targets.toml` in `tests/fixtures/audio`.

use std::collections::BTreeMap;

use serde::Deserialize;
use voicegate_audio::{PROFILES, PcmEncoding, Profile};

use crate::tools::fixture;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub rates: Vec<u32>,
    pub lengths: Vec<u32>,
    pub content: BTreeMap<String, Content>,
    pub layout: BTreeMap<String, Layout>,
    pub format: Vec<Format>,
    pub ready: Vec<Ready>,
    pub long: Vec<Long>,
}

/// Expected output of a profile.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub encoded: Shape,
    pub wrapped: Shape,
    pub untouched: Vec<String>,
    pub max_bytes: Option<u64>,
    pub over_bytes: Option<u64>,
    pub sure_ms: u64,
    pub tolerance_ms: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub container: String,
    pub codec: String,
    #[serde(default)]
    pub rates: Vec<u32>,
    pub original: Option<u32>,
    pub packet_ms: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    pub fixture: Option<String>,
    pub lavfi: Option<String>,
    pub filter: Option<String>,
    #[serde(default)]
    pub lag: bool,
    pub level_db: Option<f64>,
    /// Permitted difference of one of 64 bars, on a scale of 100, if it is larger than usual.
    pub bar: Option<f32>,
    #[serde(default)]
    pub spikes: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    pub channels: u16,
    pub pan: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    pub name: String,
    pub extension: String,
    pub options: String,
    /// Rates in Hz; empty stands for all of them, here and in `channels`.
    #[serde(default)]
    pub rates: Vec<u32>,
    #[serde(default)]
    pub channels: Vec<u16>,
    pub pcm: Option<PcmEncoding>,
}

/// A fixture that is used as a source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    pub file: String,
    /// Only its times give its length.
    #[serde(default)]
    pub clock: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Long {
    pub format: String,
    pub layout: String,
    pub rate: u32,
    pub length: u32,
}

impl Table {
    pub fn read() -> Self {
        toml::from_str(&std::fs::read_to_string(fixture("corpus.toml")).unwrap()).unwrap()
    }
}

/// Every profile, with its expected output.
pub fn targets() -> Vec<(&'static Profile, Target)> {
    let rows = std::fs::read_to_string(fixture("targets.toml")).unwrap();
    let mut rows: BTreeMap<String, Target> = toml::from_str(&rows).unwrap();
    let found = PROFILES.iter().map(|profile| (profile, rows.remove(profile.name)));
    let (found, missing): (Vec<_>, Vec<_>) = found.partition(|(_, row)| row.is_some());
    let missing: Vec<&str> = missing.iter().map(|(profile, _)| profile.name).collect();
    assert!(missing.is_empty(), "add a row for {missing:?} to tests/fixtures/audio/targets.toml");
    assert!(
        rows.is_empty(),
        "there are no profiles for the rows of tests/fixtures/audio/targets.toml: {:?}",
        rows.keys()
    );
    found.into_iter().filter_map(|(profile, row)| Some((profile, row?))).collect()
}

impl Format {
    pub fn takes(&self, channels: u16, rate: u32) -> bool {
        (self.channels.is_empty() || self.channels.contains(&channels))
            && (self.rates.is_empty() || self.rates.contains(&rate))
    }
}
