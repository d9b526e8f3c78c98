//! Tasks on SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::Connection;

use super::{SqliteStore, task_rows, writer::change};
use crate::{
    model::{id::TaskId, task::Task},
    store::{Begun, Found, LeasedTask, NewTask, StoreError, Tasks, Unarrived},
};

#[async_trait]
impl Tasks for SqliteStore {
    async fn begin_task(&self, new: &NewTask) -> Result<Begun, StoreError> {
        // Made again after a commit in doubt, it finds the task that runs.
        change!(self, tx => task_rows::begin(tx, new))
    }

    async fn task(&self, id: TaskId, tenant: &str) -> Result<Option<Task>, StoreError> {
        self.read(task_rows::find(&self.readers, id, tenant).await)
    }

    async fn claim_task(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<LeasedTask>, StoreError> {
        // A lease from a commit in doubt ends by itself.
        change!(self, tx => task_rows::claim(tx, now, lease_until))
    }

    async fn save_task(&self, leased: &LeasedTask, due_at: Timestamp) -> Result<(), StoreError> {
        change!(self, tx => task_rows::save(tx, leased, due_at))
    }

    async fn next_task(&self, _now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let at = self.read(task_rows::next(&self.readers).await)?;
        Ok(at.and_then(|at| Timestamp::from_millisecond(at).ok()))
    }

    async fn running_tasks(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.read(task_rows::running(&self.readers).await)
    }

    async fn unarrived(&self, wanted: &Unarrived<'_>) -> Result<Vec<Found>, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        self.read(task_rows::unarrived(&self.readers, wanted).await)
    }

    async fn count_unarrived(&self, wanted: &Unarrived<'_>, most: u64) -> Result<u64, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        self.read(task_rows::count(&self.readers, wanted, most).await)
    }
}
