//! Request limit of a tenant: a token bucket of `count` tokens that refills over `per`. Each process counts separately.

use std::{sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock as _,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};

use crate::{config::Rate, model::clock::Clock};

#[derive(Debug)]
pub struct RequestLimit {
    clock: Ticks,
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Nanos>>,
}

/// Monotonic clock for the limiter, because the wall clock may be set.
#[derive(Clone, Debug)]
struct Ticks(Arc<dyn Clock>);

impl governor::clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.monotonic())
    }
}

impl RequestLimit {
    /// Returns `None` if the rate permits more than one request per nanosecond.
    pub fn new(rate: Rate, clock: Arc<dyn Clock>) -> Option<Self> {
        let quota = Quota::with_period(rate.per / rate.count.get())?.allow_burst(rate.count);
        let clock = Ticks(clock);
        Some(Self { limiter: RateLimiter::direct_with_clock(quota, clock.clone()), clock })
    }

    /// Takes one token.
    ///
    /// # Errors
    /// The time until the next token is available.
    pub fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::model::clock::TestClock;

    #[test]
    fn token_bucket_empties_at_once_and_refills_evenly() {
        let clock = Arc::new(TestClock::new("2026-01-01T00:00:00Z".parse().expect("a time")));
        let rate = Rate { count: NonZeroU32::new(3).expect("three"), per: Duration::from_secs(60) };
        let limit = RequestLimit::new(rate, clock.clone()).expect("a limit");
        for _ in 0..3 {
            assert_eq!(limit.take(), Ok(()));
        }
        assert_eq!(limit.take(), Err(Duration::from_secs(20)));
        clock.advance(Duration::from_secs(20));
        assert_eq!(limit.take(), Ok(()));
        assert!(limit.take().is_err());
        clock.advance(Duration::from_secs(3600));
        assert_eq!((0..9).filter(|_| limit.take().is_ok()).count(), 3);
    }

    #[test]
    fn setting_the_wall_clock_changes_nothing() {
        for hour in [-1, 1] {
            let clock = Arc::new(TestClock::new("2026-01-01T00:00:00Z".parse().expect("a time")));
            let rate = Rate { count: NonZeroU32::new(1).expect("one"), per: Duration::from_secs(20) };
            let limit = RequestLimit::new(rate, clock.clone()).expect("a limit");
            assert_eq!(limit.take(), Ok(()));
            clock.jump(jiff::SignedDuration::from_hours(hour));
            assert_eq!(limit.take(), Err(Duration::from_secs(20)));
            clock.advance(Duration::from_secs(20));
            assert_eq!(limit.take(), Ok(()));
        }
    }
}
