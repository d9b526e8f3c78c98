//! Decodes produced files with memory-safe decoders that share no code with ffmpeg, and compares their bars with those
//! of the source.

use std::path::Path;
use std::time::Duration;

use voicegate_providers::Container;

use crate::decoding::limits::Budget;
use crate::decoding::pcm::Samples;
use crate::decoding::{Clip, NotDecoded, decode};
use crate::ffmpeg::filters::MEASURE_RATE;
use crate::ffmpeg::waveform::Audible;
use crate::proving::proof;

/// Time limit for decoding a produced file. ffmpeg decodes what takes longer.
const TIME: Duration = Duration::from_secs(5);
/// Length limit: far beyond that of any source.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Mean of |sample| in the loudest bar below which the noise of a codec is as loud as the sound.
const QUIET: u32 = 100;
/// Mean of |sample| above which sound is clipped, and the result depends on the rate at which it is processed.
const CLIPPED: u32 = 16_000;
/// Length in milliseconds below which sound is mostly edges, where codecs differ.
const SHORT_MS: u64 = 1_000;
/// Permitted difference of a bar, on a scale of 100. A codec shifts sound by some milliseconds, shapes its noise, and
/// removes high frequencies.
const APART: u8 = 34;
/// Permitted difference of a bar of a steady sound.
const STEADY_APART: u8 = 20;
/// Number of bars at either end of a steady sound that may be uneven.
const ENDS: usize = 2;

/// Result of the comparison of two sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    Alike,
    /// The sound is too short, too quiet or too loud to tell.
    Unclear,
    /// Index of the bar with the largest difference.
    Differs(usize),
}

/// One of the two comparisons below: bars and loudest bar of the source, its length in milliseconds, and the produced sound.
pub(crate) type Comparison = fn(&[u8], u32, u64, &Audible) -> Likeness;

/// Compares the bars of a source with the sound of the file produced from it.
pub(crate) fn compare(source: &[u8], loudest: u32, duration_ms: u64, made: &Audible) -> Likeness {
    if source.is_empty() || !(QUIET..CLIPPED).contains(&loudest) || duration_ms < SHORT_MS {
        return Likeness::Unclear;
    }
    let bars = made.bars();
    // Sound may begin or end at the edge of a bar, and a codec may move it a little.
    let near = |place: usize| {
        let around = place.saturating_sub(1)..=(place + 1).min(bars.len() - 1);
        let (least, most) =
            around.fold((u8::MAX, 0), |(least, most), place| (bars[place].min(least), bars[place].max(most)));
        let bar = source[place];
        if bar < least { least - bar } else { bar.saturating_sub(most) }
    };
    let furthest = (0..source.len().min(bars.len())).map(|place| (near(place), place)).max();
    match furthest {
        Some((off, place)) if off > APART => Likeness::Differs(place),
        _ => Likeness::Alike,
    }
}

/// Compares a steady sound, in which every unevenness is heard. The sound at the ends may fill a part of its bar only.
pub(crate) fn compare_steady(source: &[u8], loudest: u32, duration_ms: u64, made: &Audible) -> Likeness {
    let bars = made.bars();
    let uneven = (ENDS..source.len().min(bars.len()).saturating_sub(ENDS))
        .find(|&place| bars[place].abs_diff(source[place]) > STEADY_APART);
    match uneven {
        Some(place) if loudest >= QUIET && duration_ms >= SHORT_MS => Likeness::Differs(place),
        _ => compare(source, loudest, duration_ms, made),
    }
}

/// Tests for steady sound, as no speech is: a tone, a hum or noise. In longer recordings a bar is the mean of several
/// words.
pub(crate) fn is_steady(bars: &[u8], duration_ms: u64) -> bool {
    const LONGEST_MS: u64 = 20_000;
    const LEAST: u8 = 70;
    let middle = bars.get(ENDS..bars.len().saturating_sub(ENDS)).unwrap_or_default();
    duration_ms <= LONGEST_MS && !middle.is_empty() && middle.iter().all(|&bar| bar >= LEAST)
}

/// Decodes a file up to the length of its source, in one channel.
pub(crate) fn decode_natively(
    path: &Path,
    container: Container,
    lasts_ms: u64,
) -> Result<Audible, NotDecoded> {
    let bytes = std::fs::read(path).map_err(|_| NotDecoded::Unknown)?;
    let samples = match container {
        Container::Wav => Some(samples_of(&bytes).ok_or(NotDecoded::Unknown)?),
        Container::Mp4 if proof::mp4(&bytes).is_err() => return Err(NotDecoded::Unknown),
        _ => None,
    };
    let mut audible = Audible::up_to(lasts_ms * u64::from(MEASURE_RATE) / 1000);
    let clip = Clip { bytes: &bytes, container, played: None, samples };
    decode(&clip, &mut Budget::new(TIME, LONGEST), &mut |planes| match planes {
        [only] => only.iter().for_each(|&sample| audible.push(sample)),
        [left, right] => {
            let means = left.iter().zip(*right).map(|(&a, &b)| (i32::from(a) + i32::from(b)) / 2);
            means.for_each(|mean| audible.push(i16::try_from(mean).unwrap_or(0)));
        }
        _ => {}
    })?;
    Ok(audible)
}

