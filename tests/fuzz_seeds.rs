//! Every fuzz target, without a fuzzer: over its seeds, over the fixtures that it can read, and over the same
//! mutations of them each time. `make fuzz` goes on from there.
#![cfg(debug_assertions)]

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use voicegate::fuzzing::{Target, targets};

/// What one target is given of mutations, in bytes and in number.
const MOST_BYTES: usize = 16 << 20;
const MOST_RUNS: usize = 6_000;
/// Where each run writes files, or starts a parser of some size.
const SLOW_RUNS: usize = 700;
const SLOW: &[&str] = &[
    "audio_decode_aac",
    "audio_decode_mp3",
    "audio_decode_opus",
    "audio_examine",
    "config_file",
    "ffmpeg_log",
    "http_answers",
    "http_callbacks",
    "http_recipe",
    "json_body",
    "linq_answers",
    "linq_callbacks",
    "multipart_body",
    "query_fields",
];
/// How the names of targets end that read text from the network.
const TEXT: [&str; 3] = ["_answers", "_body", "_callbacks"];
/// Larger files are read whole, and mutated only in their first part.
const LONGEST: usize = 12 << 10;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folders whose files a target starts from. `scripts/fuzz.sh` knows the same.
fn folders(target: &str) -> Vec<PathBuf> {
    let fixtures = match (target.strip_suffix("_answers"), target.starts_with("audio_")) {
        (Some(provider), _) => {
            let provider = provider.replace('_', "-");
            ["send", "check"].map(|what| format!("providers/fixtures/{provider}/{what}")).to_vec()
        }
        (None, true) => vec!["tests/fixtures/audio".to_owned()],
        (None, false) => Vec::new(),
    };
    let seeds = root().join("fuzz/seeds").join(target);
    std::iter::once(seeds).chain(fixtures.iter().map(|folder| root().join(folder))).collect()
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries =
        fs::read_dir(root().join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
}

/// Files by name, in an order that does not depend on the machine.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = folders(target).into_iter().flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let mut seeds: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            (
                path.file_name().expect("a name").to_string_lossy().into_owned(),
                fs::read(&path).expect("a file"),
            )
        })
        .collect();
    seeds.sort();
    seeds
}

/// xorshift64*: the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        if limit == 0 { 0 } else { number as usize % limit }
    }

    /// One to four changes such as transfers, disks and people make.
    fn mutated(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = seed[..seed.len().min(LONGEST)].to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(7) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..(at + 1 + self.below(16)).min(bytes.len()))),
                2 => {
                    let piece = &other[..other.len().min(LONGEST)];
                    bytes.truncate(at);
                    bytes.extend(&piece[self.below(piece.len())..]);
                }
                3 => bytes.insert(at, self.below(256) as u8),
                4 if at < bytes.len() => {
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b' '][self.below(8)]
                }
                5 if at + 4 <= bytes.len() => {
                    let number = [0, 1, u32::MAX, 1 << 31, (1 << 31) - 1, 0x0100_0000][self.below(6)];
                    bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
                }
                _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        bytes
    }
}

/// Runs `target` once, and keeps what it broke on.
fn held((name, target): Target, data: &[u8], what: &str) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| target(data))).map_err(|_| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        let kept = fs::write(&file, data).map(|()| file.display().to_string());
        format!("{name} broke on {what}; the bytes are in {}", kept.unwrap_or_else(|error| error.to_string()))
    })
}

fn all_held(target: Target) -> Result<(), String> {
    let seeds = seeds(target.0);
    for (name, bytes) in &seeds {
        held(target, bytes, name)?;
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut bytes = 0;
    for run in 0..if SLOW.contains(&target.0) { SLOW_RUNS } else { MOST_RUNS } {
        let (name, seed) = &seeds[run % seeds.len()];
        let other = &seeds[dice.below(seeds.len())].1;
        let data = dice.mutated(seed, other);
        held(target, &data, &format!("mutation {run}, of {name}"))?;
        bytes += data.len();
        if bytes > MOST_BYTES {
            break;
        }
    }
    Ok(())
}

fn all_hold(which: impl Fn(&str) -> bool) {
    let broken: Vec<_> =
        targets().filter(|(name, _)| which(name)).filter_map(|target| all_held(target).err()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn targets_of_audio_hold_for_mutated_files() {
    all_hold(|name| name.starts_with("audio_"));
}

#[test]
fn targets_of_answers_bodies_and_callbacks_hold_for_mutated_text() {
    all_hold(|name| TEXT.iter().any(|end| name.ends_with(end)));
}

#[test]
fn targets_of_everything_else_hold_for_mutated_seeds() {
    all_hold(|name| !TEXT.iter().any(|end| name.ends_with(end)) && !name.starts_with("audio_"));
}

#[test]
fn every_target_has_a_program_and_seeds() {
    let known: BTreeSet<String> = targets().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(known.len(), targets().count(), "two targets share a name");
    assert_eq!(names("fuzz/fuzz_targets"), known, "fuzz/fuzz_targets has one program for each target");
    assert_eq!(names("fuzz/seeds"), known, "fuzz/seeds has one folder for each target");
    let manifest: toml::Table =
        fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("a manifest").parse().expect("TOML");
    let programs = manifest["bin"].as_array().expect("programs").iter();
    let programs: BTreeSet<String> =
        programs.map(|program| program["name"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(programs, known, "fuzz/Cargo.toml has one program for each target");
    for name in known {
        let program = root().join(format!("fuzz/fuzz_targets/{name}.rs"));
        let program = fs::read_to_string(program).expect("a program");
        assert!(program.contains(&format!("run(\"{name}\"")), "{name} runs another target");
        let folder = fs::read_dir(root().join("fuzz/seeds").join(&name)).expect("a folder");
        assert!(folder.count() > 0, "{name} has no seeds of its own");
    }
}
