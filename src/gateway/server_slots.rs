//! Concurrency slots for servers that tenants chose: few until a server has answered, fewer after it hung, and all of
//! them once it answers again. These are the rules for one process; `store/share.rs` applies them in a claim.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::store::{Bounds, Class, FreeSlots, Responsiveness};

/// Slots for downloads, webhooks, look-ups and received notes, as a multiple of `delivery.in_flight`. They spend nearly all of their
/// time waiting for other servers.
const SLOT_FACTOR: usize = 3;

/// Slots beyond the limit of a class, for tenants with little in flight, so that their occasional notes do not wait
/// behind a busy tenant.
const RESERVED: usize = 8;

/// Number of ends that are written at the same time. They wait for the database only.
const END_SLOTS: usize = 64;

/// One in this many slots of a class is kept for servers that answer.
const KEPT_SHARE: usize = 4;

/// Number of halvings for a server that has not been asked yet.
const INITIAL_HALVINGS: u32 = 2;

/// Upper limit of halvings, which leaves one slot of any number.
const MAX_HALVINGS: u32 = 16;

/// Behaviour of servers by `TENANT/CONNECTION`. Each tenant has its own record of a server, so that no tenant can
/// affect others.
#[derive(Debug, Default)]
pub struct ServerSlots(Mutex<HashMap<String, Server>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Server {
    halvings: u32,
    responsiveness: Responsiveness,
}

impl Server {
    /// State before the first call. Connections are chosen by the operator, other servers by tenants.
    fn first(class: Class) -> Self {
        match class {
            Class::Fetch | Class::Webhook => {
                Self { halvings: INITIAL_HALVINGS, responsiveness: Responsiveness::Untried }
            }
            Class::Send | Class::Watch | Class::Inbound | Class::End => {
                Self { halvings: 0, responsiveness: Responsiveness::Answers }
            }
        }
    }

    fn after(self, hung: bool) -> Self {
        if hung {
            Self { halvings: (self.halvings + 1).min(MAX_HALVINGS), responsiveness: Responsiveness::Hung }
        } else {
            Self { halvings: self.halvings.saturating_sub(1), responsiveness: Responsiveness::Answers }
        }
    }
}

/// Whether a server hung, by the time of a call and its limit. A call that ends just in time blocks a slot as well.
pub fn hung(took: Duration, limit: Duration) -> bool {
    took >= limit / 2
}

impl ServerSlots {
    /// Records the end of a call, or that it took all of its time.
    pub fn record(&self, connection: &str, hung: bool) {
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
            tracing::debug!(connection, "a server hung and gets fewer slots");
        }
    }

    /// Reduces the configured limits according to the record of the server.
    pub fn narrow(&self, connection: &str, bounds: Bounds) -> Bounds {
        let servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = servers.get(connection).copied().unwrap_or_else(|| Server::first(Class::of(connection)));
        Bounds {
            concurrency: (bounds.concurrency >> known.halvings).max(1),
            responsiveness: known.responsiveness,
            ..bounds
        }
    }

    /// Whether the server is not known to answer.
    fn suspects(&self, connection: &str) -> bool {
        self.narrow(connection, Bounds::of(1, None)).responsiveness != Responsiveness::Answers
    }

    /// Free slots of a class in this process, given the connections of the work in flight.
    pub fn room<'a>(
        &self,
        class: Class,
        in_flight: usize,
        under_way: impl Iterator<Item = &'a str>,
    ) -> FreeSlots {
        let under_way: Vec<&str> = under_way.collect();
        let (most, reserved) = match class {
            Class::Send => (in_flight + RESERVED, RESERVED),
            Class::Fetch | Class::Webhook | Class::Watch | Class::Inbound => {
                (in_flight * SLOT_FACTOR + RESERVED, RESERVED)
            }
            Class::End => (END_SLOTS, 0),
        };
        let suspects = under_way.iter().filter(|connection| self.suspects(connection)).count();
        let limit = most.saturating_sub(under_way.len());
        let kept = most / KEPT_SHARE;
        FreeSlots { limit, reserved, suspects: (most - kept).saturating_sub(suspects).min(limit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOK: &str = "acme/#events";

    fn of(slots: &ServerSlots, connection: &str) -> (usize, Responsiveness) {
        let bounds = slots.narrow(connection, Bounds::of(8, None));
        (bounds.concurrency, bounds.responsiveness)
    }

    #[test]
    fn new_server_earns_its_slots_by_answering() {
        let slots = ServerSlots::default();
        assert_eq!(of(&slots, HOOK), (2, Responsiveness::Untried));
        slots.record(HOOK, false);
        assert_eq!(of(&slots, HOOK), (4, Responsiveness::Answers));
        slots.record(HOOK, false);
        assert_eq!(of(&slots, HOOK), (8, Responsiveness::Answers));
        slots.record(HOOK, false);
        assert_eq!(of(&slots, HOOK), (8, Responsiveness::Answers));
    }

    #[test]
    fn hanging_server_keeps_one_slot_and_affects_no_other() {
        let slots = ServerSlots::default();
        for _ in 0..99 {
            slots.record(HOOK, true);
        }
        assert_eq!(of(&slots, HOOK), (1, Responsiveness::Hung));
        assert_eq!(of(&slots, "bob/#events"), (2, Responsiveness::Untried));
        for _ in 0..99 {
            slots.record(HOOK, false);
        }
        assert_eq!(of(&slots, HOOK), (8, Responsiveness::Answers));
    }

    #[test]
    fn connection_has_all_slots_until_its_provider_hangs() {
        let slots = ServerSlots::default();
        assert_eq!(of(&slots, "acme/imessage"), (8, Responsiveness::Answers));
        slots.record("acme/imessage", true);
        assert_eq!(of(&slots, "acme/imessage"), (4, Responsiveness::Hung));
        slots.record("acme/imessage", false);
        assert_eq!(of(&slots, "acme/imessage"), (8, Responsiveness::Answers));
    }

    #[test]
    fn some_slots_are_kept_for_answering_servers() {
        let slots = ServerSlots::default();
        let hanging: Vec<String> = (0..150).map(|tenant| format!("t{tenant}/#events")).collect();
        hanging.iter().for_each(|connection| slots.record(connection, true));
        let room = slots.room(Class::Webhook, 64, hanging.iter().map(String::as_str));
        assert_eq!((room.limit, room.suspects), (50, 0));
        assert_eq!(slots.room(Class::Fetch, 64, std::iter::empty()).limit, 200, "another class");
    }

    #[test]
    fn call_that_ends_just_in_time_counts_as_hung() {
        let limit = Duration::from_secs(30);
        assert!(!hung(Duration::from_secs(14), limit) && hung(Duration::from_secs(15), limit));
    }
}
