//! A time that never goes back and never jumps. It combines a wall clock, which may be set, with a monotonic clock.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::telemetry::metrics;

/// The two clocks of a machine, read at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub wall: Timestamp,
    pub monotonic: Duration,
}

/// The smallest change that counts as a jump. A smaller one is drift between the clocks, or a gradual correction by
/// NTP.
const JUMP: SignedDuration = SignedDuration::from_millis(500);

/// The steady time approaches the wall clock by this fraction (1/100) of the time that passes, which is too little to
/// affect a rate, an order or a time limit.
const SLEW: i32 = 100;

/// If the wall clock is further ahead than this, it was not set when the machine started. The steady time then adopts
/// it at once.
const NEVER_SET: SignedDuration = SignedDuration::from_hours(30 * 24);

#[derive(Debug)]
pub struct Steady(Mutex<State>);

#[derive(Debug)]
struct State {
    seen: Reading,
    now: Timestamp,
}

impl Steady {
    pub fn new(first: Reading) -> Self {
        Self(Mutex::new(State { seen: first, now: first.wall }))
    }

    /// The steady time at this reading. A jump of the wall clock since the one before is logged and counted.
    pub fn at(&self, reading: Reading) -> Timestamp {
        let (now, jump) = self.0.lock().unwrap_or_else(PoisonError::into_inner).pass(reading);
        if let Some(jump) = jump {
            let seconds = jump.as_secs_f64();
            metrics::clock_jumped(seconds > 0.0);
            tracing::warn!(
                seconds,
                "the wall clock was set by {seconds:+.1} s; the time of the queue does not jump and approaches it slowly"
            );
        }
        now
    }

    /// Advances the time to `at` if it is behind, unless `at` is implausibly far ahead.
    pub fn not_before(&self, at: Timestamp, reading: Reading) {
        let now = self.at(reading);
        let missing = at.duration_since(now);
        if missing <= SignedDuration::ZERO {
            return;
        }
        let seconds = missing.as_secs_f64();
        if missing > NEVER_SET {
            tracing::warn!(
                seconds,
                "the database holds times that are {seconds:.0} s ahead; they are not believed"
            );
            return;
        }
        tracing::warn!(
            seconds,
            "the wall clock is {seconds:.1} s behind the database's newest entry; the time of the queue continues from that entry"
        );
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now = at;
    }
}

impl State {
    /// Advances to `reading`. Returns the steady time, and the size of a jump of the wall clock since the last reading.
    fn pass(&mut self, reading: Reading) -> (Timestamp, Option<SignedDuration>) {
        // Two threads may arrive here in another order than they read the clocks.
        let Some(passed) = reading.monotonic.checked_sub(self.seen.monotonic) else {
            return (self.now, None);
        };
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let jump = reading.wall.duration_since(self.seen.wall) - passed;
        self.seen = reading;
        let now = self.now.checked_add(passed).unwrap_or(self.now);
        let behind = reading.wall.duration_since(now);
        let most = passed / SLEW;
        let correction = if behind > NEVER_SET { behind } else { behind.clamp(-most, most) };
        self.now = now.checked_add(correction).unwrap_or(now);
        (self.now, (jump.abs() >= JUMP).then_some(jump))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    /// A reading of both clocks, in seconds since the start.
    fn reading(wall: i64, monotonic: u64) -> Reading {
        Reading { wall: start() + SignedDuration::from_secs(wall), monotonic: Duration::from_secs(monotonic) }
    }

    fn seconds(at: Timestamp) -> f64 {
        at.duration_since(start()).as_secs_f64()
    }

    #[test]
    fn steady_time_follows_the_wall_clock_without_jumps_exactly() {
        let steady = Steady::new(reading(0, 0));
        for second in [1_u32, 2, 60, 100_000] {
            assert_eq!(seconds(steady.at(reading(second.into(), second.into()))), f64::from(second));
        }
    }

    #[test]
    fn steady_time_approaches_a_wall_clock_that_was_set_by_one_percent() {
        for hour in [3600, -3600] {
            let steady = Steady::new(reading(0, 0));
            assert_eq!(seconds(steady.at(reading(hour, 0))), 0.0, "nothing has passed");
            let expected = if hour > 0 { 101.0 } else { 99.0 };
            assert_eq!(seconds(steady.at(reading(hour + 100, 100))), expected);
            let much_later = steady.at(reading(hour + 1_000_000, 1_000_000));
            assert_eq!(seconds(much_later) as i64, hour + 1_000_000, "the two agree again");
        }
    }

    #[test]
    fn jump_is_reported_once_and_drift_never() {
        let mut state = State { seen: reading(0, 0), now: start() };
        assert_eq!(state.pass(reading(3601, 1)).1, Some(SignedDuration::from_hours(1)));
        assert_eq!(state.pass(reading(3602, 2)).1, None);
        assert_eq!(state.pass(reading(2, 2)).1, Some(SignedDuration::from_hours(-1)));
        let drifted =
            Reading { wall: start() + SignedDuration::from_millis(3400), monotonic: Duration::from_secs(3) };
        assert_eq!(state.pass(drifted).1, None);
    }

    #[test]
    fn clock_that_was_never_set_is_adopted_at_once_when_it_is_set() {
        let steady = Steady::new(reading(0, 0));
        let years = 50 * 366 * 86_400;
        assert_eq!(seconds(steady.at(reading(years, 1))), years as f64);
    }

    #[test]
    fn process_with_an_earlier_clock_continues_from_the_recorded_time() {
        let steady = Steady::new(reading(0, 0));
        steady.not_before(start() + SignedDuration::from_secs(3600), reading(0, 0));
        assert_eq!(seconds(steady.at(reading(100, 100))), 3699.0);
        steady.not_before(start(), reading(100, 100));
        assert_eq!(seconds(steady.at(reading(100, 100))), 3699.0, "an earlier time changes nothing");
        steady.not_before(start() + SignedDuration::from_hours(9000), reading(100, 100));
        assert_eq!(seconds(steady.at(reading(100, 100))), 3699.0, "and nothing does that cannot be true");
    }

    #[test]
    fn late_reading_does_not_move_the_time_back() {
        let steady = Steady::new(reading(0, 0));
        steady.at(reading(10, 10));
        assert_eq!(seconds(steady.at(reading(5, 5))), 10.0);
    }
}
