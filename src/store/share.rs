//! The fair division of free slots among tenants and connections. It is pure, and both databases use it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;

use super::{
    Bounds, Claim, Class, Closed, FreeSlots, Job, NewAudio, ReceivedClaim, ReceivedJob, Responsiveness,
    SlotsByClass, StoreError, document, types::Leased,
};
use crate::{
    config::Rate,
    model::{breaker::Tally, event::Event, id::SubjectId},
};

/// A delivery that may be leased.
#[derive(sqlx::FromRow)]
pub struct Candidate {
    pub id: i64,
    pub kind: String,
    pub note_id: String,
    pub event: Option<i64>,
    pub connection: String,
    pub lane: String,
    pub state: String,
    pub queued_at: i64,
    pub due_at: i64,
    pub fence: i64,
    pub tries: i64,
    /// Whether only the final status has to be written.
    #[sqlx(default)]
    pub is_over: bool,
    #[sqlx(skip)]
    pub tally: Tally,
}

impl Candidate {
    /// Builds the claim, given the document of the note or received note and the learned facts about the recipient.
    pub fn claim(
        &self,
        doc: &str,
        learned: Option<&str>,
        closed: Option<Closed>,
        event: Option<Event>,
    ) -> Result<Leased, StoreError> {
        let class = Class::of(&self.connection);
        if matches!(self.note_id.parse(), Ok(SubjectId::Received(_))) {
            return Ok(Leased::Received(Box::new(self.received_claim(class, doc, event)?)));
        }
        let job = match (self.kind.as_str(), event) {
            ("tell", Some(event)) => Job::Webhook(Box::new(event)),
            ("overdue", _) => Job::Overdue,
            ("look_up", _) => Job::LookUp,
            _ if class == Class::Fetch => Job::Fetch,
            _ => Job::Send,
        };
        let interrupted = self.state == "sending";
        Ok(Leased::Note(Box::new(Claim {
            delivery: self.id,
            fence: self.fence,
            job,
            connection: self.connection.clone(),
            queued_at: self.queued_at(),
            tries: self.tries.try_into().unwrap_or(u32::MAX),
            interrupted,
            expired: self.is_over && !interrupted,
            class: if self.is_over { Class::End } else { class },
            tally: self.tally,
            note: document::read("note", doc)?,
            audio: NewAudio::default(),
            // Unreadable facts can be learned again.
            learned: learned.and_then(|value| document::read("learned", value).ok()),
            closed,
        })))
    }

    fn received_claim(
        &self,
        class: Class,
        doc: &str,
        event: Option<Event>,
    ) -> Result<ReceivedClaim, StoreError> {
        Ok(ReceivedClaim {
            delivery: self.id,
            fence: self.fence,
            job: match (self.kind.as_str(), event) {
                (_, Some(event)) => ReceivedJob::Webhook(Box::new(event)),
                ("transcribe", None) => ReceivedJob::Transcribe,
                (_, None) => ReceivedJob::Receive,
            },
            connection: self.connection.clone(),
            queued_at: self.queued_at(),
            tries: self.tries.try_into().unwrap_or(u32::MAX),
            expired: self.is_over,
            class: if self.is_over { Class::End } else { class },
            tally: self.tally,
            received: document::read("received", doc)?,
        })
    }

    fn queued_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.queued_at).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Reads the two columns that say whether a connection may open conversations.
pub fn closed(until: Option<i64>, why: Option<String>) -> Option<Closed> {
    let until = Timestamp::from_millisecond(until?).ok()?;
    Some(Closed { until, why: why.unwrap_or_default() })
}

/// The state of a connection at the time of a claim.
#[derive(Clone, Debug)]
pub struct ConnectionLoad {
    pub connection: String,
    pub under_way: usize,
    /// Set if a delivery is due and the connection is not paused.
    pub due: Option<Due>,
}

#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Due time of the first delivery, in milliseconds.
    pub since: i64,
    pub tally: Tally,
}

impl Due {
    /// Converts the columns of the database.
    pub fn of_row(since: i64, failures: i64, failures_ever: i64) -> Self {
        let tally = Tally {
            in_a_row: failures.try_into().unwrap_or(u32::MAX),
            ever: failures_ever.try_into().unwrap_or_default(),
        };
        Self { since, tally }
    }
}

/// A connection that may send now.
pub struct ReadyConnection {
    pub connection: String,
    pub rate: Option<Rate>,
    pub tally: Tally,
    /// Number of deliveries that it may start.
    pub room: usize,
    /// The first due deliveries, as the store found them.
    pub due: VecDeque<Candidate>,
    class: Class,
    responsiveness: Responsiveness,
    since: i64,
    under_way: usize,
    of_tenant: UnderWay,
}

