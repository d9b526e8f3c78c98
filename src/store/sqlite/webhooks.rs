//! Webhook deliveries on SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::Connection;

use super::{SqliteStore, webhook_rows, writer::change};
use crate::{
    model::id::EventId,
    store::{EventHead, Retelling, Retold, StoreError, WebhookAttempt, WebhookState, Webhooks},
};

/// Every change here is safe to repeat.
#[async_trait]
impl Webhooks for SqliteStore {
    async fn event(&self, id: EventId, tenant: &str) -> Result<Option<EventHead>, StoreError> {
        self.read(webhook_rows::event(&self.readers, id, tenant).await)
    }

    async fn webhook_attempts(&self, id: EventId) -> Result<Vec<WebhookAttempt>, StoreError> {
        self.read(webhook_rows::attempts(&self.readers, id).await)
    }

    async fn retell(&self, id: EventId, tenant: &str, now: Timestamp) -> Result<bool, StoreError> {
        change!(self, tx => webhook_rows::retell(tx, id, tenant, now))
    }

    async fn retell_all(&self, wanted: &Retelling<'_>) -> Result<Retold, StoreError> {
        let end = self.read(webhook_rows::end(&self.readers, wanted.tenant).await)?;
        change!(self, tx => webhook_rows::retell_all(tx, wanted, end))
    }

    async fn count_untold(&self, wanted: &Retelling<'_>) -> Result<u64, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        self.read(webhook_rows::count(&self.readers, wanted).await)
    }

    async fn webhook(&self, tenant: &str) -> Result<Option<WebhookState>, StoreError> {
        self.read(webhook_rows::state(&self.readers, tenant).await)
    }

    async fn paused_webhooks(&self) -> Result<Vec<WebhookState>, StoreError> {
        self.read(webhook_rows::paused(&self.readers).await)
    }

    async fn resume_webhook(&self, tenant: &str, _now: Timestamp) -> Result<bool, StoreError> {
        change!(self, tx => webhook_rows::resume(tx, tenant))
    }
}
