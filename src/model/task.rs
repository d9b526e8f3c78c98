//! Tasks: work that a tenant ordered and that takes longer than a request. A task is done in steps, by whichever process
//! takes the next one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{
    clock::rfc3339_millis,
    id::{NoteId, TaskId},
    note::Status,
    problem::Problem,
};

/// The kind of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Notes that did not arrive are sent again.
    Recover,
    /// Events that the webhook did not take are posted again.
    Webhook,
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    Running,
    Done,
    /// The task ended before everything was looked at; `error` says why.
    Failed,
}

impl TaskStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// An order to send notes again that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Only notes with one of these: failed, expired or unknown. Never empty, sorted, and each once.
    pub statuses: Vec<Status>,
    /// Only notes that were accepted at this time or later.
    #[serde(with = "rfc3339_millis::option")]
    pub since: Option<Timestamp>,
    /// Only notes that were accepted at this time or earlier.
    #[serde(with = "rfc3339_millis::option")]
    pub until: Option<Timestamp>,
    /// Only notes whose connection in use is this one.
    pub via: Option<String>,
    /// The most notes that are looked at.
    pub limit: u64,
}

impl Recovery {
    /// The statuses of notes that can be recovered.
    pub const STATUSES: [Status; 3] = [Status::Failed, Status::Expired, Status::Unknown];

    /// The statuses where an order names none. A note whose outcome is unknown may have arrived, so it has to be asked
    /// for.
    pub const USUAL: [Status; 2] = [Status::Failed, Status::Expired];

    /// The most notes of one task.
    pub const MOST: u64 = 100_000;

    /// Sorts the statuses and drops repetitions, so that equal orders are written alike.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        let wanted: BTreeSet<&str> = self.statuses.iter().map(|status| status.as_str()).collect();
        self.statuses = wanted.into_iter().filter_map(Status::parse).collect();
        self
    }
}

/// The work of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Order {
    Recover(Recovery),
    Webhook(Retelling),
}

/// An order to post events again that the webhook did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retelling {
    /// Only events from this time or later.
    #[serde(with = "rfc3339_millis::option")]
    pub since: Option<Timestamp>,
}

impl Order {
    pub fn kind(&self) -> TaskKind {
        match self {
            Self::Recover(_) => TaskKind::Recover,
            Self::Webhook(_) => TaskKind::Webhook,
        }
    }

    /// A text that is equal for equal orders.
    pub fn fingerprint(&self) -> String {
        // Text, times and numbers can always be written as JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A place among notes, which are ordered by their time and then by their id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    #[serde(with = "rfc3339_millis")]
    pub created_at: Timestamp,
    pub id: NoteId,
}

/// A task, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub tenant: String,
    pub status: TaskStatus,
    pub order: Order,
    /// How many were found at the start. At the end it is `done`, `failed` and `skipped` together.
    pub total: u64,
    /// How many were sent again.
    pub done: u64,
    /// How many could not be sent again, for the reasons in `failures`.
    pub failed: u64,
    /// How many needed no resend any more when their turn came.
    pub skipped: u64,
    /// The number of failures by the code of their problem.
    pub failures: BTreeMap<String, u64>,
    /// The reason for which the task waits and goes on by itself, such as a full queue.
    pub waiting: Option<Problem>,
    /// The reason for which the task failed.
    pub error: Option<Problem>,
    /// Everything up to here was looked at.
    pub after: Option<Place>,
    /// The number of the last event that was looked at.
    #[serde(default)]
    pub after_event: i64,
    #[serde(with = "rfc3339_millis")]
    pub created_at: Timestamp,
    #[serde(with = "rfc3339_millis")]
    pub updated_at: Timestamp,
    #[serde(with = "rfc3339_millis::option")]
    pub ended_at: Option<Timestamp>,
}

impl Task {
    pub fn new(tenant: &str, order: Order, total: u64, now: Timestamp) -> Self {
        Self {
            id: TaskId::new(),
            tenant: tenant.to_owned(),
            status: TaskStatus::Running,
            order,
            total,
            done: 0,
            failed: 0,
            skipped: 0,
            failures: BTreeMap::new(),
            waiting: None,
            error: None,
            after: None,
            after_event: 0,
            created_at: now,
            updated_at: now,
            ended_at: None,
        }
    }

    /// The number of notes that were sent again or could not be.
    pub fn handled(&self) -> u64 {
        self.done + self.failed
    }

    /// Counts one that could not be sent again.
    pub fn fail(&mut self, problem: &Problem) {
        self.failed += 1;
        *self.failures.entry(problem.code.to_string()).or_default() += 1;
    }

    /// Ends the task. What was found at the start and is neither done nor failed was skipped.
    pub fn end(&mut self, error: Option<Problem>, now: Timestamp) {
        if error.is_none() {
            self.skipped = self.total.saturating_sub(self.handled());
            self.total = self.handled() + self.skipped;
        }
        self.status = if error.is_some() { TaskStatus::Failed } else { TaskStatus::Done };
        (self.waiting, self.error) = (None, error);
        (self.updated_at, self.ended_at) = (now, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::code::Code;

    fn order(statuses: &[Status]) -> Recovery {
        Recovery { statuses: statuses.to_vec(), since: None, until: None, via: None, limit: 7 }.canonical()
    }

    #[test]
    fn equal_orders_have_one_fingerprint() {
        let one = order(&[Status::Failed, Status::Expired, Status::Failed]);
        let other = order(&[Status::Expired, Status::Failed]);
        let print = |order: &Recovery| Order::Recover(order.clone()).fingerprint();
        assert_eq!(print(&one), print(&other));
        assert_ne!(print(&one), print(&Recovery { limit: 8, ..other.clone() }));
        assert_ne!(print(&one), print(&Recovery { via: Some("x".to_owned()), ..other }));
    }

    #[test]
    fn counts_add_up_at_the_end() {
        let now = Timestamp::UNIX_EPOCH;
        let task = Task::new("t", Order::Recover(order(&Recovery::USUAL)), 5, now);
        let mut fewer = Task { done: 2, ..task.clone() };
        fewer.fail(&Problem::new(Code::MediaExpired, ""));
        fewer.end(None, now);
        assert_eq!((fewer.total, fewer.done, fewer.failed, fewer.skipped), (5, 2, 1, 2));
        assert_eq!((fewer.status, fewer.failures["media_expired"]), (TaskStatus::Done, 1));
        let mut more = Task { done: 6, ..task };
        more.end(None, now);
        assert_eq!((more.total, more.skipped), (6, 0), "one more failed while the task ran");
    }
}
