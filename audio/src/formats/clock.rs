//! Whether the times that a container states fit the sound in it, judged without decoding.

/// Judgement of a container's times: whether they fit its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// They say what the samples say.
    Fits,
    /// Most of them do, and some are later: pauses, or packets that were lost.
    Gaps,
    /// They are wrong, and the samples count. Muxers exist that count a frame of 60 ms as one of 20 ms, and recordings
    /// of which a part has times of its own.
    Wrong,
}

/// Times that are ahead of each other by less than this are those of a recorder that stamps what the network brings, in
/// parts of a second.
const JITTER: i128 = 16;

/// Steps from one stated time to the next, each held against the samples between the two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    /// Units of time in a second.
    second: i128,
    fitting: u64,
    late: u64,
    early: u64,
    /// How much shorter all steps are than their sound.
    missing: i128,
}

impl Steps {
    /// Starts a comparison of times in units of which a second has so many.
    pub fn of(second: u64) -> Self {
        Self { second: second.into(), fitting: 0, late: 0, early: 0, missing: 0 }
    }

    /// `count` steps by `stated`, between which there is sound for `sounds`; all in one unit.
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
            // Some steps are short because others were long.
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
    fn a_clock_is_believed_while_most_of_it_fits() {
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
