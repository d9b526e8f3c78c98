//! Whose turn it is: pure, and the same for every database.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;

use super::{Bounds, Claim, Class, Closed, Job, Room, Rooms, StoreError, Trust, document};
use crate::{
    config::Rate,
    model::{breaker::Tally, event::Event},
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
    /// Only its end has to be written.
    #[sqlx(default)]
    pub is_over: bool,
    #[sqlx(skip)]
    pub tally: Tally,
}

impl Candidate {
    /// What is handed out of it, with its note's document and what was learned about the recipient.
    pub fn claim(
        &self,
        doc: &str,
        learned: Option<&str>,
        closed: Option<Closed>,
        event: Option<Event>,
    ) -> Result<Claim, StoreError> {
        let class = Class::of(&self.connection);
        let job = match (self.kind.as_str(), event) {
            ("tell", Some(event)) => Job::Tell(Box::new(event)),
            ("overdue", _) => Job::Overdue,
            ("look_up", _) => Job::LookUp,
            _ if class == Class::Fetch => Job::Fetch,
            _ => Job::Send,
        };
        let interrupted = self.state == "sending";
        Ok(Claim {
            delivery: self.id,
            fence: self.fence,
            job,
            connection: self.connection.clone(),
            queued_at: Timestamp::from_millisecond(self.queued_at).unwrap_or(Timestamp::UNIX_EPOCH),
            tries: self.tries.try_into().unwrap_or(u32::MAX),
            interrupted,
            expired: self.is_over && !interrupted,
            class: if self.is_over { Class::End } else { class },
            tally: self.tally,
            note: document::read("note", doc)?,
            // What was learned can be learned again.
            learned: learned.and_then(|value| document::read("learned", value).ok()),
            closed,
        })
    }
}

/// Reads the two columns that say whether a connection may open conversations.
pub fn closed(until: Option<i64>, why: Option<String>) -> Option<Closed> {
    let until = Timestamp::from_millisecond(until?).ok()?;
    Some(Closed { until, why: why.unwrap_or_default() })
}

/// What is known of a connection when it is looked at the queue.
#[derive(Clone, Debug)]
pub struct Standing {
    pub connection: String,
    pub under_way: usize,
    /// Where something is due and no pause is in its way.
    pub due: Option<Due>,
}

#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Of the first one, in milliseconds.
    pub since: i64,
    pub tally: Tally,
}

impl Due {
    /// As the database has it.
    pub fn of_row(since: i64, failures: i64, failures_ever: i64) -> Self {
        let tally = Tally {
            in_a_row: failures.try_into().unwrap_or(u32::MAX),
            ever: failures_ever.try_into().unwrap_or_default(),
        };
        Self { since, tally }
    }
}

/// A connection that may send something now.
pub struct Turn {
    pub connection: String,
    pub rate: Option<Rate>,
    pub tally: Tally,
    /// For how many deliveries.
    pub room: usize,
    /// The first of what is due, as the store found it.
    pub due: VecDeque<Candidate>,
    class: Class,
    trust: Trust,
    since: i64,
    under_way: usize,
    of_tenant: UnderWay,
}

/// How much a tenant has under way in one class, over all its connections.
#[derive(Clone, Copy, Debug, Default)]
struct UnderWay {
    all: usize,
    /// Of that with servers that are not known to answer.
    suspects: usize,
}

/// Whose connection it is.
pub fn tenant_of(connection: &str) -> &str {
    connection.split('/').next().unwrap_or_default()
}

/// A tenant has little under way with fewer than this.
const LITTLE: usize = 4;

/// How much a tenant may have under way with servers that were never asked, and with those that hung: enough to find
/// out whether they answer, and so little that a crowd of tenants with such servers leaves places to others.
const WITH_NEW: usize = 4;
const WITH_HUNG: usize = 2;

