//! Reads back what we made, with our own readers, before anybody gets it.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::Path;

use voicegate_providers::{AudioFacts, Codec, Container};

use super::examine::digest;
use super::mp4::Mp4;
use super::mpeg::walk_mp3;
use super::ogg_opus;
use super::opus::RATE;
use super::profile::Profile;
use super::source::{Probed, SourceDetail, mime_type};

/// Longest frame of the codecs that pad to whole frames, in samples.
const FRAME: u64 = 1152;
const AAC_LC: u8 = 2;

/// A made file that proved right.
#[derive(Debug)]
pub(super) struct Proven {
    pub facts: AudioFacts,
    pub checks: Vec<&'static str>,
}

/// `encoded` tells our own encodings, which must be exactly as ordered, from kept packets.
pub(super) fn verify(
    path: &Path,
    made: Container,
    source: &AudioFacts,
    profile: &Profile,
    encoded: bool,
) -> Result<Proven, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let (size_bytes, sha256) = digest(&mut file).map_err(|error| error.to_string())?;
    file.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    let mut reader = BufReader::new(file);

    let mut found = match made {
        Container::Ogg => ogg(&mut reader)?,
        Container::Mp4 => mp4(&mut reader, encoded)?,
        Container::Mp3 => mp3(&mut reader)?,
        other => return Err(format!("there is no reader for {other:?}")),
    };
    let difference = found.duration_ms.abs_diff(source.duration_ms);
    if difference > found.tolerance_ms {
        return Err(format!("lasts {} ms instead of {} ms", found.duration_ms, source.duration_ms));
    }
    found.checks.push("duration");
    if encoded && found.channels != 1 {
        return Err(format!("has {} channels", found.channels));
    }
    let facts = AudioFacts {
        container: made,
        codec: Codec::new(found.codec),
        mime_type: mime_type(made, found.codec).to_owned(),
        duration_ms: found.duration_ms,
        size_bytes,
        sample_rate: found.sample_rate,
        channels: found.channels,
        sha256,
    };
    let probed = Probed { facts, waveform: Vec::new(), detail: found.detail };
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

fn ogg(reader: &mut BufReader<File>) -> Result<Found, String> {
    let opus = ogg_opus::read(reader, &mut |_| Ok(())).map_err(|damage| damage.0.to_owned())?;
    Ok(Found {
        codec: "opus",
        duration_ms: (opus.samples * 1000 + RATE / 2) / RATE,
        tolerance_ms: 20,
        sample_rate: opus.sane_rate(),
        channels: u16::from(opus.channels),
        detail: SourceDetail {
            flavour: "OggS".to_owned(),
            intact: true,
            opus: Some(opus),
            ..SourceDetail::default()
        },
        checks: vec!["ogg_pages", "opus_headers", "opus_packets", "granules"],
    })
}

fn mp4(reader: &mut BufReader<File>, encoded: bool) -> Result<Found, String> {
    let mp4 = Mp4::read(reader).map_err(|error| error.to_string())?;
    if mp4.brand.is_empty() || mp4.cut_off || mp4.fragmented || !mp4.has_audio_data {
        return Err("is not a whole M4A file".to_owned());
    }
    if mp4.moov_first != Some(true) {
        return Err("has its index behind the audio".to_owned());
    }
    let [track] = mp4.tracks.as_slice() else {
        return Err(format!("has {} tracks", mp4.tracks.len()));
    };
    let aac = track.aac.ok_or("has no AAC configuration")?;
    if encoded && aac.object != AAC_LC {
        return Err(format!("is of AAC object type {}", aac.object));
    }
    let duration_ms = track.duration_ms.ok_or("has no duration")?;
    Ok(Found {
        codec: "aac",
        duration_ms,
        tolerance_ms: 60 + FRAME * 1000 / u64::from(aac.sample_rate.max(1)),
        sample_rate: aac.sample_rate,
        channels: u16::from(aac.channels),
        detail: SourceDetail {
            flavour: mp4.brand,
            intact: true,
            moov_first: mp4.moov_first,
            aac_object: Some(aac.object),
            ..SourceDetail::default()
        },
        checks: vec!["mp4_boxes", "moov_first", "one_track", "aac_configuration"],
    })
}

fn mp3(reader: &mut BufReader<File>) -> Result<Found, String> {
    let mp3 =
        walk_mp3(reader).map_err(|error| error.to_string())?.ok_or("has something else than MP3 frames")?;
    Ok(Found {
        codec: "mp3",
        duration_ms: mp3.duration_ms,
        tolerance_ms: 60 + FRAME * 1000 / u64::from(mp3.sample_rate.max(1)),
        sample_rate: mp3.sample_rate,
        channels: u16::from(mp3.channels),
        detail: SourceDetail { intact: true, ..SourceDetail::default() },
        checks: vec!["mp3_frames"],
    })
}