/// Number of jobs that a tenant has in flight in one class, over all its connections.
#[derive(Clone, Copy, Debug, Default)]
struct UnderWay {
    all: usize,
    /// Number of these with servers that are not known to answer.
    suspects: usize,
}

/// The tenant of a connection key.
pub fn tenant_of(connection: &str) -> &str {
    connection.split('/').next().unwrap_or_default()
}

/// A tenant with fewer jobs in flight than this may use the reserved slots.
const LITTLE: usize = 4;

/// Maximum number of jobs in flight of one tenant with servers that were never tried, and with those that hung: enough
/// to find out whether they answer, and few enough that many such tenants leave slots to others.
const WITH_NEW: usize = 4;
const WITH_HUNG: usize = 2;

impl Responsiveness {
    /// Whether another slot may go to such a server.
    fn allows(self, of_tenant: UnderWay, suspects_left: usize) -> bool {
        match self {
            Self::Answers => true,
            Self::Untried => suspects_left > 0 && of_tenant.suspects < WITH_NEW,
            Self::Hung => suspects_left > 0 && of_tenant.suspects < WITH_HUNG,
        }
    }
}

/// Selects the connections whose `concurrency` allows another delivery.
pub fn connections_with_slots(
    loads: Vec<ConnectionLoad>,
    bounds: &dyn Fn(&str) -> Bounds,
) -> Vec<ReadyConnection> {
    let mut of_tenants: HashMap<(String, usize), UnderWay> = HashMap::new();
    let key = |connection: &str| (tenant_of(connection).to_owned(), Class::of(connection) as usize);
    let loads: Vec<(ConnectionLoad, Bounds)> = loads
        .into_iter()
        .map(|load| {
            let bounds = bounds(&load.connection);
            let of_tenant = of_tenants.entry(key(&load.connection)).or_default();
            of_tenant.all += load.under_way;
            of_tenant.suspects +=
                if bounds.responsiveness == Responsiveness::Answers { 0 } else { load.under_way };
            (load, bounds)
        })
        .collect();
    let ready = loads.into_iter().filter_map(|(ConnectionLoad { connection, under_way, due }, bounds)| {
        let Due { since, tally } = due?;
        let Bounds { concurrency, rate, responsiveness } = bounds;
        // One attempt is enough to find out whether a failed connection works again.
        let room = if tally.is_open() { 1 } else { concurrency }.saturating_sub(under_way);
        let (class, of_tenant) = (Class::of(&connection), of_tenants[&key(&connection)]);
        Some(ReadyConnection {
            connection,
            rate,
            tally,
            room,
            due: VecDeque::new(),
            class,
            responsiveness,
            since,
            under_way,
            of_tenant,
        })
    });
    ready.filter(|entry| entry.room > 0).collect()
}

/// Keeps the connections that can get one of the free slots, the least busy first, and lowers their room to a few times
/// their share, in case the others have less. The amount read from the queue then depends on the free slots and not on
/// the number of connections.
pub fn cut(ready: &mut Vec<ReadyConnection>, slots: &SlotsByClass) {
    let mut kept = Vec::new();
    for class in Class::ALL {
        let mut of_class: Vec<ReadyConnection> = ready.extract_if(.., |entry| entry.class == class).collect();
        cut_class(&mut of_class, slots.of(class));
        kept.append(&mut of_class);
    }
    *ready = kept;
}

fn cut_class(ready: &mut Vec<ReadyConnection>, FreeSlots { limit, reserved, suspects }: FreeSlots) {
    const SHARES: usize = 4;
    ready.retain(|entry| entry.room > 0 && entry.responsiveness.allows(entry.of_tenant, suspects));
    ready.sort_by(|a, b| (a.under_way, a.since, &a.connection).cmp(&(b.under_way, b.since, &b.connection)));
    let mut of_tenants: HashMap<String, usize> = HashMap::new();
    ready.retain(|entry| {
        let places = if entry.of_tenant.all < LITTLE { limit } else { limit.saturating_sub(reserved) };
        let kept = of_tenants.entry(tenant_of(&entry.connection).to_owned()).or_default();
        let keep = *kept < places;
        *kept += usize::from(keep);
        keep
    });
    for entry in ready {
        let of_tenant = of_tenants[tenant_of(&entry.connection)];
        entry.room = entry.room.min(limit).min((limit * SHARES).div_ceil(of_tenant));
    }
}

