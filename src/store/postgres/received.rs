//! Received notes on PostgreSQL.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{PostgresStore, received_rows, retry::again};
use crate::{
    model::{
        id::ReceivedId,
        received::{Received, Transcript},
    },
    store::{
        OldAudio, Postponed, ReceivedChange, ReceivedClaim, ReceivedNotes, ReceivedPage, ReceivedQuery,
        StoreError,
    },
};

#[async_trait]
impl ReceivedNotes for PostgresStore {
    async fn received(&self, id: ReceivedId, tenant: &str) -> Result<Option<Received>, StoreError> {
        again!(received_rows::find(&self.pool, id, tenant))
    }

    async fn has_received(&self, id: ReceivedId, tenant: Option<&str>) -> Result<bool, StoreError> {
        again!(received_rows::exists(&self.pool, id, tenant))
    }

    async fn received_notes(&self, wanted: &ReceivedQuery<'_>) -> Result<ReceivedPage, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        again!(received_rows::list(&self.pool, wanted))
    }

    async fn received_audio(&self, id: ReceivedId, part: &str) -> Result<Option<Bytes>, StoreError> {
        again!(received_rows::audio(&self.pool, id, part))
    }

    async fn write_received(&self, claim: &ReceivedClaim, change: &ReceivedChange) -> Result<(), StoreError> {
        // If the answer to a commit got lost, the lease is lost as well when the change is repeated. The caller then
        // has nothing more to do, whoever made it.
        again!(async {
            let mut tx = self.pool.begin().await?;
            received_rows::write(&mut tx, claim, change).await?;
            Ok::<_, StoreError>(tx.commit().await?)
        })?;
        self.notices.publish_tenant(&change.received.tenant);
        Ok(())
    }

    async fn write_transcript(
        &self,
        claim: &ReceivedClaim,
        transcript: &Transcript,
        notify: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        again!(async {
            let mut tx = self.pool.begin().await?;
            received_rows::write_transcript(&mut tx, claim, transcript, (notify, now)).await?;
            Ok::<_, StoreError>(tx.commit().await?)
        })?;
        self.notices.publish_tenant(&claim.received.tenant);
        Ok(())
    }

    async fn postpone_transcription(
        &self,
        claim: &ReceivedClaim,
        postponed: Postponed,
    ) -> Result<(), StoreError> {
        again!(async {
            let mut tx = self.pool.begin().await?;
            received_rows::postpone(&mut tx, claim, postponed).await?;
            Ok::<_, StoreError>(tx.commit().await?)
        })
    }

    async fn erase_received(&self, id: ReceivedId, now: Timestamp) -> Result<bool, StoreError> {
        again!(async {
            let mut tx = self.pool.begin().await?;
            let erased = received_rows::erase(&mut tx, id, now).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(erased)
        })
    }

    async fn received_with_old_audio(
        &self,
        now: Timestamp,
        after: Option<OldAudio>,
        limit: u32,
    ) -> Result<Vec<OldAudio>, StoreError> {
        again!(received_rows::with_old_audio(&self.pool, now, after, limit))
    }

    async fn received_audio_removed(&self, id: ReceivedId) -> Result<Option<Received>, StoreError> {
        again!(async {
            let mut tx = self.pool.begin().await?;
            let note = received_rows::audio_removed(&mut tx, id).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(note)
        })
    }
}
