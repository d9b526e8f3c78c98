//! Files with one fault each.

use std::process::Command;

use tempfile::NamedTempFile;
use voicegate_providers::{AudioFacts, Codec, Container};

use crate::profiles::profile::{VENDOR, profile};
use crate::proving::proof::{self, Wav};
use crate::proving::verify::{CHECKS, Proven, verify};

fn fixture(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio");
    std::fs::read(folder.join(name)).unwrap()
}

/// A source of this length.
fn lasting(duration_ms: u64) -> AudioFacts {
    AudioFacts {
        container: Container::Flac,
        codec: Codec::new("flac"),
        mime_type: String::new(),
        duration_ms,
        size_bytes: 1,
        sample_rate: 16_000,
        channels: 1,
        sha256: String::new(),
    }
}

fn verified(
    bytes: &[u8],
    container: Container,
    duration_ms: u64,
    name: &str,
    encoded: bool,
) -> Result<Proven, String> {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let profile = profile(name).unwrap();
    let target = (profile, profile.max_bytes);
    let proven = verify(file.path(), container, &lasting(duration_ms), target, encoded);
    if let Ok(proven) = &proven {
        for check in &proven.checks {
            assert!(CHECKS.iter().any(|(known, _)| known == check), "{check} is not documented");
        }
        for common in ["size", "channels", "duration", "profile"] {
            assert!(proven.checks.contains(&common), "{common}");
        }
        assert_eq!(proven.facts.size_bytes, bytes.len() as u64);
    }
    proven
}