/// Gives each slot to the tenant with the fewest jobs in flight, and within a tenant to its least busy connection. The
/// last `reserved` slots are for tenants with few jobs in flight, and at most `suspects` go to servers that are not
/// known to answer. Each class is divided separately.
pub fn fair_share(mut ready: Vec<ReadyConnection>, slots: &SlotsByClass) -> Vec<Candidate> {
    let mut share = Vec::new();
    for class in Class::ALL {
        let of_class = ready.extract_if(.., |entry| entry.class == class).collect();
        share.append(&mut share_class(of_class, slots.of(class)));
    }
    share
}

fn share_class(
    ready: Vec<ReadyConnection>,
    FreeSlots { limit, reserved, mut suspects }: FreeSlots,
) -> Vec<Candidate> {
    let mut tenants: BTreeMap<String, (UnderWay, Vec<ReadyConnection>)> = BTreeMap::new();
    for entry in ready {
        let tenant = tenant_of(&entry.connection).to_owned();
        tenants.entry(tenant).or_insert_with(|| (entry.of_tenant, Vec::new())).1.push(entry);
    }
    let mut share = Vec::new();
    while share.len() < limit {
        for (under_way, ready) in tenants.values_mut() {
            ready.retain(|entry| !entry.due.is_empty() && entry.responsiveness.allows(*under_way, suspects));
        }
        tenants.retain(|_, (_, ready)| !ready.is_empty());
        let Some((under_way, ready)) = tenants.values_mut().min_by_key(|(under_way, _)| under_way.all) else {
            break;
        };
        if under_way.all >= LITTLE && share.len() + reserved >= limit {
            break;
        }
        let first =
            |entry: &ReadyConnection| entry.due.front().map(|candidate| (candidate.due_at, candidate.id));
        let Some(entry) = ready.iter_mut().min_by_key(|entry| (entry.under_way, first(entry))) else { break };
        share.extend(entry.due.pop_front());
        entry.under_way += 1;
        under_way.all += 1;
        if entry.responsiveness != Responsiveness::Answers {
            under_way.suspects += 1;
            suspects -= 1;
        }
    }
    share
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    const NO_BOUNDS: &dyn Fn(&str) -> Bounds = &|_| Bounds::of(usize::MAX, None);

    fn load(connection: &str, under_way: usize, since: i64) -> ConnectionLoad {
        let due = Some(Due { since, tally: Tally::default() });
        ConnectionLoad { connection: connection.to_owned(), under_way, due }
    }

    fn candidate(connection: &str, id: i64) -> Candidate {
        let text = String::new;
        Candidate {
            id,
            kind: text(),
            note_id: text(),
            event: None,
            connection: connection.to_owned(),
            lane: text(),
            state: text(),
            queued_at: 0,
            due_at: id,
            fence: 0,
            tries: 0,
            is_over: false,
            tally: Tally::default(),
        }
    }

    /// Connections that get the slots if each has enough deliveries due.
    fn places(loads: Vec<ConnectionLoad>, room: usize, reserved: usize) -> Vec<String> {
        shared(loads, NO_BOUNDS, &SlotsByClass::each(room, reserved))
    }

    fn shared(
        loads: Vec<ConnectionLoad>,
        bounds: &dyn Fn(&str) -> Bounds,
        slots: &SlotsByClass,
    ) -> Vec<String> {
        let mut ready = connections_with_slots(loads, bounds);
        cut(&mut ready, slots);
        for (number, entry) in ready.iter_mut().enumerate() {
            let number = i64::try_from(number).expect("few");
            let ids = (0..).map(|n| number + n * 1000);
            entry.due = ids
                .zip(iter::repeat(&entry.connection))
                .map(|(id, name)| candidate(name, id))
                .take(entry.room)
                .collect();
        }
        fair_share(ready, slots).into_iter().map(|candidate| candidate.connection).collect()
    }

    #[test]
    fn free_slot_goes_to_the_least_busy_connection() {
        let loads = vec![load("acme/a", 3, 1), load("acme/b", 0, 7), load("acme/c", 1, 5)];
        assert_eq!(places(loads.clone(), 1, 0), ["acme/b"]);
        let four = places(loads, 4, 0);
        assert_eq!(four.iter().filter(|name| *name == "acme/b").count(), 2, "{four:?}");
        assert_eq!(four.iter().filter(|name| *name == "acme/c").count(), 2, "{four:?}");
    }

    #[test]
    fn equally_busy_connections_are_ordered_by_waiting_time() {
        let loads = vec![load("acme/a", 0, 9), load("acme/b", 0, 3), load("acme/c", 0, 6)];
        assert_eq!(places(loads, 2, 0), ["acme/b", "acme/c"]);
    }

    #[test]
    fn at_most_one_connection_per_slot_is_read() {
        let many = (0..200).map(|number| load(&format!("acme/{number}"), 0, number)).collect();
        let mut ready = connections_with_slots(many, NO_BOUNDS);
        cut(&mut ready, &SlotsByClass::each(9, 8));
        assert_eq!(ready.len(), 9);
        assert!(ready.iter().all(|entry| entry.room == 4));
    }

    #[test]
    fn busy_tenant_gets_no_reserved_slots() {
        let busy = load("acme/a", LITTLE, 1);
        assert_eq!(places(vec![busy.clone()], 8, 8), [""; 0]);
        assert_eq!(places(vec![busy.clone()], 9, 8), ["acme/a"]);
        assert_eq!(places(vec![busy, load("bob/b", 0, 2)], 8, 8), ["bob/b"; 4]);
    }

    #[test]
    fn connection_gets_no_more_slots_than_its_room() {
        let two = &|_: &str| Bounds::of(2, None);
        let mut ready = connections_with_slots(vec![load("acme/a", 1, 1), load("acme/b", 2, 1)], two);
        cut(&mut ready, &SlotsByClass::each(10, 0));
        assert_eq!(
            ready.iter().map(|entry| (entry.connection.as_str(), entry.room)).collect::<Vec<_>>(),
            [("acme/a", 1)]
        );
    }

    /// Limits of servers that are all alike, with enough room.
    fn all(responsiveness: Responsiveness) -> impl Fn(&str) -> Bounds {
        move |_| Bounds { responsiveness, ..Bounds::of(100, None) }
    }

    #[test]
    fn classes_do_not_wait_for_each_other() {
        let loads = vec![
            load("acme/a", 0, 1),
            load("acme/#events", 0, 1),
            load("acme/#fetch.07", 0, 1),
            load("acme/#watch.a", 0, 1),
            load("acme/#inbound.a", 0, 1),
        ];
        let slots = SlotsByClass::new(|class| {
            let limit = if class == Class::Send { 2 } else { 0 };
            FreeSlots { limit, reserved: 0, suspects: limit }
        });
        assert_eq!(shared(loads.clone(), NO_BOUNDS, &slots), ["acme/a"; 2]);
        let mut each = shared(loads, NO_BOUNDS, &SlotsByClass::each(1, 0));
        each.sort();
        assert_eq!(each, ["acme/#events", "acme/#fetch.07", "acme/#inbound.a", "acme/#watch.a", "acme/a"]);
    }

    #[test]
    fn hanging_jobs_of_one_class_take_no_share_of_another() {
        let loads = vec![
            ConnectionLoad { due: None, ..load("acme/#events", 40, 0) },
            load("acme/a", 0, 1),
            load("bob/a", 1, 1),
        ];
        assert_eq!(places(loads, 1, 0), ["acme/a"]);
    }

    #[test]
    fn tenant_gets_few_slots_for_servers_not_known_to_answer() {
        let hosts = || (0..20).map(|host| load(&format!("acme/#fetch.{host:02}"), 0, host)).collect();
        let slots = SlotsByClass::each(100, 0);
        assert_eq!(shared(hosts(), &all(Responsiveness::Untried), &slots).len(), WITH_NEW);
        assert_eq!(shared(hosts(), &all(Responsiveness::Hung), &slots).len(), WITH_HUNG);
        assert_eq!(shared(hosts(), &all(Responsiveness::Answers), &slots).len(), 100);
    }

    #[test]
    fn hanging_servers_leave_slots_to_responsive_ones() {
        let mut loads: Vec<_> = (0..80).map(|number| load(&format!("t{number}/#events"), 0, 1)).collect();
        loads.push(load("good/#events", 0, 100));
        let bounds = |connection: &str| match connection {
            "good/#events" => Bounds::of(8, None),
            _ => Bounds { responsiveness: Responsiveness::Hung, ..Bounds::of(1, None) },
        };
        let slots = SlotsByClass::new(|_| FreeSlots { limit: 20, reserved: 0, suspects: 15 });
        let share = shared(loads, &bounds, &slots);
        assert_eq!(share.iter().filter(|name| *name == "good/#events").count(), 5, "{share:?}");
        assert_eq!(share.len(), 20);
    }

    #[test]
    fn class_follows_from_the_connection_name() {
        for (name, class) in [
            ("a/imessage", Class::Send),
            ("a/#fetch.31", Class::Fetch),
            ("a/#events", Class::Webhook),
            ("a/#watch", Class::Watch),
            ("a/#watch.imessage", Class::Watch),
            ("a/#watchman", Class::Send),
            ("a/#inbound.whatsapp", Class::Inbound),
        ] {
            assert_eq!(Class::of(name), class, "{name}");
        }
    }
}
