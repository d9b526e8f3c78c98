//! The circuit breaker of a connection: pure rules about when a failing connection is paused, and for how long.
//!
//! Failures that overlap in time have the same cause, and count as one: a failure counts only if no other one was
//! counted since its attempt began. So a pause grows from one probe to the next, and does not depend on the number of
//! attempts that were in flight when the provider stopped answering. Any success ends the pause.

use std::time::Duration;

/// The number of consecutive failures after which a connection is paused. Failures that are caused by a recipient or by
/// the audio do not count.
pub const FAILURES: u32 = 5;

/// The first pause. Each further failure doubles it.
const FIRST: Duration = Duration::from_secs(4);
/// The longest pause. A probe is a single small request that no recipient sees, so four a minute do no harm, and a
/// connection that recovers is used again within this time.
const LONGEST: Duration = Duration::from_secs(15);

/// The counted failures of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number since the last success.
    pub in_a_row: u32,
    /// The number since the connection was first used. It shows whether a failure was counted between two moments.
    pub ever: u64,
}

impl Tally {
    /// The tally after another failure, of an attempt that began when the tally was `at_start`. `None` if the failure
    /// does not count, because one that overlaps with it was counted.
    pub fn and_a_failure(self, at_start: Self) -> Option<Self> {
        let is_news = self.ever <= at_start.ever;
        is_news.then(|| Self { in_a_row: self.in_a_row.saturating_add(1), ever: self.ever.saturating_add(1) })
    }

    /// The length of the pause after this failure. `None` if there is none.
    pub fn pause(self) -> Option<Duration> {
        let beyond = self.in_a_row.checked_sub(FAILURES)?;
        Some(FIRST.saturating_mul(1_u32.checked_shl(beyond).unwrap_or(u32::MAX)).min(LONGEST))
    }

    /// Whether the connection has to pass a health check before the next attempt.
    pub fn is_open(self) -> bool {
        is_open(self.in_a_row)
    }
}

/// The rule of [`Tally::is_open`], for a number of consecutive failures.
pub fn is_open(in_a_row: u32) -> bool {
    in_a_row >= FAILURES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(in_a_row: u32) -> Tally {
        Tally { in_a_row, ever: in_a_row.into() }
    }

    #[test]
    fn pauses_begin_at_the_fifth_failure_and_double_up_to_fifteen_seconds() {
        let seconds: Vec<_> = (4..=9).map(|n| failed(n).pause().map(|pause| pause.as_secs())).collect();
        let expected = [0, 4, 8, 15, 15, 15].map(|s| (s > 0).then_some(s));
        assert_eq!(seconds, expected);
        assert_eq!(failed(u32::MAX).pause(), Some(LONGEST));
        assert!(!failed(4).is_open() && failed(5).is_open());
    }

    #[test]
    fn attempts_that_fail_together_count_as_one() {
        let at_start = failed(2);
        let after_first = at_start.and_a_failure(at_start).expect("it counts");
        assert_eq!(after_first, failed(3));
        for _ in 0..31 {
            assert_eq!(after_first.and_a_failure(at_start), None, "it was under way already");
        }
        assert_eq!(after_first.and_a_failure(after_first), Some(failed(4)), "it began afterwards");
    }

    #[test]
    fn failure_that_began_before_a_success_and_a_later_failure_does_not_count() {
        let at_start = failed(3);
        let since = Tally { in_a_row: 0, ever: 3 };
        let one = since.and_a_failure(since).expect("it counts");
        assert_eq!(one.and_a_failure(at_start), None);
    }
}
