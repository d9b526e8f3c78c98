//! The rows of `tests/fixtures/hostile/files.toml`, and the bytes that they describe.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use voicegate_audio::PcmFormat;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    file: Vec<Row>,
}

/// A file and what becomes of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Also the file name that is sent along.
    pub name: String,
    #[serde(default)]
    parts: Vec<Part>,
    /// Arguments that make the file; `{NAME}` is a fixture.
    ffmpeg: Option<String>,
    /// Offset and bytes in hexadecimal.
    #[serde(default)]
    patch: Vec<(usize, String)>,
    /// Text and what stands in its place wherever it occurs, of the same length.
    #[serde(default)]
    swap: Vec<(String, String)>,
    /// What is put around, or put right, at last.
    wrap: Option<Wrap>,
    pub format: Option<PcmFormat>,
    pub refused: Option<Refused>,
    pub accepted: Option<Accepted>,
}

/// A piece of a file: a fixture or a part of it, or bytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    file: Option<String>,
    #[serde(default)]
    from: usize,
    to: Option<usize>,
    text: Option<String>,
    hex: Option<String>,
    times: Option<usize>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Wrap {
    Base64,
    Hexadecimal,
    /// Hexadecimal text that somebody took for base64.
    HexAsBase64,
    Gzip,
    Tar,
    Zip,
    /// Text in characters of two bytes, or of four.
    Utf16Le,
    Utf16Be,
    Utf32Le,
    /// The checksums of all Ogg pages are made right.
    Ogg,
    /// Ogg whose pages have no checksums.
    OggUnchecked,
    /// Ogg whose pages all have the number 0.
    OggUnnumbered,
}

/// The same by both doors: the status of the answer, or of the note's error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    pub code: String,
    /// A part of the explanation.
    pub says: String,
    #[serde(default = "unprocessable")]
    pub status: u16,
    #[serde(default = "probe")]
    pub stage: String,
}

fn unprocessable() -> u16 {
    422
}

fn probe() -> String {
    "probe".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    pub ms: u64,
    /// By profile.
    pub work: BTreeMap<String, String>,
    /// How much louder than `speech.wav` it must come out, in dB.
    #[serde(default)]
    pub louder: f64,
    /// Parts of it are silent by right, or its level differs from target to target.
    #[serde(default)]
    pub any_level: bool,
}

/// Every row, each with a verdict and a name of its own.
pub fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(folder("hostile").join("files.toml")).expect("the table");
    let rows = toml::from_str::<Table>(&text).expect("a table").file;
    let mut names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names.windows(2).find(|pair| pair[0] == pair[1]), None, "a name is given twice");
    for row in &rows {
        assert!(row.refused.is_some() != row.accepted.is_some(), "{} needs one verdict", row.name);
    }
    rows
}

fn folder(name: &str) -> PathBuf {
    // Included by tests of two packages, one of which is a folder further down.
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|root| root.join("tests/fixtures"));
    let folder = folders.into_iter().find(|folder| folder.is_dir()).expect("the folder of fixtures");
    folder.join(name)
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder("audio").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl Row {
    /// Where nothing says how it is made, it is the fixture of that name.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = match &self.ffmpeg {
            Some(arguments) => run_ffmpeg(arguments, &self.name),
            None if self.parts.is_empty() => fixture(&self.name),
            None => self.parts.iter().flat_map(Part::bytes).collect(),
        };
        for (from, to) in &self.swap {
            assert_eq!(from.len(), to.len(), "{}", self.name);
            let places: Vec<usize> =
                (0..bytes.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
            assert!(!places.is_empty(), "{}: there is no {from}", self.name);
            for at in places {
                bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
        }
        for (at, value) in &self.patch {
            let value = unhex(value);
            bytes[*at..*at + value.len()].copy_from_slice(&value);
        }
        match self.wrap {
            None => bytes,
            Some(Wrap::Base64) => base64(&bytes),
            Some(Wrap::Hexadecimal) => hex::encode(&bytes).into_bytes(),
            Some(Wrap::HexAsBase64) => unbase64(&hex::encode(&bytes)),
            Some(Wrap::Gzip) => gzip(&bytes),
            Some(Wrap::Tar) => tar(&bytes),
            Some(Wrap::Zip) => zip(&bytes),
            Some(Wrap::Utf16Le) => wide(&bytes).flat_map(u16::to_le_bytes).collect(),
            Some(Wrap::Utf16Be) => wide(&bytes).flat_map(u16::to_be_bytes).collect(),
            Some(Wrap::Utf32Le) => wide(&bytes).flat_map(|unit| u32::from(unit).to_le_bytes()).collect(),
            Some(Wrap::Ogg) => ogg(bytes, checked),
            Some(Wrap::OggUnchecked) => ogg(bytes, |page| page[22..26].fill(0)),
            Some(Wrap::OggUnnumbered) => ogg(bytes, |page| {
                page[18..22].fill(0);
                checked(page);
            }),
        }
    }
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        let bytes = match (&self.file, &self.text, &self.hex) {
            (Some(name), None, None) => {
                let whole = fixture(name);
                whole[self.from..self.to.unwrap_or(whole.len())].to_vec()
            }
            (None, Some(text), None) => text.clone().into_bytes(),
            (None, None, Some(hex)) => unhex(hex),
            _ => panic!("a part is a file, a text or hex"),
        };
        bytes.repeat(self.times.unwrap_or(1))
    }
}