/// The samples of a produced WAV file.
fn samples_of(bytes: &[u8]) -> Option<Samples> {
    let wav = proof::wav(bytes).ok()?;
    let channels = usize::from(wav.channels);
    Some(Samples { at: 44..bytes.len(), codec: "pcm_s16le", channels, rate: wav.sample_rate })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    fn fixture(name: &str) -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio").join(name)
    }

    /// The sound as ffmpeg decodes it, at the measuring rate.
    fn reference(path: &Path) -> Audible {
        let decoded = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-i"])
            .arg(path)
            .args(["-ac", "1", "-ar", "8000", "-f", "s16le", "-"])
            .output()
            .unwrap();
        let mut audible = Audible::up_to(u64::MAX);
        decoded.stdout.as_chunks().0.iter().for_each(|pair| audible.push(i16::from_le_bytes(*pair)));
        audible
    }

    fn made(folder: &Path, name: &str, options: &str) -> std::path::PathBuf {
        let path = folder.join(name);
        let done = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-y", "-i"])
            .arg(fixture("speech.wav"))
            .args(options.split_whitespace())
            .args(["-fflags", "+bitexact", "-flags:a", "+bitexact"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(done.success(), "{name}");
        path
    }

    #[test]
    fn native_decoders_agree_with_ffmpeg() {
        let folder = tempfile::TempDir::new().unwrap();
        for (name, options, container) in [
            ("16.ogg", "-ac 1 -ar 16000 -c:a libopus -b:a 16k -application voip", Container::Ogg),
            ("8.ogg", "-ac 1 -ar 8000 -c:a libopus -b:a 8k -application voip", Container::Ogg),
            ("24.m4a", "-ar 24000 -c:a aac -b:a 64k -movflags +faststart", Container::Mp4),
            ("44.m4a", "-ac 2 -ar 44100 -c:a aac -b:a 64k -movflags +faststart", Container::Mp4),
            ("24.mp3", "-ar 24000 -c:a libmp3lame -b:a 64k", Container::Mp3),
            ("48.mp3", "-ac 2 -ar 48000 -c:a libmp3lame -b:a 96k", Container::Mp3),
            ("24.aac", "-ar 24000 -c:a aac -b:a 64k", Container::Adts),
            ("16.wav", "-ar 16000 -c:a pcm_s16le", Container::Wav),
        ] {
            let path = made(folder.path(), name, options);
            let reference = reference(&path);
            let decoded =
                decode_natively(&path, container, 3000).unwrap_or_else(|why| panic!("{name}: {why:?}"));
            let longer = decoded.samples().abs_diff(reference.samples());
            assert!(longer <= 1200, "{name}: {} instead of {}", decoded.samples(), reference.samples());
            let likeness = compare(&reference.bars(), reference.loudest(), 3000, &decoded);
            assert_eq!(likeness, Likeness::Alike, "{name}: {:?} and {:?}", reference.bars(), decoded.bars());
        }
    }

    /// Samples as an encoder returns them: a few samples later, and beginning from nothing.
    #[test]
    fn a_constant_is_heard_when_it_begins() {
        let sound = |before: usize| {
            let mut audible = Audible::up_to(u64::MAX);
            let tone = (0..16_000).map(|at| (8_000.0 + 1_000.0 * (at as f32 / 3.0).sin()) as i16);
            std::iter::repeat_n(0, before).chain(tone).for_each(|sample| audible.push(sample));
            audible
        };
        let source = sound(0);
        assert_eq!(compare(&source.bars(), source.loudest(), 2_000, &sound(20)), Likeness::Alike);
    }

    #[test]
    fn an_uneven_bar_is_noticed_in_a_steady_sound_only() {
        let tone = |burst: std::ops::Range<usize>| {
            let mut audible = Audible::up_to(u64::MAX);
            let sample =
                |at: usize| (at as f32 * 0.35).sin() * if burst.contains(&at) { 4_000.0 } else { 6_000.0 };
            (0..16_000).for_each(|at| audible.push(sample(at) as i16));
            audible
        };
        let (source, uneven) = (tone(0..0), tone(8_000..8_250));
        assert!(is_steady(&source.bars(), 2_000) && !is_steady(&source.bars(), 60_000));
        let judged = |by: Comparison, made: &Audible| by(&source.bars(), source.loudest(), 2_000, made);
        assert_eq!(judged(compare_steady, &tone(0..0)), Likeness::Alike);
        assert_eq!(judged(compare_steady, &uneven), Likeness::Differs(32));
        assert_eq!(judged(compare, &uneven), Likeness::Alike);
        assert_eq!(judged(compare_steady, &tone(0..200)), Likeness::Alike);
        assert!(!is_steady(&reference(&fixture("speech.wav")).bars(), 3_000));
    }

    #[test]
    fn missing_and_silent_parts_are_noticed() {
        let whole = std::fs::read(fixture("speech.wav")).unwrap();
        let sound = reference(&fixture("speech.wav"));
        let differs = |samples: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let mut header =
                b"RIFF....WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data....".to_vec();
            header[4..8].copy_from_slice(&(samples.len() as u32 + 36).to_le_bytes());
            header[40..44].copy_from_slice(&(samples.len() as u32).to_le_bytes());
            file.write_all(&[header.as_slice(), samples].concat()).unwrap();
            let decoded = decode_natively(file.path(), Container::Wav, 3000).expect("a WAV of one form");
            matches!(compare(&sound.bars(), sound.loudest(), 3000, &decoded), Likeness::Differs(_))
        };
        let samples = &whole[whole.len() - 96_000..];
        let third = samples.len() / 6 * 2;
        assert!(!differs(samples));
        let silent: Vec<u8> = samples
            .iter()
            .enumerate()
            .map(|(at, &byte)| if (third..2 * third).contains(&at) { 0 } else { byte })
            .collect();
        assert!(differs(&silent));
        assert!(differs(&[&samples[third..], &samples[..third]].concat()));
        assert!(differs(&[&samples[..third], &samples[..third], &samples[third..2 * third]].concat()));
        assert!(differs(&[&samples[..third], &samples[2 * third..], &vec![0; third]].concat()));
    }
}
