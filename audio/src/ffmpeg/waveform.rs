//! Computes the bars of a voice bubble from a stream of samples, and the bars by which two sounds are compared.

/// Number of bars in the API.
const BARS: usize = 64;
/// Number of slices at which neighbours are joined, so that memory stays constant.
const SLICES: usize = 16_384;

/// Sums of |sample| over slices of equal length.
#[derive(Debug)]
pub(crate) struct Waveform {
    slices: Vec<u64>,
    /// Number of samples in a full slice.
    width: u64,
    /// Number of samples in the last slice, which is not yet full.
    filled: u64,
    samples: u64,
}

impl Waveform {
    pub fn new() -> Self {
        Self { slices: Vec::new(), width: 1, filled: 0, samples: 0 }
    }

    #[inline]
    pub fn push(&mut self, sample: i16) {
        if self.slices.is_empty() || self.filled == self.width {
            if self.slices.len() == SLICES {
                self.slices = self.slices.chunks(2).map(|pair| pair.iter().sum()).collect();
                self.width *= 2;
            }
            self.slices.push(0);
            self.filled = 0;
        }
        if let Some(slice) = self.slices.last_mut() {
            *slice += u64::from(sample.unsigned_abs());
        }
        self.filled += 1;
        self.samples += 1;
    }

    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// 64 values from 0 to 100: the mean of |sample| in each bar, scaled so that the loudest is 100, as Baileys draws
    /// them. <https://github.com/WhiskeySockets/Baileys/blob/master/src/Utils/messages-media.ts>
    pub fn bars(&self) -> Vec<u8> {
        let means = self.means();
        let loudest = means.iter().copied().max().unwrap_or(0);
        means
            .iter()
            .map(|&mean| u8::try_from((mean * 100).checked_div(loudest).unwrap_or(0)).unwrap_or(100))
            .collect()
    }

    /// Mean of |sample| in the loudest bar.
    pub fn loudest(&self) -> u32 {
        u32::try_from(self.means().into_iter().max().unwrap_or(0) / 1000).unwrap_or(u32::MAX)
    }

    /// Mean of |sample| in each bar, in thousandths, so that quiet recordings still have steps.
    fn means(&self) -> Vec<u64> {
        let count = self.slices.len();
        (0..BARS)
            .map(|bar| {
                let slices = &self.slices[bar * count / BARS..(bar + 1) * count / BARS];
                slices.iter().sum::<u64>() * 1000 / (slices.len().max(1) as u64 * self.width)
            })
            .collect()
    }
}

/// The constant part of a sound at the measuring rate: the mean of its last samples.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConstantPart {
    so_far: f32,
}

impl ConstantPart {
    /// Coefficient of a one-pole high-pass filter with a cutoff of 50 Hz at 8 kHz.
    const WEIGHT: f32 = 0.039;

    /// Takes it from the next sample.
    #[inline]
    pub fn remove(&mut self, sample: f32) -> f32 {
        self.so_far += Self::WEIGHT * (sample - self.so_far);
        sample - self.so_far
    }
}

/// The bars of the audible sound at the measuring rate. A DC offset, which speech codecs remove, is left out, and so is
/// sound after the end of the source.
#[derive(Debug)]
pub(crate) struct Audible {
    constant: ConstantPart,
    /// Number of samples to compare.
    most: u64,
    waveform: Waveform,
}

impl Audible {
    /// Compares the first `most` samples only.
    pub fn up_to(most: u64) -> Self {
        Self { constant: ConstantPart::default(), most, waveform: Waveform::new() }
    }

    #[inline]
    pub fn push(&mut self, sample: i16) {
        if self.waveform.samples() >= self.most {
            return;
        }
        // A constant is heard when it begins: in the source at once, in what an encoder makes of it a little later.
        self.waveform.push(self.constant.remove(f32::from(sample)) as i16);
    }

    #[cfg(test)]
    pub fn samples(&self) -> u64 {
        self.waveform.samples()
    }

    pub fn bars(&self) -> Vec<u8> {
        self.waveform.bars()
    }

    pub fn loudest(&self) -> u32 {
        self.waveform.loudest()
    }
}
