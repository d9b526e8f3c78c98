//! Reads a produced file back and compares it with the profile and the source. A file that fails is never sent.

use std::io::Cursor;
use std::path::Path;

use sha2::{Digest, Sha256};
use voicegate_providers::{AudioFacts, Codec, Container};

use crate::formats::frames::{self, Stream};
use crate::formats::mp4::Mp4;
use crate::formats::mpeg::walk_mp3;
use crate::formats::opus::{OpusDetail, RATE};
use crate::formats::{caf_opus, ogg_opus};
use crate::profiles::profile::{Profile, VENDOR};
use crate::proving::proof;
use crate::source::findings::Findings;
use crate::source::{Probed, SourceDetail, mime_type};

const AAC_LC: u8 = 2;
/// Samples of the longest AAC frame. The start and end of kept AAC are not known more precisely.
const AAC_FRAME: u64 = 1024;
/// The minimum that libopus needs, which is lower with `lowdelay`, up to the recommendation of RFC 7845 (section 5.1) for a
/// decoder that has to converge.
const PRE_SKIP: std::ops::RangeInclusive<u16> = 120..=3_840;
/// Pre-skip limit after a cut, which falls between packets of up to 120 ms. Browsers write 0.
const MOST_KEPT_PRE_SKIP: u16 = 3_840 + 5_760;

/// Name and meaning of every check. The documentation prints the same table.
pub const CHECKS: &[(&str, &str)] = &[
    (
        "ogg_pages",
        "The pages form one stream to the last byte, with correct checksums and sequence numbers, and the first and last page are flagged",
    ),
    (
        "caf_chunks",
        "The file contains description, channel layout, packet table and audio with correct sizes, and nothing else",
    ),
    (
        "caf_packet_table",
        "The packets fill the audio chunk, and the samples played and cut off at both ends add up",
    ),
    (
        "opus_header",
        "The number of channels matches the packets, there is no added gain, and the stated rate is that of the note",
    ),
    (
        "opus_pre_skip",
        "The decoder drops 120 to 3840 samples at the start, or with kept packets as many as the source states, at most 9600",
    ),
    ("opus_tags", "The vendor is `Recorder`, and there are no comments"),
    ("opus_packets", "Every packet is well-formed and not longer than 120 ms"),
    (
        "granules",
        "The granule of every page matches its packets, and that of the last page states the end of the sound",
    ),
    ("mp4_boxes", "The boxes for type, index, audio and free space fill the file with correct sizes"),
    ("mp4_samples", "The samples in the index are contiguous and fill the audio"),
    ("moov_first", "The index comes before the audio"),
    ("one_track", "There is one track, and it is an audio track"),
    ("aac_configuration", "The decoder's configuration is valid; new encodings are AAC-LC"),
    ("mp3_frames", "The file consists of frames of one kind, to the last byte"),
    ("adts_frames", "The file consists of frames of one kind, to the last byte"),
    ("amr_frames", "The file consists of undamaged frames, to the last byte"),
    ("wav_format", "The format is linear 16-bit PCM, and the numbers in the header are consistent"),
    ("wav_sizes", "Both sizes in the header are correct, and there is no other chunk"),
    ("size", "The file is within the target's size limit"),
    ("channels", "New encodings are mono"),
    (
        "duration",
        "The length is that of the source: within 20 ms for Opus, 60 ms for AAC, MP3 and AMR, 1 ms for WAV, and one more frame for kept AAC",
    ),
    (
        "kept_frames",
        "Kept Opus frames are those of the source, byte by byte, and the same parts are dropped at both ends",
    ),
    (
        "sound",
        "The decoded file has the same 64 bars as the source. With `kept_frames`, it is enough that the first half second decodes to the same samples",
    ),
    ("profile", "The profile accepts container, codec, rate, bandwidth, channels, framing and tags"),
];

/// A produced file that passed verification.
#[derive(Debug)]
pub(crate) struct Proven {
    pub facts: AudioFacts,
    pub checks: Vec<&'static str>,
}

