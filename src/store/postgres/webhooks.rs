//! Webhook deliveries on PostgreSQL.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{PostgresStore, retry::again, webhook_rows};
use crate::{
    model::id::EventId,
    store::{EventHead, Retelling, Retold, StoreError, WebhookAttempt, WebhookState, Webhooks},
};

/// Every change here is safe to repeat.
#[async_trait]
impl Webhooks for PostgresStore {
    async fn event(&self, id: EventId, tenant: &str) -> Result<Option<EventHead>, StoreError> {
        again!(webhook_rows::event(&self.pool, id, tenant))
    }

    async fn webhook_attempts(&self, id: EventId) -> Result<Vec<WebhookAttempt>, StoreError> {
        again!(webhook_rows::attempts(&self.pool, id))
    }

    async fn retell(&self, id: EventId, tenant: &str, now: Timestamp) -> Result<bool, StoreError> {
        let told = again!(async {
            let mut tx = self.pool.begin().await?;
            let told = webhook_rows::retell(&mut tx, id, tenant, now).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(told)
        })?;
        self.notices.publish(told, tenant, None);
        Ok(told)
    }

    async fn retell_all(&self, wanted: &Retelling<'_>) -> Result<Retold, StoreError> {
        let retold = again!(async {
            let end = webhook_rows::end(&self.pool, wanted.tenant).await?;
            let mut tx = self.pool.begin().await?;
            let retold = webhook_rows::retell_all(&mut tx, wanted, end).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(retold)
        })?;
        self.notices.publish(retold.queued > 0, wanted.tenant, None);
        Ok(retold)
    }

    async fn count_untold(&self, wanted: &Retelling<'_>) -> Result<u64, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        again!(webhook_rows::count(&self.pool, wanted))
    }

    async fn webhook(&self, tenant: &str) -> Result<Option<WebhookState>, StoreError> {
        again!(webhook_rows::state(&self.pool, tenant))
    }

    async fn paused_webhooks(&self) -> Result<Vec<WebhookState>, StoreError> {
        again!(webhook_rows::paused(&self.pool))
    }

    async fn resume_webhook(&self, tenant: &str, _now: Timestamp) -> Result<bool, StoreError> {
        let resumed = again!(async {
            let mut tx = self.pool.begin().await?;
            let resumed = webhook_rows::resume(&mut tx, tenant).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(resumed)
        })?;
        self.notices.publish(resumed, tenant, None);
        Ok(resumed)
    }
}
