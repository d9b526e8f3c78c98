//! Takes decoded samples, drops those that are not played, and passes on the rest at the measuring rate.

use crate::decoding::NotDecoded;
use crate::decoding::limits::Budget;
use crate::decoding::resample::Resampler;
use crate::ffmpeg::filters::MEASURE_RATE;

/// Full scale of a sample of 16 bits.
const FULL_SCALE: f32 = 32_768.0;

/// Receives the samples of all channels.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&[&[i16]]);

pub(crate) struct Output<'a> {
    budget: &'a mut Budget,
    each: Each<'a>,
    /// Samples that are played, at the rate of the source.
    played: Option<u64>,
    /// Samples at the start that are still to be dropped.
    skipped: u64,
    /// Samples that were decoded.
    decoded: u64,
    /// Samples that were passed on, at the rate of the source.
    passed: u64,
    rate: u32,
    /// One for each channel, after the first samples.
    channels: Vec<Resampler>,
    /// The samples that are passed on.
    samples: [Vec<i16>; 2],
}

impl<'a> Output<'a> {
    pub fn new(played: Option<u64>, budget: &'a mut Budget, each: Each<'a>) -> Self {
        let (channels, samples) = (Vec::new(), [Vec::new(), Vec::new()]);
        Self { budget, each, played, skipped: 0, decoded: 0, passed: 0, rate: 0, channels, samples }
    }

    /// Drops samples at the start, which decoders add.
    pub fn skip(&mut self, samples: u64) {
        self.skipped = samples;
    }

    /// Counts in samples of the decoder, where the length is stated at another rate.
    pub fn scale_played(&mut self, decoded: u32, stated: u32) {
        let scaled = |played: u64| played.saturating_mul(u64::from(decoded)) / u64::from(stated.max(1));
        self.played = self.played.map(scaled);
    }

    /// Whether everything that is played was taken.
    pub fn is_done(&self) -> bool {
        self.played.is_some_and(|played| self.passed >= played)
    }

    /// See [`Budget::allows`].
    pub fn allows(&self, samples: u64, rate: u32) -> Result<(), NotDecoded> {
        self.budget.allows(samples, rate)
    }

    /// Takes the next samples of all channels, which have full scale 1. Rate and channels must not change.
    pub fn take(&mut self, planes: &[&[f32]], rate: u32) -> Result<(), NotDecoded> {
        if self.channels.is_empty() {
            let first = Resampler::new(rate, MEASURE_RATE).ok_or(NotDecoded::Unknown)?;
            if !(1..=self.samples.len()).contains(&planes.len()) {
                return Err(NotDecoded::Unknown);
            }
            self.channels = vec![first; planes.len()];
            self.rate = rate;
        }
        let count = planes.first().map_or(0, |plane| plane.len());
        let is_alike = planes.len() == self.channels.len() && rate == self.rate;
        if !is_alike || planes.iter().any(|plane| plane.len() != count) {
            return Err(NotDecoded::Failed);
        }
        self.decoded += count as u64;
        self.budget.allows(self.decoded, rate)?;
        let dropped = self.skipped.min(count as u64);
        self.skipped -= dropped;
        let left = self.played.map_or(u64::MAX, |played| played - self.passed);
        let kept = (count as u64 - dropped).min(left);
        self.passed += kept;
        let (from, to) = (dropped as usize, (dropped + kept) as usize);
        for (channel, plane) in self.channels.iter_mut().zip(planes) {
            channel.push(&plane[from..to]);
        }
        self.flush();
        Ok(())
    }

    /// Passes on the last samples. Sound that is shorter than stated is an error.
    pub fn finish(mut self) -> Result<(), NotDecoded> {
        /// Samples by which rounding may shorten a stated length.
        const ROUNDED: u64 = 2;
        if self.played.is_some_and(|played| self.passed + ROUNDED < played) || self.passed == 0 {
            return Err(NotDecoded::Failed);
        }
        self.channels.iter_mut().for_each(Resampler::finish);
        self.flush();
        Ok(())
    }

    fn flush(&mut self) {
        for (channel, samples) in self.channels.iter_mut().zip(&mut self.samples) {
            samples.clear();
            samples.extend(channel.output().iter().map(|&value| rounded(value * FULL_SCALE)));
            channel.clear();
        }
        let [left, right] = &self.samples;
        match self.channels.len() {
            1 => (self.each)(&[left]),
            2 => (self.each)(&[left, right]),
            _ => {}
        }
    }
}

/// The nearest integer within the limits of a sample.
fn rounded(value: f32) -> i16 {
    (value + 0.5_f32.copysign(value)) as i16
}
