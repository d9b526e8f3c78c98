//! Fuzz targets of the decoders in this process: any bytes are a file, decoding ends within its budget, and the same
//! bytes give the same sound.

use std::time::Duration;

use voicegate_providers::Container;

use super::with_true_checksums;
use crate::decoding::limits::Budget;
use crate::decoding::pcm::Samples;
use crate::decoding::{Clip, NotDecoded, decode};
use crate::ffmpeg::filters::MEASURE_RATE;

/// Length limit of the sound.
const LONGEST: Duration = Duration::from_secs(20);
const TIME: Duration = Duration::from_secs(30);

/// The decoded sound, which has one or two channels throughout.
fn decoded(
    bytes: &[u8],
    container: Container,
    played: Option<u64>,
    samples: Option<Samples>,
) -> Result<Vec<i16>, NotDecoded> {
    let clip = Clip { bytes, container, played, samples };
    let (mut channels, mut sound) = (0, Vec::new());
    let done = decode(&clip, &mut Budget::new(TIME, LONGEST), &mut |planes| {
        assert!((1..=2).contains(&planes.len()), "{} channels", planes.len());
        assert!(channels == 0 || channels == planes.len(), "the number of channels changes");
        assert!(planes.iter().all(|plane| plane.len() == planes[0].len()), "channels of other lengths");
        channels = planes.len();
        planes.iter().for_each(|plane| sound.extend_from_slice(plane));
    });
    let most = (LONGEST.as_secs() + 1) * u64::from(MEASURE_RATE);
    assert!(sound.len() as u64 <= most * 2, "more sound than allowed");
    done.map(|()| sound)
}

fn is_steady(bytes: &[u8], container: Container) {
    let first = decoded(bytes, container, None, None);
    assert_eq!(first, decoded(bytes, container, None, None), "two results for the same bytes");
    // Half a second of Opus at 48 kHz is the most that this number stands for.
    let beginning = decoded(bytes, container, Some(24_000), None);
    if let (Ok(all), Ok(beginning)) = (first, beginning) {
        assert!(beginning.len() <= all.len(), "a part is longer than the whole");
    }
}

pub(super) fn mp3(data: &[u8]) {
    is_steady(data, Container::Mp3);
}

/// AAC, in MP4 and in ADTS.
pub(super) fn aac(data: &[u8]) {
    is_steady(data, Container::Mp4);
    is_steady(data, Container::Adts);
}

/// Opus, in every container.
pub(super) fn opus(data: &[u8]) {
    is_steady(&with_true_checksums(data), Container::Ogg);
    is_steady(data, Container::Webm);
    is_steady(data, Container::Caf);
}

/// Samples of every kind. The first bytes choose the kind, the rate and the number of channels.
pub(super) fn samples(data: &[u8]) {
    const CODECS: [&str; 13] = [
        "pcm_u8",
        "pcm_s8",
        "pcm_s16le",
        "pcm_s16be",
        "pcm_s24le",
        "pcm_s24be",
        "pcm_s32le",
        "pcm_s32be",
        "pcm_f32le",
        "pcm_f64le",
        "pcm_mulaw",
        "pcm_alaw",
        "adpcm",
    ];
    let Some((&[kind, channels, a, b], rest)) = data.split_first_chunk::<4>() else { return };
    let rate = 4_000 + u32::from(u16::from_le_bytes([a, b])) * 3;
    let channels = usize::from(channels % 4);
    let samples =
        Samples { at: 0..rest.len(), codec: CODECS[usize::from(kind) % CODECS.len()], channels, rate };
    let sound = decoded(rest, Container::Pcm, None, Some(samples.clone()));
    if let Ok(sound) = sound {
        let count = sound.len() / channels;
        assert!(count as u64 * u64::from(rate) / 8_000 <= rest.len() as u64 + u64::from(rate), "{samples:?}");
    }
    let outside = Samples { at: 0..rest.len() + 1, ..samples };
    assert!(decoded(rest, Container::Pcm, None, Some(outside)).is_err(), "samples outside of the file");
}
