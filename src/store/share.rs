//! Whose turn it is: pure, and the same for every database.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;

use super::{Bounds, Claim, Job};
use crate::{breaker, config::Rate, event::Event};

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
    /// Of the connection, in a row.
    #[sqlx(default)]
    pub failures: i64,
}

impl Candidate {
    /// What is handed out of it, with its note's document and what was learned about the recipient.
    pub fn claim(
        &self,
        doc: &str,
        learned: Option<&str>,
        event: Option<Event>,
    ) -> Result<Claim, serde_json::Error> {
        let job = match (self.kind.as_str(), event) {
            ("tell", Some(event)) => Job::Tell(Box::new(event)),
            ("overdue", _) => Job::Overdue,
            ("look_up", _) => Job::LookUp,
            _ => Job::Send,
        };
        Ok(Claim {
            delivery: self.id,
            fence: self.fence,
            job,
            queued_at: Timestamp::from_millisecond(self.queued_at).unwrap_or(Timestamp::UNIX_EPOCH),
            tries: self.tries.try_into().unwrap_or(u32::MAX),
            interrupted: self.state == "sending",
            failures: self.failures.try_into().unwrap_or(u32::MAX),
            note: serde_json::from_str(doc)?,
            learned: learned.map(serde_json::from_str).transpose()?,
        })
    }
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
    /// In a row.
    pub failures: i64,
}

/// A connection that may send something now.
pub struct Turn {
    pub connection: String,
    pub rate: Option<Rate>,
    pub failures: i64,
    /// For how many deliveries.
    pub room: usize,
    /// The first of what is due, as the store found it.
    pub due: VecDeque<Candidate>,
    since: i64,
    under_way: usize,
    /// Over all its connections.
    under_way_of_tenant: usize,
}

/// Whose connection it is.
pub fn tenant_of(connection: &str) -> &str {
    connection.split('/').next().unwrap_or_default()
}

/// A tenant has little under way with fewer than this.
const LITTLE: usize = 4;

/// Connections whose `concurrency` leaves them room.
pub fn turns(standings: Vec<Standing>, bounds: &dyn Fn(&str) -> Bounds) -> Vec<Turn> {
    let mut of_tenants: HashMap<String, usize> = HashMap::new();
    for standing in &standings {
        *of_tenants.entry(tenant_of(&standing.connection).to_owned()).or_default() += standing.under_way;
    }
    let turns = standings.into_iter().filter_map(|Standing { connection, under_way, due }| {
        let Due { since, failures } = due?;
        let Bounds { concurrency, rate } = bounds(&connection);
        // One attempt is enough to see whether a connection that failed works again.
        let open = breaker::is_open(failures.try_into().unwrap_or(u32::MAX));
        let room = if open { 1 } else { concurrency }.saturating_sub(under_way);
        let under_way_of_tenant = of_tenants[tenant_of(&connection)];
        let due = VecDeque::new();
        Some(Turn { connection, rate, failures, room, due, since, under_way, under_way_of_tenant })
    });
    turns.filter(|turn| turn.room > 0).collect()
}

/// Leaves the connections that can get one of `room` places, the least busy first, and lowers their room to several
/// times their share, in case the others have less. So what is read of the queue depends on the places that are free and
/// not on how many connections there are.
pub fn cut(turns: &mut Vec<Turn>, room: usize, reserved: usize) {
    const SHARES: usize = 4;
    turns.retain(|turn| turn.room > 0);
    turns.sort_by(|a, b| (a.under_way, a.since, &a.connection).cmp(&(b.under_way, b.since, &b.connection)));
    let mut of_tenants: HashMap<String, usize> = HashMap::new();
    turns.retain(|turn| {
        let places = if turn.under_way_of_tenant < LITTLE { room } else { room.saturating_sub(reserved) };
        let kept = of_tenants.entry(tenant_of(&turn.connection).to_owned()).or_default();
        let keep = *kept < places;
        *kept += usize::from(keep);
        keep
    });
    for turn in turns {
        let of_tenant = of_tenants[tenant_of(&turn.connection)];
        turn.room = turn.room.min(room).min((room * SHARES).div_ceil(of_tenant));
    }
}

/// Gives each place to the tenant that has fewest under way, and within a tenant to the connection that has. The last
/// `reserved` places are for tenants that have little under way.
pub fn fair_share(turns: Vec<Turn>, room: usize, reserved: usize) -> Vec<Candidate> {
    let mut tenants: BTreeMap<String, (usize, Vec<Turn>)> = BTreeMap::new();
    for turn in turns {
        let tenant = tenant_of(&turn.connection).to_owned();
        tenants.entry(tenant).or_insert_with(|| (turn.under_way_of_tenant, Vec::new())).1.push(turn);
    }
    let mut share = Vec::new();
    while share.len() < room {
        for (_, turns) in tenants.values_mut() {
            turns.retain(|turn| !turn.due.is_empty());
        }
        tenants.retain(|_, (_, turns)| !turns.is_empty());
        let Some((under_way, turns)) = tenants.values_mut().min_by_key(|(under_way, _)| *under_way) else {
            break;
        };
        if *under_way >= LITTLE && share.len() + reserved >= room {
            break;
        }
        let first = |turn: &Turn| turn.due.front().map(|candidate| (candidate.due_at, candidate.id));
        let Some(turn) = turns.iter_mut().min_by_key(|turn| (turn.under_way, first(turn))) else { break };
        share.extend(turn.due.pop_front());
        turn.under_way += 1;
        *under_way += 1;
    }
    share
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    const NO_BOUNDS: &dyn Fn(&str) -> Bounds = &|_| Bounds { concurrency: usize::MAX, rate: None };

    fn standing(connection: &str, under_way: usize, since: i64) -> Standing {
        Standing { connection: connection.to_owned(), under_way, due: Some(Due { since, failures: 0 }) }
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
            failures: 0,
        }
    }

    /// Which connections get the places, where each has as much as it is asked for.
    fn places(standings: Vec<Standing>, room: usize, reserved: usize) -> Vec<String> {
        let mut turns = turns(standings, NO_BOUNDS);
        cut(&mut turns, room, reserved);
        for (number, turn) in turns.iter_mut().enumerate() {
            let number = i64::try_from(number).expect("few");
            let ids = (0..).map(|n| number + n * 1000);
            turn.due = ids
                .zip(iter::repeat(&turn.connection))
                .map(|(id, name)| candidate(name, id))
                .take(turn.room)
                .collect();
        }
        fair_share(turns, room, reserved).into_iter().map(|candidate| candidate.connection).collect()
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
        cut(&mut turns, 9, 8);
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
        let two = &|_: &str| Bounds { concurrency: 2, rate: None };
        let mut turns = turns(vec![standing("acme/a", 1, 1), standing("acme/b", 2, 1)], two);
        cut(&mut turns, 10, 0);
        assert_eq!(
            turns.iter().map(|turn| (turn.connection.as_str(), turn.room)).collect::<Vec<_>>(),
            [("acme/a", 1)]
        );
    }
}
