//! Decodes produced files with memory-safe decoders that share no code with ffmpeg, and compares their bars with those
//! of the source.
//!
//! Decoding costs a twentieth of encoding. Opus is decoded only if it uses linear prediction (SILK) alone, as it does
//! at 16 kHz; the transform mode (CELT) of `opus-decoder` takes longer than encoding.

use std::path::Path;

use opus_decoder::OpusDecoder;
use symphonia_bundle_mp3::MpaDecoder;
use symphonia_codec_aac::AacDecoder;
use symphonia_core::audio::layouts::{CHANNEL_LAYOUT_MONO, CHANNEL_LAYOUT_STEREO};
use symphonia_core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_MP3};
use symphonia_core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia_core::packet::PacketRef;
use symphonia_core::units::{Duration, Timestamp};
use voicegate_providers::Container;

use crate::ffmpeg::filters::MEASURE_RATE;
use crate::ffmpeg::waveform::Audible;
use crate::formats::mp4::{aac, be_u32, child, descend, entries_of};
use crate::formats::mpeg::{FrameHeader, id3_length, information};
use crate::formats::packets::Item;
use crate::formats::{caf_opus, frames, ogg_opus};
use crate::proving::proof;

/// Upper limit of the samples in an Opus packet, per channel, at the measuring rate.
const LONGEST_PACKET: usize = MEASURE_RATE as usize * 120 / 1000;
/// Mean of |sample| in the loudest bar below which the noise of a codec is as loud as the sound.
const QUIET: u32 = 100;
/// Mean of |sample| above which sound is clipped, and the result depends on the rate at which it is processed.
const CLIPPED: u32 = 16_000;
/// Length in milliseconds below which sound is mostly edges, where codecs differ.
const SHORT_MS: u64 = 1_000;
/// Permitted difference of a bar, on a scale of 100. A codec shifts sound by some milliseconds, shapes its noise, and
/// removes high frequencies.
const APART: u8 = 34;

/// Result of the comparison of two sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    Alike,
    /// The sound is too short, too quiet or too loud to tell.
    Unclear,
    /// Index of the bar with the largest difference.
    Differs(usize),
}

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

/// Decodes a file up to the length of its source. Returns `None` if no built-in decoder reads it cheaply enough.
pub(crate) fn decode_natively(path: &Path, container: Container, lasts_ms: u64) -> Option<Audible> {
    let bytes = std::fs::read(path).ok()?;
    let mut sound = Sound {
        audible: Audible::up_to(lasts_ms * u64::from(MEASURE_RATE) / 1000),
        part: (0.0, 0),
        due: 0.0,
    };
    match container {
        Container::Ogg | Container::Caf => opus(&bytes, container, &mut sound)?,
        Container::Mp4 => aac_in_mp4(&bytes, &mut sound)?,
        Container::Adts => adts(&bytes, &mut sound)?,
        Container::Mp3 => mp3(&bytes, &mut sound)?,
        Container::Wav => wav(&bytes, &mut sound)?,
        _ => return None,
    }
    Some(sound.audible)
}

/// Converts samples to the measuring rate by averaging, which removes most frequencies above it.
struct Sound {
    audible: Audible,
    part: (f32, u32),
    /// Fraction of the next sample at the measuring rate that is filled.
    due: f32,
}

impl Sound {
    /// Adds a sample of full scale 1 that covers `step` of a sample at the measuring rate.
    fn push(&mut self, sample: f32, step: f32) {
        self.part = (self.part.0 + sample, self.part.1 + 1);
        self.due += step;
        while self.due >= 1.0 {
            self.due -= 1.0;
            let (sum, count) = self.part;
            self.audible.push((sum / count.max(1) as f32 * 32_767.0) as i16);
            if self.due < 1.0 {
                self.part = (0.0, 0);
            }
        }
    }
}

fn step(rate: u32) -> f32 {
    MEASURE_RATE as f32 / rate.max(1) as f32
}

/// Decodes mono Opus that uses linear prediction alone.
fn opus(bytes: &[u8], container: Container, sound: &mut Sound) -> Option<()> {
    let mut packets = Vec::new();
    let mut is_cheap = true;
    let mut each = |item| {
        if let Item::Packet(packet) = item {
            is_cheap &= packet.facts.config < 12 && !packet.facts.stereo;
            packets.push(packet.data);
        }
        Ok(())
    };
    let detail = match container {
        Container::Ogg => ogg_opus::read(&mut &bytes[..], &mut each),
        _ => caf_opus::read(&mut std::io::Cursor::new(bytes), &mut each),
    };
    let skipped = u64::from(detail.ok()?.pre_skip) * u64::from(MEASURE_RATE) / 48_000;
    if !is_cheap {
        return None;
    }
    let mut decoder = OpusDecoder::new(MEASURE_RATE, 1).ok()?;
    let mut samples = [0; LONGEST_PACKET];
    let mut position = 0;
    for packet in packets {
        let count = decoder.decode(&packet, &mut samples, false).ok()?;
        for &sample in &samples[..count] {
            if position >= skipped {
                sound.audible.push(sample);
            }
            position += 1;
        }
    }
    Some(())
}

