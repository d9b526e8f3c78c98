//! Throttles log messages that anybody could cause: one per interval, which states how many messages it represents.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

#[derive(Debug)]
pub struct LogThrottle {
    every: Duration,
    /// Time of the last message, and number of messages suppressed since.
    last: Mutex<Option<(Instant, u64)>>,
}

impl LogThrottle {
    pub const fn new(every: Duration) -> Self {
        Self { every, last: Mutex::new(None) }
    }

    /// Number of messages that this one represents; `None` if it is suppressed.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Some((at, left_out)) if now.saturating_duration_since(*at) < self.every => {
                *left_out += 1;
                None
            }
            other => {
                let left_out = other.map_or(0, |(_, left_out)| left_out);
                *other = Some((now, 0));
                Some(left_out + 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_represents_its_interval() {
        let throttle = LogThrottle::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| throttle.pass_at(start + Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(1), at(9), at(10), at(11), at(30)],
            [Some(1), None, None, Some(3), None, Some(2)]
        );
    }
}