/// Three seconds of speech from the fixtures, converted by ffmpeg with these options.
fn made(name: &str, options: &str) -> Vec<u8> {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join(name);
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio/speech.wav");
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-i"])
        .arg(source)
        .args(options.split_whitespace())
        .args(["-fflags", "+bitexact", "-flags:a", "+bitexact"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(done.success(), "{name}");
    std::fs::read(path).unwrap()
}

fn changed(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn every_check_is_documented_once() {
    for (index, (name, meaning)) in CHECKS.iter().enumerate() {
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
        assert!(!meaning.is_empty() && CHECKS[..index].iter().all(|(other, _)| other != name), "{name}");
    }
}

#[test]
fn faulty_ogg_fails_verification() {
    let whole = fixture("recorder-wideband.ogg");
    let verified = |bytes: &[u8], duration_ms, encoded| {
        verified(bytes, Container::Ogg, duration_ms, "whatsapp-1", encoded)
            .map(|proven| proven.facts.duration_ms)
    };
    let length = verified(&whole, 3_000, true).unwrap();
    assert_eq!(verified(&whole, length + 20, true), Ok(length));
    assert_eq!(verified(&whole, length - 20, false), Ok(length));
    for off in [length - 21, length + 21] {
        assert_eq!(verified(&whole, off, true), Err(format!("lasts {length} ms instead of {off} ms")));
    }
    assert_eq!(
        verified(&whole[..whole.len() - 1], length, true).unwrap_err(),
        "the file ends in the middle of a page"
    );
    let other = String::from_utf8_lossy(&whole).into_owned();
    assert!(other.contains(VENDOR));
    let lavf = fixture("speech-opus-wideband.ogg");
    assert_eq!(verified(&lavf, length, true).unwrap_err(), "has other tags than a recorder's");
}

#[test]
fn faulty_m4a_fails_verification() {
    let whole = made("x.m4a", "-ac 1 -ar 24000 -c:a aac -b:a 64k -movflags +faststart");
    let verified = |bytes: &[u8]| verified(bytes, Container::Mp4, 3_000, "linq-1", true).map(drop);
    assert_eq!(verified(&whole), Ok(()));
    let samples = whole.windows(4).position(|kind| kind == b"mdat").unwrap() - 4;
    let size = (whole.len() - samples) as u32;
    let offsets = whole.windows(4).position(|kind| kind == b"stco").unwrap() + 12;
    let first = u32::from_be_bytes(*whole[offsets..].first_chunk().unwrap());
    let free = |size: u32| [&size.to_be_bytes()[..], b"free"].concat();
    let with_free = [whole.as_slice(), &free(8)].concat();
    assert_eq!(verified(&with_free), Ok(()));
    for (bytes, why) in [
        (whole[..whole.len() - 1].to_vec(), "has a box that does not fit into the file"),
        ([whole.as_slice(), b"1234567"].concat(), "ends in the middle of a box"),
        ([whole.as_slice(), &free(9)].concat(), "has a box that does not fit into the file"),
        ([whole.as_slice(), &free(0)].concat(), "has a box that does not fit into the file"),
        ([whole.as_slice(), b"\0\0\0\x08moof"].concat(), "has a box that does not belong there"),
        (changed(&whole, offsets, &(first + 1).to_be_bytes()), "has samples that do not follow each other"),
        (changed(&whole, offsets, &(first - 1).to_be_bytes()), "has samples that do not follow each other"),
        (
            [&changed(&whole, samples, &(size + 1).to_be_bytes())[..], b"x"].concat(),
            "has samples that do not fill the audio",
        ),
        (fixture("speech-moov-last.m4a"), "has its index behind the audio"),
    ] {
        assert_eq!(verified(&bytes), Err(why.to_owned()));
    }
    for end in 0..whole.len() {
        assert!(proof::mp4(&whole[..end]).is_err(), "M4A of {end} bytes");
    }
}

/// Tests lengths that end anywhere in a frame, at every rate that profiles produce.
#[test]
fn padding_does_not_count_as_length() {
    for (end, rate) in
        [("1.2345", 16_000), ("2.0", 22_050), ("0.777", 24_000), ("2.9", 44_100), ("1.01", 48_000)]
    {
        let duration_ms = (end.parse::<f64>().unwrap() * 1000.0) as u64;
        let aac = made("x.m4a", &format!("-t {end} -ac 1 -ar {rate} -c:a aac -b:a 64k -movflags +faststart"));
        let mp3 =
            made("x.mp3", &format!("-t {end} -ac 1 -ar {rate} -c:a libmp3lame -b:a 64k -id3v2_version 0"));
        for (bytes, container, name) in [(aac, Container::Mp4, "linq-1"), (mp3, Container::Mp3, "mp3-1")] {
            let proven = verified(&bytes, container, duration_ms, name, true);
            assert!(proven.is_ok(), "{container:?} of {end} s at {rate} Hz: {proven:?}");
            assert!(verified(&bytes, container, duration_ms + 140, name, true).is_err());
        }
    }
}

#[test]
fn faulty_wav_fails_verification() {
    let whole = made("x.wav", "-ac 1 -ar 16000 -c:a pcm_s16le");
    let samples = (whole.len() - 44) as u64 / 2;
    assert_eq!(proof::wav(&whole), Ok(Wav { sample_rate: 16_000, channels: 1, samples }));
    let proven = verified(&whole, Container::Wav, 3_000, "mp3-1", true).unwrap();
    assert_eq!((proven.facts.codec.0.as_str(), proven.facts.sample_rate), ("pcm_s16le", 16_000));
    assert!(verified(&whole, Container::Wav, 3_002, "mp3-1", true).is_err());
    for end in 0..whole.len().min(200) {
        assert!(proof::wav(&whole[..end]).is_err(), "WAV of {end} bytes");
    }
    assert!(proof::wav(&whole[..whole.len() - 1]).is_err());
    assert!(proof::wav(&[whole.as_slice(), b"\0\0"].concat()).is_err());
    // Each number of the header in turn: sizes, form, tag, channels, rate, bytes, block, bits.
    for at in (0..44).step_by(2) {
        let bytes = changed(&whole, at, &[whole[at] ^ 1]);
        assert!(proof::wav(&bytes).is_err(), "byte {at} of the header says nothing");
    }
}
