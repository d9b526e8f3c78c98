//! The time of the next attempt: exponential backoff with full jitter, bounded by the age of the failure. A pure
//! function.

use std::time::Duration;

/// Upper bound of the first wait; the contract promises a first retry within 5 s.
const BASE: Duration = Duration::from_secs(4);
/// Upper bound of a wait after any number of attempts.
const CAP: Duration = Duration::from_secs(10 * 60);
/// Lower bound of a wait, so that no server is retried at once.
const FLOOR: Duration = Duration::from_millis(250);
/// Upper bound of the waits in the first minute of an outage, and of the waits for a connection that failed before. It
/// keeps the promise that a note is sent within thirty seconds after the outage has ended.
pub const SOON: Duration = Duration::from_secs(15);
/// A wait lasts at most this fraction of the age of the outage, so that its end is noticed after a quarter of its
/// length.
const SHARE_OF_AGE: u32 = 4;

/// The wait after `attempts` attempts (1 or more) at a job that first failed `age` ago. `jitter` is uniform in 0..1.
///
/// The upper bound doubles from 4 s on. It is at most 15 s or a quarter of `age`, whichever is longer, and at most 10
/// minutes. The provider's own `retry_after` is a lower bound of the wait, never an upper bound, so repeated answers
/// with 0 s do not prevent the backoff. Up to a tenth of it is added, so that many notes do not return at the same
/// moment.
pub fn wait(attempts: u32, age: Duration, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let doubled = BASE.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    let bound = doubled.min(SOON.max(age / SHARE_OF_AGE)).min(CAP);
    let jitter = jitter.clamp(0.0, 1.0);
    let asked = retry_after.unwrap_or_default();
    (asked + (asked / 10).mul_f64(jitter)).max(bound.mul_f64(jitter)).max(FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_AGO: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn wait_bounds_are_as_documented() {
        let bounds = |age| (1..=10).map(|n| wait(n, age, None, 1.0).as_secs()).collect::<Vec<_>>();
        assert_eq!(bounds(LONG_AGO), [4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(bounds(Duration::from_secs(60)), [4, 8, 15, 15, 15, 15, 15, 15, 15, 15]);
        assert_eq!(bounds(Duration::from_secs(400))[4..], [64, 100, 100, 100, 100, 100]);
        assert_eq!(wait(1, LONG_AGO, None, 0.0), FLOOR);
        assert_eq!(wait(u32::MAX, LONG_AGO, None, 1.0), CAP);
        assert_eq!(wait(1, LONG_AGO, Some(Duration::ZERO), 0.0), FLOOR);
        let short = wait(4, LONG_AGO, Some(Duration::from_secs(2)), 1.0);
        assert_eq!(short.as_secs(), 32, "a short wait that never ends grows");
        assert_eq!(wait(1, Duration::ZERO, Some(Duration::from_secs(100)), 1.0).as_secs(), 110);
    }

    #[test]
    fn outage_of_a_day_costs_a_few_hundred_attempts() {
        let (mut age, mut attempts) = (Duration::ZERO, 0);
        while age < LONG_AGO {
            attempts += 1;
            age += wait(attempts, age, None, 0.5);
        }
        assert!((250..400).contains(&attempts), "{attempts}");
    }

    proptest::proptest! {
        #[test]
        fn wait_is_at_least_the_providers_retry_after(
            n in 1_u32..100, age in 0_u64..100_000, asked in 0_u64..100_000, jitter in 0.0..1.0_f64,
        ) {
            let asked = Duration::from_secs(asked);
            proptest::prop_assert!(wait(n, Duration::from_secs(age), Some(asked), jitter) >= asked);
        }

        #[test]
        fn wait_is_at_most_fifteen_seconds_or_a_quarter_of_the_outage(
            n in 1_u32..100, age in 0_u64..100_000, jitter in 0.0..1.0_f64,
        ) {
            let age = Duration::from_secs(age);
            proptest::prop_assert!(wait(n, age, None, jitter) <= SOON.max(age / 4));
        }
    }
}
