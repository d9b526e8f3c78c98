//! Limits on one decoding. The decoders allocate a fixed amount, because only files with one or two channels get here,
//! and no packet is larger than its file; so time and samples remain to be limited.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::decoding::NotDecoded;

/// Time limit. Fifteen minutes of stereo MP3 take about a second on an idle machine.
const LONGEST: Duration = Duration::from_secs(10);

/// The budget of one decoding, in time and samples. It is asked before each packet.
#[derive(Debug)]
pub(crate) struct Budget {
    started: Instant,
    time: Duration,
    /// Limit on the length of the sound.
    longest: Duration,
    stopped: Arc<AtomicBool>,
}

impl Budget {
    /// Limits the time to `time` or ten seconds, and the sound to the length `longest`.
    pub fn new(time: Duration, longest: Duration) -> Self {
        Self { started: Instant::now(), time: time.min(LONGEST), longest, stopped: Arc::default() }
    }

    /// A guard that stops the decoding when it is dropped, for a caller that may go away.
    pub fn guard(&self) -> StopOnDrop {
        StopOnDrop(self.stopped.clone())
    }

    /// Allows another step after `samples` samples at this rate.
    pub fn allows(&self, samples: u64, rate: u32) -> Result<(), NotDecoded> {
        let sound = Duration::from_millis(samples.saturating_mul(1000) / u64::from(rate.max(1)));
        let is_within = sound <= self.longest
            && !self.stopped.load(Ordering::Relaxed)
            && self.started.elapsed() <= self.time;
        if is_within { Ok(()) } else { Err(NotDecoded::Limit) }
    }
}

/// See [`Budget::guard`].
#[derive(Debug)]
pub(crate) struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_length_and_absent_callers_end_a_decoding() {
        let budget = Budget::new(LONGEST, Duration::from_secs(2));
        assert_eq!(budget.allows(16_000, 8_000), Ok(()));
        assert_eq!(budget.allows(16_008, 8_000), Err(NotDecoded::Limit));
        drop(budget.guard());
        assert_eq!(budget.allows(0, 8_000), Err(NotDecoded::Limit));
        let late = Budget { started: Instant::now(), ..Budget::new(Duration::ZERO, LONGEST) };
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(late.allows(0, 8_000), Err(NotDecoded::Limit));
    }
}
