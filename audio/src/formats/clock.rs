//! Decides whether the times that a container states agree with its sound, without decoding.

/// Verdict on a container's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The times agree with the samples.
    Fits,
    /// Most times agree, and some are later: pauses or lost packets.
    Gaps,
    /// The times are wrong, and samples have to be counted. Some muxers count a frame of 60 ms as one of 20 ms, and in
    /// some recordings a part has times of its own.
    Wrong,
}

/// Fraction of a second below which a time that is ahead counts as jitter of a recorder that timestamps network
/// packets.
const JITTER: i128 = 16;

/// Accumulates the steps between stated times, each compared with the samples between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    /// Time units per second.
    second: i128,
    fitting: u64,
    late: u64,
    early: u64,
    /// Units by which all steps are shorter than their sound.
    missing: i128,
}

impl Steps {
    /// Starts a comparison of times with `second` units per second.
    pub fn of(second: u64) -> Self {
        Self { second: second.into(), fitting: 0, late: 0, early: 0, missing: 0 }
    }

    /// Adds `count` steps of `stated` units, each with `sounds` units of sound.
    pub fn add(&mut self, count: u64, stated: i128, sounds: i128, tolerance: i128) {
        self.missing += (sounds - stated) * i128::from(count);
        if stated > sounds + tolerance {
            self.late += count;
        } else if stated < sounds - tolerance {
            self.early += count;
        } else {
            self.fitting += count;
        }
    }

    pub fn verdict(&self) -> Clock {
        match (self.late, self.early) {
            (0, 0) => Clock::Fits,
            // Some steps are short to compensate for longer ones.
            (0, _) if self.missing * JITTER <= self.second => Clock::Fits,
            (0, _) => Clock::Wrong,
            (late, early) if self.fitting >= late + early => Clock::Gaps,
            _ => Clock::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_trusted_while_most_steps_agree() {
        let judged = |steps: &[(u64, i128)]| {
            let mut all = Steps::of(48_000);
            steps.iter().for_each(|&(count, stated)| all.add(count, stated, 960, 48));
            all.verdict()
        };
        assert_eq!(judged(&[(100, 960), (3, 1000), (3, 920)]), Clock::Fits);
        assert_eq!(judged(&[(100, 960), (1, 48_000), (1, 1920)]), Clock::Gaps);
        assert_eq!(judged(&[(100, 960), (1, -96_000)]), Clock::Wrong);
        assert_eq!(judged(&[(100, 960), (1, -96_000), (1, 48_000)]), Clock::Gaps);
        for ratio in [0, 320, 480, 720, 1440, 1920, 2880] {
            assert_eq!(judged(&[(100, ratio), (1, 960)]), Clock::Wrong, "{ratio} for 960");
        }
    }
}