/// A decoder of symphonia, with the number of samples that it still has to drop.
struct Decoder {
    decoder: Box<dyn AudioDecoder>,
    samples: Vec<f32>,
    skipped: usize,
}

impl Decoder {
    fn aac(rate: u32, channels: u8, skipped: usize) -> Option<Self> {
        let layout = if channels == 1 { CHANNEL_LAYOUT_MONO } else { CHANNEL_LAYOUT_STEREO };
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_sample_rate(rate).with_channels(layout);
        let decoder = AacDecoder::try_new(&parameters, &AudioDecoderOptions::default()).ok()?;
        Some(Self { decoder: Box::new(decoder), samples: Vec::new(), skipped })
    }

    fn mp3(skipped: usize) -> Option<Self> {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_MP3);
        let decoder = MpaDecoder::try_new(&parameters, &AudioDecoderOptions::default()).ok()?;
        Some(Self { decoder: Box::new(decoder), samples: Vec::new(), skipped })
    }

    /// Skips packets that cannot be decoded, as players do.
    fn decode(&mut self, packet: &[u8], sound: &mut Sound) {
        let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, packet);
        let Ok(decoded) = self.decoder.decode_ref(&packet) else { return };
        let (rate, channels) = (decoded.spec().rate(), decoded.num_planes().max(1));
        decoded.copy_to_vec_interleaved(&mut self.samples);
        let blocks = self.samples.chunks_exact(channels);
        let drops = self.skipped.min(blocks.len());
        self.skipped -= drops;
        for block in blocks.skip(drops) {
            sound.push(block.iter().sum::<f32>() / channels as f32, step(rate));
        }
    }
}

/// Decodes one track of AAC that fills the audio.
fn aac_in_mp4(bytes: &[u8], sound: &mut Sound) -> Option<()> {
    proof::mp4(bytes).ok()?;
    let trak = descend(bytes, &[b"moov", b"trak"])?;
    let table = descend(trak, &[b"mdia", b"minf", b"stbl"])?;
    let entry = child(child(table, b"stsd")?.get(8..)?, b"mp4a")?;
    let configuration = aac(entry)?;
    let skipped = descend(trak, &[b"edts", b"elst"]).and_then(|elst| be_u32(elst, 12)).unwrap_or(0);
    let mut decoder =
        Decoder::aac(configuration.sample_rate, configuration.channels, usize::try_from(skipped).ok()?)?;
    let stsz = child(table, b"stsz")?;
    let alike = be_u32(stsz, 4)?;
    let count = usize::try_from(be_u32(stsz, 8)?).ok()?;
    let sizes = if alike == 0 { entries_of::<1>(stsz.get(4..)?)? } else { Vec::new() };
    let mut rest = child(bytes, b"mdat")?;
    for index in 0..count {
        let size = if alike == 0 { sizes.get(index)?[0] } else { alike };
        let (frame, after) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        decoder.decode(frame, sound);
        rest = after;
    }
    Some(())
}

fn adts(bytes: &[u8], sound: &mut Sound) -> Option<()> {
    let &[_, id, a, b, ..] = bytes.first_chunk::<7>()?;
    let rate = *crate::formats::mp4::RATES.get(usize::from(a >> 2 & 15))?;
    let mut decoder = Decoder::aac(rate, (a & 1) << 2 | b >> 6, 0)?;
    let before = if id & 1 == 0 { 9 } else { 7 };
    let mut rest = bytes;
    while let Some(&[_, _, _, b, c, d, _]) = rest.first_chunk::<7>() {
        let length = usize::from(b & 3) << 11 | usize::from(c) << 3 | usize::from(d >> 5);
        let (frame, after) = rest.split_at_checked(length.max(before))?;
        decoder.decode(&frame[before..], sound);
        rest = after;
    }
    Some(())
}

fn mp3(bytes: &[u8], sound: &mut Sound) -> Option<()> {
    /// Samples that every decoder adds at the start.
    const DECODER_DELAY: u64 = 529;
    let stream = frames::read(bytes, Container::Mp3)?;
    let told = information(bytes.get(id3_length(bytes)..)?).flatten();
    let skipped = told.map_or(0, |told| told.start + DECODER_DELAY);
    let mut decoder = Decoder::mp3(usize::try_from(skipped).ok()?)?;
    for run in stream.runs {
        let mut rest = &bytes[run];
        while let Some(header) = FrameHeader::parse(rest) {
            let (frame, after) = rest.split_at_checked(header.length)?;
            decoder.decode(frame, sound);
            rest = after;
        }
    }
    Some(())
}

fn wav(bytes: &[u8], sound: &mut Sound) -> Option<()> {
    let wav = proof::wav(bytes).ok()?;
    let samples = bytes.get(44..)?.as_chunks::<2>().0;
    for block in samples.chunks_exact(usize::from(wav.channels)) {
        let sum: f32 = block.iter().map(|&pair| f32::from(i16::from_le_bytes(pair))).sum();
        sound.push(sum / f32::from(wav.channels) / 32_768.0, step(wav.sample_rate));
    }
    Some(())
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
                decode_natively(&path, container, 3000).unwrap_or_else(|| panic!("{name} is not decoded"));
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