impl Trust {
    /// Whether another place may go to such a server.
    fn allows(self, of_tenant: UnderWay, suspects_left: usize) -> bool {
        match self {
            Self::Answers => true,
            Self::New => suspects_left > 0 && of_tenant.suspects < WITH_NEW,
            Self::Hung => suspects_left > 0 && of_tenant.suspects < WITH_HUNG,
        }
    }
}

/// Connections whose `concurrency` leaves them room.
pub fn turns(standings: Vec<Standing>, bounds: &dyn Fn(&str) -> Bounds) -> Vec<Turn> {
    let mut of_tenants: HashMap<(String, usize), UnderWay> = HashMap::new();
    let key = |connection: &str| (tenant_of(connection).to_owned(), Class::of(connection) as usize);
    let standings: Vec<(Standing, Bounds)> = standings
        .into_iter()
        .map(|standing| {
            let bounds = bounds(&standing.connection);
            let of_tenant = of_tenants.entry(key(&standing.connection)).or_default();
            of_tenant.all += standing.under_way;
            of_tenant.suspects += if bounds.trust == Trust::Answers { 0 } else { standing.under_way };
            (standing, bounds)
        })
        .collect();
    let turns = standings.into_iter().filter_map(|(Standing { connection, under_way, due }, bounds)| {
        let Due { since, tally } = due?;
        let Bounds { concurrency, rate, trust } = bounds;
        // One attempt is enough to see whether a connection that failed works again.
        let room = if tally.is_open() { 1 } else { concurrency }.saturating_sub(under_way);
        let (class, of_tenant) = (Class::of(&connection), of_tenants[&key(&connection)]);
        Some(Turn {
            connection,
            rate,
            tally,
            room,
            due: VecDeque::new(),
            class,
            trust,
            since,
            under_way,
            of_tenant,
        })
    });
    turns.filter(|turn| turn.room > 0).collect()
}

/// Leaves the connections that can get one of the free places, the least busy first, and lowers their room to several
/// times their share, in case the others have less. So what is read of the queue depends on the places that are free and
/// not on how many connections there are.
pub fn cut(turns: &mut Vec<Turn>, rooms: &Rooms) {
    let mut kept = Vec::new();
    for class in Class::ALL {
        let mut of_class: Vec<Turn> = turns.extract_if(.., |turn| turn.class == class).collect();
        cut_class(&mut of_class, rooms.of(class));
        kept.append(&mut of_class);
    }
    *turns = kept;
}

fn cut_class(turns: &mut Vec<Turn>, Room { limit, reserved, suspects }: Room) {
    const SHARES: usize = 4;
    turns.retain(|turn| turn.room > 0 && turn.trust.allows(turn.of_tenant, suspects));
    turns.sort_by(|a, b| (a.under_way, a.since, &a.connection).cmp(&(b.under_way, b.since, &b.connection)));
    let mut of_tenants: HashMap<String, usize> = HashMap::new();
    turns.retain(|turn| {
        let places = if turn.of_tenant.all < LITTLE { limit } else { limit.saturating_sub(reserved) };
        let kept = of_tenants.entry(tenant_of(&turn.connection).to_owned()).or_default();
        let keep = *kept < places;
        *kept += usize::from(keep);
        keep
    });
    for turn in turns {
        let of_tenant = of_tenants[tenant_of(&turn.connection)];
        turn.room = turn.room.min(limit).min((limit * SHARES).div_ceil(of_tenant));
    }
}

/// Gives each place to the tenant that has fewest under way, and within a tenant to the connection that has. The last
/// `reserved` places are for tenants that have little under way, and no more than `suspects` go to servers that are not
/// known to answer. Every class by itself.
pub fn fair_share(mut turns: Vec<Turn>, rooms: &Rooms) -> Vec<Candidate> {
    let mut share = Vec::new();
    for class in Class::ALL {
        let of_class = turns.extract_if(.., |turn| turn.class == class).collect();
        share.append(&mut share_class(of_class, rooms.of(class)));
    }
    share
}

