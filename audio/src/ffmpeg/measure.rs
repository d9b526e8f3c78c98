//! Measures the decoded sound of a source: its bars, its length, and the levels of its channels. ffmpeg sends it as WAV
//! over a pipe; decoders in this process pass on samples.

use crate::ffmpeg::filters::MEASURE_RATE;
use crate::ffmpeg::waveform::{Audible, ConstantPart, Waveform};
use crate::source::findings::Mix;

/// A mix of two channels is at least half as loud (-6 dB) as the louder one, unless they cancel each other out. Below
/// this fraction of the louder one, they do.
const CANCELLED: f64 = 0.36;
/// Mean of all samples up to which a constant part disturbs no encoder.
const CONSTANT: f64 = 64.0;
/// Mean of |sample| below which there is only noise.
const NOISE: f64 = 8.0;
/// Upper limit of the length of the WAV header, in bytes.
const LONGEST_HEADER: usize = 4096;
/// Part of full scale that a mix may reach, because peaks between the measured samples are higher.
const HEADROOM: f64 = 0.8;

/// The measured sound of a source.
#[derive(Debug)]
pub(crate) struct Measured {
    pub waveform: Waveform,
    /// The sound as it is used for comparison.
    pub audible: Audible,
    /// Levels of each channel, and of their sum.
    channels: Vec<Level>,
    sum: Level,
    head: Vec<u8>,
    rest: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// Sum of |sample|, without a constant part.
    sum: f64,
    /// Sum of all samples.
    total: i64,
    peak: u32,
    constant: ConstantPart,
}

impl Level {
    fn add(&mut self, sample: i32) {
        self.sum += f64::from(self.constant.remove(sample as f32).abs());
        self.total += i64::from(sample);
        self.peak = self.peak.max(sample.unsigned_abs());
    }
}

