//! How many places a server gets that somebody else chose: few until it has answered, fewer after it hung, and all of
//! them again once it answers. Rules for one process; what a claim makes of them is in `store/share.rs`.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::store::{Bounds, Class, Room, Trust};

/// Places for downloads, webhooks and look-ups, as a multiple of `delivery.in_flight`: nearly all of that is waiting for
/// somebody else's server.
const ASIDE: usize = 3;

/// Places beyond the limit of a class, for tenants with little under way: what they send now and then need not wait
/// until one of those ends that somebody else has so many of.
const RESERVED: usize = 8;

/// Ends that are written at the same time. Nothing is waited for there but the database.
const ENDS: usize = 64;

/// Out of so many places of a class, one is kept for servers that answer.
const KEPT: usize = 4;

/// How often the places of a server were halved before it was asked for the first time.
const FIRST: u32 = 2;

/// As many halvings leave one place of any number.
const MOST: u32 = 16;

/// What is known of servers, by `TENANT/CONNECTION`. A tenant has its own view of a server, so that nobody can make one
/// look bad for others.
#[derive(Debug, Default)]
pub struct Places(Mutex<HashMap<String, Server>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Server {
    halvings: u32,
    trust: Trust,
}

impl Server {
    /// Before anything is known. A connection is the operator's choice, other servers are a stranger's.
    fn first(class: Class) -> Self {
        match class {
            Class::Fetch | Class::Tell => Self { halvings: FIRST, trust: Trust::New },
            Class::Send | Class::Watch | Class::End => Self { halvings: 0, trust: Trust::Answers },
        }
    }

    fn after(self, hung: bool) -> Self {
        if hung {
            Self { halvings: (self.halvings + 1).min(MOST), trust: Trust::Hung }
        } else {
            Self { halvings: self.halvings.saturating_sub(1), trust: Trust::Answers }
        }
    }
}

/// Whether a server that took so long out of a time limit hung: one that answers just in time costs as much.
pub fn hung(took: Duration, limit: Duration) -> bool {
    took >= limit / 2
}

impl Places {
    /// A server ended a call, or kept its place until the time was up.
    pub fn heard(&self, connection: &str, hung: bool) {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = Server::first(Class::of(connection));
        let known = servers.get(connection).copied().unwrap_or(first);
        let now = known.after(hung);
        if now == first {
            servers.remove(connection);
        } else {
            servers.insert(connection.to_owned(), now);
        }
        if hung {
            tracing::debug!(connection, "a server hung and gets fewer places");
        }
    }

    /// What the configuration allows, narrowed by what is known of the server.
    pub fn narrow(&self, connection: &str, bounds: Bounds) -> Bounds {
        let servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = servers.get(connection).copied().unwrap_or_else(|| Server::first(Class::of(connection)));
        Bounds { concurrency: (bounds.concurrency >> known.halvings).max(1), trust: known.trust, ..bounds }
    }

    /// Whether the server is not known to answer.
    fn suspects(&self, connection: &str) -> bool {
        self.narrow(connection, Bounds::of(1, None)).trust != Trust::Answers
    }

    /// The free places of a class beside what this process has under way of it.
    pub fn room<'a>(&self, class: Class, in_flight: usize, under_way: impl Iterator<Item = &'a str>) -> Room {
        let under_way: Vec<&str> = under_way.collect();
        let (most, reserved) = match class {
            Class::Send => (in_flight + RESERVED, RESERVED),
            Class::Fetch | Class::Tell | Class::Watch => (in_flight * ASIDE + RESERVED, RESERVED),
            Class::End => (ENDS, 0),
        };
        let suspects = under_way.iter().filter(|connection| self.suspects(connection)).count();
        let limit = most.saturating_sub(under_way.len());
        let kept = most / KEPT;
        Room { limit, reserved, suspects: (most - kept).saturating_sub(suspects).min(limit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOK: &str = "acme/#events";

    fn of(places: &Places, connection: &str) -> (usize, Trust) {
        let bounds = places.narrow(connection, Bounds::of(8, None));
        (bounds.concurrency, bounds.trust)
    }

    #[test]
    fn a_server_begins_with_few_places_and_gets_all_of_them_by_answering() {
        let places = Places::default();
        assert_eq!(of(&places, HOOK), (2, Trust::New));
        places.heard(HOOK, false);
        assert_eq!(of(&places, HOOK), (4, Trust::Answers));
        places.heard(HOOK, false);
        assert_eq!(of(&places, HOOK), (8, Trust::Answers));
        places.heard(HOOK, false);
        assert_eq!(of(&places, HOOK), (8, Trust::Answers));
    }

    #[test]
    fn a_server_that_hangs_is_left_with_one_place_and_no_other_is() {
        let places = Places::default();
        for _ in 0..99 {
            places.heard(HOOK, true);
        }
        assert_eq!(of(&places, HOOK), (1, Trust::Hung));
        assert_eq!(of(&places, "bob/#events"), (2, Trust::New));
        for _ in 0..99 {
            places.heard(HOOK, false);
        }
        assert_eq!(of(&places, HOOK), (8, Trust::Answers));
    }

    #[test]
    fn a_connection_has_all_its_places_until_its_provider_hangs() {
        let places = Places::default();
        assert_eq!(of(&places, "acme/imessage"), (8, Trust::Answers));
        places.heard("acme/imessage", true);
        assert_eq!(of(&places, "acme/imessage"), (4, Trust::Hung));
        places.heard("acme/imessage", false);
        assert_eq!(of(&places, "acme/imessage"), (8, Trust::Answers));
    }

    #[test]
    fn some_places_are_kept_for_servers_that_answer() {
        let places = Places::default();
        let hanging: Vec<String> = (0..150).map(|tenant| format!("t{tenant}/#events")).collect();
        hanging.iter().for_each(|connection| places.heard(connection, true));
        let room = places.room(Class::Tell, 64, hanging.iter().map(String::as_str));
        assert_eq!((room.limit, room.suspects), (50, 0));
        assert_eq!(places.room(Class::Fetch, 64, std::iter::empty()).limit, 200, "another class");
    }

    #[test]
    fn a_call_that_ends_just_in_time_hung_like_one_that_does_not() {
        let limit = Duration::from_secs(30);
        assert!(!hung(Duration::from_secs(14), limit) && hung(Duration::from_secs(15), limit));
    }
}
