//! Memory of the servers that leave an idle connection open.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A server's habits are looked at again after this.
const BELIEVED: Duration = Duration::from_secs(10 * 60);

/// A connection may be opened ahead of its request only where the server is known to keep idle ones for longer than that
/// takes: where it closes them early, each note would cost two.
///
/// It is learned from connections that have done their work: they are left open and looked at.
#[derive(Debug)]
pub(super) struct Patience {
    /// The time for which a server has to leave an idle connection open to count as patient.
    hold: Duration,
    servers: Mutex<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    is_patient: bool,
    /// When that was found, or a look at it began.
    at: Instant,
}

impl Patience {
    pub fn new(hold: Duration) -> Self {
        Self { hold, servers: Mutex::default() }
    }

    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// The age that a connection may reach before its request. A quarter is left for differences between the two ends.
    pub fn longest_wait(&self) -> Duration {
        self.hold.mul_f32(0.75)
    }

    /// Whether the server leaves idle connections open for [`Self::hold`].
    pub fn is_known_of(&self, origin: &str) -> bool {
        self.servers().get(origin).is_some_and(|known| known.is_patient)
    }

    /// Whether the idle time of the server should be measured now. The caller that gets `true` measures it.
    pub fn is_to_be_looked_at(&self, origin: &str, now: Instant) -> bool {
        let mut servers = self.servers();
        match servers.get_mut(origin) {
            Some(known) if now.duration_since(known.at) < BELIEVED => false,
            // Until the look has ended, what was known holds.
            Some(known) => {
                known.at = now;
                true
            }
            None => {
                servers.insert(origin.to_owned(), Known { is_patient: false, at: now });
                true
            }
        }
    }

    pub fn learn(&self, origin: &str, is_patient: bool) {
        self.servers().insert(origin.to_owned(), Known { is_patient, at: Instant::now() });
    }

    /// Plain values, which no panic leaves half changed.
    fn servers(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_at_a_time_measures_a_server() {
        let (patience, now) = (Patience::new(Duration::from_secs(4)), Instant::now());
        assert!(!patience.is_known_of("https://a"), "nobody is trusted unseen");
        assert!(patience.is_to_be_looked_at("https://a", now));
        assert!(!patience.is_to_be_looked_at("https://a", now));
        assert!(patience.is_to_be_looked_at("https://b", now));
        patience.learn("https://a", true);
        assert!(patience.is_known_of("https://a") && !patience.is_known_of("https://b"));
        assert!(!patience.is_to_be_looked_at("https://a", now));

        assert!(patience.is_to_be_looked_at("https://a", now + 2 * BELIEVED));
        assert!(patience.is_known_of("https://a"), "what is known holds meanwhile");
        patience.learn("https://a", false);
        assert!(!patience.is_known_of("https://a"));
    }
}