fn share_class(turns: Vec<Turn>, Room { limit, reserved, mut suspects }: Room) -> Vec<Candidate> {
    let mut tenants: BTreeMap<String, (UnderWay, Vec<Turn>)> = BTreeMap::new();
    for turn in turns {
        let tenant = tenant_of(&turn.connection).to_owned();
        tenants.entry(tenant).or_insert_with(|| (turn.of_tenant, Vec::new())).1.push(turn);
    }
    let mut share = Vec::new();
    while share.len() < limit {
        for (under_way, turns) in tenants.values_mut() {
            turns.retain(|turn| !turn.due.is_empty() && turn.trust.allows(*under_way, suspects));
        }
        tenants.retain(|_, (_, turns)| !turns.is_empty());
        let Some((under_way, turns)) = tenants.values_mut().min_by_key(|(under_way, _)| under_way.all) else {
            break;
        };
        if under_way.all >= LITTLE && share.len() + reserved >= limit {
            break;
        }
        let first = |turn: &Turn| turn.due.front().map(|candidate| (candidate.due_at, candidate.id));
        let Some(turn) = turns.iter_mut().min_by_key(|turn| (turn.under_way, first(turn))) else { break };
        share.extend(turn.due.pop_front());
        turn.under_way += 1;
        under_way.all += 1;
        if turn.trust != Trust::Answers {
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

    fn standing(connection: &str, under_way: usize, since: i64) -> Standing {
        let due = Some(Due { since, tally: Tally::default() });
        Standing { connection: connection.to_owned(), under_way, due }
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

    /// Which connections get the places, where each has as much as it is asked for.
    fn places(standings: Vec<Standing>, room: usize, reserved: usize) -> Vec<String> {
        shared(standings, NO_BOUNDS, &Rooms::each(room, reserved))
    }

    fn shared(standings: Vec<Standing>, bounds: &dyn Fn(&str) -> Bounds, rooms: &Rooms) -> Vec<String> {
        let mut turns = turns(standings, bounds);
        cut(&mut turns, rooms);
        for (number, turn) in turns.iter_mut().enumerate() {
            let number = i64::try_from(number).expect("few");
            let ids = (0..).map(|n| number + n * 1000);
            turn.due = ids
                .zip(iter::repeat(&turn.connection))
                .map(|(id, name)| candidate(name, id))
                .take(turn.room)
                .collect();
        }
        fair_share(turns, rooms).into_iter().map(|candidate| candidate.connection).collect()
    }

    #[test]
    fn a_free_place_goes_to_the_connection_that_has_least_under_way() {
        let standings = vec![standing("acme/a", 3, 1), standing("acme/b", 0, 7), standing("acme/c", 1, 5)];
        assert_eq!(places(standings.clone(), 1, 0), ["acme/b"]);
        let four = places(standings, 4, 0);
        assert_eq!(four.iter().filter(|name| *name == "acme/b").count(), 2, "{four:?}");
        assert_eq!(four.iter().filter(|name| *name == "acme/c").count(), 2, "{four:?}");
    }

    #[test]
    fn of_equals_the_one_that_waits_longest_is_first() {
        let standings = vec![standing("acme/a", 0, 9), standing("acme/b", 0, 3), standing("acme/c", 0, 6)];
        assert_eq!(places(standings, 2, 0), ["acme/b", "acme/c"]);
    }

    #[test]
    fn no_more_connections_are_read_than_there_are_places() {
        let many = (0..200).map(|number| standing(&format!("acme/{number}"), 0, number)).collect();
        let mut turns = turns(many, NO_BOUNDS);
        cut(&mut turns, &Rooms::each(9, 8));
        assert_eq!(turns.len(), 9);
        assert!(turns.iter().all(|turn| turn.room == 4));
    }

    #[test]
    fn reserved_places_are_not_for_whom_has_much_under_way() {
        let busy = standing("acme/a", LITTLE, 1);
        assert_eq!(places(vec![busy.clone()], 8, 8), [""; 0]);
        assert_eq!(places(vec![busy.clone()], 9, 8), ["acme/a"]);
        assert_eq!(places(vec![busy, standing("bob/b", 0, 2)], 8, 8), ["bob/b"; 4]);
    }

    #[test]
    fn a_connection_gets_no_more_than_its_room() {
        let two = &|_: &str| Bounds::of(2, None);
        let mut turns = turns(vec![standing("acme/a", 1, 1), standing("acme/b", 2, 1)], two);
        cut(&mut turns, &Rooms::each(10, 0));
        assert_eq!(
            turns.iter().map(|turn| (turn.connection.as_str(), turn.room)).collect::<Vec<_>>(),
            [("acme/a", 1)]
        );
    }

    /// Every server of `trust`, with as much room as there is.
    fn all(trust: Trust) -> impl Fn(&str) -> Bounds {
        move |_| Bounds { trust, ..Bounds::of(100, None) }
    }

    #[test]
    fn classes_do_not_wait_for_each_other() {
        let standings = vec![
            standing("acme/a", 0, 1),
            standing("acme/#events", 0, 1),
            standing("acme/#fetch.07", 0, 1),
            standing("acme/#watch.a", 0, 1),
        ];
        let rooms = Rooms::new(|class| {
            let limit = if class == Class::Send { 2 } else { 0 };
            Room { limit, reserved: 0, suspects: limit }
        });
        assert_eq!(shared(standings.clone(), NO_BOUNDS, &rooms), ["acme/a"; 2]);
        let mut each = shared(standings, NO_BOUNDS, &Rooms::each(1, 0));
        each.sort();
        assert_eq!(each, ["acme/#events", "acme/#fetch.07", "acme/#watch.a", "acme/a"]);
    }

    #[test]
    fn what_hangs_in_one_class_takes_no_share_in_another() {
        let standings = vec![
            Standing { due: None, ..standing("acme/#events", 40, 0) },
            standing("acme/a", 0, 1),
            standing("bob/a", 1, 1),
        ];
        assert_eq!(places(standings, 1, 0), ["acme/a"]);
    }

    #[test]
    fn a_tenant_has_few_places_with_servers_that_are_not_known_to_answer() {
        let hosts = || (0..20).map(|host| standing(&format!("acme/#fetch.{host:02}"), 0, host)).collect();
        let rooms = Rooms::each(100, 0);
        assert_eq!(shared(hosts(), &all(Trust::New), &rooms).len(), WITH_NEW);
        assert_eq!(shared(hosts(), &all(Trust::Hung), &rooms).len(), WITH_HUNG);
        assert_eq!(shared(hosts(), &all(Trust::Answers), &rooms).len(), 100);
    }

    #[test]
    fn servers_that_hang_leave_the_last_places_to_those_that_answer() {
        let mut standings: Vec<_> =
            (0..80).map(|number| standing(&format!("t{number}/#events"), 0, 1)).collect();
        standings.push(standing("good/#events", 0, 100));
        let bounds = |connection: &str| match connection {
            "good/#events" => Bounds::of(8, None),
            _ => Bounds { trust: Trust::Hung, ..Bounds::of(1, None) },
        };
        let rooms = Rooms::new(|_| Room { limit: 20, reserved: 0, suspects: 15 });
        let share = shared(standings, &bounds, &rooms);
        assert_eq!(share.iter().filter(|name| *name == "good/#events").count(), 5, "{share:?}");
        assert_eq!(share.len(), 20);
    }

    #[test]
    fn a_class_is_told_by_the_name_of_the_connection() {
        for (name, class) in [
            ("a/imessage", Class::Send),
            ("a/#fetch.31", Class::Fetch),
            ("a/#events", Class::Tell),
            ("a/#watch", Class::Watch),
            ("a/#watch.imessage", Class::Watch),
            ("a/#watchman", Class::Send),
        ] {
            assert_eq!(Class::of(name), class, "{name}");
        }
    }
}
