//! Whose turn it is: pure, and the same for every database.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::{Claim, Job};
use crate::event::Event;

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

/// What may go out over one connection.
pub struct Ready {
    pub tenant: String,
    /// Already under way, over all connections of the tenant.
    pub under_way: usize,
    pub due: VecDeque<Candidate>,
}

/// Whose connection it is.
pub fn tenant_of(connection: &str) -> &str {
    connection.split('/').next().unwrap_or_default()
}

/// A tenant has little under way with fewer than this.
const LITTLE: usize = 4;

/// How many deliveries of one connection are looked at for `room` places, where its tenant has so many connections with
/// something to send: several times its share, in case the others have less.
pub fn candidates_of_each(room: usize, connections: usize) -> usize {
    const SHARES: usize = 4;
    room.min(room.saturating_mul(SHARES).div_ceil(connections.max(1)))
}

/// Gives each place to the tenant that has fewest under way, and within a tenant to one connection after the other. The
/// last `reserved` places are for tenants that have little under way.
pub fn fair_share(ready: Vec<Ready>, room: usize, reserved: usize) -> Vec<Candidate> {
    let mut tenants: BTreeMap<String, (usize, VecDeque<VecDeque<Candidate>>)> = BTreeMap::new();
    for Ready { tenant, under_way, due } in ready.into_iter().filter(|ready| !ready.due.is_empty()) {
        let entry = tenants.entry(tenant).or_insert_with(|| (under_way, VecDeque::new()));
        entry.1.push_back(due);
    }
    let mut share = Vec::new();
    while share.len() < room {
        let least =
            tenants.values_mut().filter(|(_, queues)| !queues.is_empty()).min_by_key(|(busy, _)| *busy);
        let Some((busy, queues)) = least else { break };
        if *busy >= LITTLE && share.len() + reserved >= room {
            break;
        }
        let Some(mut queue) = queues.pop_front() else { break };
        share.extend(queue.pop_front());
        *busy += 1;
        if !queue.is_empty() {
            queues.push_back(queue);
        }
    }
    share
}
