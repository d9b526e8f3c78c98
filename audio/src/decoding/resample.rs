//! Converts samples to a lower rate with a windowed sinc filter, which is short because only levels are measured.

use std::f64::consts::PI;
use std::sync::Arc;

/// Zero crossings of the filter on each side.
const CROSSINGS: f64 = 5.0;
/// Cutoff, as a fraction of half the lower rate.
const CUTOFF: f64 = 0.95;
/// Limit on the number of positions between two samples for which there are weights.
const MOST_PHASES: u64 = 32;
/// Number of sums that are computed side by side.
const LANES: usize = 8;

/// The weights, for each position between two samples.
#[derive(Debug)]
struct Filter {
    phases: u64,
    taps: usize,
    weights: Vec<f32>,
}

impl Filter {
    fn new(from: u32, to: u32, phases: u64) -> Self {
        let cutoff = f64::from(to) / f64::from(from) * CUTOFF;
        let half = ((CROSSINGS / cutoff).ceil() as usize).next_multiple_of(LANES / 2);
        let taps = half * 2;
        let mut weights = Vec::with_capacity(taps * phases as usize);
        for phase in 0..phases {
            let between = phase as f64 / phases as f64;
            let row = (0..taps).map(|tap| {
                let at = tap as f64 - (half as f64 - 1.0) - between;
                let window = (PI * at / (2.0 * half as f64)).cos().powi(2);
                let phase = PI * at * cutoff;
                let sinc = if phase.abs() < 1e-9 { 1.0 } else { phase.sin() / phase };
                sinc * window
            });
            let row: Vec<f64> = row.collect();
            let sum: f64 = row.iter().sum();
            weights.extend(row.into_iter().map(|weight| (weight / sum) as f32));
        }
        Self { phases, taps, weights }
    }

    fn row(&self, phase: usize) -> &[f32] {
        &self.weights[phase * self.taps..(phase + 1) * self.taps]
    }
}

/// Converts one channel.
#[derive(Clone, Debug)]
pub(crate) struct Resampler {
    /// `None` if both rates are the same.
    filter: Option<Arc<Filter>>,
    /// Samples of the higher rate for `lower` samples of the lower rate.
    higher: u64,
    lower: u64,
    /// Samples that are still needed, beginning with zeros before the sound.
    pending: Vec<f32>,
    /// Number of samples that were removed from `pending`.
    removed: u64,
    taken: u64,
    /// Place of the next sample at the higher rate, and the part after it in `lower`ths.
    whole: u64,
    part: u64,
    output: Vec<f32>,
}

impl Resampler {
    /// `None` if `from` is the lower rate.
    pub fn new(from: u32, to: u32) -> Option<Self> {
        let divisor = u64::from(greatest_common_divisor(from, to));
        if to == 0 || from < to {
            return None;
        }
        let (higher, lower) = (u64::from(from) / divisor, u64::from(to) / divisor);
        let filter = (from != to).then(|| Arc::new(Filter::new(from, to, lower.min(MOST_PHASES))));
        let before = filter.as_ref().map_or(0, |filter| filter.taps / 2 - 1);
        let pending = vec![0.0; before];
        Some(Self {
            filter,
            higher,
            lower,
            pending,
            removed: 0,
            taken: 0,
            whole: 0,
            part: 0,
            output: Vec::new(),
        })
    }

    pub fn push(&mut self, samples: &[f32]) {
        self.taken += samples.len() as u64;
        match &self.filter {
            None => self.output.extend_from_slice(samples),
            Some(_) => {
                self.pending.extend_from_slice(samples);
                self.convert();
            }
        }
    }

    /// Makes the samples for which others would have to follow.
    pub fn finish(&mut self) {
        let Some(filter) = &self.filter else { return };
        self.pending.resize(self.pending.len() + filter.taps, 0.0);
        self.convert();
    }

    /// The samples that were made since the last call of [`Resampler::clear`].
    pub fn output(&self) -> &[f32] {
        &self.output
    }

    pub fn clear(&mut self) {
        self.output.clear();
    }

    fn convert(&mut self) {
        let Some(filter) = &self.filter else { return };
        let (step, rest) = (self.higher / self.lower, self.higher % self.lower);
        while self.whole < self.taken {
            let (mut begin, mut phase) = ((self.whole - self.removed) as usize, 0);
            if self.part > 0 {
                phase = (self.part * filter.phases + self.lower / 2) / self.lower;
                if phase == filter.phases {
                    (begin, phase) = (begin + 1, 0);
                }
            }
            let Some(samples) = self.pending.get(begin..begin + filter.taps) else { break };
            self.output.push(dot(samples, filter.row(phase as usize)));
            self.whole += step;
            self.part += rest;
            if self.part >= self.lower {
                (self.whole, self.part) = (self.whole + 1, self.part - self.lower);
            }
        }
        let done = ((self.whole - self.removed) as usize).min(self.pending.len());
        self.pending.drain(..done);
        self.removed += done as u64;
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a second of a tone of amplitude 0.5, pushed in pieces.
    fn converted(rate: u32, frequency: f64) -> Vec<f32> {
        let wave = |at: u32| (0.5 * (f64::from(at) * frequency * 2.0 * PI / f64::from(rate)).sin()) as f32;
        let samples: Vec<f32> = (0..rate / 2).map(wave).collect();
        let mut resampler = Resampler::new(rate, 8_000).expect("a lower rate");
        let mut output = Vec::new();
        for piece in samples.chunks(577) {
            resampler.push(piece);
            output.extend_from_slice(resampler.output());
            resampler.clear();
        }
        resampler.finish();
        output.extend_from_slice(resampler.output());
        output
    }

    #[test]
    fn tones_keep_length_time_and_level() {
        for rate in [8_000, 11_025, 12_000, 16_000, 22_050, 22_257, 24_000, 44_100, 48_000, 96_000, 192_000] {
            let output = converted(rate, 440.0);
            assert!(output.len().abs_diff(4_000) <= 1, "{rate}: {}", output.len());
            for (at, &found) in output.iter().enumerate().take(3_900).skip(100) {
                let expected = (0.5 * (at as f64 * 440.0 * 2.0 * PI / 8_000.0).sin()) as f32;
                assert!((expected - found).abs() < 0.01, "{rate} at {at}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn tones_above_half_the_lower_rate_are_removed() {
        for rate in [16_000, 22_050, 24_000, 44_100, 48_000] {
            let output = converted(rate, 5_400.0);
            let loudest = output[100..3_900].iter().fold(0.0_f32, |most, sample| most.max(sample.abs()));
            assert!(loudest < 0.005, "{rate}: {loudest}");
        }
        assert!(Resampler::new(7_999, 8_000).is_none());
    }
}
