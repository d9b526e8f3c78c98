//! Produces the files of `time.toml`.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::rows::{checked, ogg};
use crate::tools::fixture;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    source: Vec<Source>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub name: String,
    seconds: u32,
    ffmpeg: Option<String>,
    #[serde(default)]
    parts: Vec<Part>,
    granules: Option<Granules>,
    #[serde(default)]
    edits: Vec<(i64, u32)>,
    fragments: Option<Fragments>,
    keep: Option<f64>,
    id3: Option<u32>,
    udta: Option<u32>,
    heard: Option<Vec<u32>>,
    pub ms: u64,
    #[serde(default)]
    pub more_ms: u64,
    #[serde(default)]
    pub short_ms: u64,
    #[serde(default)]
    pub silent_ms: u64,
    #[serde(default)]
    pub level_db: f64,
    pub max_bytes: Option<u64>,
    pub warns: bool,
    pub work: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    from: u32,
    to: u32,
    ffmpeg: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Granules {
    times: u64,
    over: u64,
    #[serde(default)]
    only: usize,
    #[serde(default)]
    add: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fragments {
    from: usize,
    add: i64,
}

pub fn sources() -> Vec<Source> {
    let text = std::fs::read_to_string(fixture("time.toml")).unwrap();
    toml::from_str::<Table>(&text).unwrap().source
}

/// Sample rate of the signal, in Hz.
const RATE: u32 = 48_000;
pub const FIRST_TONE: u32 = 300;
pub const STEP: u32 = 100;
/// Amplitude of each tone; -13.5 dB.
const AMPLITUDE: f64 = 0.3;

impl Source {
    pub fn heard(&self) -> Vec<u32> {
        let all = (0..self.seconds).map(|second| FIRST_TONE + STEP * second);
        self.heard.clone().unwrap_or_else(|| all.collect())
    }

    pub fn bytes(&self, folder: &Path) -> Vec<u8> {
        let mut bytes = match &self.ffmpeg {
            Some(options) => made(folder, &self.name, 0, self.seconds, options),
            None => {
                let part = |part: &Part| made(folder, &self.name, part.from, part.to, &part.ffmpeg);
                self.parts.iter().flat_map(part).collect()
            }
        };
        if let Some(granules) = &self.granules {
            granules.change(&mut bytes);
            bytes = ogg(bytes, checked);
        }
        if !self.edits.is_empty() {
            bytes = with_edits(&bytes, &self.edits);
        }
        if let Some(fragments) = &self.fragments {
            fragments.change(&mut bytes);
        }
        if let Some(keep) = self.keep {
            bytes.truncate((bytes.len() as f64 * keep) as usize);
        }
        if let Some(size) = self.id3 {
            let sizes = [21, 14, 7, 0].map(|shift| (size >> shift & 0x7f) as u8);
            bytes = [b"ID3\x04\0\0".as_slice(), &sizes, &vec![0; size as usize], &bytes].concat();
        }
        if let Some(size) = self.udta {
            let udta = [&(size + 8).to_be_bytes(), b"udta".as_slice(), &vec![0; size as usize]].concat();
            bytes = changed(&bytes, &[b"moov"], &mut |moov| [moov, &udta].concat());
        }
        bytes
    }
}

/// A part of the signal, encoded by ffmpeg.
fn made(folder: &Path, name: &str, from: u32, to: u32, options: &str) -> Vec<u8> {
    let (source, target) = (folder.join(format!("{name}.signal.wav")), folder.join(name));
    std::fs::write(&source, signal(from, to)).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-y", "-i"]).arg(&source);
    let done = command.args(options.split_whitespace()).arg(&target).output().unwrap();
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    std::fs::read(target).unwrap()
}

/// WAV with one tone per second, each with a soft start and end.
fn signal(from: u32, to: u32) -> Vec<u8> {
    let samples = (from * RATE..to * RATE).flat_map(|at| {
        let (second, inside) = (at / RATE, f64::from(at % RATE) / f64::from(RATE));
        let edge = (inside / 0.01).min((1.0 - inside) / 0.01).min(1.0);
        let phase = std::f64::consts::TAU * f64::from(FIRST_TONE + STEP * second) * inside;
        ((phase.sin() * edge * AMPLITUDE * 32_767.0) as i16).to_le_bytes()
    });
    let data: Vec<u8> = samples.collect();
    let size = data.len() as u32;
    let mut wav =
        [b"RIFF".as_slice(), &(size + 36).to_le_bytes(), b"WAVEfmt \x10\0\0\0\x01\0\x01\0"].concat();
    wav.extend(
        [RATE.to_le_bytes(), (2 * RATE).to_le_bytes(), *b"\x02\0\x10\0", *b"data", size.to_le_bytes()]
            .concat(),
    );
    wav.extend(data);
    wav
}

impl Granules {
    fn change(&self, bytes: &mut [u8]) {
        let (mut at, mut page) = (0, 0_usize);
        while at < bytes.len() {
            let segments = usize::from(bytes[at + 26]);
            let body: usize =
                bytes[at + 27..at + 27 + segments].iter().map(|&length| usize::from(length)).sum();
            let granule = u64::from_le_bytes(*bytes[at + 6..].first_chunk().unwrap());
            if granule > 0 && granule < u64::MAX {
                let added = if page >= self.only { self.add } else { 0 };
                let new = granule * self.times / self.over + added;
                bytes[at + 6..at + 14].copy_from_slice(&new.to_le_bytes());
                page += 1;
            }
            at += 27 + segments + body;
        }
    }
}

impl Fragments {
    fn change(&self, bytes: &mut [u8]) {
        let is_time = |at: &usize| bytes[*at..].starts_with(b"tfdt\x01");
        let times: Vec<usize> = (0..bytes.len()).filter(is_time).collect();
        assert!(times.len() > self.from, "there are {} fragments", times.len());
        for at in times.into_iter().skip(self.from) {
            let begins = &mut bytes[at + 8..at + 16];
            let new = i64::from_be_bytes(*begins.first_chunk().unwrap()) + self.add;
            begins.copy_from_slice(&new.to_be_bytes());
        }
    }
}

/// The boxes with the innermost one of `path` changed. Chunk offsets are adjusted if the index comes first.
fn changed(bytes: &[u8], path: &[&[u8; 4]], change: &mut impl FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut made = Vec::new();
    let mut rest = bytes;
    while let Some((size, _)) = rest.split_first_chunk::<4>() {
        let (whole, after) = rest.split_at(u32::from_be_bytes(*size) as usize);
        let (kind, body) = (&whole[4..8], &whole[8..]);
        let body = match path {
            [last] if kind == *last => change(body),
            [first, inner @ ..] if kind == *first => changed(body, inner, change),
            _ => body.to_vec(),
        };
        made.extend((body.len() as u32 + 8).to_be_bytes());
        made.extend_from_slice(kind);
        made.extend(body);
        rest = after;
    }
    made
}

/// Replaces the edit list. The file has its index at the end, so no offset changes.
fn with_edits(bytes: &[u8], edits: &[(i64, u32)]) -> Vec<u8> {
    let mut list = vec![0; 4];
    list.extend((edits.len() as u32).to_be_bytes());
    for &(from, lasts) in edits {
        // The movie's time scale counts milliseconds, the track's counts samples; the encoder delay is one frame.
        let from = if from < 0 { -1 } else { (from * i64::from(RATE) / 1000 + 1024) as i32 };
        list.extend([lasts.to_be_bytes(), from.to_be_bytes(), (1_u32 << 16).to_be_bytes()].concat());
    }
    changed(bytes, &[b"moov", b"trak", b"edts", b"elst"], &mut |_| list.clone())
}
