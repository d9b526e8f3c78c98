//! The clock, as a trait, so that tests can control the time.

mod steady;

use std::{
    fmt::Debug,
    sync::Mutex,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use self::steady::{Reading, Steady};

/// Provides the current time, and waits for a later time.
///
/// There are two times, because the wall clock of a machine may be set at any moment. [`Clock::now`] never goes back
/// and never jumps, so it orders the queue, measures spans and ends leases. [`Clock::wall`] is for times that other
/// systems compare with their own clocks.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// The steady time: the wall clock at the start, advanced by the monotonic clock. After the wall clock was set, the
    /// steady time approaches it by a hundredth of the time that passes.
    fn now(&self) -> Timestamp;

    /// The time on the machine's wall clock.
    fn wall(&self) -> Timestamp;

    /// The time since a fixed moment, by the monotonic clock only.
    fn monotonic(&self) -> Duration;

    /// Advances the steady time to `at`, which an earlier process recorded, if it is behind that.
    fn not_before(&self, at: Timestamp);

    /// Waits until the steady time is `at`.
    async fn sleep_until(&self, at: Timestamp);

    /// Whether the clock runs in real time. If so, another real clock, such as that of a database, may be used instead.
    fn runs(&self) -> bool;
}

/// The clocks of the machine.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    steady: Steady,
}

impl Default for SystemClock {
    fn default() -> Self {
        let started = Instant::now();
        Self { started, steady: Steady::new(read(started)) }
    }
}

/// The longest time between reading the two clocks. A process that is suspended in between would detect a false jump.
const TOGETHER: Duration = Duration::from_millis(20);

#[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
fn read(started: Instant) -> Reading {
    loop {
        let before = started.elapsed();
        let wall = Timestamp::now();
        let monotonic = started.elapsed();
        if monotonic - before < TOGETHER {
            return Reading { wall, monotonic };
        }
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        to_millis(self.steady.at(read(self.started)))
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    fn wall(&self) -> Timestamp {
        to_millis(Timestamp::now())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn not_before(&self, at: Timestamp) {
        self.steady.not_before(at, read(self.started));
    }

    async fn sleep_until(&self, at: Timestamp) {
        let wait = at.duration_since(self.now());
        tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await;
    }

    fn runs(&self) -> bool {
        true
    }
}

/// A clock that stands still until it is advanced.
#[derive(Debug)]
pub struct TestClock {
    reading: watch::Sender<Reading>,
    steady: Steady,
    /// Keeps the channel open while there are no waiters.
    _keep: Mutex<watch::Receiver<Reading>>,
}

impl TestClock {
    pub fn new(start: Timestamp) -> Self {
        let first = Reading { wall: to_millis(start), monotonic: Duration::ZERO };
        let (reading, keep) = watch::channel(first);
        Self { reading, steady: Steady::new(first), _keep: Mutex::new(keep) }
    }

    /// Advances the time, and wakes the waiters whose time has come.
    pub fn advance(&self, by: Duration) {
        self.reading.send_modify(|reading| {
            reading.wall += by;
            reading.monotonic += by;
        });
    }

    /// Sets the wall clock forward or back, while no time passes.
    pub fn jump(&self, by: SignedDuration) {
        self.reading.send_modify(|reading| reading.wall += by);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        to_millis(self.steady.at(*self.reading.borrow()))
    }

    fn wall(&self) -> Timestamp {
        self.reading.borrow().wall
    }

    fn monotonic(&self) -> Duration {
        self.reading.borrow().monotonic
    }

    fn not_before(&self, at: Timestamp) {
        self.steady.not_before(at, *self.reading.borrow());
    }

    async fn sleep_until(&self, at: Timestamp) {
        let mut reading = self.reading.subscribe();
        // An error means that the clock was dropped, so there is no waiter left.
        let _ = reading.wait_for(|reading| to_millis(self.steady.at(*reading)) >= at).await;
    }

    fn runs(&self) -> bool {
        false
    }
}

/// Rounds a time to milliseconds. The gateway stores times with that precision, so a finer time would differ from its
/// stored value.
fn to_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// RFC 3339 in UTC with exactly three decimals, as the API prints every time.
pub mod rfc3339_millis {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn text(at: Timestamp) -> String {
        format!("{at:.3}")
    }

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }

    /// The format for optional times.
    pub mod option {
        use super::{Deserialize, Deserializer, Serializer, Timestamp};

        pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            Option::deserialize(deserializer)
        }
    }
}