/// Verifies a produced file, which may have `limit` bytes. `encoded` is true for our own encodings, which must match the
/// profile exactly, and false for kept packets.
pub(crate) fn verify(
    path: &Path,
    made: Container,
    source: &AudioFacts,
    (profile, limit): (&Profile, Option<u64>),
    encoded: bool,
) -> Result<Proven, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut found = match made {
        Container::Ogg => ogg(&bytes, encoded)?,
        Container::Caf => caf(&bytes, encoded)?,
        Container::Mp4 => mp4(&bytes, encoded)?,
        Container::Mp3 => mp3(&bytes)?,
        Container::Wav => wav(&bytes)?,
        Container::Adts => adts(&bytes, source)?,
        Container::Amr => amr(&bytes)?,
        other => return Err(format!("there is no reader for {other:?}")),
    };
    let size_bytes = bytes.len() as u64;
    if let Some(most) = limit.filter(|&most| size_bytes > most) {
        return Err(format!("has {size_bytes} bytes, and {most} fit"));
    }
    found.checks.push("size");
    if encoded && found.channels != 1 {
        return Err(format!("has {} channels", found.channels));
    }
    found.checks.push("channels");
    let difference = found.duration_ms.abs_diff(source.duration_ms);
    if difference > found.tolerance_ms {
        return Err(format!("lasts {} ms instead of {} ms", found.duration_ms, source.duration_ms));
    }
    found.checks.push("duration");
    let facts = AudioFacts {
        container: made,
        codec: Codec::new(found.codec),
        mime_type: mime_type(made, found.codec).to_owned(),
        duration_ms: found.duration_ms,
        size_bytes,
        sample_rate: found.sample_rate,
        channels: found.channels,
        sha256: hex::encode(Sha256::digest(&bytes)),
    };
    let findings = Findings::default();
    let probed = Probed { facts, waveform: Vec::new(), detail: found.detail, findings };
    if !profile.accepts(&probed, limit) {
        return Err(format!("is not what {} accepts", profile.name));
    }
    found.checks.push("profile");
    Ok(Proven { facts: probed.facts, checks: found.checks })
}

struct Found {
    codec: &'static str,
    duration_ms: u64,
    tolerance_ms: u64,
    sample_rate: u32,
    channels: u16,
    detail: SourceDetail,
    checks: Vec<&'static str>,
}

/// Converts samples to milliseconds, rounded to the nearest.
fn milliseconds(samples: u64, rate: u64) -> u64 {
    (samples * 1000 + rate / 2) / rate
}

fn ogg(bytes: &[u8], encoded: bool) -> Result<Found, String> {
    let detail = ogg_opus::read(&mut &bytes[..], &mut |_| Ok(())).map_err(|damage| damage.0.to_owned())?;
    if detail.vendor.as_deref() != Some(VENDOR) || detail.comments != 0 {
        return Err("has other tags than a recorder's".to_owned());
    }
    let checks = vec!["ogg_pages", "opus_header", "opus_tags", "opus_packets", "granules"];
    opus(detail, "OggS", encoded, checks)
}

fn caf(bytes: &[u8], encoded: bool) -> Result<Found, String> {
    let detail =
        caf_opus::read(&mut Cursor::new(bytes), &mut |_| Ok(())).map_err(|damage| damage.0.to_owned())?;
    opus(detail, "caff", encoded, vec!["caf_chunks", "caf_packet_table", "opus_header", "opus_packets"])
}

fn opus(
    detail: OpusDetail,
    flavour: &str,
    encoded: bool,
    mut checks: Vec<&'static str>,
) -> Result<Found, String> {
    let sane =
        if encoded { PRE_SKIP.contains(&detail.pre_skip) } else { detail.pre_skip <= MOST_KEPT_PRE_SKIP };
    if !sane {
        return Err(format!("drops {} samples at the start", detail.pre_skip));
    }
    checks.push("opus_pre_skip");
    if encoded && (!detail.mono || detail.gain != 0) {
        return Err("has packets in stereo, or a gain".to_owned());
    }
    Ok(Found {
        codec: "opus",
        duration_ms: milliseconds(detail.samples, RATE),
        tolerance_ms: 20,
        sample_rate: detail.sane_rate(),
        channels: u16::from(detail.channels),
        detail: SourceDetail {
            flavour: flavour.to_owned(),
            intact: true,
            opus: Some(detail),
            ..SourceDetail::default()
        },
        checks,
    })
}