impl Measured {
    /// `compared_ms` limits how much of the sound is used for comparison.
    pub fn new(compared_ms: u64) -> Self {
        Self {
            waveform: Waveform::new(),
            audible: Audible::up_to(compared_ms.saturating_mul(u64::from(MEASURE_RATE)) / 1000),
            channels: Vec::new(),
            sum: Level::default(),
            head: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Takes the next bytes of the pipe, which may end anywhere.
    pub fn take(&mut self, bytes: &[u8]) {
        if !self.channels.is_empty() {
            return self.samples(bytes);
        }
        self.head.extend_from_slice(bytes);
        if let Some((channels, at)) = header(&self.head) {
            self.channels = vec![Level::default(); channels];
            let samples = self.head.split_off(at);
            self.samples(&samples);
        } else if self.head.len() > LONGEST_HEADER {
            self.head.clear();
        }
    }

    fn samples(&mut self, bytes: &[u8]) {
        let block = 2 * self.channels.len();
        let mut bytes = bytes;
        if !self.rest.is_empty() {
            let missing = block - self.rest.len();
            let Some((first, after)) = bytes.split_at_checked(missing) else {
                return self.rest.extend_from_slice(bytes);
            };
            let whole = [std::mem::take(&mut self.rest).as_slice(), first].concat();
            self.block(&whole);
            bytes = after;
        }
        let blocks = bytes.chunks_exact(block);
        self.rest = blocks.remainder().to_vec();
        blocks.for_each(|block| self.block(block));
    }

    fn block(&mut self, block: &[u8]) {
        let mut sum = 0;
        for (level, &pair) in self.channels.iter_mut().zip(block.as_chunks::<2>().0) {
            let sample = i32::from(i16::from_le_bytes(pair));
            level.add(sample);
            sum += sample;
        }
        self.sum.add(sum);
        let count = i32::try_from(self.channels.len()).unwrap_or(1);
        let mean = i16::try_from(sum / count).unwrap_or(0);
        self.waveform.push(mean);
        self.audible.push(mean);
    }

    /// Takes samples of one or two channels, from a decoder in this process.
    pub fn take_planes(&mut self, planes: &[&[i16]]) {
        if self.channels.is_empty() {
            self.channels = vec![Level::default(); planes.len()];
        }
        match (planes, self.channels.as_mut_slice()) {
            (&[only], [level]) => {
                for &sample in only {
                    level.add(i32::from(sample));
                    self.waveform.push(sample);
                    self.audible.push(sample);
                }
                self.sum = *level;
            }
            (&[left, right], [first, second]) => {
                for (&left, &right) in left.iter().zip(right) {
                    let (left, right) = (i32::from(left), i32::from(right));
                    first.add(left);
                    second.add(right);
                    self.sum.add(left + right);
                    let mean = ((left + right) / 2) as i16;
                    self.waveform.push(mean);
                    self.audible.push(mean);
                }
            }
            _ => {}
        }
    }

    pub fn duration_ms(&self) -> u64 {
        let rate = u64::from(MEASURE_RATE);
        (self.waveform.samples() * 1000 + rate / 2) / rate
    }

    /// The mix of one or two channels, if their mean as it is would not do, and whether they cancel each other out: then
    /// the louder one alone is used.
    pub fn mix(&self) -> Option<(Mix, bool)> {
        let (loudest, level) = self.loudest()?;
        let count = self.channels.len();
        let mean = self.mean(self.sum) / count as f64;
        // More than two channels are never mixed by their mean.
        if count == 2 && mean < level * CANCELLED && level > NOISE {
            return Some((self.with_constant(Mix::only(loudest, count)), true));
        }
        let mix = self.with_constant(Mix::default());
        (mix.constant != 0.0).then_some((mix, false))
    }

    /// The mix, with the constant part that it would have, if that is larger than half the mean of the sound itself.
    fn with_constant(&self, mix: Mix) -> Mix {
        let samples = self.waveform.samples().max(1) as f64;
        let constant: f64 = if mix.is_weighted() {
            let weighted = |(level, weight): (&Level, &f32)| level.total as f64 * f64::from(*weight);
            self.channels.iter().zip(&mix.weights).map(weighted).sum::<f64>() / samples
        } else {
            self.sum.total as f64 / samples / self.channels.len() as f64
        };
        let (_, level) = self.loudest().unwrap_or_default();
        let counts = constant.abs() > CONSTANT.max(level / 2.0);
        Mix { constant: if counts { (constant / 32_768.0) as f32 } else { 0.0 }, ..mix }
    }

    /// A mix of many channels that is as loud as the loudest of them, as far as possible without clipping. Speech is
    /// often in one channel alone, and a mean would play it at a sixth of its level. If the channels cancel each other
    /// out, the loudest alone is used, and the flag is true.
    pub fn of_many(&self) -> Option<(Mix, bool)> {
        let (mix, cancels) = self.weights_of_many()?;
        Some((self.with_constant(mix), cancels))
    }

    fn weights_of_many(&self) -> Option<(Mix, bool)> {
        let (loudest, level) = self.loudest()?;
        let count = self.channels.len();
        let sum = self.mean(self.sum);
        if level <= NOISE {
            return Some((Mix::all(count, 1.0 / count as f32), false));
        }
        if sum < level * CANCELLED {
            return Some((Mix::only(loudest, count), true));
        }
        let peak = f64::from(self.sum.peak.max(1));
        let alone = f64::from(self.channels[loudest].peak);
        // If one channel clips by itself, the mix may clip too.
        let most = (HEADROOM * 32_768.0).max(alone) / peak;
        Some((Mix::all(count, (level / sum).min(most) as f32), false))
    }

    fn loudest(&self) -> Option<(usize, f64)> {
        let levels = self.channels.iter().map(|&level| self.mean(level)).enumerate();
        levels.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn mean(&self, level: Level) -> f64 {
        level.sum / self.waveform.samples().max(1) as f64
    }
}

/// Number of channels of a WAV with 16-bit samples, and the offset of the first sample.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut at = 12;
    let mut channels = None;
    loop {
        let chunk = bytes.get(at..at + 8)?;
        let size = u32::from_le_bytes(*chunk[4..].first_chunk()?) as usize;
        match &chunk[..4] {
            b"fmt " => {
                let count = bytes.get(at + 10..)?.first_chunk()?;
                channels = Some(usize::from(u16::from_le_bytes(*count))).filter(|&count| count > 0);
            }
            b"data" => return Some((channels?, at + 8)),
            _ => {}
        }
        at = at.checked_add(8)?.checked_add(size)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(channels: u16, samples: impl Iterator<Item = Vec<i16>>) -> Vec<u8> {
        let mut bytes = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0".to_vec();
        bytes.extend(channels.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(b"LIST\x04\0\0\0INFOdata\xff\xff\xff\xff");
        samples.for_each(|block| block.into_iter().for_each(|sample| bytes.extend(sample.to_le_bytes())));
        bytes
    }

    fn measured(channels: u16, block: impl Fn(i32) -> Vec<i16>) -> Measured {
        let bytes = wav(channels, (0..8000).map(block));
        let mut measured = Measured::new(u64::MAX);
        bytes.chunks(7).for_each(|piece| measured.take(piece));
        assert_eq!(measured.duration_ms(), 1000);
        measured
    }

    fn wave(at: i32) -> i16 {
        ((f64::from(at) * 0.3).sin() * 12_000.0) as i16
    }

    #[test]
    fn cancelling_channels_are_detected() {
        let only = |channel| Some((Mix::only(channel, 2), true));
        assert_eq!(measured(2, |at| vec![wave(at), -wave(at)]).mix().map(|(_, cancels)| cancels), Some(true));
        assert_eq!(measured(2, |at| vec![wave(at) / 2, -wave(at) / 3 * 2]).mix(), only(1));
        assert_eq!(measured(2, |at| vec![wave(at), -wave(at) / 5 * 4]).mix(), only(0));
        for other in [|_| 0, |at| wave(at), |at| wave(at * 7), |at| -wave(at) / 5] {
            assert_eq!(measured(2, |at| vec![wave(at), other(at)]).mix(), None);
        }
        assert_eq!(measured(2, |at| vec![(at % 3) as i16, -(at % 3) as i16]).mix(), None);
        assert_eq!(measured(1, |at| vec![wave(at)]).mix(), None);
    }

    #[test]
    fn a_constant_part_of_the_sound_that_is_sent_is_found() {
        let constant =
            |found: Option<(Mix, bool)>| found.map(|(mix, cancels)| ((mix.constant * 100.0) as i32, cancels));
        let found = |channels, block: fn(i32) -> Vec<i16>| constant(measured(channels, block).mix());
        assert_eq!(found(1, |at| vec![wave(at) / 2 + 9_900]), Some((30, false)));
        assert_eq!(found(1, |at| vec![wave(at) / 40 + 984]), Some((3, false)));
        assert_eq!(found(2, |at| vec![wave(at) / 2 - 9_900, wave(at) / 2]), Some((-15, false)));
        assert_eq!(found(1, |at| vec![wave(at) + 984]), None);
        // The constant parts of two channels may cancel each other out, and their sound may not; and the reverse.
        assert_eq!(found(2, |at| vec![wave(at) / 2 - 9_900, wave(at) / 2 + 9_900]), None);
        assert_eq!(found(2, |at| vec![wave(at) / 2 + 9_900, -wave(at) / 2 + 9_900]), Some((30, true)));
        let many = measured(6, |at| vec![0, 0, wave(at) / 2 + 9_900, 0, 0, 0]);
        assert_eq!(constant(many.of_many()), Some((30, false)));
    }

    #[test]
    fn mix_of_many_channels_is_as_loud_as_the_loudest() {
        let weight = |block: fn(i32) -> Vec<i16>| measured(6, block).of_many().unwrap().0.weights[2];
        let centre = weight(|at| vec![0, 0, wave(at), 0, 0, 0]);
        let all = weight(|at| vec![wave(at); 6]);
        assert!((centre - 1.0).abs() < 0.01 && (all - 1.0 / 6.0).abs() < 0.01, "{centre} {all}");
        // Two channels that rarely sound at the same time would clip if mixed to the level of one.
        let loud = weight(|at| (0..6).map(|n| if at % 6 == n { 30_000 } else { 100 }).collect());
        assert!(loud < 1.0, "{loud}");
        let (mix, cancels) = measured(6, |at| vec![wave(at), -wave(at), 0, 0, 0, 0]).of_many().unwrap();
        assert!(cancels && mix.weights.iter().sum::<f32>() == 1.0);
    }
}
