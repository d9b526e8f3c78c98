//! Counts, logs and slows down callers with keys that belong to no tenant. A right key is never delayed, even if all
//! requests come from the address of one proxy.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::seats::Seat;
use crate::telemetry::{log_throttle::LogThrottle, metrics};

/// The number of wrong keys that are answered at once, for people who are setting up a bot.
const FREE: f64 = 10.0;

/// The number of wrong keys per second that an address is forgiven.
const FORGIVEN: f64 = 0.5;

/// The delay that each further wrong key adds, and the longest delay.
const STEP: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The most addresses that are remembered at a time.
const MOST: usize = 4096;

static LINES: LogThrottle = LogThrottle::new(Duration::from_secs(10));

#[derive(Debug, Default)]
pub struct WrongKeys(Mutex<HashMap<IpAddr, Tries>>);

#[derive(Clone, Copy, Debug)]
struct Tries {
    /// The number of wrong keys that were not forgiven at that time.
    count: f64,
    at: Instant,
}

impl WrongKeys {
    /// Counts a wrong key, and waits if the address has used many of them.
    pub async fn tried(&self, seat: Option<&Arc<Seat>>) {
        metrics::wrong_key();
        let address = seat.map(|seat| seat.peer());
        if let Some(count) = LINES.pass() {
            let address = address.map(|address| address.to_string());
            tracing::warn!(address, count, "requests came with an API key that is not known here");
        }
        let Some(seat) = seat else { return };
        let wait = self.wait(seat.peer(), Instant::now());
        if !wait.is_zero() {
            // A client that waits here keeps no place that another one needs.
            let _aside = seat.step_aside();
            tokio::time::sleep(wait).await;
        }
    }

    /// How long this attempt has to wait.
    fn wait(&self, address: IpAddr, now: Instant) -> Duration {
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if addresses.len() >= MOST && !addresses.contains_key(&address) {
            addresses.retain(|_, tries| tries.left(now) > 0.0);
            if addresses.len() >= MOST {
                addresses.clear(); // so many addresses cannot belong to one caller
            }
        }
        let left = addresses.get(&address).map_or(0.0, |tries| tries.left(now));
        // The count has an upper limit, so that an address is forgiven within a few minutes after it stops.
        let count = (left + 1.0).min(FREE + 2.0 * LONGEST.as_secs_f64() / STEP.as_secs_f64());
        addresses.insert(address, Tries { count, at: now });
        STEP.mul_f64((count - FREE).max(0.0)).min(LONGEST)
    }
}

impl Tries {
    fn left(&self, now: Instant) -> f64 {
        (self.count - FORGIVEN * now.saturating_duration_since(self.at).as_secs_f64()).max(0.0)
    }
}

/// For IPv6 the whole network is counted, since one caller can use all of its addresses.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn many_wrong_keys_from_one_address_are_slowed_and_forgiven() {
        let keys = WrongKeys::default();
        let start = Instant::now();
        let waits: Vec<_> = (0..200).map(|_| keys.wait(address(1), start)).collect();
        assert!(waits[..10].iter().all(Duration::is_zero));
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!((waits[10], waits[199]), (STEP, LONGEST));
        assert!(keys.wait(address(2), start).is_zero(), "another address");
        let later = start + Duration::from_secs(300);
        assert!(keys.wait(address(1), later).is_zero());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let keys = WrongKeys::default();
        let now = Instant::now();
        let waits =
            (0..20_u16).map(|n| keys.wait(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n).into(), now));
        assert!(!waits.last().expect("twenty").is_zero());
        assert!(keys.wait(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1).into(), now).is_zero());
    }

    #[test]
    fn the_table_of_addresses_is_bounded() {
        let keys = WrongKeys::default();
        let now = Instant::now();
        for n in 0..3 * MOST as u32 {
            keys.wait(address(n), now);
            assert!(keys.0.lock().expect("unpoisoned").len() <= MOST);
        }
    }
}
