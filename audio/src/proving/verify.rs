//! Reads a made file back and compares it with what was ordered. What does not prove right is never sent.

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
/// Longest frame of AAC. Where kept AAC begins and ends is known no closer.
const AAC_FRAME: u64 = 1024;
/// What libopus needs at least, and what RFC 7845 (section 5.1) recommends where a decoder has to settle first.
const PRE_SKIP: std::ops::RangeInclusive<u16> = 312..=3_840;
/// The same after a cut, which is between packets, and those have up to 120 ms. Browsers write 0.
const MOST_KEPT_PRE_SKIP: u16 = 3_840 + 5_760;

/// Every check by its name, and what it says of a file. The documentation has the same table.
pub const CHECKS: &[(&str, &str)] = &[
    (
        "ogg_pages",
        "One stream; its pages have true checksums, follow each other to the last byte, and flag its ends",
    ),
    ("caf_chunks", "Description, channel layout, packet table and audio, all sizes true, and nothing else"),
    (
        "caf_packet_table",
        "The packets fill the audio, and what is played adds up with what is cut off at the ends",
    ),
    (
        "opus_header",
        "Mono or stereo as a decoder finds it, no gain of ours, and the rate that is said to the note",
    ),
    (
        "opus_pre_skip",
        "What is dropped at the start is 312 to 3840 samples, or that of kept packets and at most 9600",
    ),
    ("opus_tags", "The vendor is `Recorder`, and there are no comments"),
    ("opus_packets", "Every packet is well-formed, its frames counted, and not longer than 120 ms"),
    ("granules", "Every page ends where its packets do; the last one says where the sound ends"),
    ("mp4_boxes", "Type, index, audio and free space fill the file, each as long as it says"),
    ("mp4_samples", "The samples of the index follow each other and fill the audio"),
    ("moov_first", "The index comes before the audio"),
    ("one_track", "There is one track, and it is sound"),
    ("aac_configuration", "The decoder's configuration can be read; what we encode is AAC-LC"),
    ("mp3_frames", "Nothing but frames of one kind, to the last byte"),
    ("adts_frames", "Nothing but frames of one kind, to the last byte"),
    ("amr_frames", "Nothing but undamaged frames, to the last byte"),
    ("wav_format", "Linear PCM of 16 bits, with numbers that agree with each other"),
    ("wav_sizes", "Both sizes in the header are true, and no other chunk is there"),
    ("size", "Not larger than the target takes"),
    ("channels", "What we encode is mono"),
    (
        "duration",
        "As long as the source: within 20 ms for Opus, 60 ms for AAC, MP3 and AMR, 1 ms for WAV; for kept AAC, a frame more",
    ),
    ("sound", "Decoded anew, its 64 bars are those of the source"),
    ("profile", "What the profile accepts: container, codec, rate, bandwidth, channels, framing and tags"),
];

/// A made file that proved right.
#[derive(Debug)]
pub(crate) struct Proven {
    pub facts: AudioFacts,
    pub checks: Vec<&'static str>,
}

/// `encoded` tells our own encodings, which must be exactly as ordered, from kept packets.
pub(crate) fn verify(
    path: &Path,
    made: Container,
    source: &AudioFacts,
    profile: &Profile,
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
    if let Some(most) = profile.max_bytes.filter(|&most| size_bytes > most) {
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
    if !profile.accepts(&probed) {
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

/// A span of samples in milliseconds, to the nearest.
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

/// Kept frames: the source's rate is that of decoding, which may be twice that of a frame's header.
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
