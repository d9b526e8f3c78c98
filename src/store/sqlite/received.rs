//! Received notes on SQLite.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sqlx::Connection;

use super::{SqliteStore, proof::Proof, received_rows, writer::change};
use crate::{
    model::{
        id::ReceivedId,
        received::{Received, Transcript},
    },
    store::{
        OldAudio, Postponed, ReceivedChange, ReceivedClaim, ReceivedNotes, ReceivedPage, ReceivedQuery,
        ReceivedStep, StoreError,
    },
};

#[async_trait]
impl ReceivedNotes for SqliteStore {
    async fn received(&self, id: ReceivedId, tenant: &str) -> Result<Option<Received>, StoreError> {
        self.read(received_rows::find(&self.readers, id, tenant).await)
    }

    async fn has_received(&self, id: ReceivedId, tenant: Option<&str>) -> Result<bool, StoreError> {
        self.read(received_rows::exists(&self.readers, id, tenant).await)
    }

    async fn received_notes(&self, wanted: &ReceivedQuery<'_>) -> Result<ReceivedPage, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        self.read(received_rows::list(&self.readers, wanted).await)
    }

    async fn received_audio(&self, id: ReceivedId, part: &str) -> Result<Option<Bytes>, StoreError> {
        self.read(received_rows::audio(&self.readers, id, part).await)
    }

    async fn write_received(&self, claim: &ReceivedClaim, change: &ReceivedChange) -> Result<(), StoreError> {
        change!(self, tx => received_rows::write(tx, claim, change), _done => match change.step {
            // Safe to repeat, as long as the lease lasts.
            ReceivedStep::Progress { .. } => None,
            ReceivedStep::Retry { .. } | ReceivedStep::Done { .. } => {
                Some(Proof::LeaseEnded { delivery: claim.delivery, fence: claim.fence })
            }
        })
    }

    async fn write_transcript(
        &self,
        claim: &ReceivedClaim,
        transcript: &Transcript,
        notify: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        change!(self, tx => received_rows::write_transcript(tx, claim, transcript, (notify, now)), _done =>
            Some(Proof::LeaseEnded { delivery: claim.delivery, fence: claim.fence }))
    }

    async fn postpone_transcription(
        &self,
        claim: &ReceivedClaim,
        postponed: Postponed,
    ) -> Result<(), StoreError> {
        change!(self, tx => received_rows::postpone(tx, claim, postponed), _done =>
            Some(Proof::LeaseEnded { delivery: claim.delivery, fence: claim.fence }))
    }

    async fn erase_received(&self, id: ReceivedId, now: Timestamp) -> Result<bool, StoreError> {
        change!(self, tx => received_rows::erase(tx, id, now))
    }

    async fn received_with_old_audio(
        &self,
        now: Timestamp,
        after: Option<OldAudio>,
        limit: u32,
    ) -> Result<Vec<OldAudio>, StoreError> {
        self.read(received_rows::with_old_audio(&self.readers, now, after, limit).await)
    }

    async fn received_audio_removed(&self, id: ReceivedId) -> Result<Option<Received>, StoreError> {
        change!(self, tx => received_rows::audio_removed(tx, id))
    }
}
