//! Time from outside, so that tests move it by hand.

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

/// The present time, and how to wait for a later one.
///
/// There are two times, because the wall clock of a machine may be set at any moment. [`Clock::now`] never goes back
/// and never jumps, so it orders the queue, measures spans and ends leases. [`Clock::wall`] is for what somebody
/// outside compares with a clock of their own.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// The steady time: the wall clock at the start, moved on by the monotonic clock. After the wall clock was set, it
    /// comes nearer to it by a hundredth of the time that passes.
    fn now(&self) -> Timestamp;

    /// The time on the machine's wall clock.
    fn wall(&self) -> Timestamp;

    /// The time since some fixed moment, by the monotonic clock alone.
    fn monotonic(&self) -> Duration;

    /// Moves the steady time on to `at`, which an earlier process wrote down, where it is behind that.
    fn not_before(&self, at: Timestamp);

    /// Waits until the steady time is `at`.
    async fn sleep_until(&self, at: Timestamp);

    /// Whether it goes by itself. Another clock that does, such as a database's, may then stand in for it.
    fn runs(&self) -> bool;
}

/// The machine's own clocks.
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

/// Between the two clocks of one reading. A process that was stopped between them would see a jump that was none.
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
    /// Keeps the channel open while nobody waits.
    _keep: Mutex<watch::Receiver<Reading>>,
}

impl TestClock {
    pub fn new(start: Timestamp) -> Self {
        let first = Reading { wall: to_millis(start), monotonic: Duration::ZERO };
        let (reading, keep) = watch::channel(first);
        Self { reading, steady: Steady::new(first), _keep: Mutex::new(keep) }
    }

    /// Lets time pass, and wakes whoever waited for a time that is now past.
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
        // An error means that the clock is gone, and with it whoever could have waited.
        let _ = reading.wait_for(|reading| to_millis(self.steady.at(*reading)) >= at).await;
    }

    fn runs(&self) -> bool {
        false
    }
}

/// Everything the gateway shows or stores has millisecond precision; a finer "now" would compare unequal to itself.
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

    /// The same for times that may be missing.
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