fn run_ffmpeg(arguments: &str, name: &str) -> Vec<u8> {
    let work = tempfile::tempdir().expect("a folder");
    let output = work.path().join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-fflags", "+bitexact"]);
    for argument in arguments.split_whitespace() {
        match argument.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(fixture) => command.arg(folder("audio").join(fixture)),
            None => command.arg(argument),
        };
    }
    let made = command.args(["-flags:a", "+bitexact"]).arg(&output).output().expect("ffmpeg");
    assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(output).expect("what ffmpeg made")
}

/// The characters of a text.
fn wide(text: &[u8]) -> std::vec::IntoIter<u16> {
    let text = std::str::from_utf8(text).expect("a text");
    text.encode_utf16().collect::<Vec<u16>>().into_iter()
}

fn base64(content: &[u8]) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(content).into_bytes()
}

fn unbase64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(&text[..text.len() / 4 * 4]).expect("digits of base64")
}

/// One stored block (RFC 1951, 1952).
fn gzip(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("one block");
    let mut bytes = unhex("1f8b0800000000000003 01");
    bytes.extend(length.to_le_bytes());
    bytes.extend((!length).to_le_bytes());
    bytes.extend(content);
    bytes.extend(crc32(content).to_le_bytes());
    bytes.extend(u32::from(length).to_le_bytes());
    bytes
}

/// One stored member, with its directory.
fn zip(content: &[u8]) -> Vec<u8> {
    let name = b"voice.mp3";
    let size = u32::try_from(content.len()).expect("a small file").to_le_bytes();
    // From the version to the length of the extra field: the same in both headers.
    let mut facts = unhex("1400 0000 0000 0000 2100");
    facts.extend(crc32(content).to_le_bytes());
    facts.extend([size, size].concat());
    facts.extend([9, 0, 0, 0]);
    let mut bytes = [b"PK\x03\x04", facts.as_slice(), name, content].concat();
    let directory = bytes.len() as u32;
    bytes.extend([b"PK\x01\x02\x14\x00", facts.as_slice(), &[0; 14], name].concat());
    let length = bytes.len() as u32 - directory;
    bytes.extend(unhex("504b0506 0000 0000 0100 0100"));
    bytes.extend([length.to_le_bytes(), directory.to_le_bytes()].concat());
    bytes.extend([0, 0]);
    bytes
}

/// One member in the `ustar` form.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    header[..9].copy_from_slice(b"voice.mp3");
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = vec![0; content.len().next_multiple_of(512) - content.len() + 1024];
    [header.as_slice(), content, &padding].concat()
}

/// A checksum of 32 bits, most significant bit first; Ogg uses it as it is, ZIP and gzip reflected.
fn crc(bytes: impl Iterator<Item = u8>, start: u32) -> u32 {
    bytes.fold(start, |crc, byte| {
        (0..8).fold(crc ^ (u32::from(byte) << 24), |crc, _| (crc << 1) ^ ((crc >> 31) * 0x04c1_1db7))
    })
}

fn crc32(content: &[u8]) -> u32 {
    !crc(content.iter().map(|byte| byte.reverse_bits()), u32::MAX).reverse_bits()
}

/// Changes every page of an Ogg file.
pub fn ogg(mut bytes: Vec<u8>, mut change: impl FnMut(&mut [u8])) -> Vec<u8> {
    let mut at = 0;
    while at < bytes.len() {
        let segments = usize::from(bytes[at + 26]);
        let lacing = &bytes[at + 27..at + 27 + segments];
        let end = at + 27 + segments + lacing.iter().map(|&length| usize::from(length)).sum::<usize>();
        change(&mut bytes[at..end]);
        at = end;
    }
    bytes
}

/// Makes the checksum of a page right.
pub fn checked(page: &mut [u8]) {
    page[22..26].fill(0);
    let sum = crc(page.iter().copied(), 0);
    page[22..26].copy_from_slice(&sum.to_le_bytes());
}
