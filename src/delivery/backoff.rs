//! When to try again: exponential with full jitter, a pure function.

use std::time::Duration;

/// Upper bound of the first wait; the contract promises a first retry within 5 s.
const BASE: Duration = Duration::from_secs(4);
const CAP: Duration = Duration::from_secs(10 * 60);
/// Nobody is asked again at once.
const FLOOR: Duration = Duration::from_millis(250);

/// The wait after `attempts` attempts (1 or more). `jitter` is uniform in 0..1; upper bounds are
/// 4 s, 8 s, 16 s, 32 s, 64 s, 128 s, 256 s, 512 s and from then on 10 minutes. The provider's own `retry_after`
/// is always honoured, and never taken for more: asked for 0 s again and again, the waits grow all the same. A
/// tenth of it comes on top, so that a crowd does not return as one.
pub fn wait(attempts: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let doubled = BASE.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    let spread = doubled.min(CAP).mul_f64(jitter.clamp(0.0, 1.0));
    let asked = retry_after.unwrap_or_default();
    (asked + (asked / 10).mul_f64(jitter.clamp(0.0, 1.0))).max(spread).max(FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_as_documented() {
        let bounds: Vec<_> = (1..=10).map(|n| wait(n, None, 1.0).as_secs()).collect();
        assert_eq!(bounds, [4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(wait(1, None, 0.0), FLOOR);
        assert_eq!(wait(u32::MAX, None, 1.0), CAP);
        assert_eq!(wait(1, Some(Duration::ZERO), 0.0), FLOOR);
        assert_eq!(
            wait(4, Some(Duration::from_secs(2)), 1.0).as_secs(),
            32,
            "a short wait that never ends grows"
        );
        assert_eq!(wait(1, Some(Duration::from_secs(100)), 1.0).as_secs(), 110);
    }

    proptest::proptest! {
        #[test]
        fn never_before_the_provider_allows(n in 1_u32..100, asked in 0_u64..100_000, jitter in 0.0..1.0_f64) {
            let asked = Duration::from_secs(asked);
            proptest::prop_assert!(wait(n, Some(asked), jitter) >= asked);
        }
    }
}
