//! Tasks on PostgreSQL.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    PostgresStore,
    retry::{again, answered},
    task_rows,
};
use crate::{
    model::{id::TaskId, task::Task},
    store::{Begun, Found, LeasedTask, NewTask, StoreError, Tasks, Unarrived},
};

#[async_trait]
impl Tasks for PostgresStore {
    async fn begin_task(&self, new: &NewTask) -> Result<Begun, StoreError> {
        let begun = again!(async {
            let mut tx = self.pool.begin().await?;
            let begun = task_rows::begin(&mut tx, new).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(begun)
        })?;
        self.notices.publish(begun == Begun::Created, &new.task.tenant, None);
        Ok(begun)
    }

    async fn task(&self, id: TaskId, tenant: &str) -> Result<Option<Task>, StoreError> {
        again!(task_rows::find(&self.pool, id, tenant))
    }

    async fn claim_task(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<LeasedTask>, StoreError> {
        let claimed = async {
            let mut tx = self.pool.begin().await?;
            let claimed = task_rows::claim(&mut tx, now, lease_until).await?;
            tx.commit().await?;
            Ok(claimed)
        };
        answered(claimed).await
    }

    async fn save_task(&self, leased: &LeasedTask, due_at: Timestamp) -> Result<(), StoreError> {
        again!(async {
            let mut tx = self.pool.begin().await?;
            task_rows::save(&mut tx, leased, due_at).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(())
        })
    }

    async fn next_task(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let next = async {
            let mut tx = self.pool.begin().await?;
            let ahead = super::dialect::ahead(&mut tx, now).await?;
            tx.commit().await?;
            let at = task_rows::next(&self.pool).await?;
            Ok(at.map(|at| at - ahead))
        };
        Ok(answered(next).await?.and_then(|at| Timestamp::from_millisecond(at).ok()))
    }

    async fn running_tasks(&self) -> Result<Vec<(String, u64)>, StoreError> {
        again!(task_rows::running(&self.pool))
    }

    async fn unarrived(&self, wanted: &Unarrived<'_>) -> Result<Vec<Found>, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        again!(task_rows::unarrived(&self.pool, wanted))
    }

    async fn count_unarrived(&self, wanted: &Unarrived<'_>, most: u64) -> Result<u64, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        again!(task_rows::count(&self.pool, wanted, most))
    }
}
