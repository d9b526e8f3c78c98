//! When a connection that fails is left alone, and for how long: pure rules.

use std::time::Duration;

/// Failures without a success in between, after which a connection is paused. Every failure that says something about the
/// connection counts, none that is a recipient's or an audio file's own.
pub const FAILURES: u32 = 5;

/// The first pause. Each further failure doubles it.
const FIRST: Duration = Duration::from_secs(4);
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// How long a connection is left alone after so many failures in a row; `None`: not at all.
pub fn pause(failures: u32) -> Option<Duration> {
    let beyond = failures.checked_sub(FAILURES)?;
    Some(FIRST.saturating_mul(1_u32.checked_shl(beyond).unwrap_or(u32::MAX)).min(LONGEST))
}

/// Whether the next attempt has to prove first that the connection works again.
pub fn is_open(failures: u32) -> bool {
    failures >= FAILURES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_begin_at_the_fifth_failure_and_double_up_to_ten_minutes() {
        let seconds: Vec<_> = (4..=14).map(|n| pause(n).map(|pause| pause.as_secs())).collect();
        let expected = [0, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600].map(|s| (s > 0).then_some(s));
        assert_eq!(seconds, expected);
        assert_eq!(pause(u32::MAX), Some(LONGEST));
        assert!(!is_open(4) && is_open(5));
    }
}
