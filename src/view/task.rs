//! Tasks, as the API shows them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{
    clock::rfc3339_millis,
    id::TaskId,
    problem::Problem,
    task::{self, TaskKind, TaskStatus},
};

/// Work that takes longer than a request, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Task {
    pub id: TaskId,
    pub kind: TaskKind,
    pub status: TaskStatus,
    /// How many were found at the start. When the task is done, it is `done`, `failed` and `skipped` together.
    #[schema(examples(1200))]
    pub total: u64,
    /// How many were sent again.
    #[schema(examples(350))]
    pub done: u64,
    /// How many could not be sent again.
    #[schema(examples(2))]
    pub failed: u64,
    /// How many needed no resend any more: they arrived late, were erased, or were sent again by somebody else. Known
    /// when the task is done.
    #[schema(examples(0))]
    pub skipped: u64,
    /// The failures, counted by the code of their problem.
    pub failures: BTreeMap<String, u64>,
    /// The reason for which the task waits, such as a full queue. It goes on by itself.
    #[schema(required)]
    pub waiting: Option<Problem>,
    /// The reason for which the task failed as a whole.
    #[schema(required)]
    pub error: Option<Problem>,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When the counts were last brought up to date.
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    #[serde(with = "rfc3339_millis::option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}

impl From<&task::Task> for Task {
    fn from(task: &task::Task) -> Self {
        Self {
            id: task.id,
            kind: task.order.kind(),
            status: task.status,
            total: task.total,
            done: task.done,
            failed: task.failed,
            skipped: task.skipped,
            failures: task.failures.clone(),
            waiting: task.waiting.clone(),
            error: task.error.clone(),
            created_at: task.created_at,
            updated_at: task.updated_at,
            ended_at: task.ended_at,
        }
    }
}
