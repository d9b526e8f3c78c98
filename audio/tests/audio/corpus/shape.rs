//! Properties of produced files, according to ffprobe and opusinfo, and to parsers that share no code with the engine.

use std::path::Path;
use std::process::Command;

use voicegate_audio::Work;

use super::table::Shape;
use crate::sound::complaints;

/// Checks the file, which was made by this work. Returns its stated length in milliseconds; `None` if only decoding tells.
pub fn check(path: &Path, shape: &Shape, channels: u16, work: Work) -> Result<Option<f64>, String> {
    let found = ffprobe(path)?;
    let streams = found["streams"].as_array().ok_or("ffprobe found no list of streams")?;
    let [stream] = streams.as_slice() else { return Err(format!("has {} streams", streams.len())) };
    same("the container", found["format"]["format_name"].as_str(), &shape.container)?;
    same("the codec", stream["codec_name"].as_str(), &shape.codec)?;
    if stream["channels"] != channels {
        return Err(format!("has {} channels", stream["channels"]));
    }
    let rate: Option<u32> = stream["sample_rate"].as_str().and_then(|rate| rate.parse().ok());
    if !shape.rates.is_empty() && !rate.is_some_and(|rate| shape.rates.contains(&rate)) {
        return Err(format!("has a rate of {rate:?}"));
    }
    if found["format"]["tags"]["title"] != serde_json::Value::Null {
        return Err("still has the tags of the source".to_owned());
    }
    match shape.container.as_str() {
        "ogg" => opusinfo(path, shape, work).map(|()| None),
        "caf" => caf(&read(path)?).map(Some),
        container if container.starts_with("mov") => {
            mp4(&read(path)?)?;
            let seconds = stream["duration"].as_str().and_then(|duration| duration.parse::<f64>().ok());
            seconds.map(|seconds| Some(seconds * 1000.0)).ok_or_else(|| "has no duration".to_owned())
        }
        _ => Ok(None),
    }
}

fn same(what: &str, found: Option<&str>, expected: &str) -> Result<(), String> {
    if found == Some(expected) { Ok(()) } else { Err(format!("{what} is {found:?}, not {expected}")) }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| error.to_string())
}

fn ffprobe(path: &Path) -> Result<serde_json::Value, String> {
    let output = Command::new("ffprobe")
        .args(["-loglevel", "warning", "-of", "json", "-show_format", "-show_streams"])
        .arg(path)
        .output()
        .map_err(|error| error.to_string())?;
    let said = complaints(&output.stderr);
    if !output.status.success() || !said.is_empty() {
        return Err(format!("ffprobe: {said}"));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// opusinfo warns about every violation of RFC 7845. Kept packets begin where their source says: ffmpeg writes CAF without
/// the samples to skip, so there are none to skip in Ogg either.
fn opusinfo(path: &Path, shape: &Shape, work: Work) -> Result<(), String> {
    let output = Command::new("opusinfo").arg(path).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let is_kept = |line: &str| work == Work::Remuxed && line.contains("low preskip");
    let warns = said.lines().any(|line| line.contains("WARNING") && !is_kept(line));
    // A file with a warning counts as a failure of the program.
    if warns || !(output.status.success() || said.lines().any(is_kept)) {
        return Err(format!("opusinfo: {said}"));
    }
    let original = shape.original.map(|rate| format!("Original sample rate: {rate} Hz"));
    let packets = shape.packet_ms.map(|length| format!("{length}.0ms (max)"));
    match original.into_iter().chain(packets).find(|text| !said.contains(text.as_str())) {
        Some(text) => Err(format!("lacks {text:?}: {said}")),
        None => Ok(()),
    }
}

/// Checks for one track with its index before the sound. ISO/IEC 14496-12: a sequence of size and kind.
fn mp4(bytes: &[u8]) -> Result<(), String> {
    let outer = boxes(bytes)?;
    let place = |wanted: &[u8; 4]| outer.iter().position(|(kind, _)| kind == wanted);
    let (Some(0), Some(moov), Some(mdat)) = (place(b"ftyp"), place(b"moov"), place(b"mdat")) else {
        return Err("is not a type, an index and sound".to_owned());
    };
    if moov > mdat {
        return Err("has its index behind the sound".to_owned());
    }
    let tracks = boxes(outer[moov].1)?.iter().filter(|(kind, _)| kind == b"trak").count();
    if tracks == 1 { Ok(()) } else { Err(format!("has {tracks} tracks")) }
}

/// Kind and content.
type Mp4Box<'a> = ([u8; 4], &'a [u8]);

fn boxes(mut bytes: &[u8]) -> Result<Vec<Mp4Box<'_>>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (size, after) = bytes.split_first_chunk::<4>().ok_or("a box is cut off")?;
        let (kind, _) = after.split_first_chunk::<4>().ok_or("a box is cut off")?;
        let size = u32::from_be_bytes(*size) as usize;
        let content = bytes.get(8..size).ok_or("a box is larger than what it is in")?;
        found.push((*kind, content));
        bytes = &bytes[size..];
    }
    Ok(found)
}

/// Checks Opus whose packet table states the cuts at both ends.
/// <https://developer.apple.com/library/archive/documentation/MusicAudio/Reference/CAFSpec/>
fn caf(bytes: &[u8]) -> Result<f64, String> {
    fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
        bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .ok_or_else(|| "a chunk is cut off".to_owned())
    }
    let mut rest = bytes.strip_prefix(b"caff\0\x01\0\0").ok_or("is not the first version of CAF")?;
    let (mut description, mut packets, mut data) = (None, None, None);
    while !rest.is_empty() {
        let size =
            usize::try_from(i64::from_be_bytes(number(rest, 4)?)).map_err(|_| "a chunk has no size")?;
        let content = rest.get(12..12 + size).ok_or("a chunk is larger than the file")?;
        match &rest[..4] {
            b"desc" => description = Some(content),
            b"pakt" => packets = Some(content),
            b"data" => data = Some(content),
            _ => {}
        }
        rest = &rest[12 + size..];
    }
    let (Some(description), Some(packets), Some(_)) = (description, packets, data) else {
        return Err("lacks a description, a packet table or data".to_owned());
    };
    if &number::<4>(description, 8)? != b"opus" {
        return Err("is described as something else than Opus".to_owned());
    }
    let rate = f64::from_be_bytes(number(description, 0)?);
    let frames = i64::from(u32::from_be_bytes(number(description, 20)?));
    let count = i64::from_be_bytes(number(packets, 0)?);
    let valid = i64::from_be_bytes(number(packets, 8)?);
    let around = i64::from(i32::from_be_bytes(number(packets, 16)?))
        + i64::from(i32::from_be_bytes(number(packets, 20)?));
    if frames > 0 && count * frames != valid + around {
        return Err(format!("has {count} packets of {frames} for {valid} + {around} frames"));
    }
    Ok(valid as f64 * 1000.0 / rate)
}