fn mp4(bytes: &[u8], encoded: bool) -> Result<Found, String> {
    proof::mp4(bytes)?;
    let mp4 = Mp4::read(&mut Cursor::new(bytes)).map_err(|error| error.to_string())?;
    if mp4.brand.is_empty() || mp4.cut_off || mp4.fragmented || mp4.moov_first != Some(true) {
        return Err("is not a whole M4A file".to_owned());
    }
    let [track] = mp4.tracks.as_slice() else {
        return Err(format!("has {} tracks", mp4.tracks.len()));
    };
    if track.handler != "soun" {
        return Err("has a track that is no sound".to_owned());
    }
    let aac = track.aac.ok_or("has no AAC configuration")?;
    if encoded && aac.object != AAC_LC {
        return Err(format!("is of AAC object type {}", aac.object));
    }
    let duration_ms = track.duration_ms.ok_or("has no duration")?;
    let unsure = if encoded { 0 } else { AAC_FRAME * 1000 / u64::from(aac.sample_rate.max(1)) };
    Ok(Found {
        codec: "aac",
        duration_ms,
        tolerance_ms: 60 + unsure,
        sample_rate: aac.sample_rate,
        channels: u16::from(aac.channels),
        detail: SourceDetail {
            flavour: mp4.brand,
            intact: true,
            moov_first: mp4.moov_first,
            aac_object: Some(aac.object),
            ..SourceDetail::default()
        },
        checks: vec!["mp4_boxes", "mp4_samples", "moov_first", "one_track", "aac_configuration"],
    })
}

fn mp3(bytes: &[u8]) -> Result<Found, String> {
    let mp3 = walk_mp3(&mut &bytes[..]).map_err(|error| error.to_string())?;
    let mp3 = mp3.ok_or("has something else than MP3 frames")?;
    Ok(Found {
        codec: "mp3",
        duration_ms: mp3.duration_ms,
        tolerance_ms: 60,
        sample_rate: mp3.sample_rate,
        channels: u16::from(mp3.channels),
        detail: SourceDetail { intact: true, ..SourceDetail::default() },
        checks: vec!["mp3_frames"],
    })
}

fn wav(bytes: &[u8]) -> Result<Found, String> {
    let wav = proof::wav(bytes)?;
    Ok(Found {
        codec: "pcm_s16le",
        duration_ms: milliseconds(wav.samples, u64::from(wav.sample_rate)),
        tolerance_ms: 1,
        sample_rate: wav.sample_rate,
        channels: wav.channels,
        detail: SourceDetail { flavour: "RIFF".to_owned(), intact: true, ..SourceDetail::default() },
        checks: vec!["wav_format", "wav_sizes"],
    })
}

/// Verifies kept AAC frames. The source's rate is that of the decoder, which may be twice the rate in a frame's header.
fn adts(bytes: &[u8], source: &AudioFacts) -> Result<Found, String> {
    let stream = frames::read(bytes, Container::Adts).filter(Stream::is_clean);
    let stream = stream.ok_or("has something else than frames of ADTS")?;
    let rate = stream.rate.max(1);
    Ok(Found {
        codec: "aac",
        duration_ms: milliseconds(stream.samples, u64::from(rate)),
        tolerance_ms: 60 + AAC_FRAME * 1000 / u64::from(rate),
        sample_rate: source.sample_rate,
        channels: source.channels,
        detail: SourceDetail { intact: true, ..SourceDetail::default() },
        checks: vec!["adts_frames"],
    })
}

fn amr(bytes: &[u8]) -> Result<Found, String> {
    let stream = frames::read(bytes, Container::Amr).filter(Stream::is_clean);
    let stream = stream.ok_or("has something else than frames of AMR")?;
    Ok(Found {
        codec: if stream.rate == 16_000 { "amr_wb" } else { "amr_nb" },
        duration_ms: milliseconds(stream.samples, u64::from(stream.rate.max(1))),
        tolerance_ms: 60,
        sample_rate: stream.rate,
        channels: 1,
        detail: SourceDetail { intact: true, ..SourceDetail::default() },
        checks: vec!["amr_frames"],
    })
}
