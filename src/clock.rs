//! Time from outside, so that tests move it by hand.

use std::{fmt::Debug, sync::Mutex, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

/// Where "now" comes from, and how to wait for a later one.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    fn now(&self) -> Timestamp;
    async fn sleep_until(&self, at: Timestamp);

    /// Whether it goes by itself. Another clock that does, such as a database's, may then stand in for it.
    fn runs(&self) -> bool;
}

/// The machine's own clock.
#[derive(Debug, Default)]
pub struct SystemClock;

#[async_trait]
#[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        to_millis(Timestamp::now())
    }

    async fn sleep_until(&self, at: Timestamp) {
        let wait = at.duration_since(Timestamp::now());
        tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await;
    }

    fn runs(&self) -> bool {
        true
    }
}

/// A clock that stands still until it is advanced.
#[derive(Debug)]
pub struct TestClock {
    now: watch::Sender<Timestamp>,
    /// Keeps the channel open while nobody waits.
    _keep: Mutex<watch::Receiver<Timestamp>>,
}

impl TestClock {
    pub fn new(start: Timestamp) -> Self {
        let (now, keep) = watch::channel(to_millis(start));
        Self { now, _keep: Mutex::new(keep) }
    }

    /// Moves time forward and wakes whoever waited for what is now past.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now += by);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    async fn sleep_until(&self, at: Timestamp) {
        let mut now = self.now.subscribe();
        // An error means that the clock is gone, and with it whoever could have waited.
        let _ = now.wait_for(|now| *now >= at).await;
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
